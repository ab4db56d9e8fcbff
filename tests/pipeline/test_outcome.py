from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from p3m_data.pipeline.ledger import Ledger
from p3m_data.pipeline.outcome import (
    REASON_WORDS,
    STATUS_WORDS,
    config_digest,
    exit_code,
    next_step,
    summary_lines,
)
from p3m_data.types import Provenance, Reason, Record, Source, Status


def test_every_reason_and_status_has_words() -> None:
    assert set(REASON_WORDS) == set(Reason)
    assert set(STATUS_WORDS) == set(Status)
    for words in (*REASON_WORDS.values(), *STATUS_WORDS.values()):
        assert re.fullmatch(r"[a-z][^\n_]{5,90}[a-z]", words)
    assert len(set(REASON_WORDS.values())) == len(Reason)


@pytest.mark.parametrize(("there", "code"), [("FNP", 3), ("F", 3), ("FA", 3), ("N", 1), ("P", 1), ("NA", 1)])
def test_exit_codes_that_are_not_0(there: str, code: int) -> None:
    by_letter = {status.name[0]: status for status in Status}
    assert exit_code({by_letter[letter]: 1 for letter in there}) == code


def test_done_is_0_and_the_worst_status_decides() -> None:
    assert exit_code({}) == 0
    for counts in itertools.product((0, 2), repeat=len(Status)):
        given = dict(zip(Status, counts, strict=True))
        expected = max(exit_code({status: count}) for status, count in given.items())
        assert exit_code(given) == expected
    assert exit_code({Status.ANONYMIZED: 5, Status.DUPLICATE: 1, Status.FAILED: 0}) == 0


def test_the_summary_adds_up_and_names_every_reason_that_occurs() -> None:
    counts = {
        Status.ANONYMIZED: 120,
        Status.NEEDS_REVIEW: 7,
        Status.FAILED: 1,
        Status.PENDING: 0,
        Status.DUPLICATE: 0,
    }
    reasons = {
        (Status.ANONYMIZED, Reason.ACCEPTED_NO_FACE): 2,
        (Status.NEEDS_REVIEW, Reason.NO_FACE): 3,
        (Status.NEEDS_REVIEW, Reason.NO_LANDMARKS): 4,
        (Status.FAILED, Reason.UNREADABLE): 1,
    }
    assert summary_lines(counts, reasons) == [
        "128 pictures",
        f"  120 {STATUS_WORDS[Status.ANONYMIZED]}",
        f"      2 {REASON_WORDS[Reason.ACCEPTED_NO_FACE]}",
        f"    7 {STATUS_WORDS[Status.NEEDS_REVIEW]}",
        f"      4 {REASON_WORDS[Reason.NO_LANDMARKS]}",
        f"      3 {REASON_WORDS[Reason.NO_FACE]}",
        f"    1 {STATUS_WORDS[Status.FAILED]}",
        f"      1 {REASON_WORDS[Reason.UNREADABLE]}",
    ]


def test_the_summary_of_little() -> None:
    assert summary_lines({}, {}) == ["0 pictures"]
    assert summary_lines({Status.PENDING: 1}, {})[0] == "1 picture"


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, ["run p3mdata anonymize"]),
        ({Status.PENDING: 2, Status.FAILED: 1}, ["2 pictures to go"]),
        ({Status.NEEDS_REVIEW: 1}, ["the 1 waiting picture with p3mdata review"]),
        ({Status.NEEDS_REVIEW: 3, Status.FAILED: 1}, ["3 waiting pictures", "1 failed picture "]),
        ({Status.ANONYMIZED: 3}, ["Nothing is left"]),
    ],
)
def test_the_next_step_is_one_line(counts: dict[Status, int], words: list[str]) -> None:
    line = next_step(counts)
    assert all(word in line for word in words)
    assert not line[0].islower()
    assert line.endswith(".")
    assert "\n" not in line


def test_the_command_that_the_next_step_names_exists() -> None:
    from p3m_data.cli.main import COMMANDS

    (named,) = re.findall(r"p3mdata (\w+)", next_step({Status.NEEDS_REVIEW: 1}))
    assert named in COMMANDS


def test_the_options_that_the_next_step_names_exist() -> None:
    from p3m_data.cli.anonymize import anonymize

    options = {name for parameter in anonymize.params for name in parameter.opts}
    named = re.findall(r"--[\w-]+", next_step({Status.FAILED: 1}))
    assert named
    assert set(named) <= options


def test_the_configuration_is_the_one_in_the_records(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite", create=True) as ledger:
        assert config_digest(ledger) is None
        ledger.add([Source(path=name, size=1, mtime_ns=1) for name in "ab"])
        ledger.commit(Record(source="a", status=Status.FAILED))
        assert config_digest(ledger) is None
        made = Provenance(code_version="1", config_digest="c0ffee", models={})
        ledger.commit(Record(source="b", status=Status.NEEDS_REVIEW, provenance=made))
        assert config_digest(ledger) == "c0ffee"
