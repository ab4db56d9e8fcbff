"""Losing power: what a run told the disk, in which order, and what is left of it at every moment.

The kernel's record of a run (strace) is played on a disk that forgets: a file's bytes are there for certain
once they were synced, its name once its folder was synced after the rename. The ledger is taken the other way:
any part of what was written to it and not synced may be there. Whatever it then says must be true.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from p3m_data.pipeline.dataset import Dataset
from p3m_data.storage.mattes import encode_matte
from p3m_data.types import Record, Status
from tests.runs import command, faceless, matte, portrait, records, save

pytestmark = pytest.mark.slow

CALLS = (
    "openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,ftruncate,truncate,mmap"
)
LINE = re.compile(r"(\d+) +(.*)")
CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*?)(?:\) += (?P<result>-?\d+|\?).*)?$")
ON_FILE = re.compile(r"-?\d+<(?P<path>[^>]*)>(?P<rest>.*)")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


class Event(NamedTuple):
    """One call: a write as it began, everything else as it ended."""

    name: str
    path: str
    """The file; of a rename, its new name."""
    data: bytes = b""
    offset: int = 0
    """Where `data` goes; of a truncation, the new length; of a write without a place, -1."""
    before: str = ""
    """The old name."""


class Run(NamedTuple):
    made: Dataset
    records: dict[str, Record]
    events: list[Event]


@pytest.fixture(scope="module")
def strace() -> str:
    found = shutil.which("strace")
    works = found and not subprocess.run([found, "-qq", "-e", "trace=none", "true"], check=False).returncode
    if not works:
        if os.environ.get("CI") == "true":
            pytest.fail("strace is not installed or may not trace: apt-get install strace")
        pytest.skip("strace is not installed or may not trace: apt-get install strace")
    assert found
    return found


@pytest.fixture(scope="module")
def run(strace: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("traced")
    for number, name in enumerate(("a.png", "b.jpg", "c.png", "d.png")):
        save(folder / "photos" / name, portrait(8 * number))
    save(folder / "photos" / "cup.png", faceless())
    (folder / "mattes").mkdir()
    (folder / "mattes" / "a.png").write_bytes(encode_matte(matte()))
    made = Dataset.at(folder / "out")
    words = (
        "anonymize",
        folder / "photos",
        "-o",
        made.public,
        "--mattes",
        folder / "mattes",
        "--workers",
        "2",
    )
    log = folder / "log"
    watch = [strace, "-f", "-qq", "-y", "-xx", "-s", "5000", "-e", f"trace={CALLS}", "-o", str(log)]
    done = subprocess.run(
        [*watch, *command(*words)], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 1, done.stderr
    return Run(made, records(made), list(events(log, folder)))


def events(log: Path, folder: Path) -> Iterator[Event]:
    """The calls in the log that succeeded and concern files under `folder`."""
    begun: dict[str, str] = {}
    with log.open() as lines:
        for line in lines:
            match = LINE.match(line.rstrip("\n"))
            assert match, line
            process, call = match.groups()
            if call.endswith("<unfinished ...>"):
                call = call.removesuffix("<unfinished ...>").rstrip()
                begun[process] = call
                if not call.startswith(("write(", "pwrite64(")):
                    continue
            elif call.startswith("<... "):
                first = begun.pop(process)
                if first.startswith(("write(", "pwrite64(")):
                    continue
                call = first + call.partition(" resumed>")[2]
            event = parsed(call)
            if event is not None and event.path.startswith(str(folder)):
                yield event


def parsed(call: str) -> Event | None:
    match = CALL.match(call)
    if match is None or (match["result"] or "0").startswith("-"):
        return None
    name, arguments = match["name"], match["arguments"]
    texts = [unescaped(text).decode("utf-8", "replace") for text in TEXT.findall(arguments)]
    if name.startswith("rename"):
        return Event("rename", texts[1], before=texts[0])
    if name.startswith("unlink"):
        return Event("unlink", texts[0])
    if name == "openat":
        return Event("create", texts[0]) if "O_CREAT" in arguments else None
    on = ON_FILE.match(arguments)
    if on is None:
        if name == "mmap" and "MAP_SHARED" in arguments and "PROT_WRITE" in arguments:
            descriptor = re.search(r"\d+<([^>]*)>", arguments)
            return Event("map", unescaped(descriptor[1]).decode()) if descriptor else None
        return None
    path = unescaped(on["path"]).decode("utf-8", "replace") if "\\x" in on["path"] else on["path"]
    if name in ("write", "pwrite64"):
        (data,) = TEXT.findall(on["rest"])[:1] or [""]
        numbers = on["rest"].rpartition('"')[2].removeprefix("...").split(",")
        offset = int(numbers[2]) if name == "pwrite64" else -1
        return Event("write", path, unescaped(data), offset)
    if name == "ftruncate":
        return Event("truncate", path, offset=int(on["rest"].split(",")[1]))
    return Event("sync", path)


def unescaped(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


@dataclass
class Disk:
    """What was written, and what of it is certain to be there after power was lost."""

    unsynced: set[str] = field(default_factory=set)
    """Files whose last bytes are not."""
    unnamed: set[str] = field(default_factory=set)
    """Names that may not be."""
    there: set[str] = field(default_factory=set)
    ledger: dict[str, bytes] = field(default_factory=dict)
    """Files of the ledger as they were synced."""
    later: list[Event] = field(default_factory=list)
    """What was done to them since."""

    def play(self, event: Event, ledger: str) -> None:
        if event.name == "sync":
            self.unsynced.discard(event.path)
            self.unnamed = {name for name in self.unnamed if os.path.dirname(name) != event.path}
        elif event.name == "rename":
            self.there.discard(event.before)
            self.there.add(event.path)
            self.unnamed.add(event.path)
            if event.before in self.unsynced:
                self.unsynced.remove(event.before)
                self.unsynced.add(event.path)
        elif event.name == "unlink":
            self.there.discard(event.path)
        elif event.name == "create" and event.path not in self.there:
            self.there.add(event.path)
            self.unnamed.add(event.path)
        elif event.name in ("write", "truncate", "map"):
            self.unsynced.add(event.path)
        if event.path in (ledger, f"{ledger}-wal"):
            self._keep(event)

    def _keep(self, event: Event) -> None:
        if event.name == "sync":
            mine = [done for done in self.later if done.path == event.path]
            self.later = [done for done in self.later if done.path != event.path]
            self.ledger[event.path] = applied(self.ledger.get(event.path, b""), mine)
        elif event.name == "unlink":
            self.later = [done for done in self.later if done.path != event.path]
            self.ledger.pop(event.path, None)
        elif event.name in ("write", "truncate"):
            self.later.append(event)

    def certain(self, path: str) -> bool:
        return path in self.there and path not in self.unsynced and path not in self.unnamed

    def after_the_loss(self, chance: random.Random, share: float) -> dict[str, bytes]:
        """The ledger's files when so much of what was not synced got to the disk, in no order."""
        kept = [done for done in self.later if chance.random() < share]
        paths = {*self.ledger, *(done.path for done in kept)}
        return {
            path: applied(self.ledger.get(path, b""), [done for done in kept if done.path == path])
            for path in paths
        }


def applied(data: bytes, changes: list[Event]) -> bytes:
    content = bytearray(data)
    for change in changes:
        if change.name == "truncate":
            del content[change.offset :]
            continue
        assert change.offset >= 0, change.path
        content.extend(bytes(max(0, change.offset - len(content))))
        content[change.offset : change.offset + len(change.data)] = change.data
    return bytes(content)


def published(run: Run) -> dict[bytes, list[str]]:
    """Id -> the files that its row says are there, and its sheet."""
    return {
        record.id.encode(): [
            *(str(run.made.public / path) for path in record.files),
            str(run.made.sheets / f"{record.id}.jpg"),
        ]
        for record in run.records.values()
        if record.id is not None
    }


def too_early(run: Run, trace: list[Event]) -> set[str]:
    """Files that were not certain when the first byte of their row was written."""
    files = published(run)
    ledger = str(run.made.ledger_path)
    disk, told, wrong = Disk(), set(), set()
    for event in trace:
        if event.name == "write" and event.path.startswith(ledger):
            new = {name for name in files if name in event.data} - told
            told |= new
            wrong |= {path for name in new for path in files[name] if not disk.certain(path)}
        disk.play(event, ledger)
    assert told == files.keys()
    return wrong


def test_a_row_is_written_after_its_files_are_on_the_disk(run: Run) -> None:
    assert len(published(run)) == 5
    assert sum(len(files) for files in published(run).values()) == 4 * 2 + 1 + 5
    assert too_early(run, run.events) == set()


def test_ledger_and_secret_are_there_before_the_first_row(run: Run) -> None:
    """Without its secret a dataset cannot be gone on with."""
    ledger = str(run.made.ledger_path)
    disk = Disk()
    for event in run.events:
        if event.path.startswith(ledger) and any(name in event.data for name in published(run)):
            break
        disk.play(event, ledger)
    else:
        pytest.fail("no row was written")
    assert disk.certain(str(run.made.key_path))
    assert {ledger, f"{ledger}-wal"} <= disk.there - disk.unnamed


def test_the_replay_sees_a_sync_that_is_missing(run: Run) -> None:
    """A control: the same run, had it not synced its folders, or not its files."""
    folders = {str(folder) for folder in (*run.made.train.iterdir(), run.made.sheets)}
    without = [event for event in run.events if not (event.name == "sync" and event.path in folders)]
    everything = {path for files in published(run).values() for path in files}
    assert too_early(run, without) == everything
    without = [event for event in run.events if not (event.name == "sync" and ".p3mdata-" in event.path)]
    assert too_early(run, without) == everything


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_whatever_is_left_of_the_ledger_is_true(run: Run, tmp_path: Path, share: float) -> None:
    """At every call, as if power was lost right after it."""
    ledger = str(run.made.ledger_path)
    chance = random.Random(1)
    disk = Disk()
    most = looked = 0
    for event in run.events:
        disk.play(event, ledger)
        if not (event.path.startswith(ledger) or event.name in ("rename", "sync")):
            continue
        files = disk.after_the_loss(chance, share)
        if not files.get(ledger):
            continue
        rows = recovered(files, ledger, tmp_path)
        looked += 1
        for row in rows:
            for path in row.files:
                assert disk.certain(str(run.made.public / path)), (path, event.name, event.path)
        if share == 0.0:
            assert len(rows) >= most
            most = len(rows)
    assert looked > 30
    if share == 0.0:
        assert most == len(run.records)


def recovered(files: dict[str, bytes], ledger: str, folder: Path) -> list[Record]:
    """What SQLite makes of the files after the loss: whole, and these rows."""
    at = folder / "ledger.sqlite"
    for file in folder.iterdir():
        file.unlink()
    for path, data in files.items():
        at.with_name(at.name + path.removeprefix(ledger)).write_bytes(data)
    database = sqlite3.connect(at)
    try:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        if "picture" not in tables:
            return []
        query = "SELECT record FROM picture WHERE record IS NOT NULL"
        return [Record.model_validate_json(text) for (text,) in database.execute(query)]
    finally:
        database.close()


def test_the_ledger_syncs_every_commit(run: Run) -> None:
    with run.made.ledger() as ledger:
        assert ledger.read("PRAGMA journal_mode") == [("wal",)]
        assert ledger.read("PRAGMA synchronous") == [(2,)]
        assert ledger.counts()[Status.PENDING] == 0
