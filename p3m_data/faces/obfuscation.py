"""Blur inside a mask and nowhere else, by normalized convolution (paper, section 3.2).

Only masked pixels enter the average (Knutsson and Westin 1993: blur(f m) / blur(m)), so no hair or
background colour bleeds into the face and no face colour leaks out. The work is done on a reduced grid,
so its cost does not grow with sigma.
"""

from __future__ import annotations

from math import ceil
from typing import Literal, get_args

import cv2
import numpy as np

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array, check_image, check_mask

Method = Literal["hardened", "gaussian", "mosaic", "fill"]
METHODS: tuple[Method, ...] = get_args(Method)

STEPS = 4  # grid points per sigma: the reduction's own blur stays below 1 % of sigma
CELL = 2.0  # side of a cell in sigmas


def obfuscate(image: UInt8Array, mask: BoolArray, sigma: float, method: Method = "hardened") -> UInt8Array:
    """A copy of `image` that is unrecognisable where `mask` is True and identical elsewhere.

    `image`: (H, W, 3) uint8; `mask`: (H, W) bool; `sigma` > 0 in pixels. Methods:

    - `gaussian`: the paper's. A known Gaussian can partly be inverted by deconvolution.
    - `hardened`: averages over cells of 2 sigma, then the same Gaussian; looks alike, but what the cells
      threw away cannot be brought back.
    - `mosaic`: the cells alone.   - `fill`: one colour, the masked area's mean.
    """
    check_image(image)
    check_mask(mask, image.shape)
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    result = image.copy()
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    if w == 0:
        return result
    area = mask[y : y + h, x : x + w]
    pixels = image[y : y + h, x : x + w]
    blurred = _obfuscate_box(pixels, area, sigma, method)
    result[y : y + h, x : x + w][area] = blurred[area]
    return result


def _obfuscate_box(pixels: UInt8Array, area: BoolArray, sigma: float, method: Method) -> UInt8Array:
    weight = area.astype(np.float32)
    colour = pixels.astype(np.float32)
    if method == "fill":
        mean = np.rint(colour[area].mean(axis=0, dtype=np.float64))
        return np.broadcast_to(mean, pixels.shape).astype(np.uint8)
    if method != "gaussian":
        colour = _cells(colour, weight, CELL * sigma)
    return _to_uint8(colour if method == "mosaic" else _smooth(colour, weight, sigma))


def _cells(colour: FloatArray, weight: FloatArray, side: float) -> FloatArray:
    """Each pixel's cell's weighted mean; cells of at most `side` pixels, and not below one."""
    height, width = weight.shape
    cells = (min(width, ceil(width / side)), min(height, ceil(height / side)))
    mean = _ratio(_shrink(colour * weight[..., None], cells), _shrink(weight, cells))
    # exact: a pixel on the border of two cells must not take the one in which nothing is masked
    return np.asarray(cv2.resize(mean, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.float32)


def _smooth(colour: FloatArray, weight: FloatArray, sigma: float) -> FloatArray:
    """Normalized convolution with a Gaussian, on a grid of `STEPS` points per sigma."""
    height, width = weight.shape
    step = max(1.0, sigma / STEPS)
    grid = (max(1, round(width / step)), max(1, round(height / step)))
    sigma_x, sigma_y = sigma * grid[0] / width, sigma * grid[1] / height
    smooth = _ratio(
        _gaussian(_shrink(colour * weight[..., None], grid), sigma_x, sigma_y),
        _gaussian(_shrink(weight, grid), sigma_x, sigma_y),
    )
    return np.asarray(cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _shrink(array: FloatArray, size: tuple[int, int]) -> FloatArray:
    return np.asarray(cv2.resize(array, size, interpolation=cv2.INTER_AREA), np.float32)


def _gaussian(array: FloatArray, sigma_x: float, sigma_y: float) -> FloatArray:
    # zero border: outside the box nothing is masked, so nothing may count
    pad_x, pad_y = ceil(4 * sigma_x), ceil(4 * sigma_y)
    padded = cv2.copyMakeBorder(array, pad_y, pad_y, pad_x, pad_x, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    kernel = (2 * pad_x + 1, 2 * pad_y + 1)
    blurred = cv2.GaussianBlur(padded, kernel, sigma_x, sigmaY=sigma_y, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(blurred[pad_y : pad_y + array.shape[0], pad_x : pad_x + array.shape[1]], np.float32)


def _ratio(colour: FloatArray, weight: FloatArray) -> FloatArray:
    # a speck weighs little and must not go dark
    return np.asarray(colour / np.maximum(weight, 1e-30)[..., None], np.float32)


def _to_uint8(array: FloatArray) -> UInt8Array:
    return np.clip(np.rint(array), 0, 255).astype(np.uint8)
