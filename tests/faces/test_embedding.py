"""dlib's embedding and its chips, on a face that everybody with scikit-image has."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array
from p3m_data.errors import MissingExtra
from p3m_data.faces.embedding import CHIP, LENGTH, Alignment, Embedder
from p3m_data.storage.weights import resolve
from p3m_data.types import Box
from tests.faces.conftest import FACE

SAME = 0.6
"""Two faces closer than this are usually one person's."""
LFW: Box = (70, 70, 180, 180)
"""Where the face is in all pictures of Labeled Faces in the Wild."""


def attackers_files() -> tuple[Path, Path]:
    """The weights of the embedding and of the five points; skips where dlib is not installed, but not in CI."""
    if os.environ.get("CI") != "true" and importlib.util.find_spec("dlib") is None:
        pytest.skip("dlib is not installed (p3mdata[audit])")
    return resolve("dlib_embedding"), resolve("dlib_five_points")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(*attackers_files())


def apart(embedder: Embedder, first: UInt8Array, second: UInt8Array) -> float:
    one, other = embedder([first, second])
    return float(np.linalg.norm(one - other))


def difference(first: UInt8Array, second: UInt8Array) -> float:
    return float(np.abs(first.astype(float) - second).mean())


def face_mask() -> BoolArray:
    mask = np.zeros((512, 512), np.uint8)
    cv2.ellipse(mask, (221, 130), (46, 62), 10, 0, 360, 1, -1)
    return mask > 0


def sampled(picture: UInt8Array | FloatArray, alignment: Alignment) -> FloatArray:
    """The chip of (H, W) or (H, W, 3), bilinear: a square around a centre, turned by an angle."""
    square, angle = alignment.details.rect, alignment.details.angle
    half = (square.right() - square.left()) / 2
    x, y = np.meshgrid(*2 * [np.linspace(-half, half, CHIP)])
    across = (square.left() + square.right()) / 2 + np.cos(angle) * x - np.sin(angle) * y
    down = (square.top() + square.bottom()) / 2 + np.sin(angle) * x + np.cos(angle) * y
    places = across.astype(np.float32), down.astype(np.float32)
    return np.asarray(cv2.remap(picture, *places, cv2.INTER_LINEAR), np.float32)


def test_a_chip_is_the_turned_square_around_the_face(embedder: Embedder, astronaut: UInt8Array) -> None:
    before = astronaut.copy()
    alignment = embedder.align(astronaut, FACE)
    chip = alignment.chip(astronaut)
    assert (chip.shape, chip.dtype) == ((CHIP, CHIP, 3), np.uint8)
    assert difference(chip, sampled(astronaut, alignment).astype(np.uint8)) < 1
    np.testing.assert_array_equal(astronaut, before)


def test_chips_have_the_margin_that_the_network_was_trained_with(
    embedder: Embedder, astronaut: UInt8Array
) -> None:
    dlib = pytest.importorskip("dlib")
    square = dlib.rectangle(163, 72, 279, 188)  # as large as `FACE`, around its middle
    points = dlib.shape_predictor(str(attackers_files()[1]))(astronaut, square)
    expected = dlib.get_face_chip(astronaut, points, size=150, padding=0.25)
    assert difference(embedder.align(astronaut, FACE).chip(astronaut), expected) < 3


def test_a_chip_of_a_mask_is_where_the_chip_shows_it(embedder: Embedder, astronaut: UInt8Array) -> None:
    alignment, mask = embedder.align(astronaut, FACE), face_mask()
    found = alignment.mask(mask)
    expected = sampled(mask.astype(np.float32), alignment) > 0
    assert (found.shape, found.dtype) == ((CHIP, CHIP), np.bool_)
    assert (found & expected).sum() / (found | expected).sum() > 0.99
    # no pixel of the mask is shown outside it
    painted = np.where(mask[..., None], np.uint8(255), np.uint8(0)) * np.ones(3, np.uint8)
    assert not alignment.chip(painted)[~found].any()
    assert not alignment.mask(np.zeros_like(mask)).any()
    assert alignment.mask(np.ones_like(mask)).all()


def test_embeddings_are_those_of_each_chip(embedder: Embedder, astronaut: UInt8Array) -> None:
    chip = embedder.align(astronaut, FACE).chip(astronaut)
    chips = [chip, chip[:, ::-1], np.zeros_like(chip)]
    found = embedder(chips)
    assert (found.shape, found.dtype) == ((3, LENGTH), np.float64)
    np.testing.assert_allclose(found, np.concatenate([embedder([one]) for one in chips]), atol=1e-5)
    assert embedder([]).shape == (0, LENGTH)


def test_one_face_in_two_pictures_is_one_persons(embedder: Embedder, astronaut: UInt8Array) -> None:
    chip = embedder.align(astronaut, FACE).chip(astronaut)
    crop = astronaut[20:320, 60:380]  # a view that is not contiguous
    moved = FACE[0] - 60, FACE[1] - 20, FACE[2] - 60, FACE[3] - 20
    assert apart(embedder, chip, embedder.align(crop, moved).chip(crop)) < 0.05
    small = cv2.resize(astronaut, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    box = tuple(0.6 * v for v in FACE)
    assert apart(embedder, chip, embedder.align(small, box).chip(small)) < SAME / 2  # type: ignore[arg-type]


@pytest.mark.parametrize("degrees", [-25, -15, 15, 25])
def test_a_turned_face_is_turned_upright(embedder: Embedder, astronaut: UInt8Array, degrees: int) -> None:
    chip = embedder.align(astronaut, FACE).chip(astronaut)
    middle = (FACE[0] + FACE[2]) / 2, (FACE[1] + FACE[3]) / 2
    turned = cv2.warpAffine(astronaut, cv2.getRotationMatrix2D(middle, degrees, 1), (512, 512))
    again = embedder.align(turned, FACE).chip(turned)
    assert apart(embedder, chip, again) < SAME / 3
    as_it_was = sampled(turned, embedder.align(astronaut, FACE)).astype(np.uint8)
    assert difference(chip, again) < difference(chip, as_it_was) / 3


def test_a_mirrored_face_gives_a_mirrored_chip(embedder: Embedder, astronaut: UInt8Array) -> None:
    chip = embedder.align(astronaut, FACE).chip(astronaut)
    mirrored = astronaut[:, ::-1]
    again = embedder.align(mirrored, (511 - FACE[2], FACE[1], 511 - FACE[0], FACE[3])).chip(mirrored)
    assert difference(chip[:, ::-1], again) < difference(chip, again) / 3
    assert apart(embedder, chip, again) < SAME / 2


@pytest.mark.portraits
def test_people_are_told_apart(embedder: Embedder, astronaut: UInt8Array, portraits: Path) -> None:
    def of(name: str) -> UInt8Array:
        pixels = np.array(Image.open(portraits / "images" / f"lfw_{name}.jpg").convert("RGB"))
        return embedder.align(pixels, LFW).chip(pixels)

    names = [f"{who}_000{i}" for who in ("Ariel_Sharon", "Tony_Blair") for i in (1, 2)]
    found = embedder([*map(of, names), embedder.align(astronaut, FACE).chip(astronaut)])
    distance = np.linalg.norm(found[:, None] - found[None], axis=-1)
    same = np.array([[a[:5] == b[:5] for b in [*names, "astronaut"]] for a in [*names, "astronaut"]])
    assert distance[same].max() < SAME < distance[~same].min()


def test_a_chip_is_black_beyond_the_border(embedder: Embedder, astronaut: UInt8Array) -> None:
    left, top, right, bottom = 180, 100, 330, 300
    cut = np.maximum(astronaut[top:bottom, left:right], 1)
    box = FACE[0] - left, FACE[1] - top, FACE[2] - left, FACE[3] - top  # it begins outside
    alignment = embedder.align(cut, box)
    chip, shown = alignment.chip(cut), alignment.mask(np.ones(cut.shape[:2], bool))
    assert 0.3 < shown.mean() < 0.9
    assert not chip[~shown].any()
    assert (chip[shown] > 0).all(axis=1).mean() > 0.98
    assert np.isfinite(embedder([chip])).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 400)])
@pytest.mark.parametrize("box", [(0, 0, 1, 1), (3, 3, 3, 3), (-50, -50, -10, -10), (0, 0, 1000, 1000)])
def test_a_box_may_be_anything(embedder: Embedder, size: tuple[int, int], box: Box) -> None:
    pixels = np.full((*size, 3), 90, np.uint8)
    found = embedder([embedder.align(pixels, box).chip(pixels)])
    assert found.shape == (1, LENGTH)
    assert np.isfinite(found).all()


def test_arrays_of_another_kind_are_refused(embedder: Embedder, astronaut: UInt8Array) -> None:
    with pytest.raises(ValueError, match="uint8 image"):
        embedder.align(astronaut[..., 0], FACE)
    with pytest.raises(ValueError, match="uint8 image"):
        embedder.align(astronaut, FACE).chip(astronaut.astype(np.float32))  # type: ignore[arg-type]


def test_without_dlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingExtra, match=r'dlib-bin is not installed; .* pip install "p3mdata\[audit\]"'):
        Embedder(tmp_path, tmp_path)
