"""BlazeFace, short range (Bazarevsky et al., arXiv 1907.05047), run by MediaPipe Tasks.

It looks at 128 x 128 pixels whatever it is given, so it sees faces of about a seventh of the view or more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions, vision

from p3m_data.arrays import UInt8Array
from p3m_data.faces.detectors import SCORE, Detections, no_detections
from p3m_data.faces.tasks import close_with

FLOOR = 0.3


class BlazeFace:
    accept = 0.75
    support = 0.4
    hint = 0.5
    whole_only = True

    def __init__(self, weights: Path) -> None:
        options = vision.FaceDetectorOptions(
            base_options=BaseOptions(model_asset_path=str(weights)), min_detection_confidence=FLOOR
        )
        self._detector = vision.FaceDetector.create_from_options(options)
        self.close = close_with(self, self._detector)

    def __call__(self, image: UInt8Array) -> Detections:
        height, width = image.shape[:2]
        frame = Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(image))
        faces = self._detector.detect(frame).detections
        if not faces:
            return no_detections()
        found = np.zeros((len(faces), 15))
        for row, face in zip(found, faces, strict=True):
            box = face.bounding_box
            row[:4] = box.origin_x, box.origin_y, box.origin_x + box.width, box.origin_y + box.height
            # eyes, nose tip, mouth centre; the mouth's corners are not given
            eyes_nose_mouth = [(p.x * width, p.y * height) for p in face.keypoints[:4]]
            row[4:14] = np.ravel([*eyes_nose_mouth, eyes_nose_mouth[3]])
            row[SCORE] = face.categories[0].score
        return found
