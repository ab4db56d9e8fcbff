"""Anonymize: one picture through load, detect, mask, blur and verify; decoded once, encoded once.

This is what a worker does. It fails closed: whatever is not proven becomes a record that waits for a
person, and only verified bytes are written to the public side.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2

import p3m_data
from p3m_data.arrays import FloatArray, UInt8Array
from p3m_data.errors import InputError, StorageError, UsageError
from p3m_data.faces.detectors import load_detector
from p3m_data.faces.landmarkers import LANDMARKERS, load_landmarker
from p3m_data.pipeline.dataset import Dataset
from p3m_data.stages.candidate import Loaded, blur_until_clean, load, publish, write_sheet
from p3m_data.stages.config import AnonymizeConfig
from p3m_data.stages.detect import Models, detect
from p3m_data.stages.mask import Masked, mask
from p3m_data.stages.verify import finding
from p3m_data.storage import weights
from p3m_data.types import Provenance, Reason, Record, Source, Status


class Outcome(NamedTuple):
    record: Record
    seconds: dict[str, float]
    """Time spent by stage."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to know; picklable. Calling it loads the models and returns the worker's function."""

    photos: Path
    mattes: Path | None
    dataset: Dataset
    key: bytes
    weights: dict[str, Path]
    digests: dict[str, str]
    """sha256 of each model's weights."""
    config: AnonymizeConfig
    log: Path | None = None
    """Where the libraries' own messages go, which they write to stderr past Python."""
    decided: frozenset[str] = frozenset()
    """Ids of pictures that a person decided about: whatever the machine says, it does not publish them."""

    def __call__(self) -> Callable[[Source], Outcome]:
        if self.log is not None:
            _divert_stderr(self.log)
        return Anonymizer(self, self.load_models())

    def load_models(self) -> Models:
        """The networks; from here on OpenCV uses one thread, which makes results and timing repeatable."""
        cv2.setNumThreads(1)
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        config = self.config.detect
        return Models(
            {name: load_detector(name, self.weights[name]) for name in config.detectors},
            {n: load_landmarker(n, self.weights[LANDMARKERS[n][2]]) for n in config.landmarkers},
        )

    @property
    def provenance(self) -> Provenance:
        return Provenance(
            code_version=p3m_data.__version__, config_digest=self.config.digest, models=self.digests
        )


class Anonymizer:
    """A worker's function: a source becomes an outcome; nothing about a bad input is raised."""

    def __init__(self, job: Job, models: Models) -> None:
        self.job = job
        self.config = job.config
        self.models = models

    def __call__(self, source: Source) -> Outcome:
        clock = _Clock()
        blank = Record(source=source.path, matte=source.matte, provenance=self.job.provenance)
        try:
            loaded = self._load(source)
            clock.lap("load")
            return Outcome(self._anonymize(blank, loaded, clock), clock.seconds)
        except InputError as error:
            return Outcome(blank.model_copy(update=_failed(error.reason, str(error))), clock.seconds)
        except (StorageError, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem:
                raise MemoryError from error
            # one picture that trips a library must not stop a run over a million; the log holds the traceback
            print(f"{source.path}:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            said = f"the program failed on it ({type(error).__name__}: {error}); please report it"
            return Outcome(blank.model_copy(update=_failed(Reason.WORKER_LOST, said)), clock.seconds)

    def _load(self, source: Source) -> Loaded:
        job = self.job
        return load(source, job.photos, job.mattes, job.key, self.config.limits)

    def _anonymize(self, blank: Record, loaded: Loaded, clock: _Clock) -> Record:
        image = loaded.picture.pixels
        found = detect(image, self.models, self.config.detect)
        clock.lap("detect")
        masked = mask(found, loaded.alpha, image.shape, self.config.mask)
        clock.lap("mask")
        known = {
            "id": loaded.id,
            "width": image.shape[1],
            "height": image.shape[0],
            "transition": "estimated" if loaded.alpha is None else "matte",
            "faces": masked.faces,
        }
        problem = self._problem(masked, loaded.alpha)
        if problem is None and loaded.id in self.job.decided:
            problem = Reason.REVIEWED, "a reviewer decided about it, which p3mdata review carries out again"
        if problem is not None:
            self._sheet(loaded, masked, None, clock)
            return blank.model_copy(update=known | _waiting(*problem))
        written = blur_until_clean(loaded, masked, self.config, self.models.detectors, clock.lap)
        known |= {"faces": written.faces, "checks": written.checks}
        self._sheet(loaded, masked, written.pixels, clock)
        if (left := finding(written.checks)) is not None:
            return blank.model_copy(update=known | _waiting(*left))
        known |= {"status": Status.ANONYMIZED, "files": publish(self.job.dataset, loaded, masked, written)}
        if not _subject_has_face(masked, loaded.alpha):
            said = "no face was found, and the operator accepts such pictures unseen"
            known |= {"reason": Reason.ACCEPTED_NO_FACE, "detail": said}
        clock.lap("write")
        return blank.model_copy(update=known)

    def _problem(self, masked: Masked, alpha: FloatArray | None) -> tuple[Reason, str] | None:
        if masked.problems:
            return masked.problems[0][0], "; ".join(said for _, said in masked.problems)
        if not _subject_has_face(masked, alpha) and not self.config.accept_no_face:
            where = " on the subject" if masked.faces else ""
            return (
                Reason.NO_FACE,
                f"no face was found{where}, which does not mean that nobody can be recognised",
            )
        return None

    def _sheet(self, loaded: Loaded, masked: Masked, result: UInt8Array | None, clock: _Clock) -> None:
        write_sheet(self.job.dataset, loaded, masked, result)
        clock.lap("sheet")


def find_weights(config: AnonymizeConfig, by_path: dict[str, Path]) -> tuple[dict[str, Path], dict[str, str]]:
    """File and sha256 of the weights of each network that `config` needs; raises `WeightsError`."""
    names = [*config.detect.detectors, *(LANDMARKERS[n][2] for n in config.detect.landmarkers)]
    if unused := sorted(by_path.keys() - set(names)):
        raise UsageError(f"{unused[0]} is no network of this run, which uses {', '.join(names)}")
    files = {name: weights.resolve(name, path) for name, path in by_path.items()}
    files |= weights.ensure([name for name in names if name not in by_path])
    return files, {name: weights.registry()[name].sha256 for name in names}


class _Clock:
    """Adds up seconds by stage: `lap` gives the time since the last lap to a stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def _subject_has_face(masked: Masked, alpha: FloatArray | None) -> bool:
    """A bystander's face alone does not tell that the subject's was not overlooked."""
    if alpha is None:
        return bool(masked.faces)
    return bool((alpha[masked.private] > 0.5).any())


def _waiting(reason: Reason, detail: str) -> dict[str, object]:
    return {"status": Status.NEEDS_REVIEW, "reason": reason, "detail": detail}


def _failed(reason: Reason, detail: str) -> dict[str, object]:
    return {"status": Status.FAILED, "reason": reason, "detail": detail}


def _divert_stderr(log: Path) -> None:
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise StorageError(f"{log} cannot be written ({error.strerror}); make room or allow it") from error
    os.dup2(descriptor, 2)
    os.close(descriptor)
