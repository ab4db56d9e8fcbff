"""Samples: one picture with its mates, looked at in a worker; every file is read once and decoded once.

Nothing about a bad file is raised: it becomes a finding.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from pydantic import Field, ValidationError

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array
from p3m_data.errors import InputError, MatteMismatch, StorageError
from p3m_data.inspection.changes import little_changed
from p3m_data.inspection.duplicates import can_hash, hashes
from p3m_data.inspection.findings import Finding, Level, Notes
from p3m_data.inspection.ids import digests_in
from p3m_data.matte.validation import (
    MatteConfig,
    MatteFigures,
    Problem,
    edge_agreement,
    facemask_problems,
    matte_figures,
    matte_problems,
    trimap_problems,
)
from p3m_data.stages.candidate import ID_DIGITS
from p3m_data.stages.verify import VerifyConfig, in_words, outside
from p3m_data.storage.folders import locate
from p3m_data.storage.images import Limits, load_picture, opened
from p3m_data.storage.layouts import Sample
from p3m_data.storage.mattes import load_matte
from p3m_data.storage.sentences import sentence
from p3m_data.types import Frozen, ManifestRow

LIMITS = Limits()
GREY = ("matte", "trimap", "facemask")


class SampleConfig(Frozen):
    """What counts as wrong with a sample."""

    matte: MatteConfig = MatteConfig()
    verify: VerifyConfig = VerifyConfig()
    changed: float = Field(
        0.5,
        ge=0,
        description="least mean |change| of a masked part, as a share of its own detail; on 182 portraits "
        "blurred faces have 0.96 and more, unblurred ones encoded anew at quality 75 mostly below 0.28",
    )
    smallest: int = Field(
        64, ge=1, description="pixels of a masked part below which its change tells nothing"
    )


class Task(NamedTuple):
    """What a worker is given about a sample."""

    sample: Sample
    row: tuple[int, int] | None = None
    """Where its line of the manifest begins, and how long it is."""
    original: Path | None = None
    source: str = ""
    """The original's path in the ledger."""
    original_matte: Path | None = None


class Inspected(NamedTuple):
    """What a worker hands back."""

    findings: tuple[Finding, ...]
    looked: tuple[str, ...]
    """The checks that were made."""
    sums: Mapping[str, bytes]
    """Path -> sha256 of the file."""
    pixels: bytes | None = None
    """sha256 of the decoded picture; None when it cannot be read."""
    hashes: tuple[int, int] = (0, 0)
    figures: MatteFigures | None = None


@dataclass(frozen=True)
class Job:
    """What a worker needs to know; picklable. Calling it gives the worker's function."""

    root: Path
    ours: bool
    manifest: Path | None
    key: bytes | None
    config: SampleConfig
    limits: Limits = LIMITS

    def __call__(self) -> Callable[[Task], Inspected]:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        return Inspector(self)


class _Look(Notes):
    """One sample on the table."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.row: ManifestRow | None = None
        self.data: dict[str, bytes] = {}
        self.looked: set[str] = set()

    def path(self, role: str) -> str:
        return self.task.sample.files[role]

    def problems(self, role: str, checks: Iterable[str], problems: Iterable[Problem]) -> None:
        """Take up what was found in the file of `role` by `checks`; what a reviewer waived is a note."""
        self.looked.update(checks)
        for check, said, level, value, limit in problems:
            if check == "facemask_transition" and self.waived("transition_untouched"):
                level, said = "note", f"{said}; a reviewer let it"
            self.say(check, self.path(role), sentence(said), level, value, limit)

    def waived(self, name: str) -> bool:
        return self.row is not None and any(c.name == name and c.waived for c in self.row.checks)


class Inspector:
    """A worker's function: a task becomes what was seen."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.config = job.config

    def __call__(self, task: Task) -> Inspected:
        look = _Look(task)
        try:
            return self._inspect(look)
        except (MemoryError, StorageError):
            raise
        except Exception as error:
            said = f"the program failed on it ({type(error).__name__}); please report it"
            look.say("inspected", look.path("image"), said)
            return Inspected(tuple(look.findings), tuple(look.looked), {})

    def _inspect(self, look: _Look) -> Inspected:
        look.row = self._row(look.task)
        sums = dict(self._read(look))
        if self.job.ours:
            self._manifest(look, sums)
        picture = self._picture(look, "image")
        figures = None
        pixels, found = None, (0, 0)
        if picture is not None:
            shown = hashlib.sha256(repr(picture.shape).encode())
            shown.update(np.ascontiguousarray(picture).tobytes())
            pixels = shown.digest()
            found = hashes(picture) if can_hash() else (0, 0)
            figures = self._mates(look, picture)
        if self.job.ours:
            look.looked.add("id_digest")
            for said in digests_in(look.task.sample.name, self._contents(look, picture)):
                look.say("id_digest", look.path("image"), said)
        return Inspected(tuple(look.findings), tuple(look.looked), sums, pixels, found, figures)

    def _row(self, task: Task) -> ManifestRow | None:
        if task.row is None or self.job.manifest is None:
            return None
        begin, length = task.row
        with self.job.manifest.open("rb") as lines:
            lines.seek(begin)
            try:
                return ManifestRow.model_validate_json(lines.read(length))
            except ValidationError:
                return None

    def _read(self, look: _Look) -> Iterator[tuple[str, bytes]]:
        """Fill `look.data`; path and sha256 of each file that could be read."""
        look.looked.add("readable")
        for role, path in look.task.sample.files.items():
            try:
                data = locate(self.job.root, path).read_bytes()
            except OSError as error:
                look.say("readable", path, f"The file cannot be read ({error.strerror}).")
                continue
            look.data[role] = data
            yield path, hashlib.sha256(data).digest()

    def _manifest(self, look: _Look, sums: dict[str, bytes]) -> None:
        """Compare the files with the sample's row."""
        row, sample = look.row, look.task.sample
        if row is None:
            return
        look.looked |= {"manifest_files", "checksums"}
        listed = {row.image, row.facemask, *filter(None, [row.matte]), *row.sha256}
        for path in sorted(listed - set(sample.files.values())):
            there = (self.job.root / path).is_file()
            said = f"names this file, which is {'no file of that picture' if there else 'not there'}."
            look.say("manifest_files", path, f"The row of {row.id} {said}")
        for path, digest in sums.items():
            if path not in row.sha256:
                look.say("manifest_files", path, f"The row of {row.id} does not list this file.")
            elif row.sha256[path] != digest.hex():
                look.say("checksums", path, "The file's sha256 is not the one in the manifest.")
        if row.split != sample.split or row.image != sample.files["image"]:
            look.say("manifest_files", row.image, f"The row of {row.id} names another picture or split.")

    def _picture(self, look: _Look, role: str) -> UInt8Array | None:
        if role not in look.data:
            return None
        try:
            picture = load_picture(look.data[role], look.path(role), self.job.limits)
        except InputError as error:
            look.say("readable", look.path(role), sentence(str(error)))
            return None
        return picture.pixels

    def _mates(self, look: _Look, picture: UInt8Array) -> MatteFigures | None:
        """Everything that needs the picture's pixels."""
        size = picture.shape[1], picture.shape[0]
        look.looked.add("sizes")
        if look.row is not None and (look.row.width, look.row.height) != size:
            said = f"the picture is {size[0]} x {size[1]}, its row says {look.row.width} x {look.row.height}"
            look.say("sizes", look.path("image"), f"In the manifest: {said}.")
        for role in ("foreground", "background"):
            other = self._picture(look, role)
            if other is not None and other.shape != picture.shape:
                look.say("sizes", look.path(role), _sizes(other.shape[1::-1], size))
        grey = {role: self._grey(look, role, size) for role in GREY}
        alpha, trimap, levels = grey["matte"], _levels(grey["trimap"]), _levels(grey["facemask"])
        facemask = None if levels is None else levels > 0
        if trimap is not None:
            checks = ("trimap_values", "trimap_matte")[: 1 + (alpha is not None)]
            look.problems("trimap", checks, trimap_problems(trimap, alpha, self.config.matte))
        if levels is not None and facemask is not None:
            self._facemask(look, levels, alpha)
        if look.task.original is not None:
            self._changes(look, look.task.original, picture, facemask)
        if alpha is None:
            return None
        self._matte(look, picture, alpha, facemask)
        return matte_figures(alpha)

    def _grey(self, look: _Look, role: str, size: tuple[int, int]) -> FloatArray | None:
        """(H, W) float32 in [0, 1]; None, with a finding, when it cannot be read or does not fit."""
        if role not in look.data:
            return None
        data, path = look.data[role], look.path(role)
        try:
            return load_matte(data, path, size, self.job.limits)
        except MatteMismatch as error:
            stored = _stored_size(data, path, self.job.limits)
            if stored != size:
                look.say("sizes", path, _sizes(stored, size))
            else:
                look.say(f"{role}_values", path, sentence(str(error)))
        except InputError as error:
            look.say("readable", path, sentence(str(error)))
        return None

    def _facemask(self, look: _Look, levels: UInt8Array, alpha: FloatArray | None) -> None:
        checks = ("facemask_values", "facemask_empty", "facemask_transition")[: 2 + (alpha is not None)]
        tolerance = self.config.matte.tolerance
        look.problems("facemask", checks, facemask_problems(levels, alpha, tolerance))
        if levels.any() or not look.task.sample.blurred:
            return
        if look.row is not None and look.row.faces:
            said = f"The facemask is empty, but the manifest tells of {len(look.row.faces)} masked face(s)."
            look.say("facemask_empty", look.path("facemask"), said)
        elif look.row is None and not self.job.ours:
            look.say("facemask_empty", look.path("facemask"), "The facemask is empty.", "note")

    def _matte(self, look: _Look, picture: UInt8Array, alpha: FloatArray, facemask: BoolArray | None) -> None:
        # only a machine is bound to find a face on the subject; a person may know that there is none
        by_machine = look.row is None or look.row.anonymized_by == "machine"
        problems = matte_problems(alpha, facemask, self.config.matte, face_on_subject=by_machine)
        checks = {"matte_values", "matte_inverted", "matte_subject", "matte_hard"}
        look.problems("matte", checks, problems)
        agreement = edge_agreement(picture, alpha)
        if agreement is None:
            return
        least = self.config.matte.agreement
        look.looked.add("matte_edges")
        if agreement < least:
            said = "The picture has no edges where the matte has; it may be another picture's or shifted."
            look.say("matte_edges", look.path("matte"), said, "note", round(agreement, 2), least)

    def _changes(self, look: _Look, original: Path, picture: UInt8Array, facemask: BoolArray | None) -> None:
        """Compare the published picture with its original."""
        where = look.path("image")
        try:
            source = original.read_bytes()
            before = load_picture(source, "the original", self.job.limits).pixels
        except OSError as error:
            look.say("changed_outside", where, f"Its original cannot be read ({error.strerror}).")
            return
        except InputError as error:
            look.say("changed_outside", where, sentence(str(error)))
            return
        self._identity(look, source, before)
        if before.shape != picture.shape:
            look.say("sizes", where, _sizes(picture.shape[1::-1], before.shape[1::-1], "its original"))
            return
        if facemask is None and look.task.sample.blurred:
            return
        mask = np.zeros(picture.shape[:2], bool) if facemask is None else facemask
        look.looked |= {"changed_outside", "changed_inside"}
        lossless = where.lower().endswith(".png")
        for check in outside(before, picture, mask, self.config.verify, lossless):
            if not check.passed:
                waived = look.waived(check.name)
                # others may have encoded their JPEGs anew with tables of their own
                level: Level = "note" if waived or not (lossless or self.job.ours) else "fault"
                said = f"Outside the facemask: {in_words(check)}{'; a reviewer let it' if waived else ''}."
                look.say("changed_outside", where, said, level, check.value, check.limit)
        for share in little_changed(before, picture, mask, self.config.changed, self.config.smallest):
            said = "A masked part looks as in the original: the face in it is not blurred."
            look.say("changed_inside", where, said, value=round(share, 3), limit=self.config.changed)

    def _identity(self, look: _Look, source: bytes, before: UInt8Array) -> None:
        """Whether the id is what the secret makes of the source, and no plain digest of it."""
        name, task = look.task.sample.name, look.task
        if not self.job.ours:
            return
        known = {"the original": source, "the original's pixels": np.ascontiguousarray(before).tobytes()}
        if task.source:
            path = Path(task.source)
            known |= {
                f"the original's {what}": text.encode("utf-8", "surrogateescape")
                for what, text in (("path", task.source), ("name", path.name), ("stem", path.stem))
            }
        for said in digests_in(name, known):
            look.say("id_digest", look.path("image"), said)
        if self.job.key is None or not task.source:
            return
        look.looked.add("id_keyed")
        matte = task.original_matte.read_bytes() if task.original_matte is not None else b""
        content = hashlib.sha256(source).digest() + hashlib.sha256(matte).digest()
        made = "p_" + hmac.new(self.job.key, content, "sha256").hexdigest()[:ID_DIGITS]
        if name != made:
            said = "The id is not the one that the dataset's secret gives for its original and matte."
            look.say("id_keyed", look.path("image"), said)

    def _contents(self, look: _Look, picture: UInt8Array | None) -> dict[str, bytes]:
        contents = {f"the published {role}": data for role, data in look.data.items()}
        if picture is not None:
            contents["the published pixels"] = np.ascontiguousarray(picture).tobytes()
        return contents


def _levels(values: FloatArray | None) -> UInt8Array | None:
    return None if values is None else np.rint(values * 255).astype(np.uint8)


def _stored_size(data: bytes, name: str, limits: Limits) -> tuple[int, int]:
    with opened(data, name, limits) as (image, orientation):
        width, height = image.size
    return (height, width) if orientation >= 5 else (width, height)


def _sizes(found: tuple[int, ...], wanted: tuple[int, ...], other: str = "its picture") -> str:
    return f"It is {found[0]} x {found[1]}, {other} is {wanted[0]} x {wanted[1]}."
