"""Upright square crops around a face."""

from __future__ import annotations

from math import cos, sin

import cv2
import numpy as np
import numpy.typing as npt

from p3m_data.arrays import UInt8Array


def upright_crop(
    image: UInt8Array,
    centre: npt.NDArray[np.float64],
    side: float,
    angle: float,
    size: int,
    *,
    mirror: bool = True,
) -> tuple[UInt8Array, npt.NDArray[np.float64]]:
    """A square of `side` pixels around `centre`, turned by `angle` radians to stand upright.

    Returns (size, size, 3) uint8 and the (2, 3) matrix from its pixels to the picture's. Beyond the border
    the picture is mirrored, which completes cut faces, or black.
    """
    scale = side / size
    matrix = np.array(
        [[cos(angle) * scale, -sin(angle) * scale, 0], [sin(angle) * scale, cos(angle) * scale, 0]]
    )
    matrix[:, 2] = centre - matrix[:, :2] @ [(size - 1) / 2, (size - 1) / 2]
    source, back = image, matrix
    if scale > 1.5:  # shrink by area first: warpAffine does not filter
        x0, y0 = np.maximum(np.floor(centre - side * 0.75), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(centre + side * 0.75).astype(int) + 1, [image.shape[1], image.shape[0]])
        cut = image[y0:y1, x0:x1]
        if cut.size:
            small = (max(1, round(cut.shape[1] / scale)), max(1, round(cut.shape[0] / scale)))
            source = cv2.resize(cut, small, interpolation=cv2.INTER_AREA).astype(np.uint8)
            ratio = np.array([small[0] / cut.shape[1], small[1] / cut.shape[0]])
            back = matrix * ratio[:, None]
            back[:, 2] = (matrix[:, 2] - [x0, y0] + 0.5) * ratio - 0.5
    flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_CUBIC if scale < 1 else cv2.INTER_LINEAR)
    border = cv2.BORDER_REFLECT if mirror else cv2.BORDER_CONSTANT
    return cv2.warpAffine(source, back, (size, size), flags=flags, borderMode=border).astype(np.uint8), matrix
