from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from fuzz.contract import documented
from p3m_data.errors import UsageError
from p3m_data.storage.sentences import MAX_QUOTED, one_line
from p3m_data.storage.settings import MAX_BYTES, read_settings


class Inner(BaseModel, extra="forbid"):
    size: float = 1.5


class Outer(BaseModel, extra="forbid"):
    name: str = "x"
    inner: Inner = Inner()


def written(text: str, folder: Path) -> Path:
    (folder / "a.yaml").write_text(text, encoding="utf-8")
    return folder / "a.yaml"


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    assert read_settings(written("", tmp_path), Outer) == Outer()
    assert read_settings(written("inner: {size: 2}\n", tmp_path), Outer) == Outer(inner=Inner(size=2))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: 2001-99-99", "not valid YAML: month must be in"),
        ("name: !!int ''", "not valid YAML"),
        ("name: !!timestamp x", "not valid YAML"),
        ("name: " + "[" * 900, "nested too deeply"),
        ("inner: &a {size: 2}\nname: *a", "alias"),
        ("name: " + "x" * MAX_BYTES, "larger than 64 KiB"),
        ("inner: {size: big}", "inner.size: Input should be a valid number"),
        ("- 1", "its top level"),
        ('name: "\\ud800"', "surrogates not allowed"),
        ('"\\ud800": 1', "surrogates not allowed"),
        ('"a\\0b": 1', r"a\?b: Extra inputs"),
    ],
)
def test_a_file_that_is_no_settings_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as error:
        read_settings(written(text, tmp_path), Outer)
    assert str(error.value).isprintable()


def test_merges_of_merges_take_no_memory(tmp_path: Path) -> None:
    lines = ["a0: &a0 {a: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 30)]
    with pytest.raises(UsageError, match="alias"):
        read_settings(written("\n".join(lines), tmp_path), Outer)


def test_a_file_that_never_ends_is_not_read_to_its_end() -> None:
    with pytest.raises(UsageError, match="larger than"):
        read_settings(Path("/dev/zero"), Outer)


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))  # fmt: skip
def test_any_tree_is_settings_or_refused_in_one_line(tree: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = written(yaml.safe_dump(tree), Path(folder))
        with documented(UsageError):
            assert read_settings(file, Outer) == Outer.model_validate({} if tree is None else tree)


@given(st.text())
def test_a_quotation_is_short_and_can_be_printed(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= MAX_QUOTED + 3
    if text.isprintable() and "  " not in text and text == text.strip() and len(text) <= MAX_QUOTED:
        assert line == text
