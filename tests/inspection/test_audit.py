"""The parts of an audit put together: which are made, what is said of the others, and what every part can take."""

from __future__ import annotations

import builtins
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from p3m_data.errors import MissingExtra, P3MError, UsageError
from p3m_data.inspection import leaks, networks, reidentify, residual
from p3m_data.inspection.attacker import WHOLE
from p3m_data.inspection.audit import ABOUT, CHECKS, LEFT_OUT, NO_LABELS, PARTS, Part, audit
from p3m_data.inspection.findings import Inspection
from p3m_data.pipeline.dataset import Dataset
from p3m_data.storage import weights
from tests.inspection.planting import COUNT, scene
from tests.inspection.test_validate import p3m
from tests.runs import save

QUICK = ["blazeface"]
"""A detector whose weights come with its package."""


def labelled(folder: Path, columns: str = "file,identity,gender", people: int = 2) -> Path:
    """Labels of all originals of `good_dataset`; the first four show somebody, the others strangers."""
    file = folder / "labels.csv"
    names = [f"photo_{n:02d}.{'png' if n % 2 else 'jpg'}" for n in range(COUNT)]
    values = {
        "identity": lambda n: f"person {n % people}" if n < 4 else "",
        "gender": lambda n: "fm"[n % 2],
        "age": str,
    }
    rows = [
        ",".join([name, *(values[column](n) for column in columns.split(",")[1:])])
        for n, name in enumerate(names)
    ]
    file.write_text("\n".join([columns, *rows]) + "\n")
    return file


def why_not(inspection: Inspection) -> dict[str, str]:
    return {looked.check: looked.why_not for looked in inspection.looked if looked.why_not}


def made_at(inspection: Inspection) -> set[str]:
    return {looked.check for looked in inspection.looked if looked.at}


def faults(inspection: Inspection) -> list[str]:
    return [f"{f.check} {f.where}: {f.said}" for f in inspection.findings if f.level == "fault"]


@pytest.mark.usefixtures("here")
def test_all_parts_of_a_good_dataset(dataset: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    audited = audit(
        dataset,
        labels=labelled(tmp_path),
        detectors=QUICK,
        on_progress=lambda *progress: told.append(progress),
    )
    inspection = audited.inspection
    assert (inspection.command, inspection.layout, inspection.pictures) == ("audit", "p3mdata", COUNT)
    assert faults(inspection) == []
    assert [looked.check for looked in inspection.looked] == list(ABOUT)
    assert made_at(inspection) == set(ABOUT)
    assert why_not(inspection).keys() <= {"reidentification", "surroundings"}
    assert inspection.figures.keys() <= ABOUT.keys()
    assert WHOLE in inspection.figures["surroundings"]  # type: ignore[operator]
    assert {finding.check for finding in inspection.findings} <= ABOUT.keys()
    for part in PARTS:
        counted = [(done, total) for name, done, total in told if name == part]
        assert counted == sorted(counted)
        assert counted[-1][0] == counted[-1][1] > 0
        assert len({total for _, total in counted}) == 1 or part == "recognition"
    assert {part for part, _, _ in told} == set(PARTS)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("parts", [*((part,) for part in PARTS), ("faces", "leaks")])
def test_parts_leave_the_others_not_made(parts: Sequence[Part], dataset: Path, tmp_path: Path) -> None:
    inspection = audit(dataset, labels=labelled(tmp_path), detectors=QUICK, parts=parts).inspection
    asked = {check for part in parts for check in CHECKS[part]}
    assert [looked.check for looked in inspection.looked] == list(ABOUT)
    assert made_at(inspection) == asked
    assert {check for check, why in why_not(inspection).items() if why == LEFT_OUT} == set(ABOUT) - asked
    assert inspection.figures.keys() <= asked


@pytest.mark.usefixtures("here")
def test_without_labels(dataset: Path) -> None:
    inspection = audit(dataset, detectors=QUICK, parts=("faces", "recognition")).inspection
    told = why_not(inspection)
    assert {told[check] for check in ("groups", "reidentification", "surroundings")} == {NO_LABELS}
    assert "residual_face" in made_at(inspection)


@pytest.mark.usefixtures("here")
def test_without_originals(dataset: Path, tmp_path: Path) -> None:
    labels = labelled(tmp_path)
    shutil.move(dataset.with_name("out.private"), tmp_path / "away")
    told = why_not(audit(dataset, labels=labels, parts=("recognition",)).inspection)
    assert told["reidentification"] == "no originals were named (--originals DIR)"


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_originals_that_moved_are_missed_and_found_when_named(
    made: Path, dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "photos", tmp_path / "moved")
    with Dataset.at(dataset).ledger() as ledger:
        ledger.set_meta("photos", str(tmp_path / "nowhere"))
    labels = labelled(tmp_path)
    inspection = audit(dataset, labels=labels, parts=("recognition",)).inspection
    assert "name them with --originals DIR" in why_not(inspection)["reidentification"]
    inspection = audit(
        dataset, labels=labels, parts=("recognition",), originals=tmp_path / "moved"
    ).inspection
    assert made_at(inspection) == set(CHECKS["recognition"])


@pytest.mark.usefixtures("here")
def test_labels_without_identities_or_without_groups(dataset: Path, tmp_path: Path) -> None:
    inspection = audit(
        dataset, labels=labelled(tmp_path, "file,age"), detectors=QUICK, parts=("faces", "recognition")
    ).inspection
    assert "has a label that says who it shows" in why_not(inspection)["reidentification"]
    assert "groups" in made_at(inspection)
    inspection = audit(
        dataset, labels=labelled(tmp_path, "file,identity"), detectors=QUICK, parts=("faces", "recognition")
    ).inspection
    assert why_not(inspection)["groups"].startswith("labels.csv has no column that names groups (such as ")
    assert made_at(inspection) >= {"reidentification"}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("people", [1, COUNT])
def test_nobody_twice_or_only_one_person(people: int, dataset: Path, tmp_path: Path) -> None:
    labels = labelled(tmp_path, "file,identity", people=people)
    told = why_not(audit(dataset, labels=labels, parts=("recognition",)).inspection)
    assert told["reidentification"].startswith("fewer than two people have two pictures")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,gender\nsomebody.jpg,f\n", "no row of labels.csv names one of the 10 pictures"),
        ("file,gender\n", "has no rows"),
        ("picture,gender\na,f\n", "no column id, file or name"),
        ("file,identity,gender\nphoto_00.jpg,x,f\nphoto_00.jpg,y,f\n", "are about the same picture"),
    ],
)
def test_wrong_labels_are_said_before_the_work(
    text: str, said: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (leaks, residual, reidentify):
        monkeypatch.setattr(module, "run_local", lambda *_, **__: pytest.fail("it began"))
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    with pytest.raises(UsageError, match=said):
        audit(dataset, labels=labels)
    with pytest.raises(P3MError, match="missing"):
        audit(dataset, labels=tmp_path / "missing.csv")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"group_columns": ["hat"]}, "labels.csv has no column 'hat'"),
        ({"detectors": ["eyes"]}, "unknown detector eyes"),
        ({"originals": "missing"}, "is no folder"),
        ({"private": "missing"}, "no ledger"),
    ],
)
def test_a_wrong_argument_is_said_before_the_work(
    changes: dict[str, object], said: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (leaks, residual, reidentify):
        monkeypatch.setattr(module, "run_local", lambda *_, **__: pytest.fail("it began"))
    changes = {key: tmp_path / "missing" if value == "missing" else value for key, value in changes.items()}
    with pytest.raises(UsageError, match=said):
        audit(dataset, labels=labelled(tmp_path), **changes)  # type: ignore[arg-type]


def test_without_dlib(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks.importlib.util, "find_spec", lambda name: None if name == "dlib" else name)
    installed = weights.resolve

    def resolve(name: str) -> Path:
        if name.startswith("dlib"):
            raise MissingExtra("face-recognition-models", "audit")
        return installed(name)

    monkeypatch.setattr(weights, "resolve", resolve)
    inspection = audit(
        dataset,
        labels=labelled(tmp_path),
        detectors=[*QUICK, "dlib_hog", "dlib_cnn"],
        parts=("faces", "recognition"),
    ).inspection
    told = why_not(inspection)
    assert "p3mdata[audit]" in told["reidentification"]
    assert "dlib_hog did not look: " in told["residual_face"]
    assert "dlib_cnn did not look: " in told["residual_face"]
    assert "p3mdata[audit]" in told["residual_face"]
    assert "residual_face" in made_at(inspection)


@pytest.mark.usefixtures("here")
def test_a_dlib_that_cannot_be_imported(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def fail(name: str, *rest: object) -> object:
        if name == "dlib":
            raise ImportError("libX11.so.6: cannot open shared object file")
        return imported(name, *rest)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "dlib", raising=False)
    monkeypatch.setattr(builtins, "__import__", fail)
    inspection = audit(dataset, labels=labelled(tmp_path), parts=("recognition",)).inspection
    assert "p3mdata[audit]" in why_not(inspection)["reidentification"]


def pairs(root: Path) -> Path:
    """Plain pictures and mattes."""
    for seed in range(3):
        pixels, alpha, _ = scene(seed)
        save(root / "images" / f"a{seed}.jpg", pixels)
        save(root / "alphas" / f"a{seed}.png", np.rint(alpha * 255).astype(np.uint8))
    return root


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", ["P3M-10k 2021", "P3M-10k 2024", "pairs"])
def test_foreign_datasets_go_through_all_parts(kind: str, tmp_path: Path) -> None:
    root = (
        pairs(tmp_path / "plain")
        if kind == "pairs"
        else p3m(tmp_path / "P3M-10k", foregrounds=kind.endswith("2024"))
    )
    pictures = sorted(f for f in root.rglob("*.jpg") if f.parent.name not in ("bg", "facemask"))
    originals = tmp_path / "originals"
    for picture in pictures:
        originals.mkdir(exist_ok=True)
        shutil.copy(picture, originals)
    labels = tmp_path / "labels.csv"
    names = [f"{picture.name},x{n % 2},{'fm'[n % 2]}" for n, picture in enumerate(pictures)]
    labels.write_text("\n".join(["file,identity,gender", *names]) + "\n")
    inspection = audit(root, originals=originals, labels=labels, detectors=QUICK).inspection
    assert inspection.layout == kind
    assert inspection.pictures == len(pictures)
    at = {looked.check: looked.at for looked in inspection.looked}
    assert at["foreign_bytes"] >= 2 * len(pictures)
    unblurred = sum("NP" in str(picture) for picture in pictures)
    assert at["pictures_looked_at"] == len(pictures) - unblurred
    assert at["groups"] == len(pictures)
    told = why_not(inspection)
    assert told["reidentification"]
    if kind != "pairs":
        assert f"{unblurred} pictures are of the split" in told["residual_face"]
    assert str(tmp_path) not in inspection.to_json()


def test_a_dataset_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "alphas").mkdir()
    inspection = audit(tmp_path, detectors=QUICK).inspection
    assert inspection.pictures == 0
    assert {finding.check for finding in inspection.findings} <= {"public_names"}  # empty folders
    assert not made_at(inspection) & CHECKS["faces"].keys()


def test_what_is_no_dataset_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="looked for"):
        audit(tmp_path)
    with pytest.raises(UsageError, match="is no folder"):
        audit(tmp_path / "missing")


@pytest.mark.usefixtures("here")
def test_a_run_that_still_goes_on_is_no_hindrance(dataset: Path, tmp_path: Path) -> None:
    with Dataset.at(dataset).ledger() as writer:
        writer.set_meta("busy", "yes")  # takes the lock that a run holds to its end
        inspection = audit(
            dataset, labels=labelled(tmp_path), detectors=QUICK, parts=("leaks", "faces")
        ).inspection
        assert made_at(inspection) == CHECKS["leaks"].keys() | CHECKS["faces"].keys()
        writer.set_meta("busy", "no")


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same(dataset: Path, tmp_path: Path) -> None:
    """But for the seconds that detectors took."""

    def told(workers: int) -> dict[str, object]:
        audited = audit(dataset, labels=labelled(tmp_path), detectors=QUICK, workers=workers)
        figures = audited.inspection.figures["residual_face"]
        figures["detectors"]["blazeface"].pop("seconds_a_picture")  # type: ignore[index,call-overload,union-attr]
        return audited.inspection.model_dump()

    # something to find, so that the order of findings matters
    for file in sorted((dataset / "train/blurred_image").iterdir())[::2]:
        with file.open("ab") as picture:
            picture.write(b"more")
    first = told(1)
    assert len(first["findings"]) >= COUNT // 2  # type: ignore[arg-type]
    assert told(2) == first


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_findings_name_nothing_private_and_come_in_order(dataset: Path, tmp_path: Path) -> None:
    for file in (dataset / "train/blurred_image").iterdir():
        with file.open("ab") as picture:
            picture.write(b"photo_00")
    (dataset / ".photo_01.jpg").write_bytes(b"")
    shutil.copy(tmp_path / "out.private" / "ledger.sqlite", dataset / "notes.txt")
    inspection = audit(dataset, labels=labelled(tmp_path), detectors=QUICK).inspection
    assert inspection.faults >= COUNT + 2
    places = [(list(ABOUT).index(f.check), f.level != "fault") for f in inspection.findings]
    assert places == sorted(places)
    said = inspection.to_json().replace(".photo_01.jpg", "")  # it is a public name now
    assert "photo_0" not in said
    assert str(tmp_path) not in said
    assert "person 1" not in said
