"""How the ledger's file is opened: schema, migrations, lock, and sentences for what can go wrong."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p3m_data.errors import DatasetBusy, StorageError, UsageError

if sys.platform != "win32":
    import fcntl

APPLICATION_ID = 0x50334D4C
"""`P3ML`, in the file's header: tells a ledger from another program's SQLite file."""

BUSY_SECONDS = 30.0

# Paths are bytes because a file name need not be text. `id` is the id that a picture holds; a duplicate
# holds none and names in `same_as` the one it would have.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE picture (
        path BLOB NOT NULL PRIMARY KEY,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        matte BLOB,
        matte_size INTEGER,
        matte_mtime_ns INTEGER,
        status TEXT NOT NULL,
        reason TEXT,
        id TEXT UNIQUE,
        same_as TEXT,
        record TEXT
    );
    CREATE INDEX picture_by_status ON picture (status, path);
    CREATE INDEX picture_by_reason ON picture (status, reason);
    CREATE INDEX picture_by_same_as ON picture (same_as) WHERE same_as IS NOT NULL;
    CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL);
    """,
    # `review` has a row for every picture that a person touched, `machine` the record from before that.
    # A spot check's `miss` is NULL until somebody looked.
    """
    CREATE TABLE decision (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL,
        reviewer TEXT NOT NULL,
        at TEXT NOT NULL,
        verdict TEXT NOT NULL,
        note TEXT NOT NULL,
        waived TEXT NOT NULL,
        mask BLOB,
        standing INTEGER NOT NULL,
        outcome TEXT,
        said TEXT NOT NULL,
        findings TEXT NOT NULL
    );
    CREATE INDEX decision_by_id ON decision (id, number);
    CREATE INDEX decision_by_reviewer ON decision (reviewer, standing);
    CREATE INDEX decision_under_way ON decision (number) WHERE outcome IS NULL;
    CREATE TABLE review (
        id TEXT NOT NULL PRIMARY KEY, state TEXT NOT NULL, note TEXT NOT NULL, machine TEXT NOT NULL
    );
    CREATE INDEX review_by_state ON review (state);
    CREATE TABLE spot_check (id TEXT NOT NULL PRIMARY KEY, miss INTEGER);
    CREATE TABLE lease (
        id TEXT NOT NULL PRIMARY KEY, reviewer TEXT NOT NULL, holder TEXT NOT NULL, until REAL NOT NULL
    );
    CREATE TABLE draft (
        id TEXT NOT NULL,
        reviewer TEXT NOT NULL,
        version INTEGER NOT NULL,
        done INTEGER NOT NULL,
        ops TEXT NOT NULL,
        PRIMARY KEY (id, reviewer)
    );
    CREATE VIEW queue AS
        SELECT p.path, p.id, p.reason,
            CASE WHEN r.state IS NULL OR r.state = 'decided' THEN 'waiting' ELSE r.state END AS state,
            coalesce(r.note, '') AS note
        FROM picture p LEFT JOIN review r ON r.id = p.id WHERE p.status = 'needs_review'
        UNION ALL
        SELECT p.path, p.id, p.reason,
            CASE r.state WHEN 'skipped' THEN 'skipped' ELSE 'spot_check' END, coalesce(r.note, '')
        FROM spot_check s JOIN picture p ON p.id = s.id LEFT JOIN review r ON r.id = s.id
        WHERE s.miss IS NULL AND p.status = 'anonymized'
        UNION ALL
        SELECT p.path, p.id, p.reason, 'decided', r.note
        FROM review r JOIN picture p ON p.id = r.id
        WHERE r.state = 'decided' AND p.status IN ('anonymized', 'excluded')
            AND r.id NOT IN (SELECT id FROM spot_check WHERE miss IS NULL);
    """,
)
"""The script at index n takes a ledger from version n to n + 1 (`PRAGMA user_version`)."""


@contextmanager
def sentences(path: Path) -> Iterator[None]:
    """Turn what SQLite says about the ledger at `path` into the error that a user can act on."""
    try:
        yield
    except sqlite3.Error as error:
        match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF:
            case sqlite3.SQLITE_FULL:
                raise StorageError(
                    f"The disk is full and the ledger {path} cannot grow; make room and run again, "
                    "nothing that was done is lost."
                ) from error
            case sqlite3.SQLITE_NOTADB:
                raise UsageError(f"{path} is not a p3mdata ledger; name another output folder.") from error
            case sqlite3.SQLITE_CORRUPT:
                raise damaged(path) from error
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                raise DatasetBusy(
                    f"Another program keeps the ledger {path} locked; end it and try again."
                ) from error
            case (
                sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_PERM
            ):
                raise StorageError(
                    f"Cannot read or write the ledger {path} ({error}); "
                    "look at the disk and at the rights of its folder."
                ) from error
        raise


def damaged(path: Path) -> StorageError:
    return StorageError(f"The ledger {path} is damaged; put a copy of it back or name another output folder.")


def create_file(path: Path) -> None:
    """Unless there is one, an empty file that only its owner can read; SQLite's side files follow suit."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StorageError(
            f"Cannot write the ledger {path}: {error.strerror}; name another output folder."
        ) from error


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode to the ledger at `path`, of whatever version.

    `UsageError` when there is none, when it is another program's, or when a newer p3mdata wrote it.
    """
    if not os.path.isfile(path):
        raise UsageError(f"There is no ledger {path}: run p3mdata anonymize first.")
    with sentences(path):
        # the ledger itself lets one thread in at a time
        database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            # FULL syncs each commit: a power cut takes back nothing that `commit` returned. NORMAL could
            # lose the last commits, among them a person's decision, to save one sync beside the several
            # that each picture's files need anyway.
            database.execute("PRAGMA synchronous = FULL")
            _check_kind(database, path)
        except BaseException:
            database.close()
            raise
    return database


def version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _check_kind(database: sqlite3.Connection, path: Path) -> None:
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and tables:
        raise UsageError(f"{path} is not a p3mdata ledger; name another output folder.")
    if (found := version(database)) > len(MIGRATIONS):
        raise UsageError(
            f"The ledger {path} was written by a newer p3mdata (version {found} of the ledger, "
            f"this one knows {len(MIGRATIONS)}); upgrade p3mdata."
        )


def migrate(database: sqlite3.Connection, path: Path) -> None:
    """Bring a ledger of any earlier version, or an empty file, up to date; each step whole or not at all."""
    with sentences(path):
        database.execute("PRAGMA journal_mode = WAL")
        for step in range(version(database), len(MIGRATIONS)):
            with database:
                database.executescript(
                    f"BEGIN IMMEDIATE; {MIGRATIONS[step]};"
                    f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {step + 1}; COMMIT"
                )


class DatasetLock:
    """Keeps a second run away from a dataset, until `release` or the end of this process, however it ends."""

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        """`DatasetBusy` names the process that holds the lock file `path`; with `wait`, after half a minute."""
        if sys.platform == "win32":
            raise UsageError("p3mdata writes datasets on Linux and macOS only; run it there or in WSL.")
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _not_lockable(path, error) from error
        try:
            self._take(BUSY_SECONDS if wait else 0.0)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode("ascii"), 0)
        except BlockingIOError as error:
            holder = os.read(self._descriptor, 20).decode("ascii", "replace") or "unknown"
            self.release()
            raise DatasetBusy(
                f"Another p3mdata run (process {holder}) works on {path.parent}; wait for its end or stop it."
            ) from error
        except OSError as error:
            self.release()
            raise _not_lockable(path, error) from error

    def _take(self, seconds: float) -> None:
        """Not with fcntl's own waiting, which a stopped process would make endless."""
        end = time.monotonic() + seconds
        while True:
            try:
                return fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.01)

    def release(self) -> None:
        os.close(self._descriptor)


def _not_lockable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"Cannot lock the dataset with {path}: {error.strerror}; name another output folder.")
