"""What leaves beside the pixels: a good dataset is silent, and every planted leak is found and located."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.inspection import leaks as module
from p3m_data.inspection.findings import Finding, Notes
from p3m_data.inspection.leaks import ABOUT, leaks
from p3m_data.inspection.manifest_values import check_manifest
from p3m_data.inspection.private_side import Private
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.engines import WorkerLost
from p3m_data.pipeline.ledger import Ledger
from p3m_data.report.contact import write_public_report
from p3m_data.storage.folders import scan
from p3m_data.storage.images import encode_png
from p3m_data.storage.jpeg import encode_fine
from p3m_data.storage.layouts import Layout, recognise
from p3m_data.storage.manifest import manifest_row, write_manifest
from p3m_data.storage.weights import registry
from p3m_data.types import Check, Face, Provenance, Record, Status
from tests.inspection.planting_leaks import FAULTS, _each_row, source_of

SOURCES = (
    "IMG_2041.jpg",
    "anna at the sea.png",
    "DSC0007.jpg",
    "Berta.jpg",
    "zoë/20240131_1.jpg",
    "0001.jpg",
)
ONE_TIME = 1_700_000_000 * 10**9


def _record(dataset: Dataset, source: str, name: str, suffix: str, seed: int) -> Record:
    """Publish a small picture, its facemask and, for every other, its matte."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (40, 56, 3), np.uint8)
    mask = np.zeros((40, 56), np.uint8)
    mask[10:20, 10:30] = 255
    files = {
        f"train/blurred_image/{name}{suffix}": encode_fine(image) if suffix == ".jpg" else encode_png(image),
        f"train/facemask/{name}.png": encode_png(mask),
    }
    if seed % 2:
        files[f"train/mask/{name}.png"] = encode_png(mask)
    for path, data in files.items():
        (dataset.public / path).write_bytes(data)
    return Record(
        source=source,
        id=name,
        status=Status.ANONYMIZED,
        width=56,
        height=40,
        transition="matte" if seed % 2 else "estimated",
        faces=(
            Face(box=(10, 10, 30, 20), score=0.9, detectors=("centerface",), how="landmarks", sigma=3.25),
        ),
        checks=(Check(name="faces_left", passed=True, value=0, limit=0),),
        files={path: hashlib.sha256(data).hexdigest() for path, data in files.items()},
        provenance=Provenance(
            code_version="0.1.0",
            config_digest="a1dfb627d1906b20",
            models={"centerface": registry()["centerface"].sha256},
        ),
    )


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos` and the dataset `out` with its ledger; read only."""
    folder = tmp_path_factory.mktemp("leaks")
    photos = folder / "photos"
    (photos / "zoë").mkdir(parents=True)
    for number, name in enumerate(SOURCES):
        (photos / name).write_bytes(f"a photo, number {number}".encode())
        os.utime(photos / name, ns=(10**18 + 10**12 * number + 1, 10**18 + 10**12 * number + 1))
    made = Dataset.at(folder / "out")
    made.create()
    with Ledger(made.ledger_path, create=True) as ledger:
        ledger.set_meta("photos", str(photos))
        ledger.add(scan(photos))
        rng = np.random.default_rng(0)
        for number, source in enumerate(list(ledger.pending())):
            name = f"p_{rng.integers(2**63):016x}"
            suffix = ".png" if source.path.endswith(".png") else ".jpg"
            ledger.commit(_record(made, source.path, name, suffix, number))
        write_manifest((manifest_row(record) for record in ledger.records()), made.manifest)
    write_public_report(made)
    for file in made.public.rglob("*"):
        os.utime(file, ns=(ONE_TIME, ONE_TIME))
    return folder


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    """The dataset, with its private side, to be changed."""
    for name in ("out", "out.private"):
        shutil.copytree(good / name, tmp_path / name)
    return tmp_path / "out"


def _here(
    items: Iterable[Any], setup: Callable[[], Callable[[Any], Any]], _workers: int, **_limits: Any
) -> Iterator[tuple[Any, Any]]:
    work = setup()
    return ((item, work(item)) for item in items)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting a process for each of many cases takes long and shows nothing."""
    monkeypatch.setattr(module, "run_local", _here)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _found(folder: Path, *, private: bool = True) -> tuple[Finding, ...]:
    beside = folder.with_name("out.private") if private else None
    return leaks(recognise(folder), private=beside)[0]


@pytest.mark.parametrize("private", [True, False])
def test_nothing_leaves_a_good_dataset(good: Path, private: bool) -> None:
    progress: list[tuple[int, int]] = []
    beside = good / "out.private" if private else None
    findings, looked, figures = leaks(
        recognise(good / "out"), workers=2, private=beside, on_progress=lambda *now: progress.append(now)
    )
    assert findings == ()
    files = [file for file in (good / "out" / "train").rglob("*") if file.is_file()]
    at = {entry.check: entry.at for entry in looked}
    assert at.keys() == ABOUT.keys()
    assert at["foreign_bytes"] == at["file_times"] == len(files) == 15
    assert at["manifest_values"] == len(SOURCES)
    assert at["telling_text"] == 2
    assert progress == [(n, 15) for n in range(1, 16)]
    assert all(bool(entry.why_not) != private for entry in looked if entry.check == "manifest_values")
    assert figures["foreign_bytes"] == {
        "files": 15,
        "bytes": sum(file.stat().st_size for file in files),
        "files_with_foreign_parts": 0,
        "kinds": {},
    }


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", FAULTS)
def test_every_planted_leak_is_found_where_it_is(copy: Path, name: str) -> None:
    fault = FAULTS[name]
    try:
        where = fault.plant(copy)
    except OSError as error:
        pytest.skip(f"this file system does not take it: {error}")
    faults = {(finding.check, finding.where) for finding in _found(copy) if finding.level == "fault"}
    assert (fault.check, where) in faults
    # a file under another name is missing from its row, too
    assert all(at == where or at.startswith("manifest.jsonl:") for _, at in faults)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", FAULTS)
def test_findings_repeat_nothing_private(copy: Path, name: str) -> None:
    try:
        FAULTS[name].plant(copy)
    except OSError as error:
        pytest.skip(f"this file system does not take it: {error}")
    said = " ".join(finding.said for finding in _found(copy))
    stems = {Path(source).stem for source in SOURCES}
    assert not [stem for stem in stems if stem in said]
    assert str(copy.parent) not in said


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    "name", sorted(n for n, f in FAULTS.items() if f.check in ("foreign_bytes", "file_kinds", "public_names"))
)
def test_what_the_files_themselves_tell_needs_no_ledger(copy: Path, name: str) -> None:
    where = FAULTS[name].plant(copy)
    assert (FAULTS[name].check, where) in {(f.check, f.where) for f in _found(copy, private=False)}


@pytest.mark.usefixtures("in_process")
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_with_the_ledger_no_byte_of_the_manifest_can_change(good: Path, data: st.DataObject) -> None:
    layout = recognise(good / "out")
    assert layout.manifest is not None
    before = layout.manifest.read_bytes()
    at = data.draw(st.integers(0, len(before) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != before[at]))
    cut = data.draw(st.booleans())
    changed = before[:at] + (b"" if cut else bytes([byte])) + before[at + 1 :]
    digests = {path: _sha256(good / "out" / path) for s in layout.samples for path in s.files.values()}
    known = Private.of(good / "out", good / "out.private")
    notes = Notes()
    elsewhere = good / "changed" / "manifest.jsonl"
    elsewhere.parent.mkdir(exist_ok=True)
    elsewhere.write_bytes(changed)
    there = Layout("p3mdata", elsewhere.parent, layout.samples, (), elsewhere)
    check_manifest(there, digests, known, notes)
    assert notes.findings
    assert {finding.check for finding in notes.findings} == {"manifest_values"}


@pytest.mark.usefixtures("in_process")
def test_a_manifest_that_is_no_text_is_a_finding(copy: Path) -> None:
    (copy / "manifest.jsonl").write_bytes(b"\xff\xfe\0\n\n[]\nnull\n")
    found = [f for f in _found(copy) if f.check == "manifest_values"]
    assert [f.where for f in found] == [f"manifest.jsonl:{n}" for n in (1, 2, 3, 4)]


@pytest.mark.usefixtures("in_process")
def test_times_of_the_pictures_alone_tell_their_order(copy: Path) -> None:
    with Dataset.at(copy, copy.with_name("out.private")).ledger() as ledger:
        ids = [record.id for record in ledger.records() if record.id and record.files]
    for number, name in enumerate(ids):
        (file,) = (copy / "train" / "blurred_image").glob(f"{name}.*")
        os.utime(file, (1_700_000_000 + number, 1_700_000_000 + number))
    (found,) = _found(copy)
    assert (found.check, found.level) == ("file_times", "fault")


def test_times_that_follow_no_order_are_noted(copy: Path) -> None:
    files = sorted((copy / "train" / "blurred_image").iterdir())
    order = {source_of(copy, file.stem)[1].path: file for file in files}
    for time, path in zip((3, 1, 5, 0, 4, 2), sorted(order), strict=True):
        os.utime(order[path], ns=(ONE_TIME + time, ONE_TIME + time))
    assert [(f.check, f.level) for f in _found(copy)] == [("file_times", "note")]


@pytest.mark.usefixtures("in_process")
def test_modes_that_differ_are_noted(copy: Path) -> None:
    next((copy / "train" / "mask").iterdir()).chmod(0o600)
    assert [(f.check, f.level, f.value) for f in _found(copy)] == [("file_owners", "note", 1)]


@pytest.mark.usefixtures("in_process")
def test_a_word_that_is_also_a_name_is_noted(copy: Path) -> None:
    (copy / "README.md").write_text("Berta is a name.\n")
    assert [(f.check, f.where, f.level) for f in _found(copy)] == [("telling_text", "README.md", "note")]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    "text",
    [
        "See https://example.org/a/b/c.html and train/blurred_image/.",
        "Sizes 12/5 and/or 3/4; version 1.2.3; the share is 0.1234; 3, 4 and 5.",
        '{"@vocab": "https://schema.org/", "contentUrl": "train/blurred_image/p_0011223344.jpg"}',
        "Made on 2024-01-31 by p3mdata. a: b, C: d.",
    ],
)
def test_ordinary_sentences_tell_nothing(copy: Path, text: str) -> None:
    (copy / "README.md").write_text(text)
    assert _found(copy) == ()


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    "text", ["made by annabel_k.", "/home/annabel_k/x", "IMG_2041", "img_2041.JPG", "DSC0007"]
)
def test_names_of_sources_and_of_the_user_are_found(
    copy: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("HOME", "/home/annabel_k")
    (copy / "README.md").write_text(text)
    assert {(f.check, f.where, f.level) for f in _found(copy)} == {("telling_text", "README.md", "fault")}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    "spelled", ["anna at the sea", "zoe\u0308", "anna%20at%20the%20sea", "anna&#32;at the sea"]
)
def test_a_name_is_found_however_it_is_spelled(copy: Path, spelled: str) -> None:
    (copy / "README.md").write_text(f"Made from {spelled}/20240131_1.\n")
    assert [(f.check, f.where, f.level) for f in _found(copy)] == [("telling_text", "README.md", "fault")]


@pytest.mark.usefixtures("in_process")
def test_the_private_folder_is_found_by_name(copy: Path) -> None:
    (copy / "README.md").write_text(f"The rest lies in {copy}.private.\n")
    said = [f.said for f in _found(copy) if f.check == "telling_text"]
    assert "It names a private folder at line 1." in said


@pytest.mark.usefixtures("in_process")
def test_right_sums_are_right(copy: Path) -> None:
    files = sorted(p for p in copy.rglob("*") if p.is_file())
    lines = [f"{_sha256(file)}  {file.relative_to(copy).as_posix()}\n" for file in files]
    (copy / "SHA256SUMS").write_text("".join(lines))
    assert _found(copy) == ()


@pytest.mark.usefixtures("in_process")
def test_a_foreign_dataset_is_judged_by_its_bytes(copy: Path) -> None:
    (copy / "manifest.jsonl").unlink()
    for folder in ("blurred_image", "facemask", "mask"):
        for file in (copy / "train" / folder).iterdir():
            file.rename(file.with_stem(f"any name {file.stem[-4:]}"))
    photo = next((copy / "train" / "blurred_image").glob("*.jpg"))
    photo.write_bytes(photo.read_bytes() + b"more")
    os.utime(photo, ns=(ONE_TIME, ONE_TIME))
    found = _found(copy, private=False)
    assert [(f.check, f.where) for f in found] == [("foreign_bytes", f"train/blurred_image/{photo.name}")]
    assert found[0].said == "It holds 4 bytes after its end."


def test_a_worker_that_dies_over_a_file_is_a_finding(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(
        items: Iterable[str], _setup: object, _workers: int, **_limits: Any
    ) -> Iterator[tuple[str, WorkerLost]]:
        return ((item, WorkerLost("It ran out of memory.")) for item in items)

    monkeypatch.setattr(module, "run_local", lost)
    found = [f for f in _found(good / "out") if f.check == "foreign_bytes"]
    assert [f.said for f in found] == ["It ran out of memory."] * 15


@pytest.mark.usefixtures("in_process")
def test_what_is_no_file_never_blocks(copy: Path) -> None:
    os.mkfifo(copy / "train" / "pipe.jpg")
    (copy / "train" / "loop").symlink_to("..")
    os.mkdir(os.fsencode(copy / "train") + b"/\xff\xfe")
    kinds = {(f.check, f.where) for f in _found(copy)}
    assert {("file_kinds", "train/pipe.jpg"), ("file_kinds", "train/loop")} <= kinds
    assert ("public_names", r"train/\xff\xfe") in kinds


def test_the_row_is_retold_as_p3mdata_spells_it(copy: Path) -> None:
    before = (copy / "manifest.jsonl").read_bytes()
    _each_row(copy, lambda _row: None)
    assert (copy / "manifest.jsonl").read_bytes() == before
