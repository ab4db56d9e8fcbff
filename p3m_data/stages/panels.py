"""Panels: one strip per picture with the six steps of the paper's figure 3, for a person to look at."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array, check_image, check_mask
from p3m_data.stages.mask import Masked
from p3m_data.types import Face

STEPS = ("original", "landmarks", "private area", "transition area", "adjusted mask", "result")
CELL = 220
BORDER = 3  # pixels kept free around the picture in its cell, so that neighbours do not touch
ROOM = 2.5  # the part of a picture that is shown is this many times the box around all faces

BACKGROUND = 40
NOTHING = 118
FRAME = (255, 255, 255)
PRIVATE_TINT = (235, 60, 50)
TRANSITION_TINT = (30, 200, 255)
FACE_COLOURS = {
    "landmarks": (60, 220, 90),
    "ellipse": (255, 180, 0),
    "person": (190, 130, 255),
    "none": (255, 60, 50),
}
TINTED = 0.6
DIMMED = 4

SHIFT = 4  # fractional bits of OpenCV's drawing functions

Points = npt.NDArray[np.float64]


class _Part(NamedTuple):
    """A rectangle of the picture in whole pixels (x1, y1 exclusive) and how it is shown in a cell."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def scale(self) -> float:
        return (CELL - 2 * BORDER) / max(self.x1 - self.x0, self.y1 - self.y0)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in the cell, in pixels."""
        width, height = (self.x1 - self.x0) * self.scale, (self.y1 - self.y0) * self.scale
        return max(1, round(width)), max(1, round(height))


def panels(image: UInt8Array, masked: Masked, result: UInt8Array | None) -> UInt8Array:
    """The strip of `STEPS` of one picture, left to right: (CELL, 6 CELL, 3) uint8 RGB.

    `image` and `result`: (H, W, 3) uint8 RGB; without a result its cell is empty. The first cell holds the
    whole picture, so that a missed face can be seen, with a frame around the part that the others show:
    `ROOM` times the box around all faces, or everything when there are none. Faces outlined by landmarks
    are green, those under an ellipse amber, those that a person masked violet, those not masked red.
    `ValueError` for arrays that do not fit.
    """
    check_image(image)
    for area in (masked.private, masked.transition, masked.mask):
        check_mask(area, image.shape)
    if result is not None and check_image(result).shape != image.shape:
        raise ValueError(f"the result is {result.shape}, its picture {image.shape}")
    whole = _Part(0, 0, image.shape[1], image.shape[0])
    part = _part_with_faces(masked.faces, whole)
    shown = _shrink(image, part)
    cells = [
        shown if part == whole else _framed(_shrink(image, whole), part, whole),
        _outlined(shown, masked.faces, part),
        _blend(shown, PRIVATE_TINT, np.float32(TINTED) * _coverage(masked.private, part)),
        _blend(shown, TRANSITION_TINT, np.float32(TINTED) * _coverage(masked.transition, part)),
        _blend(shown // DIMMED, (255, 255, 255), _coverage(masked.mask, part)),
        None if result is None else _shrink(result, part),
    ]
    return np.concatenate([_in_cell(cell) for cell in cells], axis=1)


def _part_with_faces(faces: tuple[Face, ...], whole: _Part) -> _Part:
    if not faces:
        return whole
    boxes = np.array([face.box for face in faces])
    low = np.clip(boxes[:, :2].min(axis=0), 0, (whole.x1 - 1, whole.y1 - 1))
    high = np.clip(boxes[:, 2:].max(axis=0), low + 1, np.maximum((whole.x1, whole.y1), low + 1))
    middle, half = (low + high) / 2, float((high - low).max()) * ROOM / 2
    x0, y0 = np.floor(np.maximum(middle - half, 0)).astype(int).tolist()
    x1, y1 = np.ceil(np.minimum(middle + half, (whole.x1, whole.y1))).astype(int).tolist()
    return _Part(x0, y0, x1, y1)


def _shrink(pixels: UInt8Array, part: _Part) -> UInt8Array:
    """`part` of (H, W) or (H, W, 3) pixels as large as its cell takes."""
    cut = pixels[part.y0 : part.y1, part.x0 : part.x1]
    # halving is what OpenCV does fastest; odd rows and columns are less than a pixel of what is shown
    while min(cut.shape[0] // 2 - part.size[1], cut.shape[1] // 2 - part.size[0]) >= 0:
        height, width = cut.shape[0] // 2, cut.shape[1] // 2
        cut = cv2.resize(cut[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cut, part.size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _coverage(area: BoolArray, part: _Part) -> FloatArray:
    """(h, w) float32 in [0, 1]: how much of each shown pixel lies in `area`."""
    return _shrink(area.view(np.uint8) * np.uint8(255), part).astype(np.float32) / np.float32(255)


def _blend(shown: UInt8Array, colour: tuple[int, int, int], opacity: FloatArray) -> UInt8Array:
    """`shown` with `colour` laid over it, `opacity` in [0, 1]."""
    mixed = shown + (np.array(colour, np.float32) - shown) * opacity[..., None]
    return mixed.astype(np.uint8)


def _framed(shown: UInt8Array, part: _Part, whole: _Part) -> UInt8Array:
    _rectangle(shown, _to_cell([(part.x0, part.y0), (part.x1 - 1, part.y1 - 1)], whole), FRAME)
    return shown


def _outlined(shown: UInt8Array, faces: tuple[Face, ...], part: _Part) -> UInt8Array:
    drawn = shown.copy()
    for face in faces:
        colour = FACE_COLOURS[face.how]
        _rectangle(drawn, _to_cell([face.box[:2], face.box[2:]], part), colour)
        if face.outline:
            outline = _fixed(_to_cell(face.outline, part))
            cv2.polylines(drawn, [outline], True, colour, 2, cv2.LINE_AA, SHIFT)
    return drawn


def _rectangle(drawn: UInt8Array, corners: Points, colour: tuple[int, int, int]) -> None:
    """Draws in place; on the inner side of the picture's border, where it would be cut off."""
    limit = np.array([drawn.shape[1] - 1, drawn.shape[0] - 1])
    first, second = np.clip(np.rint(corners), 0, limit).astype(int).tolist()
    cv2.rectangle(drawn, first, second, colour, 1)


def _to_cell(points: npt.ArrayLike, part: _Part) -> Points:
    """Pixel coordinates of the picture -> of its shown part; a pixel's centre is at integers in both."""
    offset = np.array([part.x0, part.y0]) - 0.5
    return (np.asarray(points, np.float64) - offset) * part.scale - 0.5


def _fixed(points: Points) -> npt.NDArray[np.int32]:
    return np.round(np.clip(points, -CELL, 2 * CELL) * (1 << SHIFT)).astype(np.int32)


def _in_cell(shown: UInt8Array | None) -> UInt8Array:
    if shown is None:
        return np.full((CELL, CELL, 3), NOTHING, np.uint8)
    cell = np.full((CELL, CELL, 3), BACKGROUND, np.uint8)
    height, width = shown.shape[:2]
    top, left = (CELL - height) // 2, (CELL - width) // 2
    cell[top : top + height, left : left + width] = shown
    return cell
