"""The ledger's file: opening, locks, migrations and what can go wrong with it."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from p3m_data.errors import DatasetBusy, StorageError, UsageError
from p3m_data.pipeline import database, ledger
from p3m_data.pipeline.ledger import Ledger
from p3m_data.types import Reason, Record, Source, Status


def source(path: str) -> Source:
    return Source(path=path, size=1, mtime_ns=5)


def record(path: str, name: str, status: Status = Status.ANONYMIZED, reason: Reason | None = None) -> Record:
    return Record(source=path, id=name, status=status, reason=reason)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite", create=True) as book:
        yield book


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Ledger(tmp_path / "l", create=True) as book:
            book.add([source("a")])
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes) == {"l", "l-wal", "l-shm", "l.lock"}
    assert set(modes.values()) == {0o600}


def test_a_second_run_is_told_who_works_there(book: Ledger) -> None:
    with pytest.raises(DatasetBusy, match=rf"process {os.getpid()}\) works on .*; wait"):
        Ledger(book.path, create=True)
    with Ledger(book.path) as other, pytest.raises(DatasetBusy):
        other.add([source("a")])


def test_the_lock_goes_with_its_ledger(tmp_path: Path) -> None:
    for _ in range(2):
        with Ledger(tmp_path / "l", create=True) as book:
            book.add([source("a")])


def test_a_ledger_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no ledger .*/l: run p3mdata anonymize first"):
        Ledger(tmp_path / "l")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Cannot write the ledger"):
        Ledger(tmp_path / "file" / "l", create=True)
    with pytest.raises(StorageError, match="Is a directory"):
        Ledger(tmp_path, create=True)


def test_a_run_killed_before_its_first_write_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "l").touch()
    with pytest.raises(UsageError, match="is empty"):
        Ledger(tmp_path / "l")
    with Ledger(tmp_path / "l", create=True) as book:
        assert book.add([source("a")]).new == 1


@pytest.mark.parametrize("create", [True, False])
def test_another_file_is_not_touched(tmp_path: Path, create: bool) -> None:
    text, foreign = tmp_path / "text", tmp_path / "foreign"
    text.write_text("shopping list\n" * 300)
    with sqlite3.connect(foreign) as other:
        other.execute("CREATE TABLE songs (name TEXT)")
    other.close()
    for path in (text, foreign):
        before = path.read_bytes()
        with pytest.raises(UsageError, match=f"{path} is not a p3mdata ledger"):
            Ledger(path, create=create)
        assert path.read_bytes() == before


def test_a_newer_ledger_is_refused(book: Ledger) -> None:
    book._database.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match=r"newer p3mdata \(version 99 of the ledger.*upgrade"):
        Ledger(book.path)


@pytest.mark.parametrize("create", [True, False])
def test_an_older_ledger_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, create: bool) -> None:
    path = tmp_path / "l"
    with Ledger(path, create=True) as book:
        book.add([source("a")])
    now = (*database.MIGRATIONS, "ALTER TABLE picture ADD COLUMN decided_by TEXT")
    monkeypatch.setattr(database, "MIGRATIONS", now)
    monkeypatch.setattr(ledger, "MIGRATIONS", now)
    with Ledger(path, create=create) as book:
        assert database.version(book._database) == len(now)
        assert book.read("SELECT path, decided_by FROM picture") == [(b"a", None)]


def test_a_migration_that_breaks_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "l"
    Ledger(path, create=True).close()
    broken = (*database.MIGRATIONS, "CREATE TABLE extra (x); SELECT nonsense")
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", broken)
        patch.setattr(ledger, "MIGRATIONS", broken)
        with pytest.raises(sqlite3.OperationalError, match="nonsense"):
            Ledger(path)
    with Ledger(path, create=True) as book:
        assert database.version(book._database) == len(database.MIGRATIONS)
        assert book.read("SELECT name FROM sqlite_master WHERE name = 'extra'") == []


def test_damage_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with Ledger(path, create=True) as book:
        book.add(source(f"{number:05d}") for number in range(5000))
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    with Ledger(path) as book, pytest.raises(StorageError, match="is damaged; put a copy"):
        list(book.pending())
    path.write_bytes(whole)
    with Ledger(path) as book:
        book.commit(record("00000", "p_1"))
        book._database.execute("UPDATE picture SET record = substr(record, 9) WHERE id = 'p_1'")
        with pytest.raises(StorageError, match="is damaged"):
            list(book.records())


def test_a_full_disk_is_a_sentence_and_loses_nothing(book: Ledger) -> None:
    book.add(source(f"{number}") for number in range(100))
    (pages,) = book._database.execute("PRAGMA page_count").fetchone()
    book._database.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(StorageError, match=r"The disk is full and the ledger .* make room and run again"):
        book.add(source(f"more {number}") for number in range(2000))
    assert book.counts()[Status.PENDING] == 100
    book._database.execute("PRAGMA max_page_count = 1000000")
    assert book.add(source(f"more {number}") for number in range(2000)).new == 2000


def test_another_program_that_locks_the_file_is_named(book: Ledger) -> None:
    book._database.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(book.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatasetBusy, match="Another program keeps the ledger"):
        book.add([source("a")])
    other.close()
    assert book.add([source("a")]).new == 1


def test_beside_a_run_both_write(book: Ledger) -> None:
    book.add([source("a"), source("b")])
    with Ledger(book.path, beside_a_run=True) as review, Ledger(book.path, beside_a_run=True) as another:
        review.set_meta("reviewed", "1")
        book.commit(record("a", "p_1", Status.NEEDS_REVIEW))
        assert review.replace(record("a", "p_1"))
        another.set_meta("another", "1")
        assert book.find("p_1") == record("a", "p_1")
        assert (book.meta("reviewed"), book.meta("another")) == ("1", "1")
        with pytest.raises(DatasetBusy):
            Ledger(book.path, create=True)
    with Ledger(book.path) as third, pytest.raises(DatasetBusy):
        third.set_meta("c", "1")


def test_beside_a_run_keeps_no_run_away(tmp_path: Path) -> None:
    Ledger(tmp_path / "l", create=True).close()
    with Ledger(tmp_path / "l", beside_a_run=True) as review:
        review.set_meta("a", "1")
        with Ledger(tmp_path / "l", create=True) as run:
            assert run.add([source("a")]).new == 1


BESIDE = """
import sys
from pathlib import Path
from p3m_data.pipeline.ledger import Ledger
from p3m_data.types import Source
name, path = sys.argv[1], Path(sys.argv[2])
book = Ledger(path, create=name == "run", beside_a_run=name == "review")
print("ready", flush=True)
sys.stdin.readline()
for number in range(60):
    with book.writing():
        book.set_meta("sum", str(int(book.meta("sum") or 0) + 1))
        if name == "run":
            book.add([Source(path=f"{number}", size=1, mtime_ns=1)])
book.close()
"""


def test_a_run_and_a_review_write_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with Ledger(path, create=True) as book:
        book.set_meta("sum", "0")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BESIDE, name, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("run", "review", "review")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, said = process.communicate()
        assert (process.returncode, said) == (0, "")
    with Ledger(path) as book:
        assert book.meta("sum") == "180"
        assert book.counts()[Status.PENDING] == 60


def version_1(path: Path) -> None:
    """A ledger as the first release left it, with one picture that waits."""
    made = sqlite3.connect(path)
    made.executescript(
        f"{database.MIGRATIONS[0]};PRAGMA application_id = {database.APPLICATION_ID}; PRAGMA user_version = 1"
    )
    waiting = record("a", "p_1", Status.NEEDS_REVIEW, reason=Reason.NO_FACE)
    made.execute(
        "INSERT INTO picture (path, size, mtime_ns, status, reason, id, record)"
        " VALUES (x'61', 1, 5, 'needs_review', 'no_face_found', 'p_1', ?)",
        (waiting.model_dump_json(),),
    )
    made.commit()
    made.close()


@pytest.mark.parametrize("how", [{"beside_a_run": True}, {"create": True}, {}])
def test_a_ledger_of_the_first_version_is_migrated(tmp_path: Path, how: dict[str, bool]) -> None:
    path = tmp_path / "l"
    version_1(path)
    with Ledger(path, **how) as book:
        assert book.read("SELECT id, state, reason FROM queue") == [("p_1", "waiting", "no_face_found")]
        assert book.source("p_1") == source("a")
        assert database.version(book._database) == len(database.MIGRATIONS)
    with Ledger(path, beside_a_run=True) as review, Ledger(path, create=True) as run:
        review.set_meta("a", "1")
        assert run.add([source("a")]).kept == 1


def test_review_lets_go_of_the_lock_after_a_migration(tmp_path: Path) -> None:
    version_1(tmp_path / "l")
    with Ledger(tmp_path / "l", beside_a_run=True) as review, Ledger(tmp_path / "l", create=True) as run:
        run.set_meta("run", "1")
        review.set_meta("review", "1")


def test_while_a_run_holds_an_old_ledger_review_says_who_does(tmp_path: Path) -> None:
    path = tmp_path / "l"
    version_1(path)
    lock = database.DatasetLock(path.with_name("l.lock"))
    try:
        for how in ({"beside_a_run": True}, {}):
            with pytest.raises(
                DatasetBusy, match=rf"run \(process {os.getpid()}\) works on .*; wait for its end"
            ):
                Ledger(path, **how)
    finally:
        lock.release()
    plain = sqlite3.connect(path)
    assert plain.execute("PRAGMA user_version").fetchone() == (1,)
    plain.close()
    Ledger(path, beside_a_run=True).close()


def test_a_lock_that_is_waited_for_is_got_in_turn(tmp_path: Path) -> None:
    """No two threads are between taking and releasing at once."""
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            lock = database.DatasetLock(tmp_path / "lock", wait=True)
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)
            lock.release()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80
