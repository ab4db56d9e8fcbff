"""From a proposal to trusted landmarks: look, look again from where the face turned out to be, compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import atan2, cos, sin
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from p3m_data.arrays import UInt8Array
from p3m_data.faces.crops import upright_crop
from p3m_data.faces.landmarkers import Landmarker
from p3m_data.faces.private_area import Points, private_area
from p3m_data.faces.proposals import Proposal
from p3m_data.types import Frozen, Outline

CROP = 320  # pixels of a crop's side: the mesh model looks at 256
# A crop's side in sizes of the proposal, with a turn in radians; tried in this order.
FIRST_LOOKS = ((1.7, 0.0), (2.4, 0.0), (1.3, 0.0), (2.0, 0.0), (3.1, 0.0),
               (1.9, 0.35), (1.9, -0.35), (2.4, 0.35), (2.4, -0.35))  # fmt: skip
# In sizes of the first look's landmarks, with a turn in radians; two of them must agree.
SECOND_LOOKS = ((1.15, 0.0), (1.35, 0.0), (1.6, 0.0), (1.0, 0.0), (1.35, 0.25), (1.35, -0.25), (2.0, 0.0))
COMPARED = 128  # outlines are compared on a canvas this wide


class LandmarkConfig(Frozen):
    """When landmarks are trusted."""

    agreement: float = Field(
        0.8, gt=0, le=1, description="least IoU of the private areas that two looks at one face give"
    )
    agreement_between: float = Field(
        0.75, gt=0, le=1, description="least IoU of the private areas of two landmarkers (`both`)"
    )


@dataclass(frozen=True)
class Located:
    """What the landmarkers made of one proposal."""

    verdict: Literal["trusted", "disagree", "none"]
    outline: Outline = ()


def locate(
    image: UInt8Array, proposal: Proposal, landmarkers: Mapping[str, Landmarker], config: LandmarkConfig
) -> Located:
    """The private area of the face at `proposal`, trusted only if looks from different crops agree.

    With several landmarkers each must find the face, and what they find must agree too; the outline is
    the first one's.
    """
    located = [_locate(image, proposal, landmarker, config) for landmarker in landmarkers.values()]
    first = located[0]
    for other in located:
        if other.verdict != "trusted":
            return Located(other.verdict, first.outline or other.outline)
        if outline_iou(first.outline, other.outline) < config.agreement_between:
            return Located("disagree", first.outline)
    return first


def _locate(image: UInt8Array, proposal: Proposal, landmarker: Landmarker, config: LandmarkConfig) -> Located:
    located = Located("none")
    for looker in (landmarker, _Equalized(landmarker)):
        located = _agreed(image, proposal, looker, config)
        if located.verdict == "trusted":
            break
    return located


def _agreed(image: UInt8Array, proposal: Proposal, landmarker: Landmarker, config: LandmarkConfig) -> Located:
    first = _first_look(image, proposal, landmarker)
    if first is None:
        return Located("none")
    looks: list[tuple[Points, Outline]] = []
    for size, turn in SECOND_LOOKS:
        look = _look_again(image, first, landmarker, size, turn)
        if look is None:
            continue
        outline = landmarker.outline([look])
        for earlier, earlier_outline in looks:
            if outline_iou(earlier_outline, outline) >= config.agreement:
                return Located("trusted", landmarker.outline([earlier, look]))
        looks.append((look, outline))
    return Located("disagree" if len(looks) > 1 else "none", landmarker.outline([first]))


class _Equalized:
    """A landmarker that is shown crops with local contrast evened out: dark and hazy faces gain by it."""

    def __init__(self, landmarker: Landmarker) -> None:
        self._landmarker = landmarker
        self._clahe = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(4, 4))
        self.eyes = landmarker.eyes
        self.outline = landmarker.outline

    def __call__(self, crop: UInt8Array) -> list[Points]:
        lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB)
        lab[..., 0] = self._clahe.apply(lab[..., 0])
        return self._landmarker(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).astype(np.uint8))


def outline_iou(a: Outline, b: Outline) -> float:
    """Intersection over union of two outlines, on a canvas scaled to them."""
    points = np.array([*a, *b])
    low = points.min(axis=0)
    scale = COMPARED / max(float(np.ptp(points, axis=0).max()), 1e-6)
    shape = tuple(np.ceil(np.ptp(points, axis=0)[::-1] * scale).astype(int) + 2)

    def area(outline: Outline) -> npt.NDArray[np.bool_]:
        scaled = (np.array(outline) - low) * scale
        return private_area([tuple(map(tuple, scaled.tolist()))], shape)

    p, q = area(a), area(b)
    return float((p & q).sum() / max((p | q).sum(), 1))


def _first_look(image: UInt8Array, proposal: Proposal, landmarker: Landmarker) -> Points | None:
    x0, y0, x1, y1 = proposal.box
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    # a detector's points may mislead where the face is unclear: then try it upright
    angles = [proposal.angle] if abs(proposal.angle) < 0.2 else [proposal.angle, 0.0]
    for angle in angles:
        for size, turn in FIRST_LOOKS:
            faces = _look(image, landmarker, centre, size * proposal.size, angle + turn)
            fitting = [p for p in faces if _fits(p, proposal)]
            if fitting:
                return min(fitting, key=lambda p: float(np.linalg.norm(_middle(p) - centre)))
    return None


def _look_again(
    image: UInt8Array, first: Points, landmarker: Landmarker, size: float, turn: float
) -> Points | None:
    across = first[landmarker.eyes[1]] - first[landmarker.eyes[0]]
    angle = atan2(across[1], across[0])
    spin = np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])
    upright = first @ spin
    low, high = upright.min(axis=0), upright.max(axis=0)
    centre = (low + high) / 2 @ spin.T
    faces = _look(image, landmarker, centre, size * float((high - low).max()), angle + turn)
    near = [p for p in faces if np.linalg.norm(_middle(p) - _middle(first)) < 0.3 * (high - low).max()]
    return min(near, key=lambda p: float(np.linalg.norm(_middle(p) - _middle(first))), default=None)


def _look(
    image: UInt8Array, landmarker: Landmarker, centre: Points, side: float, angle: float
) -> list[Points]:
    crop, matrix = upright_crop(image, centre, side, angle, CROP)
    return [points @ matrix[:, :2].T + matrix[:, 2] for points in landmarker(crop)]


def _middle(points: Points) -> Points:
    return np.asarray((points.min(axis=0) + points.max(axis=0)) / 2)


def _fits(points: Points, proposal: Proposal) -> bool:
    """Landmarks belong to a proposal when they are about as large and lie about there."""
    x0, y0, x1, y1 = proposal.box
    ratio = float(np.sqrt(np.prod(np.ptp(points, axis=0)))) / proposal.size
    distance = np.linalg.norm(_middle(points) - [(x0 + x1) / 2, (y0 + y1) / 2])
    return 0.5 < ratio < 1.8 and float(distance) < 0.4 * proposal.size
