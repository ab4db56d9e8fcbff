from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p3m_data.cli.main import COMMANDS, main
from p3m_data.cli.status import status
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.decisions import Decisions
from p3m_data.pipeline.ledger import Ledger
from p3m_data.pipeline.outcome import REASON_WORDS
from p3m_data.types import Provenance, Reason, Record, Source, Status

MADE = Provenance(code_version="1", config_digest="c0ffee", models={})


def p3mdata(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["status", *arguments])


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Four pictures: one anonymized, one waiting, two still to be done."""
    dataset = Dataset.at(tmp_path / "out")
    dataset.create()
    with Ledger(dataset.ledger_path, create=True) as ledger:
        ledger.add(Source(path=name, size=1, mtime_ns=1) for name in "abcd")
        ledger.commit(Record(source="a", id="p_00000001", status=Status.ANONYMIZED, provenance=MADE))
        ledger.commit(
            Record(source="b", id="p_00000002", status=Status.NEEDS_REVIEW, reason=Reason.NO_FACE, detail="x")
        )
    return dataset


def finish(dataset: Dataset, of_the_rest: Status) -> None:
    with Ledger(dataset.ledger_path) as ledger:
        for source in list(ledger.pending()):
            reason = Reason.UNREADABLE if of_the_rest is Status.FAILED else None
            name = f"p_{ord(source.path):08x}"
            ledger.commit(Record(source=source.path, id=name, status=of_the_rest, reason=reason))


def test_it_says_how_far_the_dataset_is(dataset: Dataset) -> None:
    result = p3mdata(str(dataset.public))
    lines = result.output.splitlines()
    assert lines[0] == "4 pictures"
    assert any(REASON_WORDS[Reason.NO_FACE] in line for line in lines)
    assert any("c0ffee" in line for line in lines)
    assert any("not yet written" in line for line in lines)
    assert lines[-1].startswith("Next: 2 pictures to go")
    assert result.exit_code == 1


@pytest.mark.parametrize(("rest", "code"), [(Status.ANONYMIZED, 1), (Status.FAILED, 3)])
def test_the_exit_code_is_the_outcome(dataset: Dataset, rest: Status, code: int) -> None:
    finish(dataset, rest)
    assert p3mdata(str(dataset.public)).exit_code == code


def test_all_done_is_0(tmp_path: Path) -> None:
    dataset = Dataset.at(tmp_path / "out")
    dataset.create()
    with Ledger(dataset.ledger_path, create=True) as ledger:
        ledger.add([Source(path="a", size=1, mtime_ns=1)])
    finish(dataset, Status.ANONYMIZED)
    result = p3mdata(str(dataset.public))
    assert "Nothing is left to do." in result.output
    assert result.exit_code == 0


def test_it_tells_what_the_spot_check_says(tmp_path: Path) -> None:
    dataset = Dataset.at(tmp_path / "out")
    dataset.create()
    with Ledger(dataset.ledger_path, create=True) as ledger:
        ledger.add(Source(path=str(n), size=1, mtime_ns=1) for n in range(80))
        for n in range(80):
            ledger.commit(Record(source=str(n), id=f"p_{n:08}", status=Status.ANONYMIZED))
        decisions = Decisions(ledger)
        decisions.draw_spot_checks(60)
        assert "Spot check:     60 pictures drawn, none looked at yet" in p3mdata(str(dataset.public)).output
        for (name,) in ledger.read("SELECT id FROM spot_check ORDER BY id LIMIT 59"):
            with ledger.writing():
                decisions.close_spot_check(name, miss=False)
    said = p3mdata(str(dataset.public)).output
    assert "0 misses in 59 pictures of 60 that were drawn; with 95 % confidence at most 5.0% of" in said
    spot = json.loads(p3mdata(str(dataset.public), "--json").output)["spot_check"]
    assert spot["upper_bound"] == pytest.approx(1 - 0.05 ** (1 / 59))


def test_json_for_scripts(dataset: Dataset) -> None:
    (dataset.private / "report.html").write_text("")
    result = p3mdata(str(dataset.public), "--json")
    facts = json.loads(result.output)
    assert facts == {
        "dataset": str(dataset.public),
        "private": str(dataset.private),
        "report": str(dataset.private / "report.html"),
        "config_digest": "c0ffee",
        "spot_check": None,
        "counts": {
            "pending": 2,
            "anonymized": 1,
            "needs_review": 1,
            "excluded": 0,
            "failed": 0,
            "duplicate": 0,
        },
        "reasons": {"needs_review/no_face_found": 1},
        "next": facts["next"],
        "exit_code": result.exit_code,
    }
    assert facts["next"].startswith("2 pictures to go")


def test_json_names_no_report_that_is_not_there(dataset: Dataset) -> None:
    assert json.loads(p3mdata(str(dataset.public), "--json").output)["report"] is None


def test_the_current_folder_is_the_dataset(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dataset.public)
    assert p3mdata().output.startswith("4 pictures")


def test_the_private_folder_may_lie_elsewhere(dataset: Dataset, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else" / "where"
    elsewhere.parent.mkdir()
    dataset.private.rename(elsewhere)
    assert p3mdata(str(dataset.public)).exit_code == 2
    assert p3mdata(str(dataset.public), "--work", str(elsewhere)).output.startswith("4 pictures")


def test_it_works_while_a_run_holds_the_dataset(dataset: Dataset) -> None:
    with Ledger(dataset.ledger_path, create=True) as running:
        running.set_meta("run", "on")
        assert p3mdata(str(dataset.public)).exit_code == 1


def test_it_changes_nothing(dataset: Dataset) -> None:
    def files() -> dict[Path, bytes]:
        folders = (dataset.public, dataset.private)
        found = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
        # SQLite's own side files come and go with every reader
        return {f: f.read_bytes() for f in found if not f.name.endswith(("-wal", "-shm"))}

    before = files()
    p3mdata(str(dataset.public))
    assert files() == before


@pytest.mark.parametrize("what", ["missing", "plain folder", "file", "empty ledger", "not a ledger"])
def test_what_is_no_dataset_gets_one_sentence(tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    private = tmp_path / "place.private"
    if what == "file":
        place.write_text("x")
    elif what != "missing":
        place.mkdir()
    if "ledger" in what:
        private.mkdir()
        (private / "ledger.sqlite").write_text("text " * 2000 if what == "not a ledger" else "")
    result = p3mdata(str(place))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("p3mdata: ")
    assert "place" in line
    assert result.stdout == ""


def test_a_private_folder_of_somebody_else(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    result = p3mdata(str(dataset.public))
    assert result.exit_code == 2
    assert (
        result.stderr == f"p3mdata: {dataset.private} cannot be looked into; run this as the folder's owner\n"
    )


def test_the_help_begins_with_the_line_of_the_table() -> None:
    assert (status.help or "").splitlines()[0] == COMMANDS["status"].help
    assert "Example:" in p3mdata("--help").output
