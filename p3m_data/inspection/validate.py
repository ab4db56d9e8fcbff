"""Validate: is this dataset right? Every file against its mates, the manifest, and the originals if at hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue

import p3m_data
from p3m_data.errors import MissingExtra
from p3m_data.inspection.duplicates import DuplicateConfig, can_hash, near_pairs
from p3m_data.inspection.findings import TIME_LIMIT, Finding, Inspection, Level, Looked, OnProgress, unheard
from p3m_data.inspection.ids import ID
from p3m_data.inspection.listing import (
    Sums,
    index_manifest,
    layout_findings,
    order_findings,
    pattern_findings,
)
from p3m_data.inspection.originals import Originals
from p3m_data.inspection.samples import LIMITS, Inspected, Job, SampleConfig, Task
from p3m_data.inspection.validate_about import ABOUT as ABOUT
from p3m_data.matte.validation import MatteFigures
from p3m_data.pipeline.engines import WorkerLost, run_local
from p3m_data.storage.folders import locate
from p3m_data.storage.layouts import SUMS, Layout, recognise
from p3m_data.types import Frozen

WHY_NOT = {
    "matte": "there are no mattes",
    "trimap": "there are no trimaps (with mattes)",
    "facemask": "there are no facemasks (with mattes)",
    "changed": "there are no originals with facemasks",
    "manifest": "there is no manifest",
    "checksums": "there is no manifest",
    "sums": f"there is no {SUMS}",
    "id": "the ids are not p3mdata's",
}
"""First word of a check -> why it was made nowhere."""


class ValidateConfig(Frozen):
    """What counts as wrong."""

    sample: SampleConfig = SampleConfig()
    duplicates: DuplicateConfig = DuplicateConfig()


DEFAULTS = ValidateConfig()


class _Place(NamedTuple):
    split: str
    path: str


def validate(
    root: Path,
    *,
    originals: Path | None = None,
    private: Path | None = None,
    workers: int = 1,
    config: ValidateConfig = DEFAULTS,
    on_progress: OnProgress = unheard,
) -> Inspection:
    """Every check of `ABOUT` on the dataset in the folder `root`; a dataset of any known layout.

    `originals`: folder of the originals; `private`: the private folder of one of ours (default: ROOT.private, if
    there is one). `UsageError` when `root` is no dataset or a named folder is not there.
    """
    layout = recognise(root)
    with Originals.of(layout, originals, private) as known:
        return _Validation(layout, known, _as_run(config, known)).inspect(workers, on_progress)


def _as_run(config: ValidateConfig, known: Originals) -> ValidateConfig:
    """`config` with the tolerances that the dataset was made with."""
    if known.config is None:
        return config
    matte = config.sample.matte.model_copy(update={"tolerance": known.config.mask.tolerance})
    sample = config.sample.model_copy(update={"matte": matte, "verify": known.config.verify})
    return config.model_copy(update={"sample": sample})


class _Validation:
    """One validation under way; of a picture it keeps hashes only."""

    def __init__(self, layout: Layout, known: Originals, config: ValidateConfig) -> None:
        self.layout = layout
        self.known = known
        self.config = config
        self.ours = layout.kind == "p3mdata"
        self.findings: list[Finding] = []
        self.looked: Counter[str] = Counter()
        self.rows: dict[str, tuple[int, int]] = {}
        self.places: list[_Place] = []
        self.pixels: list[bytes] = []
        self.hashes: list[tuple[int, int]] = []
        self.mattes: defaultdict[str, list[MatteFigures]] = defaultdict(list)
        self.sources: list[tuple[str, str, int]] = []
        """Id, path and time of each source."""
        self.sums = Sums.read(layout)

    def inspect(self, workers: int, on_progress: OnProgress) -> Inspection:
        layout = self.layout
        self._add(
            layout_findings(layout), "dataset_empty", "mates", "double_stems", "name_case", "stray_files"
        )
        if layout.manifest is not None:
            rows, findings = index_manifest(layout.manifest)
            self.rows = rows
            self._add(findings, "manifest_rows", at=len(rows))
            self._add(self._unmatched(), "manifest_files", at=0)
        limits = self.known.config.limits if self.known.config is not None else LIMITS
        job = Job(layout.root, self.ours, layout.manifest, self.known.key, self.config.sample, limits)
        total = len(layout.samples)
        on_progress(0, total)
        for done, (task, seen) in enumerate(
            run_local(self._tasks(), job, workers, time_limit=TIME_LIMIT), start=1
        ):
            self._take(task, seen)
            on_progress(done, total)
        if self.sums is not None:
            self._add(self.sums.rest(), "sums_file", at=self.sums.count)
        self._ids()
        self._duplicates()
        return Inspection(
            command="validate",
            layout=layout.kind,
            pictures=total,
            code_version=p3m_data.__version__,
            looked=tuple(
                Looked(check=check, at=self.looked[check], why_not=self._why_not(check)) for check in ABOUT
            ),
            findings=tuple(sorted(self.findings, key=_order)),
            figures=self._figures(),
        )

    def _add(self, findings: Iterator[Finding] | list[Finding], *checks: str, at: int | None = None) -> None:
        self.findings += findings
        self.looked.update(dict.fromkeys(checks, len(self.layout.samples) if at is None else at))

    def _unmatched(self) -> Iterator[Finding]:
        """Pictures without a row, and rows without a picture."""
        names = {sample.name for sample in self.layout.samples}
        for sample in self.layout.samples:
            if sample.name not in self.rows:
                said = "The manifest has no row for this picture."
                yield Finding(check="manifest_files", where=sample.files["image"], said=said)
        for name in sorted(self.rows.keys() - names):
            said = "The manifest has a row of this id, but its picture is not there."
            yield Finding(check="manifest_files", where=name, said=said)

    def _tasks(self) -> Iterator[Task]:
        for sample in self.layout.samples:
            original = self.known.path(sample)
            task = Task(sample, self.rows.get(sample.name), original)
            record = self.known.record(sample)
            if record is None:
                if self.known.ledger is not None:
                    said = "The private ledger knows no picture of this id."
                    self.findings.append(Finding(check="id_keyed", where=sample.files["image"], said=said))
                yield task
                continue
            if (
                self.known.ledger is not None
                and (source := self.known.ledger.source(sample.name)) is not None
            ):
                self.sources.append((sample.name, source.path, source.mtime_ns))
            matte = None
            if record.matte is not None:
                # an id covers the matte, too: without it nothing can be said of the id
                matte = None if self.known.mattes is None else locate(self.known.mattes, record.matte)
                if matte is None or not matte.is_file():
                    yield task
                    continue
            yield task._replace(source=record.source, original_matte=matte)

    def _take(self, task: Task, seen: Inspected | WorkerLost) -> None:
        sample = task.sample
        path = sample.files["image"]
        if isinstance(seen, WorkerLost):
            said = f"It could not be inspected: {seen.detail}"
            self.findings.append(Finding(check="inspected", where=path, said=said))
            return
        self.findings += seen.findings
        self.looked.update([*seen.looked, "inspected"])
        if self.sums is not None:
            self.findings += self.sums.compare(seen.sums)
        if seen.figures is not None:
            self.mattes[sample.split].append(seen.figures)
        if seen.pixels is not None:
            self.places.append(_Place(sample.split, path))
            self.pixels.append(seen.pixels)
            self.hashes.append(seen.hashes)

    def _ids(self) -> None:
        if not self.ours:
            return
        names = [sample.name for sample in self.layout.samples]
        self._add(pattern_findings(self.layout.samples), "id_pattern")
        self._add(order_findings([name for name in names if ID.fullmatch(name)], self.sources), "id_order")

    def _duplicates(self) -> None:
        """Workers answer in any order, so what is a duplicate of what follows from the paths."""
        order = sorted(range(len(self.places)), key=lambda index: self.places[index])
        places = [self.places[index] for index in order]
        first: dict[tuple[bytes, str], int] = {}
        same: list[tuple[int, int]] = []
        for at, index in enumerate(order):
            keys = [(self.pixels[index], split) for split in self._splits]
            same += [(first[key], at) for key in keys if key in first]
            first.setdefault((self.pixels[index], places[at].split), at)
        for earlier, later in same:
            said = "shows the same picture as"
            self.findings.append(_twice("duplicates", places[earlier], places[later], said))
        self.looked["duplicates"] = len(places)
        if not can_hash():
            return
        hashed = np.array([self.hashes[index] for index in order], np.uint64).reshape(-1, 2)
        splits = np.array([self._splits.index(place.split) for place in places], np.int64)
        known = set(same)
        for pair in near_pairs(hashed[:, 0], hashed[:, 1], splits, self.config.duplicates):
            if pair[:2] not in known:
                said = f"is nearly the same ({pair.phash} and {pair.dhash} of 64 bits differ) as"
                a, b = places[pair.first], places[pair.second]
                self.findings.append(_twice("near_duplicates", a, b, said))
        self.looked["near_duplicates"] = len(places)

    @property
    def _splits(self) -> list[str]:
        return sorted(self.layout.roles)

    def _why_not(self, check: str) -> str:
        at = self.looked[check]
        if check.startswith("changed") and self.known.why_not:
            return self.known.why_not
        if check == "id_keyed" and self.ours and not at:
            return "the secret, the originals and their mattes are not all at hand"
        if check == "near_duplicates" and not can_hash():
            return str(MissingExtra("ImageHash", "audit"))
        if at or check in ("dataset_empty",):
            return ""
        return WHY_NOT.get(check.split("_")[0], "there was nothing to look at")

    def _figures(self) -> dict[str, JsonValue]:
        pictures: dict[str, JsonValue] = dict(
            Counter(sample.split or "all" for sample in self.layout.samples)
        )
        mattes: dict[str, JsonValue] = {
            split or "all": _summary(figures) for split, figures in sorted(self.mattes.items())
        }
        return {"dataset_empty": pictures, "matte_values": mattes} if mattes else {"dataset_empty": pictures}


def _summary(figures: list[MatteFigures]) -> dict[str, JsonValue]:
    """What the mattes of a split hold, on average."""
    histogram = np.sum([figure.histogram for figure in figures], axis=0)
    return {
        "mattes": len(figures),
        "background": round(float(np.mean([figure.background for figure in figures])), 5),
        "soft": round(float(np.mean([figure.soft for figure in figures])), 5),
        "opaque": round(float(np.mean([figure.opaque for figure in figures])), 5),
        "hard": sum(figure.soft == 0 for figure in figures),
        "distinct_values": {
            "least": min(figure.distinct for figure in figures),
            "median": float(np.median([figure.distinct for figure in figures])),
        },
        "histogram_16": [round(float(share), 6) for share in histogram / max(int(histogram.sum()), 1)],
    }


def _twice(check: str, a: _Place, b: _Place, said: str) -> Finding:
    apart = a.split != b.split
    level: Level = "fault" if apart else "note"
    where = f" in the split {a.split}" if apart else ""
    return Finding(check=check, where=b.path, said=f"It {said} {a.path}{where}.", level=level)


def _order(finding: Finding) -> tuple[int, str, str]:
    return list(ABOUT).index(finding.check), finding.where, finding.said
