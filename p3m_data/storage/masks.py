"""Facemasks as grey PNG, and polygons filled.

A mask is an (H, W) bool array of the upright picture. What a file promises is compared with the picture's size
before anything of that size is made.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.errors import InputError, UsageError
from p3m_data.storage.images import Limits, encode_png, opened, sixteen_bit
from p3m_data.storage.jpeg import turn

Size = tuple[int, int]
"""(width, height) in pixels."""
Points = npt.NDArray[np.float64]
"""(N, 2) x, y from the outer corner of the top-left pixel."""
MAX_BYTES = Limits().max_bytes
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_file(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a file of masks; `UsageError` when it is none, is too large or cannot be read."""
    try:
        # a pipe would block when opened, a device would never end
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(handle, "rb") as file:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                raise UsageError(f"{path} is not a file; name files of masks or one folder of them")
            if facts.st_size > max_bytes:
                raise UsageError(f"{path} is larger than {max_bytes / 2**20:.3g} MiB; split it")
            return file.read()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); name a file that can") from error


def load_png_mask(data: bytes, name: str, size: Size) -> BoolArray:
    """The (H, W) mask in a PNG of 1, 8 or 16 bits, of a palette or of equal channels, `size` being its picture's.

    Where there are only 0 and one other value, the other is the mask (tools write 1 as well as 255);
    otherwise the upper half of the range is. One colour on black is a mask, too. What is transparent is not
    masked. `UsageError` for anything else; `name` appears in its sentence only.
    """
    values = png_levels(data, name, size)
    high = values.max()
    if not ((values != 0) & (values != high)).any():
        return values > 0
    return values > np.iinfo(values.dtype).max // 2


def encode_png_mask(mask: BoolArray) -> bytes:
    """An 8-bit grey PNG, 255 where `mask` ((H, W) bool) and 0 elsewhere, without metadata."""
    return encode_png(mask.astype(np.uint8) * np.uint8(255))


def fill_polygon(mask: BoolArray, points: Points) -> None:
    """Set in `mask` ((H, W) bool) the pixels whose centres lie inside the closed polygon, by the even-odd rule."""
    height, width = mask.shape
    toggles = np.zeros((height, width + 1), np.bool_)
    rows = np.arange(height)
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        # the same way up in every polygon, so that two that share an edge neither overlap nor gape
        (x0, y0), (x1, y1) = sorted((start.tolist(), end.tolist()), key=lambda point: (point[1], point[0]))
        first, beyond = (min(max(math.ceil(y - 0.5), 0), height) for y in (y0, y1))
        if first < beyond:
            x = x0 + (rows[first:beyond] + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.intp)
            toggles[rows[first:beyond], columns] ^= True
    mask |= np.logical_xor.accumulate(toggles, axis=1)[:, :width]


def png_levels(data: bytes, name: str, size: Size) -> npt.NDArray[np.uint8 | np.uint16]:
    """(H, W) grey values, uint8 or uint16, of a PNG that is as large as `size`, upright.

    `UsageError` for anything else; `name` appears in its sentence only.
    """
    if data[:8] != _SIGNATURE or data[12:16] != b"IHDR":
        raise UsageError(f"{name} is not a PNG file; save the mask as PNG")
    stored = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if sorted(stored) != sorted(size):
        raise _wrong_size(stored, size, name)
    try:
        with opened(data, name, Limits(max_pixels=size[0] * size[1])) as (image, orientation):
            pixels = turn(_channels(image), orientation)
    except InputError as error:
        raise UsageError(str(error)) from error
    check_size((pixels.shape[1], pixels.shape[0]), size, name)
    return pixels if pixels.ndim == 2 else _grey(np.asarray(pixels, np.uint8), name)


def bounds(mask: BoolArray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a mask that is not empty, the end exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def check_size(found: Size, size: Size, name: str) -> None:
    """`UsageError` when `found`, as a file says, is not the picture's `size`."""
    if found != size:
        raise _wrong_size(found, size, name)


def _channels(image: Image.Image) -> npt.NDArray[np.uint8 | np.uint16]:
    """(H, W) grey or (H, W, 4) uint8 RGBA."""
    if image.mode.startswith("I"):
        return sixteen_bit(image)
    if image.mode in ("1", "L") and not image.has_transparency_data:
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGBA"))


def _grey(pixels: UInt8Array, name: str) -> UInt8Array:
    """(H, W, 4) RGBA over black as (H, W) grey; one colour alone counts as white."""
    grey = pixels[..., :3].max(axis=2)
    if (pixels[..., :3].min(axis=2) != grey).any():
        drawn = pixels[grey > 0][:, :3]
        if (drawn != drawn[0]).any():
            raise UsageError(f"{name} shows several colours; save the mask as grey, white where it masks")
        grey = np.where(grey > 0, np.uint8(255), np.uint8(0))
    shown: UInt8Array = ((grey.astype(np.uint16) * pixels[..., 3] + 127) // 255).astype(np.uint8)
    return shown


def _wrong_size(found: Size, size: Size, name: str) -> UsageError:
    return UsageError(
        f"{name} is {found[0]} x {found[1]} but its picture is {size[0]} x {size[1]}; "
        "draw on the picture's own size"
    )
