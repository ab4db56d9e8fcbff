"""Detail: a visible face has it, a blurred one has not, and neither size nor place matters much."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from p3m_data.arrays import UInt8Array
from p3m_data.faces.detail import BLURRED, detail, looks_blurred
from p3m_data.faces.obfuscation import METHODS, Method, obfuscate
from p3m_data.faces.private_area import Points, face_width, mesh_outline, private_area
from p3m_data.types import Outline


@pytest.fixture(scope="module")
def outline(astronaut_mesh: Points) -> Outline:
    return mesh_outline([np.add(astronaut_mesh, (70, 0))])


def test_visible_face(astronaut: UInt8Array, outline: Outline) -> None:
    assert detail(astronaut, outline) > 2 * BLURRED


@pytest.mark.parametrize("method", METHODS)
def test_obfuscated_face(astronaut: UInt8Array, outline: Outline, method: Method) -> None:
    if method == "mosaic":
        pytest.skip("a mosaic's own edges are detail")
    area = private_area([outline], astronaut.shape)
    blurred = obfuscate(astronaut, area, 0.15 * face_width(outline), method)
    assert detail(blurred, outline) < BLURRED


@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_size_hardly_matters(astronaut: UInt8Array, outline: Outline, factor: float) -> None:
    size = (round(512 * factor), round(512 * factor))
    image = cv2.resize(astronaut, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    scaled: Outline = tuple(((x + 0.5) * factor - 0.5, (y + 0.5) * factor - 0.5) for x, y in outline)
    assert detail(image, scaled) == pytest.approx(detail(astronaut, outline), rel=0.35)


def test_only_the_inside_counts(astronaut: UInt8Array, outline: Outline) -> None:
    area = private_area([outline], astronaut.shape)
    noise = np.random.default_rng(0).integers(0, 256, astronaut.shape, np.uint8)
    flat = np.where(area[..., None], np.uint8(120), noise)
    grown = cv2.dilate(area.astype(np.uint8), np.ones((5, 5))) == 1
    assert detail(np.where(grown[..., None], np.uint8(120), flat), outline) < BLURRED


def test_partly_on_the_picture(astronaut: UInt8Array, outline: Outline) -> None:
    cut = np.ascontiguousarray(astronaut[:, 220:])
    moved: Outline = tuple((x - 220, y) for x, y in outline)
    assert detail(cut, moved) > BLURRED


@pytest.mark.parametrize("shift", [(-2000, 0), (2000, 0), (0, -2000), (0, 2000), (-2000, -2000)])
def test_off_the_picture_there_is_none(
    astronaut: UInt8Array, outline: Outline, shift: tuple[int, int]
) -> None:
    moved: Outline = tuple((x + shift[0], y + shift[1]) for x, y in outline)
    assert detail(astronaut, moved) == 0.0


def test_too_small_to_tell() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)
    assert detail(image, ((10.0, 10.0), (15.0, 10.0), (15.0, 15.0), (10.0, 15.0))) == 0.0


def test_looks_blurred(astronaut: UInt8Array, outline: Outline) -> None:
    area = private_area([outline], astronaut.shape)
    blurred = obfuscate(astronaut, area, 0.15 * face_width(outline), "gaussian")
    assert looks_blurred(blurred, outline)
    assert not looks_blurred(astronaut, outline)


def test_a_cut_or_small_face_is_not_called_blurred() -> None:
    """Where detail cannot be told from its absence the face counts as visible and is masked."""
    flat = np.full((200, 200, 3), 120, np.uint8)

    def square(x: float, side: float) -> Outline:
        return ((x, 20.0), (x + side, 20.0), (x + side, 20.0 + side), (x, 20.0 + side))

    assert looks_blurred(flat, square(20, 120))
    assert not looks_blurred(flat, square(20, 40))
    assert not looks_blurred(flat, square(-30, 120))
    assert not looks_blurred(flat, square(150, 120))


def test_only_what_is_masked_counts(astronaut: UInt8Array, outline: Outline) -> None:
    area = private_area([outline], astronaut.shape)
    left = area.copy()
    left[:, 220:] = False
    half_blurred = obfuscate(astronaut, left, 0.15 * face_width(outline))
    assert detail(half_blurred, outline, left) < BLURRED < detail(half_blurred, outline)
    assert detail(astronaut, outline, np.zeros_like(area)) == 0.0
