"""Contact sheets: web pages with every picture, a private one with all steps and a public one without originals.

They are plain HTML in one file each, need no internet and no script, and say the same for the same data.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.ledger import Ledger
from p3m_data.pipeline.outcome import REASON_WORDS, STATUS_WORDS, next_step, pictures
from p3m_data.report.words import CHECK_WORDS, HOW_WORDS, METHOD_WORDS
from p3m_data.stages.blur import BlurConfig
from p3m_data.stages.panels import STEPS
from p3m_data.storage.folders import locate, write_atomic
from p3m_data.storage.manifest import IMAGE_FOLDERS, canonical_json, read_manifest
from p3m_data.storage.sentences import visible
from p3m_data.types import Face, ManifestRow, Provenance, PublicFace, Record, Status

PER_PAGE = 200
LISTED = (Status.NEEDS_REVIEW, Status.FAILED, Status.EXCLUDED, Status.ANONYMIZED, Status.DUPLICATE)
"""What the private pages show, in this order; pending pictures are only counted."""


def write_private_report(dataset: Dataset, ledger: Ledger) -> Path:
    """Writes `report.html` (and `report-2.html`, ...) into the private folder; the path of the first page.

    It shows the ledger as it is now: a picture that is committed while the pages are written may be missing.
    `StorageError` when the disk is full or the folder cannot be written.
    """
    counts = ledger.counts()
    records = chain.from_iterable(ledger.records(status) for status in LISTED)
    photos = ledger.meta("photos")
    facts = {
        "counts": counts,
        "reasons": sorted(ledger.reasons().items(), key=lambda item: (-item[1], item[0])),
        "sections": list(_sections(counts)),
        "made_by": _made_by(record.provenance for record in ledger.records()),
        "next_step": next_step(counts),
    }
    entries = (_entry(record, dataset, Path(photos) if photos else None) for record in records)
    total = sum(counts[status] for status in LISTED)
    return _write_pages(dataset.private, template("private.html"), total, entries, facts)


def write_public_report(dataset: Dataset, blur: BlurConfig | None = None) -> Path:
    """Writes `report.html` (and `report-2.html`, ...) into the public folder, from the manifest alone.

    `blur`: the settings that the pages tell; without them they tell only how strong every blur is.
    `UsageError` without a manifest, `StorageError` when the folder cannot be written.
    """
    totals = _Totals()
    made_by = _made_by(totals.counted(read_manifest(dataset.manifest)))
    facts = {"totals": totals, "made_by": made_by, "blur": blur}
    rows = read_manifest(dataset.manifest)
    return _write_pages(dataset.public, template("public.html"), totals.pictures, rows, facts)


def page_name(number: int) -> str:
    """The file of page `number`, which is 1 or more."""
    return "report.html" if number == 1 else f"report-{number}.html"


class _Entry(NamedTuple):
    """A picture on the private page; the links are relative and None where there is no such file."""

    record: Record
    sheet: str | None
    source: str | None
    published: str | None


class _Section(NamedTuple):
    status: Status
    pictures: int
    link: str


@dataclass
class _Totals:
    """What the first public page says of all pictures."""

    pictures: int = 0
    unseen: int = 0
    """Published without a face by the operator's decision."""
    reviewed: int = 0
    """Published by a person's decision."""
    waived: int = 0
    """Of those, with a check that the person let pass."""
    with_matte: int = 0
    faces: Counter[str] = field(default_factory=Counter)
    weakest: float = float("inf")
    strongest: float = 0.0

    def counted(self, rows: Iterable[ManifestRow]) -> Iterator[Provenance]:
        for row in rows:
            self.pictures += 1
            self.unseen += row.anonymized_by == "operator"
            self.reviewed += row.anonymized_by == "reviewer"
            self.waived += any(check.waived for check in row.checks)
            self.with_matte += row.transition == "matte"
            for face in row.faces:
                self.faces[face.how] += 1
                self.weakest = min(self.weakest, face.sigma)
                self.strongest = max(self.strongest, face.sigma)
            yield row.provenance


def _sections(counts: dict[Status, int]) -> Iterator[_Section]:
    before = 0
    for status in LISTED:
        if counts[status]:
            yield _Section(status, counts[status], f"{page_name(before // PER_PAGE + 1)}#{status}")
        before += counts[status]


def _made_by(provenances: Iterable[Provenance | None]) -> list[tuple[Provenance, int]]:
    """Every version and configuration that made pictures, and how many; the most frequent first."""
    found = Counter(canonical_json(p) for p in provenances if p is not None)
    return [(Provenance.model_validate_json(text), count) for text, count in found.most_common()]


def _entry(record: Record, dataset: Dataset, photos: Path | None) -> _Entry:
    sheet = None if record.id is None else dataset.sheets / f"{record.id}.jpg"
    source = None if photos is None else locate(photos, record.source)
    images = (p for p in record.files if Path(p).parent.name in IMAGE_FOLDERS)
    published = next((dataset.public / path for path in images), None)
    here = dataset.private
    return _Entry(record, _link(sheet, here), _link(source, here), _link(published, here))


def _link(file: Path | None, folder: Path) -> str | None:
    """The relative address of `file` as seen from `folder`; None when there is no file."""
    if file is None or not os.path.isfile(file):
        return None
    return _address(os.path.relpath(file, folder))


def _address(path: str) -> str:
    """A relative path as it is written in a link: any byte of a file name, percent-encoded."""
    return quote(os.fsencode(path))


def _write_pages(
    folder: Path, template: Template, total: int, items: Iterator[Any], facts: dict[str, Any]
) -> Path:
    """Writes `total` items, a page at a time, and removes what an earlier, longer report left."""
    pages = max(1, ceil(total / PER_PAGE))
    for number in range(1, pages + 1):
        html = template.render(facts, items=list(islice(items, PER_PAGE)), page=number, pages=pages)
        write_atomic(folder / page_name(number), html.encode())
    last = pages
    while (folder / page_name(last + 1)).exists():
        last += 1
    # from the end, so that an interrupted removal leaves no gap that hides the rest
    for number in range(last, pages, -1):
        (folder / page_name(number)).unlink(missing_ok=True)
    return folder / page_name(1)


def _sentence(text: str) -> str:
    """`text` made visible and closed by a full stop; not capitalized, since it may begin with a file name."""
    return visible(text).rstrip(".") + "."


def _faces_in_words(faces: Iterable[Face | PublicFace]) -> str:
    """How the faces of a picture were masked, equal ways counted together."""
    found = Counter(HOW_WORDS[face.how] for face in faces)
    return ", ".join(f"{count} {'face' if count == 1 else 'faces'} {words}" for words, count in found.items())


def template(name: str) -> Template:
    """The page `name` of this folder, with the words and filters that pages use."""
    environment = Environment(
        loader=PackageLoader("p3m_data.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "address": _address,
        "faces_in_words": _faces_in_words,
        "pictures": pictures,
        "sentence": _sentence,
        "visible": visible,
    }
    environment.globals |= {
        "CHECK_WORDS": CHECK_WORDS,
        "HOW_WORDS": HOW_WORDS,
        "METHOD_WORDS": METHOD_WORDS,
        "REASON_WORDS": REASON_WORDS,
        "STATUS_WORDS": STATUS_WORDS,
        "STEPS": STEPS,
        "page_name": page_name,
    }
    return environment.get_template(name)
