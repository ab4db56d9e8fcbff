"""Detect: propose faces, find the landmarks of each, and say which of them can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import Field, field_validator

from p3m_data.arrays import UInt8Array
from p3m_data.faces.detail import looks_blurred
from p3m_data.faces.detectors import DETECTORS, Detector
from p3m_data.faces.landmarkers import Landmarker
from p3m_data.faces.landmarks import LandmarkConfig, Located, locate
from p3m_data.faces.private_area import ellipse_outline, outline_box, unite
from p3m_data.faces.proposals import Proposal, ProposalConfig, is_false_alarm, propose
from p3m_data.types import Face, Frozen, Outline, Reason


class DetectConfig(Frozen):
    """Who looks for faces, how hard, and when landmarks are trusted."""

    detectors: tuple[str, ...] = Field(
        ("centerface", "blazeface"), min_length=1, description="proposers, more than one kind for recall"
    )
    landmarks: Literal["mediapipe", "face-alignment", "both"] = "mediapipe"
    proposals: ProposalConfig = ProposalConfig()
    trust: LandmarkConfig = LandmarkConfig()

    @field_validator("detectors")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [n for n in names if n not in DETECTORS]
        if unknown:
            raise ValueError(f"unknown detector {unknown[0]}; there are {', '.join(DETECTORS)}")
        return tuple(dict.fromkeys(names))

    @property
    def landmarkers(self) -> tuple[str, ...]:
        return ("mediapipe", "face-alignment") if self.landmarks == "both" else (self.landmarks,)


@dataclass(frozen=True)
class Models:
    """The loaded networks of one worker."""

    detectors: Mapping[str, Detector]
    landmarkers: Mapping[str, Landmarker]

    def close(self) -> None:
        """End the threads of the networks that have some."""
        for network in (*self.detectors.values(), *self.landmarkers.values()):
            getattr(network, "close", lambda: None)()


class Found(NamedTuple):
    """A face, and what is wrong with it (None: its landmarks are trusted)."""

    face: Face
    reason: Reason | None
    weak: bool = False
    """Masked if that costs nothing, forgotten otherwise."""


def detect(image: UInt8Array, models: Models, config: DetectConfig) -> list[Found]:
    """Every face in `image` ((H, W, 3) uint8 RGB); those with a reason carry a suggested outline."""
    found = []
    for proposal in propose(image, models.detectors, config.proposals):
        if proposal.weak:
            found.append(_found(image, proposal, Located("none")))
            continue
        located = locate(image, proposal, models.landmarkers, config.trust)
        if located.verdict == "trusted" or not is_false_alarm(image, proposal, models.detectors):
            found.append(_found(image, proposal, located))
    return found


def _found(image: UInt8Array, proposal: Proposal, located: Located) -> Found:
    x0, y0, x1, y1 = proposal.box
    trusted = located.verdict == "trusted"
    ellipse = ellipse_outline(proposal.box)
    outline = located.outline
    if trusted and _leaves_picture(outline, image.shape):
        # landmarks of a face that is not all there are partly guessed: cover what the detector saw, too
        outline = unite([outline, ellipse])
    face = Face(
        box=(round(x0, 1), round(y0, 1), round(x1, 1), round(y1, 1)),
        score=round(proposal.score, 3),
        detectors=proposal.detectors,
        how="landmarks" if trusted else "none",
        outline=outline if trusted else ellipse,
    )
    if not trusted:
        disagree = located.verdict == "disagree"
        reason = Reason.LANDMARKS_DISAGREE if disagree else Reason.NO_LANDMARKS
        return Found(face, reason, proposal.weak)
    if looks_blurred(image, face.outline):
        return Found(face, Reason.ALREADY_OBFUSCATED)
    return Found(face, None)


def _leaves_picture(outline: Outline, shape: tuple[int, ...]) -> bool:
    x0, y0, x1, y1 = outline_box(outline)
    return x0 < 0 or y0 < 0 or x1 > shape[1] - 1 or y1 > shape[0] - 1
