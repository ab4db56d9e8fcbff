"""The ways from views back to the picture, with a detector that sees red squares."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.arrays import UInt8Array
from p3m_data.faces.detectors import Detections
from p3m_data.faces.proposals import box_iou
from p3m_data.inspection.sightings import LookConfig, Sighting, places, same_face, sightings, views


class RedBox:
    """Sees the bounding box of what is red, whatever its size."""

    accept = support = hint = 0.5
    whole_only = False

    def __init__(self) -> None:
        self.shown: list[tuple[int, ...]] = []

    def __call__(self, image: UInt8Array) -> Detections:
        self.shown.append(image.shape)
        rows, cols = np.nonzero((image[..., 0] > 128) & (image[..., 1] < 64))
        found = np.zeros((1 if rows.size else 0, 15))
        if rows.size:
            found[0, :4] = cols.min() - 0.5, rows.min() - 0.5, cols.max() + 0.5, rows.max() + 0.5
            found[0, 14] = 0.9
        return found


def with_disc(width: int, height: int, x: int, y: int, radius: int) -> UInt8Array:
    """A disc, because it has the same bounding box however the picture is turned."""
    image = np.full((height, width, 3), 200, np.uint8)
    cv2.circle(image, (x, y), radius, (255, 0, 0), -1)
    return image


@settings(max_examples=25, deadline=None)
@given(st.integers(120, 400), st.integers(120, 400), st.data())
def test_every_view_leads_back_to_the_picture(width: int, height: int, data: st.DataObject) -> None:
    radius = data.draw(st.integers(12, 40))
    x = data.draw(st.integers(radius + 2, width - radius - 3))
    y = data.draw(st.integers(radius + 2, height - radius - 3))
    image = with_disc(width, height, x, y, radius)
    config = LookConfig(longest=500, turned_longest=200)
    seen = sightings(image, {"red": RedBox()}, config)
    assert len({s.view for s in seen}) == len(seen) >= 1 + len(config.turns)
    truth = np.array([x - radius, y - radius, x + radius, y + radius])
    for one in seen:
        assert np.abs(np.array(one.box) - truth).max() < 5, one


def test_an_oblong_face_in_a_picture_lying_on_its_side_lies_too() -> None:
    image = np.full((300, 200, 3), 200, np.uint8)
    image[100:160, 80:110] = (255, 0, 0)
    for one in sightings(image, {"red": RedBox()}, LookConfig(turns=(90, 180, 270))):
        assert box_iou(one.box, (79.5, 99.5, 109.5, 159.5)) > 0.85, one.view


def test_views_are_bounded_and_none_is_made_twice() -> None:
    image = np.zeros((3000, 100, 3), np.uint8)
    config = LookConfig(longest=1200, turned_longest=300)
    made = list(views(image, config))
    assert [v.name for v in made if v.name.startswith("x")] == ["x0.5"]  # 1 and 2 would be as large
    assert max(max(v.pixels.shape) for v in made) <= 1200
    small = list(views(np.zeros((20, 20, 3), np.uint8), config))
    assert [v.name for v in small if v.name.startswith("x")] == ["x1", "x2"]  # at 0.5 there is too little
    assert list(views(np.zeros((1, 1, 3), np.uint8), config)) == []


def test_slow_detectors_get_one_small_look() -> None:
    slow, quick = RedBox(), RedBox()
    image = with_disc(2000, 1000, 700, 500, 90)
    seen = sightings(image, {"dlib_cnn": slow, "red": quick}, LookConfig())
    assert slow.shown == [(320, 640, 3)]
    assert len(quick.shown) > 5
    (one,) = [s for s in seen if s.detector == "dlib_cnn"]
    assert box_iou(one.box, (610, 410, 790, 590)) > 0.9


def test_places_put_together_what_is_one_face() -> None:
    accept, support = {"a": 0.5, "b": 0.8}, {"a": 0.3, "b": 0.4}
    seen = [
        Sighting("a", "x1", (10, 10, 50, 50), 0.9),
        Sighting("b", "x2", (12, 8, 52, 54), 0.4),
        Sighting("a", "x0.5", (14, 10, 52, 50), 0.4),
        Sighting("a", "x1", (200, 10, 240, 50), 0.35),
        Sighting("b", "x1", (100, 100, 140, 140), 0.39),  # noise
    ]
    first, second = places(seen, accept, support)
    assert first.box == (10, 10, 50, 50)
    assert first.scores == pytest.approx({"a": 1.8, "b": 0.5})
    assert len(first.sightings) == 3
    assert (second.box, second.score) == ((200, 10, 240, 50), pytest.approx(0.7))
    assert places(seen[::-1], accept, support) == [first, second]


def test_a_tight_box_in_a_loose_one_is_the_same_face_a_neighbour_is_not() -> None:
    assert same_face((0, 0, 100, 100), (30, 30, 70, 70))
    assert not same_face((0, 0, 100, 100), (70, 0, 170, 100))
    assert not same_face((0, 0, 100, 100), (100, 0, 200, 100))
