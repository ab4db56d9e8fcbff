"""Groups: whether the machine works as well for everybody, by labels that somebody gives in a CSV.

Labels are private. They appear in the private report only, and nothing of them is kept.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from pydantic import JsonValue

from p3m_data.errors import UsageError
from p3m_data.inspection.findings import About, Finding, Looked
from p3m_data.inspection.residual import Seen, where
from p3m_data.inspection.statistics import Rate, rate
from p3m_data.storage.masks import read_file
from p3m_data.types import Reason, Record, Status

if TYPE_CHECKING:
    from p3m_data.inspection.originals import Originals
    from p3m_data.storage.layouts import Layout

ABOUT: Mapping[str, About] = {
    "groups": About(
        "Groups of people",
        "For each group that the labels name: how many pictures had a face whose landmarks were trusted, how "
        "many waited for a person, and in how many an unmasked face was found, with 95 % intervals. A note says "
        "where a group's interval does not meet that of all others together.",
        "That groups are treated alike where no note is: with few pictures differences stay unseen, and groups "
        "of fewer than 10 are not compared. Nor that a difference is the machine's doing: the pictures of a "
        "group may differ in other ways. With many groups one note in some hundred comes by chance.",
    ),
}

KEYS = ("id", "file", "name")
"""Columns that say which picture a row is about."""
USUAL = ("age", "age_group", "gender", "sex", "skin_tone", "skin_type", "ethnicity", "race", "region",
         "glasses", "head_covering", "beard", "split", "source")  # fmt: skip
"""Columns that are taken for labels when none are named."""
EXAMPLES = "age, gender, skin_tone"
SMALL = 10
MOST_VALUES = 200
MOST_BYTES = 64 * 2**20


class Row(NamedTuple):
    """One line of the labels."""

    number: int
    key: str
    """POSIX path, stem or id, folded."""
    labels: dict[str, str]


class Case(NamedTuple):
    """One picture, and what became of it; None where that is not known."""

    names: tuple[str, ...]
    """Its id, and its source's path: what a row may call it."""
    outcomes: dict[str, bool | None]


class Groups(NamedTuple):
    findings: list[Finding]
    looked: list[Looked]
    figures: dict[str, JsonValue]


def groups(
    labels: Path,
    layout: Layout,
    originals: Originals,
    seen: Sequence[Seen],
    columns: Sequence[str] | None = None,
) -> Groups:
    """Rates by group for the pictures of `layout`, and with a ledger for those that wait, too.

    `labels`: a CSV; see `read_labels`, whose errors it raises. `seen`: what `residual` saw. `UsageError` when no
    row is about any picture.
    """
    rows = read_labels(labels, columns)
    known = cases(layout, originals, seen)
    matched = match(rows, known, labels.name)
    if not matched:
        raise UsageError(
            f"no row of {labels.name} names one of the {len(known)} pictures; "
            "its column id, file or name must hold their ids, source paths or stems"
        )
    findings: list[Finding] = []
    figures: dict[str, JsonValue] = {"pictures": len(known), "with_labels": len(matched)}
    why_not = [] if len(matched) == len(known) else [f"{len(known) - len(matched)} pictures have no labels"]
    for column in rows[0].labels:
        groups_of = defaultdict(list)
        for case, given in matched:
            if given[column]:
                groups_of[given[column]].append(case)
        if len(groups_of) > MOST_VALUES:
            why_not.append(f"{column} has more than {MOST_VALUES} values, so it makes no groups")
            continue
        figures[column], notes = _compare(column, groups_of)
        findings += notes
    return Groups(findings, [Looked(check="groups", at=len(matched), why_not="; ".join(why_not))], figures)


def read_labels(path: Path, columns: Sequence[str] | None = None) -> list[Row]:
    """The rows of a CSV (comma, semicolon or tab; UTF-8) with a column `id`, `file` or `name` and some of labels.

    columns: which to read; by default those of `USUAL`, and without any of these all. `UsageError` when the
    file cannot be read as that, or when two rows with the same key disagree about a label.
    """
    name = path.name
    header, lines = _lines(path)
    key, wanted = _columns(header, columns, name)
    rows = []
    for number, line in lines:
        if len(line) != len(header):
            raise UsageError(
                f"line {number} of {name} has {len(line)} cells instead of {len(header)}; repair it"
            )
        cells = dict(zip(header, (cell.strip() for cell in line), strict=True))
        if cells[key]:
            rows.append(Row(number, fold(cells[key]), {column: cells[column] for column in wanted}))
    _check_rows(rows, key, name)
    return rows


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The folded names of the columns, and every other line with its number."""
    data = read_file(path, MOST_BYTES)
    name = path.name
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 (byte {error.start}); save it as CSV in UTF-8") from error
    header_line = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max(",;\t", key=header_line.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, line) for line in reader if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise UsageError(f"{name} cannot be read as CSV ({error}); save it again as CSV") from error
    if len(lines) < 2:
        raise UsageError(f"{name} has no rows; it needs a line of column names and a row for each picture")
    return [cell.strip().casefold() for cell in lines[0][1]], lines[1:]


def label_columns(path: Path) -> list[str]:
    """The names of a labels file's columns that hold labels, folded; `UsageError` as `read_labels`."""
    header, _ = _lines(path)
    return [column for column in header if column not in KEYS and column]


def usual_columns(path: Path) -> list[str]:
    """Those of them that are known to name groups."""
    return [column for column in label_columns(path) if column in USUAL]


def _columns(header: Sequence[str], columns: Sequence[str] | None, name: str) -> tuple[str, list[str]]:
    """The key's column and those of the labels."""
    if doubled := [column for column in header if header.count(column) > 1]:
        raise UsageError(f"{name} has two columns {doubled[0]!r}; rename one")
    key = next((column for column in KEYS if column in header), None)
    if key is None:
        raise UsageError(f"{name} has no column id, file or name; one must say which picture a row is about")
    others = [column for column in header if column not in KEYS and column]
    wanted = [column.casefold() for column in columns or ()]
    if missing := [column for column in wanted if column not in others]:
        raise UsageError(f"{name} has no column {missing[0]!r}; it has {', '.join(header)}")
    wanted = wanted or [column for column in others if column in USUAL] or others
    if not wanted:
        raise UsageError(f"{name} has no column of labels; add for instance gender or age")
    return key, wanted


def _check_rows(rows: Sequence[Row], key: str, name: str) -> None:
    if not rows:
        raise UsageError(f"no row of {name} has anything in its column {key}; fill it in")
    first: dict[str, Row] = {}
    for row in rows:
        before = first.setdefault(row.key, row)
        if before.labels != row.labels:
            raise UsageError(
                f"lines {before.number} and {row.number} of {name} are about the same picture and differ; keep one"
            )


def fold(name: str) -> str:
    """A path, stem or id in the form in which names are compared."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).casefold().removeprefix("./").strip("/")


def match(rows: Sequence[Row], known: Sequence[Case], name: str) -> list[tuple[Case, dict[str, str]]]:
    """Each case with its labels, where there are any.

    A row is about a picture when it gives its id, its source's path or the end of it (or more of it, such as
    `images/`), or, if no row does, its stem. Of several rows that do, each may fill in what others leave empty;
    `UsageError` when they differ.
    """
    by_name, by_stem = defaultdict(list), defaultdict(list)
    for row in rows:
        path = PurePosixPath(row.key)
        by_name[path.name].append(row)
        by_stem[path.name if path.name.startswith("p_") else path.stem].append(row)
    found = []
    for case in known:
        names = [PurePosixPath(fold(n)) for n in case.names]
        exact = [row for n in names for row in by_name[n.name] if _ends_alike(row.key, str(n))]
        chosen = exact or [row for n in names for row in by_stem[n.stem]]
        if chosen:
            found.append((case, _merged(chosen, name)))
    return found


def _ends_alike(one: str, other: str) -> bool:
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")


def _merged(rows: Iterable[Row], name: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    origin: dict[str, int] = {}
    for row in rows:
        for column, value in row.labels.items():
            if value and labels.get(column, "") not in ("", value):
                raise UsageError(
                    f"lines {origin[column]} and {row.number} of {name} could both be about one picture, and "
                    f"their {column} differs; give the pictures' full paths"
                )
            if value or column not in labels:
                labels[column], origin[column] = value, row.number
    return labels


def cases(layout: Layout, originals: Originals, seen: Sequence[Seen]) -> list[Case]:
    """What became of each picture: of all in the ledger but failed and doubled ones, else of the published ones."""
    looks = {one.where: one for one in seen if one.seconds}
    if originals.ledger is not None:
        left_out = (Status.FAILED, Status.DUPLICATE, Status.PENDING)
        records = (record for record in originals.ledger.records() if record.status not in left_out)
        return [_case_of_record(record, looks.get(record.id or "")) for record in records]
    return list(_cases_of_samples(layout, originals, looks))


def _case_of_record(record: Record, look: Seen | None) -> Case:
    by_person = (Reason.REVIEWED, Reason.CONFIRMED_NO_FACE, Reason.EXCLUDED)
    outcomes = {
        "face_found": any(face.how == "landmarks" for face in record.faces),
        "waited_for_review": record.status is Status.NEEDS_REVIEW or record.reason in by_person,
        "unmasked_face": None if look is None else _is_faulty(look),
    }
    return Case(tuple(filter(None, (record.id, record.source))), outcomes)


def _cases_of_samples(layout: Layout, originals: Originals, looks: Mapping[str, Seen]) -> Iterator[Case]:
    for sample in layout.samples:
        look = looks.get(where(layout, sample))
        path = originals.path(sample)
        outcomes: dict[str, bool | None] = {
            "face_found": None if look is None else any(p.how != "unmasked" for p in look.people),
            "waited_for_review": None,
            "unmasked_face": None if look is None else _is_faulty(look),
        }
        names = (sample.files["image"], sample.name, path.name if path is not None else "")
        yield Case(tuple(filter(None, names)), outcomes)


def _is_faulty(look: Seen) -> bool:
    return any(finding.level == "fault" for finding in look.findings)


def _compare(column: str, groups_of: Mapping[str, Sequence[Case]]) -> tuple[JsonValue, list[Finding]]:
    """The rates of each group of one column, and a note for each that differs from the others together."""
    told: dict[str, JsonValue] = {}
    notes = []
    for value, members in sorted(groups_of.items()):
        others = [case for name, group in groups_of.items() if name != value for case in group]
        figures: dict[str, JsonValue] = {"pictures": len(members), "small": len(members) < SMALL}
        for outcome in members[0].outcomes:
            here, there = _rate(members, outcome), _rate(others, outcome)
            if not here.of:
                continue
            figures[outcome] = dict(here.figure())
            if min(here.of, there.of) >= SMALL and (here.low > there.high or here.high < there.low):
                notes.append(_note(column, value, outcome, here, there))
        told[value] = figures
    return told, notes


def _rate(members: Iterable[Case], outcome: str) -> Rate:
    known = [case.outcomes[outcome] for case in members if case.outcomes[outcome] is not None]
    return rate(sum(map(bool, known)), len(known))


def _note(column: str, value: str, outcome: str, here: Rate, there: Rate) -> Finding:
    words = outcome.replace("_", " ")
    return Finding(
        check="groups",
        where="",
        said=f"{words}, {column} {value}: {here.words}; all others: {there.words}",
        level="note",
        value=here.share,
        limit=there.high if here.low > there.high else there.low,
    )
