"""The real networks on a picture that everybody with scikit-image has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from p3m_data.arrays import UInt8Array
from p3m_data.faces.detectors import DETECTORS, SCORE, Detector, load_detector
from p3m_data.faces.landmarkers import Landmarker
from p3m_data.faces.landmarks import LandmarkConfig, locate
from p3m_data.faces.proposals import ProposalConfig, box_iou, propose
from p3m_data.types import Box
from tests.faces.conftest import FACE

NETWORKS = [
    pytest.param(name, marks=pytest.mark.portraits) if name == "yunet" else name for name in DETECTORS
]


@pytest.fixture(params=NETWORKS)
def detector(request: pytest.FixtureRequest, detectors: dict[str, Detector]) -> Detector:
    name = request.param
    if name in detectors:
        return detectors[name]
    test_data: Path = request.getfixturevalue("test_data")
    return load_detector(name, test_data / "weights" / "yunet_n_dynamic.onnx")


def turned_box(box: Box, quarter: int, size: int) -> Box:
    """Where `box` of a square picture goes when the picture is turned with `np.rot90(picture, quarter)`."""
    for _ in range(quarter):
        x0, y0, x1, y1 = box
        box = (y0, size - 1 - x1, y1, size - 1 - x0)
    return box


def test_one_detector_finds_the_face(detector: Detector, astronaut: UInt8Array) -> None:
    small = cv2.resize(astronaut, (320, 320), interpolation=cv2.INTER_AREA)
    found = detector(small)
    best = found[found[:, SCORE].argmax()]
    assert best[SCORE] >= detector.accept
    assert box_iou(best[:4], np.array(FACE) * 320 / 512) > 0.5
    left_eye, right_eye, nose, *mouth = best[4:SCORE].reshape(5, 2)
    assert left_eye[0] < nose[0] < right_eye[0]
    assert all(left_eye[1] < nose[1] < corner[1] for corner in mouth)


def test_detections_follow_the_picture(detector: Detector, astronaut: UInt8Array) -> None:
    """A picture 40 pixels to the right and 24 down: the same face, so far further, in pixels of the new picture."""
    small = cv2.resize(astronaut, (320, 320), interpolation=cv2.INTER_AREA)
    moved = cv2.copyMakeBorder(small[:296, :280], 24, 0, 40, 0, cv2.BORDER_REPLICATE)
    before, after = (max(detector(i), key=lambda row: row[SCORE]) for i in (small, moved))
    shift = np.tile([40, 24], 7)
    assert np.abs(after[:SCORE] - before[:SCORE] - shift).max() < 9


@pytest.mark.parametrize("shape", [(1, 1), (17, 300), (250, 33), (64, 64)])
def test_odd_sizes_show_nobody(detector: Detector, shape: tuple[int, int]) -> None:
    found = detector(np.full((*shape, 3), 90, np.uint8))
    assert found.shape == (0, SCORE + 1)


def test_input_is_left_alone(detector: Detector, astronaut: UInt8Array) -> None:
    before = astronaut.copy()
    view = astronaut[::-1][:, ::-1]  # not contiguous
    detector(view)
    np.testing.assert_array_equal(astronaut, before)


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_face_is_found_turned(
    quarter: int,
    astronaut: UInt8Array,
    detectors: dict[str, Detector],
    landmarkers: dict[str, Landmarker],
) -> None:
    image = np.ascontiguousarray(np.rot90(astronaut, quarter))
    best, *_ = propose(image, detectors, ProposalConfig())
    box = turned_box(FACE, quarter, 512)
    assert box_iou(best.box, box) > 0.5
    off = (best.angle + quarter * np.pi / 2 + np.pi) % (2 * np.pi) - np.pi
    assert abs(off) < 0.9  # what an upright look says of a lying face is rough
    located = locate(image, best, landmarkers, LandmarkConfig())
    assert located.verdict == "trusted"
    middle = np.mean(located.outline, axis=0)
    assert box[0] < middle[0] < box[2]
    assert box[1] < middle[1] < box[3]


@pytest.mark.parametrize(("width", "side"), [(20, 1000), (24, 1600), (40, 2000)])
def test_small_face_in_a_big_picture(
    width: int, side: int, astronaut: UInt8Array, detectors: dict[str, Detector]
) -> None:
    factor = width / (FACE[2] - FACE[0])
    head = cv2.resize(astronaut[:260, 80:360], None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    image = np.full((side, side, 3), 120, np.uint8)
    x, y = side // 3, side // 2
    image[y : y + head.shape[0], x : x + head.shape[1]] = head
    expected = np.array([FACE[0] - 80, FACE[1], FACE[2] - 80, FACE[3]]) * factor + [x, y, x, y]
    found = propose(image, detectors, ProposalConfig())
    assert max((box_iou(p.box, expected) for p in found), default=0) > 0.4


def test_two_faces_side_by_side(astronaut: UInt8Array, detectors: dict[str, Detector]) -> None:
    head = astronaut[20:240, 140:310]
    image = np.ascontiguousarray(np.hstack([head, head[:, ::-1]]))
    found = propose(image, detectors, ProposalConfig())
    first = (FACE[0] - 140, FACE[1] - 20, FACE[2] - 140, FACE[3] - 20)
    second = (340 - first[2], first[1], 340 - first[0], first[3])
    for expected in (first, second):
        assert max(box_iou(p.box, expected) for p in found) > 0.5


def test_nobody_in_noise(detectors: dict[str, Detector]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)
    assert propose(noise, detectors, ProposalConfig()) == []


def test_the_core_never_imports_torch() -> None:
    """Every module of the package but the one that is about torch, in a process where torch cannot be had."""
    code = """
import pkgutil, sys
sys.modules["torch"] = None
import p3m_data
for module in pkgutil.walk_packages(p3m_data.__path__, "p3m_data."):
    __import__(module.name)
loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
assert not loaded & {"torch", "face_alignment", "numba"}, loaded
assert "p3m_data.faces.landmarkers.face_alignment" in sys.modules
"""
    environment = {**os.environ, "P3MDATA_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
