"""The private area: the part of a face by which somebody is recognised (paper, section 3.2).

It is the polygon along the cheek and eyebrow landmarks. All coordinates are pixels, a pixel's centre at
its integer coordinates. Meshes are MediaPipe's 478 points, (478, 2) float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.types import Box, Outline

Points = npt.NDArray[np.float64]

# Mesh: from the temple on the image's left along the jaw to the other temple; then back along the brows.
JAW = (127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152,
       377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356)  # fmt: skip
BROW_UPPER = (300, 293, 334, 296, 336, 107, 66, 105, 63, 70)
BROW_LOWER = (276, 283, 282, 295, 285, 55, 65, 52, 53, 46)
FOREHEAD = (10, 21, 54, 67, 68, 69, 71, 103, 104, 108, 109, 139, 151,
            162, 251, 284, 297, 298, 299, 301, 332, 333, 337, 338, 368, 389)  # fmt: skip
MESH_POINTS = 468  # the other ten are the irises
EYES_AND_MOUTH = (33, 263, 61, 291)
# Measured against annotated 68-point outlines (tests/faces/test_agreement.py): the mesh runs a little
# inside the jaw that people annotate, and their brow points lie just below the hair's upper edge.
JAW_OUTWARD = 0.01
BROW_DOWN = 0.2

SHIFT = 4  # fillPoly's fractional bits
DRAWN = 256  # outlines are unified on a canvas on which the face is this wide


def mesh_outline(meshes: Sequence[Points]) -> Outline:
    """The private area that any of several looks at one face gives: their union's outline.

    On a half-turned face the far end of the jaw line is hidden behind the cheek, and the polygon alone
    would cut through the face; so the silhouette of all points below the brows belongs to it.
    """
    canvas = _Canvas(np.concatenate(meshes))
    for mesh in meshes:
        canvas.area |= _draw_mesh(canvas.place(mesh), canvas.area.shape)
    return canvas.outline()


def unite(outlines: Sequence[Outline]) -> Outline:
    """The outline around several that overlap; of parts that do not touch, the largest one's."""
    canvas = _Canvas(np.array([point for outline in outlines for point in outline]))
    for outline in outlines:
        canvas.area |= _fill(canvas.place(np.array(outline)), canvas.area.shape)
    return canvas.outline()


class _Canvas:
    """A small grid on which outlines are drawn and united, `DRAWN` cells wide or high."""

    def __init__(self, extent: Points) -> None:
        self._low = extent.min(axis=0)
        self._scale = DRAWN / max(float((extent.max(axis=0) - self._low).max()), 1e-6)
        self._margin = DRAWN // 8
        width, height = np.ceil((extent.max(axis=0) - self._low) * self._scale).astype(int) + 2 * self._margin
        self.area = np.zeros((height, width), np.uint8)

    def place(self, points: Points) -> Points:
        return np.asarray((points - self._low) * self._scale + self._margin)

    def outline(self) -> Outline:
        contours, _ = cv2.findContours(self.area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        contour = cv2.approxPolyDP(max(contours, key=cv2.contourArea), 0.75, True).reshape(-1, 2)
        return _as_outline((contour - self._margin) / self._scale + self._low)


def _draw_mesh(mesh: Points, shape: tuple[int, ...]) -> UInt8Array:
    centre = mesh[list(EYES_AND_MOUTH)].mean(axis=0)
    jaw = centre + (mesh[list(JAW)] - centre) * (1 + JAW_OUTWARD)
    brow = mesh[list(BROW_UPPER)] * (1 - BROW_DOWN) + mesh[list(BROW_LOWER)] * BROW_DOWN
    below = [i for i in range(MESH_POINTS) if i not in FOREHEAD]
    hull = cv2.convexHull((centre + (mesh[below] - centre) * (1 + JAW_OUTWARD)).astype(np.float32))
    # everything on the chin's side of the brow line
    along = brow[0] - brow[-1]
    down = np.array([-along[1], along[0]])
    under = [brow[0] + 3 * along, *brow, brow[-1] - 3 * along]
    chin_side = np.array([*under, under[-1] + 6 * down, under[0] + 6 * down])
    silhouette = _fill(hull.reshape(-1, 2), shape) & _fill(chin_side, shape)
    return silhouette | _fill(np.concatenate([jaw, brow]), shape)


def points68_outline(points: Points) -> Outline:
    """The private area from 68 points (iBUG order): jaw 0..16, then the brows 26..17."""
    return _as_outline(np.concatenate([points[:17], points[26:16:-1]]))


def ellipse_outline(box: Box, margin: float = 0.1) -> Outline:
    """An ellipse that fills `box`, `margin` (share of its sides) larger, for a face without landmarks."""
    x0, y0, x1, y1 = box
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    # the box's corners stay out: in a detector's box they are background
    half = np.array([x1 - x0, y1 - y0]) / 2 * (1 + margin)
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1) * half
    return _as_outline(ring + np.array([x0 + x1, y0 + y1]) / 2)


def private_area(outlines: Iterable[Outline], shape: tuple[int, ...]) -> BoolArray:
    """(H, W) bool: the union of `outlines` on a picture of `shape` (H, W, ...), which they may leave."""
    area = np.zeros(shape[:2], bool)
    for outline in outlines:
        points = np.array(outline)
        left, top = np.floor(points.min(axis=0)).astype(int)
        right, bottom = np.ceil(points.max(axis=0)).astype(int) + 1
        # drawn whole and cut afterwards: fillPoly bends edges that leave its canvas by many pixels
        drawn = _fill(points - [left, top], (bottom - top, right - left)).astype(bool)
        x0, x1 = np.clip([left, right], 0, shape[1])
        y0, y1 = np.clip([top, bottom], 0, shape[0])
        area[y0:y1, x0:x1] |= drawn[y0 - top : y1 - top, x0 - left : x1 - left]
    return area


def outline_box(outline: Outline) -> Box:
    points = np.array(outline)
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    return (float(x0), float(y0), float(x1), float(y1))


def face_width(outline: Outline) -> float:
    """Width of an outline in pixels: the short side of its tightest upright or turned rectangle."""
    return float(min(cv2.minAreaRect(np.array(outline, np.float32))[1]))


def hair_margin(outline: Outline, shape: tuple[int, ...], margin: float) -> BoolArray:
    """(H, W) bool: where hair may hang into the private area of a picture without a matte.

    The band of `margin` pixels inside the outline, except along the jaw's lower third: hair frames
    brows and cheeks, not chins. It stands in for the transition area of section 3.2.
    """
    band = np.zeros(shape[:2], np.uint8)
    points = np.array(outline)
    thickness = max(1, round(2 * margin))
    cv2.polylines(band, [_fixed(points)], True, 1, thickness, cv2.LINE_8, SHIFT)
    x0, y0, x1, y1 = outline_box(outline)
    # an upright face's chin is the lowest part, a lying face's is not: then keep the band all around
    if y1 - y0 >= 0.9 * (x1 - x0):
        band[max(0, round(y0 + (y1 - y0) * 2 / 3)) :] = 0
    return band.astype(bool) & private_area([outline], shape)


def _fill(points: npt.ArrayLike, shape: tuple[int, ...]) -> UInt8Array:
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(mask, [_fixed(np.asarray(points))], 1, shift=SHIFT)
    return mask


def _fixed(points: Points) -> npt.NDArray[np.int32]:
    return np.round(points * (1 << SHIFT)).astype(np.int32)


def _as_outline(points: Points) -> Outline:
    return tuple((round(float(x), 2), round(float(y), 2)) for x, y in points)
