"""Which faces of a published picture are masked: the ledger's, or else the parts of its facemask."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from p3m_data.arrays import BoolArray, FloatArray
from p3m_data.faces.private_area import ellipse_outline, private_area
from p3m_data.inspection.sightings import same_face
from p3m_data.types import Box, Face, Outline

INNER = -0.4  # margin of the ellipse in a box by which a face counts as masked: eyes to mouth
COVERED = 0.3  # share of the inner face; masks leave hair free
TOUCHED = 0.1  # share of a face in the ledger that must be masked for it to explain anything
SPECK = 16  # pixels of a mask's part; smaller ones are what hair left of a face


def known_faces(faces: Sequence[Face], mask: BoolArray) -> list[tuple[Box, str, Outline]]:
    """Box, kind and outline of each masked face: of the ledger's, if their masks are there, else of the mask's parts.

    A part that is one of the ledger's faces, or lies in its box, is not told twice.
    """
    known = []
    for face in faces:
        outline = face.outline or ellipse_outline(face.box, 0.0)
        area = private_area([outline], mask.shape)
        if face.how != "none" and (area & mask).sum() > TOUCHED * area.sum():
            known.append((face.box, str(face.how), outline))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    for part in range(1, count):
        x, y, wide, high, pixels = (int(v) for v in stats[part])
        box = (float(x), float(y), float(x + wide), float(y + high))
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        if pixels < SPECK or any(same_face(b, box) or _holds(b, middle) for b, _, _ in known):
            continue
        cut = (labels[y : y + high, x : x + wide] == part).astype(np.uint8)
        contours, _ = cv2.findContours(cut, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        ring = cv2.convexHull(np.concatenate(contours)).reshape(-1, 2) + np.array([x, y])
        if len(ring) > 2:
            known.append((box, "facemask", tuple((float(px), float(py)) for px, py in ring)))
    return known


def is_masked(box: Box, known: Sequence[Box], mask: BoolArray) -> bool:
    """Whether a detection is a masked face: one of `known`, or most of its inner part is masked."""
    if any(same_face(face, box) for face in known):
        return True
    inner = private_area([ellipse_outline(box, INNER)], mask.shape)
    return bool((inner & mask).sum() >= COVERED * max(int(inner.sum()), 1))


def mean_alpha(alpha: FloatArray | None, box: Box) -> float | None:
    """Mean of `alpha` ((H, W) float32) over the ellipse in `box`; None where nothing of it is on the picture."""
    if alpha is None:
        return None
    inner = private_area([ellipse_outline(box, INNER)], alpha.shape)
    return float(alpha[inner].mean()) if inner.any() else None


def _holds(box: Box, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]
