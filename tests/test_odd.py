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
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from PIL import Image

from p3m_data.inspection.audit import CHECKS
from p3m_data.inspection.findings import Inspection
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.outcome import exit_code
from p3m_data.storage.folders import PICTURE_SUFFIXES
from p3m_data.storage.images import FORMATS, Limits
from p3m_data.types import Reason, Record, Status
from tests.report.test_inspection import read_back
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
    return anonymized(photos, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def accepted(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One more, in which hundreds of pictures without a face are published."""
    return anonymized(photos, tmp_path_factory.mktemp("accepted"), "--accept-no-face")


def anonymized(photos: Path, folder: Path, *options: str) -> Run:
    made = dataset(folder / "out")
    words = ("anonymize", photos, "-o", made.public, "--workers", "2", "--time-limit", SECONDS, *options)
    done, peak = looked_after(words, folder)
    return Run(photos, made, records(made), peak, done)


def looked_after(words: Sequence[str | Path], folder: Path) -> tuple[subprocess.CompletedProcess[str], int]:
    """`p3mdata WORDS`, with all that it prints in `stdout`; and its `watched`."""
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command(*words), stdout=out, stderr=out, text=True)
        peak = watched(process)
    return subprocess.CompletedProcess(words, process.returncode, log.read_text()), peak


def inspected(made: Dataset, report: Path, *words: str) -> Inspection:
    """What `p3mdata WORDS` says of a dataset, printed with nothing beside it, within the memory."""
    report.mkdir()
    arguments = (words[0], made.public, *words[1:], "--json", "--workers", "2", "--report", report)
    done, peak = looked_after(arguments, report)
    assert done.returncode in (0, 1), done.stdout
    assert peak <= MEMORY
    inspection = read_back(done.stdout)
    assert done.returncode == (inspection.faults > 0)
    return inspection


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


def test_pictures_without_a_face_are_published_when_that_is_accepted(run: Run, accepted: Run) -> None:
    """But for a few damaged ones that are not written as they were meant; of the rest, the same becomes as without."""
    lost = {Reason.WORKER_LOST, Reason.TIMED_OUT}
    assert not lost & {record.reason for record in accepted.records.values()}
    assert accepted.peak <= MEMORY
    became: Counter[Reason | None] = Counter()
    for source, record in accepted.records.items():
        before = run.records[source]
        if before.reason is Reason.NO_FACE:
            assert (record.status is Status.ANONYMIZED) == bool(record.files), record.detail
            became[None if record.files else record.reason] += 1
        else:
            outcome = (record.status, record.reason, record.files)
            assert outcome == (before.status, before.reason, before.files)
    assert became.keys() <= {None, Reason.NOT_AS_WRITTEN}
    assert became[None] > 400 > 40 * became[Reason.NOT_AS_WRITTEN]


def test_what_was_made_of_odd_files_is_a_right_dataset(accepted: Run, tmp_path: Path) -> None:
    """But for mattes: the alpha channels of icons are no portraits'."""
    inspection = inspected(accepted.made, tmp_path / "report", "validate")
    made = sum(record.status is Status.ANONYMIZED for record in accepted.records.values())
    assert inspection.pictures == made > 400
    wrong = {f.check: f.where for f in inspection.findings if f.level == "fault"}
    assert wrong.keys() <= {"matte_values", "matte_inverted", "matte_subject"}
    at = {looked.check: looked.at for looked in inspection.looked}
    assert {at[check] for check in ("inspected", "sizes", "checksums", "changed_outside", "id_keyed")} == {
        made
    }


def test_nothing_leaks_from_odd_files(accepted: Run, tmp_path: Path) -> None:
    inspection = inspected(accepted.made, tmp_path / "report", "audit", "--only", "leaks")
    assert [finding for finding in inspection.findings if finding.level == "fault"] == []
    files = [path for record in accepted.records.values() for path in record.files]
    at = {looked.check: looked.at for looked in inspection.looked if looked.check in CHECKS["leaks"]}
    assert at["foreign_bytes"] == len(files) > 800
    assert all(at.values()), at


def test_faces_are_looked_for_in_what_was_made_of_odd_files(run: Run, tmp_path: Path) -> None:
    inspection = inspected(run.made, tmp_path / "report", "audit", "--only", "faces")
    made = sum(record.status is Status.ANONYMIZED for record in run.records.values())
    at = {looked.check: looked.at for looked in inspection.looked}
    assert inspection.pictures == made == at["pictures_looked_at"] > 30
    assert [finding for finding in inspection.findings if finding.level == "fault"] == []
