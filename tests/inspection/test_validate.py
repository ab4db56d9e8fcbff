from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from p3m_data.errors import UsageError
from p3m_data.inspection import validate as module
from p3m_data.inspection.findings import Inspection
from p3m_data.inspection.samples import Inspector
from p3m_data.inspection.validate import ABOUT, validate
from p3m_data.pipeline.engines import WorkerLost
from tests.inspection.planting import FAULTS, planted, rows, scene, sums, trimap
from tests.runs import save


def said(inspection: Inspection) -> list[str]:
    return [f"{f.check} {f.where}: {f.said}" for f in inspection.findings if f.level == "fault"]


def test_a_good_dataset_has_no_fault_and_every_check_was_made(dataset: Path) -> None:
    sums(dataset, lambda lines: lines)
    progress: list[tuple[int, int]] = []
    inspection = validate(dataset, on_progress=lambda done, total: progress.append((done, total)))
    assert said(inspection) == []
    assert [finding for finding in inspection.findings if finding.check != "near_duplicates"] == []
    assert {looked.check: looked.at for looked in inspection.looked if not looked.at} == {}
    assert progress == [(done, 10) for done in range(11)]
    assert inspection.pictures == 10
    assert inspection.layout == "p3mdata"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, dataset: Path) -> None:
    fault = FAULTS[name]
    where = planted(fault, dataset)
    inspection = validate(dataset)
    found = [finding for finding in inspection.findings if finding.check == fault.check]
    assert any(where in finding.where for finding in found), inspection.findings
    is_note = fault.check in ("matte_edges", "matte_hard") or name == "the same picture twice"
    assert any(finding.level == ("note" if is_note else "fault") for finding in found)


def test_every_check_that_can_find_a_fault_has_one_planted() -> None:
    elsewhere = {"dataset_empty", "inspected", "matte_subject"}
    assert {fault.check for fault in FAULTS.values()} | elsewhere == set(ABOUT)


@pytest.mark.usefixtures("here")
def test_findings_name_nothing_private(dataset: Path) -> None:
    for fault in FAULTS.values():
        if fault.rehashed and fault.check.startswith(("changed", "facemask", "matte", "id")):
            planted(fault, dataset)
    text = validate(dataset).model_dump_json()
    assert "photo_" not in text
    assert str(dataset.parent) not in text


@pytest.mark.usefixtures("here")
def test_what_a_reviewer_let_is_a_note(dataset: Path) -> None:
    where = planted(FAULTS["facemask in the hair"], dataset)
    text = (dataset / "manifest.jsonl").read_text()
    check = '{"limit":0.0,"name":"transition_untouched","passed":false,"value":1.0,"waived":true}'
    changed = [
        line.replace('"checks": []', f'"checks": [{check}]') if where in line else line
        for line in text.splitlines()
    ]
    (dataset / "manifest.jsonl").write_text("\n".join(changed) + "\n")
    found = [f for f in validate(dataset).findings if f.check == "facemask_transition"]
    assert [finding.level for finding in found] == ["note"]


@pytest.mark.usefixtures("here")
def test_without_the_private_side_the_public_checks_are_made(dataset: Path) -> None:
    shutil.rmtree(dataset.with_name("out.private"))
    inspection = validate(dataset)
    assert said(inspection) == []
    why_not = {looked.check: looked.why_not for looked in inspection.looked if looked.why_not}
    assert why_not.keys() == {"changed_outside", "changed_inside", "id_keyed", "sums_file"}


@pytest.mark.usefixtures("here")
def test_a_picture_that_trips_the_program_is_a_finding(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = rows(dataset)[3]["id"]
    inspect = Inspector._inspect

    def trip(self: Inspector, look: module.Inspected) -> module.Inspected:
        if look.task.sample.name == victim:  # type: ignore[attr-defined]
            raise RuntimeError("/private/place")
        return inspect(self, look)  # type: ignore[arg-type]

    monkeypatch.setattr(Inspector, "_inspect", trip)
    inspection = validate(dataset)
    faults = [finding for finding in inspection.findings if finding.level == "fault"]
    assert [(fault.check, victim in fault.where) for fault in faults] == [("inspected", True)]
    assert "/private" not in faults[0].said


def test_a_lost_worker_is_a_finding(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "run_local", lambda items, *_, **_limits: ((item, WorkerLost("It died.")) for item in items)
    )
    assert {finding.check for finding in validate(dataset).findings} == {"inspected"}


def p3m(root: Path, foregrounds: bool) -> Path:
    """A release of P3M-10k with two pictures a split."""
    for number, split in enumerate(["train", "validation/P3M-500-P", "validation/P3M-500-NP"]):
        for seed in (20 + 2 * number, 21 + 2 * number):
            pixels, alpha, face = scene(seed)
            name = f"p_{seed:08x}"
            matte = np.rint(alpha * 255).astype(np.uint8)
            original = split.endswith("NP")
            save(root / split / ("original_image" if original else "blurred_image") / f"{name}.jpg", pixels)
            save(root / split / "mask" / f"{name}.png", matte)
            if split != "train":
                save(root / split / "trimap" / f"{name}.png", trimap(alpha))
            if not original:
                save(root / split / "facemask" / f"{name}.png", face.astype(np.uint8) * np.uint8(255))
            if foregrounds and split == "train":
                save(root / split / "fg_blurred" / f"{name}.png", pixels)
                save(root / split / "bg" / f"{name}.jpg", pixels)
    return root


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("foregrounds", [False, True])
def test_both_releases_are_right(foregrounds: bool, tmp_path: Path) -> None:
    inspection = validate(p3m(tmp_path / "P3M-10k", foregrounds))
    assert said(inspection) == []
    assert inspection.layout == f"P3M-10k {'2024' if foregrounds else '2021'}"
    (tmp_path / "P3M-10k/validation/P3M-500-NP/trimap/p_00000018.png").unlink()
    (tmp_path / "P3M-10k/train/blurred_image/p_00000014.jpg").unlink()
    found = said(validate(tmp_path / "P3M-10k"))
    assert [line.split(":")[0] for line in found] == [
        *["mates train/bg/p_00000014.jpg"] * foregrounds,
        "mates train/facemask/p_00000014.png",
        *["mates train/fg_blurred/p_00000014.png"] * foregrounds,
        "mates train/mask/p_00000014.png",
        "mates validation/P3M-500-NP/original_image/p_00000018.jpg",
    ]


@pytest.mark.usefixtures("here")
def test_originals_of_another_dataset_are_found_by_their_names(tmp_path: Path) -> None:
    root = p3m(tmp_path / "P3M-10k", foregrounds=False)
    name = "p_00000014"
    pixels, _, face = scene(20)
    save(tmp_path / "originals" / "deep" / f"{name}.png", pixels)
    published = root / "train" / "blurred_image" / f"{name}.jpg"
    inspection = validate(root, originals=tmp_path / "originals")
    assert [(f.check, f.where) for f in inspection.findings if f.level == "fault"] == [
        ("changed_inside", f"train/blurred_image/{name}.jpg")
    ]
    pixels[face] = 128
    save(published, pixels, quality=98)
    assert said(validate(root, originals=tmp_path / "originals")) == []


def test_no_pictures_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "alphas").mkdir()
    assert [line.split()[0] for line in said(validate(tmp_path))] == ["dataset_empty"]


def test_what_is_no_dataset_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="looked for"):
        validate(tmp_path)


@pytest.mark.usefixtures("here")
def test_a_speck_is_no_subject(tmp_path: Path) -> None:
    pixels, alpha, _ = scene(1)
    save(tmp_path / "images" / "a.png", pixels)
    matte = np.zeros(alpha.shape, np.uint8)
    matte[100:105, 100:105] = 255
    save(tmp_path / "masks" / "a.png", matte)
    assert [line.split()[0] for line in said(validate(tmp_path))] == ["matte_subject"]


@pytest.mark.portraits
@pytest.mark.usefixtures("here")
def test_real_portraits_have_no_fault(portraits: Path, tmp_path: Path) -> None:
    for name in ("images", "mattes", "trimaps"):
        (tmp_path / name).mkdir()
        for file in sorted((portraits / name).iterdir()):
            if file.stem.startswith(("p_", "ramiz", "alphamatting", "csusaid")):
                shutil.copy(file, tmp_path / name)
    inspection = validate(tmp_path)
    assert said(inspection) == []
    assert {f.check for f in inspection.findings} <= {"near_duplicates", "matte_hard", "mates"}
