"""Somebody reviews while `anonymize` still runs on the same dataset: nothing is lost on either side."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from p3m_data.errors import UsageError
from p3m_data.pipeline.dataset import Dataset
from p3m_data.stages.review import Desk
from p3m_data.storage.manifest import read_manifest
from p3m_data.types import Status
from tests.runs import command, dataset, p3mdata, portrait, records, save, tree

PICTURES = 5


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """As many with a face as without."""
    folder = tmp_path / "photos"
    from skimage import data

    for number in range(PICTURES):
        save(folder / f"{number}-face.png", portrait(3 * number))
        # several megapixels, so that the run lasts
        cup = np.kron(data.coffee()[: 330 + number], np.ones((3, 3, 1), np.uint8))
        save(folder / f"{number}-cup.jpg", np.ascontiguousarray(cup), quality=80)
    return folder


def verdict(name: str) -> str:
    """What is decided of a picture, whenever it comes up."""
    return "exclude" if int(name[2:], 16) % 3 == 0 else "no_face"


def review(out: Dataset, run: subprocess.Popen[str]) -> int:
    """Decides whatever waits until the run has ended; how many were decided while it went on."""
    early = 0
    with Desk.open(out) as desk:
        while True:
            over = run.poll() is not None
            items = desk.next("anna", "tab", count=3)["items"]
            for item in items:
                answer = desk.decide(item["id"], "anna", verdict(item["id"]))
                assert answer["outcome"] in ("published", "excluded")
                early += not over
                desk.flush()
            if over and not items:
                return early
            time.sleep(0.02)


def started(out: Dataset, run: subprocess.Popen[str]) -> None:
    while run.poll() is None:
        try:
            with out.ledger() as ledger:
                if ledger.meta("photos") is not None and sum(ledger.counts().values()) == 2 * PICTURES:
                    return
        except UsageError:
            time.sleep(0.02)


@pytest.fixture
def run(photos: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    dataset(tmp_path / "out")
    words = command("anonymize", photos, "-o", tmp_path / "out", "--workers", "1")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process


@pytest.mark.slow
def test_review_beside_a_run(run: subprocess.Popen[str], photos: Path, tmp_path: Path) -> None:
    out = Dataset.at(tmp_path / "out")
    started(out, run)
    early = review(out, run)
    said, complaints = run.communicate()
    assert run.returncode in (0, 1), complaints
    assert "belong to no picture" not in said + complaints
    assert early > 0, "the run was over before anything waited; give it more to do"

    calm = dataset(tmp_path / "calm")
    assert p3mdata("anonymize", photos, "-o", calm.public).returncode == 1
    with Desk.open(calm) as desk:
        for item in desk.listing("waiting", None, 0, 99, "anna")["items"]:
            desk.decide(item["id"], "anna", verdict(item["id"]))

    assert records(out) == records(calm)
    assert {row.id for row in read_manifest(out.manifest)} == {
        record.id for record in records(out).values() if record.status is Status.ANONYMIZED
    }
    assert files(out) == files(calm)
    assert not (out.private / "orphans").exists()


def files(made: Dataset) -> dict[str, bytes]:
    return {path: data for path, data in tree(made.public).items() if not path.startswith("report")}


def test_a_second_run_is_kept_away_but_a_review_is_not(waiting: Path, tmp_path: Path) -> None:
    for side in ("out", "out.private"):
        shutil.copytree(waiting / side, tmp_path / side)
    out = Dataset.at(tmp_path / "out")
    with Desk.open(out) as desk:
        run = p3mdata("anonymize", waiting / "photos", "--mattes", waiting / "mattes", "-o", out.public)
        assert run.returncode == 1, run.stderr
        assert desk.overview("anna")["counts"]["waiting"] == 3
