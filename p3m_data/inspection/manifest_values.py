"""Values in the manifest: each has the one shape that it may have, and is what the files and the ledger say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from pydantic import ValidationError

from p3m_data.inspection.findings import About, Notes
from p3m_data.inspection.private_side import Private, said_by
from p3m_data.inspection.public_tree import PICTURE_NAME
from p3m_data.stages.verify import CHECKS
from p3m_data.storage.layouts import FOLDERS, Layout
from p3m_data.storage.manifest import canonical_json
from p3m_data.storage.weights import registry
from p3m_data.types import ManifestRow

ABOUT: Mapping[str, About] = {
    "manifest_values": About(
        "Values in the manifest",
        "Every line is the one spelling of a row, in the order of ids, and every value has its known shape: "
        "digests are those of the public files and of published weights, paths are of the row's own files. With "
        "the private side, the row says what the ledger says.",
        "Without the private side, that a number of the right shape was measured and not put there to tell.",
    ),
}

_SPLIT = re.compile(r"train|validation|val|test|P3M-500-P|P3M-500-NP")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+){1,3}((a|b|rc|\.dev|\.post)[0-9]+)?")
_DIGEST = re.compile(r"[0-9a-f]{16}")


def check_manifest(layout: Layout, digests: dict[str, str], known: Private | None, notes: Notes) -> int:
    """Look at every row; how many there are. digests: path -> sha256 of each public file."""
    if layout.manifest is None:
        return 0
    weights = {name: entry.sha256 for name, entry in registry().items()}
    before, number = "", 0
    where = layout.manifest.relative_to(layout.root).as_posix()
    try:
        with layout.manifest.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                at = f"{where}:{number}"
                row = _row(line, at, notes)
                if row is None:
                    continue
                if row.id <= before:
                    said = "The rows are not in the order of their ids, which may tell another one."
                    notes.say("manifest_values", at, said)
                before = row.id
                for what in _strange_values(row, digests, weights, known):
                    notes.say("manifest_values", at, f"{what}.")
    except OSError as error:
        notes.say("manifest_values", where, f"It cannot be read ({error.strerror}).")
    return number


def _row(line: bytes, at: str, notes: Notes) -> ManifestRow | None:
    try:
        row = ManifestRow.model_validate_json(line)
    except ValidationError as error:
        # the value itself may be what must not be told
        first = error.errors(include_url=False, include_input=False)[0]
        extra = first["type"] == "extra_forbidden"
        what = "a value that no row has" if extra else "a value of another shape than a row has"
        notes.say("manifest_values", at, f"The line holds {what}.")
        return None
    try:
        plain = canonical_json(row).encode() + b"\n"
    except ValueError:
        plain = b""
    if line != plain:
        said = "The line is spelled otherwise than p3mdata does, which may tell something."
        notes.say("manifest_values", at, said)
    return row


def _strange_values(
    row: ManifestRow, digests: dict[str, str], weights: dict[str, str], known: Private | None
) -> Iterator[str]:
    paths = [p for p in (row.image, row.facemask, row.matte) if p is not None]
    if not _SPLIT.fullmatch(row.split):
        yield "The split has a name that no split has"
    for path in {*paths, *row.sha256}:
        parts = PurePosixPath(path).parts
        named = bool(parts) and PICTURE_NAME.fullmatch(parts[-1]) and PurePosixPath(path).stem == row.id
        if "/".join(parts) != path or not named or not set(parts[:-1]) <= FOLDERS:
            yield "A path is not that of a public file of this id"
        elif row.sha256.get(path) != digests.get(path):
            yield "A digest is not that of the public file it stands by; it may be the source's"
    if not all(check.name in CHECKS for check in row.checks):
        yield "A check has a name that no check has"
    made = row.provenance
    if not _VERSION.fullmatch(made.code_version) or not _DIGEST.fullmatch(made.config_digest):
        yield "The version or the digest of the configuration has another shape than these have"
    if not made.models.items() <= weights.items():
        yield "A digest is of no weights that p3mdata knows"
    if known is not None:
        if row.id not in known.rows:
            yield "The row's id is of no published picture in the ledger"
        elif known.rows[row.id] != said_by(row):
            yield "The row says something else than the ledger"
