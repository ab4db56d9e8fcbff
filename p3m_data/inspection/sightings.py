"""What several detectors see in a picture, at several scales and turned, and which sightings are one face."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from p3m_data.arrays import UInt8Array, check_image
from p3m_data.faces.detectors import SCORE, Detections, Detector
from p3m_data.faces.proposals import box_iou
from p3m_data.types import Box, Frozen

SAME = 0.3  # sightings with more IoU than this are of one face
SAME_LOOSE = 0.08  # or with this, when the middle of each lies in the other: boxes are cut differently
SMALLEST = 12  # pixels of a view's side; smaller views show no face
ONE_LOOK = frozenset({"dlib_cnn"})
"""Detectors that get one upright look at a small copy, because on a processor they are slow."""


class LookConfig(Frozen):
    """How hard to look."""

    scales: tuple[float, ...] = Field(
        (0.5, 1.0, 2.0), min_length=1, description="sizes of the picture to show"
    )
    turns: tuple[int, ...] = Field((30, 90, 180, 270, 330), description="degrees to turn the picture by")
    longest: int = Field(1600, ge=64, description="long side of the largest view, pixels")
    turned_longest: int = Field(512, ge=64, description="long side of the turned views, pixels")
    slow_longest: int = Field(640, ge=64, description="long side of the one view that slow detectors get")


class View(NamedTuple):
    """A copy of the picture that detectors are shown."""

    name: str
    """`x1`, `x0.5`, `turned 90`: what a report calls it."""
    pixels: UInt8Array
    to_picture: npt.NDArray[np.float64]
    """(2, 3): picture coordinates of a view's pixel."""


class Sighting(NamedTuple):
    """One detection, its box in pixels of the picture."""

    detector: str
    view: str
    box: Box
    score: float


@dataclass(frozen=True)
class Place:
    """Sightings of one face."""

    box: Box
    """The box of its best sighting."""
    scores: Mapping[str, float]
    """Detector -> its best score there, scaled so that 1 is what it takes to count by itself."""
    sightings: tuple[Sighting, ...]

    @property
    def score(self) -> float:
        return max(self.scores.values())


def views(image: UInt8Array, config: LookConfig) -> Iterator[View]:
    """The looks at `image` ((H, W, 3) uint8 RGB), upright ones first; none is made twice."""
    check_image(image)
    long_side = max(image.shape[:2])
    factors: dict[float, str] = {}
    for scale in config.scales:
        factors.setdefault(round(min(scale, config.longest / long_side), 3), f"x{scale:g}")
    for factor, name in factors.items():
        if factor * min(image.shape[:2]) >= SMALLEST:
            yield _view(image, factor, 0, name)
    small = min(1.0, config.turned_longest / long_side)
    if small * min(image.shape[:2]) >= SMALLEST:
        for turn in config.turns:
            yield _view(image, small, turn, f"turned {turn}")


def slow_view(image: UInt8Array, config: LookConfig) -> View:
    """The one look that detectors of `ONE_LOOK` get."""
    return _view(image, min(1.0, config.slow_longest / max(check_image(image).shape[:2])), 0, "small")


def sightings(image: UInt8Array, detectors: Mapping[str, Detector], config: LookConfig) -> list[Sighting]:
    """All that any of `detectors` sees in any view of `image` ((H, W, 3) uint8 RGB)."""
    quick = {name: d for name, d in detectors.items() if name not in ONE_LOOK}
    found: list[Sighting] = []
    for view in views(image, config) if quick else ():
        for name, detector in quick.items():
            found += _seen(name, detector, view)
    for name in sorted(detectors.keys() & ONE_LOOK):
        found += _seen(name, detectors[name], slow_view(image, config))
    return found


def places(
    seen: Sequence[Sighting], accept: Mapping[str, float], support: Mapping[str, float]
) -> list[Place]:
    """Sightings of the same face put together, greedily from the best on; best first.

    accept: detector -> the score that counts by itself. support: the least score that counts at all.
    """
    counted = [s for s in seen if s.score >= support[s.detector]]
    counted.sort(key=lambda s: (-s.score / accept[s.detector], s.detector, s.view, s.box))
    groups: list[list[Sighting]] = []
    for one in counted:
        home = next((group for group in groups if same_face(group[0].box, one.box)), None)
        if home is None:
            groups.append([one])
        else:
            home.append(one)
    return [_place(group, accept) for group in groups]


def _place(group: Sequence[Sighting], accept: Mapping[str, float]) -> Place:
    scores: dict[str, float] = {}
    for one in group:
        scores[one.detector] = max(scores.get(one.detector, 0.0), one.score / accept[one.detector])
    return Place(group[0].box, scores, tuple(group))


def same_face(a: Box, b: Box) -> bool:
    """True when two boxes overlap well, or overlap and hold each other's middle."""
    iou = box_iou(a, b)
    if iou > SAME:
        return True
    p, q = np.array(a), np.array(b)
    apart = np.abs((p[:2] + p[2:]) / 2 - (q[:2] + q[2:]) / 2)
    half = np.minimum(p[2:] - p[:2], q[2:] - q[:2]) / 2
    return iou > SAME_LOOSE and bool((apart < half).all())


def _seen(name: str, detector: Detector, view: View) -> Iterator[Sighting]:
    rows: Detections = detector(view.pixels)
    for row in rows:
        yield Sighting(name, view.name, _box(row[:4], view.to_picture), float(row[SCORE]))


def _box(box: npt.NDArray[np.float64], matrix: npt.NDArray[np.float64]) -> Box:
    """A box of a view in the picture: upright again, around its moved middle, with its area."""
    middle = matrix[:, :2] @ ((box[:2] + box[2:]) / 2) + matrix[:, 2]
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    half = (box[2:] - box[:2]) / 2 * scale
    if abs(matrix[0, 0]) < abs(matrix[0, 1]):  # lying: its sides change places
        half = half[::-1]
    (x0, y0), (x1, y1) = middle - half, middle + half
    return (float(x0), float(y0), float(x1), float(y1))


def _view(image: UInt8Array, factor: float, turn: int, name: str) -> View:
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    small = image if size == (width, height) else cv2.resize(image, size, interpolation=interpolation)
    sx, sy = width / size[0], height / size[1]
    back = np.array([[sx, 0, sx / 2 - 0.5], [0, sy, sy / 2 - 0.5], [0, 0, 1]])
    pixels = np.asarray(small, np.uint8)
    if turn % 360:
        pixels, unturned = _turned(pixels, turn)
        back = back @ unturned
    return View(name, pixels, back[:2])


def _turned(image: UInt8Array, degrees: int) -> tuple[UInt8Array, npt.NDArray[np.float64]]:
    """The whole picture turned anticlockwise on a canvas that holds it; (3, 3) back from its pixels."""
    height, width = image.shape[:2]
    turn = np.radians(degrees)
    cos, sin = np.cos(turn), np.sin(turn)
    wide = ceil(abs(width * cos) + abs(height * sin) - 1e-6)
    high = ceil(abs(width * sin) + abs(height * cos) - 1e-6)
    there = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    there[:2, 2] = np.array([wide - 1, high - 1]) / 2 - there[:2, :2] @ [(width - 1) / 2, (height - 1) / 2]
    pixels = cv2.warpAffine(
        image, there[:2], (wide, high), flags=cv2.INTER_LINEAR, borderValue=(127, 127, 127)
    )
    return np.asarray(pixels, np.uint8), np.linalg.inv(there)
