"""Re-identification: can the people in the published pictures be recognised by their faces?

The gallery is unblurred photos: others of the same people, and strangers. Blurred faces are looked for in it,
as they are and after attempts to undo the blur. A recogniser also sees forehead, hair and background, which
no blur of faces hides; so each attempt is made twice, with the surroundings and with an average face's
surroundings in their place, and beside it stands a control, whose mask is one colour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from pydantic import Field, JsonValue

from p3m_data.arrays import FloatArray
from p3m_data.errors import P3MError, StorageError
from p3m_data.faces.embedding import Embeddings
from p3m_data.inspection.attacker import ALONE, ATTACKS, FILLED, WHOLE, AttackConfig, Attacker
from p3m_data.inspection.findings import TIME_LIMIT, About, Finding, Looked
from p3m_data.inspection.gallery import Files, find_files, look
from p3m_data.inspection.originals import Originals
from p3m_data.inspection.people import Subject, subjects, too_few
from p3m_data.inspection.recognition import (
    FAR,
    Measured,
    Recognition,
    Trial,
    chance,
    compare,
    interval,
    linked,
    luck,
    recognise,
)
from p3m_data.pipeline.engines import WorkerLost, run_local
from p3m_data.storage.images import load_picture
from p3m_data.storage.layouts import Layout
from p3m_data.storage.masks import load_png_mask, read_file
from p3m_data.types import Frozen

ABOUT: Mapping[str, About] = {
    "reidentification": About(
        "Recognising people by their faces",
        "How often a strong, freely available face recogniser that is given a blurred face finds another, "
        "unblurred photo of the same person among those of strangers, as published and after attempts to undo "
        "the blur, beside what guessing would give. Faults: the masked area alone is recognised more often than by "
        "chance, or a picture more often than its control, whose mask is one colour.",
        "That no better recogniser, trained on blurred faces, does better; that somebody who knows the person is "
        "not reminded by hair, clothes, body or place; anything about people who are not in the labels. With few "
        "people the intervals are wide, and only what lies beyond them would be seen.",
    ),
    "surroundings": About(
        "Recognising people by what is around the face",
        "The same with hair, forehead and background in view, and how often the nearest photo is the very one "
        "that the published picture was made from. What is found here, the control finds as well.",
        "A fault of the blur: hair and surroundings are published on purpose. Photos of one session resemble each "
        "other whoever is in them.",
    ),
}

BLURRED_GALLERY = "blurred_gallery"
"""The attempt whose gallery is published pictures, too: other photos of the same people, blurred alike."""
BLURRED_WORDS = "among published pictures of the same people"
FEW_PEOPLE = 8  # each of fewer may be recognised more often than the control, by luck
FAMILY = 0.05  # chance of any false alarm among all comparisons of one audit


class ReidentifyConfig(Frozen):
    """How much is tried."""

    probes: int = Field(2000, ge=2, description="most blurred faces that are looked for")
    strangers: int = Field(2000, ge=0, description="most photos of other people in the gallery")
    attack: AttackConfig = AttackConfig()
    seed: int = 2021


DEFAULTS = ReidentifyConfig()
NOBODY = "fewer than two people have two different photos with a face"
Attempts = dict[str, Embeddings]
"""By "view/attack": (P, 128), in the order of the trial's probes."""


class Reidentified(NamedTuple):
    findings: list[Finding]
    looked: list[Looked]
    figures: dict[str, JsonValue]


def reidentify(
    layout: Layout,
    originals: Originals,
    people: Mapping[str, str],
    *,
    workers: int = 1,
    config: ReidentifyConfig = DEFAULTS,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Reidentified:
    """Looks for each labelled person's blurred face among unblurred photos.

    people: the picture's name in findings (`residual.where`) -> who it shows. Pictures without a label are
    strangers. Raises as `find_files`.
    """
    why_not: list[str] = []
    chosen = list(
        subjects(
            layout,
            originals,
            people,
            why_not,
            probes=config.probes,
            strangers=config.strangers,
            seed=config.seed,
        )
    )
    if (missing := too_few(chosen)) is not None:
        return _not_made([missing, *why_not])
    files = find_files()
    gallery = look(chosen, files, workers, why_not, on_progress)
    if gallery is None:
        return _not_made([NOBODY, *why_not])
    setup = Attack(files, gallery.mean_face, config.attack)
    done = len(chosen), len(chosen) + len(gallery.probes)
    seen, failed = _attacked(
        gallery.probes, setup, workers, lambda more: on_progress(done[0] + more, done[1])
    )
    if failed:
        why_not += [f"{name}: {said}" for name, said in sorted(failed.items())]
        gallery = gallery.without(failed)
        if gallery is None:
            return _not_made([NOBODY, *why_not])
    rows = [seen[subject.where] for subject in gallery.probes]
    names = [name for name in rows[0] if all(name in row for row in rows)]
    whole = {name: np.array([row[name] for row in rows], np.float64) for name in names}
    if any(subject.sigma is None for subject in gallery.probes):
        why_not.append("the sigma of some blurs is not known, so what needs it was not tried")
    found = len(set(gallery.trial.people))
    if found < FEW_PEOPLE:
        why_not.append(
            f"{found} people are too few to find a difference to the control; it is in the figures only"
        )
    figures, findings = measure(gallery.trial, gallery.embeddings, whole)
    at = len(gallery.probes)
    looked = [Looked(check=check, at=at, why_not="; ".join(why_not)) for check in ABOUT]
    return Reidentified(findings, looked, figures)


def measure(
    trial: Trial, gallery: Embeddings, attempts: Attempts
) -> tuple[dict[str, JsonValue], list[Finding]]:
    """All figures of the `attempts`, and what they say. gallery: (N, 128), unblurred."""
    guessed = chance(trial, 1)
    figures: dict[str, JsonValue] = {
        "probes": len(trial.probes),
        "people": len(set(trial.people)),
        "gallery": len(gallery),
        "chance": {"rank_1": guessed.as_json(), "rank_5": chance(trial, 5).as_json()},
        "unblurred": _as_json(recognise(trial, gallery[trial.probes], gallery, plain=True), None),
    }
    blurred = trial.among(trial.probes)
    compared: list[tuple[str, str, Recognition, Recognition]] = []
    for view in (ALONE, WHOLE):
        control, published = attempts[f"{view}/{FILLED}"], attempts[f"{view}/published"]
        seen = {
            name: recognise(trial, attempts[f"{view}/{name}"], gallery)
            for name in (*ATTACKS, FILLED)
            if f"{view}/{name}" in attempts
        }
        alike = recognise(blurred, published, published), recognise(blurred, control, control)
        compared += [(view, name, one, seen[FILLED]) for name, one in seen.items() if name != FILLED]
        compared.append((view, BLURRED_GALLERY, *alike))
        told = {
            name: _as_json(one, None if name == FILLED else compare(one, seen[FILLED], trial))
            for name, one in seen.items()
        }
        told[BLURRED_GALLERY] = _as_json(alike[0], compare(*alike, trial))
        told[f"{BLURRED_GALLERY}_{FILLED}"] = _as_json(alike[1], None)
        figures[view] = told
    figures["very_same_photo"] = {
        name: linked(trial, attempts[f"{WHOLE}/{name}"], gallery).as_json() for name in ("published", FILLED)
    }
    return figures, list(_faults(trial, guessed, compared))


def _faults(
    trial: Trial, guessed: Measured, compared: Sequence[tuple[str, str, Recognition, Recognition]]
) -> Iterator[Finding]:
    """What lies beyond chance, or beyond the control, so far that hardly any of all comparisons does so by itself."""
    level = 1 - FAMILY / len(compared)
    most = chance(trial, 1, level).interval[1]
    for view, name, one, control in compared:
        words = BLURRED_WORDS if name == BLURRED_GALLERY else ATTACKS[name]
        if view == ALONE and name != BLURRED_GALLERY:
            sure = interval(one, trial, level)
            if one.rank_1.value > most and sure[0] > guessed.value:
                said = (
                    f"Of the masked areas alone {one.rank_1.words} are recognised ({words}); "
                    f"guessing gives {guessed.words}."
                )
                yield Finding(
                    check="reidentification",
                    where="",
                    said=said,
                    value=one.rank_1.value,
                    limit=most,
                )
        above = compare(one, control, trial, level)
        if above.interval[0] > 0 and luck(one, control, trial) <= FAMILY / len(compared):
            of = "Of the masked areas alone" if view == ALONE else "With their surroundings"
            said = (
                f"{of} {one.rank_1.words} are recognised ({words}), "
                f"{above.value:.1%} more than when the mask is one colour."
            )
            yield Finding(check="reidentification", where="", said=said, value=above.value, limit=0.0)


def _as_json(one: Recognition, above: Measured | None) -> JsonValue:
    told: dict[str, JsonValue] = {
        "rank_1": one.rank_1.as_json(),
        "rank_5": one.rank_5.as_json(),
        "auc": one.auc.as_json(),
    }
    told[f"tar_at_far_{FAR:g}"] = None if one.tar is None else one.tar.as_json()
    if above is not None:
        told["rank_1_above_control"] = above.as_json()
    return told


def _not_made(why: Sequence[str]) -> Reidentified:
    return Reidentified([], [Looked(check=check, why_not="; ".join(why)) for check in ABOUT], {})


@dataclass(frozen=True)
class Attack:
    """Loads a worker that attacks published pictures; picklable."""

    files: Files
    mean_face: FloatArray
    config: AttackConfig = field(default_factory=AttackConfig)

    def __call__(self) -> Callable[[Subject], dict[str, FloatArray] | str]:
        attacker = Attacker(self.files.embedding, self.files.five_points, self.mean_face, self.config)

        def attack(subject: Subject) -> dict[str, FloatArray] | str:
            try:
                original = load_picture(read_file(subject.original), subject.where).pixels
                published = load_picture(read_file(subject.published), subject.where).pixels
                size = (published.shape[1], published.shape[0])
                mask = load_png_mask(read_file(subject.facemask), subject.where, size)
            except StorageError:
                raise
            except P3MError:  # whose sentence may name the original
                return "it, its facemask or its original cannot be read"
            if original.shape != published.shape or subject.box is None:
                return "it has not the size of its original"
            lossless = subject.published.suffix.lower() == ".png"
            chips = attacker.attack(original, published, mask, subject.box, subject.sigma, lossless=lossless)
            embeddings = attacker.embed(list(chips.values())).astype(np.float32)
            return dict(zip(chips, embeddings, strict=True))

        return attack


def _attacked(
    probes: Sequence[Subject], setup: Attack, workers: int, on_progress: Callable[[int], None]
) -> tuple[dict[str, dict[str, FloatArray]], dict[str, str]]:
    """By the pictures' names: their embeddings by "view/attack", or why there are none."""
    seen: dict[str, dict[str, FloatArray]] = {}
    failed: dict[str, str] = {}
    for subject, one in run_local(iter(probes), setup, workers, time_limit=TIME_LIMIT):
        if isinstance(one, dict):
            seen[subject.where] = one
        else:
            failed[subject.where] = one.detail if isinstance(one, WorkerLost) else one
        on_progress(len(seen) + len(failed))
    return seen, failed
