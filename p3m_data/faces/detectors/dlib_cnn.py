"""dlib's CNN face detector (max-margin object detection; King, arXiv 1502.00046).

It sees faces of about 40 pixels and more, turned ones too. On a processor it costs a second for half a
megapixel, so callers bound the pixels that they show it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from p3m_data.arrays import UInt8Array
from p3m_data.errors import MissingExtra
from p3m_data.faces.detectors import SCORE, Detections, guessed_points, no_detections

SMALLEST = 20  # a side with fewer pixels shows no face that it sees, and with very few dlib raises
SURE = 1.1  # the confidence of a clear face; more than this counts as the score 1


class DlibCnn:
    accept = 0.75
    support = 0.4
    hint = 0.4
    whole_only = False

    def __init__(self, weights: Path) -> None:
        """Raises `MissingExtra` without dlib."""
        try:
            import dlib
        except ImportError as error:
            raise MissingExtra("dlib-bin", "audit") from error
        self._detector = dlib.cnn_face_detection_model_v1(str(weights))

    def __call__(self, image: UInt8Array) -> Detections:
        if min(image.shape[:2]) < SMALLEST:
            return no_detections()
        faces = self._detector(np.ascontiguousarray(image), 0)
        if not len(faces):
            return no_detections()
        found = np.zeros((len(faces), SCORE + 1))
        for row, face in zip(found, faces, strict=True):
            box = face.rect
            row[:4] = box.left(), box.top(), box.right() + 1, box.bottom() + 1
            row[SCORE] = np.clip(face.confidence / SURE, 0, 1)
        found[:, 4:SCORE] = guessed_points(found[:, :4])
        return found
