"""What the attacker makes of a blurred face, with the real embedder."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array
from p3m_data.faces.embedding import CHIP, LENGTH, Embedder
from p3m_data.faces.obfuscation import obfuscate
from p3m_data.faces.restoration import ROUNDING, estimate_sigma, paste_mean_face, richardson_lucy, wiener
from p3m_data.inspection.attacker import (
    ALONE,
    ATTACKS,
    FILLED,
    JPEG_NOISE,
    WHOLE,
    AttackConfig,
    Attacker,
    masked_face,
    mean_of,
)
from tests.faces.test_embedding import attackers_files
from tests.runs import portrait

FACE = (117.0, 64.0, 215.0, 196.0)
"""In `portrait()`, measured by hand."""
SIGMA = 8.0


def face_mask() -> BoolArray:
    mask = np.zeros((300, 300), np.uint8)
    cv2.ellipse(mask, (166, 130), (46, 62), 0, 0, 360, 1, -1)
    return mask > 0


@pytest.fixture(scope="module")
def mean_face() -> FloatArray:
    """(150, 150, 3) float32: noise, so that nothing else looks like it."""
    return np.random.default_rng(0).uniform(0, 255, (CHIP, CHIP, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def attacker(mean_face: FloatArray) -> Attacker:
    return Attacker(*attackers_files(), mean_face)


@pytest.fixture(scope="module")
def published() -> UInt8Array:
    return obfuscate(portrait(), face_mask(), SIGMA, "gaussian")


@pytest.fixture(scope="module")
def chips(attacker: Attacker, published: UInt8Array) -> dict[str, UInt8Array]:
    return attacker.attack(portrait(), published, face_mask(), FACE, SIGMA, lossless=True)


@pytest.fixture(scope="module")
def shown() -> BoolArray:
    """(150, 150): where the chip shows the mask."""
    return Embedder(*attackers_files()).align(portrait(), FACE).mask(face_mask())


def test_a_chip_for_each_view_and_attack(chips: dict[str, UInt8Array]) -> None:
    assert chips.keys() == {f"{view}/{name}" for view in (WHOLE, ALONE) for name in (*ATTACKS, FILLED)}
    assert {(chip.shape, chip.dtype) for chip in chips.values()} == {((CHIP, CHIP, 3), np.dtype(np.uint8))}


def test_chips_are_those_of_the_restored_pictures(
    attacker: Attacker,
    chips: dict[str, UInt8Array],
    published: UInt8Array,
    shown: BoolArray,
    mean_face: FloatArray,
) -> None:
    mask = face_mask()
    alignment = Embedder(*attackers_files()).align(portrait(), FACE)
    guess = estimate_sigma(published, mask)
    expected = {
        "published": published,
        "wiener": wiener(published, mask, SIGMA, ROUNDING),
        "wiener_estimated": wiener(published, mask, guess, ROUNDING),
        "richardson_lucy": richardson_lucy(published, mask, SIGMA, 50),
    }
    for name, picture in expected.items():
        np.testing.assert_array_equal(chips[f"{WHOLE}/{name}"], alignment.chip(picture))
    np.testing.assert_array_equal(
        chips[f"{WHOLE}/mean_face"], paste_mean_face(chips[f"{WHOLE}/published"], shown, mean_face)
    )
    np.testing.assert_array_equal(attacker.chip(portrait(), FACE), alignment.chip(portrait()))


def test_attacks_change_the_mask_alone(chips: dict[str, UInt8Array], shown: BoolArray) -> None:
    before = chips[f"{WHOLE}/published"]
    for name in (*ATTACKS, FILLED):
        after = chips[f"{WHOLE}/{name}"]
        np.testing.assert_array_equal(after[~shown], before[~shown])
        assert name == "published" or (after[shown] != before[shown]).any()


def test_alone_is_the_mask_in_the_mean_face(
    chips: dict[str, UInt8Array], shown: BoolArray, mean_face: FloatArray
) -> None:
    around = np.rint(mean_face).astype(np.uint8)
    for name in (*ATTACKS, FILLED):
        np.testing.assert_array_equal(chips[f"{ALONE}/{name}"][~shown], around[~shown])
        np.testing.assert_array_equal(chips[f"{ALONE}/{name}"][shown], chips[f"{WHOLE}/{name}"][shown])


def test_the_control_is_one_colour(chips: dict[str, UInt8Array], shown: BoolArray) -> None:
    colours = np.unique(chips[f"{WHOLE}/{FILLED}"][shown], axis=0)
    assert len(colours) == 1
    np.testing.assert_allclose(colours[0], chips[f"{WHOLE}/published"][shown].mean(axis=0), atol=0.5)


def test_without_sigma_what_needs_it_is_left_out(attacker: Attacker, published: UInt8Array) -> None:
    found = attacker.attack(portrait(), published, face_mask(), FACE, None, lossless=True)
    left = {*ATTACKS, FILLED} - {"wiener", "richardson_lucy"}
    assert found.keys() == {f"{view}/{name}" for view in (WHOLE, ALONE) for name in left}


def test_a_jpeg_is_taken_to_be_noisier(attacker: Attacker, published: UInt8Array) -> None:
    mask = face_mask()
    alignment = Embedder(*attackers_files()).align(portrait(), FACE)
    found = attacker.attack(portrait(), published, mask, FACE, SIGMA, lossless=False)[f"{WHOLE}/wiener"]
    np.testing.assert_array_equal(found, alignment.chip(wiener(published, mask, SIGMA, JPEG_NOISE)))


def test_the_rounds_are_those_of_the_config(mean_face: FloatArray, published: UInt8Array) -> None:
    once = Attacker(*attackers_files(), mean_face, AttackConfig(rounds=1))
    found = once.attack(portrait(), published, face_mask(), FACE, SIGMA, lossless=True)
    alignment = Embedder(*attackers_files()).align(portrait(), FACE)
    expected = richardson_lucy(published, face_mask(), SIGMA, 1)
    np.testing.assert_array_equal(found[f"{WHOLE}/richardson_lucy"], alignment.chip(expected))
    with pytest.raises(ValidationError):
        AttackConfig(rounds=0)


def test_nothing_masked_leaves_the_picture_as_it_is(attacker: Attacker) -> None:
    mask = np.zeros((300, 300), bool)
    found = attacker.attack(portrait(), portrait(), mask, FACE, SIGMA, lossless=True)
    for name in (*ATTACKS, FILLED):
        np.testing.assert_array_equal(found[f"{WHOLE}/{name}"], attacker.chip(portrait(), FACE))


def test_a_flat_mask_is_not_restored_with_a_guess(attacker: Attacker) -> None:
    flat = obfuscate(portrait(), face_mask(), SIGMA, "fill")
    found = attacker.attack(portrait(), flat, face_mask(), FACE, None, lossless=True)
    np.testing.assert_array_equal(found[f"{WHOLE}/wiener_estimated"], found[f"{WHOLE}/published"])


def test_who_has_no_mean_face_only_looks(published: UInt8Array) -> None:
    looker = Attacker(*attackers_files())
    assert looker.embed([looker.chip(portrait(), FACE)]).shape == (1, LENGTH)
    with pytest.raises(ValueError, match="without a mean face"):
        looker.attack(portrait(), published, face_mask(), FACE, SIGMA, lossless=True)


class TestMaskedFace:
    def test_only_the_component_in_the_middle_of_the_box_is_taken(self) -> None:
        own, other = face_mask(), np.zeros((300, 300), bool)
        other[100:160, 220:290] = True  # reaches beside the box, not into its middle
        np.testing.assert_array_equal(masked_face(own | other, FACE), own)
        np.testing.assert_array_equal(masked_face(own | other, (200, 90, 300, 170)), other)

    def test_parts_that_are_split_are_both_taken(self) -> None:
        split = face_mask()
        split[:, 160:172] = False  # a strand of hair
        np.testing.assert_array_equal(masked_face(split, FACE), split)

    def test_pixels_that_touch_at_corners_are_one_part(self) -> None:
        mask = np.eye(40, dtype=bool)
        np.testing.assert_array_equal(masked_face(mask, (10, 10, 20, 20)), mask)

    def test_there_may_be_none(self) -> None:
        assert not masked_face(np.zeros((40, 40), bool), (5, 5, 20, 20)).any()
        corner = np.zeros((40, 40), bool)
        corner[:4, :4] = True
        assert not masked_face(corner, (5, 5, 38, 38)).any()

    def test_a_box_may_reach_over_the_border(self) -> None:
        mask = np.zeros((40, 40), bool)
        mask[0:12, 30:40] = True
        np.testing.assert_array_equal(masked_face(mask, (20, -20, 60, 20)), mask)


def test_the_mean_of_chips() -> None:
    chips = [np.full((CHIP, CHIP, 3), level, np.uint8) for level in (255, 255, 0)]
    found = mean_of(chips)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 170)
    np.testing.assert_array_equal(mean_of(chips[:1]), 255)
