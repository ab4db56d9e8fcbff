"""The gallery: unblurred photos among which blurred faces are looked for, and what a recogniser makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array
from p3m_data.errors import P3MError, StorageError
from p3m_data.faces.detectors import SCORE, Detector, load_detector
from p3m_data.faces.embedding import Embeddings
from p3m_data.inspection.attacker import Attacker, mean_of
from p3m_data.inspection.duplicates import hashes, near_pairs
from p3m_data.inspection.findings import TIME_LIMIT
from p3m_data.inspection.people import Subject
from p3m_data.inspection.recognition import Trial
from p3m_data.pipeline.engines import WorkerLost, run_local
from p3m_data.storage import weights
from p3m_data.storage.images import load_picture
from p3m_data.storage.masks import read_file
from p3m_data.types import Box

FEW_STRANGERS = 8  # an average of fewer faces still looks like one of them
DETECTED_AT = 640  # pixels of the long side: main faces are large


class Known(NamedTuple):
    """What one look at an original gives."""

    box: Box
    embedding: FloatArray
    hashed: tuple[int, int]
    chip: UInt8Array


@dataclass(frozen=True)
class Files:
    """Weights of the attacker's networks."""

    embedding: Path
    five_points: Path
    detector: Path


@dataclass(frozen=True)
class Gallery:
    """Unblurred photos, and who is looked for among them."""

    subjects: tuple[Subject, ...]
    trial: Trial
    embeddings: Embeddings
    mean_face: FloatArray

    @property
    def probes(self) -> list[Subject]:
        return [self.subjects[i] for i in self.trial.probes]

    def without(self, left_out: Collection[str]) -> Gallery | None:
        """The gallery without the pictures of these names; None when nobody can be looked for in it."""
        kept = np.array([i for i, one in enumerate(self.subjects) if one.where not in left_out], np.intp)
        trial = self.trial.among(kept)
        rows = trial.among(trial.probes)
        # of whoever is looked for, also among published pictures, there must be somebody to be mistaken for
        if len(set(rows.people)) < 2 or not rows.strangers.any(axis=1).all():
            return None
        return Gallery(tuple(self.subjects[i] for i in kept), trial, self.embeddings[kept], self.mean_face)


def find_files() -> Files:
    """The weights; `MissingExtra` or `WeightsError` when one is not on this machine."""
    return Files(*(weights.resolve(name) for name in ("dlib_embedding", "dlib_five_points", "centerface")))


def look(
    chosen: Sequence[Subject],
    files: Files,
    workers: int = 1,
    why_not: list[str] | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Gallery | None:
    """The gallery of the originals of `chosen`; None when it shows fewer than two people twice."""
    found = []
    for done, (subject, known) in enumerate(
        run_local(iter(chosen), Look(files), workers, time_limit=TIME_LIMIT), start=1
    ):
        if isinstance(known, Known):
            found.append((subject._replace(box=known.box), known))
        elif why_not is not None:
            why_not.append(f"{subject.where}: {known.detail if isinstance(known, WorkerLost) else known}")
        on_progress(done, 2 * len(chosen))
    if not found:
        return None
    found.sort(key=lambda pair: pair[0].where)
    photos = Counter(subject.person for subject, _ in found)
    # strangers get names that no label has
    persons = tuple(subject.person or f"\0{subject.where}" for subject, _ in found)
    trial = Trial(persons, excluded([known.hashed for _, known in found]))
    strangers = [known.chip for s, known in found if s.person is None or photos[s.person] == 1]
    mean = mean_of(strangers if len(strangers) >= FEW_STRANGERS else [known.chip for _, known in found])
    embeddings = np.array([known.embedding for _, known in found], np.float64)
    return Gallery(tuple(subject for subject, _ in found), trial, embeddings, mean).without(())


@dataclass(frozen=True)
class Look:
    """Loads a worker that looks at originals; picklable."""

    files: Files

    def __call__(self) -> Callable[[Subject], Known | str]:
        attacker = Attacker(self.files.embedding, self.files.five_points)
        detector = load_detector("centerface", self.files.detector)

        def at(subject: Subject) -> Known | str:
            try:
                pixels = np.ascontiguousarray(load_picture(read_file(subject.original), subject.where).pixels)
            except StorageError:
                raise
            except P3MError:
                return "its original cannot be read"
            box = subject.box or largest_face(detector, pixels)
            if box is None:
                return "no main face was found in its original"
            chip = attacker.chip(pixels, box)
            return Known(box, attacker.embed([chip])[0].astype(np.float32), hashes(pixels), chip)

        return at


def largest_face(detector: Detector, pixels: UInt8Array) -> Box | None:
    """The box of the widest face that a detector is sure of."""
    scale = min(1.0, DETECTED_AT / max(pixels.shape[:2]))
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    found = detector(np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8))
    sure = found[found[:, SCORE] >= detector.accept]
    if not len(sure):
        return None
    x0, y0, x1, y1 = (float(v) / scale for v in sure[np.argmax(sure[:, 2] - sure[:, 0]), :4])
    return x0, y0, x1, y1


def excluded(hashed: Sequence[tuple[int, int]]) -> BoolArray:
    """A photo is not shown to itself, nor to a near-duplicate.

    hashed: N pairs as of `duplicates.hashes`; (N, N) bool.
    """
    # `near_pairs` compares only the first of several with the same hashes, so each of these is looked up
    distinct, index = np.unique(np.array(hashed, np.uint64).reshape(-1, 2), axis=0, return_inverse=True)
    near = np.eye(len(distinct), dtype=bool)
    for pair in near_pairs(distinct[:, 0], distinct[:, 1]):
        near[pair.first, pair.second] = near[pair.second, pair.first] = True
    index = index.ravel()
    return np.asarray(near[np.ix_(index, index)])
