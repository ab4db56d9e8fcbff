"""Findings about files of any name, and the notes that parts take."""

from __future__ import annotations

import json
import os
from pathlib import Path

from p3m_data.inspection.findings import Finding, Notes
from p3m_data.inspection.validate import validate
from tests.inspection.planting import good_dataset


def test_a_finding_about_a_name_that_is_no_text_can_be_written() -> None:
    finding = Finding(check="stray_files", where="a/\udcff.txt", said="It is like b/\udcfe.txt.")
    assert finding.where == r"a/\xff.txt"
    assert finding.said == r"It is like b/\xfe.txt."
    assert Finding.model_validate_json(finding.model_dump_json()) == finding


def test_a_file_whose_name_is_no_text_is_told_by_validate(tmp_path: Path) -> None:
    root = good_dataset(tmp_path).public
    with open(os.fsencode(root) + b"/train/\xff.txt", "w", encoding="utf-8") as file:
        file.write("x")
    inspection = validate(root)
    assert [(f.check, f.where) for f in inspection.findings] == [("stray_files", r"train/\xff.txt")]
    assert json.loads(inspection.to_json())["findings"][0]["where"] == r"train/\xff.txt"
    inspection.model_dump_json()


def test_notes_are_findings_in_the_order_in_which_they_were_said() -> None:
    notes = Notes()
    notes.say("a", "x", "First.")
    notes.say("b", "", "Second.", "note", value=2, limit=1)
    assert notes.findings == [
        Finding(check="a", where="x", said="First."),
        Finding(check="b", where="", said="Second.", level="note", value=2, limit=1),
    ]
