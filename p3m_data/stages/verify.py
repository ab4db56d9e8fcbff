"""Verify: believe nothing but the bytes that will be published (promises 1 to 3 of the design).

Detectors see a head with a blurred face as a face, and rightly so. So a detection in the result is no
finding by itself: it must lie on a masked face, and a masked face must have no facial detail left.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.faces.detail import BLURRED, detail
from p3m_data.faces.detectors import Detector
from p3m_data.faces.private_area import private_area
from p3m_data.faces.proposals import ProposalConfig, box_iou, propose
from p3m_data.types import Check, Face, Frozen, Reason

AWAY = 16  # pixels from the mask beyond which a JPEG's blocks hold no masked pixel (4:2:0 blocks are 16 wide)
MOST = 0.5  # of a face's area: with less of it masked, the face counts as not masked
LEVELS = 8  # a larger change of a pixel outside the mask counts as changed

CheckName = Literal[
    "size",
    "transition_untouched",
    "outside_identical",
    "outside_mean",
    "outside_changed",
    "detail_left",
    "faces_left",
]
CHECKS: tuple[CheckName, ...] = get_args(CheckName)
"""The names of all checks that a record or a manifest's row may hold."""

SAID = {
    "transition_untouched": "{value:.0f} pixels of hair or other fine edges would be changed",
    "faces_left": "something that looks like a face is not masked ({value:.0f} found)",
    "detail_left": "facial detail can still be made out under the mask",
}


class VerifyConfig(Frozen):
    """What the written file must satisfy."""

    mean_change: float = Field(
        0.5, ge=0, le=255, description="mean |change| away from the mask, levels of 255"
    )
    changed_share: float = Field(
        1e-4, ge=0, le=1, description="share of pixels there that change by over 8 levels"
    )
    detail: float = Field(
        BLURRED, gt=0, le=255, description="facial detail that may remain inside a mask, levels of 255"
    )
    explained: float = Field(0.2, gt=0, le=1, description="least IoU of a new detection with a masked face")


def verify(
    source: UInt8Array,
    written: UInt8Array,
    mask: BoolArray,
    transition: BoolArray,
    faces: Sequence[Face],
    detectors: Mapping[str, Detector],
    config: VerifyConfig,
    *,
    lossless: bool,
) -> tuple[Check, ...]:
    """Compares `written` (decoded from the final bytes) with `source`, both (H, W, 3) uint8; see `Check.passed`.

    `lossless`: not one pixel outside `mask` may differ. Otherwise JPEG's own loss is measured away from the mask.
    """
    if written.shape != source.shape:
        return (_check("size", False, written.size, source.size),)
    touched = int((mask & transition).sum())
    checks = [_none("transition_untouched", touched)]
    checks += outside(source, written, mask, config, lossless)
    left = max((_detail_left(written, mask, f) for f in faces), default=0.0)
    checks.append(_check("detail_left", left <= config.detail, round(left, 3), config.detail))
    checks.append(_none("faces_left", len(unexplained(written, faces, detectors, config.explained))))
    return tuple(checks)


def _check(name: CheckName, passed: bool, value: float, limit: float) -> Check:
    return Check(name=name, passed=passed, value=value, limit=limit)


def _none(name: CheckName, count: int) -> Check:
    """Of what there may be none at all."""
    return _check(name, count == 0, count, 0)


def _detail_left(written: UInt8Array, mask: BoolArray, face: Face) -> float:
    """Facial detail under the mask; of the whole face where most of it is not masked, so that this is found."""
    area = private_area([face.outline], mask.shape)
    is_masked = (area & mask).sum() >= MOST * area.sum()
    return detail(written, face.outline, mask if is_masked else None)


def outside(
    source: UInt8Array, written: UInt8Array, mask: BoolArray, config: VerifyConfig, lossless: bool
) -> list[Check]:
    """Whether what is not masked stayed as it was; arrays of one size, as `verify` takes them."""
    changes = cv2.absdiff(source, written)
    change = functools.reduce(cv2.max, cv2.split(changes))
    if lossless:
        return [_none("outside_identical", int(np.count_nonzero(change.astype(bool) & ~mask)))]
    reach = 2 * AWAY + 1
    away = cv2.dilate(mask.astype(np.uint8), np.ones((reach, reach), np.uint8)) == 0
    count = max(int(np.count_nonzero(away)), 1)
    mean = float(np.mean(cv2.mean(changes, away.astype(np.uint8))[:3]))
    share = float(np.count_nonzero(away & (change > LEVELS)) / count)
    return [
        _check("outside_mean", mean <= config.mean_change, round(mean, 4), config.mean_change),
        _check("outside_changed", share <= config.changed_share, share, config.changed_share),
    ]


def unexplained(
    written: UInt8Array, faces: Sequence[Face], detectors: Mapping[str, Detector], least_iou: float
) -> list[npt.NDArray[np.float64]]:
    """Boxes of detections in the result, seen at one coarse scale, that are not masked faces."""
    coarse = ProposalConfig(
        min_face=max(8, max(written.shape[:2]) // COARSE_FACES), turned=False, border=False
    )
    boxes = [np.array(p.box) for p in propose(written, detectors, coarse) if not p.weak]
    return [b for b in boxes if not any(_explains(f, b, least_iou) for f in faces)]


COARSE_FACES = 22  # the smallest face looked for is this part of the long side: 14 of 320 pixels


def _explains(face: Face, box: npt.NDArray[np.float64], least_iou: float) -> bool:
    """A detection is a masked face when the boxes overlap, or when one's middle lies in the other, a looser one."""
    if box_iou(face.box, box) >= least_iou:
        return True
    known = np.array(face.box)
    apart = np.abs((box[:2] + box[2:]) / 2 - (known[:2] + known[2:]) / 2)
    half = np.maximum(box[2:] - box[:2], known[2:] - known[:2]) / 2
    return bool((apart < half).all())


def finding(checks: Sequence[Check]) -> tuple[Reason, str] | None:
    """The worst failed check as a reason and a sentence; None when all passed."""
    failed = {c.name: c for c in checks if not c.passed and not c.waived}
    if not failed:
        return None
    remains = [failed[name] for name in ("faces_left", "detail_left") if name in failed]
    worst = (remains or list(failed.values()))[0]
    return (Reason.FACE_REMAINS if remains else Reason.NOT_AS_WRITTEN), in_words(worst)


def in_words(check: Check) -> str:
    """What a failed check means, for a person."""
    said = SAID.get(check.name, "{name} is {value:g} in the written file, at most {limit:g} is allowed")
    return said.format(name=check.name, value=check.value, limit=check.limit)
