"""COCO's run lengths, plain and compressed, as masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from p3m_data.arrays import BoolArray
from p3m_data.errors import UsageError
from p3m_data.storage.masks import Size


def decode_rle(rle: dict[str, Any], name: str, size: Size) -> BoolArray:
    """The (H, W) mask in a segmentation of COCO's, `size` being its picture's.

    `UsageError` for another size and for runs that do not fill it; `name` appears in its sentence only.
    """
    width, height = size
    if rle.get("size") != [height, width]:
        raise UsageError(
            f"{name} has a mask of another size than its picture, which is {width} x {height}; "
            "draw on the picture's own size"
        )
    counts = rle.get("counts")
    runs = _unpacked(counts) if isinstance(counts, str) else _plain(counts)
    # pycocotools takes any sum of runs and fills the rest with whatever lies in memory
    if runs is None or not ((runs >= 0) & (runs <= width * height)).all() or runs.sum() != width * height:
        raise UsageError(f"{name} has a run-length mask that does not fill its picture; export it again")
    # the runs go down the columns, the first one is outside the mask
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _plain(counts: object) -> npt.NDArray[np.int64] | None:
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        return None
    try:
        return np.array(counts, np.int64)
    except OverflowError:
        return None


def _unpacked(text: str) -> npt.NDArray[np.int64] | None:
    """The runs of COCO's compressed RLE; None when it is not one.

    Each number is written in characters from "0" on: five bits each, least first, 32 for "more follows", the
    highest bit of the last one its sign. From the fourth on, a number is added to the one two before it.
    """
    codes = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - ord("0")
    last = codes & 32 == 0
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or not last[-1]:
        return None
    start = np.flatnonzero(np.r_[True, last[:-1]])
    place = np.arange(len(codes)) - np.repeat(start, np.diff(np.r_[start, len(codes)]))
    if place.max() > 6:
        return None
    runs = np.add.reduceat((codes & 31) << (5 * place), start)
    runs -= (codes[last] >> 4 & 1) << (5 * (place[last] + 1))
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
