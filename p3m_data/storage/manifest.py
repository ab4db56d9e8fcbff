"""The public manifest: one line per picture, nothing that tells which photo it was made from.

`python -m p3m_data.storage.manifest` writes the JSON Schemas of record and manifest anew.
"""

from __future__ import annotations

import heapq
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from importlib.resources import files
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal, TextIO

from pydantic import BaseModel, ValidationError

from p3m_data.errors import StorageError, UsageError
from p3m_data.storage.folders import sync_folder
from p3m_data.storage.sentences import one_line
from p3m_data.types import Face, ManifestRow, PublicFace, Reason, Record, Status

SCHEMAS: dict[str, type[BaseModel]] = {"record.schema.json": Record, "manifest.schema.json": ManifestRow}

ANONYMIZED_BY: dict[Reason | None, Literal["machine", "operator", "reviewer"]] = {
    Reason.ACCEPTED_NO_FACE: "operator",
    Reason.REVIEWED: "reviewer",
    Reason.CONFIRMED_NO_FACE: "reviewer",
}
"""Who is answerable for a published picture, by the reason in its record."""

IMAGE_FOLDERS = ("blurred_image", "original_image")
SORTED_IN_MEMORY = 50_000
"""Rows sorted at once: some 50 MB; a manifest with more is merged from sorted parts on disk."""


def canonical_json(model: BaseModel) -> str:
    """The one spelling of `model`: ASCII, sorted keys, no blanks. `ValueError` for NaN and infinity."""
    return json.dumps(model.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)


def manifest_row(record: Record, split: str = "train") -> ManifestRow:
    """What the public may know of an anonymized picture.

    `ValueError` when the record is not one that may be published: another status, a face without a blur,
    or a public file that is not named by the id (its name could tell the source's).
    """
    if record.status is not Status.ANONYMIZED or record.id is None:
        raise ValueError(f"{record.source} is {record.status} and has no place in the manifest")
    if record.transition is None or record.provenance is None:
        raise ValueError(f"the record of {record.source} does not say how it was made")
    by_folder = {PurePosixPath(path).parent.name: path for path in record.files}
    image = next((by_folder[folder] for folder in IMAGE_FOLDERS if folder in by_folder), None)
    if image is None or "facemask" not in by_folder:
        raise ValueError(f"the record of {record.source} lacks its picture or its facemask")
    if any(PurePosixPath(path).stem != record.id for path in record.files):
        raise ValueError(f"a public file of {record.source} is not named {record.id}")
    return ManifestRow(
        id=record.id,
        split=split,
        image=image,
        facemask=by_folder["facemask"],
        matte=by_folder.get("mask"),
        width=record.width,
        height=record.height,
        anonymized_by=ANONYMIZED_BY.get(record.reason, "machine"),
        faces=tuple(_public_face(face, record.source) for face in record.faces),
        transition=record.transition,
        checks=record.checks,
        sha256=record.files,
        provenance=record.provenance,
    )


def _public_face(face: Face, source: str) -> PublicFace:
    if face.how == "none" or face.sigma is None:
        raise ValueError(f"a face of {source} was not blurred")
    return PublicFace(how=face.how, sigma=face.sigma)


def write_manifest(rows: Iterable[ManifestRow], path: Path) -> None:
    """Write `rows`, in any order and number, sorted by id; the file appears whole or not at all.

    `StorageError` when the disk does not take it, `ValueError` when an id comes twice.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with ExitStack() as stack:
            stack.callback(partial.unlink, missing_ok=True)
            parts = list(_sorted_parts(rows, path.parent, stack))
            with partial.open("w", encoding="ascii", newline="\n") as out:
                out.writelines(_merged(parts))
                out.flush()
                os.fsync(out.fileno())
            partial.replace(path)
            sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"Cannot write the manifest {path}: {error.strerror or error}; make room or make it writable."
        ) from error


def _sorted_parts(rows: Iterable[ManifestRow], folder: Path, stack: ExitStack) -> Iterator[TextIO]:
    """Nameless files of `id, tab, row` lines, each sorted; `stack` closes them."""
    rows = iter(rows)
    while lines := sorted(f"{row.id}\t{canonical_json(row)}\n" for row in islice(rows, SORTED_IN_MEMORY)):
        part = tempfile.TemporaryFile("w+", encoding="ascii", newline="\n", dir=folder)  # noqa: SIM115
        stack.enter_context(part)
        part.writelines(lines)
        part.seek(0)
        yield part


def _merged(parts: Iterable[TextIO]) -> Iterator[str]:
    before = None
    for line in heapq.merge(*parts):
        name, _, row = line.partition("\t")
        if name == before:
            raise ValueError(f"the id {name} comes twice in the manifest")
        before = name
        yield row


def read_manifest(path: Path) -> Iterator[ManifestRow]:
    """The rows of a manifest in the order of its lines, one at a time.

    `UsageError` names the line that is not a row; `StorageError` when the file cannot be read.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield _parse(line, path, number)
    except FileNotFoundError as error:
        raise UsageError(
            f"There is no manifest {path}: name a dataset folder that p3mdata anonymize made."
        ) from error
    except OSError as error:
        raise StorageError(f"Cannot read the manifest {path}: {error.strerror or error}.") from error


def _parse(line: bytes, path: Path, number: int) -> ManifestRow:
    try:
        row = ManifestRow.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise _no_row(one_line(what), path, number) from error
    # pydantic reads what JSON has no numbers for, and no row with them can be written again
    measured = [face.sigma for face in row.faces] + [
        n for check in row.checks for n in (check.value, check.limit)
    ]
    if not all(math.isfinite(value) for value in measured):
        raise _no_row("a number is not finite", path, number)
    return row


def _no_row(what: str, path: Path, number: int) -> UsageError:
    return UsageError(
        f"Line {number} of {path} is not a manifest row ({what}); make the manifest again with p3mdata."
    )


def write_schemas(folder: Path) -> None:
    """Write the JSON Schema of every public format into `folder`."""
    for name, model in SCHEMAS.items():
        text = json.dumps(model.model_json_schema(), indent=2, sort_keys=True)
        (folder / name).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(str(files("p3m_data.manifests"))))
