"""Obfuscation against a brute-force normalized convolution, and what must hold for every image and mask."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.faces.obfuscation import CELL, METHODS, Method, obfuscate

SEEDS = st.integers(0, 2**32 - 1)
SIGMAS = st.floats(0.3, 60)
SHAPES = st.tuples(st.integers(1, 90), st.integers(1, 90))


def noise(seed: int, shape: tuple[int, int]) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def some_mask(seed: int, shape: tuple[int, int]) -> BoolArray:
    """A disc with holes, and specks: everything that makes weights small."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    centre = random.random(2) * shape
    disc = np.hypot(y - centre[0], x - centre[1]) < random.random() * max(shape) / 2
    return (disc & (random.random(shape) < random.random())) | (random.random(shape) < 0.01)


def face_mask(shape: tuple[int, int]) -> BoolArray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    oval = ((y - shape[0] * 0.5) / (shape[0] * 0.4)) ** 2 + (
        (x - shape[1] * 0.5) / (shape[1] * 0.35)
    ) ** 2 < 1
    return oval & ~((x > shape[1] * 0.45) & (x < shape[1] * 0.5) & (y < shape[0] * 0.4))  # a strand of hair


def normalized_convolution(image: UInt8Array, mask: BoolArray, sigma: float) -> np.ndarray:
    """Weighted means of the masked pixels, separable Gaussian over the whole image, float64."""
    height, width = mask.shape

    def kernel(n: int) -> np.ndarray:
        i = np.arange(n)
        return np.exp(-((i[:, None] - i) ** 2) / (2 * sigma**2))

    def blur(array: np.ndarray) -> np.ndarray:
        rows = np.tensordot(kernel(height), array, 1)
        return np.moveaxis(np.tensordot(rows, kernel(width), (1, 0)), 2, 1)

    weight = mask.astype(float)[..., None]
    return blur(image * weight) / np.maximum(blur(weight), 1e-300)


def cell_means(image: UInt8Array, mask: BoolArray, cells: tuple[int, int]) -> np.ndarray:
    """Means of the masked pixels in a grid that divides the image evenly, spread over the cells."""
    rows, cols = mask.shape[0] // cells[0], mask.shape[1] // cells[1]
    out = np.zeros(image.shape)
    for i in range(cells[0]):
        for j in range(cells[1]):
            here = np.s_[i * rows : (i + 1) * rows, j * cols : (j + 1) * cols]
            if mask[here].any():
                out[here] = image[here][mask[here]].mean(axis=0)
    return out


@pytest.mark.parametrize("sigma", [0.8, 2.5, 4.0, 6.0, 11.0, 25.0, 80.0])
def test_gaussian_is_normalized_convolution(sigma: float) -> None:
    shape = (150, 130)
    # neighbouring pixels of a photograph are alike
    smooth = noise(1, (15, 13)).repeat(10, axis=0).repeat(10, axis=1)
    mask = face_mask(shape)
    ours = obfuscate(smooth, mask, sigma, "gaussian")[mask].astype(float)
    exact = normalized_convolution(smooth, mask, sigma)[mask]
    error = np.abs(ours - exact)
    assert error.mean() < 0.8
    assert error.max() < 5


def test_mosaic_is_the_mean_of_each_cell() -> None:
    image, mask = noise(2, (120, 80)), np.ones((120, 80), bool)
    mask[30:70, 15:50] = False
    sigma = 20 / CELL  # the box holds 6 x 4 cells of 20 pixels
    ours = obfuscate(image, mask, sigma, "mosaic")
    expected = cell_means(image, mask, (6, 4))
    assert np.abs(ours[mask] - expected[mask]).max() <= 0.51


def test_hardened_is_the_gaussian_of_the_cells() -> None:
    image, mask = noise(3, (120, 80)), np.ones((120, 80), bool)
    mask[30:70, 15:50] = False
    sigma = 20 / CELL
    cells = np.rint(cell_means(image, mask, (6, 4))).astype(np.uint8)
    ours = obfuscate(image, mask, sigma, "hardened")[mask].astype(float)
    error = np.abs(ours - normalized_convolution(cells, mask, sigma)[mask])
    assert error.mean() < 0.8
    assert error.max() < 5


def test_fill_is_the_mean() -> None:
    image, mask = noise(4, (40, 50)), face_mask((40, 50))
    filled = obfuscate(image, mask, 3.0, "fill")[mask]
    assert (filled == np.rint(image[mask].mean(axis=0))).all()


def test_strands_of_hair_do_not_bleed_in() -> None:
    mask = face_mask((200, 160))
    image = np.where(mask[..., None], np.uint8([210, 160, 140]), np.uint8([10, 10, 10])).astype(np.uint8)
    for method in METHODS:
        np.testing.assert_array_equal(obfuscate(image, mask, 20.0, method), image)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, shape=SHAPES, sigma=SIGMAS)
def test_outside_is_untouched_and_the_input_too(
    method: Method, seed: int, shape: tuple[int, int], sigma: float
) -> None:
    image, mask = noise(seed, shape), some_mask(seed, shape)
    before = image.copy()
    result = obfuscate(image, mask, sigma, method)
    np.testing.assert_array_equal(result[~mask], image[~mask])
    np.testing.assert_array_equal(image, before)
    assert result.shape == image.shape
    assert result.dtype == np.uint8


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, shape=SHAPES, sigma=SIGMAS)
def test_inside_knows_nothing_of_the_outside(
    method: Method, seed: int, shape: tuple[int, int], sigma: float
) -> None:
    image, mask = noise(seed, shape), some_mask(seed, shape)
    other = np.where(mask[..., None], image, noise(seed + 1, shape))
    np.testing.assert_array_equal(
        obfuscate(image, mask, sigma, method)[mask], obfuscate(other, mask, sigma, method)[mask]
    )


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, shape=SHAPES, sigma=SIGMAS)
@example(seed=0, shape=(90, 90), sigma=3.7)
def test_constant_face_stays_constant(
    method: Method, seed: int, shape: tuple[int, int], sigma: float
) -> None:
    mask = some_mask(seed, shape)
    colour = noise(seed, (1, 1))[0, 0]
    image = np.where(mask[..., None], colour, noise(seed, shape))
    result = obfuscate(image, mask, sigma, method)[mask].astype(int)
    assert np.abs(result - colour).max(initial=0) <= 0


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, shape=SHAPES, sigma=SIGMAS)
def test_result_stays_in_the_range_of_the_face(
    method: Method, seed: int, shape: tuple[int, int], sigma: float
) -> None:
    image, mask = noise(seed, shape), some_mask(seed, shape)
    if not mask.any():
        return
    result = obfuscate(image, mask, sigma, method)[mask]
    assert (result >= image[mask].min(axis=0)).all()
    assert (result <= image[mask].max(axis=0)).all()


@pytest.mark.parametrize("method", ["gaussian", "hardened", "mosaic"])
def test_faint_specks_far_away_keep_their_own_colour(method: Method) -> None:
    """One pixel of a large grid cell weighs almost nothing, and still must not go dark."""
    mask = np.zeros((600, 600), bool)
    mask[:200, :200] = True
    mask[599, 599] = mask[0, 599] = True
    image = np.full((600, 600, 3), 200, np.uint8)
    for sigma in (10.0, 50.0, 120.0):
        assert (obfuscate(image, mask, sigma, method) == 200).all()


def test_detail_goes_with_sigma() -> None:
    mask = face_mask((160, 140))
    spread = [obfuscate(noise(5, (160, 140)), mask, s)[mask].std() for s in (2.0, 8.0, 32.0)]
    assert spread[0] > spread[1] > spread[2]


def test_cost_does_not_grow_with_sigma() -> None:
    image, mask = noise(6, (900, 700)), face_mask((900, 700))

    def seconds(sigma: float) -> float:
        def once() -> float:
            start = time.perf_counter()
            obfuscate(image, mask, sigma)
            return time.perf_counter() - start

        return min(once() for _ in range(3))

    assert seconds(150.0) < 2 * seconds(5.0)


def test_empty_mask_changes_nothing() -> None:
    image = noise(7, (20, 30))
    result = obfuscate(image, np.zeros((20, 30), bool), 4.0)
    np.testing.assert_array_equal(result, image)
    assert result is not image


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_sigma_must_be_positive(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma must be positive"):
        obfuscate(noise(0, (4, 4)), np.ones((4, 4), bool), sigma)


def test_door_checks() -> None:
    image = noise(0, (4, 6))
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        obfuscate(image.astype(np.float32), np.ones((4, 6), bool), 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bool mask"):
        obfuscate(image, np.ones((6, 4), bool), 1.0)
    with pytest.raises(ValueError, match="bool mask"):
        obfuscate(image, np.ones((4, 6), np.uint8), 1.0)  # type: ignore[arg-type]
