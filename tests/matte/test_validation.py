from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from p3m_data.arrays import FloatArray, UInt8Array
from p3m_data.matte.validation import (
    MatteConfig,
    edge_agreement,
    facemask_problems,
    largest_part,
    matte_figures,
    matte_problems,
    trimap_problems,
)
from tests.inspection.planting import scene
from tests.runs import matte, portrait

CONFIG = MatteConfig()
LEVELS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def alpha_of(levels: UInt8Array) -> FloatArray:
    return levels.astype(np.float32) / np.float32(255)


def checks(alpha: FloatArray, **options: object) -> list[str]:
    return [p.check for p in matte_problems(alpha, None, CONFIG, **options)]  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60)
@given(LEVELS)
def test_figures_count_what_a_loop_counts(levels: UInt8Array) -> None:
    figures = matte_figures(alpha_of(levels))
    values = levels.ravel().tolist()
    assert figures.background == pytest.approx(values.count(0) / len(values))
    assert figures.opaque == pytest.approx(values.count(255) / len(values))
    assert figures.background + figures.soft + figures.opaque == pytest.approx(1)
    assert figures.distinct == len(set(values))
    assert list(figures.histogram) == [sum(v // 16 == step for v in values) for step in range(16)]


def test_a_good_matte_has_no_problem() -> None:
    assert checks(matte()) == []


@pytest.mark.parametrize("level", [0, 5 / 255, 250 / 255, 1])
def test_one_value_everywhere_is_no_matte(level: float) -> None:
    assert checks(np.full((40, 30), level, np.float32)) == ["matte_values"]


def test_an_inverted_matte_is_seen_with_and_without_a_facemask() -> None:
    _, alpha, face = scene(3)
    assert matte_problems(alpha, face, CONFIG) == []
    assert checks(1 - alpha) == ["matte_inverted"]
    assert [p.check for p in matte_problems(1 - alpha, face, CONFIG)] == ["matte_inverted"]


def test_a_bystander_beside_the_subject_is_right() -> None:
    _, alpha, face = scene(3)
    bystander = face.copy()
    bystander[2:12, 2:12] = True
    assert matte_problems(alpha, bystander, CONFIG) == []
    assert [p.check for p in matte_problems(1 - alpha, bystander, CONFIG)] == ["matte_inverted"]


def test_bystanders_alone_are_right_when_nobody_else_is_masked() -> None:
    _, alpha, face = scene(3)
    alone = np.zeros_like(face)
    alone[2:12, 2:12] = True
    assert [p.check for p in matte_problems(alpha, alone, CONFIG)] == ["matte_inverted"]
    assert matte_problems(alpha, alone, CONFIG, face_on_subject=False) == []


def test_specks_are_no_subject() -> None:
    alpha = np.zeros((100, 100), np.float32)
    alpha[::7, ::7] = 1
    assert checks(alpha) == ["matte_subject", "matte_hard"]


def test_a_segmentation_is_noted() -> None:
    (problem,) = matte_problems((matte() > 0.5).astype(np.float32), None, CONFIG)
    assert (problem.check, problem.level) == ("matte_hard", "note")


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_the_largest_part_is_that_of_a_flood(mask: np.ndarray) -> None:  # type: ignore[type-arg]
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    largest = 0
    while left:
        front, size = [left.pop()], 0
        while front:
            y, x = front.pop()
            size += 1
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            front += around
        largest = max(largest, size)
    assert largest_part(mask) == pytest.approx(largest / mask.size)


@settings(deadline=None, max_examples=60)
@given(LEVELS, st.integers(0, 2**32 - 1))
def test_a_trimap_is_judged_pixel_by_pixel(levels: UInt8Array, seed: int) -> None:
    trimap = np.random.default_rng(seed).choice(np.array([0, 128, 255], np.uint8), levels.shape)
    pairs = list(zip(trimap.ravel().tolist(), levels.ravel().tolist(), strict=True))
    wrong = sum((t == 255 and v < 250) or (t == 0 and v > 5) for t, v in pairs)
    problems = trimap_problems(trimap, alpha_of(levels), CONFIG)
    assert [p.check for p in problems] == ["trimap_matte"] * (wrong > 0)
    if problems:
        assert problems[0].value == pytest.approx(wrong / sum(t != 128 for t, _ in pairs))


@pytest.mark.parametrize("value", [1, 127, 129, 254])
def test_a_trimap_of_other_values_is_no_trimap(value: int) -> None:
    trimap = np.full((9, 9), 128, np.uint8)
    trimap[3, 4] = value
    assert [p.check for p in trimap_problems(trimap, None, CONFIG)] == ["trimap_values"]


def test_a_share_within_the_tolerance_is_no_problem() -> None:
    trimap, alpha = np.zeros((200, 200), np.uint8), np.zeros((200, 200), np.float32)
    alpha.ravel()[:4] = 1
    assert trimap_problems(trimap, alpha, CONFIG) == []
    alpha.ravel()[:5] = 1
    assert [p.check for p in trimap_problems(trimap, alpha, CONFIG)] == ["trimap_matte"]


@settings(deadline=None, max_examples=60)
@given(LEVELS, st.integers(0, 2**32 - 1), st.sampled_from([0, 5]))
def test_a_facemask_that_meets_soft_alpha_is_found_exactly(
    levels: UInt8Array, seed: int, tolerance: int
) -> None:
    facemask = np.random.default_rng(seed).choice(np.array([0, 255], np.uint8), levels.shape)
    values = levels[facemask > 0].tolist()
    touched = sum(tolerance < value < 255 - tolerance for value in values)
    problems = facemask_problems(facemask, alpha_of(levels), tolerance / 255)
    assert [(p.check, p.value) for p in problems] == [("facemask_transition", touched)] * (touched > 0)


def test_grey_in_a_facemask_is_found() -> None:
    assert [p.check for p in facemask_problems(np.full((3, 3), 7, np.uint8), None, 0)] == ["facemask_values"]


@pytest.mark.parametrize("seed", range(6))
def test_edges_agree_with_the_right_matte_and_not_with_another(seed: int) -> None:
    pixels, alpha, _ = scene(seed)
    right, inverted = edge_agreement(pixels, alpha), edge_agreement(pixels, 1 - alpha)
    moved = edge_agreement(pixels, np.roll(alpha, 40, axis=1))
    assert right is not None
    assert moved is not None
    assert right > CONFIG.agreement > moved
    # the outline is the same
    assert inverted == pytest.approx(right, rel=0.01)


def test_edges_of_a_real_picture_do_not_agree_with_a_drawn_matte() -> None:
    agreement = edge_agreement(portrait(), np.roll(matte(), 60, axis=0))
    assert agreement is not None
    assert agreement < CONFIG.agreement


def test_where_there_are_no_edges_nothing_is_said() -> None:
    assert edge_agreement(portrait(), np.zeros((300, 300), np.float32)) is None
    small = cv2.resize(portrait(), (20, 20))
    assert edge_agreement(np.asarray(small, np.uint8), matte(20)) is None
