"""What is drawn, beside brute force: each pixel's distance to the shape, one pixel around its border left open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.arrays import BoolArray
from p3m_data.errors import UsageError
from p3m_data.stages.drawing import MOST_OPS, MOST_POINTS, parse_ops, rasterize

Distance = npt.NDArray[np.float64]
Point = tuple[float, float]

HEIGHT, WIDTH = SHAPE = (44, 60)
NOTHING = np.zeros(SHAPE, bool)
BAND = 1.1  # a pixel, and what rounding to sixteenths of one moves an edge

# `rasterize` draws whole what is up to a picture's size away from it
places = st.tuples(st.floats(-WIDTH, 2 * WIDTH), st.floats(-HEIGHT, 2 * HEIGHT))
brushes = st.fixed_dictionaries(
    {
        "tool": st.just("brush"),
        "erase": st.booleans(),
        "radius": st.floats(0.5, WIDTH / 2),
        "points": st.lists(places, min_size=1, max_size=5),
    }
)
polygons = st.fixed_dictionaries(
    {
        "tool": st.just("polygon"),
        "erase": st.booleans(),
        "points": st.lists(places, min_size=3, max_size=8),
    }
)
ellipses = st.fixed_dictionaries(
    {
        "tool": st.just("ellipse"),
        "erase": st.booleans(),
        "box": st.tuples(places, places).map(lambda p: (*p[0], *p[1])),
    }
)
others = st.sampled_from([{"tool": "suggestion"}, {"tool": "clip"}, {"tool": "clear"}])
all_ops = st.lists(brushes | polygons | ellipses | others, max_size=6)


def draw(*ops: dict[str, Any], shape: tuple[int, ...] = SHAPE, scale: float = 1.0) -> BoolArray:
    nothing = np.zeros(shape[:2], bool)
    return rasterize(parse_ops(ops), shape, nothing, nothing, scale=scale)


def grid(shape: tuple[int, ...] = SHAPE) -> tuple[Distance, Distance]:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    return x, y


def to_segment(start: Point, end: Point, shape: tuple[int, ...] = SHAPE) -> Distance:
    """Each pixel's distance to the segment."""
    x, y = grid(shape)
    (ax, ay), (bx, by) = start, end
    length = (bx - ax) ** 2 + (by - ay) ** 2
    along = np.zeros_like(x) if length == 0 else ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length
    along = np.clip(along, 0, 1)
    return np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay))


def to_line(points: Sequence[Point], shape: tuple[int, ...] = SHAPE) -> Distance:
    pairs = list(pairwise(points)) or [(points[0], points[0])]
    return np.min([to_segment(start, end, shape) for start, end in pairs], axis=0)


def even_odd(points: Sequence[Point], shape: tuple[int, ...] = SHAPE) -> BoolArray:
    """How often a ray to the right meets an edge: odd is inside."""
    x, y = grid(shape)
    inside = np.zeros(shape, bool)
    for (ax, ay), (bx, by) in pairwise([*points, points[0]]):
        crosses = (ay > y) != (by > y)
        if ay != by:
            inside ^= crosses & (x < ax + (y - ay) / (by - ay) * (bx - ax))
    return inside


def agree(mask: BoolArray, inside: BoolArray, to_border: Distance, band: float = BAND) -> None:
    wrong = (mask != inside) & (to_border > band)
    assert not wrong.any(), f"{wrong.sum()} pixels, the worst {to_border[wrong].max():.2f} from the border"


def check_brush(op: dict[str, Any], shape: tuple[int, ...] = SHAPE) -> None:
    distance = to_line(op["points"], shape)
    agree(draw(op, shape=shape), distance <= op["radius"], np.abs(distance - op["radius"]))


def check_polygon(op: dict[str, Any], shape: tuple[int, ...] = SHAPE) -> None:
    points = op["points"]
    agree(draw(op, shape=shape), even_odd(points, shape), to_line([*points, points[0]], shape))


def check_ellipse(op: dict[str, Any], shape: tuple[int, ...] = SHAPE) -> None:
    x0, y0, x1, y1 = op["box"]
    x, y = grid(shape)
    half_x, half_y = max(abs(x1 - x0) / 2, 1e-9), max(abs(y1 - y0) / 2, 1e-9)
    centre = (x0 + x1) / 2, (y0 + y1) / 2
    inside = ((x - centre[0]) / half_x) ** 2 + ((y - centre[1]) / half_y) ** 2 <= 1
    turn = np.linspace(0, 2 * np.pi, 1500)
    ring = centre[0] + half_x * np.cos(turn), centre[1] + half_y * np.sin(turn)
    to_ring = np.min([np.hypot(x - px, y - py) for px, py in zip(*ring, strict=True)], axis=0)
    agree(draw(op, shape=shape), inside, to_ring)


@settings(max_examples=150, deadline=None)
@given(op=brushes)
def test_a_brush_covers_what_is_near_its_line(op: dict[str, Any]) -> None:
    check_brush(op | {"erase": False})


@settings(max_examples=150, deadline=None)
@given(op=polygons)
def test_a_polygon_is_filled_even_odd(op: dict[str, Any]) -> None:
    check_polygon(op | {"erase": False})


@settings(max_examples=40, deadline=None)
@given(op=ellipses)
def test_an_ellipse_touches_the_sides_of_its_box(op: dict[str, Any]) -> None:
    check_ellipse(op | {"erase": False})


def test_in_a_larger_picture_too() -> None:
    shape = (310, 240)
    check_brush(
        {"tool": "brush", "radius": 88.3, "points": [(-30.5, 40.25), (120.0, 300.0), (230.0, 3.0)]}, shape
    )
    check_polygon({"tool": "polygon", "points": [(-200.0, 10.5), (400.0, 80.0), (30.0, 500.0)]}, shape)
    check_ellipse({"tool": "ellipse", "box": (-100.0, 30.5, 210.0, 600.0)}, shape)


def test_the_smallest_brush_leaves_a_mark_everywhere() -> None:
    for x in np.linspace(0, WIDTH - 1, 23):
        for y in (0, 7.5, HEIGHT - 1):
            assert draw({"tool": "brush", "radius": 0.5, "points": [[x, y]]}).any()


def test_a_star_has_a_hole_and_a_bow_tie_two_wings() -> None:
    turn = [math.pi * 0.8 * k for k in range(5)]
    star = [(30 + 20 * math.sin(t), 22 - 20 * math.cos(t)) for t in turn]
    drawn = draw({"tool": "polygon", "points": star})
    assert not drawn[22, 30]
    assert drawn[6, 30]
    tie = draw({"tool": "polygon", "points": [[10, 10], [50, 34], [50, 10], [10, 34]]})
    assert tie[22, 12]
    assert tie[22, 48]
    assert not tie[12, 30]


@pytest.mark.parametrize(
    "op",
    [
        {"tool": "brush", "radius": 9, "points": [[-40, -30], [-20, 100]]},
        {"tool": "brush", "radius": 9, "points": [[1e5, 1e5]]},
        {"tool": "polygon", "points": [[70, 0], [90, 0], [80, 40]]},
        {"tool": "ellipse", "box": [-50, -50, -3, -3]},
        {"tool": "ellipse", "box": [-1e5, -1e5, -9e4, -9e4]},
    ],
)
def test_a_shape_outside_leaves_the_picture_as_it_was(op: dict[str, Any]) -> None:
    assert not draw(op).any()
    everything = {"tool": "ellipse", "box": [-60, -60, 120, 100]}
    assert draw(everything).all()
    assert draw(everything, op | {"erase": True}).all()


# the part in the picture must not depend on how far a shape goes on outside
FAR = [
    (check_brush, {"tool": "brush", "radius": 75.0, "points": [(2.0, 2.0)]}),
    (check_brush, {"tool": "brush", "radius": 300.0, "points": [(-150.0, 20.0)]}),
    (check_brush, {"tool": "brush", "radius": 3.0, "points": [(5.0, 5.0), (1000.0, 500.0)]}),
    (check_polygon, {"tool": "polygon", "points": [(0.0, 0.0), (900.0, 300.0), (300.0, 900.0)]}),
]


@pytest.mark.parametrize(("check", "op"), FAR)
def test_a_shape_that_goes_on_far_outside_is_not_bent(check: Any, op: dict[str, Any]) -> None:
    check(op)


def test_an_ellipse_far_larger_than_the_picture() -> None:
    for box in ([-3000, -3000, 3100, 3100], [3100, 3100, -3000, -3000]):
        assert draw({"tool": "ellipse", "box": box}).all()


@settings(max_examples=100, deadline=None)
@given(ops=all_ops, seed=st.integers(0, 99))
def test_operations_apply_in_their_order(ops: list[dict[str, Any]], seed: int) -> None:
    """Each shape drawn by itself, put together with set operations."""
    random = np.random.default_rng(seed)
    suggestion, transition = random.random(SHAPE) < 0.5, random.random(SHAPE) < 0.3
    before = suggestion.copy(), transition.copy()
    expected = NOTHING.copy()
    for op in ops:
        match op["tool"]:
            case "suggestion":
                expected = expected | suggestion
            case "clip":
                expected = expected & ~transition
            case "clear":
                expected = NOTHING
            case _:
                alone = draw(op | {"erase": False})
                expected = expected & ~alone if op["erase"] else expected | alone
    drawn = rasterize(parse_ops(ops), (*SHAPE, 3), suggestion, transition)
    np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(suggestion, before[0])
    np.testing.assert_array_equal(transition, before[1])


def test_the_result_is_no_view_of_the_suggestion() -> None:
    suggestion = np.ones(SHAPE, bool)
    drawn = rasterize(parse_ops([{"tool": "suggestion"}]), SHAPE, suggestion, NOTHING)
    drawn[:] = False
    assert suggestion.all()


def test_no_operation_is_an_empty_mask() -> None:
    drawn = rasterize([], SHAPE, ~NOTHING, NOTHING)
    assert (drawn.shape, drawn.dtype, drawn.any()) == (SHAPE, np.bool_, False)


@pytest.mark.parametrize(
    "wrong", [np.zeros((44, 61), bool), np.zeros(SHAPE, np.uint8), np.zeros((44, 60, 1), bool)]
)
def test_areas_that_do_not_fit_are_refused(wrong: BoolArray) -> None:
    with pytest.raises(ValueError, match="expected a"):
        rasterize([], SHAPE, wrong, NOTHING)
    with pytest.raises(ValueError, match="expected a"):
        rasterize([], SHAPE, NOTHING, wrong)


def moved(op: dict[str, Any], by_x: float, by_y: float) -> dict[str, Any]:
    if op["tool"] == "ellipse":
        x0, y0, x1, y1 = op["box"]
        return op | {"box": (x0 + by_x, y0 + by_y, x1 + by_x, y1 + by_y)}
    return op | {"points": [(x + by_x, y + by_y) for x, y in op["points"]]}


def outline_of(op: dict[str, Any]) -> list[tuple[float, float]]:
    if op["tool"] != "ellipse":
        return [*op["points"], op["points"][0]] if op["tool"] == "polygon" else list(op["points"])
    x0, y0, x1, y1 = op["box"]
    turn = np.linspace(0, 2 * np.pi, 97)
    ring = np.stack([np.cos(turn) * (x1 - x0), np.sin(turn) * (y1 - y0)], axis=1) / 2
    return [tuple(point) for point in (ring + np.array([x0 + x1, y0 + y1]) / 2).tolist()]


@settings(max_examples=100, deadline=None)
@given(op=brushes | polygons | ellipses, factor=st.sampled_from([2, 4]))
def test_at_a_smaller_scale_it_is_the_same_shape(op: dict[str, Any], factor: int) -> None:
    """Where all of a shown pixel's surroundings agree at full size, the small drawing agrees with them."""
    # all of the shape in the picture: a border would cut the two at different places
    op = moved(op | {"erase": False}, 2 * WIDTH, 2 * HEIGHT)
    height, width = 5 * HEIGHT // factor, 5 * WIDTH // factor
    full = draw(op, shape=(5 * HEIGHT, 5 * WIDTH))
    small = draw(op, shape=(height, width), scale=1 / factor)
    blocks = full.reshape(height, factor, width, factor)
    kernel = np.ones((5, 5), np.uint8)
    surely = cv2.erode(blocks.all(axis=(1, 3)).astype(np.uint8), kernel).astype(bool)
    # a sliver that no centre of a full pixel lies in may hold one of the larger pixels
    border = {"tool": "brush", "erase": False, "radius": float(factor), "points": outline_of(op)}
    touched = full | draw(border, shape=(5 * HEIGHT, 5 * WIDTH))
    touched = touched.reshape(height, factor, width, factor).any(axis=(1, 3))
    maybe = cv2.dilate(touched.astype(np.uint8), kernel).astype(bool)
    assert not (surely & ~small).any()
    assert not (small & ~maybe).any()


class TestParse:
    def test_what_the_page_sends_comes_back(self) -> None:
        ops = [
            {"tool": "brush", "erase": True, "radius": 12.5, "points": [[1, 2.5], [-3, 4]]},
            {"tool": "polygon", "erase": False, "points": [[0, 0], [1e5, -1e5], [3, 3]]},
            {"tool": "ellipse", "erase": False, "box": [4, 3, 2, 1]},
            {"tool": "suggestion"},
            {"tool": "clip"},
            {"tool": "clear"},
        ]
        parsed = parse_ops(ops)
        assert [op.model_dump(mode="json") for op in parsed] == ops
        assert parse_ops(op.model_dump(mode="json") for op in parsed) == parsed
        assert parse_ops([]) == []

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.01e5, -1.01e5, None, [], "x", {}])
    @pytest.mark.parametrize(
        "make",
        [
            lambda v: {"tool": "brush", "radius": 1, "points": [[0, 0], [v, 0]]},
            lambda v: {"tool": "polygon", "points": [[0, 0], [0, v], [1, 1]]},
            lambda v: {"tool": "ellipse", "box": [0, 0, 1, v]},
            lambda v: {"tool": "brush", "radius": v, "points": [[0, 0]]},
        ],
    )
    def test_numbers_that_are_none(self, make: Any, bad: object) -> None:
        with pytest.raises(UsageError, match=r"^the drawing cannot be read \(1\..*\)$"):
            parse_ops([{"tool": "clear"}, make(bad)])

    @pytest.mark.parametrize(
        "op",
        [
            {},
            [],
            None,
            5,
            "clear",
            {"tool": "spray"},
            {"tool": None},
            {"tool": "clear", "erase": True},
            {"tool": "brush", "radius": 1, "points": [[0, 0]], "colour": "red"},
            {"tool": "brush", "radius": 1, "points": []},
            {"tool": "brush", "radius": 1},
            {"tool": "brush", "points": [[0, 0]]},
            {"tool": "brush", "radius": 0.49, "points": [[0, 0]]},
            {"tool": "brush", "radius": 5001, "points": [[0, 0]]},
            {"tool": "brush", "radius": 1, "points": [[0]]},
            {"tool": "brush", "radius": 1, "points": [[0, 0, 0]]},
            {"tool": "brush", "radius": 1, "points": "ab"},
            {"tool": "brush", "radius": 1, "points": [[0, 0]], "erase": None},
            {"tool": "polygon", "points": [[0, 0], [1, 1]]},
            {"tool": "ellipse", "box": [0, 0, 1]},
            {"tool": "ellipse", "box": "0011"},
        ],
    )
    def test_what_is_no_operation(self, op: object) -> None:
        with pytest.raises(UsageError, match=r"^the drawing cannot be read \(0.*\)$") as caught:
            parse_ops([op])
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "op",
        [
            {"tool": "brush", "radius": "12", "points": [[0, 0]]},
            {"tool": "brush", "radius": True, "points": [[0, 0]]},
            {"tool": "brush", "radius": 1, "points": [["1", 0]]},
            {"tool": "ellipse", "box": [0, 0, 1, "1e3"]},
            {"tool": "polygon", "erase": "yes", "points": [[0, 0], [1, 1], [0, 1]]},
        ],
    )
    def test_a_string_is_no_number(self, op: object) -> None:
        with pytest.raises(UsageError):
            parse_ops([op])

    def test_too_many(self) -> None:
        clear = {"tool": "clear"}
        assert len(parse_ops([clear] * MOST_OPS)) == MOST_OPS
        with pytest.raises(UsageError, match=r"may have 2000 strokes, not 2001; clear it"):
            parse_ops([clear] * (MOST_OPS + 1))
        for tool in ({"tool": "brush", "radius": 1}, {"tool": "polygon"}):
            assert parse_ops([tool | {"points": [[0, 0]] * MOST_POINTS}])
            with pytest.raises(UsageError, match="at most 20000"):
                parse_ops([tool | {"points": [[0, 0]] * (MOST_POINTS + 1)}])
