"""When landmarks are trusted, with landmarkers that a test controls; and on a real face."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.arrays import UInt8Array
from p3m_data.faces.detectors import Detector
from p3m_data.faces.landmarkers import Landmarker
from p3m_data.faces.landmarks import CROP, LandmarkConfig, locate, outline_iou
from p3m_data.faces.private_area import Points
from p3m_data.faces.proposals import Proposal, ProposalConfig, propose
from p3m_data.types import Outline

CONFIG = LandmarkConfig()
DISC = Proposal((170, 120, 250, 200), 0.9, ("d",), weak=False, angle=0.0)


def disc_picture(x: float = 210, y: float = 160, radius: float = 40) -> UInt8Array:
    """A bright disc whose left half has no blue: place, size and turn can be read off it."""
    i, j = np.mgrid[:320, :420]
    image = np.full((320, 420, 3), 10, np.uint8)
    disc = np.hypot(i - y, j - x) < radius
    image[disc] = 250
    image[disc & (j < x), 2] = 60
    return image


class DiscLandmarker:
    """Ring of 40 points around the bright disc; 0 is on its left, 20 on its right."""

    eyes = (0, 20)

    def __init__(self, change: Callable[[int, Points], Points | None] = lambda _look, points: points) -> None:
        self.change = change
        self.looks = 0

    def __call__(self, crop: UInt8Array) -> list[Points]:
        assert crop.shape == (CROP, CROP, 3)
        i, j = np.nonzero(crop[..., 0] > 130)
        if i.size < 50 or min(i.min(), j.min()) < 3 or max(i.max(), j.max()) > CROP - 4:
            return []
        blue = crop[i, j, 2] > 150
        if blue.all() or not blue.any():
            return []
        middle = np.array([j.mean(), i.mean()])
        right = np.array([j[blue].mean(), i[blue].mean()]) - middle
        angle = np.arctan2(right[1], right[0]) + pi + np.arange(40) * pi / 20
        ring = middle + np.sqrt(i.size / pi) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        self.looks += 1
        changed = self.change(self.looks, ring)
        return [] if changed is None else [changed]

    def outline(self, looks: list[Points]) -> Outline:
        return tuple(map(tuple, np.mean(looks, axis=0).tolist()))


def ring(x: float, y: float, radius: float) -> Outline:
    return tuple((x + radius * cos(t), y + radius * sin(t)) for t in np.arange(40) * pi / 20)


@settings(max_examples=25, deadline=None)
@given(
    off=st.tuples(st.floats(-15, 15), st.floats(-15, 15)),
    radius=st.floats(25, 55),
    angle=st.floats(-0.6, 0.6),
)
def test_agreeing_looks_are_trusted_and_in_place(
    off: tuple[float, float], radius: float, angle: float
) -> None:
    x, y = 210 + off[0], 160 + off[1]
    proposal = Proposal(DISC.box, 0.9, ("d",), weak=False, angle=angle)
    located = locate(disc_picture(x, y, radius), proposal, {"disc": DiscLandmarker()}, CONFIG)
    assert located.verdict == "trusted"
    assert outline_iou(located.outline, ring(x, y, radius)) > 0.93


def test_nothing_there_is_none() -> None:
    blank = np.zeros((320, 420, 3), np.uint8)
    assert locate(blank, DISC, {"disc": DiscLandmarker()}, CONFIG).verdict == "none"


@pytest.mark.parametrize(("x", "radius"), [(300, 40), (210, 12), (210, 110)])
def test_landmarks_elsewhere_or_of_another_size_do_not_belong(x: float, radius: float) -> None:
    """A neighbour's face, a face within the face, and the crowd's are not this proposal's."""
    assert locate(disc_picture(x, 160, radius), DISC, {"disc": DiscLandmarker()}, CONFIG).verdict == "none"


def test_looks_that_differ_disagree() -> None:
    def stretched(look: int, points: Points) -> Points:
        middle = points.mean(axis=0)
        across = np.array([1.4, 0.7]) if look % 3 == 1 else np.array([0.7, 1.4])
        return middle + (points - middle) * (across if look % 3 else 1.0) * 1.25 ** (look % 5)

    located = locate(
        disc_picture(), DISC, {"disc": DiscLandmarker(stretched)}, LandmarkConfig(agreement=0.999)
    )
    assert located.verdict == "disagree"
    assert located.outline


def test_one_look_alone_is_not_trusted() -> None:
    once = DiscLandmarker(lambda look, points: points if look % 20 == 1 else None)
    assert locate(disc_picture(), DISC, {"disc": once}, CONFIG).verdict == "none"


def test_two_landmarkers_must_agree() -> None:
    def shifted(pixels: float) -> DiscLandmarker:
        return DiscLandmarker(lambda _look, points: points + pixels * np.ptp(points))

    same = locate(disc_picture(), DISC, {"a": DiscLandmarker(), "b": shifted(0.01)}, CONFIG)
    assert same.verdict == "trusted"
    assert outline_iou(same.outline, ring(210, 160, 40)) > 0.93  # the first one's
    apart = locate(disc_picture(), DISC, {"a": DiscLandmarker(), "b": shifted(0.12)}, CONFIG)
    assert apart.verdict == "disagree"
    blind = DiscLandmarker(lambda _look, _points: None)
    assert locate(disc_picture(), DISC, {"a": DiscLandmarker(), "b": blind}, CONFIG).verdict == "none"
    assert locate(disc_picture(), DISC, {"a": blind, "b": DiscLandmarker()}, CONFIG).verdict == "none"


@pytest.mark.parametrize(("apart", "expected"), [(0, 1.0), (20, 1 / 3), (40, 0.0)])
@pytest.mark.parametrize("scale", [0.02, 1.0, 50.0])
def test_outline_iou_of_squares(apart: float, expected: float, scale: float) -> None:
    square = np.array([(0, 0), (40, 0), (40, 40), (0, 40)], float)

    def outline(points: Points) -> Outline:
        return tuple(map(tuple, (points * scale).tolist()))

    assert outline_iou(outline(square), outline(np.add(square, (apart, 0)))) == pytest.approx(
        expected, abs=0.03
    )


def test_real_face_is_trusted(
    astronaut: UInt8Array, detectors: dict[str, Detector], landmarkers: dict[str, Landmarker]
) -> None:
    best, *_ = propose(astronaut, detectors, ProposalConfig())
    assert locate(astronaut, best, landmarkers, CONFIG).verdict == "trusted"


def test_flat_picture_has_no_landmarks(landmarkers: dict[str, Landmarker]) -> None:
    flat = np.full((320, 420, 3), 128, np.uint8)
    assert locate(flat, DISC, landmarkers, CONFIG).verdict == "none"


def test_landmarks_move_with_the_crop(astronaut: UInt8Array, landmarkers: dict[str, Landmarker]) -> None:
    """The mesh of a crop lies in pixels of that crop."""
    mesh = landmarkers["mediapipe"]
    (here,) = mesh(np.ascontiguousarray(astronaut[20:276, 90:346]))
    (there,) = mesh(np.ascontiguousarray(astronaut[10:266, 75:331]))
    assert here.shape == (478, 2)
    assert np.abs(there - here - (15, 10)).mean() < 2
    left, right = (here[i] for i in mesh.eyes)
    assert left[0] < right[0]
