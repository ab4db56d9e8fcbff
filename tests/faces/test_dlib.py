"""dlib's detectors, which only audit, on a face that everybody with scikit-image has."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from pydantic import ValidationError

from p3m_data.arrays import UInt8Array
from p3m_data.errors import MissingExtra
from p3m_data.faces.detectors import (
    AUDITORS,
    DETECTORS,
    SCORE,
    WITHOUT_WEIGHTS,
    Detector,
    guessed_points,
    load_auditor,
)
from p3m_data.faces.proposals import box_iou
from p3m_data.stages.detect import DetectConfig
from p3m_data.storage.weights import resolve
from tests.faces.conftest import FACE


@pytest.fixture(scope="module", params=AUDITORS)
def auditor(request: pytest.FixtureRequest) -> Detector:
    pytest.importorskip("dlib")
    name = request.param
    return load_auditor(name, None if name in WITHOUT_WEIGHTS else resolve(name))


def test_the_face_is_found_where_it_is(auditor: Detector, astronaut: UInt8Array) -> None:
    before = astronaut.copy()
    found = auditor(astronaut)
    best = max(found, key=lambda row: row[SCORE])
    assert box_iou(best[:4], FACE) > 0.4
    assert best[SCORE] >= auditor.accept
    assert ((found[:, SCORE] >= 0) & (found[:, SCORE] <= 1)).all()
    np.testing.assert_array_equal(astronaut, before)


def test_the_face_moves_with_the_picture(auditor: Detector, astronaut: UInt8Array) -> None:
    head = astronaut[:320, 60:380]
    moved = np.pad(head, ((32, 0), (48, 0), (0, 0)), mode="edge")
    before, after = (max(auditor(i), key=lambda row: row[SCORE]) for i in (head, moved))
    assert np.abs(after[:4] - before[:4] - [48, 32, 48, 32]).max() < 12


def test_a_view_that_is_not_contiguous(auditor: Detector, astronaut: UInt8Array) -> None:
    mirrored = astronaut[:, ::-1]
    best = max(auditor(mirrored), key=lambda row: row[SCORE])
    assert box_iou(best[:4], (512 - FACE[2], FACE[1], 512 - FACE[0], FACE[3])) > 0.4


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (20, 21), (17, 200), (120, 33), (64, 64)])
def test_nobody_in_a_plain_picture(auditor: Detector, shape: tuple[int, int]) -> None:
    assert auditor(np.full((*shape, 3), 90, np.uint8)).shape == (0, SCORE + 1)


def test_guessed_points_lie_in_their_boxes_left_eye_first() -> None:
    boxes = np.array([[10.0, 20.0, 50.0, 80.0], [-5.0, 0.0, 5.0, 4.0]])
    points = guessed_points(boxes).reshape(2, 5, 2)
    for box, face in zip(boxes, points, strict=True):
        assert (face > box[:2]).all()
        assert (face < box[2:]).all()
        eye, other_eye, nose, mouth, other_mouth = face
        assert eye[0] < other_eye[0]
        assert mouth[0] < other_mouth[0]
        assert eye[1] < nose[1] < mouth[1]


def test_nobody_anonymizes_with_them() -> None:
    assert not AUDITORS.keys() & DETECTORS.keys()
    with pytest.raises(ValidationError, match="unknown detector dlib_hog"):
        DetectConfig(detectors=("dlib_hog",))


@pytest.mark.parametrize("name", AUDITORS)
def test_without_dlib(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingExtra, match=r'pip install "p3mdata\[audit\]"'):
        load_auditor(name, None)
