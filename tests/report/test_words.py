"""The words of reports cover what the program says."""

from __future__ import annotations

from p3m_data.report.words import CHECK_WORDS
from p3m_data.stages.verify import CHECKS, SAID


def test_every_check_of_a_written_file_has_words_and_nothing_else_has() -> None:
    assert tuple(CHECK_WORDS) == CHECKS


def test_only_checks_have_a_sentence_of_their_own() -> None:
    assert SAID.keys() <= set(CHECKS)
