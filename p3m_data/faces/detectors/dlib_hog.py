"""dlib's frontal face detector (Dalal and Triggs' HOG with a support vector machine; King, JMLR 2009).

It is trained into the library, so it has no weights of its own. It sees upright faces of about 80 pixels and
more, and shares neither its method nor its training pictures with the networks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from p3m_data.arrays import UInt8Array
from p3m_data.errors import MissingExtra
from p3m_data.faces.detectors import SCORE, Detections, guessed_points, no_detections

FLOOR = -0.2  # margins of the support vector machine below this are noise
WIDEST = 2.0  # a margin of this and more counts as the score 1


class DlibHog:
    accept = 0.25
    support = 0.1
    hint = 0.1
    whole_only = False

    def __init__(self, _weights: Path | None = None) -> None:
        """Raises `MissingExtra` without dlib."""
        try:
            import dlib
        except ImportError as error:
            raise MissingExtra("dlib-bin", "audit") from error
        self._detector = dlib.get_frontal_face_detector()

    def __call__(self, image: UInt8Array) -> Detections:
        boxes, margins, _ = self._detector.run(np.ascontiguousarray(image), 0, FLOOR)
        if not len(boxes):
            return no_detections()
        found = np.zeros((len(boxes), SCORE + 1))
        for row, box, margin in zip(found, boxes, margins, strict=True):
            row[:4] = box.left(), box.top(), box.right() + 1, box.bottom() + 1
            row[SCORE] = np.clip((margin - FLOOR) / (WIDEST - FLOOR), 0, 1)
        found[:, 4:SCORE] = guessed_points(found[:, :4])
        return found
