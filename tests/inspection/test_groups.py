"""Labels from a CSV, matched to pictures, and rates by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from p3m_data.errors import UsageError
from p3m_data.inspection.findings import Finding
from p3m_data.inspection.groups import ABOUT, Case, Groups, fold, groups, match, read_labels
from p3m_data.inspection.originals import Originals
from p3m_data.inspection.residual import Person, Seen
from p3m_data.pipeline.ledger import Ledger
from p3m_data.storage.layouts import Layout, Sample
from p3m_data.types import Face, Reason, Record, Source, Status


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "labels.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def looked(where: str, *levels: str) -> Seen:
    findings = tuple(Finding(check="residual_face", where=where, said="x", level=level) for level in levels)  # type: ignore[arg-type]
    return Seen(where, findings, (), (Person("facemask", None, None),), Counter(), frozenset(), {"a": 1.0})


def plain(root: Path, names: Sequence[str]) -> Layout:
    samples = tuple(Sample("train", n, {"image": f"train/blurred_image/{n}.jpg"}, True) for n in names)
    return Layout("P3M-10k 2021", root, samples, (), None)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n"])
def test_labels_are_read_however_spreadsheets_write_them(tmp_path: Path, delimiter: str, start: str) -> None:
    lines = ["File,Gender,Notes", 'images/A b.JPG,f,"said ""x"""', "", ",m,", "B.png, m ,"]
    text = start + "\r\n".join(line.replace(",", delimiter) for line in lines) + "\r\n"
    rows = read_labels(written(tmp_path, text))
    assert [(row.key, row.labels) for row in rows] == [
        ("images/a b.jpg", {"gender": "f"}),
        ("b.png", {"gender": "m"}),
    ]


def test_columns_can_be_named_and_unusual_ones_are_taken_when_there_is_no_other(tmp_path: Path) -> None:
    file = written(tmp_path, "id,age,hat\np_1,30,yes\n")
    assert read_labels(file)[0].labels == {"age": "30"}
    assert read_labels(file, ["Hat"])[0].labels == {"hat": "yes"}
    assert read_labels(written(tmp_path, "name,hat\nx,yes\n"))[0].labels == {"hat": "yes"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"file,age\n\xff\xfe,3\n", "is not UTF-8"),
        ("", "has no rows"),
        ("file,age\n", "has no rows"),
        ("picture,age\na,3\n", "no column id, file or name"),
        ("file\na\n", "no column of labels"),
        ("file,age,age\na,3,4\n", "two columns 'age'"),
        ("file,age\na,3,4\n", "line 2 of labels.csv has 3 cells instead of 2"),
        ('file,age\na,"3\n', "cannot be read as CSV"),
        ("file,age\n,3\n", "has anything in its column file"),
        ("file,age\na.jpg,3\nA.jpg,4\n", "lines 2 and 3 of labels.csv are about the same picture"),
    ],
)
def test_a_bad_csv_is_one_sentence(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        read_labels(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.csv"):
        with pytest.raises(UsageError, match=r"cannot be read|not a file"):
            read_labels(path)
    with pytest.raises(UsageError, match="has no column 'hat'"):
        read_labels(written(tmp_path, "id,age\np_1,3\n"), ["hat"])


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("p_0123456789abcdef", ("p_0123456789abcdef", "x/y.jpg")),
        ("images/Anna.JPG", ("p_1", "anna.jpg")),
        ("anna.jpg", ("p_1", "2021/anna.jpg")),
        ("ANNA", ("p_1", "2021/anna.jpg")),
        ("set\\anna.png", ("p_1", "anna.jpg")),
        ("Zoe\u0308", ("p_1", "zoë.jpg")),
    ],
)
def test_names_that_match(tmp_path: Path, key: str, names: tuple[str, ...]) -> None:
    rows = read_labels(written(tmp_path, f"file,age\n{key},3\nother,4\n"))
    ((case, labels),) = match(rows, [Case(names, {}), Case(("p_2", "nobody.jpg"), {})], "l")
    assert (case.names, labels) == (names, {"age": "3"})


def test_a_full_path_goes_before_a_stem_and_rows_fill_each_other_in(tmp_path: Path) -> None:
    text = "file,age,sex\nimages/a.png,3,\nmattes/a.png,,f\ntrimaps/a.jpg,9,m\n"
    rows = read_labels(written(tmp_path, text))
    ((_, labels),) = match(rows, [Case(("a.png",), {})], "l")
    assert labels == {"age": "3", "sex": "f"}


def test_rows_that_contradict_each_other(tmp_path: Path) -> None:
    rows = read_labels(written(tmp_path, "file,age\nx/a.png,3\ny/a.png,4\n"))
    with pytest.raises(UsageError, match="lines 2 and 3 of l could both be about one picture"):
        match(rows, [Case(("a.png",), {})], "l")
    ((_, labels),) = match(rows, [Case(("y/a.png",), {})], "l")
    assert labels == {"age": "4"}


def test_no_row_matches(tmp_path: Path) -> None:
    file = written(tmp_path, "file,age\nq.png,3\n")
    with pytest.raises(UsageError, match=r"no row of labels.csv names one of the 1 pictures"):
        groups(file, plain(tmp_path, ["a"]), Originals(), [])


def compared(folder: Path, faulty: int, others: int, size: int = 20) -> Groups:
    """Groups u and v of `size` pictures, of which the first `faulty` and `others` have a fault."""
    names = [f"{group}{i}" for group in "uv" for i in range(size)]
    bad = {f"u{i}" for i in range(faulty)} | {f"v{i}" for i in range(others)}
    layout = plain(folder, names)
    seen = [looked(s.files["image"], "fault" if s.name in bad else "note") for s in layout.samples]
    file = written(folder, "name,skin_tone\n" + "".join(f"{n},{n[0]}\n" for n in names))
    return groups(file, layout, Originals(), seen)


def test_a_group_that_differs_is_a_note(tmp_path: Path) -> None:
    found = compared(tmp_path, 15, 2)
    assert {note.level for note in found.findings} == {"note"}
    assert {note.check for note in found.findings} == ABOUT.keys()
    first, second = found.findings
    assert "skin_tone u: 15 of 20" in first.said
    assert "all others: 2 of 20" in first.said
    assert "skin_tone v: 2 of 20" in second.said
    figures = found.figures["skin_tone"]
    assert isinstance(figures, dict)
    assert figures["u"]["unmasked_face"]["hits"] == 15  # type: ignore[index,call-overload]
    assert "waited_for_review" not in figures["u"]  # type: ignore[operator]


def test_groups_that_do_not_differ_or_are_small_make_no_note(tmp_path: Path) -> None:
    assert compared(tmp_path, 9, 7).findings == []
    small = compared(tmp_path, 9, 0, size=9)
    assert small.findings == []
    figures = small.figures["skin_tone"]
    assert isinstance(figures, dict)
    assert all(group["small"] for group in figures.values())  # type: ignore[index,call-overload]


def test_a_column_of_free_text_makes_no_groups(tmp_path: Path) -> None:
    names = [f"n{i}" for i in range(201)]
    file = written(tmp_path, "name,note\n" + "".join(f"{n},about {n}\n" for n in names))
    found = groups(file, plain(tmp_path, [*names, "unlabelled"]), Originals(), [])
    assert "note" not in found.figures
    assert found.looked[0].at == 201
    assert "1 pictures have no labels; note has more than 200 values" in found.looked[0].why_not


def test_with_a_ledger_pictures_that_wait_count_too(tmp_path: Path) -> None:
    face = Face(box=(0, 0, 9, 9), score=1, detectors=("x",), how="landmarks")
    kinds = {
        "a.jpg": (Status.ANONYMIZED, None, (face,)),
        "b.jpg": (Status.NEEDS_REVIEW, Reason.NO_FACE, ()),
        "c.jpg": (Status.ANONYMIZED, Reason.REVIEWED, (face,)),
        "d.jpg": (Status.FAILED, Reason.UNREADABLE, ()),
    }
    with Ledger(tmp_path / "ledger.sqlite", create=True) as ledger:
        ledger.add(Source(path=name, size=1, mtime_ns=1) for name in kinds)
        for name, (status, reason, faces) in kinds.items():
            public = None if status is Status.FAILED else f"p_{ord(name[0]):08x}"
            ledger.commit(Record(source=name, id=public, status=status, reason=reason, faces=faces))
        file = written(tmp_path, "file,sex\n" + "".join(f"photos/{name},f\n" for name in kinds))
        layout = Layout("p3mdata", tmp_path, (), (), None)
        found = groups(file, layout, Originals(ledger=ledger), [looked("p_00000061", "fault")])
    figures = found.figures["sex"]
    assert isinstance(figures, dict)
    shares = {k: (v["hits"], v["of"]) for k, v in figures["f"].items() if isinstance(v, dict)}  # type: ignore[union-attr,index,call-overload]
    assert shares == {"face_found": (2, 3), "waited_for_review": (2, 3), "unmasked_face": (1, 1)}


def test_fold() -> None:
    assert fold(".\\Set\\Zoe\u0308.JPG") == "set/zoë.jpg"
