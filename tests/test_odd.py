"""Every odd, malformed and malicious file of the test data through one run, watched from outside.

The oracle is Pillow: what it decodes must be treated, what it does not must be a row that says so.
"""

from __future__ import annotations

import csv
import hashlib
import shutil
import subprocess
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from PIL import Image

from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.outcome import exit_code
from p3m_data.storage.folders import PICTURE_SUFFIXES
from p3m_data.storage.images import FORMATS, Limits
from p3m_data.types import Reason, Record, Status
from tests.runs import command, dataset, p3mdata, records, tree

pytestmark = [pytest.mark.slow, pytest.mark.portraits, pytest.mark.timeout(900)]

MEMORY = 1.5 * 2**30
"""Bytes that no process of the run may hold at any look."""
LOOKS = 20
"""Looks at the processes' memory in a second."""
SECONDS = "60"
"""No file of these takes so long; one that does, twice, is a row that says so."""


class Run(NamedTuple):
    photos: Path
    made: Dataset
    records: dict[str, Record]
    peak: int
    """Largest resident memory of a process, bytes."""
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def photos(odd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file; those with a suffix that a run leaves out get one more, so that each is tried."""
    folder = tmp_path_factory.mktemp("odd") / "photos"
    for name in listed(odd):
        to = folder / (name if Path(name).suffix.lower() in PICTURE_SUFFIXES else f"{name}.jpg")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(odd / name, to)
    return folder


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The finished run that every test here looks at; whatever else checks a dataset can be tried on it, too."""
    made = dataset(tmp_path_factory.mktemp("run") / "out")
    words = ("anonymize", photos, "-o", made.public, "--workers", "2", "--time-limit", SECONDS)
    log = made.private / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command(*words), stdout=out, stderr=out, text=True)
        peak = watched(process)
    log_text = log.read_text()
    log.unlink()
    done = subprocess.CompletedProcess(words, process.returncode, log_text)
    return Run(photos, made, records(made), peak, done)


def watched(process: subprocess.Popen[str]) -> int:
    """Waits for the end of `process`; the largest resident memory of it and its children."""
    driver = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        with suppress(psutil.Error):
            for one in (driver, *driver.children(recursive=True)):
                with suppress(psutil.Error):
                    peak = max(peak, one.memory_info().rss)
        time.sleep(1 / LOOKS)
    return peak


def listed(odd: Path) -> dict[str, str]:
    """File -> what the list says of it."""
    with (odd / "SOURCES.csv").open(newline="") as lines:
        return {row["file"]: row["notes"] for row in csv.DictReader(lines)}


def test_every_file_has_a_row_with_a_reason(run: Run, odd: Path) -> None:
    assert len(listed(odd)) == len(run.records) > 800
    for record in run.records.values():
        published = record.status is Status.ANONYMIZED
        assert published or (record.reason and record.detail), record.source
        assert "Traceback" not in record.detail
        assert "\n" not in record.detail


def test_nothing_crashes_or_hangs(run: Run) -> None:
    reasons = {record.source: record.reason for record in run.records.values()}
    ours = {Reason.WORKER_LOST, Reason.TIMED_OUT}
    assert {source: reason for source, reason in reasons.items() if reason in ours} == {}
    with run.made.ledger() as ledger:
        assert run.done.returncode == exit_code(ledger.counts()) == 3
    assert "Traceback" not in run.done.stdout
    assert not any(
        line.startswith("Traceback") for line in (run.made.private / "workers.log").read_text().splitlines()
    )


def test_no_process_takes_much_memory(run: Run) -> None:
    assert 100e6 < run.peak <= MEMORY


def test_what_pillow_decodes_is_treated_and_nothing_else(run: Run) -> None:
    wrong = {}
    for source, record in run.records.items():
        found = by_pillow(run.photos / source)
        treated = record.status is not Status.FAILED
        if treated != (found in FORMATS or found == "MPO"):
            wrong[source] = (found, record.status, record.detail)
        if found == "too large":
            assert record.reason is Reason.TOO_LARGE
        elif not treated and record.reason is not Reason.TOO_LARGE:
            assert record.reason is Reason.UNREADABLE
            assert record.detail.startswith(f"{source} is not an image that can be read: ")
    assert wrong == {}


def by_pillow(file: Path) -> str:
    """The format of a picture that Pillow, with whatever it knows, decodes; else why not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            with Image.open(file) as image:
                if image.width * image.height > Limits().max_pixels:
                    return "too large"
                image.load()
                return image.format or ""
        except Exception:
            return "unreadable"
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def test_only_whole_files_are_there(run: Run) -> None:
    public = tree(run.made.public)
    known = {path: digest for record in run.records.values() for path, digest in record.files.items()}
    found = {path: data for path, data in public.items() if path.startswith("train/")}
    assert {path: hashlib.sha256(data).hexdigest() for path, data in found.items()} == known
    sheets = {f"{record.id}.jpg" for record in run.records.values() if record.id}
    assert {file.name for file in run.made.sheets.iterdir()} == sheets
    for file in (*run.made.train.rglob("*.*"), *run.made.sheets.iterdir()):
        with Image.open(file) as image:
            image.load()
    assert not (run.made.private / "orphans").exists()


def test_another_run_gives_the_same_files(run: Run, tmp_path: Path) -> None:
    again = dataset(tmp_path / "out")
    words = ("anonymize", run.photos, "-o", again.public, "--workers", "3", "--time-limit", SECONDS)
    done = p3mdata(*words)
    assert done.returncode == 3, done.stderr
    assert records(again) == run.records
    assert tree(again.sheets) == tree(run.made.sheets)
    first, second = tree(run.made.public), tree(again.public)
    assert first.keys() == second.keys()
    assert [path for path in first if first[path] != second[path]] == []
