"""Text from files, file names and errors that becomes part of a sentence."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from p3m_data.storage.sentences import MAX_QUOTED, one_line, path_text, sentence


@given(st.binary(max_size=40))
def test_every_name_of_a_file_becomes_text_that_can_be_written(name: bytes) -> None:
    text = path_text(os.fsdecode(name))
    text.encode("utf-8")
    assert text == name.decode("utf-8", "backslashreplace")


@given(st.text(st.characters(codec=None), max_size=40))
def test_whatever_a_string_holds_can_be_written_after_that(text: str) -> None:
    written = path_text(text).encode("utf-8")
    assert "\\" in text or b"\\" in written or written == text.encode("utf-8")


def test_stray_bytes_and_halves_of_pairs_are_spelled() -> None:
    assert path_text("a/\udcff\ud800é") == "a/\\xff\\ud800é"


@given(st.text(max_size=2 * MAX_QUOTED))
def test_a_quotation_is_one_printable_line(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= MAX_QUOTED + len("...")


def test_a_sentence_begins_and_ends_as_one() -> None:
    assert sentence("the file is empty") == "The file is empty."
    assert sentence("EXIF is there") == "EXIF is there."
