from __future__ import annotations

import io
from itertools import combinations
from pathlib import Path

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from p3m_data.arrays import UInt8Array
from p3m_data.inspection.duplicates import DuplicateConfig, Pair, clusters, hashes, near_pairs
from p3m_data.storage.images import load_picture
from tests.runs import faceless, portrait

WORDS = st.integers(0, 2**64 - 1)


@st.composite
def crowds(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Hashes of which many lie a few bits from each other."""
    centres = draw(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3))
    flips = st.lists(st.integers(0, 63), max_size=12)
    made = draw(st.lists(st.tuples(st.sampled_from(centres), flips, flips), max_size=25))
    bits = [[sum(1 << bit for bit in set(flipped)) for flipped in (a, b)] for _, a, b in made]
    return (
        [centre[0] ^ a for (centre, _, _), (a, _) in zip(made, bits, strict=True)],
        [centre[1] ^ b for (centre, _, _), (_, b) in zip(made, bits, strict=True)],
    )


@settings(deadline=None, max_examples=60)
@given(crowds(), st.integers(0, 15), st.integers(0, 64))
def test_it_finds_what_comparing_all_with_all_finds(
    crowd: tuple[list[int], list[int]], most_p: int, most_d: int
) -> None:
    # every one in a group of its own, so that none stands for others
    p, d = (np.array(values, np.uint64) for values in crowd)
    config = DuplicateConfig(most_phash=most_p, most_dhash=most_d)
    found = near_pairs(p, d, np.arange(len(p)), config)
    wanted = []
    for i, j in combinations(range(len(p)), 2):
        a, b = (crowd[0][i] ^ crowd[0][j]).bit_count(), (crowd[1][i] ^ crowd[1][j]).bit_count()
        if a <= most_p and b <= most_d:
            wanted.append(Pair(i, j, a, b))
    assert found == wanted


@settings(deadline=None, max_examples=60)
@given(crowds())
def test_copies_in_one_group_change_nothing_but_their_number(crowd: tuple[list[int], list[int]]) -> None:
    p, d = (np.array(values, np.uint64) for values in crowd)
    apart = clusters(len(p), near_pairs(p, d, np.arange(len(p))))
    assert clusters(len(p), near_pairs(p, d)) == apart


def test_a_thousand_copies_are_999_pairs() -> None:
    same = np.full(1000, 7, np.uint64)
    assert near_pairs(same, same) == [Pair(0, index, 0, 0) for index in range(1, 1000)]


def test_copies_in_two_groups_are_found_across() -> None:
    same = np.full(4, 7, np.uint64)
    found = [pair[:2] for pair in near_pairs(same, same, np.array([0, 1, 0, 1]))]
    assert found == [(0, 1), (0, 2), (1, 3)]


def test_nothing_and_one_have_no_pairs() -> None:
    for count in (0, 1):
        none = np.zeros(count, np.uint64)
        assert near_pairs(none, none) == []
        assert clusters(count, []) == []


def test_arrays_of_two_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="expected three"):
        near_pairs(np.zeros(2, np.uint64), np.zeros(3, np.uint64))


def test_clusters_join_what_pairs_join() -> None:
    pairs = [Pair(3, 4, 0, 0), Pair(0, 3, 0, 0), Pair(1, 5, 0, 0)]
    assert clusters(7, pairs) == [[0, 3, 4], [1, 5]]


def test_hashes_are_those_of_imagehash() -> None:
    image = Image.fromarray(portrait())
    p, d = hashes(portrait())
    assert f"{p:016x}" == str(imagehash.phash(image))
    assert f"{d:016x}" == str(imagehash.dhash(image))


def _near(one: UInt8Array, other: UInt8Array) -> bool:
    p, d = np.array([hashes(one), hashes(other)], np.uint64).T
    return bool(near_pairs(p, d))


def test_encoding_anew_resizing_and_brightening_are_seen() -> None:
    image = Image.fromarray(portrait())
    coded = io.BytesIO()
    image.save(coded, "JPEG", quality=40)
    assert _near(portrait(), load_picture(coded.getvalue(), "x").pixels)
    assert _near(portrait(), np.asarray(image.resize((150, 150))))
    assert _near(portrait(), np.asarray(image.point(lambda level: min(255, int(level * 1.2 + 10)))))
    assert not _near(portrait(), faceless())


@pytest.mark.portraits
def test_only_the_copy_and_the_burst_among_real_portraits(portraits: Path) -> None:
    files = sorted((portraits / "images").glob("[chr]*"))
    p, d = np.array([hashes(load_picture(f.read_bytes(), f.name).pixels) for f in files], np.uint64).T
    found = {(files[pair.first].stem, files[pair.second].stem) for pair in near_pairs(p, d)}
    assert found == {("ramiz_07", "ramiz_08"), ("human_emotions_b2", "human_emotions_b3")}
