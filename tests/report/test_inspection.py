"""The page and the JSON of `validate` and `audit`, read back with a strict parser."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser

from p3m_data.errors import StorageError
from p3m_data.inspection.about import ABOUT, FIGURE_WORDS
from p3m_data.inspection.attacker import ALONE, ATTACKS, FILLED, WHOLE
from p3m_data.inspection.findings import Crop, Finding, Inspection, Level, Looked
from p3m_data.report.inspection import HEADINGS, SHOWN, Table, tables, write_inspection
from p3m_data.storage import folders
from tests.report.test_contact import Page, targets, words
from tests.review.conftest import chromium as chromium

JPEG = b"\xff\xd8\xff\xd9"
EVIL = (
    "<script>alert('x')</script>\n\x1b[2J\u202egpj.exe\u2066&amp;\"'><img src=http://a.example/b>"
    + "w" * 5000
)
NESTED = {"published": {"rank_1": [0.5, 0.25, 0.75], "auc": None}, "filled": {"rank_1": [0.0, 0.0, 0.125]}}


def read_back(text: str) -> Inspection:
    """The inspection whose JSON `text` is; its first two keys count what is in it."""
    told = json.loads(text)
    assert list(told)[:2] == ["faults", "notes"]
    counted = told.pop("faults"), told.pop("notes")
    inspection = Inspection.model_validate(told)
    assert counted == (inspection.faults, inspection.notes)
    return inspection


def finding(check: str, level: Level = "fault", crop: str | None = None, where: str = "p_1") -> Finding:
    return Finding(check=check, where=where, said=f"It is {level} of {check}", level=level, crop=crop)


def inspection(command: str = "audit", *findings: Finding, **changes: object) -> Inspection:
    values: dict[str, object] = {
        "command": command,
        "layout": "p3mdata",
        "pictures": 3,
        "code_version": "0.1",
        "looked": tuple(Looked(check=check, at=3) for check in ABOUT[command]),
        "findings": findings,
    }
    return Inspection.model_validate(values | changes)


def page(folder: Path, made: Inspection, *crops: Crop) -> Page:
    """The page, with what every page must have."""
    path = write_inspection(made, crops, folder)
    assert path == folder / f"{made.command}.html"
    shown = Page(path.read_text("utf-8"))
    assert not shown.tags & {"script", "iframe", "object", "embed", "form", "input", "base", "link"}
    assert not [name for name in shown.attributes if name.startswith("on")]
    policy = shown.meta["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert len(shown.ids) == len(set(shown.ids))
    for target in [link for link in shown.links if link.startswith("#")]:
        assert target[1:] in shown.ids
    shown.links = [link for link in shown.links if not link.startswith("#")]
    targets(folder, [shown])
    assert read_back((folder / f"{made.command}.json").read_text("utf-8")) == made
    return shown


@pytest.mark.parametrize("command", ABOUT)
def test_every_check_is_there_with_what_it_proves_and_what_not(command: str, tmp_path: Path) -> None:
    shown = page(tmp_path, inspection(command))
    assert shown.ids == list(ABOUT[command])
    told = words(shown)
    for about in ABOUT[command].values():
        assert all(about), about
        for said in (about.title, about.proves, f"It does not prove: {about.does_not_prove}"):
            assert " ".join(said.split()) in told
    assert all(text in told for text in HEADINGS[command])
    checks = len(ABOUT[command])
    assert f"Nothing wrong was found by the {checks} of {checks} checks that were made." in told


def test_what_was_not_made_is_told_with_its_reason(tmp_path: Path) -> None:
    looked = [Looked(check=check, at=3) for check in ABOUT["audit"]]
    looked[0] = Looked(check=looked[0].check, why_not="there are no <originals>")
    looked[1] = Looked(check=looked[1].check, at=2, why_not="1 picture has no face")
    told = words(page(tmp_path, inspection(looked=tuple(looked))))
    assert "– this check was not made" in told
    assert "Not made: there are no <originals>." in told
    assert "Not everywhere: 1 picture has no face." in told
    assert f"by the {len(looked) - 1} of {len(looked)} checks that were made" in told


def test_nothing_made_is_not_told_as_nothing_wrong(tmp_path: Path) -> None:
    looked = tuple(Looked(check=check, why_not="so") for check in ABOUT["audit"])
    told = words(page(tmp_path, inspection(looked=looked)))
    assert "Nothing wrong" not in told
    assert "nothing wrong" not in told
    assert "No check was made" in told


def test_faults_come_before_notes_and_are_counted(tmp_path: Path) -> None:
    check = "residual_face"
    made = inspection("audit", finding(check, "note"), finding(check), finding("groups", "note"))
    told = words(page(tmp_path, made))
    assert "1 thing is wrong. Do not publish before it is put right." in told
    assert "2 notes: things that a person should look at" in told
    assert told.index(f"It is fault of {check}.") < told.index(f"It is note of {check}.")
    assert "Faces that are not masked – 1 wrong" in told
    assert "Groups of people – 1 to note" in told
    assert "Times of change – nothing wrong" in told


def test_more_findings_than_are_shown(tmp_path: Path) -> None:
    notes = [finding("residual_face", "note", where=f"n{n}.") for n in range(SHOWN)]
    made = inspection("audit", *notes, finding("residual_face", where="f."), finding("groups", "note"))
    told = words(page(tmp_path, made))
    assert told.count("It is note of residual_face") == SHOWN - 1
    assert told.count("It is fault of residual_face") == 1
    assert f"The first {SHOWN} of {SHOWN + 1}; the others are in the JSON file." in told
    assert told.count("the others are in the JSON file") == 1


@pytest.mark.parametrize("crop", [None, "p_1-0.jpg"])
@pytest.mark.parametrize("level", ["fault", "note"])
def test_hostile_names_are_text_and_visible(level: Level, crop: str | None, tmp_path: Path) -> None:
    evil = Finding(check="residual_face", where=EVIL, said=EVIL, level=level, crop=crop)
    looked = (
        Looked(check="residual_face", at=1, why_not=EVIL),
        *(Looked(check=check, at=1) for check in list(ABOUT["audit"])[1:]),
    )
    figures = {"groups": {EVIL: {EVIL: {"x": 1}, "other": {"x": EVIL}}, "x": EVIL}}
    made = inspection("audit", evil, looked=looked, figures=figures, layout=EVIL[:20])
    shown = page(tmp_path, made, *[Crop(crop, JPEG)] if crop else [])
    text = (tmp_path / "audit.html").read_text("utf-8")
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert "<script" not in text
    assert len(shown.images) == bool(crop)
    escaped = EVIL.replace("\n", "\\n").replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    escaped = escaped.replace("\u2066", "\\u2066")
    assert words(shown).count(escaped) == 7
    assert "http://" not in "".join(re.findall(r'(?:src|href)="[^"]*"', text))


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=60))
def test_any_name_is_shown_on_one_line_as_text(name: str) -> None:
    with TemporaryDirectory() as folder:
        found = Finding(check="groups", where=name, said=f"it is {name} indeed")
        path = write_inspection(inspection("audit", found), [], Path(folder))
        html = path.read_bytes().decode()
        assert read_back(path.with_suffix(".json").read_text("utf-8")).findings == (found,)
    Page(html)
    lines = [unescape(line) for line in html.splitlines()]
    assert any("".join(c if c.isprintable() else repr(c)[1:-1] for c in found.said) in line for line in lines)


def test_crops_are_files_that_the_page_shows_and_old_ones_go(tmp_path: Path) -> None:
    names = ["p_1-0.jpg", "a b%23#?é-0.jpg"]
    crops = [Crop(name, JPEG + name.encode()) for name in names]
    made = inspection("audit", *(finding("residual_face", crop=name) for name in names))
    shown = page(tmp_path, made, *crops)
    assert len(shown.images) == 2
    assert all(image["alt"] for image in shown.images)
    files = {file.name: file.read_bytes() for file in (tmp_path / "audit").iterdir()}
    assert files == {crop.name: crop.jpeg for crop in crops}
    (tmp_path / "audit" / "mine.txt").write_text("")
    (tmp_path / "validate").mkdir()
    (tmp_path / "validate" / "theirs.jpg").write_bytes(JPEG)
    shown = page(tmp_path, inspection("audit", finding("residual_face", crop=names[0])), crops[0])
    assert len(shown.images) == 1
    assert {file.name for file in (tmp_path / "audit").iterdir()} == {names[0], "mine.txt"}
    assert (tmp_path / "validate" / "theirs.jpg").is_file()
    page(tmp_path, inspection())
    assert {file.name for file in (tmp_path / "audit").iterdir()} == {"mine.txt"}


def test_equal_inspections_give_equal_files(tmp_path: Path) -> None:
    def written(folder: Path) -> list[bytes]:
        made = inspection(
            "audit", finding("groups", "note"), finding("residual_face"), figures={"groups": {"a": 1, "b": 2}}
        )
        write_inspection(made, [], folder)
        return [(folder / name).read_bytes() for name in ("audit.html", "audit.json")]

    assert written(tmp_path / "a") == written(tmp_path / "deeper" / "b") == written(tmp_path / "a")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(StorageError, match="is a file or lies under one; name a folder to write to"):
            write_inspection(inspection(), [], folder)
    (tmp_path / "audit").write_text("")
    with pytest.raises(StorageError, match="is a file"):
        write_inspection(inspection(), [], tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folders, "_write_synced", full)
    with pytest.raises(StorageError):
        write_inspection(inspection(), [], tmp_path / "full")


# figures


def only(found: list[Table]) -> Table:
    (table,) = found
    return table


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ({"hits": 1, "of": 8, "low": 0.022, "high": 0.471}, "1 of 8 (12.5%; 2.2% to 47.1%)"),
        ({"hits": 0, "of": 8, "low": 0.0, "high": 0.3, "upper_bound": 0.3}, "0 of 8 (0.0%; 0.0% to 30.0%)"),
        ({"hits": 0, "of": 0, "low": 0.0, "high": 1.0}, "0 of 0"),
        ([0.5, 0.25, 1.0], "50.0% (25.0% to 100.0%)"),
        ([-0.1, -0.25, 0.0], "-10.0% (-25.0% to 0.0%)"),
        ([1, 2, 3], "1, 2, 3"),
        ([2.5, 3.5, 4.5], "2.5, 3.5, 4.5"),
        ([0.5, 0.25], "0.5, 0.25"),
        ([], ""),
        ([None, "a", [1, 2]], "–, a, 1, 2"),
        (None, "–"),
        (True, "yes"),
        (False, "no"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        ("0 < 1", "0 < 1"),
    ],
)
def test_a_figure_is_a_cell(value: object, cell: str) -> None:
    table = only(tables({"a_name": value}, {}))  # type: ignore[dict-item]
    assert table == Table("", ("", ""), (("a name", cell),))


@pytest.mark.parametrize("nothing", [None, {}, [], {"kinds": {}}, {"a": {"b": {}}}, "text", 3])
def test_no_figures_are_no_table(nothing: object) -> None:
    assert tables(nothing, {}) == []  # type: ignore[arg-type]


def test_alike_figures_are_the_rows_of_one_table() -> None:
    table = only(tables({"face_alone": NESTED}, {"rank_1": "first", "face_alone": "Alone"}))
    assert table.title == "Alone"
    assert table.head == ("", "first", "auc")
    assert table.rows == (
        ("published", "50.0% (25.0% to 75.0%)", "–"),
        ("filled", "0.0% (0.0% to 12.5%)", ""),
    )


def test_unlike_figures_are_tables_of_their_own() -> None:
    found = tables({"around": NESTED, "very_same": {"published": 1}, "n": 2}, {})
    assert [table.title for table in found] == ["", "around", "very same"]
    assert not any(table.detail for table in found)


def test_what_lies_deep_is_a_detail() -> None:
    deep = {name: {"seconds": 1.5, "by_view": {"x1": {"on": 1}, "x2": {"on": 2}}} for name in ("a", "b")}
    first, *others = tables({"detectors": deep}, {})
    assert first == Table("detectors", ("", "seconds"), (("a", "1.5"), ("b", "1.5")))
    assert others == [
        Table(f"detectors: {name}: by view", ("", "on"), (("x1", "1"), ("x2", "2")), detail=True)
        for name in ("a", "b")
    ]


def test_names_from_labels_stay_as_they_are() -> None:
    known = {"small": "fewer than 10", "how": "how it was masked"}
    group = {"small": True, "face_found": 1}
    table = only(tables({"how": {"small": group, "how_so": group}}, known, labelled=True))
    assert table.title == "how"
    assert table.head == ("", "fewer than 10", "face found")
    assert [row[0] for row in table.rows] == ["small", "how_so"]


FIGURES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    else:
        yield value


@given(st.dictionaries(st.text(max_size=5), FIGURES, max_size=4))
def test_no_figure_is_lost_whatever_the_nesting(figures: dict[str, object]) -> None:
    found = tables(figures, {})  # type: ignore[arg-type]
    assert all(len(row) == len(table.head) for table in found for row in table.rows)
    cells = [cell for table in found for row in table.rows for cell in row[1:]]
    expected = [only(tables({"x": leaf}, {})).rows[0][1] for leaf in leaves(figures)]  # type: ignore[dict-item]
    assert sorted(cell for cell in cells if cell) == sorted(cell for cell in expected if cell)


def test_every_word_is_of_a_check_and_plain() -> None:
    checks = {check for about in ABOUT.values() for check in about}
    assert FIGURE_WORDS.keys() <= checks
    for known in FIGURE_WORDS.values():
        assert not [word for word in known.values() if "_" in word or not word]
        assert not [word for word in known.values() if re.search(r"\b(AUC|TAR|FAR|ROC)\b", word)]
    assert {*ATTACKS, FILLED, WHOLE, ALONE} <= FIGURE_WORDS["reidentification"].keys()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_complaint(
    chromium: Browser, scheme: str, width: int, tmp_path: Path
) -> None:
    """Long names and wide tables do not make the page wider than the window, and nothing is asked for outside."""
    evil = Finding(check="residual_face", where="w" * 2000, said="s" * 2000)
    figures = {
        "groups": {"c" * 300: {"v" * 500: {"small": True}, "b": {"small": False}}},
        "reidentification": {
            ALONE: {name: {f"n{n}": [0.5, 0.25, 0.75] for n in range(12)} for name in ATTACKS}
        },
        "matte_values": {"train": {"histogram_16": [0.123456] * 16}},
    }
    path = write_inspection(inspection("audit", evil, figures=figures, layout="p" * 500), [], tmp_path)
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    try:
        shown = context.new_page()
        complaints: list[str] = []
        asked: list[str] = []
        shown.on("console", lambda message: complaints.append(message.text))
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(path.as_uri())
        assert shown.evaluate("document.documentElement.scrollWidth") == width
        assert complaints == []
        assert asked == [path.as_uri()]
    finally:
        context.close()
