"""Audit: can anybody still be recognised, or does anything else leak?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from pydantic import JsonValue

import p3m_data
from p3m_data.errors import MissingExtra, WeightsError
from p3m_data.inspection import bystanders, groups, leaks, reidentify, residual
from p3m_data.inspection.attacker import WHOLE
from p3m_data.inspection.findings import About, Crop, Finding, Inspection, Looked
from p3m_data.inspection.networks import find_detectors
from p3m_data.inspection.originals import Originals
from p3m_data.inspection.people import identities
from p3m_data.inspection.residual import Seen
from p3m_data.pipeline.dataset import Dataset
from p3m_data.storage.layouts import Layout, recognise

Part = Literal["leaks", "faces", "recognition"]
PARTS: tuple[Part, ...] = get_args(Part)

CHECKS: Mapping[Part, Mapping[str, About]] = {
    "faces": {**residual.ABOUT, **bystanders.ABOUT, **groups.ABOUT},
    "recognition": reidentify.ABOUT,
    "leaks": leaks.ABOUT,
}
ABOUT: Mapping[str, About] = {name: about for part in CHECKS.values() for name, about in part.items()}

AROUND = (WHOLE, "very_same_photo")
"""Figures of re-identification that tell of what is around the face."""
LEFT_OUT = "it was not asked for (--only)"
NO_LABELS = "no labels were given (--labels FILE)"


class Audited(NamedTuple):
    inspection: Inspection
    crops: list[Crop]
    """Places in published pictures that the findings are about; private."""


class _Result:
    """What the parts found so far."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.looked: dict[str, Looked] = {}
        self.figures: dict[str, JsonValue] = {}
        self.crops: list[Crop] = []

    def add(
        self, findings: Sequence[Finding], looked: Sequence[Looked], figures: Mapping[str, JsonValue]
    ) -> None:
        self.findings += findings
        self.looked |= {one.check: one for one in looked}
        self.figures |= figures

    def not_made(self, checks: Mapping[str, About], why: str) -> None:
        self.looked |= {check: Looked(check=check, why_not=why) for check in checks}


def audit(
    root: Path,
    *,
    originals: Path | None = None,
    private: Path | None = None,
    labels: Path | None = None,
    group_columns: Sequence[str] | None = None,
    parts: Sequence[Part] = PARTS,
    detectors: Sequence[str] | None = None,
    workers: int = 1,
    on_progress: Callable[[str, int, int], None] = lambda _part, _done, _total: None,
) -> Audited:
    """The checks of `ABOUT` on the dataset in the folder `root`; a dataset of any known layout.

    originals: their folder (default: where the ledger says). private: the private folder of one of ours (default:
    ROOT.private, if there is one). labels: a CSV that says who is in the pictures, and what groups they belong to
    (see `groups.read_labels`). `UsageError` when `root` is no dataset, a named folder or label is not there.
    """
    layout = recognise(root)
    sides = Dataset.at(root, private)
    result = _Result()
    with Originals.of(layout, originals, private) as known:
        # what the user got wrong is said before the long work, not after it
        people = identities(labels, layout, known) if labels is not None and "recognition" in parts else {}
        columns = _group_columns(labels, group_columns) if labels is not None and "faces" in parts else []
        if labels is not None and columns:
            groups.groups(labels, layout, known, (), columns)
        if "faces" in parts:
            find_detectors(detectors)
        if "leaks" in parts:
            folder = sides.private if known.ledger is not None else None
            result.add(
                *leaks.leaks(
                    layout, workers=workers, private=folder, on_progress=_named("leaks", on_progress)
                )
            )
        if "faces" in parts:
            _faces(result, layout, known, labels, columns, detectors, workers, _named("faces", on_progress))
        if "recognition" in parts:
            _recognition(result, layout, known, people, labels, workers, _named("recognition", on_progress))
    for part in set(PARTS) - set(parts):
        result.not_made(CHECKS[part], LEFT_OUT)
    inspection = Inspection(
        command="audit",
        layout=layout.kind,
        pictures=len(layout.samples),
        code_version=p3m_data.__version__,
        looked=tuple(result.looked[check] for check in ABOUT),
        findings=tuple(sorted(result.findings, key=_order)),
        figures=result.figures,
    )
    return Audited(inspection, result.crops)


def _faces(
    result: _Result,
    layout: Layout,
    known: Originals,
    labels: Path | None,
    columns: Sequence[str],
    detectors: Sequence[str] | None,
    workers: int,
    on_progress: Callable[[int, int], None],
) -> None:
    found = residual.residual(layout, known, detectors=detectors, workers=workers, on_progress=on_progress)
    result.add(found.findings, found.looked, {"residual_face": found.figures})
    result.crops += found.crops
    beside = bystanders.bystanders(found.seen)
    result.add(beside.findings, beside.looked, {"bystanders": beside.figures})
    _groups(result, layout, known, labels, columns, found.seen)


def _group_columns(labels: Path, columns: Sequence[str] | None) -> list[str]:
    return list(columns or groups.usual_columns(labels))


def _groups(
    result: _Result,
    layout: Layout,
    known: Originals,
    labels: Path | None,
    columns: Sequence[str],
    seen: Sequence[Seen],
) -> None:
    if labels is None:
        result.not_made(groups.ABOUT, NO_LABELS)
        return
    if not columns:
        result.not_made(
            groups.ABOUT, f"{labels.name} has no column that names groups (such as {groups.EXAMPLES})"
        )
        return
    compared = groups.groups(labels, layout, known, seen, columns)
    result.add(compared.findings, compared.looked, {"groups": compared.figures})


def _recognition(
    result: _Result,
    layout: Layout,
    known: Originals,
    people: Mapping[str, str],
    labels: Path | None,
    workers: int,
    on_progress: Callable[[int, int], None],
) -> None:
    if labels is None or known.folder is None:
        result.not_made(reidentify.ABOUT, known.why_not if known.folder is None else NO_LABELS)
        return
    try:
        told = reidentify.reidentify(layout, known, people, workers=workers, on_progress=on_progress)
    except (MissingExtra, WeightsError) as error:
        result.not_made(reidentify.ABOUT, str(error))
        return
    around = {name: value for name, value in told.figures.items() if name in AROUND}
    faces = {name: value for name, value in told.figures.items() if name not in AROUND}
    figures: dict[str, JsonValue] = {"reidentification": faces, "surroundings": around}
    result.add(told.findings, told.looked, {check: value for check, value in figures.items() if value})


def _named(part: str, on_progress: Callable[[str, int, int], None]) -> Callable[[int, int], None]:
    return lambda done, total: on_progress(part, done, total)


def _order(finding: Finding) -> tuple[int, bool, str, str]:
    return list(ABOUT).index(finding.check), finding.level != "fault", finding.where, finding.said
