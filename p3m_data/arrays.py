"""Names and door checks for the arrays that cross module borders."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


def check_image(image: UInt8Array) -> UInt8Array:
    """`image` itself if it is (H, W, 3) uint8; `ValueError` otherwise."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an (H, W, 3) uint8 image, got {image.shape} {image.dtype}")
    return image


def check_mask(mask: BoolArray, shape: tuple[int, ...]) -> BoolArray:
    """`mask` itself if it is bool and as large as `shape[:2]`; `ValueError` otherwise."""
    if mask.shape != tuple(shape[:2]) or mask.dtype != np.bool_:
        raise ValueError(f"expected a {tuple(shape[:2])} bool mask, got {mask.shape} {mask.dtype}")
    return mask
