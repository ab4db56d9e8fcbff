from __future__ import annotations

import importlib
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p3m_data.cli.inspecting import FIRST, lines
from p3m_data.cli.main import main
from p3m_data.errors import StorageError
from p3m_data.inspection import validate as validating
from p3m_data.inspection.findings import Finding, Inspection, Looked
from tests.inspection.planting import FAULTS, good_dataset, planted
from tests.inspection.test_validate import p3m
from tests.report.test_inspection import read_back
from tests.runs import review_dataset


def p3mdata(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["validate", *map(str, arguments), "--workers", "1"])


def test_a_good_dataset_exits_0_and_names_the_report(tmp_path: Path) -> None:
    dataset = good_dataset(tmp_path)
    result = p3mdata(dataset.public)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "10 pictures (p3mdata)"
    report = Path(result.stdout.splitlines()[-1].removeprefix("Look at: "))
    assert report == dataset.private / "validate.html"
    assert report.is_file()
    assert (dataset.private / "validate.json").is_file()
    assert not list(dataset.public.rglob("validate*"))


@pytest.mark.slow
def test_what_anonymize_makes_is_right(tmp_path: Path) -> None:
    folder = review_dataset(tmp_path)
    result = p3mdata(folder / "out", "--json")
    assert result.exit_code == 0, result.stdout
    inspection = read_back(result.stdout)
    assert inspection.pictures == 2
    assert {looked.check: looked.at for looked in inspection.looked}["changed_inside"] == 2


def test_a_fault_exits_1_and_is_told(tmp_path: Path) -> None:
    dataset = good_dataset(tmp_path)
    where = planted(FAULTS["face left in a PNG"], dataset.public)
    result = p3mdata(dataset.public)
    assert result.exit_code == 1
    told = result.stdout.splitlines()
    assert told[told.index("changed_inside: 1 wrong") + 1].startswith(f"  train/blurred_image/{where}.png: ")


def test_json_is_the_inspection(tmp_path: Path) -> None:
    dataset = good_dataset(tmp_path)
    planted(FAULTS["matte of 0"], dataset.public)
    result = p3mdata(dataset.public, "--json")
    assert result.exit_code == 1
    inspection = read_back(result.stdout)
    assert inspection.counts("fault")["matte_values"] == 1


def test_a_foreign_dataset_gets_a_private_folder_of_its_own(tmp_path: Path) -> None:
    root = p3m(tmp_path / "P3M-10k", foregrounds=False)
    assert p3mdata(root).exit_code == 0
    private = tmp_path / "P3M-10k.private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert p3mdata(root).exit_code == 0


def test_the_report_goes_where_it_is_told_to(tmp_path: Path) -> None:
    root = p3m(tmp_path / "P3M-10k", foregrounds=False)
    result = p3mdata(root, "--report", tmp_path / "reports")
    assert result.exit_code == 0
    assert (tmp_path / "reports" / "validate.html").is_file()
    assert not (tmp_path / "P3M-10k.private").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing"], "is no folder"),
        (["empty"], "looked for"),
        (["P3M-10k", "--originals", "missing"], "is no folder"),
        (["P3M-10k", "--work", "empty"], "no ledger"),
        (["P3M-10k", "--report", "P3M-10k/train"], "lies in"),
    ],
)
def test_a_wrong_folder_is_one_sentence_and_exit_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    p3m(tmp_path / "P3M-10k", foregrounds=False)
    (tmp_path / "empty").mkdir()
    words = [word if word.startswith("--") else str(tmp_path / word) for word in arguments]
    result = p3mdata(*words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def inspected(*findings: Finding, looked: tuple[Looked, ...] = ()) -> Inspection:
    return Inspection(
        command="validate", layout="pairs", pictures=1, code_version="0", looked=looked, findings=findings
    )


def test_only_the_first_findings_are_printed_and_names_cannot_write_to_the_terminal() -> None:
    findings = [
        Finding(check="mates", where=f"a\x1b[2J\u202e{n}", said="It is alone.") for n in range(FIRST + 2)
    ]
    note = Finding(check="matte_hard", where="b", said="It is hard.", level="note")
    looked = (
        Looked(check="mates", at=3),
        Looked(check="trimap_values", why_not="there are none"),
        Looked(check="trimap_matte", why_not="there are none"),
        Looked(check="changed_inside", at=2, why_not="1 original is gone"),
    )
    told = lines(inspected(*findings, note, looked=looked))
    assert told[0] == "1 picture (pairs)"
    assert all(line.isprintable() for line in told)
    assert f"mates: {FIRST + 2} wrong" in told
    assert sum("It is alone." in line for line in told) == FIRST
    assert "  and 2 more" in told
    assert "matte_hard: 1 to note" in told
    assert told[-3:] == [
        f"2 of 4 checks made, {FIRST + 2} things wrong",
        "  not made: trimap_values, trimap_matte (there are none)",
        "  not everywhere: changed_inside (1 original is gone)",
    ]


def test_what_is_wrong_is_printed_before_what_is_to_note() -> None:
    findings = [
        Finding(check=check, where=str(n), said="So.", level="fault" if n == 9 else "note")
        for check in ("mates", "sizes", "matte_hard")
        for n in range(10 if check != "matte_hard" else 1)
    ]
    told = lines(inspected(*findings))
    assert [line for line in told if not line.startswith(" ")][1:-1] == [
        "mates: 1 wrong, 9 to note",
        "sizes: 1 wrong, 9 to note",
        "matte_hard: 1 to note",
    ]
    for check in ("mates", "sizes"):
        assert told[told.index(f"{check}: 1 wrong, 9 to note") + 1] == "  9: So."
    alone = lines(inspected(*findings[:9], *findings[10:]))
    assert [line.partition(":")[0] for line in alone if line[0] != " "][1:-1] == [
        "sizes",
        "mates",
        "matte_hard",
    ]
    assert alone[-1] == "0 of 0 checks made, 1 thing wrong"


@pytest.mark.parametrize("name", ["validate", "audit"])
def test_the_help_has_examples_that_can_be_parsed(name: str) -> None:
    told = CliRunner().invoke(main, [name, "--help"]).stdout
    examples = [line.split() for line in told.partition("Example:")[2].splitlines() if "p3mdata" in line]
    assert len(examples) == 2
    command = importlib.import_module(f"p3m_data.cli.{name}")
    for words in examples:
        assert words[:2] == ["p3mdata", name]
        getattr(command, name).make_context(name, words[2:])


@pytest.mark.parametrize("name", ["validate", "audit"])
def test_the_help_imports_nothing_heavy(name: str) -> None:
    script = (
        "import sys\n"
        "from p3m_data.cli.main import main\n"
        f"main(['{name}', '--help'], standalone_mode=False)\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"pydantic", "numpy", "cv2", "PIL", "mediapipe", "dlib", "jinja2"}


def test_a_default_dataset_is_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = good_dataset(tmp_path)
    monkeypatch.chdir(dataset.public)
    assert p3mdata().stdout.splitlines()[-1] == f"Look at: {dataset.private / 'validate.html'}"


def test_where_no_report_can_be_written_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = p3m(tmp_path / "P3M-10k", foregrounds=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(validating, "validate", lambda *_, **__: pytest.fail("it began"))
    for place in ("file", "file/deeper"):
        result = p3mdata(root, "--report", tmp_path / place)
        assert result.exit_code == StorageError.exit_code
        assert result.stderr.endswith("is a file or lies under one; name a folder to write to\n")
        assert len(result.stderr.splitlines()) == 1
