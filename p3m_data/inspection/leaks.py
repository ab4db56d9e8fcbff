"""Leaks: does anything but the pixels leave? What is public is compared with what may be there.

Every file, name, attribute and value of the public side has a known shape; what has another one is named.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pydantic import JsonValue

from p3m_data.inspection import file_times, manifest_values, public_tree, telling_text
from p3m_data.inspection.file_times import TimesConfig, check_times
from p3m_data.inspection.findings import TIME_LIMIT, About, Finding, Looked, Notes, OnProgress, unheard
from p3m_data.inspection.manifest_values import check_manifest
from p3m_data.inspection.private_side import Private
from p3m_data.inspection.public_tree import (
    check_attributes,
    check_names,
    check_owners,
    is_public_text,
    plain_files,
    walk,
)
from p3m_data.inspection.telling_text import check_text
from p3m_data.pipeline.engines import WorkerLost, run_local
from p3m_data.storage.images import Limits
from p3m_data.storage.layouts import Layout
from p3m_data.storage.parts import Part
from p3m_data.storage.structure import foreign_parts
from p3m_data.types import Frozen

ABOUT: Mapping[str, About] = {
    "foreign_bytes": About(
        "Bytes that are no pixels",
        "Every public picture holds only what is needed to decode its 8-bit pixels: no metadata, thumbnail, "
        "second picture, colour under transparency, or bytes before, between or behind its parts.",
        "That the pixels, or the choice of tables and filters that code them, hide no message: a text in the "
        "picture, a watermark, steganography.",
    ),
    **public_tree.ABOUT,
    **file_times.ABOUT,
    **manifest_values.ABOUT,
    **telling_text.ABOUT,
}


class LeaksConfig(Frozen):
    """What is let pass, and how much is told."""

    times: TimesConfig = TimesConfig()
    parts_told: int = 4
    """Foreign parts that the finding of one picture names."""


DEFAULTS = LeaksConfig()


def leaks(
    layout: Layout,
    *,
    workers: int = 1,
    private: Path | None = None,
    on_progress: OnProgress = unheard,
    config: LeaksConfig = DEFAULTS,
) -> tuple[tuple[Finding, ...], tuple[Looked, ...], dict[str, JsonValue]]:
    """What leaves with the dataset beside its pixels: findings, what was looked at, figures by check.

    private: the work folder with the ledger; without it, what needs the sources is not looked at.
    `StorageError` when the dataset's folder cannot be listed or the ledger is damaged.
    """
    notes = Notes()
    known = Private.of(layout.root, private)
    pictures = {path for sample in layout.samples for path in sample.files.values()}
    pictures |= {mate.path for mate in layout.lone} | {path for pair in layout.doubles for path in pair}
    files, folders = walk(layout.root, notes)
    check_names(layout, files, folders, pictures, notes)
    plain = plain_files(files, notes)
    attributes = check_attributes(layout.root, [e.path for e in (*plain, *folders)], notes)
    owners = check_owners(plain, notes)
    texts = [entry.path for entry in plain if is_public_text(layout, entry.path)]
    others = [entry.path for entry in plain if not is_public_text(layout, entry.path)]
    digests, bytes_figures = _structure(layout.root, others, workers, config, notes, on_progress)
    shown = [entry for entry in plain if entry.path in pictures]
    times = check_times(shown, known, notes, config.times)
    digests |= {path: _sha256(layout.root / path) for path in texts}
    rows = check_manifest(layout, digests, known, notes)
    for path in texts:
        if layout.root / path != layout.manifest:
            check_text(layout.root, path, digests, known, notes)
    no_ledger = "" if known else "The private side is not at hand, so nothing was compared with the sources."
    looked = (
        Looked(check="foreign_bytes", at=len(others)),
        Looked(
            check="public_names",
            at=len(files) + len(folders),
            why_not=""
            if layout.kind == "p3mdata"
            else "A foreign dataset's names follow no rule that is known.",
        ),
        Looked(check="file_kinds", at=len(files)),
        attributes,
        Looked(check="file_times", at=len(shown), why_not=no_ledger),
        Looked(check="file_owners", at=owners),
        Looked(
            check="manifest_values",
            at=rows,
            why_not=no_ledger if layout.manifest else "The dataset has no manifest.",
        ),
        Looked(check="telling_text", at=len(texts), why_not=no_ledger),
    )
    return tuple(notes.findings), looked, {"foreign_bytes": bytes_figures, "file_times": times}


class _Judged(NamedTuple):
    parts: list[Part]
    sha256: str
    size: int
    error: str = ""


@dataclass(frozen=True)
class _Judge:
    """A worker's function: a file's foreign parts and digest."""

    root: Path

    def __call__(self) -> Callable[[str], _Judged]:
        return self.judge

    def judge(self, path: str) -> _Judged:
        try:
            handle = os.open(self.root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(handle, "rb") as file:
                data = file.read(Limits().max_bytes + 1)
        except OSError as error:
            return _Judged([], "", 0, f"It cannot be read ({error.strerror}).")
        if len(data) > Limits().max_bytes:
            return _Judged([], "", len(data), "It is too large to be looked through.")
        try:
            parts = foreign_parts(data, PurePosixPath(path).suffix)
        except Exception as error:
            # fails closed: what the program trips over is no file that it knows
            return _Judged([], "", len(data), f"The program failed on it ({type(error).__name__}).")
        return _Judged(parts, hashlib.sha256(data).hexdigest(), len(data))


def _structure(
    root: Path, paths: list[str], workers: int, config: LeaksConfig, notes: Notes, on_progress: OnProgress
) -> tuple[dict[str, str], dict[str, JsonValue]]:
    """sha256 by path, and figures; what is foreign is found, in the order of paths."""
    judged: dict[str, _Judged] = {}
    for path, result in run_local(
        paths, _Judge(root), max(1, min(workers, len(paths))), time_limit=TIME_LIMIT
    ):
        judged[path] = _Judged([], "", 0, result.detail) if isinstance(result, WorkerLost) else result
        on_progress(len(judged), len(paths))
    kinds: Counter[str] = Counter()
    for path, (parts, _, _, error) in sorted(judged.items()):
        if error:
            notes.say("foreign_bytes", path, error)
        if parts:
            said = "; ".join(part.what for part in parts[: config.parts_told])
            more = f"; and {len(parts) - config.parts_told} more" if len(parts) > config.parts_told else ""
            size = sum(part.length for part in parts)
            notes.say("foreign_bytes", path, f"It holds {said}{more}.", value=size, limit=0)
        kinds.update({re.sub(r"\d{2,}|\d+ bytes?", "N", part.what) for part in parts})
    figures: dict[str, JsonValue] = {
        "files": len(judged),
        "bytes": sum(result.size for result in judged.values()),
        "files_with_foreign_parts": sum(bool(result.parts) for result in judged.values()),
        "kinds": dict(kinds.most_common(20)),
    }
    return {path: result.sha256 for path, result in judged.items()}, figures


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest()
    except OSError:
        return ""
