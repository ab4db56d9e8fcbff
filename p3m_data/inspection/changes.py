"""How much a masked part changed: is the face in it blurred, or only encoded anew?"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from p3m_data.arrays import BoolArray, UInt8Array

SMOOTH = 0.15
"""Standard deviation at which detail is what is gone, as a share of the part's size."""
COARSE = 6.0
"""Standard deviation in pixels at which it is smoothed."""
PLAIN = 2.0
"""A part with less detail, in levels, may look the same when it is blurred."""


def little_changed(
    before: UInt8Array, after: UInt8Array, mask: BoolArray, least: float, smallest: int
) -> Iterator[float]:
    """Mean |change| of each connected part of `mask`, as a share of its detail before, where it is below `least`.

    before, after: (H, W, 3) uint8. mask: (H, W) bool. Parts of fewer than `smallest` pixels tell nothing.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    for label in range(1, count):
        x, y, width, height, area = stats[label].tolist()
        here = slice(y, y + height), slice(x, x + width)
        part = labels[here] == label
        detail = _detail(before[here], part)
        if area < smallest or detail < PLAIN:
            continue
        change = float(cv2.absdiff(before[here], after[here]).max(axis=2)[part].mean())
        if change < least * detail:
            yield change / detail


def _detail(pixels: UInt8Array, part: BoolArray) -> float:
    """Mean |pixels - smoothed pixels| in `part`, smoothed inside it at the scale of a blurred face."""
    sigma = SMOOTH * float(np.sqrt(part.sum()))
    # what is smooth needs few pixels, and the cost does not grow with the face
    factor = min(1.0, COARSE / sigma)
    size = (max(1, round(part.shape[1] * factor)), max(1, round(part.shape[0] * factor)))
    weight, values = part.astype(np.float32), pixels.astype(np.float32)
    small = cv2.resize(np.dstack([values * weight[..., None], weight]), size, interpolation=cv2.INTER_AREA)
    summed = cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma * factor), part.shape[::-1])
    smooth = summed[..., :3] / np.maximum(summed[..., 3:], 1e-3)
    return float(np.abs(values - smooth).max(axis=2)[part].mean())
