"""Crops against a dot that is known, and the matrix against a second warp."""

from __future__ import annotations

from math import pi

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.arrays import UInt8Array
from p3m_data.faces.crops import upright_crop

SIZE = 96


def blob(shape: tuple[int, int], x: float, y: float, radius: float) -> UInt8Array:
    """A soft white dot, so that its middle can be told finer than a pixel."""
    i, j = np.mgrid[: shape[0], : shape[1]]
    dot = np.exp(-((j - x) ** 2 + (i - y) ** 2) / (2 * radius**2)) * 255
    return np.repeat(np.rint(dot).astype(np.uint8)[..., None], 3, axis=2)


def middle(image: UInt8Array) -> np.ndarray:
    weight = image[..., 0].astype(float)
    i, j = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(weight * j).sum(), (weight * i).sum()]) / weight.sum()


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(60, 240),
    y=st.floats(60, 140),
    off=st.tuples(st.floats(-0.15, 0.15), st.floats(-0.15, 0.15)),
    side=st.floats(30, 600),
    angle=st.floats(-pi, pi),
)
def test_a_dot_maps_back(x: float, y: float, off: tuple[float, float], side: float, angle: float) -> None:
    radius = max(1.5, side / 40)
    image = blob((200, 300), x, y, min(radius, 12))
    centre = np.array([x, y]) + np.array(off) * side
    crop, matrix = upright_crop(image, centre, side, angle, SIZE, mirror=False)
    assert crop.shape == (SIZE, SIZE, 3)
    assert crop.dtype == np.uint8
    back = matrix[:, :2] @ middle(crop) + matrix[:, 2]
    assert np.abs(back - [x, y]).max() < max(0.15, 0.15 * side / SIZE)


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_a_quarter_turn_is_a_turn_of_the_array(quarter: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    crop, _ = upright_crop(image, np.array([31.5, 31.5]), 64.0, quarter * pi / 2, 64)
    # a face whose eye line points down the picture is stood up by a turn against the clock
    expected = np.rot90(image, quarter)
    assert np.abs(crop.astype(int) - expected).max() <= 1


def test_round_trip_of_a_photograph(astronaut: UInt8Array) -> None:
    crop, matrix = upright_crop(astronaut, np.array([220.0, 130.0]), 180.0, 0.3, 360)
    back = cv2.warpAffine(crop, matrix, (512, 512), flags=cv2.INTER_LINEAR)
    covered = cv2.warpAffine(np.ones((360, 360), np.uint8), matrix, (512, 512)) == 1
    covered = cv2.erode(covered.astype(np.uint8), np.ones((5, 5))) == 1
    assert covered.sum() > 25_000
    assert np.abs(back[covered].astype(int) - astronaut[covered]).mean() < 1.5


def test_shrinking_averages() -> None:
    """Every other pixel black: without a filter a crop of a third would be all black or all white somewhere."""
    image = np.zeros((600, 600, 3), np.uint8)
    image[::2] = 255
    crop, _ = upright_crop(image, np.array([299.5, 299.5]), 480.0, 0.0, 80)
    assert np.abs(crop.astype(int) - 127).max() < 30


@pytest.mark.parametrize("side", [40.0, 400.0])
@pytest.mark.parametrize("centre", [(-500.0, -500.0), (900.0, 50.0), (50.0, 900.0), (-30.0, 50.0)])
def test_outside_is_black_without_the_mirror(centre: tuple[float, float], side: float) -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    crop, matrix = upright_crop(image, np.array(centre), side, 0.0, 48, mirror=False)
    j, i = np.meshgrid(np.arange(48), np.arange(48))
    places = np.stack([j, i], axis=-1) @ matrix[:, :2].T + matrix[:, 2]
    outside = ((places < -side / 24 - 1) | (places > 100 + side / 24)).any(axis=-1)
    assert (crop[outside] == 0).all()


def test_beyond_the_border_is_the_mirror_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    crop, _ = upright_crop(image, np.array([0.5, 20.5]), 30.0, 0.0, 30)
    expected = np.pad(image, ((0, 0), (20, 0), (0, 0)), mode="symmetric")[6:36, 6:36]
    assert np.abs(crop.astype(int) - expected).max() <= 1
