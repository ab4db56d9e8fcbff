"""Attempts to undo the blur: against other implementations, and by how much they help on a face."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
import skimage.restoration
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array
from p3m_data.faces.obfuscation import Method, obfuscate
from p3m_data.faces.restoration import (
    ROUNDING,
    WORKED_AT,
    estimate_sigma,
    paste_mean_face,
    richardson_lucy,
    wiener,
)
from tests.runs import portrait

Attack = Callable[[UInt8Array, BoolArray, float], UInt8Array]
ATTACKS = pytest.mark.parametrize("attack", [wiener, richardson_lucy])


def face_mask(size: int = 300) -> BoolArray:
    mask = np.zeros((size, size), np.uint8)
    cv2.ellipse(mask, (166, 130), (46, 62), 0, 0, 360, 1, -1)
    return mask > 0


def psnr(image: UInt8Array, sigma: float, method: Method = "gaussian") -> tuple[float, float, float]:
    """Of the blurred face, and after Wiener and Richardson-Lucy, in dB inside the mask."""
    mask = face_mask()
    blurred = obfuscate(image, mask, sigma, method)
    tried = blurred, wiener(blurred, mask, sigma), richardson_lucy(blurred, mask, sigma)
    first, second, third = (peak_signal_noise_ratio(image[mask], one[mask]) for one in tried)
    return first, second, third


@pytest.mark.parametrize(
    ("sigma", "by_wiener", "by_richardson_lucy"),
    [(2.0, 1.2, 3.2), (4.0, 1.8, 2.6), (8.0, 1.3, 1.6), (12.0, 1.2, 1.0)],
)
def test_a_gaussian_is_partly_undone(sigma: float, by_wiener: float, by_richardson_lucy: float) -> None:
    blurred, with_wiener, with_richardson_lucy = psnr(portrait(), sigma)
    assert with_wiener > blurred + by_wiener
    assert with_richardson_lucy > blurred + by_richardson_lucy


@pytest.mark.parametrize("sigma", [2.0, 4.0, 8.0, 12.0, 18.0])
def test_what_was_hardened_is_undone_less(sigma: float) -> None:
    plain, hardened = psnr(portrait(), sigma), psnr(portrait(), sigma, "hardened")
    assert max(hardened[1:]) < max(plain[1:]) - 0.8
    assert max(hardened[1:]) - hardened[0] < max(plain[1:]) - plain[0]


def test_richardson_lucy_is_that_of_scikit_image_inside_a_picture() -> None:
    image, everything, sigma = portrait(), np.ones((300, 300), bool), 4.0
    blurred = obfuscate(image, everything, sigma, "gaussian")
    line = cv2.getGaussianKernel(33, sigma)
    expected = np.stack(
        [
            skimage.restoration.richardson_lucy(blurred[..., c] / 255, line @ line.T, num_iter=50)
            for c in range(3)
        ],
        axis=-1,
    )
    found = richardson_lucy(blurred, everything, sigma, 50).astype(float)
    # the other one starts from grey, so after 50 rounds they are near, not equal
    inside = np.s_[60:-60, 60:-60]
    apart = np.abs(found - 255 * expected)[inside]
    undone = np.abs(255 * expected - blurred)[inside]
    assert undone.mean() > 8
    assert apart.mean() < 1
    assert apart.max() < 8


def regularized(blurred: UInt8Array, sigma: float, noise: float) -> FloatArray:
    """The least-squares face of a picture that is masked everywhere: Wiener's filter as a system of equations."""
    side = len(blurred)
    pad = int(np.ceil(4 * sigma))
    count = side + 2 * pad
    weight = np.pad(np.ones((side, side)), pad)
    colour = np.pad(blurred.astype(float), ((pad, pad), (pad, pad), (0, 0)), mode="edge")

    def gaussian(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return scipy.ndimage.gaussian_filter(array, sigma, mode="constant", truncate=4, axes=(0, 1))

    spread = np.maximum(gaussian(weight), 1e-30)[..., None]
    carried_on = np.where(weight[..., None] > 0, colour, gaussian(colour * weight[..., None]) / spread)
    mean = colour[weight > 0].mean(axis=0)
    observed = (carried_on - mean) * spread
    signal = max((observed[weight > 0] ** 2).mean(), noise)
    steps = np.arange(count)
    turns = np.minimum(steps, count - steps)
    line = np.exp(-(turns**2) / (2 * sigma**2))
    circulant = (line / line.sum())[(steps[:, None] - steps) % count]
    system = np.kron(circulant, circulant)
    left = system.T @ system + noise / signal * np.eye(count**2)
    found = np.linalg.solve(left, system.T @ observed.reshape(count**2, 3)).reshape(count, count, 3)
    return np.asarray((found + mean)[pad:-pad, pad:-pad], np.float32)


@pytest.mark.parametrize("noise", [ROUNDING, 1.0, 25.0])
def test_wiener_solves_the_equations(noise: float) -> None:
    image = np.ascontiguousarray(portrait()[100:116, 150:166])
    everything = np.ones((16, 16), bool)
    blurred = obfuscate(image, everything, 1.5, "gaussian")
    expected = np.clip(regularized(blurred, 1.5, noise), 0, 255)
    found = wiener(blurred, everything, 1.5, noise)
    assert np.abs(expected - blurred).mean() > 1
    assert np.abs(found - expected).max() < 1


def test_more_noise_means_less_sharpening() -> None:
    mask = face_mask()
    blurred = obfuscate(portrait(), mask, 4.0, "gaussian")
    changes = [
        np.abs(wiener(blurred, mask, 4.0, noise).astype(float) - blurred)[mask].mean()
        for noise in (0.01, 1.0, 100.0)
    ]
    assert changes[0] > changes[1] > changes[2] > 0


@st.composite
def masked(draw: st.DrawFn) -> tuple[UInt8Array, BoolArray]:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, random.random((height, width)) < draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))


@ATTACKS
@settings(max_examples=60, deadline=None)
@given(given=masked(), sigma=st.sampled_from([0.3, 1.0, 5.0, 20.0, 300.0]))
def test_nothing_changes_outside_the_mask(
    attack: Attack,
    given: tuple[UInt8Array, BoolArray],
    sigma: float,
) -> None:
    image, mask = given
    before = image.copy(), mask.copy()
    found = attack(image, mask, sigma)
    assert (found.shape, found.dtype) == (image.shape, np.uint8)
    np.testing.assert_array_equal(found[~mask], image[~mask])
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


@ATTACKS
@pytest.mark.parametrize("sigma", [1.0, WORKED_AT, 25.0])
@pytest.mark.parametrize("level", [1, 90, 255])
def test_one_colour_stays_one_colour(attack: Attack, sigma: float, level: int) -> None:
    image = np.full((80, 90, 3), level, np.uint8)
    mask = np.zeros((80, 90), bool)
    mask[20:60, 0:70] = True
    np.testing.assert_array_equal(attack(image, mask, sigma), image)


def test_black_stays_nearly_black() -> None:
    image, mask = np.zeros((40, 40, 3), np.uint8), np.ones((40, 40), bool)
    assert richardson_lucy(image, mask, 3.0).max() <= 1
    assert wiener(image, mask, 3.0).max() == 0


@ATTACKS
def test_an_empty_mask_changes_nothing(attack: Attack) -> None:
    image = portrait()
    found = attack(image, np.zeros((300, 300), bool), 4.0)
    np.testing.assert_array_equal(found, image)
    assert found is not image


@ATTACKS
@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_a_blur_without_width_is_refused(attack: Attack, sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma must be positive"):
        attack(portrait(), face_mask(), sigma)


@ATTACKS
def test_arrays_of_another_kind_are_refused(attack: Attack) -> None:
    with pytest.raises(ValueError, match="uint8 image"):
        attack(portrait()[..., 0], face_mask(), 2.0)
    with pytest.raises(ValueError, match="bool mask"):
        attack(portrait(), face_mask()[1:], 2.0)


def patchwork() -> UInt8Array:
    """(300, 300, 3) uint8: squares of chance colours, so step edges."""
    colours = np.random.default_rng(1).integers(0, 256, (10, 10, 3))
    return np.ascontiguousarray(np.kron(colours, np.ones((30, 30, 1))).astype(np.uint8))


class TestEstimatedSigma:
    @pytest.mark.parametrize("sigma", [3.0, 4.0, 6.0, 8.0, 10.0, 14.0])
    def test_it_is_near_the_true_one(self, sigma: float) -> None:
        mask = face_mask()
        for image, most in ((patchwork(), 0.2), (portrait(), 0.35)):
            found = estimate_sigma(obfuscate(image, mask, sigma, "gaussian"), mask)
            assert found == pytest.approx(sigma, rel=most)

    def test_it_grows_with_the_true_one(self) -> None:
        mask = face_mask()
        found = [estimate_sigma(obfuscate(portrait(), mask, s, "gaussian"), mask) for s in (2, 4, 8, 14)]
        assert found == sorted(found)

    def test_what_lies_outside_does_not_matter(self) -> None:
        mask = face_mask()
        blurred = obfuscate(portrait(), mask, 6.0, "gaussian")
        other = np.where(mask[..., None], blurred, np.uint8(255) - blurred)
        assert estimate_sigma(other, mask) == estimate_sigma(blurred, mask)

    def test_there_is_none_where_nothing_varies_or_nothing_is_masked(self) -> None:
        flat = np.full((300, 300, 3), 77, np.uint8)
        assert estimate_sigma(flat, face_mask()) == 0
        assert estimate_sigma(portrait(), np.zeros((300, 300), bool)) == 0
        assert estimate_sigma(obfuscate(portrait(), face_mask(), 5.0, "fill"), face_mask()) == 0

    @settings(max_examples=60, deadline=None)
    @given(masked())
    def test_it_is_a_width_whatever_it_sees(self, given: tuple[UInt8Array, BoolArray]) -> None:
        image, mask = given
        found = estimate_sigma(image, mask)
        assert 0 <= found <= np.sqrt(mask.sum()) / 4


class TestMeanFace:
    def test_it_is_pasted_in_the_colour_of_the_blurred_face(self) -> None:
        mask = face_mask()
        chip = obfuscate(portrait(), mask, 30.0, "gaussian")
        mean = np.random.default_rng(0).uniform(100, 140, chip.shape).astype(np.float32)
        found = paste_mean_face(chip, mask, mean)
        np.testing.assert_array_equal(found[~mask], chip[~mask])
        np.testing.assert_allclose(found[mask].mean(axis=0), chip[mask].mean(axis=0), atol=0.5)
        # its pattern is the mean face's, moved by one colour
        moved = found[mask].astype(float) - mean[mask]
        assert np.ptp(moved, axis=0).max() <= 1.01

    def test_levels_stay_in_range_and_an_empty_mask_changes_nothing(self) -> None:
        chip = np.full((20, 20, 3), 250, np.uint8)
        mean = np.tile(np.linspace(0, 254, 20, dtype=np.float32)[:, None, None], (1, 20, 3))
        found = paste_mean_face(chip, np.ones((20, 20), bool), mean)
        assert (found.min(), found.max()) == (123, 255)
        np.testing.assert_array_equal(paste_mean_face(chip, np.zeros((20, 20), bool), mean), chip)
