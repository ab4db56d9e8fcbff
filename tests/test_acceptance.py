"""One run over all the real portraits, what it must reach, and the review of what it left to a person."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from playwright.sync_api import Browser, expect

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.pipeline.dataset import Dataset
from p3m_data.stages.review import Desk
from p3m_data.types import Record, Status
from tests.review import running
from tests.review.browser import Reviewer
from tests.review.conftest import chromium
from tests.runs import dataset, p3mdata, records

__all__ = ["chromium"]

pytestmark = [pytest.mark.slow, pytest.mark.portraits, pytest.mark.timeout(600)]

MUST_WAIT = {
    "human_background_noface",
    "p_09ba26b4",
    "p_514ca06a",
    "p_71bcce3a",
    "p_d684dae3",
    "p_a09f6d7a",
    "p_bd6af989",
    "rembg_girl2",
}
"""Pictures without a face that can be seen whole, and with faces that somebody has blurred already."""
BY_HAND = {
    "human_background_noface": "n",
    "human_group-1": "a",
    "human_group-4": "a",
    "lfw_George_W_Bush_0009": "a",
    "p_09ba26b4": "a",
    "p_514ca06a": "a",
    "p_71bcce3a": "n",
    "p_a09f6d7a": "n",
    "p_bd6af989": "n",
    "p_d684dae3": "n",
    "rembg_girl2": "n",
    "u2net_Athlete_Intake": "a",
}
"""The key that somebody who looks at each of the waiting pictures presses."""
PUBLISHED_SHARE = 0.97
"""Of all other pictures, at least so many need no review."""
AWAY = 16
TOLERANCE = 5
"""Levels of 255: a matte this close to 0 or 255 counts as 0 or 255 (`mask.tolerance`)."""


class Run(NamedTuple):
    portraits: Path
    made: Dataset
    records: dict[str, Record]


@pytest.fixture(scope="module")
def run(portraits: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = dataset(tmp_path_factory.mktemp("portraits") / "out")
    images, mattes = portraits / "images", portraits / "mattes"
    done = p3mdata("anonymize", images, "-o", made.public, "--mattes", mattes, "--workers", "2")
    assert done.returncode == 1, done.stderr
    return Run(portraits, made, records(made))


@pytest.fixture(scope="module")
def reviewed(run: Run, chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A copy of the run's dataset, its waiting pictures decided on the page, one after the other."""
    folder = tmp_path_factory.mktemp("reviewed")
    for side in (run.made.public, run.made.private):
        shutil.copytree(side, folder / side.name)
    made = Dataset.at(folder / "out")
    context = chromium.new_context(viewport={"width": 1280, "height": 720})
    with Desk.open(made) as desk, running(desk, folder) as server:
        anna = Reviewer(context)
        anna.open(f"{server.origin}/open#{server.token()}")
        decide_all(anna, desk, {record.id: name for name, record in run.records.items() if record.id})
        anna.check()
    context.close()
    return Run(run.portraits, made, records(made))


def decide_all(anna: Reviewer, desk: Desk, sources: dict[str, str]) -> None:
    """What a person does: look, press a key, and see to what the verification sends back."""
    while desk.overview("anna")["mine_waiting"]:
        anna.wait("ready")
        name, before = anna.shown, len(desk.decisions(999))
        anna.press(BY_HAND[Path(sources[name]).stem])
        _until(lambda before=before: len(desk.decisions(999)) > before and desk.decisions(1)[0]["outcome"])
        decision = desk.decisions(1)[0]
        if decision["outcome"] == "sent_back":
            anna.page.get_by_test_id("toasts").get_by_role("button", name="Show").click()
            anna.see(name)
            correct(anna, desk, name, decision["verdict"])
        _until(lambda name=name: anna.shown != name)


def correct(anna: Reviewer, desk: Desk, name: str, verdict: str) -> None:
    """Masks the faces that were overlooked; where the suggestion was none, they are known to be none."""
    findings = desk.detail(name, "anna")["findings"]
    if verdict == "accept":
        anna.press("o")
        for x0, y0, x1, y1 in (box for finding in findings for box in finding["boxes"]):
            anna.drag([(x0, y0), (x1, y1)])
        anna.saved()
        anna.press("m")
    else:
        button = anna.page.get_by_test_id("findings").get_by_role("button", name=re.compile("pass", re.I))
        expect(button).to_be_visible()
        button.click()
    _until(lambda: desk.decisions(1)[0]["outcome"] == "published")


def _until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(params=["run", "reviewed"])
def finished(request: pytest.FixtureRequest) -> Run:
    """The dataset as the machine left it, and after the review."""
    found: Run = request.getfixturevalue(request.param)
    return found


def anonymized(run: Run) -> dict[str, Record]:
    return {name: record for name, record in run.records.items() if record.status is Status.ANONYMIZED}


def public(run: Run, record: Record, folder: str) -> Path:
    (path,) = (path for path in record.files if f"/{folder}/" in path)
    return run.made.public / path


def pixels(file: Path) -> UInt8Array:
    """As a viewer that knows of colour shows it: (H, W, 3) uint8 sRGB."""
    with Image.open(file) as image:
        profile = image.info.get("icc_profile")
        upright = ImageOps.exif_transpose(image).convert("RGB")
    if profile is None:
        return np.asarray(upright)
    moved = ImageCms.profileToProfile(
        upright,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return np.asarray(moved)


def facemask(run: Run, record: Record) -> BoolArray:
    with Image.open(public(run, record, "facemask")) as image:
        mask = np.asarray(image)
    assert set(np.unique(mask)) <= {0, 255}
    return mask > 0


def test_every_picture_is_accounted_for(run: Run) -> None:
    files = {file.name for file in (run.portraits / "images").iterdir()}
    assert set(run.records) == files
    found = Counter(record.status for record in run.records.values())
    assert found[Status.FAILED] == found[Status.PENDING] == 0, found
    assert sum(found.values()) == len(files) == 194
    with run.made.ledger() as ledger:
        assert {status: n for status, n in ledger.counts().items() if n} == dict(found)


def test_what_must_wait_waits(run: Run) -> None:
    stems = {Path(name).stem: record for name, record in run.records.items()}
    assert set(stems) >= MUST_WAIT
    for stem in MUST_WAIT:
        record = stems[stem]
        assert (record.status, record.files) == (Status.NEEDS_REVIEW, {}), stem
        assert record.detail
        assert not list(run.made.public.rglob(f"*{record.id}*")), stem


def test_nearly_all_others_are_published(run: Run) -> None:
    others = {name: r for name, r in run.records.items() if Path(name).stem not in MUST_WAIT}
    waiting = {
        name: record.detail for name, record in others.items() if record.status is not Status.ANONYMIZED
    }
    assert len(waiting) <= (1 - PUBLISHED_SHARE) * len(others), waiting


def test_no_mask_touches_a_transition_area(finished: Run) -> None:
    checked = 0
    for name, record in anonymized(finished).items():
        if record.matte is None:
            continue
        with Image.open(finished.portraits / "mattes" / record.matte) as image:
            matte = np.asarray(image)
        alpha = matte if matte.ndim == 2 else matte[..., 0]
        soft = (alpha > TOLERANCE) & (alpha < 255 - TOLERANCE)
        assert not (facemask(finished, record) & soft).any(), name
        with Image.open(public(finished, record, "mask")) as image:
            assert (np.asarray(image) == alpha).all(), name
        checked += 1
    assert checked >= PUBLISHED_SHARE * 130 - len(MUST_WAIT)


def test_a_lossless_picture_is_identical_outside_its_mask(finished: Run) -> None:
    checked = 0
    for name, record in anonymized(finished).items():
        file = public(finished, record, "blurred_image")
        if file.suffix == ".png":
            changed = (pixels(file) != pixels(finished.portraits / "images" / name)).any(axis=2)
            assert changed.any(), name
            assert not (changed & ~facemask(finished, record)).any(), name
            checked += 1
    assert checked >= 3


def test_a_jpeg_stays_as_it_was_away_from_its_mask(finished: Run) -> None:
    means = {}
    for name, record in anonymized(finished).items():
        file = public(finished, record, "blurred_image")
        if file.suffix != ".jpg":
            continue
        source = finished.portraits / "images" / name
        near = cv2.dilate(facemask(finished, record).astype(np.uint8), np.ones((2 * AWAY + 1, 2 * AWAY + 1)))
        change = cv2.absdiff(pixels(file), pixels(source))[near == 0]
        if change.size:
            means[name] = float(change.mean())
            assert np.percentile(change, 99.99) <= 8, name
    assert len(means) > 150
    assert max(means.values()) <= 0.5, max(means, key=means.__getitem__)
    assert float(np.median(list(means.values()))) <= 0.1


def test_the_manifest_lists_every_public_file(finished: Run) -> None:
    rows = [json.loads(line) for line in finished.made.manifest.read_text().splitlines()]
    assert {row["id"] for row in rows} == {record.id for record in anonymized(finished).values()}
    listed = {path: digest for row in rows for path, digest in row["sha256"].items()}
    train = finished.made.public / "train"
    found = {
        str(file.relative_to(finished.made.public)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in train.rglob("*")
        if file.is_file()
    }
    assert listed == found
    for row in rows:
        with Image.open(finished.made.public / row["image"]) as image:
            assert image.size == (row["width"], row["height"])
            assert "exif" not in image.info
            assert "icc_profile" not in image.info
        by_person = row["anonymized_by"] == "reviewer"
        assert all(check["passed"] or (check["waived"] and by_person) for check in row["checks"])
        assert row["faces"] or by_person


def test_the_review_leaves_nothing_undone(reviewed: Run) -> None:
    found = Counter(record.status for record in reviewed.records.values())
    assert found == {Status.ANONYMIZED: 194}
    waited = {Path(name).stem for name, record in reviewed.records.items() if record.reason is not None}
    assert waited == set(BY_HAND)
    status = p3mdata("status", reviewed.made.public)
    assert status.returncode == 0, status.stdout
