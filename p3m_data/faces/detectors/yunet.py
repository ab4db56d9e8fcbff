"""YuNet (Wu et al., Machine Intelligence Research 2023), run by OpenCV's FaceDetectorYN."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from p3m_data.arrays import UInt8Array
from p3m_data.faces.detectors import Detections, no_detections

FLOOR = 0.3
OVERLAP = 0.3


class YuNet:
    accept = 0.75
    support = 0.45
    hint = 0.6
    whole_only = False

    def __init__(self, weights: Path) -> None:
        self._detector = cv2.FaceDetectorYN.create(str(weights), "", (320, 320), FLOOR, OVERLAP, 5000)

    def __call__(self, image: UInt8Array) -> Detections:
        self._detector.setInputSize((image.shape[1], image.shape[0]))
        faces = self._detector.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
        if faces is None:
            return no_detections()
        found: Detections = faces.astype(np.float64)
        found[:, 2:4] += found[:, 0:2]
        return found
