"""The private ledger: one SQLite file with a row per picture, written by the driver of a run and by review.

A source is pending until `commit` stores its record. Of several sources with the same id (the same bytes)
the one that sorts first holds it and the others are its duplicates, in whatever order they are committed.
A failed picture holds no id: its bytes may come good beside another matte.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from p3m_data.errors import UsageError
from p3m_data.pipeline.database import (
    MIGRATIONS,
    DatasetLock,
    connect,
    create_file,
    damaged,
    migrate,
    sentences,
    version,
)
from p3m_data.storage.manifest import canonical_json
from p3m_data.types import Reason, Record, Source, Status

PAGE = 500
"""Rows read at once: no cursor stays open, so that a commit may come between any two rows."""

BATCH = 5_000
"""Sources added in one transaction."""

SOURCE = "size, mtime_ns, matte, matte_size, matte_mtime_ns"
"""The columns that tell one state of a source from another."""

BACK_TO_PENDING = (
    "UPDATE picture SET status = 'pending', reason = NULL, id = NULL, same_as = NULL, record = NULL"
)


class Added(NamedTuple):
    """How many sources `add` found new, changed since they were added, or as they were."""

    new: int
    changed: int
    kept: int


class Ledger:
    """The ledger at `path`; a context manager.

    `create` makes it where there is none. Whoever writes first (with `create`: at once) holds the dataset
    until `close`; everybody may read meanwhile, and who opened it `beside_a_run` may write, too, but only
    what a run leaves alone. Threads may share it. Errors: `DatasetBusy` when another process holds it,
    `UsageError` when there is no ledger or it is not one of ours, `StorageError` when the disk is full.
    """

    def __init__(self, path: Path, *, create: bool = False, beside_a_run: bool = False) -> None:
        self.path = path
        self._lock: DatasetLock | None = None
        self._beside_a_run = False
        self._thread = threading.RLock()
        if create:
            create_file(path)
        self._database = connect(path)
        try:
            if create:
                self._hold()
            with sentences(path):
                found = version(self._database)
            if found == 0 and not create:
                raise UsageError(f"The ledger {path} is empty: run p3mdata anonymize first.")
            if found < len(MIGRATIONS):
                self._hold()
                migrate(self._database, path)
        except BaseException:
            self.close()
            raise
        if beside_a_run:
            self._beside_a_run = True
            self._let_go()

    def close(self) -> None:
        with self._thread:
            self._database.close()
            self._let_go()

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, sources: Iterable[Source]) -> Added:
        """Take up `sources`, in any order and number.

        One whose file, or whose matte, is not the one of its row is pending again, and its record is gone.
        """
        counts: Counter[str] = Counter()
        sources = iter(sources)
        while batch := list(islice(sources, BATCH)):
            with self.writing():
                counts.update(self._add(source) for source in batch)
        return Added(counts["new"], counts["changed"], counts["kept"])

    def pending(self) -> Iterator[Source]:
        """What is still to be done, in the order of the paths."""
        for row in self._pages(SOURCE, Status.PENDING):
            yield _source(row)

    def records(self, status: Status | None = None) -> Iterator[Record]:
        """The committed records, in the order of the paths; pending pictures have none."""
        for _, record in self._pages("record", status):
            if record is not None:
                yield self.parse(record)

    def find(self, name: str) -> Record | None:
        """The record of the picture that holds the id `name`."""
        rows = self.read("SELECT record FROM picture WHERE id = ?", name)
        return self.parse(rows[0][0]) if rows else None

    def replace(self, record: Record) -> bool:
        """Store a reviewed `record` in place of the one with its id; False when no picture holds it now."""
        query = "UPDATE picture SET status = ?, reason = ?, record = ? WHERE id = ? AND path = ?"
        values = (record.status, record.reason, canonical_json(record), record.id, _bytes(record.source))
        with self.writing():
            return self._database.execute(query, values).rowcount == 1

    def source(self, name: str) -> Source | None:
        """What is known of the file that the picture with the id `name` was made from."""
        rows = self.read(f"SELECT path, {SOURCE} FROM picture WHERE id = ?", name)
        return _source(rows[0]) if rows else None

    def commit(self, record: Record) -> Record:
        """Store what became of a source, in one transaction; returns the record as it was stored.

        That is a duplicate's when a source that sorts before it holds the same id. When the holder sorts
        after it, the holder becomes the duplicate. A picture that lets go of an id (it failed, or its bytes
        changed) puts that id's duplicates back to pending. `ValueError` for an unknown source, a pending or
        duplicate record (the ledger alone decides these) and for numbers that are not finite.
        """
        if record.status in (Status.PENDING, Status.DUPLICATE):
            raise ValueError(f"a {record.status} record cannot be committed: {record.source}")
        path = _bytes(record.source)
        claim = None if record.status is Status.FAILED else record.id
        with self.writing():
            before = self._one("SELECT id FROM picture WHERE path = ?", path)
            if before is None:
                raise ValueError(f"{record.source} is not in the ledger")
            if before[0] != claim:
                self._release(before[0])
            holder = self._one("SELECT path FROM picture WHERE id = ? AND path <> ?", claim, path)
            if holder is not None and holder[0] < path:
                record = _duplicate(record, of=_text(holder[0]))
                self._store(record, same_as=claim)
            else:
                if claim is not None:
                    self._take_over(claim, record)
                self._store(record, holds=claim)
        return record

    def retry(self, *what: Status | Reason) -> int:
        """Put the pictures of each status or reason, and their duplicates, back to pending; how many."""
        marks = ", ".join("?" * len(what))
        chosen = f"(status IN ({marks}) OR reason IN ({marks})) AND status <> 'pending'"
        with self.writing():
            duplicates = self._database.execute(
                f"{BACK_TO_PENDING} WHERE same_as IN (SELECT id FROM picture WHERE {chosen})", what * 2
            )
            pictures = self._database.execute(f"{BACK_TO_PENDING} WHERE {chosen}", what * 2)
            return duplicates.rowcount + pictures.rowcount

    def redo(self, source: str) -> None:
        """Put one picture, and the duplicates of it, back to pending."""
        path = _bytes(source)
        with self.writing():
            for (held,) in self._database.execute(
                "SELECT id FROM picture WHERE path = ?", (path,)
            ).fetchall():
                self._release(held)
            self._database.execute(f"{BACK_TO_PENDING} WHERE path = ?", (path,))

    def counts(self) -> dict[Status, int]:
        """How many pictures there are of every status, 0 included."""
        found = dict(self.read("SELECT status, count(*) FROM picture GROUP BY status"))
        return {status: found.get(status, 0) for status in Status}

    def reasons(self) -> dict[tuple[Status, Reason], int]:
        """How many pictures there are of each status and reason that occur."""
        rows = self.read(
            "SELECT status, reason, count(*) FROM picture WHERE reason IS NOT NULL GROUP BY status, reason"
        )
        return {(Status(status), Reason(reason)): count for status, reason, count in rows}

    def meta(self, key: str) -> str | None:
        rows = self.read("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def set_meta(self, key: str, value: str) -> None:
        with self.writing():
            self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _hold(self) -> None:
        if self._lock is None and not self._beside_a_run:
            self._lock = DatasetLock(self.path.with_name(f"{self.path.name}.lock"))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction: all of it is on the disk afterwards, or after an error nothing of it.

        One inside another is part of that one.
        """
        with self._thread:
            self._hold()
            if self._database.in_transaction:
                yield
                return
            with sentences(self.path), self._database:
                self._database.execute("BEGIN IMMEDIATE")
                yield

    def execute(self, query: str, *values: Any) -> sqlite3.Cursor:
        """Run one statement; one that writes must be inside `writing`. `values`: in order, or one dict."""
        named = values[0] if len(values) == 1 and isinstance(values[0], dict) else values
        with self._thread, sentences(self.path):
            return self._database.execute(query, named)

    def read(self, query: str, *values: Any) -> list[Any]:
        """All rows of a query."""
        with self._thread, sentences(self.path):
            return self.execute(query, *values).fetchall()

    def _one(self, query: str, *values: Any) -> Any:
        return self._database.execute(query, values).fetchone()

    def _pages(self, columns: str, status: Status | None) -> Iterator[Any]:
        """(path, *columns) of the pictures of a status, or of all, in the order of the paths."""
        which, values = ("", ()) if status is None else ("AND status = ?", (status,))
        query = f"SELECT path, {columns} FROM picture WHERE path > ? {which} ORDER BY path LIMIT {PAGE}"
        after = b""
        while rows := self.read(query, after, *values):
            yield from rows
            after = rows[-1][0]

    def _add(self, source: Source) -> str:
        path = _bytes(source.path)
        matte = None if source.matte is None else _bytes(source.matte)
        seen = (source.size, source.mtime_ns, matte, source.matte_size, source.matte_mtime_ns)
        row = self._one(f"SELECT {SOURCE}, id FROM picture WHERE path = ?", path)
        if row is None:
            self._database.execute(
                f"INSERT INTO picture (path, {SOURCE}, status) VALUES (?, ?, ?, ?, ?, ?, 'pending')",
                (path, *seen),
            )
            return "new"
        *known, held = row
        if tuple(known) == seen:
            return "kept"
        self._release(held)
        self._database.execute(
            f"{BACK_TO_PENDING}, ({SOURCE}) = (?, ?, ?, ?, ?) WHERE path = ?", (*seen, path)
        )
        return "changed"

    def _store(self, record: Record, *, holds: str | None = None, same_as: str | None = None) -> None:
        self._database.execute(
            "UPDATE picture SET status = ?, reason = ?, id = ?, same_as = ?, record = ? WHERE path = ?",
            (record.status, record.reason, holds, same_as, canonical_json(record), _bytes(record.source)),
        )

    def _take_over(self, claim: str, record: Record) -> None:
        """Make whoever holds or shares the id `claim` a duplicate of `record`."""
        others = self._database.execute(
            "SELECT record FROM picture WHERE (id = ? OR same_as = ?) AND path <> ?",
            (claim, claim, _bytes(record.source)),
        )
        for (text,) in others.fetchall():
            self._store(_duplicate(self.parse(text), of=record.source), same_as=claim)

    def _release(self, held: str | None) -> None:
        if held is not None:
            self._database.execute(f"{BACK_TO_PENDING} WHERE same_as = ?", (held,))

    def parse(self, text: str) -> Record:
        """A record as it is stored; `StorageError` when the ledger is damaged."""
        try:
            return Record.model_validate(json.loads(text))
        except ValueError as error:
            raise damaged(self.path) from error


def _duplicate(record: Record, *, of: str) -> Record:
    """What is kept of a picture whose bytes another source has: neither its id nor any file is its own."""
    return Record(
        source=record.source,
        matte=record.matte,
        status=Status.DUPLICATE,
        reason=Reason.SAME_BYTES,
        detail=f"The same bytes as {of}.",
        width=record.width,
        height=record.height,
        provenance=record.provenance,
    )


def _source(row: Sequence[Any]) -> Source:
    path, size, mtime_ns, matte, matte_size, matte_mtime_ns = row
    return Source(
        path=_text(path),
        size=size,
        mtime_ns=mtime_ns,
        matte=None if matte is None else _text(matte),
        matte_size=matte_size,
        matte_mtime_ns=matte_mtime_ns,
    )


def _bytes(path: str) -> bytes:
    """The path as stored: any text, sorting as the text does."""
    return path.encode("utf-8", "surrogatepass")


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogatepass")
