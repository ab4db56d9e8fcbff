"""Where could there be a face? High recall first: a false alarm costs a look, a miss costs a person.

Every detector sees the picture at several scales (tiled where that gets large, so that small faces keep
enough pixels) and turned by quarter turns (people lie down). What several looks agree on is one proposal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import atan2, ceil

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from p3m_data.arrays import UInt8Array, check_image
from p3m_data.faces.crops import upright_crop
from p3m_data.faces.detectors import SCORE, Detections, Detector
from p3m_data.types import Box, Frozen

COARSE = 320  # long side of the coarsest view; near faces fill it
SEEN = 14  # a face needs about this many pixels in a view to be detected
TILE = 1024  # views with a longer side are cut into tiles
TILE_OVERLAP = 160  # a face up to this size in the view is whole in one tile at least
STEP = 1.5  # between scales: a score varies with the scale, and a face counts with its best
MAX_UPSCALE = 2.0
MIRRORED = 320  # long side of the mirrored view, without its margins
MIRROR = 0.3  # width of the mirrored margins, share of the short side
STICKS_OUT = 0.05  # a box that the border cuts sticks out by more than this share of its side
GHOST = 0.15  # and its middle is no further out: mirrored half faces have theirs on the border
TURNED = 256  # long side of the turned views
TURNED_ACCEPT = 0.1  # added to a detector's accept score for what only a turned view shows
SURE = 0.6  # proposals with this score are never dismissed as false alarms
SAME = 0.35  # detections with more IoU than this are one face
SAME_LOOSE = 0.05  # the same for a coarse detector's box around a finer one's
ZOOMED = 256  # side of the closer look's crop
ZOOMED_SCORE = 0.4  # what a detector must give a face on the closer look

Matrix = npt.NDArray[np.float64]


class ProposalConfig(Frozen):
    """How hard to look."""

    min_face: int = Field(16, ge=8, description="smallest face looked for, in pixels of its width")
    min_face_share: float = Field(
        0.006, ge=0, le=0.1, description="or this share of the picture's long side, if that is more"
    )
    border: bool = Field(True, description="look with mirrored margins too, for faces that the border cuts")
    turned: bool = Field(True, description="look at the picture turned by 90, 180 and 270 degrees too")


@dataclass(frozen=True)
class Proposal:
    """A place where a face may be."""

    box: Box
    score: float
    detectors: tuple[str, ...]
    weak: bool
    """Too little evidence to trouble a person with; enough to cover a bystander, which costs nothing."""
    angle: float
    """Direction of the line from the eye on its left to the eye on its right, radians, 0 when upright."""

    @property
    def size(self) -> float:
        """Geometric mean of the box's sides, pixels."""
        x0, y0, x1, y1 = self.box
        return float(np.sqrt(max(x1 - x0, 1.0) * max(y1 - y0, 1.0)))


@dataclass(frozen=True)
class View:
    """A scaled, turned or cut-out copy of the picture, and the way back."""

    pixels: UInt8Array
    to_picture: Matrix
    """(2, 3): picture coordinates of a view's pixel."""
    turned: bool = False
    mirrored: bool = False
    fine: bool = False
    largest: float = float("inf")
    """Faces larger than this (pixels of the view) belong to a coarser view."""


def propose(image: UInt8Array, detectors: Mapping[str, Detector], config: ProposalConfig) -> list[Proposal]:
    """All faces that any detector proposes in `image` ((H, W, 3) uint8 RGB), best score first."""
    check_image(image)
    looks: list[_Look] = []
    for view in views(image, config):
        for name, detector in detectors.items():
            if view.fine and detector.whole_only:
                continue
            found = detector(view.pixels)
            size = np.maximum(found[:, 2] - found[:, 0], found[:, 3] - found[:, 1])
            found = _to_picture(found[size <= view.largest], view.to_picture)
            if view.mirrored:
                found = found[_is_cut(found, image.shape)]
            looks += [_Look(name, view.turned, detector.whole_only, row) for row in found]
    proposals = [p for cluster in _clusters(looks) if (p := _judge(cluster, detectors)) is not None]
    return sorted(proposals, key=lambda p: (-p.score, p.box))


def views(image: UInt8Array, config: ProposalConfig) -> Iterator[View]:
    """The looks at a picture: a pyramid up to the scale that shows the smallest face, then mirrored and turned."""
    long_side = max(image.shape[:2])
    smallest = max(config.min_face, config.min_face_share * long_side)
    finest = min(max(COARSE, long_side * SEEN / smallest), long_side * MAX_UPSCALE)
    sides = [finest]
    while sides[-1] > COARSE * STEP:
        sides.append(sides[-1] / STEP)
    for side in reversed(sides):
        yield from _tiles(_scaled(image, side / long_side), coarsest=side == sides[-1])
    if config.border:
        yield _mirrored(_scaled(image, min(sides[-1], MIRRORED) / long_side))
    if config.turned:
        small = _scaled(image, min(sides[-1], TURNED) / long_side)
        for turn in (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE):
            yield _turned(small, turn)


def _scaled(image: UInt8Array, factor: float) -> View:
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    pixels = cv2.resize(image, size, interpolation=interpolation)
    sx, sy = width / size[0], height / size[1]
    return View(pixels.astype(np.uint8, copy=False), np.array([[sx, 0, sx / 2 - 0.5], [0, sy, sy / 2 - 0.5]]))


def _tiles(view: View, *, coarsest: bool) -> Iterator[View]:
    height, width = view.pixels.shape[:2]
    largest = float("inf") if coarsest else float(COARSE)
    if max(height, width) <= TILE:
        yield View(view.pixels, view.to_picture, fine=not coarsest, largest=largest)
        return
    for top in _starts(height):
        for left in _starts(width):
            shift = view.to_picture[:, :2] @ [left, top]
            back = view.to_picture + np.array([[0, 0, shift[0]], [0, 0, shift[1]]])
            cut = view.pixels[top : top + TILE, left : left + TILE]
            yield View(cut, back, fine=True, largest=float(TILE_OVERLAP))


def _starts(length: int) -> list[int]:
    """First pixels of tiles that cover `length` and overlap by at least `TILE_OVERLAP`."""
    if length <= TILE:
        return [0]
    count = ceil((length - TILE_OVERLAP) / (TILE - TILE_OVERLAP))
    return [round(i * (length - TILE) / (count - 1)) for i in range(count)]


def _mirrored(view: View) -> View:
    """The picture with its margins mirrored outwards, which completes faces that its border cuts."""
    margin = max(1, round(MIRROR * min(view.pixels.shape[:2])))
    pixels = cv2.copyMakeBorder(view.pixels, margin, margin, margin, margin, cv2.BORDER_REFLECT)
    back = view.to_picture.copy()
    back[:, 2] -= view.to_picture[:, :2] @ [margin, margin]
    return View(pixels.astype(np.uint8, copy=False), back, mirrored=True)


def _is_cut(found: Detections, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Which boxes, in picture coordinates, the border cuts; a whole face's mirror image beyond it is none."""
    size = np.array([shape[1], shape[0]])
    sides = found[:, 2:4] - found[:, :2]
    inside = np.minimum(found[:, 2:4], size) - np.maximum(found[:, :2], 0)
    middle = (found[:, :2] + found[:, 2:4]) / 2
    beyond = np.maximum(np.maximum(-middle, middle - size), 0)
    sticks_out = (inside < (1 - STICKS_OUT) * sides).any(axis=1)
    return np.asarray(sticks_out & (inside > 0).all(axis=1) & (beyond < GHOST * sides).all(axis=1))


def _turned(view: View, turn: int) -> View:
    height, width = view.pixels.shape[:2]
    # a pixel (x, y) of the turned view lies at these places of the unturned one
    inverse = {
        cv2.ROTATE_90_CLOCKWISE: [[0, 1, 0], [-1, 0, height - 1]],
        cv2.ROTATE_180: [[-1, 0, width - 1], [0, -1, height - 1]],
        cv2.ROTATE_90_COUNTERCLOCKWISE: [[0, -1, width - 1], [1, 0, 0]],
    }[turn]
    square = np.vstack([inverse, [0, 0, 1]])
    return View(np.ascontiguousarray(cv2.rotate(view.pixels, turn)), view.to_picture @ square, turned=True)


def _to_picture(found: Detections, matrix: Matrix) -> Detections:
    out = found.copy()
    xy = found[:, :SCORE].reshape(-1, 7, 2) @ matrix[:, :2].T + matrix[:, 2]
    corners, points = xy[:, :2], xy[:, 2:]
    out[:, 0:2], out[:, 2:4] = corners.min(axis=1), corners.max(axis=1)
    out[:, 4:SCORE] = points.reshape(-1, 10)
    return out


def box_iou(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    p, q = np.asarray(a, float), np.asarray(b, float)
    sides = np.minimum(p[2:4], q[2:4]) - np.maximum(p[:2], q[:2])
    inter = float(np.prod(np.maximum(sides, 0)))
    union = float(np.prod(p[2:4] - p[:2]) + np.prod(q[2:4] - q[:2])) - inter
    return inter / union if union > 0 else 0.0


def is_false_alarm(image: UInt8Array, proposal: Proposal, detectors: Mapping[str, Detector]) -> bool:
    """True for a weak proposal that no detector sees again when shown it upright and closer.

    Meant for proposals without landmarks: a hand or a pattern that looked like a face from afar.
    """
    if proposal.score >= SURE:
        return False
    x0, y0, x1, y1 = proposal.box
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    for angle in {proposal.angle, 0.0}:
        crop, to_picture = upright_crop(image, centre, 2 * proposal.size, angle, ZOOMED, mirror=False)
        for detector in detectors.values():
            found = _to_picture(detector(crop), to_picture)
            middles = (found[:, 0:2] + found[:, 2:4]) / 2
            near = np.linalg.norm(middles - centre, axis=1) < 0.4 * proposal.size
            if (found[near, SCORE] >= ZOOMED_SCORE).any():
                return False
    return True


@dataclass(frozen=True)
class _Look:
    """One detection, `row` in picture coordinates."""

    detector: str
    turned: bool
    coarse: bool
    row: Detections


@dataclass
class _Cluster:
    best: _Look
    scores: dict[str, float]


def _clusters(looks: list[_Look]) -> list[_Cluster]:
    """Groups detections of one face, greedily from the best on: the order of `looks` does not matter.

    An upright look goes before a turned one and a fine before a coarse one: their boxes and points are better.
    """
    looks = sorted(looks, key=lambda k: (k.coarse, k.turned, -k.row[SCORE], k.detector, *k.row[:4]))
    clusters: list[_Cluster] = []
    for look in looks:
        home = next((c for c in clusters if _same_face(c.best, look)), None)
        if home is None:
            clusters.append(_Cluster(look, {look.detector: look.row[SCORE]}))
        else:
            home.scores[look.detector] = max(home.scores.get(look.detector, 0.0), look.row[SCORE])
    return clusters


def _same_face(best: _Look, other: _Look) -> bool:
    if box_iou(best.row, other.row) > SAME:
        return True
    if best.coarse or not other.coarse:
        return False
    # a coarse detector draws a loose box around a small face
    middle = (best.row[:2] + best.row[2:4]) / 2
    loose = (other.row[:2] + other.row[2:4]) / 2
    half = (other.row[2:4] - other.row[:2]) / 2
    return bool((np.abs(middle - loose) < half / 2).all()) and box_iou(best.row, other.row) > SAME_LOOSE


def _judge(cluster: _Cluster, detectors: Mapping[str, Detector]) -> Proposal | None:
    extra = TURNED_ACCEPT if cluster.best.turned else 0.0
    alone = [n for n, s in cluster.scores.items() if s >= min(detectors[n].accept + extra, 0.95)]
    together = [n for n, s in cluster.scores.items() if s >= detectors[n].support + extra]
    weak = not alone and len(together) < 2
    if weak:
        together = [n for n, s in cluster.scores.items() if s >= detectors[n].hint + extra]
        if not together:
            return None
    x0, y0, x1, y1, *points = (float(v) for v in cluster.best.row[:SCORE])
    return Proposal(
        box=(x0, y0, x1, y1),
        score=max(cluster.scores[n] for n in {*alone, *together}),
        detectors=tuple(sorted({*alone, *together})),
        weak=weak,
        angle=atan2(points[3] - points[1], points[2] - points[0]),
    )
