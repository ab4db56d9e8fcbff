"""Transition area and specks against brute force."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.arrays import BoolArray, FloatArray
from p3m_data.matte.transition import remove_specks, transition_area

SEEDS = st.integers(0, 2**32 - 1)
SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 24))


def some_alpha(seed: int, shape: tuple[int, int]) -> FloatArray:
    """Mostly 0 and 1, some values next to them, some in between."""
    random = np.random.default_rng(seed)
    levels = random.choice([0, 255, 1, 254, 5, 6, 249, 250, 128], shape, p=[0.46, 0.46, *[0.08 / 7] * 7])
    return (levels / 255).astype(np.float32)


def distance_to(mask: BoolArray) -> np.ndarray:
    """Euclidean distance of each pixel to the nearest True one."""
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    to_each = [np.hypot(y - i, x - j) for i, j in np.argwhere(mask)]
    return np.min(to_each, axis=0) if to_each else np.full(mask.shape, np.inf)


def parts(mask: BoolArray) -> list[list[tuple[int, int]]]:
    """8-connected parts by flood fill."""
    left = {(int(i), int(j)) for i, j in np.argwhere(mask)}
    found = []
    while left:
        queue = deque([left.pop()])
        part = []
        while queue:
            i, j = queue.popleft()
            part.append((i, j))
            near = {(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= near
            queue.extend(near)
        found.append(part)
    return found


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS, shape=SHAPES, margin=st.floats(0, 9))
def test_margin_is_a_disc(seed: int, shape: tuple[int, int], margin: float) -> None:
    alpha = some_alpha(seed, shape)
    area = transition_area(alpha, margin)
    distance = distance_to((alpha > 0) & (alpha < 1))
    radius = round(margin)
    assert area[distance <= radius].all()
    # a disc of pixels is round to within a pixel
    assert not area[distance > radius + (0.75 if radius else 0)].any()


def test_without_tolerance_every_value_between_counts() -> None:
    alpha = (np.arange(256) / 255).astype(np.float32)[None]
    np.testing.assert_array_equal(transition_area(alpha)[0], [False] + [True] * 254 + [False])


@pytest.mark.parametrize("level", [1, 2, 5, 10, 60, 127])
def test_tolerance_includes_its_own_level(level: int) -> None:
    alpha = (np.arange(256) / 255).astype(np.float32)[None]
    area = transition_area(alpha, tolerance=level / 255)[0]
    np.testing.assert_array_equal(np.flatnonzero(area), np.arange(level + 1, 255 - level))


def test_tolerance_below_one_level_of_16_bits_still_counts_the_rest() -> None:
    alpha = np.float32([[0, 100 / 65535, 0.5, 1 - 100 / 65535, 1]])
    assert transition_area(alpha)[0].tolist() == [False, True, True, True, False]
    assert transition_area(alpha, tolerance=1 / 255)[0].tolist() == [False, False, True, False, False]


def test_the_margin_grows_monotonously() -> None:
    alpha = some_alpha(3, (60, 60))
    areas = [transition_area(alpha, m) for m in range(6)]
    for smaller, larger in pairwise(areas):
        assert not (smaller & ~larger).any()


def test_no_soft_pixel_no_area() -> None:
    alpha = np.zeros((5, 7), np.float32)
    alpha[2:, 3:] = 1
    assert not transition_area(alpha, 20.0).any()


def test_alpha_must_be_flat() -> None:
    with pytest.raises(ValueError, match=r"\(H, W\) alpha, got \(4, 5, 1\)"):
        transition_area(np.zeros((4, 5, 1), np.float32))


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS, shape=SHAPES, density=st.floats(0, 1), smallest=st.floats(0, 30))
def test_specks_by_flood_fill(seed: int, shape: tuple[int, int], density: float, smallest: float) -> None:
    mask = np.random.default_rng(seed).random(shape) < density
    before = mask.copy()
    expected = np.zeros(shape, bool)
    for part in parts(mask):
        if len(part) >= smallest:
            expected[tuple(zip(*part, strict=True))] = True
    kept = remove_specks(mask, smallest)
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(mask, before)
    assert kept.dtype == np.bool_
    assert not np.shares_memory(kept, mask)
