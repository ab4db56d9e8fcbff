"""What an attacker tries on a blurred face before recognising it: to undo the blur.

The attacks know how `faces/obfuscation.py` works, as anybody may. Images are (H, W, 3) uint8, masks (H, W)
bool; what they return differs from the image inside the mask only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array, check_image, check_mask

WORKED_AT = 6.0  # pixels of sigma: a wider blur is undone on a smaller grid, which loses nothing
ROUNDING = 1 / 12  # variance of what 8 bits round away; a JPEG loses about ten times as much
REBLUR = 0.08  # of the mask's width: the second blur, by which the first is estimated
SHARPEST = 0.9  # share of the masked pixels whose gradients are below those that are looked at


def wiener(image: UInt8Array, mask: BoolArray, sigma: float, noise: float = ROUNDING) -> UInt8Array:
    """Wiener deconvolution of a Gaussian of `sigma` pixels; `noise`: its variance in levels of 255, squared."""
    return _on_small_grid(partial(_wiener, noise=noise), image, mask, sigma)


def richardson_lucy(image: UInt8Array, mask: BoolArray, sigma: float, rounds: int = 50) -> UInt8Array:
    """Richardson-Lucy deconvolution with the exact operator: a Gaussian of `sigma` normalized over the mask.

    Richardson 1972, Lucy 1974; the operator's transpose takes the normalization into account.
    """
    return _on_small_grid(partial(_richardson_lucy, rounds=rounds), image, mask, sigma)


def estimate_sigma(image: UInt8Array, mask: BoolArray) -> float:
    """The sigma in pixels of the blur inside `mask`, for who was not told: from how much a second blur does.

    A step edge blurred by s has a gradient that is inverse to s, so a second blur by t divides it by
    sqrt(1 + t^2 / s^2) (Zhuo and Sim, 2011). Faces have few step edges: thin lines make it too small, soft
    slopes too large.
    0 where nothing is masked or nothing varies.
    """
    check_mask(mask, check_image(image).shape)
    if not mask.any():
        return 0.0
    size = float(np.sqrt(mask.sum()))
    reblur = max(1.0, REBLUR * size)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    again = _average(grey[..., None], mask.astype(np.float32), reblur)[..., 0]
    reach = 2 * round(reblur) + 1
    inside = cv2.erode(mask.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    if not inside.any():
        inside = mask
    first, second = (
        _gradient(_average(grey[..., None], mask.astype(np.float32), 1.0)[..., 0]),
        _gradient(again),
    )
    edges = inside & (first >= np.quantile(first[inside], SHARPEST)) & (first > 1e-3)
    if not edges.any():
        return 0.0
    ratio = float(np.median(first[edges] / np.maximum(second[edges], 1e-6)))
    widest = size / 4
    return widest if ratio <= 1 else float(min(reblur / np.sqrt(ratio**2 - 1), widest))


def paste_mean_face(chip: UInt8Array, mask: BoolArray, mean: FloatArray) -> UInt8Array:
    """`chip` with the average face `mean`, (H, W, 3) float32, inside `mask`, in the chip's own average colour."""
    check_mask(mask, check_image(chip).shape)
    result = chip.copy()
    if mask.any():
        moved = mean[mask] + (chip[mask].mean(axis=0) - mean[mask].mean(axis=0))
        result[mask] = np.clip(np.rint(moved), 0, 255)
    return result


def _on_small_grid(
    attack: Callable[[FloatArray, FloatArray, float], FloatArray],
    image: UInt8Array,
    mask: BoolArray,
    sigma: float,
) -> UInt8Array:
    check_mask(mask, check_image(image).shape)
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    result = image.copy()
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    if w == 0:
        return result
    box = slice(y, y + h), slice(x, x + w)
    scale = min(1.0, WORKED_AT / sigma)
    size = max(1, round(w * scale)), max(1, round(h * scale))
    weight = mask[box].astype(np.float32)
    small = np.asarray(cv2.resize(weight, size, interpolation=cv2.INTER_AREA), np.float32)
    colour = cv2.resize(image[box] * weight[..., None], size, interpolation=cv2.INTER_AREA)
    colour = np.asarray(colour / np.maximum(small, 1e-6)[..., None], np.float32)
    restored = attack(colour, small, sigma * scale)
    large = cv2.resize(restored, (w, h), interpolation=cv2.INTER_LINEAR)
    result[box][mask[box]] = np.clip(np.rint(large[mask[box]]), 0, 255)
    return result


def _wiener(colour: FloatArray, weight: FloatArray, sigma: float, noise: float) -> FloatArray:
    """What was blurred is face times mask: the published colour times the blurred mask, all of it a plain convolution.

    Outside the mask, where nothing was published, the colours are carried on smoothly.
    """
    pad = int(np.ceil(4 * sigma))
    weight = np.asarray(cv2.copyMakeBorder(weight, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0))
    colour = np.asarray(cv2.copyMakeBorder(colour, pad, pad, pad, pad, cv2.BORDER_REPLICATE))
    inside = weight > 0
    carried_on = _average(colour, weight, sigma)
    mean = colour[inside].mean(axis=0)
    blurred = (np.where(inside[..., None], colour, carried_on) - mean) * _gaussian(weight[..., None], sigma)
    rows, columns = np.fft.fftfreq(weight.shape[0]), np.fft.fftfreq(weight.shape[1])
    transfer = np.exp(-2 * (np.pi * sigma) ** 2 * (rows[:, None] ** 2 + columns[None] ** 2))
    signal = max(float((blurred[inside] ** 2).mean()), noise)
    inverse = transfer / (transfer**2 + noise / signal)
    spectrum = np.fft.fft2(blurred.astype(np.float64), axes=(0, 1)) * inverse[..., None]
    restored = np.fft.ifft2(spectrum, axes=(0, 1)).real / np.maximum(weight, 0.5)[..., None] + mean
    return np.asarray(restored[pad:-pad, pad:-pad], np.float32)


def _richardson_lucy(colour: FloatArray, weight: FloatArray, sigma: float, rounds: int) -> FloatArray:
    inside = (weight > 0).astype(np.float32)[..., None]
    mass = _at_least(_gaussian(inside, sigma), 1e-6)
    observed = _at_least(colour, 1.0) * inside
    estimate = observed.copy()
    gain = _at_least(_gaussian(inside / mass, sigma), 1e-6)
    for _ in range(rounds):
        predicted = _at_least(_gaussian(estimate * inside, sigma) / mass, 1e-3)
        ratio = np.asarray(inside * observed / predicted / mass, np.float32)
        estimate = estimate * _gaussian(ratio, sigma) / gain
    return estimate


def _average(colour: FloatArray, weight: FloatArray, sigma: float) -> FloatArray:
    """Normalized convolution: the Gaussian average of (H, W, C) `colour` where `weight` counts."""
    total = np.maximum(_gaussian(weight[..., None], sigma), 1e-30)
    return np.asarray(_gaussian(colour * weight[..., None], sigma) / total, np.float32)


def _at_least(array: FloatArray, least: float) -> FloatArray:
    return np.asarray(np.maximum(array, np.float32(least)), np.float32)


def _gaussian(array: FloatArray, sigma: float) -> FloatArray:
    blurred = cv2.GaussianBlur(array, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(blurred.reshape(array.shape), np.float32)


def _gradient(grey: FloatArray) -> FloatArray:
    return np.asarray(np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)))
