"""The page and the JSON of `validate` and `audit`: what was looked at, what was found, what it means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from pydantic import JsonValue

from p3m_data.inspection.about import ABOUT, FIGURE_WORDS, NAMED_BY_LABELS
from p3m_data.inspection.findings import About, Crop, Finding, Inspection, Looked
from p3m_data.report.contact import template
from p3m_data.storage.folders import check_writable, write_atomic

SHOWN = 100
"""Findings of a check that the page shows; the JSON has all."""
HEADINGS = {
    "validate": ("Validation", "Is this dataset right?"),
    "audit": ("Privacy audit", "Can anybody still be recognised, or does anything else leak?"),
}


class Table(NamedTuple):
    """Figures with the same columns."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    detail: bool = False
    """Whether it is for those who want to know more."""


class Section(NamedTuple):
    """One check on the page."""

    name: str
    about: About
    looked: Looked
    faults: int
    notes: int
    findings: tuple[Finding, ...]
    tables: tuple[Table, ...]

    @property
    def made(self) -> bool:
        return self.looked.at > 0 or not self.looked.why_not


def write_inspection(inspection: Inspection, crops: Iterable[Crop], folder: Path) -> Path:
    """Writes NAME.html, NAME.json and the crops (to the folder NAME) into `folder`; the path of the page.

    NAME is the command. Crops of an earlier inspection are removed. `StorageError` when the folder cannot be
    written.
    """
    name = inspection.command
    beside = folder / name
    check_writable(beside)
    for old in beside.glob("*.jpg"):
        old.unlink(missing_ok=True)
    for crop in crops:
        write_atomic(beside / crop.name, crop.jpeg)
    write_atomic(folder / f"{name}.json", inspection.to_json().encode())
    title, question = HEADINGS[name]
    sections = [_section(looked, inspection) for looked in inspection.looked]
    html = template("inspection.html").render(
        inspection=inspection,
        title=title,
        question=question,
        sections=sections,
        made=sum(section.made for section in sections),
        shown=SHOWN,
        page=1,
        pages=1,
    )
    write_atomic(folder / f"{name}.html", html.encode())
    return folder / f"{name}.html"


def _section(looked: Looked, inspection: Inspection) -> Section:
    findings = [finding for finding in inspection.findings if finding.check == looked.check]
    findings.sort(key=lambda finding: finding.level != "fault")
    return Section(
        name=looked.check,
        about=ABOUT[inspection.command][looked.check],
        looked=looked,
        faults=inspection.counts("fault")[looked.check],
        notes=inspection.counts("note")[looked.check],
        findings=tuple(findings[:SHOWN]),
        tables=tuple(
            tables(
                inspection.figures.get(looked.check),
                FIGURE_WORDS.get(looked.check, {}),
                labelled=looked.check in NAMED_BY_LABELS,
            )
        ),
    )


def tables(figures: JsonValue, words: Mapping[str, str], *, labelled: bool = False) -> list[Table]:
    """Figures, however nested, as tables: one for the single ones, one for each group of alike ones.

    words: what the names of figures mean. labelled: titles and rows are named by somebody's labels, which stay
    as they are.
    """
    return list(_tables("", figures, _Words(words, labelled))) if isinstance(figures, dict) else []


class _Words(NamedTuple):
    known: Mapping[str, str]
    labelled: bool

    def of_figure(self, name: str) -> str:
        return self.known.get(name, name.replace("_", " "))

    def of_group(self, name: str) -> str:
        return name if self.labelled else self.of_figure(name)


def _tables(title: str, figures: dict[str, JsonValue], words: _Words) -> Iterator[Table]:
    groups = {name: value for name, value in figures.items() if _is_nested(value)}
    if len(groups) == len(figures) > 1 and _have_common(groups.values()):
        yield from _alike(title, groups, words)
        return
    if single := {name: value for name, value in figures.items() if not _is_nested(value)}:
        rows = tuple((words.of_figure(name), _cell(value)) for name, value in single.items())
        yield Table(title, ("", ""), rows)
    for name, value in groups.items():
        yield from _tables(_joined(title, words.of_group(name)), value, words)


def _alike(title: str, groups: dict[str, dict[str, JsonValue]], words: _Words) -> Iterator[Table]:
    """One table of the single figures of all `groups`, a row for each; then tables of what they hold nested."""
    single = {
        group: {name: value for name, value in figures.items() if not _is_nested(value)}
        for group, figures in groups.items()
    }
    if names := list(dict.fromkeys(name for figures in single.values() for name in figures)):
        rows = tuple(
            (words.of_group(group), *(_cell(figures[name]) if name in figures else "" for name in names))
            for group, figures in single.items()
        )
        yield Table(title, ("", *map(words.of_figure, names)), rows)
    for group, figures in groups.items():
        if nested := {name: value for name, value in figures.items() if _is_nested(value)}:
            for name, value in nested.items():
                deeper = _joined(_joined(title, words.of_group(group)), words.of_figure(name))
                yield from (table._replace(detail=True) for table in _tables(deeper, value, words))


def _have_common(groups: Iterable[dict[str, JsonValue]]) -> bool:
    """Whether all groups hold a figure of one name, as rows of a table do."""
    names = [{name for name, value in figures.items() if not _is_nested(value)} for figures in groups]
    return bool(set.intersection(*names))


def _joined(title: str, more: str) -> str:
    return f"{title}: {more}" if title else more


def _is_nested(value: JsonValue) -> TypeGuard[dict[str, JsonValue]]:
    return isinstance(value, dict) and not _is_rate(value)


def _is_rate(value: Mapping[str, JsonValue]) -> bool:
    return {"hits", "of", "low", "high"} <= value.keys()


def _is_interval(value: JsonValue) -> bool:
    """Whether it is a share with both ends of its interval, or the difference of two shares."""
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(v, float) and -1 <= v <= 1 for v in value)
    )


def _cell(value: JsonValue) -> str:
    """A figure: [value, low, high] with its interval, a rate, a number."""
    if isinstance(value, dict) and _is_rate(value):
        of: Any = value["of"]
        if not of:
            return "0 of 0"
        hits, low, high = (float(value[key]) for key in ("hits", "low", "high"))  # type: ignore[arg-type]
        return f"{hits:.0f} of {of} ({hits / of:.1%}; {low:.1%} to {high:.1%})"
    if isinstance(value, list):
        if _is_interval(value):
            share, low, high = (float(v) for v in value)  # type: ignore[arg-type]
            return f"{share:.1%} ({low:.1%} to {high:.1%})"
        return ", ".join(_cell(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)
