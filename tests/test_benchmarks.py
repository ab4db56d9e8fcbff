"""The tables of `benchmarks/results` tell of everything that they are meant to tell of."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from p3m_data.inspection import audit, validate
from tests.conftest import REPOSITORY
from tests.inspection import planting, planting_faces, planting_leaks

ALL: Mapping[str, Mapping[str, planting.Fault | planting_faces.FaceFault]] = {
    "validate": planting.FAULTS,
    "audit --only leaks": planting_leaks.FAULTS,
    "audit --only faces": planting_faces.FAULTS,
    "audit --only recognition": planting_faces.RECOGNISABLE,
}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks/planted.py`, which is no part of a package."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("planted")


def inspected(*findings: tuple[str, str, str], planted: ModuleType) -> Any:
    faults = sum(level == "fault" for *_, level in findings)
    told = [{"check": check, "where": where, "level": level} for check, where, level in findings]
    return planted.Inspected(int(faults > 0), {"findings": told, "faults": faults})


def test_every_fault_is_planted_once_and_looked_for_by_a_check_that_is_there(planted: ModuleType) -> None:
    cases = Counter((" ".join(case.command), case.name, case.check) for case in planted.CASES)
    assert cases == Counter(
        (command, name, fault.check) for command, faults in ALL.items() for name, fault in faults.items()
    )
    known = {"validate": validate.ABOUT, "audit": audit.ABOUT}
    assert [case.name for case in planted.CASES if case.check not in known[case.command[0]]] == []
    assert set(planted.NOTED) <= {case.name for case in planted.CASES}
    drawn = {case.name for case in planted.CASES if case.base == "drawn"}
    assert drawn == {name for name, fault in planting.FAULTS.items() if fault.check.startswith("trimap")} | {
        "trimap on its side"
    }


def test_the_results_tell_of_every_fault() -> None:
    figures = json.loads((REPOSITORY / "benchmarks" / "results" / "planted.json").read_text())
    told = {(row["command"], row["fault"]) for row in figures["faults"]}
    assert {(command, name) for command, faults in ALL.items() for name in faults} <= told, "run it again"


@pytest.mark.portraits
def test_the_results_name_no_picture(portraits: Path) -> None:
    folder = REPOSITORY / "benchmarks" / "results"
    text = "".join((folder / f"planted.{suffix}").read_text() for suffix in ("json", "md"))
    stems = [file.stem for file in (portraits / "images").iterdir()]
    assert [stem for stem in stems if stem in text] == []


@pytest.mark.parametrize(
    ("findings", "found", "noted"),
    [
        ([("sizes", "train/mask/p_1.png", "fault"), ("sizes", "p_2", "fault")], True, True),
        ([("sizes", "p_1", "fault"), ("sizes", "p_2", "note")], False, True),
        ([("sizes", "p_1", "note"), ("sizes", "p_2", "note")], False, True),
        ([("sizes", "p_1", "fault")], False, False),
        ([("sizes", "p_1", "fault"), ("mates", "p_2", "fault")], False, False),
        ([("sizes", "p_1", "fault"), ("sizes", "p_3", "note")], False, False),
        ([], False, False),
    ],
)
def test_a_fault_is_found_when_its_check_names_every_place_anew(
    planted: ModuleType, findings: list[tuple[str, str, str]], found: bool, noted: bool
) -> None:
    before = inspected(("sizes", "p_3", "note"), planted=planted)
    after = inspected(*findings, planted=planted)
    names = ["p_1", "p_2"]
    assert planted.judge("sizes", names, before, after)["found"] is found
    assert planted.judge("sizes", names, before, after, may_be_noted=True)["found"] is noted
    assert not planted.judge("sizes", names, after, after, may_be_noted=True)["found"]


def test_a_status_that_says_the_contrary_is_not_found(planted: ModuleType) -> None:
    fault = {"check": "sizes", "where": "p_1", "level": "fault"}
    silent = planted.Inspected(0, {"findings": [], "faults": 0})
    wrong = planted.Inspected(0, {"findings": [fault], "faults": 1})
    assert not planted.judge("sizes", ["p_1"], silent, wrong)["found"]
