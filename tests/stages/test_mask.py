"""The adjusted mask: what it may never touch, and when a person is asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.arrays import FloatArray
from p3m_data.faces.private_area import private_area
from p3m_data.matte.transition import transition_area
from p3m_data.stages.detect import Found
from p3m_data.stages.mask import MaskConfig, mask
from p3m_data.types import Reason
from tests.stages.faces import found

SHAPE = (160, 200)
CONFIG = MaskConfig()
NEAR, FAR = (60, 30, 120, 110), (150, 20, 180, 60)


def half(x: int, value: float = 1.0) -> FloatArray:
    """Alpha 0 left of `x` and `value` from there on."""
    alpha = np.zeros(SHAPE, np.float32)
    alpha[:, x:] = value
    return alpha


def subject_left_of(x: int) -> FloatArray:
    return np.asarray(1 - half(x))


def some_alpha(seed: int) -> FloatArray:
    """A subject with a soft border and soft spots anywhere."""
    random = np.random.default_rng(seed)
    i, j = np.mgrid[: SHAPE[0], : SHAPE[1]]
    centre, radius, soft = random.random(2) * SHAPE, random.random() * 150, random.random() * 40 + 0.5
    alpha = np.clip((radius - np.hypot(i - centre[0], j - centre[1])) / soft, 0, 1)
    spots = random.random(SHAPE) < random.random() * 0.05
    return np.where(spots, random.random(SHAPE), alpha).astype(np.float32)


boxes = st.tuples(st.integers(-40, 190), st.integers(-40, 150), st.integers(6, 120), st.integers(6, 120)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
reasons = st.sampled_from(
    [None, None, Reason.NO_LANDMARKS, Reason.LANDMARKS_DISAGREE, Reason.ALREADY_OBFUSCATED]
)
many_found = st.lists(st.builds(found, boxes, reasons), max_size=4)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), faces=many_found)
def test_no_mask_on_the_transition_area(seed: int, faces: list[Found]) -> None:
    alpha = some_alpha(seed)
    masked = mask(faces, alpha, SHAPE, CONFIG)
    assert not (masked.mask & masked.transition).any()
    assert not (masked.mask & (alpha > CONFIG.tolerance + 0.01) & (alpha < 1 - CONFIG.tolerance - 0.01)).any()
    assert not (masked.mask & ~masked.private).any()
    strict = mask(faces, alpha, SHAPE, MaskConfig(tolerance=0.0))
    assert not (strict.mask & (alpha > 0) & (alpha < 1)).any()


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), faces=many_found, with_matte=st.booleans())
def test_every_face_is_masked_or_asked_about(seed: int, faces: list[Found], with_matte: bool) -> None:
    """Fail closed: what is wrong with a face is a problem, unless others' masks or an ellipse cover it."""
    alpha = some_alpha(seed) if with_matte else None
    masked = mask(faces, alpha, SHAPE, CONFIG)
    assert len(masked.faces) <= len(faces)
    unmasked = [f for f in masked.faces if f.how == "none"]
    assert len(masked.problems) >= len(unmasked)
    assert {f.reason for f in faces if f.reason is Reason.ALREADY_OBFUSCATED} <= {
        r for r, _ in masked.problems
    }
    if masked.problems:
        return
    trusted = private_area([f.face.outline for f in faces if f.reason is None], SHAPE)
    if masked.faces:
        assert masked.mask.any()
        for kept in masked.faces:
            area = private_area([kept.outline], SHAPE)
            if kept.how == "landmarks":
                assert (area & masked.mask).sum() >= CONFIG.kept * area.sum()
    assert not (trusted & ~masked.private).any()
    subject = np.zeros(SHAPE, bool) if alpha is None else alpha > CONFIG.tolerance + 0.01
    assert not (masked.mask & ~trusted & subject).any()  # an ellipse takes nothing of the subject


def test_plain_face_without_a_matte() -> None:
    masked = mask([found(NEAR)], None, SHAPE, CONFIG)
    area = private_area([masked.faces[0].outline], SHAPE)
    assert masked.problems == ()
    np.testing.assert_array_equal(masked.private, area)
    assert (area & ~masked.mask).any()  # the band for hair
    assert masked.mask.sum() > 0.85 * area.sum()
    np.testing.assert_array_equal(masked.mask, area & ~masked.transition)


def test_transition_is_the_mattes_widened_with_the_face() -> None:
    alpha = half(100)
    alpha[:, 100:104] = 0.5
    masked = mask([found((20, 30, 120, 150))], alpha, SHAPE, MaskConfig(margin=0.05))
    expected = transition_area(alpha, 5.0, CONFIG.tolerance)
    np.testing.assert_array_equal(masked.transition, expected)


def test_no_face_no_mask() -> None:
    masked = mask([], some_alpha(1), SHAPE, CONFIG)
    assert masked.faces == ()
    assert masked.problems == ()
    assert not masked.mask.any()
    assert not masked.private.any()


def test_hair_across_the_face_asks() -> None:
    alpha = np.ones(SHAPE, np.float32)
    alpha[30:110:4] = 0.5
    masked = mask([found(NEAR)], alpha, SHAPE, CONFIG)
    assert [reason for reason, _ in masked.problems] == [Reason.MASK_TOO_SMALL]
    assert "at (90, 70) can be masked without touching the matte" in masked.problems[0][1]


def test_hair_over_the_eyes_asks_though_most_is_masked() -> None:
    alpha = np.ones(SHAPE, np.float32)
    alpha[60:68] = 0.5
    area = mask([found(NEAR)], np.ones(SHAPE, np.float32), SHAPE, CONFIG).mask
    masked = mask([found(NEAR)], alpha, SHAPE, CONFIG)
    assert (masked.mask & area).sum() > CONFIG.kept * area.sum()
    assert [reason for reason, _ in masked.problems] == [Reason.MASK_TOO_SMALL]
    assert "eyes, nose and mouth" in masked.problems[0][1]


def test_face_off_the_picture_asks() -> None:
    masked = mask([found((-90, 20, -20, 90))], None, SHAPE, CONFIG)
    assert [reason for reason, _ in masked.problems] == [Reason.MASK_TOO_SMALL]


def test_specks_go_by_their_own_face() -> None:
    """What is a speck of a large face is the whole of a small one."""
    masked = mask(
        [found((5, 5, 140, 155)), found((160, 10, 172, 24))], np.ones(SHAPE, np.float32), SHAPE, CONFIG
    )
    assert masked.problems == ()
    assert masked.mask[17, 166]


def test_a_strand_leaves_no_specks() -> None:
    alpha = np.ones(SHAPE, np.float32)
    alpha[:, 62:64] = 0.5
    masked = mask([found(NEAR)], alpha, SHAPE, MaskConfig(margin=0, specks=0.03))
    assert (masked.private & ~masked.transition)[:, :62].any()
    assert not masked.mask[:, :62].any()


@pytest.mark.parametrize("reason", [Reason.NO_LANDMARKS, Reason.LANDMARKS_DISAGREE])
class TestBystander:
    def test_behind_the_subject_gets_an_ellipse(self, reason: Reason) -> None:
        masked = mask([found(NEAR), found(FAR, reason)], subject_left_of(140), SHAPE, CONFIG)
        assert [f.how for f in masked.faces] == ["landmarks", "ellipse"]
        assert masked.problems == ()
        assert masked.mask[40, 165]

    @pytest.mark.parametrize("value", [1.0, 0.5, 8 / 255])
    def test_alone_in_front_of_anything_asks(self, reason: Reason, value: float) -> None:
        alpha = np.zeros(SHAPE, np.float32)
        alpha[40:44, 163:167] = value
        masked = mask([found(FAR, reason)], alpha, SHAPE, CONFIG)
        assert [f.how for f in masked.faces] == ["none"]
        assert [r for r, _ in masked.problems] == [reason]
        assert not masked.mask.any()

    def test_mostly_inside_the_subject_asks(self, reason: Reason) -> None:
        masked = mask([found(NEAR), found(FAR, reason)], subject_left_of(170), SHAPE, CONFIG)
        assert [r for r, _ in masked.problems] == [reason]
        assert not masked.mask[40, 165]

    def test_without_a_matte_asks(self, reason: Reason) -> None:
        masked = mask([found(NEAR), found(FAR, reason)], None, SHAPE, CONFIG)
        assert [r for r, _ in masked.problems] == [reason]
        assert "at (165, 40)" in masked.problems[0][1]

    def test_under_another_faces_mask_needs_none(self, reason: Reason) -> None:
        masked = mask([found(NEAR), found((75, 50, 105, 85), reason)], None, SHAPE, CONFIG)
        assert len(masked.faces) == 1
        assert masked.problems == ()

    def test_partly_under_another_faces_mask_asks(self, reason: Reason) -> None:
        masked = mask([found(NEAR), found((90, 50, 140, 110), reason)], None, SHAPE, CONFIG)
        assert [r for r, _ in masked.problems] == [reason]


def test_already_obfuscated_asks_even_behind_the_subject() -> None:
    hidden = found(FAR, Reason.ALREADY_OBFUSCATED)
    masked = mask([found(NEAR), hidden], subject_left_of(140), SHAPE, CONFIG)
    assert masked.problems == (
        (Reason.ALREADY_OBFUSCATED, "a face at (165, 40) seems to be blurred already"),
    )
    assert not masked.mask[40, 165]
