"""Mask: private area minus transition area gives the adjusted mask (paper, section 3.2 and figure 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from pydantic import Field

from p3m_data.arrays import BoolArray, FloatArray
from p3m_data.faces.private_area import ellipse_outline, face_width, hair_margin, private_area
from p3m_data.matte.transition import remove_specks, transition_area
from p3m_data.stages.detect import Found
from p3m_data.types import Face, Frozen, Outline, Reason

CORE = 0.6  # eyes, nose and mouth lie in the outline shrunk by this factor
INNER = 0.1  # a detector's box is this much (share of its sides) larger than the face in it
HIDDEN = 0.3  # a bystander's face may be hidden by the subject up to this share
CUT = 0.25  # the border cuts a face of which this share of a side, or more, is beyond it
WEAK_SIZE = 0.8  # a weak proposal larger than this share of the largest face is no bystander but a pattern
MOSTLY = 0.5  # of a suggested face: with more of it masked, what was drawn is that face
AROUND = 2  # pixels between a drawn part and the polygon around it
COVERED = 0.9  # a proposal with this share of its area under other faces' masks needs none of its own


class MaskConfig(Frozen):
    """How the transition area is drawn and how much of a face must stay masked."""

    tolerance: float = Field(
        5 / 255, ge=0, lt=0.5, description="alpha this close to 0 or 1 counts as 0 or 1 (0: strictly)"
    )
    margin: float = Field(
        0.012, ge=0, le=0.2, description="widening of the transition area, share of the face's width"
    )
    hair: float = Field(
        0.015, ge=0, le=0.2, description="without a matte: band kept free for hair, share of the face's width"
    )
    specks: float = Field(0.01, ge=0, le=0.2, description="mask parts below this share of a face are dropped")
    kept: float = Field(0.6, gt=0, le=1, description="least share of a private area that stays masked")
    core: float = Field(0.9, gt=0, le=1, description="the same for the part with eyes, nose and mouth")


class Masked(NamedTuple):
    """The areas of figure 3; all (H, W) bool."""

    faces: tuple[Face, ...]
    private: BoolArray
    transition: BoolArray
    mask: BoolArray
    problems: tuple[tuple[Reason, str], ...]
    """Why a person must look, worst first; empty when every face is masked."""


def mask(found: list[Found], alpha: FloatArray | None, shape: tuple[int, ...], config: MaskConfig) -> Masked:
    """The adjusted mask of a picture of `shape` (H, W, ...) with its matte `alpha` ((H, W) float32 in [0, 1])."""
    subject = _subject(alpha, config)
    faces, problems = _decide(found, subject, shape)
    masked = _areas(faces, alpha, shape, config)
    problems += [
        (Reason.MASK_TOO_SMALL, said)
        for face, area, kept in masked.parts
        if (said := _too_small(face, area, kept, config))
    ]
    return Masked(tuple(faces), masked.private, masked.transition, masked.mask, tuple(problems))


def suggest(
    faces: Sequence[Face], alpha: FloatArray | None, shape: tuple[int, ...], config: MaskConfig
) -> Masked:
    """What would be masked if a person trusted the outline of every face that `mask` gave.

    Faces that it left to a person come back with `how` "person".
    """
    trusted = [face.model_copy(update={"how": "person"}) if face.how == "none" else face for face in faces]
    areas = _areas(trusted, alpha, shape, config)
    return Masked(tuple(trusted), areas.private, areas.transition, areas.mask, ())


def drawn(suggested: Masked, mask: BoolArray, alpha: FloatArray | None) -> Masked:
    """What is masked when a person drew `mask` ((H, W) bool) on a picture with that suggestion.

    Each connected part is a face, as wide as the suggested faces that it mostly covers, so that the blur of
    a face that was only touched up is not weaker. Without a matte the person's border overrules the
    estimated transition area.
    """
    transition = suggested.transition if alpha is not None else suggested.transition & ~mask
    faces = tuple(_part_faces(mask, suggested.faces))
    return Masked(faces, suggested.private | mask, transition, mask, ())


class _Areas(NamedTuple):
    private: BoolArray
    transition: BoolArray
    mask: BoolArray
    parts: list[tuple[Face, BoolArray, BoolArray]]
    """Each masked face with its private area and what of it is masked."""


def _areas(
    faces: Sequence[Face], alpha: FloatArray | None, shape: tuple[int, ...], config: MaskConfig
) -> _Areas:
    masked = [face for face in faces if face.how != "none"]
    subject = _subject(alpha, config)
    transition = _transition([face.outline for face in masked], alpha, shape, config)
    private, adjusted = np.zeros(shape[:2], bool), np.zeros(shape[:2], bool)
    parts = []
    for face in masked:
        area = private_area([face.outline], shape)
        if face.how == "ellipse" and subject is not None:
            area &= ~subject
        kept = remove_specks(area & ~transition, config.specks * area.sum())
        private |= area
        adjusted |= kept
        parts.append((face, area, kept))
    return _Areas(private, transition, adjusted, parts)


def _part_faces(mask: BoolArray, suggested: Sequence[Face]) -> Iterator[Face]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    covered = []
    for face in suggested:
        area = private_area([face.outline], mask.shape)
        # of all parts together: a strand of hair that cuts a face in two makes it no smaller
        if (area & mask).sum() > MOSTLY * max(area.sum(), 1):
            covered.append((face.outline, area))
    for label in range(1, count):
        x, y, width, height = stats[label, :4].tolist()
        here = slice(y, y + height), slice(x, x + width)
        part = labels[here] == label
        outlines = [outline for outline, area in covered if (area[here] & part).any()]
        box = (float(x), float(y), float(x + width - 1), float(y + height - 1))
        outline = _joined([_around(part, x, y), *outlines])
        yield Face(box=box, score=1.0, detectors=(), how="person", outline=outline)


def _around(part: BoolArray, x: int, y: int) -> Outline:
    """A polygon that holds every pixel of `part`, whose top left pixel is (x, y)."""
    wide = cv2.dilate(np.pad(part, AROUND).astype(np.uint8), np.ones((2 * AROUND + 1,) * 2, np.uint8))
    contours, _ = cv2.findContours(wide, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = cv2.approxPolyDP(max(contours, key=cv2.contourArea), AROUND / 2, True).reshape(-1, 2)
    return tuple((float(px), float(py)) for px, py in (points + np.array([x, y]) - AROUND).tolist())


def _joined(outlines: list[Outline]) -> Outline:
    """The hull of several outlines; a single one as it is."""
    if len(outlines) == 1:
        return outlines[0]
    hull = cv2.convexHull(np.concatenate([np.array(o, np.float32) for o in outlines])).reshape(-1, 2)
    return tuple((round(float(x), 2), round(float(y), 2)) for x, y in hull)


def _subject(alpha: FloatArray | None, config: MaskConfig) -> BoolArray | None:
    return None if alpha is None else alpha > config.tolerance + 0.5 / 255


def _decide(
    found: list[Found], subject: BoolArray | None, shape: tuple[int, ...]
) -> tuple[list[Face], list[tuple[Reason, str]]]:
    """What is done about each face, and what a person must be asked."""
    faces = [f.face for f in found if f.reason is None]
    problems = []
    known = private_area([face.outline for face in faces], shape)
    largest = max((_size(face) for face in faces), default=0.0)
    for face, reason, weak in found:
        if reason is None:
            continue
        inner = private_area([ellipse_outline(face.box, margin=-INNER)], shape)
        covered = (inner & known).sum() >= COVERED * max(inner.sum(), 1)
        if reason is not Reason.ALREADY_OBFUSCATED:
            if covered or (weak and _size(face) > WEAK_SIZE * largest):
                continue
            if _is_bystander(face, inner, subject, among_others=largest > 0, weak=weak):
                faces.append(face.model_copy(update={"how": "ellipse"}))
                continue
        if not weak:
            faces.append(face.model_copy(update={"how": "none"}))
            problems.append((reason, f"a face at {_place(face)} {_SAID[reason]}"))
    return faces, problems


_SAID = {
    Reason.NO_LANDMARKS: "has no landmarks",
    Reason.LANDMARKS_DISAGREE: "gets other landmarks from every look",
    Reason.ALREADY_OBFUSCATED: "seems to be blurred already",
}


def _is_bystander(
    face: Face, inner: BoolArray, subject: BoolArray | None, *, among_others: bool, weak: bool
) -> bool:
    """True for somebody behind the subject, whom an ellipse may cover without asking.

    `inner`: (H, W) bool, the middle of the face. With a matte: it lies where alpha is 0, or, if there is
    another face for the subject, mostly (the subject hides the rest, and that part is left alone). Without
    a matte: the picture's border cuts it, and there is another, whole face.
    """
    if not inner.any():
        return False
    if subject is not None:
        hidden = float(subject[inner].mean())
        return hidden == 0 or (among_others and not weak and hidden <= HIDDEN)
    x0, y0, x1, y1 = face.box
    height, width = inner.shape
    out = max(-x0 / (x1 - x0), (x1 - width) / (x1 - x0), -y0 / (y1 - y0), (y1 - height) / (y1 - y0))
    return among_others and out >= CUT


def _transition(
    outlines: list[Outline], alpha: FloatArray | None, shape: tuple[int, ...], config: MaskConfig
) -> BoolArray:
    if alpha is not None:
        widest = max((face_width(o) for o in outlines), default=0.0)
        return transition_area(alpha, config.margin * widest, config.tolerance)
    area = np.zeros(shape[:2], bool)
    for outline in outlines:
        area |= hair_margin(outline, shape, config.hair * face_width(outline))
    return area


def _too_small(face: Face, area: BoolArray, kept: BoolArray, config: MaskConfig) -> str | None:
    points = np.array(face.outline)
    core_points = points.mean(axis=0) + (points - points.mean(axis=0)) * CORE
    core = area & private_area([tuple(map(tuple, core_points.tolist()))], area.shape)
    for part, whole, least in (("face", area, config.kept), ("eyes, nose and mouth", core, config.core)):
        share = (whole & kept).sum() / max(whole.sum(), 1)
        if share < least:
            return (
                f"only {share:.0%} of the {part} at {_place(face)} can be masked without touching the matte"
            )
    return None


def _size(face: Face) -> float:
    x0, y0, x1, y1 = face.box
    return max(x1 - x0, y1 - y0)


def _place(face: Face) -> str:
    x0, y0, x1, y1 = face.box
    return f"({round((x0 + x1) / 2)}, {round((y0 + y1) / 2)})"
