"""Outlines and areas: polygons by another library, invariances, and a mesh that is known to be a face."""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import points_in_poly

from p3m_data.arrays import BoolArray
from p3m_data.faces.landmarks import outline_iou
from p3m_data.faces.private_area import (
    Points,
    ellipse_outline,
    face_width,
    hair_margin,
    mesh_outline,
    outline_box,
    points68_outline,
    private_area,
    unite,
)
from p3m_data.types import Box, Outline


def star(seed: int, shape: tuple[int, int]) -> Outline:
    """A polygon that does not cross itself, with dents, partly outside the picture."""
    random = np.random.default_rng(seed)
    angles = np.sort(random.random(random.integers(3, 30))) * 2 * pi
    radius = (0.2 + 0.6 * random.random(angles.size)) * max(shape)
    centre = random.random(2) * shape[::-1]
    points = centre + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return tuple(map(tuple, points.tolist()))


def inside(outline: Outline, shape: tuple[int, int]) -> BoolArray:
    x, y = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))
    within: BoolArray = points_in_poly(np.stack([x, y], axis=-1).reshape(-1, 2), outline).reshape(shape)
    return within


def distance_to_edge(outline: Outline, shape: tuple[int, int]) -> np.ndarray:
    x, y = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))
    pixels = np.stack([x, y], axis=-1)
    nearest = np.full(shape, np.inf)
    corners = np.array(outline)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = np.clip((pixels - a) @ (b - a) / max((b - a) @ (b - a), 1e-9), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(pixels - a - along[..., None] * (b - a), axis=-1))
    return nearest


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shape=st.tuples(st.integers(5, 60), st.integers(5, 60)))
def test_area_is_the_polygon(seed: int, shape: tuple[int, int]) -> None:
    outline = star(seed, shape)
    area = private_area([outline], shape)
    # the edge's own pixels belong to the area: a face is rather masked a pixel too far than too short
    distance = distance_to_edge(outline, shape)
    assert distance[inside(outline, shape) & ~area].max(initial=0) <= 0.25
    assert distance[area & ~inside(outline, shape)].max(initial=0) <= 1.1


def test_areas_unite() -> None:
    shape = (50, 70)
    first, second = star(1, shape), star(2, shape)
    both = private_area([first, second], (*shape, 3))
    np.testing.assert_array_equal(both, private_area([first], shape) | private_area([second], shape))
    assert not private_area([], shape).any()


def test_area_outside_the_picture_is_empty() -> None:
    assert not private_area([((-50.0, -50.0), (-10.0, -50.0), (-10.0, -10.0))], (20, 20)).any()


def turned(points: Points, angle: float, scale: float, shift: tuple[float, float]) -> Points:
    spin = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]])
    return np.asarray(points @ spin * scale + shift)


@settings(max_examples=30, deadline=None)
@given(
    angle=st.floats(-pi, pi),
    scale=st.floats(0.05, 20),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
def test_mesh_outline_goes_with_the_face(
    astronaut_mesh: Points, angle: float, scale: float, shift: tuple[float, float]
) -> None:
    moved = mesh_outline([turned(astronaut_mesh, angle, scale, shift)])
    expected = turned(np.array(mesh_outline([astronaut_mesh])), angle, scale, shift)
    assert outline_iou(moved, tuple(map(tuple, expected.tolist()))) > 0.97


def test_mesh_outline_holds_the_features_and_spares_the_forehead(astronaut_mesh: Points) -> None:
    features = (33, 133, 362, 263, 1, 61, 291, 17)
    outline = mesh_outline([astronaut_mesh])
    assert points_in_poly(astronaut_mesh[list(features)], outline).all()
    forehead = (10, 151, 109, 338)
    assert not points_in_poly(astronaut_mesh[list(forehead)], outline).any()


def test_mesh_outline_unites_looks(astronaut_mesh: Points) -> None:
    other = np.add(astronaut_mesh, (4, 2))
    both = mesh_outline([astronaut_mesh, other])
    shape = (400, 400)
    united = private_area([mesh_outline([astronaut_mesh]), mesh_outline([other])], shape)
    area = private_area([both], shape)
    assert (area & united).sum() / (area | united).sum() > 0.97


def test_points68_outline_is_jaw_and_brows() -> None:
    points = np.array([(i, 2 * i) for i in range(68)], float)
    outline = points68_outline(points)
    assert [x for x, _ in outline] == [*range(17), 26, 25, 24, 23, 22, 21, 20, 19, 18, 17]


boxes = st.tuples(
    st.floats(0, 80), st.floats(0, 80), st.floats(4, 60), st.floats(4, 60)
).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(box=boxes, margin=st.floats(0, 0.5))
def test_ellipse_covers_the_inner_box_and_no_more_than_its_own(box: Box, margin: float) -> None:
    outline = ellipse_outline(box, margin=margin)
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    half = np.array([box[2] - box[0], box[3] - box[1]]) / 2
    corners = middle + half / np.sqrt(2) * 0.99 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    assert points_in_poly(corners, outline).all()
    x0, y0, x1, y1 = outline_box(outline)
    expected = np.concatenate([middle - half * (1 + margin), middle + half * (1 + margin)])
    np.testing.assert_allclose([x0, y0, x1, y1], expected, atol=0.02)


def test_width_is_the_short_side_however_turned() -> None:
    box = np.array([(0, 0), (30, 0), (30, 80), (0, 80)], float)
    for angle in np.linspace(0, pi, 7):
        assert face_width(tuple(map(tuple, turned(box, angle, 1, (5, 9)).tolist()))) == pytest.approx(
            30, abs=0.01
        )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), margin=st.floats(0, 12))
def test_hair_margin_is_inside_and_near_the_edge(seed: int, margin: float) -> None:
    shape = (60, 50)
    outline = star(seed, shape)
    band = hair_margin(outline, shape, margin)
    assert not (band & ~private_area([outline], shape)).any()
    assert distance_to_edge(outline, shape)[band].max(initial=0) <= margin + 2


def test_hair_margin_spares_the_chin_of_an_upright_face_only() -> None:
    upright, lying = ellipse_outline((20, 10, 60, 90)), ellipse_outline((10, 20, 90, 60))
    assert not hair_margin(upright, (100, 100), 3.0)[70:].any()
    assert hair_margin(upright, (100, 100), 3.0)[:60].any()
    area = private_area([lying], (100, 100))
    assert hair_margin(lying, (100, 100), 3.0)[area.nonzero()[0].max()].any()


def test_unite_is_the_union_of_what_overlaps() -> None:
    first, second = ellipse_outline((20, 30, 100, 120)), ellipse_outline((60, 20, 150, 90))
    shape = (160, 180)
    both = private_area([unite([first, second])], shape)
    expected = private_area([first, second], shape)
    assert (both & expected).sum() / (both | expected).sum() > 0.98


def test_unite_of_parts_that_do_not_touch_is_the_larger() -> None:
    small, large = ellipse_outline((0, 0, 20, 20)), ellipse_outline((60, 60, 120, 140))
    assert outline_iou(unite([small, large]), large) > 0.96
