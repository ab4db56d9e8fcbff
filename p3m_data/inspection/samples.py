"""Samples: one picture with its mates, looked at in a worker; every file is read once and decoded once.

Nothing about a bad file is raised: it becomes a finding.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from pydantic import Field, ValidationError

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array
from p3m_data.errors import InputError, MatteMismatch, StorageError
from p3m_data.inspection.duplicates import hashes
from p3m_data.inspection.findings import Finding, Level
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
from p3m_data.types import Frozen, ManifestRow

ID = re.compile(r"p_([0-9a-f]{8,})")
DIGESTS = ("md5", "sha1", "sha256", "sha512", "blake2b")
SMOOTH = 0.15
"""Standard deviation at which detail is what is gone, as a share of the part's size."""
COARSE = 6.0
"""Standard deviation in pixels at which it is smoothed."""
PLAIN = 2.0
"""A part with less detail, in levels, may look the same when it is blurred."""
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


class Seen(NamedTuple):
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

    def __call__(self) -> Callable[[Task], Seen]:
        cv2.setNumThreads(1)
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        return Inspector(self)


@dataclass
class _Look:
    """One sample on the table."""

    task: Task
    row: ManifestRow | None
    data: dict[str, bytes] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    looked: set[str] = field(default_factory=set)

    def path(self, role: str) -> str:
        return self.task.sample.files[role]

    def find(
        self,
        check: str,
        where: str,
        said: str,
        level: Level = "fault",
        value: float | None = None,
        limit: float | None = None,
    ) -> None:
        self.findings.append(
            Finding(check=check, where=where, said=said, level=level, value=value, limit=limit)
        )

    def problems(self, role: str, checks: Iterable[str], problems: Iterable[Problem]) -> None:
        """Take up what was found in the file of `role` by `checks`; what a reviewer waived is a note."""
        self.looked.update(checks)
        for check, said, level, value, limit in problems:
            if check == "facemask_transition" and self.waived("transition_untouched"):
                level, said = "note", f"{said}; a reviewer let it"
            self.find(check, self.path(role), f"{said[:1].upper()}{said[1:]}.", level, value, limit)

    def waived(self, name: str) -> bool:
        return self.row is not None and any(c.name == name and c.waived for c in self.row.checks)


class Inspector:
    """A worker's function: a task becomes what was seen."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.config = job.config

    def __call__(self, task: Task) -> Seen:
        look = _Look(task, None)
        try:
            return self._inspect(look)
        except (MemoryError, StorageError):
            raise
        except Exception as error:
            said = f"the program failed on it ({type(error).__name__}); please report it"
            look.find("inspected", look.path("image"), said)
            return Seen(tuple(look.findings), tuple(look.looked), {})

    def _inspect(self, look: _Look) -> Seen:
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
            found = hashes(picture)
            figures = self._mates(look, picture)
        if self.job.ours:
            look.looked.add("id_digest")
            for said in digests_in(look.task.sample.name, self._contents(look, picture)):
                look.find("id_digest", look.path("image"), said)
        return Seen(tuple(look.findings), tuple(look.looked), sums, pixels, found, figures)

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
                look.find("readable", path, f"The file cannot be read ({error.strerror}).")
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
            look.find("manifest_files", path, f"The row of {row.id} {said}")
        for path, digest in sums.items():
            if path not in row.sha256:
                look.find("manifest_files", path, f"The row of {row.id} does not list this file.")
            elif row.sha256[path] != digest.hex():
                look.find("checksums", path, "The file's sha256 is not the one in the manifest.")
        if row.split != sample.split or row.image != sample.files["image"]:
            look.find("manifest_files", row.image, f"The row of {row.id} names another picture or split.")

    def _picture(self, look: _Look, role: str) -> UInt8Array | None:
        if role not in look.data:
            return None
        try:
            picture = load_picture(look.data[role], look.path(role), self.job.limits)
        except InputError as error:
            look.find("readable", look.path(role), _sentence(error))
            return None
        return picture.pixels

    def _mates(self, look: _Look, picture: UInt8Array) -> MatteFigures | None:
        """Everything that needs the picture's pixels."""
        size = picture.shape[1], picture.shape[0]
        look.looked.add("sizes")
        if look.row is not None and (look.row.width, look.row.height) != size:
            said = f"the picture is {size[0]} x {size[1]}, its row says {look.row.width} x {look.row.height}"
            look.find("sizes", look.path("image"), f"In the manifest: {said}.")
        for role in ("foreground", "background"):
            other = self._picture(look, role)
            if other is not None and other.shape != picture.shape:
                look.find("sizes", look.path(role), _sizes(other.shape[1::-1], size))
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
                look.find("sizes", path, _sizes(stored, size))
            else:
                look.find(f"{role}_values", path, _sentence(error))
        except InputError as error:
            look.find("readable", path, _sentence(error))
        return None

    def _facemask(self, look: _Look, levels: UInt8Array, alpha: FloatArray | None) -> None:
        checks = ("facemask_values", "facemask_empty", "facemask_transition")[: 2 + (alpha is not None)]
        tolerance = self.config.matte.tolerance
        look.problems("facemask", checks, facemask_problems(levels, alpha, tolerance))
        if levels.any() or not look.task.sample.blurred:
            return
        if look.row is not None and look.row.faces:
            said = f"The facemask is empty, but the manifest tells of {len(look.row.faces)} masked face(s)."
            look.find("facemask_empty", look.path("facemask"), said)
        elif look.row is None and not self.job.ours:
            look.find("facemask_empty", look.path("facemask"), "The facemask is empty.", "note")

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
            look.find("matte_edges", look.path("matte"), said, "note", round(agreement, 2), least)

    def _changes(self, look: _Look, original: Path, picture: UInt8Array, facemask: BoolArray | None) -> None:
        """Compare the published picture with its original."""
        where = look.path("image")
        try:
            source = original.read_bytes()
            before = load_picture(source, "the original", self.job.limits).pixels
        except OSError as error:
            look.find("changed_outside", where, f"Its original cannot be read ({error.strerror}).")
            return
        except InputError as error:
            look.find("changed_outside", where, _sentence(error))
            return
        self._identity(look, source, before)
        if before.shape != picture.shape:
            look.find("sizes", where, _sizes(picture.shape[1::-1], before.shape[1::-1], "its original"))
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
                look.find("changed_outside", where, said, level, check.value, check.limit)
        for share in _changed_little(before, picture, mask, self.config):
            said = "A masked part looks as in the original: the face in it is not blurred."
            look.find("changed_inside", where, said, value=round(share, 3), limit=self.config.changed)

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
            look.find("id_digest", look.path("image"), said)
        if self.job.key is None or not task.source:
            return
        look.looked.add("id_keyed")
        matte = task.original_matte.read_bytes() if task.original_matte is not None else b""
        content = hashlib.sha256(source).digest() + hashlib.sha256(matte).digest()
        made = "p_" + hmac.new(self.job.key, content, "sha256").hexdigest()[:ID_DIGITS]
        if name != made:
            said = "The id is not the one that the dataset's secret gives for its original and matte."
            look.find("id_keyed", look.path("image"), said)

    def _contents(self, look: _Look, picture: UInt8Array | None) -> dict[str, bytes]:
        contents = {f"the published {role}": data for role, data in look.data.items()}
        if picture is not None:
            contents["the published pixels"] = np.ascontiguousarray(picture).tobytes()
        return contents


def digests_in(name: str, contents: dict[str, bytes]) -> Iterator[str]:
    """A sentence for each plain digest of `contents` (what it is -> bytes) that the id `name` begins with."""
    found = ID.fullmatch(name)
    if found is None:
        return
    digits = found[1]
    for what, data in contents.items():
        made = {algorithm: hashlib.new(algorithm, data).hexdigest() for algorithm in DIGESTS}
        made |= {"crc32": f"{zlib.crc32(data):08x}", "adler32": f"{zlib.adler32(data):08x}"}
        for algorithm, digest in made.items():
            if digest[: len(digits)] == digits[: len(digest)]:
                yield f"The id is the {algorithm} of {what}, so anybody who has that can recognise it."


def _changed_little(
    before: UInt8Array, after: UInt8Array, mask: BoolArray, config: SampleConfig
) -> Iterator[float]:
    """Mean |change| of each connected part of `mask` that hardly changed, as a share of its detail before."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    for label in range(1, count):
        x, y, width, height, area = stats[label].tolist()
        here = slice(y, y + height), slice(x, x + width)
        part = labels[here] == label
        detail = _detail(before[here], part)
        if area < config.smallest or detail < PLAIN:
            continue
        change = float(cv2.absdiff(before[here], after[here]).max(axis=2)[part].mean())
        if change < config.changed * detail:
            yield change / detail


def _detail(pixels: UInt8Array, part: BoolArray) -> float:
    """Mean |pixels - smoothed pixels| in `part`, smoothed inside it at the scale of a blurred face."""
    sigma = SMOOTH * float(np.sqrt(part.sum()))
    # what is smooth needs few pixels, and the cost does not grow with the face
    factor = min(1.0, COARSE / sigma)
    size = (max(1, round(part.shape[1] * factor)), max(1, round(part.shape[0] * factor)))
    weight, values = part.astype(np.float32), pixels.astype(np.float32)
    small = cv2.resize(np.dstack([values * weight[..., None], weight]), size, interpolation=cv2.INTER_AREA)
    summed = cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma * factor), part.shape[::-1])
    smooth = summed[..., :3] / np.maximum(summed[..., 3:], 1e-3)
    return float(np.abs(values - smooth).max(axis=2)[part].mean())


def _levels(values: FloatArray | None) -> UInt8Array | None:
    return None if values is None else np.rint(values * 255).astype(np.uint8)


def _stored_size(data: bytes, name: str, limits: Limits) -> tuple[int, int]:
    with opened(data, name, limits) as (image, orientation):
        width, height = image.size
    return (height, width) if orientation >= 5 else (width, height)


def _sizes(found: tuple[int, ...], wanted: tuple[int, ...], other: str = "its picture") -> str:
    return f"It is {found[0]} x {found[1]}, {other} is {wanted[0]} x {wanted[1]}."


def _sentence(error: Exception) -> str:
    said = str(error)
    return f"{said[:1].upper()}{said[1:]}."
