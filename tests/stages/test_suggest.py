"""What a person is offered, and what becomes of a mask that a person drew."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.arrays import BoolArray, FloatArray
from p3m_data.faces.private_area import face_width, private_area
from p3m_data.stages.blur import LEAST_SIGMA, BlurConfig, blur
from p3m_data.stages.mask import MaskConfig, Masked, drawn, mask, suggest
from p3m_data.types import Reason
from tests.stages.faces import face, found, photograph

SHAPE = (120, 150)
CONFIG = MaskConfig()
FACE = (30, 20, 90, 100)


def nothing() -> Masked:
    return suggest([], None, SHAPE, CONFIG)


def offered(alpha: FloatArray | None = None) -> Masked:
    return suggest([face(FACE)], alpha, SHAPE, CONFIG)


def random_mask(seed: int, shape: tuple[int, int] = SHAPE) -> BoolArray:
    """Noise, blobs, strokes, spirals or filled polygons, with holes and over the border."""
    random = np.random.default_rng(seed)
    height, width = shape
    kind = seed % 5
    area = np.zeros(shape, np.uint8)
    if kind == 0:
        return np.asarray(random.random(shape) < random.choice([0.01, 0.1, 0.4, 0.6, 0.95]))
    if kind == 1:
        hills = cv2.GaussianBlur(random.normal(size=shape), (0, 0), random.uniform(0.7, 6))
        return np.asarray(hills > np.quantile(hills, random.uniform(0.1, 0.9)))
    if kind == 2:
        for _ in range(random.integers(1, 6)):
            points = random.integers(-20, 170, (random.integers(2, 30), 2)).astype(np.int32)
            cv2.polylines(area, [points], False, 1, int(random.integers(1, 9)))
    elif kind == 3:
        turn = np.arange(0, 60, 0.02)
        radius = turn * random.uniform(0.6, 2)
        spiral = np.stack([width / 2 + radius * np.cos(turn), height / 2 + radius * np.sin(turn)], axis=1)
        cv2.polylines(area, [spiral.astype(np.int32)], False, 1, int(random.integers(1, 4)))
    else:
        for _ in range(random.integers(1, 4)):
            points = random.integers(-20, 170, (random.integers(3, 12), 2)).astype(np.int32)
            cv2.fillPoly(area, [points], 1)
        area &= random.random(shape) < random.choice([0.9, 1])
    return area.astype(bool)


def some_alpha(seed: int) -> FloatArray:
    """A subject with a soft border."""
    random = np.random.default_rng(seed)
    i, j = np.mgrid[: SHAPE[0], : SHAPE[1]]
    centre, radius = random.random(2) * SHAPE, random.random() * 100
    return np.clip((radius - np.hypot(i - centre[0], j - centre[1])) / 20, 0, 1).astype(np.float32)


boxes = st.tuples(st.integers(-30, 130), st.integers(-30, 100), st.integers(6, 90), st.integers(6, 90)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
some_boxes = st.lists(boxes, max_size=3)
seeds = st.integers(0, 10_000)


class TestSuggest:
    @settings(max_examples=100, deadline=None)
    @given(boxes=some_boxes, seed=st.none() | seeds)
    def test_it_is_the_mask_of_the_machine_where_that_was_sure(
        self, boxes: list[tuple[int, int, int, int]], seed: int | None
    ) -> None:
        alpha = None if seed is None else some_alpha(seed)
        machine = mask([found(box) for box in boxes], alpha, SHAPE, CONFIG)
        again = suggest(machine.faces, alpha, SHAPE, CONFIG)
        assert again.faces == machine.faces
        assert again.problems == ()
        for name in ("private", "transition", "mask"):
            np.testing.assert_array_equal(getattr(again, name), getattr(machine, name))

    @settings(max_examples=60, deadline=None)
    @given(box=boxes, reason=st.sampled_from([Reason.NO_LANDMARKS, Reason.ALREADY_OBFUSCATED]))
    def test_a_face_that_was_left_to_a_person_is_offered_as_if_it_were_sure(
        self, box: tuple[int, int, int, int], reason: Reason
    ) -> None:
        machine = mask([found(box, reason)], None, SHAPE, CONFIG)
        assert [f.how for f in machine.faces] == ["none"]
        assert not machine.mask.any()
        again = suggest(machine.faces, None, SHAPE, CONFIG)
        sure = mask([found(box)], None, SHAPE, CONFIG)
        assert [f.how for f in again.faces] == ["person"]
        assert again.faces[0].outline == machine.faces[0].outline
        np.testing.assert_array_equal(again.mask, sure.mask)
        np.testing.assert_array_equal(again.transition, sure.transition)

    def test_an_ellipse_leaves_the_subject_alone_and_a_person_does_not(self) -> None:
        alpha = np.zeros(SHAPE, np.float32)
        alpha[:, 60:] = 1
        ellipse = suggest([face(FACE, how="ellipse")], alpha, SHAPE, CONFIG)
        person = suggest([face(FACE, how="none")], alpha, SHAPE, CONFIG)
        assert not ellipse.mask[:, 60:].any()
        assert person.mask[:, 65:].any()

    @settings(max_examples=60, deadline=None)
    @given(boxes=some_boxes, seed=seeds)
    def test_never_on_the_transition_area(self, boxes: list[tuple[int, int, int, int]], seed: int) -> None:
        offer = suggest([face(box, how="none") for box in boxes], some_alpha(seed), SHAPE, CONFIG)
        assert not (offer.mask & offer.transition).any()
        assert not (offer.mask & ~offer.private).any()

    def test_no_face_no_mask(self) -> None:
        offer = nothing()
        assert offer.faces == ()
        for area in (offer.mask, offer.private, offer.transition):
            assert not area.any()


@settings(max_examples=250, deadline=None)
@given(seed=seeds, boxes=some_boxes)
def test_every_pixel_that_was_drawn_lies_in_a_face(seed: int, boxes: list[tuple[int, int, int, int]]) -> None:
    """Where none lies the blur would leave it, and the picture would be published as it is."""
    area = random_mask(seed)
    offer = suggest([face(box) for box in boxes], None, SHAPE, CONFIG)
    made = drawn(offer, area, None)
    assert not (area & ~private_area([f.outline for f in made.faces], SHAPE)).any()
    count, _ = cv2.connectedComponents(area.astype(np.uint8), connectivity=8)
    assert len(made.faces) == count - 1
    assert {f.how for f in made.faces} <= {"person"}
    np.testing.assert_array_equal(made.mask, area)
    assert not (area & ~made.private).any()
    assert not (offer.private & ~made.private).any()
    assert made.problems == ()


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_the_blur_changes_what_was_drawn_and_nothing_else(seed: int) -> None:
    image, area = photograph(seed, SHAPE), random_mask(seed)
    made = drawn(offered(), area, None)
    result = blur(image, made.mask, made.faces, BlurConfig())
    np.testing.assert_array_equal(result.pixels[~area], image[~area])
    # a part of a few pixels has hardly anything to be averaged with
    thick = cv2.erode(area.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    if thick.sum() > 30:
        assert (result.pixels[thick] != image[thick]).any(axis=1).mean() > 0.8
    assert all(f.sigma is not None and f.sigma >= LEAST_SIGMA for f in result.faces)


def shapes() -> dict[str, BoolArray]:
    """Masks that are easily forgotten."""
    made = {
        name: np.zeros(SHAPE, bool)
        for name in ("dot", "dots", "corners", "ring", "row", "column", "diagonal")
    }
    made["dot"][50, 60] = True
    made["dots"][3::9, 4::7] = True
    made["corners"][:: SHAPE[0] - 1, :: SHAPE[1] - 1] = True
    made["ring"][10:70, 10:70] = True
    made["ring"][11:69, 11:69] = False
    made["row"][0] = True
    made["column"][:, -1] = True
    np.fill_diagonal(made["diagonal"], True)
    return made | {"everything": np.ones(SHAPE, bool)}


@pytest.mark.parametrize("name", shapes())
def test_masks_that_are_easily_forgotten(name: str) -> None:
    area = shapes()[name]
    made = drawn(nothing(), area, None)
    assert not (area & ~private_area([f.outline for f in made.faces], SHAPE)).any()
    image = photograph(1, SHAPE)
    result = blur(image, made.mask, made.faces, BlurConfig())
    np.testing.assert_array_equal(result.pixels[~area], image[~area])
    parts = {"dot": 1, "dots": 13 * 21, "corners": 4}
    assert len(made.faces) == parts.get(name, 1)
    rows, columns = np.nonzero(area)
    assert min(f.box[0] for f in made.faces) == columns.min()
    assert min(f.box[1] for f in made.faces) == rows.min()
    assert max(f.box[2] for f in made.faces) == columns.max()
    assert max(f.box[3] for f in made.faces) == rows.max()


def test_an_empty_mask_has_no_face() -> None:
    made = drawn(offered(), np.zeros(SHAPE, bool), None)
    assert made.faces == ()
    assert not made.mask.any()


class TestStrength:
    def sigmas(self, made: Masked) -> list[float]:
        result = blur(photograph(2, SHAPE), made.mask, made.faces, BlurConfig())
        return [f.sigma or 0.0 for f in result.faces]

    def weakest_at(self, made: Masked, area: BoolArray) -> float:
        """The least strength with which a pixel of `area` is blurred."""
        strongest = np.zeros(SHAPE)
        for each, sigma in zip(made.faces, self.sigmas(made), strict=True):
            inside = private_area([each.outline], SHAPE)
            strongest[inside] = np.maximum(strongest[inside], sigma)
        return float(strongest[area & made.mask].min())

    @settings(max_examples=60, deadline=None)
    @given(seed=seeds, box=boxes, radius=st.integers(1, 12))
    def test_a_face_that_was_touched_up_is_not_blurred_less(
        self, seed: int, box: tuple[int, int, int, int], radius: int
    ) -> None:
        """Dabs of a brush add to the suggestion; half a percent for the corners of the outline."""
        offer = suggest([face(box)], None, SHAPE, CONFIG)
        if not offer.mask.any():
            return
        area = offer.mask.astype(np.uint8)
        random = np.random.default_rng(seed)
        for _ in range(3):
            x, y = random.integers(0, SHAPE[1]), random.integers(0, SHAPE[0])
            cv2.circle(area, (int(x), int(y)), radius, 1, -1)
        made = drawn(offer, area.astype(bool), None)
        inside = private_area([offer.faces[0].outline], SHAPE)
        if (offer.mask & inside).sum() <= 0.55 * inside.sum() or not one_part(offer.mask):
            return
        assert self.weakest_at(made, offer.mask) >= self.sigmas(offer)[0] * 0.995

    def test_with_a_hole_or_a_bite_too(self) -> None:
        offer = offered()
        machine = self.sigmas(offer)[0]
        for part in (np.s_[55:65, 50:70], np.s_[:45, :], np.s_[:, :45]):
            area = offer.mask.copy()
            area[part] = False
            assert self.weakest_at(drawn(offer, area, None), area) >= machine * 0.995

    @pytest.mark.parametrize("strand", [np.s_[:, 59:62], np.s_[59:62, :]])
    def test_a_face_that_a_strand_of_hair_parts_is_not_blurred_less(
        self, strand: tuple[slice, slice]
    ) -> None:
        offer = offered()
        area = offer.mask.copy()
        area[strand] = False
        assert self.weakest_at(drawn(offer, area, None), area) >= self.sigmas(offer)[0] * 0.995

    def test_a_small_spot_elsewhere_is_as_wide_as_it_is(self) -> None:
        area = np.zeros(SHAPE, bool)
        area[105:115, 110:140] = True
        (made,) = drawn(offered(), area, None).faces
        assert 9 <= face_width(made.outline) <= 14

    def test_a_small_part_of_a_face_is_not_the_face(self) -> None:
        area = np.zeros(SHAPE, bool)
        area[50:60, 50:70] = True
        (made,) = drawn(offered(), area, None).faces
        assert face_width(made.outline) < 20


def one_part(area: BoolArray) -> bool:
    return int(cv2.connectedComponents(area.astype(np.uint8), connectivity=8)[0]) == 2


class TestTransition:
    def test_without_a_matte_the_border_that_was_drawn_overrules_the_estimate(self) -> None:
        offer = offered()
        area = offer.private.copy()
        assert (area & offer.transition).any()
        made = drawn(offer, area, None)
        assert not (made.mask & made.transition).any()
        np.testing.assert_array_equal(made.transition, offer.transition & ~area)

    @settings(max_examples=40, deadline=None)
    @given(seed=seeds)
    def test_with_a_matte_it_does_not(self, seed: int) -> None:
        """The mask is what was drawn, and the verification will find it on the transition area."""
        alpha, area = some_alpha(seed), random_mask(seed)
        offer = offered(alpha)
        made = drawn(offer, area, alpha)
        np.testing.assert_array_equal(made.transition, offer.transition)
        np.testing.assert_array_equal(made.mask, area)

    def test_what_was_offered_is_left_as_it_was(self) -> None:
        offer = offered()
        before = [array.copy() for array in offer[1:4]]
        drawn(offer, ~offer.mask, None)
        for array, kept in zip(offer[1:4], before, strict=True):
            np.testing.assert_array_equal(array, kept)
