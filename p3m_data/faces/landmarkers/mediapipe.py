"""MediaPipe FaceLandmarker (Tasks API): 478 points, with its own detector in front.

Given a whole picture it silently misses small faces and all but one of several side by side; so it is
only ever given the crop around one proposal.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions, vision

from p3m_data.arrays import UInt8Array
from p3m_data.faces.private_area import Points, mesh_outline
from p3m_data.faces.tasks import close_with
from p3m_data.types import Outline

SEEN = 0.3  # low: the proposal already says that there is a face
PRESENT = 0.5


class MediaPipeLandmarker:
    eyes = (33, 263)

    def __init__(self, weights: Path) -> None:
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(weights)),
            num_faces=2,
            min_face_detection_confidence=SEEN,
            min_face_presence_confidence=PRESENT,
        )
        self._landmarker = vision.FaceLandmarker.create_from_options(options)
        self.close = close_with(self, self._landmarker)

    def __call__(self, crop: UInt8Array) -> list[Points]:
        height, width = crop.shape[:2]
        frame = Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(crop))
        faces = self._landmarker.detect(frame).face_landmarks
        # normalized coordinates count from the first pixel's corner
        return [np.array([(p.x * width - 0.5, p.y * height - 0.5) for p in face]) for face in faces]

    def outline(self, looks: list[Points]) -> Outline:
        return mesh_outline(looks)
