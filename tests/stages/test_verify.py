"""Verify: every check fails when what it guards against is done to a good result."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.faces.detectors import SCORE, Detections, no_detections
from p3m_data.faces.private_area import private_area
from p3m_data.stages.blur import BlurConfig, blur
from p3m_data.stages.verify import VerifyConfig, finding, verify
from p3m_data.types import Box, Check, Face, Reason
from tests.stages.faces import face, photograph

SHAPE = (320, 400)
HERE, THERE = (60, 60, 160, 200), (260, 100, 340, 200)
CONFIG = VerifyConfig()


class Seen:
    """A detector that sees faces at the boxes told, in pixels of the picture."""

    accept = 0.5
    support = 0.3
    hint = 0.3
    whole_only = False

    def __init__(self, *boxes: Box) -> None:
        self.boxes = boxes

    def __call__(self, image: UInt8Array) -> Detections:
        if not self.boxes:
            return no_detections()
        found = np.zeros((len(self.boxes), SCORE + 1))
        found[:, :4] = np.array(self.boxes) * (image.shape[1] / SHAPE[1])
        found[:, SCORE] = 0.9
        return found


class Good:
    """A picture whose one face is masked and blurred."""

    def __init__(self) -> None:
        self.face = face(HERE)
        self.source = photograph(0, SHAPE)
        self.mask: BoolArray = private_area([self.face.outline], SHAPE)
        self.transition = np.zeros(SHAPE, bool)
        self.transition[:40] = True
        result = blur(self.source, self.mask, [self.face], BlurConfig())
        self.written = result.pixels.copy()

    def verify(self, *seen: Box, lossless: bool = True, faces: list[Face] | None = None) -> tuple[Check, ...]:
        return verify(
            self.source,
            self.written,
            self.mask,
            self.transition,
            [self.face] if faces is None else faces,
            {"seen": Seen(*seen)},
            CONFIG,
            lossless=lossless,
        )


@pytest.fixture
def good() -> Good:
    return Good()


def told(checks: tuple[Check, ...]) -> tuple[Reason, str] | None:
    """The finding without the limit."""
    worst = finding(checks)
    return worst and (worst[0], worst[1].partition(", at most")[0])


def failed(checks: tuple[Check, ...]) -> set[str]:
    return {c.name for c in checks if not c.passed}


@pytest.mark.parametrize("lossless", [True, False])
def test_a_good_result_passes(good: Good, lossless: bool) -> None:
    checks = good.verify(lossless=lossless)
    assert failed(checks) == set()
    assert finding(checks) is None
    assert {"transition_untouched", "detail_left", "faces_left"} < {c.name for c in checks}


@pytest.mark.parametrize("channel", [0, 1, 2])
@pytest.mark.parametrize("place", [(0, 0), (319, 399), (130, 210), (10, 200)])
def test_one_level_of_one_pixel_outside_is_found(good: Good, place: tuple[int, int], channel: int) -> None:
    good.written[(*place, channel)] ^= 1
    checks = good.verify()
    assert failed(checks) == {"outside_identical"}
    assert told(checks) == (Reason.NOT_AS_WRITTEN, "outside_identical is 1 in the written file")


def test_mask_on_the_transition_area(good: Good) -> None:
    good.transition[100, 110] = True
    checks = good.verify()
    assert failed(checks) == {"transition_untouched"}
    assert told(checks) == (Reason.NOT_AS_WRITTEN, "1 pixels of hair or other fine edges would be changed")


@pytest.mark.parametrize("lossless", [True, False])
def test_face_that_was_not_blurred(good: Good, lossless: bool) -> None:
    good.written = good.source.copy()
    checks = good.verify(lossless=lossless)
    assert failed(checks) == {"detail_left"}
    reason, said = finding(checks) or (None, "")
    assert reason is Reason.FACE_REMAINS
    assert said == "facial detail can still be made out under the mask"


def test_half_a_face_left_sharp(good: Good) -> None:
    good.written[:130] = good.source[:130]
    assert failed(good.verify()) == {"detail_left"}


def test_one_of_two_faces_forgotten(good: Good) -> None:
    assert failed(good.verify(faces=[good.face, face(THERE)])) == {"detail_left"}


def test_face_that_nobody_masked(good: Good) -> None:
    checks = good.verify(HERE, THERE)
    assert failed(checks) == {"faces_left"}
    assert told(checks) == (Reason.FACE_REMAINS, "something that looks like a face is not masked (1 found)")


@pytest.mark.parametrize("box", [HERE, (50, 50, 170, 205), (80, 90, 140, 170), (70, 40, 150, 160)])
def test_a_blurred_head_is_still_a_head(good: Good, box: Box) -> None:
    assert failed(good.verify(box)) == set()


def jpeg(image: UInt8Array, quality: int) -> UInt8Array:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return np.array(Image.open(buffer))


def test_a_second_jpeg_with_the_same_tables_passes(good: Good) -> None:
    smooth = cv2.GaussianBlur(good.source, (0, 0), 1.5)
    good.source = jpeg(smooth, 92)
    good.written = jpeg(blur(good.source, good.mask, [good.face], BlurConfig()).pixels, 92)
    assert failed(good.verify(lossless=False)) <= {"outside_mean"}
    far = np.abs(good.written.astype(int) - good.source)[:, 200:]
    assert far.mean() < 1  # what is left is rounding


def test_a_worse_jpeg_fails(good: Good) -> None:
    good.written = jpeg(good.written, 30)
    assert {"outside_mean", "outside_changed"} <= failed(good.verify(lossless=False))


def test_a_patch_changed_in_a_jpeg(good: Good) -> None:
    good.written[200:210, 300:310] = 0
    assert "outside_changed" in failed(good.verify(lossless=False))


def test_change_beside_the_mask_is_the_jpegs_own(good: Good) -> None:
    beside = (cv2.dilate(good.mask.astype(np.uint8), np.ones((33, 33))) == 1) & ~good.mask
    good.written[beside] ^= 31
    assert failed(good.verify(lossless=False)) == set()


def test_another_size_is_not_compared(good: Good) -> None:
    good.written = good.written[:-1]
    checks = good.verify()
    assert [c.name for c in checks] == ["size"]
    reason, _ = finding(checks) or (None, "")
    assert reason is Reason.NOT_AS_WRITTEN


def test_a_face_is_worse_than_a_changed_pixel(good: Good) -> None:
    good.written = good.source.copy()
    good.written[0, 0] ^= 1
    reason, _ = finding(good.verify()) or (None, "")
    assert reason is Reason.FACE_REMAINS


def test_mask_over_all_leaves_nothing_to_compare(good: Good) -> None:
    good.mask = np.ones(SHAPE, bool)
    good.transition[:] = False
    good.written = blur(good.source, good.mask, [good.face], BlurConfig()).pixels
    assert failed(good.verify(lossless=False)) == set()


def test_a_mask_that_spares_most_of_a_face_does_not_hide_it(good: Good) -> None:
    """Detail is looked for under the mask, but not only there when the mask is elsewhere."""
    good.mask[110:] = False
    good.written = blur(good.source, good.mask, [good.face], BlurConfig()).pixels
    assert "detail_left" in failed(good.verify())
