from __future__ import annotations

import json
import os
import re
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from p3m_data.cli import audit as cli
from p3m_data.cli import inspecting
from p3m_data.cli.inspecting import EVERY, Counter
from p3m_data.cli.main import main
from p3m_data.errors import StorageError
from p3m_data.inspection import audit as auditing
from p3m_data.inspection.audit import ABOUT, CHECKS, LEFT_OUT, Audited
from p3m_data.inspection.findings import Crop, Finding, Inspection, Looked
from p3m_data.pipeline.dataset import PUBLISHED_AT, Dataset
from tests.inspection.planting import good_dataset
from tests.inspection.test_audit import labelled, pairs
from tests.inspection.test_validate import p3m
from tests.report.test_contact import Page
from tests.report.test_inspection import read_back
from tests.runs import p3mdata as in_a_process
from tests.runs import save, tree

QUICK = ("--detector", "blazeface", "--workers", "1")


def p3mdata(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, arguments), *QUICK])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    good_dataset(folder)
    return folder


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Dataset:
    """A copy of a good dataset; the originals stay where they are."""
    for name in ("out", "out.private"):
        shutil.copytree(made / name, tmp_path / name)
    return Dataset.at(tmp_path / "out")


def test_the_parts_are_those_of_the_audit() -> None:
    assert cli.PARTS == auditing.PARTS


@pytest.mark.slow
def test_a_good_dataset_exits_0_and_names_the_report(dataset: Dataset, tmp_path: Path) -> None:
    before = tree(dataset.public)
    result = p3mdata(dataset.public, "--labels", labelled(tmp_path))
    assert result.exit_code == 0, result.output
    told = result.stdout.splitlines()
    assert told[0] == "10 pictures (p3mdata)"
    assert f"{len(ABOUT)} of {len(ABOUT)} checks made, 0 things wrong" in told
    assert told[-1] == f"Look at: {dataset.private / 'audit.html'}"
    assert read_back((dataset.private / "audit.json").read_text()).faults == 0
    assert tree(dataset.public) == before


def test_json_is_all_that_is_printed(dataset: Dataset) -> None:
    """In a process of its own: libraries write past Python, and so do its workers."""
    done = in_a_process("audit", dataset.public, "--json", *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    inspection = read_back(done.stdout)
    assert inspection.command == "audit"
    assert done.stdout == (dataset.private / "audit.json").read_text()


def test_libraries_do_not_write_to_the_terminal_unless_asked(dataset: Dataset) -> None:
    words = ("audit", dataset.public, "--only", "faces", *QUICK)
    assert in_a_process(*words).stderr == ""
    assert in_a_process(*words, P3MDATA_DEBUG="1").returncode == 0


def test_a_fault_exits_1_and_is_told(dataset: Dataset) -> None:
    image = min(dataset.train.joinpath("blurred_image").iterdir())
    with image.open("ab") as picture:
        picture.write(b"more")
    os.utime(image, ns=(PUBLISHED_AT, PUBLISHED_AT))
    result = p3mdata(dataset.public, "--only", "leaks")
    assert result.exit_code == 1
    told = result.stdout.splitlines()
    where = image.relative_to(dataset.public).as_posix()
    assert told[told.index("foreign_bytes: 1 wrong") + 1].startswith(f"  {where}: ")
    counted = [int(n) for line in told for n in re.findall(r"^\w+: (\d+) wrong", line)]
    assert f"8 of {len(ABOUT)} checks made, {sum(counted)} things wrong" in told
    assert sum(LEFT_OUT in line for line in told) == 1
    left_out = CHECKS["faces"].keys() | CHECKS["recognition"].keys()
    assert f"  not made: {', '.join(c for c in ABOUT if c in left_out)} ({LEFT_OUT})" in told


def test_a_note_exits_0_and_its_crop_is_written(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    note = Finding(check="residual_face", where="p_1", said="look", level="note", crop="p_1.jpg")
    inspection = Inspection(
        command="audit",
        layout="p3mdata",
        pictures=1,
        code_version="0",
        looked=tuple(Looked(check=check, at=1) for check in ABOUT),
        findings=(note,),
    )
    audited = Audited(inspection, [Crop("p_1.jpg", b"crop")])
    monkeypatch.setattr(auditing, "audit", lambda *_, **__: audited)
    result = p3mdata(dataset.public)
    assert result.exit_code == 0
    assert "residual_face: 1 to note" in result.stdout.splitlines()
    assert (dataset.private / "audit" / "p_1.jpg").read_bytes() == b"crop"
    assert '<img src="audit/p_1.jpg"' in (dataset.private / "audit.html").read_text()


def test_only_can_be_repeated(dataset: Dataset) -> None:
    result = p3mdata(dataset.public, "--only", "leaks", "--only", "recognition", "--json")
    why = {looked.check: looked.why_not for looked in read_back(result.stdout).looked}
    assert {check for check, said in why.items() if said == LEFT_OUT} == CHECKS["faces"].keys()
    assert "no labels were given" in why["reidentification"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing"], "is no folder"),
        (["empty"], "looked for"),
        (["P3M-10k", "--originals", "missing"], "is no folder"),
        (["P3M-10k", "--originals", "empty"], "is named like one of"),
        (["P3M-10k", "--work", "empty"], "no ledger"),
        (["P3M-10k", "--work", "P3M-10k/train"], "must not lie inside each other"),
        (["P3M-10k", "--report", "P3M-10k"], "the report is private; name another folder"),
        (["P3M-10k", "--report", "P3M-10k/train"], "the report is private; name another folder"),
        (["P3M-10k", "--report", "link"], "the report is private; name another folder"),
        (["P3M-10k", "--detector", "=eyes"], "unknown detector eyes"),
        (["P3M-10k", "--labels", "labels.csv"], "no row of labels.csv names one of the 6 pictures"),
        (["P3M-10k", "--labels", "labels.csv", "--group", "=hat"], "has no column 'hat'"),
        (["P3M-10k", "--labels", "missing"], "missing"),
        (["P3M-10k", "--labels", "empty"], "empty"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments: list[str], said: str, tmp_path: Path) -> None:
    p3m(tmp_path / "P3M-10k", foregrounds=False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "P3M-10k", target_is_directory=True)
    (tmp_path / "labels.csv").write_text("file,gender\nnobody.jpg,f\n")
    before = set(tmp_path.iterdir())
    words = [
        word if word.startswith("--") else word[1:] if word[0] == "=" else str(tmp_path / word)
        for word in arguments
    ]
    result = p3mdata(*words)
    assert result.exit_code in (2, StorageError.exit_code)
    assert result.exit_code == 2 or arguments[-1] in ("missing", "empty")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("p3mdata: ")
    assert result.stdout == ""
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("words", [["--only", "everything"], ["--workers", "0"], ["one", "two"], ["--what"]])
def test_wrong_usage(words: list[str]) -> None:
    result = CliRunner().invoke(main, ["audit", *words])
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_the_current_folder_is_the_default(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dataset.public)
    result = p3mdata("--only", "leaks")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"Look at: {dataset.private / 'audit.html'}"


@pytest.mark.parametrize("kind", ["2021", "2024", "pairs"])
def test_a_foreign_dataset_gets_a_private_folder_of_its_own(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "theirs"
    if kind == "pairs":
        pairs(root)
    else:
        p3m(root, foregrounds=kind == "2024")
    result = p3mdata(root, "--only", "leaks", "--json")
    assert result.exit_code in (0, 1), result.output
    assert kind in read_back(result.stdout).layout
    private = tmp_path / "theirs.private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    # what it wrote there does not make it one of ours
    assert p3mdata(root, "--only", "leaks", "--json").stdout == result.stdout


def test_names_of_any_bytes_are_told_and_shown(tmp_path: Path) -> None:
    names = [os.fsdecode(b"a\xff"), "b\n\x1b[2J<script>", "c\"'&", "w" * 240, "\u202egpj", "--help", "%41#?"]
    root = tmp_path / "theirs"
    for seed, name in enumerate(names):
        for folder in ("images", "alphas"):
            file = save(root / folder / "x.png", np.full((40, 40 + seed), 90, np.uint8))
            file.write_bytes(file.read_bytes() + b"more")
            file.rename(file.with_name(f"{name}.png"))
    result = p3mdata(root, "--only", "leaks")
    assert result.exit_code == 1
    told = result.stdout.splitlines()
    assert all(line.isprintable() for line in told)
    assert f"foreign_bytes: {2 * len(names)} wrong" in told
    page = (tmp_path / "theirs.private" / "audit.html").read_text("utf-8")
    assert all(c.isprintable() or c == "\n" for c in page)
    assert "script" not in Page(page).tags
    assert r"a\xff.png" in page
    inspection = read_back((tmp_path / "theirs.private" / "audit.json").read_text("utf-8"))
    assert len({f.where for f in inspection.findings if f.check == "foreign_bytes"}) == 2 * len(names)


def test_a_report_folder_of_the_user_keeps_its_mode(dataset: Dataset, tmp_path: Path) -> None:
    shared, new = tmp_path / "shared", tmp_path / "new"
    shared.mkdir(mode=0o755)
    for folder in (shared, new):
        assert p3mdata(dataset.public, "--only", "leaks", "--report", folder).exit_code == 0
        assert (folder / "audit.html").is_file()
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755
    assert stat.S_IMODE(new.stat().st_mode) == 0o700
    assert not (dataset.private / "audit.html").exists()


def test_where_no_report_can_be_written_is_said_before_the_work(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "audit", lambda *_, **__: pytest.fail("it began"))
    (tmp_path / "file").write_text("")
    result = p3mdata(dataset.public, "--report", tmp_path / "file")
    assert result.exit_code == StorageError.exit_code
    assert result.stderr.count("\n") == 1
    assert "is a file or lies under one" in result.stderr


def test_a_dataset_whose_run_goes_on_can_be_audited(dataset: Dataset) -> None:
    with dataset.ledger() as writer:
        writer.set_meta("busy", "yes")  # takes the lock that a run holds to its end
        done = in_a_process("audit", dataset.public, "--only", "leaks", "--json", *QUICK)
        writer.set_meta("busy", "no")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["faults"] == 0


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(inspecting.time, "monotonic", lambda: self.now)


def test_progress_without_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with Counter(quiet=False) as counter:
        for done in range(31):
            clock.now = done * EVERY / 10
            counter.show(done, 31, "faces: ")
    assert capsys.readouterr() == ("", "".join(f"faces: {n} of 31 pictures\n" for n in (10, 20, 30)))


def test_progress_on_a_terminal_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(inspecting.sys.stderr, "isatty", lambda: True)
    with Counter(quiet=False) as counter:
        for done in range(1, 101):
            clock.now += 0.01
            counter.show(done, 100, "leaks: ")
        counter.show(1, 1)
    out, err = capsys.readouterr()
    assert out == ""
    shown = err.removesuffix("\n").split("\r")[1:]
    assert "\n" not in "".join(shown)
    assert 4 <= len(shown) <= 8
    assert shown[-2:] == ["leaks: 100 of 100 pictures\x1b[K", "1 of 1 picture\x1b[K"]


def test_no_progress_beside_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(monkeypatch)
    with Counter(quiet=True) as counter:
        clock.now = 100.0
        counter.show(1, 1)
    assert capsys.readouterr() == ("", "")
