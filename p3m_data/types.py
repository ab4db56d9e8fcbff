"""What travels through the pipeline: small frozen records, never pixels.

Coordinates are pixels of the upright picture, x to the right and y down, (0, 0) the centre of the
top-left pixel. Boxes are (x0, y0, x1, y1).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

Box = tuple[float, float, float, float]
Point = tuple[float, float]
Outline = tuple[Point, ...]
PublicId = Annotated[str, StringConstraints(pattern=r"^p_[0-9a-f]{8,}$")]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Status(StrEnum):
    PENDING = "pending"
    ANONYMIZED = "anonymized"
    NEEDS_REVIEW = "needs_review"
    EXCLUDED = "excluded"
    FAILED = "failed"
    DUPLICATE = "duplicate"


class Reason(StrEnum):
    """Why a picture is not on the public side, or who says that it may be there as it is."""

    NO_FACE = "no_face_found"
    NO_LANDMARKS = "proposal_without_landmarks"
    LANDMARKS_DISAGREE = "landmarks_disagree"
    ALREADY_OBFUSCATED = "face_already_obfuscated"
    MASK_TOO_SMALL = "mask_too_small"
    FACE_REMAINS = "face_still_detected"
    NOT_AS_WRITTEN = "written_file_differs"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    MATTE_MISMATCH = "matte_mismatch"
    WORKER_LOST = "worker_lost"
    TIMED_OUT = "timed_out"
    SAME_BYTES = "same_bytes"
    ACCEPTED_NO_FACE = "accepted_no_face"
    REVIEWED = "reviewed"
    CONFIRMED_NO_FACE = "confirmed_no_face"
    EXCLUDED = "excluded_by_reviewer"


class Source(Frozen):
    """One picture as found on the private side; paths are relative to their roots, POSIX style."""

    path: str
    size: int
    mtime_ns: int
    matte: str | None = None
    matte_size: int | None = None
    matte_mtime_ns: int | None = None


class Face(Frozen):
    """One proposed face and what was done about it."""

    box: Box
    score: float
    detectors: tuple[str, ...]
    how: Literal["landmarks", "ellipse", "person", "none"]
    """Where its mask comes from; `person`: drawn in review."""
    outline: Outline = ()
    """The private area's polygon (biometric: private side only)."""
    sigma: float | None = None
    """Standard deviation of the blur in pixels, once applied."""


class Check(Frozen):
    """One thing that was verified on the final bytes."""

    name: str
    passed: bool
    value: float
    limit: float
    waived: bool = False
    """It did not pass, and a reviewer who was shown why let it."""


class Provenance(Frozen):
    """What made a record: enough to make it again."""

    code_version: str
    config_digest: str
    models: dict[str, str]
    """Name of each detector or landmarker -> sha256 of its weights."""


class Record(Frozen):
    """One picture's row in the ledger. Private: `source`, `matte` and outlines never leave it."""

    source: str
    matte: str | None = None
    id: str | None = None
    status: Status = Status.PENDING
    reason: Reason | None = None
    detail: str = ""
    """One sentence for a person."""
    width: int = 0
    height: int = 0
    transition: Literal["matte", "estimated"] | None = None
    faces: tuple[Face, ...] = ()
    checks: tuple[Check, ...] = ()
    files: dict[str, str] = {}
    """Path on the public side -> sha256 of the file's bytes."""
    provenance: Provenance | None = None


class PublicFace(Frozen):
    """What the manifest tells of a face: how it was masked and how strongly, nothing biometric."""

    how: Literal["landmarks", "ellipse", "person"]
    sigma: float


class ManifestRow(Frozen):
    """One line of the public `manifest.jsonl`."""

    id: PublicId
    split: str
    image: str
    facemask: str
    matte: str | None
    width: int
    height: int
    anonymized_by: Literal["machine", "operator", "reviewer"]
    """`operator`: the run was told `--accept-no-face` and no face was found; `reviewer`: a person decided."""
    faces: tuple[PublicFace, ...]
    transition: Literal["matte", "estimated"]
    checks: tuple[Check, ...]
    sha256: dict[str, str]
    provenance: Provenance
