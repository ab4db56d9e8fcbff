"""One attacker: knows the method, has a good detector for where the face is, and tries to undo the blur first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
from pydantic import Field

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array
from p3m_data.faces.embedding import Embedder, Embeddings
from p3m_data.faces.restoration import (
    ROUNDING,
    estimate_sigma,
    paste_mean_face,
    richardson_lucy,
    wiener,
)
from p3m_data.types import Box, Frozen

ATTACKS: Mapping[str, str] = {
    "published": "the published picture as it is",
    "wiener": "Wiener deconvolution, the blur's sigma known",
    "wiener_estimated": "Wiener deconvolution, sigma estimated from the picture",
    "richardson_lucy": "Richardson-Lucy deconvolution, sigma known",
    "mean_face": "an average face pasted over the blur",
}
"""What is done to a published face before it is recognised."""
FILLED = "filled"
"""The control: the mask in one colour, so that only hair, forehead, clothes and background can help."""
WHOLE, ALONE = "with_surroundings", "face_alone"
"""What the recogniser sees: the face with what is around it, or with an average face's surroundings."""
JPEG_NOISE = 1.0
"""Variance of what a JPEG of good quality loses inside a smooth area, levels of 255 squared."""


class AttackConfig(Frozen):
    """How hard the attacker tries."""

    rounds: int = Field(50, ge=1, le=1000, description="rounds of Richardson-Lucy")


class Attacker:
    """`embedding`, `five_points`: weights; `mean_face`: (150, 150, 3) float32, what an average chip looks like."""

    def __init__(
        self,
        embedding: Path,
        five_points: Path,
        mean_face: FloatArray | None = None,
        config: AttackConfig | None = None,
    ) -> None:
        self._embedder = Embedder(embedding, five_points)
        self._mean_face = mean_face
        self._config = config or AttackConfig()

    def chip(self, original: UInt8Array, box: Box) -> UInt8Array:
        """The face in `box` as the embedder sees it, (150, 150, 3) uint8."""
        return self._embedder.align(original, box).chip(original)

    def embed(self, chips: list[UInt8Array]) -> Embeddings:
        """(N, 128) float64."""
        return self._embedder(chips)

    def attack(
        self,
        original: UInt8Array,
        published: UInt8Array,
        facemask: BoolArray,
        box: Box,
        sigma: float | None,
        *,
        lossless: bool,
    ) -> dict[str, UInt8Array]:
        """Chips of the face in `box` by "view/attack", with `FILLED` among the attacks.

        `original` serves to align the face only: who attacks has a detector as good as that. `sigma` in pixels;
        without it the attacks that need it are left out. `ValueError` without a mean face.
        """
        if self._mean_face is None:
            raise ValueError("an attacker without a mean face can only look")
        alignment = self._embedder.align(original, box)
        mask = masked_face(facemask, box)
        shown = alignment.mask(mask)
        chips = {
            name: alignment.chip(tried) for name, tried in self._restored(published, mask, sigma, lossless)
        }
        chips |= {
            FILLED: _filled(chips["published"], shown),
            "mean_face": paste_mean_face(chips["published"], shown, self._mean_face),
        }
        alone = {name: _alone(chip, shown, self._mean_face) for name, chip in chips.items()}
        seen = ((WHOLE, chips), (ALONE, alone))
        return {f"{view}/{name}": chip for view, named in seen for name, chip in named.items()}

    def _restored(
        self, published: UInt8Array, mask: BoolArray, sigma: float | None, lossless: bool
    ) -> Iterator[tuple[str, UInt8Array]]:
        noise = ROUNDING if lossless else JPEG_NOISE
        guess = estimate_sigma(published, mask)
        yield "published", published
        # where nothing varies there is nothing to undo
        yield "wiener_estimated", wiener(published, mask, guess, noise) if guess > 0 else published
        if sigma:
            yield "wiener", wiener(published, mask, sigma, noise)
            yield "richardson_lucy", richardson_lucy(published, mask, sigma, self._config.rounds)


def masked_face(facemask: BoolArray, box: Box) -> BoolArray:
    """The parts of `facemask`, (H, W) bool, that reach into the middle of `box`: that face's own."""
    x0, y0, x1, y1 = box
    inner = np.zeros_like(facemask)
    rows = slice(max(0, round(y0 + (y1 - y0) / 4)), max(1, round(y1 - (y1 - y0) / 4)))
    columns = slice(max(0, round(x0 + (x1 - x0) / 4)), max(1, round(x1 - (x1 - x0) / 4)))
    inner[rows, columns] = True
    _, labels = cv2.connectedComponents(facemask.astype(np.uint8), connectivity=8)
    touched = np.unique(labels[inner & facemask])
    return np.asarray(np.isin(labels, touched) & facemask)


def _filled(chip: UInt8Array, mask: BoolArray) -> UInt8Array:
    filled = chip.copy()
    if mask.any():
        filled[mask] = np.rint(chip[mask].mean(axis=0))
    return filled


def _alone(chip: UInt8Array, mask: BoolArray, mean_face: FloatArray) -> UInt8Array:
    """`chip` inside `mask`, an average face around it."""
    alone = np.rint(mean_face).astype(np.uint8)
    alone[mask] = chip[mask]
    return alone


def mean_of(chips: list[UInt8Array]) -> FloatArray:
    """The average of one or more chips, (150, 150, 3) float32."""
    return np.asarray(np.mean(np.stack(chips), axis=0, dtype=np.float64), np.float32)
