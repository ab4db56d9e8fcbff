"""Searching texts for names; what is found in a dataset's pages is tested with all other leaks."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from p3m_data.inspection.telling_text import occurrences, plain_text


@given(st.text("ab_ 1.", max_size=60), st.sets(st.text("ab_ 1.", min_size=4, max_size=7), max_size=8))
def test_occurrences_are_what_a_plain_search_finds(text: str, names: set[str]) -> None:
    expected = {
        found.start() for name in names for found in re.finditer(rf"(?<!\w)(?={re.escape(name)}(?!\w))", text)
    }
    assert set(occurrences(text, frozenset(names))) == expected


def test_spellings_are_undone() -> None:
    assert plain_text("a&#47;b%2Fc\\/d\\u002fe") == "a/b/c/d/e"
