"""Landmarkers, one file each: a crop that shows a face -> the outline points of every face seen in it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from p3m_data.arrays import UInt8Array
from p3m_data.faces.private_area import Points
from p3m_data.types import Outline

# name -> (module, class, weights in the registry)
LANDMARKERS: Mapping[str, tuple[str, str, str]] = {
    "mediapipe": ("p3m_data.faces.landmarkers.mediapipe", "MediaPipeLandmarker", "face_landmarker"),
    "face-alignment": ("p3m_data.faces.landmarkers.face_alignment", "FaceAlignmentLandmarker", "fan"),
}


class Landmarker(Protocol):
    eyes: tuple[int, int]
    """Indices of the outer corners of the eyes, the one on the image's left first."""

    def __call__(self, crop: UInt8Array) -> list[Points]:
        """Landmarks of each face in an upright (N, N, 3) uint8 RGB crop, in pixels of the crop."""
        ...

    def outline(self, looks: list[Points]) -> Outline:
        """The private area that several looks at one face give together."""
        ...


def load_landmarker(name: str, weights: Path) -> Landmarker:
    module, kind, _ = LANDMARKERS[name]
    return cast(Landmarker, getattr(import_module(module), kind)(weights))
