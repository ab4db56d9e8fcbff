"""The strips: geometry against the picture itself, colours by what was done, and every shape a picture can have."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.stages.mask import Masked
from p3m_data.stages.panels import BORDER, CELL, NOTHING, STEPS, panels
from p3m_data.types import Box, Face

INSIDE = CELL - 2 * BORDER
GREEN, AMBER, RED = (60, 220, 90), (255, 180, 0), (255, 60, 50)


def face(box: Box, how: Literal["landmarks", "ellipse", "none"] = "landmarks") -> Face:
    x0, y0, x1, y1 = box
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return Face(box=box, score=0.9, detectors=("a",), how=how, outline=corners, sigma=2.0)


def areas(
    shape: tuple[int, ...], *faces: Face, private: BoolArray | None = None, mask: BoolArray | None = None
) -> Masked:
    empty = np.zeros(shape[:2], bool)
    return Masked(
        faces, empty if private is None else private, empty.copy(), empty if mask is None else mask, ()
    )


def flat(height: int, width: int, grey: int = 100) -> UInt8Array:
    return np.full((height, width, 3), grey, np.uint8)


def cells(strip: UInt8Array) -> dict[str, UInt8Array]:
    assert strip.shape == (CELL, CELL * len(STEPS), 3)
    assert strip.dtype == np.uint8
    return dict(zip(STEPS, np.split(strip, len(STEPS), axis=1), strict=True))


def has(cell: UInt8Array, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(cell.astype(int) - colour).max(axis=2) <= 2).any())


def test_without_faces_every_cell_shows_the_whole_picture() -> None:
    image = flat(300, 600)
    image[:, :300] = (200, 10, 10)
    shown = cells(panels(image, areas(image.shape), image))
    for step in ("original", "landmarks", "private area", "transition area", "result"):
        cell = shown[step]
        middle = cell[CELL // 2]
        assert middle[BORDER + INSIDE // 4].tolist() == [200, 10, 10]
        assert middle[BORDER + 3 * INSIDE // 4].tolist() == [100, 100, 100]
        # twice as wide as high: a quarter of the cell is free above, a quarter below
        assert np.ptp(cell[: CELL // 4 - 2]) == 0
        assert np.ptp(cell[-CELL // 4 + 2 :]) == 0


def test_without_a_result_its_cell_is_empty() -> None:
    image = flat(50, 50)
    assert (cells(panels(image, areas(image.shape), None))["result"] == NOTHING).all()


def test_a_small_face_is_shown_large_and_the_original_whole() -> None:
    image = flat(2000, 3000)
    image[0:400, 0:400] = (0, 0, 250)
    image[1000:1040, 2000:2040] = (250, 0, 0)
    shown = cells(panels(image, areas(image.shape, face((2000, 1000, 2039, 1039))), image))
    red = (shown["result"] == (250, 0, 0)).all(axis=2)
    assert red[CELL // 2, CELL // 2]
    # the face is 1 / 2.5 of the part that is shown
    assert red.any(axis=0).sum() == pytest.approx(INSIDE / 2.5, rel=0.1)
    assert not has(shown["result"], (0, 0, 250))
    assert has(shown["original"], (0, 0, 250))
    assert has(shown["original"], (255, 255, 255))


def test_a_mask_lands_on_what_it_masks() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        height, width = rng.integers(300, 900, 2)
        y, x, size = rng.integers(0, 200), rng.integers(0, 200), rng.integers(40, 100)
        image, mask = flat(height, width), np.zeros((height, width), bool)
        image[y : y + size, x : x + size] = 255
        mask[y : y + size, x : x + size] = True
        box = (x + 0.0, y + 0.0, x + size - 1.0, y + size - 1.0)
        shown = cells(panels(image, areas(image.shape, face(box), mask=mask), image))
        seen = shown["result"].min(axis=2) > 200
        masked = shown["adjusted mask"].min(axis=2) > 150
        assert (seen & masked).sum() / (seen | masked).sum() > 0.95


def test_the_box_lies_on_the_face() -> None:
    image = flat(500, 700)
    image[200:300, 300:380] = 0
    shown = cells(panels(image, areas(image.shape, face((300, 200, 379, 299))), image))
    green = (np.abs(shown["landmarks"].astype(int) - GREEN).max(axis=2) < 60).nonzero()
    black = (shown["result"] < 20).all(axis=2).nonzero()
    for drawn, there in zip(green, black, strict=True):
        assert abs(drawn.min() - there.min()) <= 2
        assert abs(drawn.max() - there.max()) <= 2


@pytest.mark.parametrize(("how", "colour"), [("landmarks", GREEN), ("ellipse", AMBER), ("none", RED)])
def test_a_face_has_the_colour_of_what_was_done(
    how: Literal["landmarks", "ellipse", "none"], colour: tuple[int, int, int]
) -> None:
    image = flat(200, 200)
    landmarks = cells(panels(image, areas(image.shape, face((50, 50, 120, 120), how)), None))["landmarks"]
    assert [c for c in (GREEN, AMBER, RED) if has(landmarks, c)] == [colour]


def test_the_tint_leaves_the_picture_visible_and_the_rest_as_it_is() -> None:
    image = flat(220, 220)
    image[:, ::8] = 160
    private = np.zeros((220, 220), bool)
    private[:, :110] = True
    cell = cells(panels(image, areas(image.shape, private=private), None))
    tinted, plain = cell["private area"], cell["transition area"]
    left = tinted[20:200, 10:100].astype(int)
    assert (left[..., 0] > left[..., 2] + 50).all()
    assert np.ptp(left[..., 2]) > 5
    assert (tinted[:, 115:] == plain[:, 115:]).all()


def test_neither_the_picture_nor_the_result_is_drawn_on() -> None:
    image, result = flat(100, 100), flat(100, 100, 50)
    panels(image, areas(image.shape, face((10, 10, 60, 60))), result)
    assert (image == 100).all()
    assert (result == 50).all()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    boxes=st.lists(st.tuples(*[st.floats(-300, 900)] * 4), max_size=3),
    pixels=st.data(),
)
def test_any_picture_with_any_boxes_gives_a_strip(
    shape: tuple[int, int], boxes: list[Box], pixels: st.DataObject
) -> None:
    image = np.full((*shape, 3), pixels.draw(npst.arrays(np.uint8, 3)), np.uint8)
    faces = [face((min(a, c), min(b, d), max(a, c), max(b, d))) for a, b, c, d in boxes]
    cells(panels(image, areas(image.shape, *faces), image))


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 1), (3, 2)])
def test_odd_shapes(shape: tuple[int, int]) -> None:
    image = flat(*shape)
    cells(panels(image, areas(image.shape, face((0, 0, 1, 1))), image))


def test_arrays_that_do_not_fit_are_refused() -> None:
    image = flat(20, 30)
    with pytest.raises(ValueError, match="result"):
        panels(image, areas(image.shape), flat(30, 20))
    with pytest.raises(ValueError, match="mask"):
        panels(image, areas((30, 20)), None)
