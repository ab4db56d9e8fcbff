"""Detect: what becomes of a proposal, with networks of a test's own and with the real ones."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from p3m_data.arrays import UInt8Array
from p3m_data.faces.detectors import SCORE, Detections, Detector, no_detections
from p3m_data.faces.landmarkers import Landmarker
from p3m_data.faces.private_area import Points, outline_box, private_area
from p3m_data.faces.proposals import box_iou
from p3m_data.stages.blur import BlurConfig, blur
from p3m_data.stages.detect import DetectConfig, Models, detect
from p3m_data.types import Outline, Reason
from tests.faces.conftest import FACE
from tests.stages.faces import photograph

UPRIGHT = DetectConfig.model_validate({"proposals": {"turned": False}})
BOX = (100.0, 80.0, 180.0, 180.0)


class Fixed:
    """Sees one face at `BOX` of a picture of 320 x 320 pixels, with the score told."""

    accept = 0.4
    support = 0.3
    hint = 0.3
    whole_only = True

    def __init__(self, score: float, *, again: bool = True) -> None:
        self.score = score
        self.again = again
        self.seen = 0

    def __call__(self, image: UInt8Array) -> Detections:
        found = np.zeros((1, SCORE + 1))
        if image.shape[:2] == (320, 320):
            found[0, :4] = BOX
        elif image.shape[:2] == (256, 256) and self.again:  # the closer look at the middle
            found[0, :4] = 64, 64, 192, 192
        else:
            return no_detections()
        x0, y0, x1, y1 = found[0, :4]
        points = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
        found[0, 4:SCORE] = np.ravel([(x0 + a * (x1 - x0), y0 + b * (y1 - y0)) for a, b in points])
        found[0, SCORE] = self.score
        return found


class Blind:
    eyes = (0, 1)

    def __call__(self, crop: UInt8Array) -> list[Points]:  # noqa: ARG002
        return []

    def outline(self, looks: list[Points]) -> Outline:
        raise AssertionError(f"an outline of {len(looks)} looks that never were")


def models(detector: Fixed) -> Models:
    return Models({"fixed": detector}, {"blind": Blind()})


def test_proposal_without_landmarks_is_kept_with_a_suggestion() -> None:
    (only,) = detect(photograph(0, (320, 320)), models(Fixed(0.9)), UPRIGHT)
    face = only.face
    assert only.reason is Reason.NO_LANDMARKS
    assert face.how == "none"
    assert face.box == BOX
    assert face.detectors == ("fixed",)
    assert face.score == 0.9
    assert box_iou(outline_box(face.outline), BOX) > 0.75


@pytest.mark.parametrize(("score", "again", "kept"), [(0.5, True, 1), (0.5, False, 0), (0.9, False, 1)])
def test_only_weak_proposals_that_nobody_sees_again_are_dropped(score: float, again: bool, kept: int) -> None:
    assert len(detect(photograph(0, (320, 320)), models(Fixed(score, again=again)), UPRIGHT)) == kept


def test_nobody_there() -> None:
    assert detect(photograph(0, (100, 140)), models(Fixed(0.9)), UPRIGHT) == []


@pytest.fixture(scope="module")
def networks(detectors: dict[str, Detector], landmarkers: dict[str, Landmarker]) -> Models:
    return Models(detectors, landmarkers)


def test_face_of_a_photograph(astronaut: UInt8Array, networks: Models) -> None:
    first, *others = detect(astronaut, networks, DetectConfig())
    assert first.reason is None
    assert first.face.how == "landmarks"
    assert first.face.detectors == ("blazeface", "centerface")
    assert box_iou(first.face.box, FACE) > 0.5
    assert all(f.reason is None or f.face.score < first.face.score for f in others)


def test_face_that_is_already_blurred_is_nobody_or_asked_about(
    astronaut: UInt8Array, networks: Models
) -> None:
    visible = detect(astronaut, networks, DetectConfig())[0].face
    area = private_area([visible.outline], astronaut.shape)
    blurred = blur(astronaut, area, [visible], BlurConfig(method="gaussian")).pixels
    there = [f for f in detect(blurred, networks, DetectConfig()) if box_iou(f.face.box, FACE) > 0.4]
    assert all(f.reason is not None for f in there)


def test_detection_is_deterministic(astronaut: UInt8Array, networks: Models) -> None:
    small = np.ascontiguousarray(astronaut[:260, 100:360])
    assert detect(small, networks, DetectConfig()) == detect(small, networks, DetectConfig())


def test_unknown_detector_is_named() -> None:
    with pytest.raises(
        ValidationError, match="unknown detector haar; there are centerface, blazeface, yunet"
    ):
        DetectConfig(detectors=("haar",))


def test_detectors_count_once_and_one_is_needed() -> None:
    assert DetectConfig(detectors=("yunet", "centerface", "yunet")).detectors == ("yunet", "centerface")
    with pytest.raises(ValidationError):
        DetectConfig(detectors=())


@pytest.mark.parametrize(
    ("landmarks", "expected"),
    [
        ("mediapipe", ("mediapipe",)),
        ("face-alignment", ("face-alignment",)),
        ("both", ("mediapipe", "face-alignment")),
    ],
)
def test_landmarkers(landmarks: str, expected: tuple[str, ...]) -> None:
    assert DetectConfig.model_validate({"landmarks": landmarks}).landmarkers == expected
