"""Who a face is: dlib's 128-number embedding, as an attacker would compute it.

A residual network trained on three million faces (dlib_face_recognition_resnet_model_v1); two faces closer
than about 0.6 are usually one person's. It sees a chip: the face turned upright and scaled by the corners of
its eyes and its nose, with a quarter of its size around, so with forehead and some hair.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from p3m_data.arrays import BoolArray, UInt8Array, check_image
from p3m_data.errors import MissingExtra
from p3m_data.types import Box

CHIP = 150  # pixels: the network's input side
PADDING = 0.25  # what the network was trained with
LENGTH = 128

Embeddings = npt.NDArray[np.float64]


class Alignment(NamedTuple):
    """Where a chip lies in its picture; dlib's own object."""

    details: Any

    def chip(self, image: UInt8Array) -> UInt8Array:
        """(CHIP, CHIP, 3) uint8 of `image`, (H, W, 3) uint8; black where it reaches over the border."""
        cut: UInt8Array = _dlib().extract_image_chip(np.ascontiguousarray(check_image(image)), self.details)
        return cut

    def mask(self, mask: BoolArray) -> BoolArray:
        """(CHIP, CHIP) bool: where the chip shows a pixel of `mask`, (H, W) bool."""
        spread = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
        return np.asarray(self.chip(spread)[..., 0] > 0)


class Embedder:
    """`embedding` and `five_points`: the files of the weights `dlib_embedding` and `dlib_five_points`."""

    def __init__(self, embedding: Path, five_points: Path) -> None:
        dlib = _dlib()
        self._network = dlib.face_recognition_model_v1(str(embedding))
        self._predictor = dlib.shape_predictor(str(five_points))

    def align(self, image: UInt8Array, box: Box) -> Alignment:
        """How to cut the face in `box` out of `image`, (H, W, 3) uint8, or out of another version of it."""
        dlib = _dlib()
        x0, y0, x1, y1 = box
        # the predictor was trained on square boxes
        half = (x1 - x0 + y1 - y0) / 4
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        square = dlib.rectangle(*(round(v) for v in (x - half, y - half, x + half, y + half)))
        points = self._predictor(np.ascontiguousarray(check_image(image)), square)
        return Alignment(dlib.get_face_chip_details(points, CHIP, PADDING))

    def __call__(self, chips: Sequence[UInt8Array]) -> Embeddings:
        """(N, 128) float64 of N chips, each (CHIP, CHIP, 3) uint8."""
        if not chips:
            return np.zeros((0, LENGTH))
        batch = [np.ascontiguousarray(chip) for chip in chips]
        return np.array(self._network.compute_face_descriptor(batch), dtype=np.float64)


def _dlib() -> Any:
    try:
        import dlib
    except ImportError as error:
        raise MissingExtra("dlib-bin", "audit") from error
    return dlib
