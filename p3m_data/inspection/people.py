"""Whose faces are looked for: the labelled people of a dataset, and strangers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from p3m_data.inspection.groups import cases, label_columns, match, read_labels
from p3m_data.inspection.originals import Originals
from p3m_data.inspection.residual import where
from p3m_data.pipeline.outcome import pictures
from p3m_data.storage.folders import locate as file_of
from p3m_data.storage.layouts import Layout, Sample
from p3m_data.types import Box, Record

MAIN = 0.6  # of two faces whose widths differ by less nobody can tell whose the label is
IDENTITY = "identity"
SEVERAL = ";,|"  # between the people of one picture


class Subject(NamedTuple):
    """One picture with a main face, and its files."""

    where: str
    person: str | None
    """None: a stranger."""
    original: Path
    published: Path
    facemask: Path
    box: Box | None
    """The main face, as the ledger knows it; None where it must be looked for."""
    sigma: float | None
    """Of its blur, in pixels; None where nobody knows."""


def identities(labels: Path, layout: Layout, originals: Originals) -> dict[str, str]:
    """Who the labels say that each picture shows, by its name in findings.

    labels: a CSV; see `groups.read_labels`, whose errors it raises. Without a column `identity` they say nothing.
    """
    if IDENTITY not in label_columns(labels):
        return {}
    known = {case.names[0]: case for case in cases(layout, originals, ())}
    matched = match(read_labels(labels, [IDENTITY]), list(known.values()), labels.name)
    return {case.names[0]: given[IDENTITY] for case, given in matched if given[IDENTITY]}


def subjects(
    layout: Layout,
    originals: Originals,
    people: Mapping[str, str],
    why_not: list[str],
    *,
    probes: int,
    strangers: int,
    seed: int,
) -> Iterator[Subject]:
    """Labelled people with two pictures or more, and strangers; a fixed sample of each when there are many.

    people: the picture's name in findings -> who it shows. `why_not` gets why pictures are left out.
    """
    found: list[Subject] = []
    reasons: Counter[str] = Counter()
    for sample in layout.samples:
        subject = _subject(layout, sample, originals, people)
        if isinstance(subject, Subject):
            found.append(subject)
        elif subject:
            reasons[subject] += 1
    why_not += [_counted(count, why) for why, count in sorted(reasons.items())]
    photos = Counter(subject.person for subject in found if subject.person)
    wanted = [s for s in found if s.person and photos[s.person] > 1]
    others = [s for s in found if not s.person or photos[s.person] == 1]
    chance_of = random.Random(seed)
    for group, most in ((wanted, probes), (others, strangers)):
        if len(group) > most:
            why_not.append(f"{most} of {len(group)} pictures were drawn")
            group = chance_of.sample(group, most)
        yield from group


def _subject(
    layout: Layout, sample: Sample, originals: Originals, people: Mapping[str, str]
) -> Subject | str:
    """The main face of a sample, or why it has none; "" when there is nothing to say of it."""
    original = originals.path(sample)
    if not sample.blurred or "facemask" not in sample.files:
        return ""
    if original is None:
        return "without an original"
    name = where(layout, sample)
    person = people.get(name) or None
    if person is not None and any(sign in person for sign in SEVERAL):
        return "with several people"
    box = sigma = None
    if (record := originals.record(sample)) is not None:
        main = main_face(record)
        if main is None:
            return "without a main face"
        box, sigma = main
    published, facemask = (file_of(layout.root, sample.files[role]) for role in ("image", "facemask"))
    return Subject(name, person, original, published, facemask, box, sigma)


def main_face(record: Record) -> tuple[Box, float | None] | None:
    """The largest masked face and its blur; None when another is about as large."""
    faces = sorted(
        (face for face in record.faces if face.how != "none"), key=lambda face: face.box[0] - face.box[2]
    )
    if not faces:
        return None
    widths = [face.box[2] - face.box[0] for face in faces]
    if len(faces) > 1 and widths[1] > MAIN * widths[0]:
        return None
    return faces[0].box, faces[0].sigma


def _counted(count: int, why: str) -> str:
    return f"{count} {pictures(count)} {why}"


def too_few(subjects: Sequence[Subject]) -> str | None:
    """Why nobody can be looked for, if so."""
    photos = Counter(subject.person for subject in subjects if subject.person)
    if not photos:
        return (
            "no picture with a blurred main face and an original has a label that says who it shows "
            "(--labels FILE with a column identity)"
        )
    if sum(count > 1 for count in photos.values()) < 2:
        return "fewer than two people have two pictures with a blurred main face and an original"
    return None
