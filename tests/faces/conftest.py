"""Networks and a known face, loaded once."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from p3m_data.arrays import UInt8Array
from p3m_data.faces.detectors import Detector, load_detector
from p3m_data.faces.landmarkers import Landmarker, load_landmarker
from p3m_data.faces.private_area import Points
from p3m_data.storage.weights import ensure

FACE = (172.0, 64.0, 270.0, 196.0)
"""The astronaut's face, measured by hand."""

cv2.setNumThreads(1)


@pytest.fixture(scope="session")
def weights() -> dict[str, Path]:
    return ensure(["face_landmarker", "blazeface", "centerface"])


@pytest.fixture(scope="session")
def detectors(weights: dict[str, Path]) -> dict[str, Detector]:
    return {name: load_detector(name, weights[name]) for name in ("centerface", "blazeface")}


@pytest.fixture(scope="session")
def landmarkers(weights: dict[str, Path]) -> dict[str, Landmarker]:
    return {"mediapipe": load_landmarker("mediapipe", weights["face_landmarker"])}


@pytest.fixture(scope="session")
def astronaut() -> UInt8Array:
    """(512, 512, 3) uint8: one upright face, at `FACE`."""
    return np.ascontiguousarray(data.astronaut())


@pytest.fixture(scope="session")
def astronaut_mesh(astronaut: UInt8Array, landmarkers: dict[str, Landmarker]) -> Points:
    """(478, 2): the mesh of the astronaut's face in pixels of the picture's top left part."""
    (mesh,) = landmarkers["mediapipe"](astronaut[:300, 70:370])
    return mesh
