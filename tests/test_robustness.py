"""What a run survives: kills, lost and hanging workers, too little memory, full disks, clocks that jump.

Every test holds against the same oracle, a run that nothing disturbed. Losing power: `test_power_loss.py`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image

from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.ledger import Ledger
from p3m_data.pipeline.queue import LEASE_SECONDS, Queue
from p3m_data.storage.mattes import encode_matte
from p3m_data.types import Reason, Record, Source, Status
from tests.conftest import REPOSITORY
from tests.runs import command, dataset, faceless, matte, portrait, records, save, tree

TORTURE = REPOSITORY / "benchmarks" / "torture.py"
YEAR = 365 * 86400.0
TROUBLE = """
import ctypes, os, resource, signal, sys

AT, WHAT, TIMES = (os.environ["P3MDATA_TEST_" + name] for name in ("AT", "WHAT", "TIMES"))
MARKS = os.environ["P3MDATA_TEST_MARKS"]

def first_time():
    for number in range(int(TIMES)):
        try:
            return os.mkdir(os.path.join(MARKS, str(number))) is None
        except FileExistsError:
            pass
    return False

def hook(event, arguments):
    if event not in ("open", "os.rename") or AT not in f"{event} {arguments[0]} {arguments[1]}":
        return
    if first_time():
        if WHAT == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif WHAT == "hang":
            ctypes.PyDLL(None).sleep(600)
        elif WHAT == "no memory":
            pages = int(open("/proc/self/statm").read().split()[0])
            limit = pages * resource.getpagesize() + 16 * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

if "--multiprocessing-fork" in sys.orig_argv:
    sys.addaudithook(hook)
"""
"""Makes trouble in a worker when it opens or renames a file whose event holds a text, so many times."""


class Run(NamedTuple):
    photos: Path
    mattes: Path
    made: Dataset
    records: dict[str, Record]

    def go(self, made: Dataset, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """The same run into another dataset."""
        given = command("anonymize", self.photos, "--mattes", self.mattes, "-o", made.public, *words)
        return subprocess.run(
            [*given, "--work", str(made.private), "--workers", "2"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def check(self, made: Dataset) -> None:
        """That `made` is what the undisturbed run made, and nothing else lies there."""
        assert records(made) == self.records
        for found, expected in ((made.public, self.made.public), (made.sheets, self.made.sheets)):
            first, second = tree(found), tree(expected)
            assert first.keys() == second.keys()
            assert [path for path in first if first[path] != second[path]] == []
        assert not (made.private / "orphans").exists()
        assert [file.name for file in made.private.rglob(".*")] == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nothing disturbs: four portraits, two with mattes, and one picture that waits."""
    folder = tmp_path_factory.mktemp("undisturbed")
    photos, mattes = folder / "photos", folder / "mattes"
    for number, name in enumerate(("a.png", "b.jpg", "c.png", "d.jpg")):
        save(photos / name, portrait(8 * number))
    save(photos / "cup.png", faceless())
    mattes.mkdir()
    for name in ("a.png", "d.png"):
        (mattes / name).write_bytes(encode_matte(matte()))
    made = Run(photos, mattes, dataset(folder / "out"), {})
    assert made.go(made.made).returncode == 1
    return made._replace(records=records(made.made))


def trouble(folder: Path, what: str, at: str, times: int) -> dict[str, str]:
    """Environment in which workers get into trouble; `folder` then counts how often."""
    (folder / "hook").mkdir()
    (folder / "marks").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(TROUBLE)
    names = {"AT": at, "WHAT": what, "TIMES": str(times), "MARKS": str(folder / "marks")}
    return {"PYTHONPATH": str(folder / "hook"), **{f"P3MDATA_TEST_{k}": v for k, v in names.items()}}


def troubles(folder: Path) -> int:
    return len(list((folder / "marks").iterdir()))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_runs_that_are_killed_ten_times_end_the_same(run: Run, tmp_path: Path) -> None:
    words = ["--photos", run.photos, "--mattes", run.mattes, "--results", tmp_path, "--pictures", "3"]
    seed = random.randrange(10**6)
    done = subprocess.run(
        [sys.executable, TORTURE, "--kills", "10", "--seed", str(seed), *words], check=False, timeout=580
    )
    figures = json.loads((tmp_path / "torture.json").read_text())
    assert figures["differences"] == []
    assert done.returncode == 0
    assert figures["kills"] >= 10
    assert figures["datasets_compared"] >= 1


def test_the_torture_sees_a_difference(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TORTURE.parent)
    import torture  # type: ignore[import-not-found]

    files = {"train/a": b"a", "train/b": b"b"}
    whole = torture.Whole(files, {}, list(run.records.values()), 1, 1)
    made = Dataset.at(tmp_path / "out", run.made.private)
    (made.train / "sub").mkdir(parents=True)
    (made.train / "a").write_bytes(b"A")
    (made.train / "sub" / "c").write_bytes(b"c")
    wrong = torture.compare(made, whole)
    assert "public file train/a differs" in wrong
    assert "public file train/b is missing" in wrong
    assert "public file train/sub/c is too many" in wrong
    assert not any("records" in line for line in wrong)
    assert len(torture.half_done(made, whole)) == 2
    assert "the ledger's records differ" in torture.compare(made, torture.Whole(files, {}, [], 1, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "at",
    ["open", "facemask/p_", "train/mask/p_", "blurred_image/.p3mdata", "blurred_image/p_", "sheets/p_"],
)
def test_a_worker_killed_while_it_reads_or_writes_changes_nothing(run: Run, tmp_path: Path, at: str) -> None:
    """As the kernel kills one when memory runs out: the picture is tried again."""
    made = dataset(tmp_path / "out")
    where = "photos/c.png" if at == "open" else at
    done = run.go(made, **trouble(tmp_path, "kill", where, 1))
    assert done.returncode == 1, done.stderr
    assert troubles(tmp_path) == 1
    run.check(made)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "reason", "said"),
    [
        ("kill", Reason.WORKER_LOST, "ended by signal 9"),
        ("hang", Reason.TIMED_OUT, "not done in 12 seconds; give it more with --time-limit"),
    ],
)
def test_a_picture_that_takes_two_workers_along_is_a_row(
    run: Run, tmp_path: Path, what: str, reason: Reason, said: str
) -> None:
    made = dataset(tmp_path / "out")
    done = run.go(made, "--time-limit", "12", **trouble(tmp_path, what, "photos/b.jpg", 2))
    assert done.returncode == 3, done.stderr
    assert troubles(tmp_path) == 2
    found = records(made)
    lost = found.pop("b.jpg")
    assert (lost.status, lost.reason) == (Status.FAILED, reason)
    assert said in lost.detail
    assert found == {name: record for name, record in run.records.items() if name != "b.jpg"}
    whole, rest = tree(run.made.train), tree(made.train)
    files = {path.removeprefix("train/") for path in run.records["b.jpg"].files}
    assert rest == {path: data for path, data in whole.items() if path not in files}
    # the time limit is no setting of the dataset: it goes on with another one
    assert run.go(made, "--retry-failed", "--time-limit", "0").returncode == 1
    run.check(made)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_a_picture_too_large_for_the_memory_there_is(run: Run, tmp_path: Path, times: int) -> None:
    """Once: there is memory again when it is tried alone. Twice: it is a row."""
    photos = tmp_path / "photos"
    large = cv2.resize(portrait(), (3600, 3600))
    Image.fromarray(np.ascontiguousarray(large)).save(save(photos / "large.jpg", large), quality=90)
    save(photos / "small.png", portrait(10))
    made = dataset(tmp_path / "out")
    fewer = run._replace(photos=photos, mattes=tmp_path / "none")
    given = command("anonymize", fewer.photos, "-o", made.public, "--workers", "1")
    environment = {**os.environ, **trouble(tmp_path, "no memory", "large.jpg", times)}
    done = subprocess.run(given, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert troubles(tmp_path) == times
    found = records(made)
    assert found["small.png"].status is Status.ANONYMIZED
    if times == 1:
        assert done.returncode == 0, done.stderr
        return
    assert found["large.jpg"].reason is Reason.WORKER_LOST, found["large.jpg"].detail
    assert "ran out of memory" in found["large.jpg"].detail


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
    """A disk of `size` bytes; skips where mounting is not allowed."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    tried = subprocess.run(words, capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"mounting is not allowed here: {tried.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def bytes_of(folder: Path) -> int:
    """What the files take on a disk with pages of 4 KiB."""
    return sum(-(-len(data) // 4096) * 4096 for data in tree(folder).values())


@pytest.mark.slow
@pytest.mark.parametrize("side", ["public", "private"])
def test_a_disk_that_fills_up_at_any_point(run: Run, tmp_path: Path, side: str) -> None:
    needed = bytes_of(run.made.public if side == "public" else run.made.private)
    whole = tree(run.made.public)
    ended = set()
    for number, share in enumerate((0.15, 0.4, 0.65, 0.9)):
        with mounted(tmp_path / f"disk{number}", int(needed * share)) as disk:
            places = {"public": tmp_path / f"{number}" / "out", "private": tmp_path / f"{number}" / "work"}
            places[side] = disk / side
            made = Dataset.at(places["public"], places["private"])
            made.private.mkdir(parents=True)
            made.key_path.write_text((run.made.private / "secret.key").read_text())
            done = run.go(made)
            ended.add(done.returncode)
            if done.returncode == 3:
                (line,) = done.stderr.splitlines()[-1:]
                assert line.startswith("p3mdata: ")
                assert "full" in line
            assert "Traceback" not in done.stderr
            left = {path: data for path, data in tree(made.train).items()}
            assert all(whole[f"train/{path}"] == data for path, data in left.items())
            subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
            assert run.go(made).returncode == 1
            run.check(made)
    assert 3 in ended


@pytest.mark.slow
def test_temporary_files_need_no_room(run: Run, tmp_path: Path) -> None:
    made = dataset(tmp_path / "out")
    with mounted(tmp_path / "disk", 8192) as disk:
        (disk / "filler").write_bytes(bytes(4096))
        assert run.go(made, TMPDIR=str(disk)).returncode == 1
    run.check(made)


@pytest.fixture
def faketime() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        if os.environ.get("CI") == "true":
            pytest.fail("libfaketime is not installed: apt-get install faketime")
        pytest.skip("libfaketime is not installed: apt-get install faketime")
    return found[0]


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(run: Run, tmp_path: Path, faketime: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    made = dataset(tmp_path / "out")
    over = threading.Event()
    chance = random.Random(1)

    def jump() -> None:
        while not over.wait(0.02):
            (tmp_path / "next").write_text(f"{chance.choice('+-')}{chance.randrange(20 * int(YEAR))}\n")
            os.replace(tmp_path / "next", clock)

    jumping = threading.Thread(target=jump)
    jumping.start()
    try:
        done = run.go(
            made,
            "--time-limit",
            "120",
            LD_PRELOAD=str(faketime),
            FAKETIME_TIMESTAMP_FILE=str(clock),
            FAKETIME_NO_CACHE="1",
            # no clock that is set moves this one
            FAKETIME_DONT_FAKE_MONOTONIC="1",
        )
    finally:
        over.set()
        jumping.join()
    assert done.returncode == 1, done.stderr
    run.check(made)


@pytest.mark.parametrize("jump", [YEAR, 60.0, -60.0, -YEAR])
def test_leases_hold_for_who_works_and_end_for_who_left_when_the_clock_jumps(
    tmp_path: Path, jump: float
) -> None:
    now = [1_800_000_000.0]
    with Ledger(tmp_path / "ledger.sqlite", create=True) as book:
        book.add([Source(path="a", size=1, mtime_ns=1)])
        book.commit(Record(source="a", id="p_aaaaaaaa", status=Status.NEEDS_REVIEW, reason=Reason.NO_FACE))
        queue = Queue(book, lambda: now[0])
        assert queue.take("ann", "1")[0]
        now[0] += jump
        queue.renew("1", ["p_aaaaaaaa"])
        assert queue.take("ben", "2")[0] == []
        now[0] += jump
        now[0] += 3 * LEASE_SECONDS
        assert [entry.id for entry in queue.take("ben", "2")[0]] == ["p_aaaaaaaa"]
