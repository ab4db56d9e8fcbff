"""Faces and pictures made by hand."""

from __future__ import annotations

import numpy as np

from p3m_data.arrays import UInt8Array
from p3m_data.faces.private_area import ellipse_outline
from p3m_data.stages.detect import Found
from p3m_data.types import Box, Face, Reason


def face(box: Box, *, how: str = "landmarks", detectors: tuple[str, ...] = ("d",)) -> Face:
    """A face whose outline is an ellipse in `box`."""
    return Face(box=box, score=0.9, detectors=detectors, how=how, outline=ellipse_outline(box, margin=0.0))  # type: ignore[arg-type]


def found(box: Box, reason: Reason | None = None) -> Found:
    return Found(face(box, how="none" if reason else "landmarks"), reason)


def photograph(seed: int, shape: tuple[int, int]) -> UInt8Array:
    """Noise of several scales, as detailed as a photograph."""
    random = np.random.default_rng(seed)
    image = np.full((*shape, 3), 128.0)
    for cell in (32, 8, 2):
        coarse = random.normal(0, 18, (-(-shape[0] // cell), -(-shape[1] // cell), 3))
        image += coarse.repeat(cell, axis=0).repeat(cell, axis=1)[: shape[0], : shape[1]]
    return np.clip(image, 0, 255).astype(np.uint8)
