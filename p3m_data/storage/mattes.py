"""Mattes from bytes to alpha arrays, and back.

A matte is data, not a colour: its ICC profile says nothing about alpha and is not applied.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from p3m_data.arrays import FloatArray, UInt8Array
from p3m_data.errors import MatteMismatch
from p3m_data.storage.images import Limits, encode_png, opened, sixteen_bit
from p3m_data.storage.jpeg import turn

# Grey written as a colour JPEG comes back with channels this far apart, of 255.
_GREY_TOLERANCE = 4


def load_matte(data: bytes, name: str, size: tuple[int, int], limits: Limits | None = None) -> FloatArray:
    """The alpha in `data`: (H, W) float32 in [0, 1], upright.

    Read are one channel of 1, 8 or 16 bits or of floats in [0, 1], three equal channels, and the alpha
    channel of a cut-out. `size` is (width, height) of the upright picture that it must fit; `name` appears in
    error sentences only. Raises `MatteMismatch`, `UnreadableImage` and `ImageTooLarge`.
    """
    with opened(data, name, limits or Limits()) as (image, orientation):
        alpha = turn(_alpha(image, name), orientation)
    width, height = alpha.shape[1], alpha.shape[0]
    if (width, height) != size:
        raise MatteMismatch(
            f"matte {name} is {width} x {height} but its picture is {size[0]} x {size[1]}; "
            "give a matte of the picture's size, or take the matte out"
        )
    return alpha


def matte_from_alpha(alpha: UInt8Array) -> FloatArray:
    """The alpha channel of a cut-out, (H, W) uint8, as (H, W) float32 in [0, 1]."""
    return alpha.astype(np.float32) / np.float32(255)


def encode_matte(alpha: FloatArray) -> bytes:
    """An 8-bit grey PNG without metadata. alpha: (H, W) float32 in [0, 1]; `ValueError` outside."""
    if alpha.ndim != 2 or not (alpha.min() >= 0 and alpha.max() <= 1):
        raise ValueError(
            f"expected an (H, W) alpha in [0, 1], got {alpha.shape} {alpha.min()} to {alpha.max()}"
        )
    return encode_png(np.rint(alpha * 255).astype(np.uint8))


def _alpha(image: Image.Image, name: str) -> FloatArray:
    """(H, W) float32 in [0, 1], as stored."""
    if image.mode == "F":
        values = np.asarray(image, np.float32)
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError("its floating-point values are not all between 0 and 1")
        return values
    if image.mode.startswith("I"):
        return sixteen_bit(image).astype(np.float32) / np.float32(65535)
    if image.has_transparency_data:
        # Pillow goes from premultiplied to plain colours only to the mode of the same name
        image = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
        cut_out = np.asarray(image.getchannel("A"))
        if cut_out.min() < 255:
            return matte_from_alpha(cut_out)
    if image.mode in ("1", "L"):
        return matte_from_alpha(np.asarray(image.convert("L")))
    channels = np.asarray(image.convert("RGB"))
    if np.ptp(channels, axis=2).max() > _GREY_TOLERANCE:
        raise MatteMismatch(
            f"matte {name} looks like a colour picture; give a grey matte, or a cut-out with an alpha channel"
        )
    return matte_from_alpha(np.asarray(image.convert("L")))
