"""Validate: is this dataset right? Every file against its mates, the manifest, and the originals if at hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue

import p3m_data
from p3m_data.inspection.duplicates import DuplicateConfig, near_pairs
from p3m_data.inspection.findings import About, Finding, Inspection, Level, Looked
from p3m_data.inspection.listing import (
    Sums,
    index_manifest,
    layout_findings,
    order_findings,
    pattern_findings,
)
from p3m_data.inspection.originals import Originals
from p3m_data.inspection.samples import ID, LIMITS, Job, SampleConfig, Seen, Task
from p3m_data.matte.validation import MatteFigures
from p3m_data.pipeline.engines import WorkerLost, run_local
from p3m_data.storage.folders import locate
from p3m_data.storage.layouts import SUMS, Layout, recognise
from p3m_data.types import Frozen

ABOUT: Mapping[str, About] = {
    "dataset_empty": About(
        "There are pictures", "The dataset holds at least one picture.", "That there are all that should be."
    ),
    "mates": About(
        "Every picture has its mates",
        "Each picture has the files that its split holds for pictures (matte, trimap, facemask, foreground, "
        "background), and each such file has its picture.",
        "That the mates are the right ones; other checks look at that.",
    ),
    "double_stems": About(
        "One picture a name",
        "No folder holds two files of one name that differ in their suffix only.",
        "That two names are two pictures; see duplicates.",
    ),
    "name_case": About(
        "Names agree in upper and lower case",
        "Pictures and mates find each other on every file system, and suffixes are lower case.",
        "Anything about other systems' rules for names.",
    ),
    "stray_files": About(
        "No file too many",
        "Every file belongs to a picture or is one of the known ones of a dataset.",
        "That the known files say nothing private; the audit looks at that.",
    ),
    "readable": About(
        "Every file can be read",
        "Each picture, matte, trimap and facemask was opened and decoded to its end.",
        "That its content is what it should be.",
    ),
    "inspected": About(
        "Every picture was inspected",
        "The checks ran to their end on each picture.",
        "Nothing about those that are named here: they have not been checked.",
    ),
    "sizes": About(
        "Sizes agree",
        "Picture, matte, trimap, facemask, foreground, background, the manifest's row and the original have "
        "one size.",
        "That they show the same place of the scene.",
    ),
    "matte_values": About(
        "Mattes are mattes",
        "Each matte is grey (one channel or three equal ones, or the alpha of a cut-out) and neither 0 nor 255 "
        "everywhere.",
        "That the alpha is accurate.",
    ),
    "matte_inverted": About(
        "Mattes are the right way round",
        "The largest masked face lies on the subject; without a facemask, the border is not mostly opaque "
        "around an empty centre.",
        "Without a facemask: that a matte whose subject fills the border, or not the centre, is right.",
    ),
    "matte_subject": About(
        "Mattes show a subject",
        "One connected part of each matte is large enough to be a subject.",
        "That it is a person, or the only one.",
    ),
    "matte_hard": About(
        "Mattes have soft edges",
        "Named are mattes of 0 and 255 only: segmentations.",
        "That soft edges are hair and not blur.",
    ),
    "matte_edges": About(
        "Mattes fit their pictures",
        "Named are pictures whose edges fit the matte no better than a matte moved aside. Of 390 mattes "
        "swapped among 130 portraits, over 99 % are named, and no right one is.",
        "A proof of either: it is a statistic. It fails on smooth or very busy grounds, and a matte swapped "
        "with one of nearly the same outline (another picture of a burst) cannot be seen by it at all.",
    ),
    "trimap_values": About(
        "Trimaps hold 0, 128 and 255", "No pixel has another value.", "That the unknown part is wide enough."
    ),
    "trimap_matte": About(
        "Trimaps agree with mattes",
        "255 lies only where alpha is 1 and 0 only where it is 0, but for the tolerance and 1 in 10,000 "
        "certain pixels; so the soft part lies in 128.",
        "How the trimap was made.",
    ),
    "facemask_values": About(
        "Facemasks hold 0 and 255", "No pixel has another value.", "That they cover the faces."
    ),
    "facemask_empty": About(
        "Facemasks mask something",
        "No facemask is empty where the manifest tells of masked faces.",
        "That every face is masked; the audit looks for others.",
    ),
    "facemask_transition": About(
        "Facemasks leave the transition area alone",
        "No masked pixel has an alpha between 0 and 1 (but for the run's tolerance): exact, for each picture.",
        "That the matte is right about where the hair is.",
    ),
    "changed_outside": About(
        "Nothing changed outside the facemask",
        "Against the originals: a PNG is equal outside the mask, pixel for pixel; a JPEG within its own loss "
        "16 pixels or more away from it.",
        "For a JPEG: anything within 16 pixels of the mask, where blocks share masked pixels. In datasets that "
        "p3mdata did not make, a JPEG that differs more is only noted, since it may have been encoded anew.",
    ),
    "changed_inside": About(
        "What is masked was changed",
        "Against the originals: each connected part of the mask changed by half of its own detail or more.",
        "That the change is strong enough to hide the face, or hides all of it; the audit measures that. Parts of "
        "fewer than 64 pixels or without detail are not looked at.",
    ),
    "manifest_rows": About(
        "The manifest can be read",
        "Every line is a row as the schema wants it, and no id comes twice.",
        "That the rows are true.",
    ),
    "manifest_files": About(
        "Files and rows match",
        "Each picture has a row and each row its files, and each file of a picture is in its row.",
        "Anything about files that are no picture's; see stray files.",
    ),
    "checksums": About(
        "Checksums match",
        "The sha256 of each file is the one in the manifest: it is the file that was written then.",
        "Who wrote the manifest: somebody who changes a file can change the manifest, too.",
    ),
    "sums_file": About(
        "SHA256SUMS is right and complete",
        "Every file but itself is listed, and has that sha256.",
        "Who wrote it.",
    ),
    "duplicates": About(
        "No picture twice",
        "No two files have the same bytes or decode to the same pixels. Across splits that is a fault, since "
        "what is tested on was trained on; within one it is a note.",
        "That there are no copies that were changed a little; see near-duplicates.",
    ),
    "near_duplicates": About(
        "No picture twice, slightly changed",
        "No two pictures lie within 8 of 64 bits by their DCT hash and within 10 by their gradient hash: the "
        "same picture encoded anew, resized or brightened is found.",
        "Crops of 5 % a side or more, mirrored or turned copies, and other pictures of the same person.",
    ),
    "id_pattern": About(
        "Ids have the right form", "Each is p_ and 8 or more hex digits.", "How it was made."
    ),
    "id_digest": About(
        "Ids are no plain digests",
        "No id begins with an MD5, SHA-1, SHA-256, SHA-512, BLAKE2b, CRC-32 or Adler-32 of its published files "
        "or pixels and, with the private side, of the original's bytes, pixels, path or name.",
        "That it is no digest of something else, or salted with something that can be guessed.",
    ),
    "id_keyed": About(
        "Ids come from the secret",
        "Each id is in the private ledger, and is the HMAC of its original and matte under the dataset's secret.",
        "That the secret stayed secret.",
    ),
    "id_order": About(
        "Ids tell no order",
        "They are not consecutive numbers and, with the private side, do not sort as the originals' names or "
        "times do.",
        "That no other order of the originals is in them.",
    ),
}

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


TIME_LIMIT = 600.0
"""Seconds after which a picture, tried twice, is given up."""


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
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
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

    def inspect(self, workers: int, on_progress: Callable[[int, int], None]) -> Inspection:
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

    def _take(self, task: Task, seen: Seen | WorkerLost) -> None:
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
        hashed = np.array([self.hashes[index] for index in order], np.uint64).reshape(-1, 2)
        splits = np.array([self._splits.index(place.split) for place in places], np.int64)
        known = set(same)
        for pair in near_pairs(hashed[:, 0], hashed[:, 1], splits, self.config.duplicates):
            if pair[:2] not in known:
                said = f"is nearly the same ({pair.phash} and {pair.dhash} of 64 bits differ) as"
                a, b = places[pair.first], places[pair.second]
                self.findings.append(_twice("near_duplicates", a, b, said))
        self.looked.update(dict.fromkeys(("duplicates", "near_duplicates"), len(places)))

    @property
    def _splits(self) -> list[str]:
        return sorted(self.layout.roles)

    def _why_not(self, check: str) -> str:
        at = self.looked[check]
        if check.startswith("changed") and self.known.why_not:
            return self.known.why_not
        if check == "id_keyed" and self.ours and not at:
            return "the secret, the originals and their mattes are not all at hand"
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
        return {"pictures": pictures, "mattes": mattes} if mattes else {"pictures": pictures}


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
