"""What the private side of a dataset tells that must not be found on the public one."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from p3m_data.pipeline.dataset import Dataset
from p3m_data.storage.manifest import manifest_row
from p3m_data.types import ManifestRow, Record, Status

_MOVED = {"split", "image", "facemask", "matte", "sha256"}
"""What a later stage may change of a row: in which folders its files are."""


@dataclass(frozen=True)
class Private:
    """Of the published pictures, and names of all sources."""

    order: dict[str, int]
    """Id -> place of its source in the order of paths."""
    times: dict[str, tuple[int, ...]]
    """Id -> times of change of its source and its matte, in ns."""
    rows: dict[str, str]
    """Id -> digest of what the manifest may say of it, "" where that is nothing."""
    names: frozenset[str]
    """Paths, file names, stems and folder names of the sources."""
    places: frozenset[str]
    """Folders of the private side."""

    @classmethod
    def of(cls, root: Path, private: Path | None) -> Private | None:
        """None without a folder, or where it holds no ledger; `StorageError` when that is damaged."""
        if private is None or not os.path.isfile(private / "ledger.sqlite"):
            return None
        order: dict[str, int] = {}
        times: dict[str, tuple[int, ...]] = {}
        rows: dict[str, str] = {}
        names: set[str] = set()
        with Dataset.at(root, private).ledger() as ledger:
            for number, record in enumerate(ledger.records()):
                for path in filter(None, (record.source, record.matte)):
                    names |= {path, *PurePosixPath(path).parts, PurePosixPath(path).stem}
                if record.status is Status.ANONYMIZED and record.id is not None:
                    order[record.id], rows[record.id] = number, _expected(record)
                    source = ledger.source(record.id)
                    times[record.id] = (source.mtime_ns, source.matte_mtime_ns or 0) if source else ()
            places = {
                str(private.resolve()),
                str(root.resolve()),
                ledger.meta("photos"),
                ledger.meta("mattes"),
            }
        private_places = frozenset(place for place in places if place and len(place) > 4)
        return cls(order, times, rows, frozenset(names), private_places)


def said_by(row: ManifestRow) -> str:
    """A digest of what the row says of its picture; see `Private.rows`."""
    return hashlib.sha256(repr(row.model_dump(exclude=_MOVED)).encode()).hexdigest()


def _expected(record: Record) -> str:
    try:
        return said_by(manifest_row(record))
    except ValueError:
        return ""
