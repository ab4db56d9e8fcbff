"""Anonymize: one picture through load, detect, mask, blur and verify; decoded once, encoded once.

This is what a worker does. It fails closed: whatever is not proven becomes a record that waits for a
person, and only verified bytes are written to the public side.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
from pydantic import Field

import p3m_data
from p3m_data.arrays import FloatArray, UInt8Array
from p3m_data.errors import ImageTooLarge, InputError, StorageError, UnreadableImage
from p3m_data.faces.detectors import load_detector
from p3m_data.faces.landmarkers import LANDMARKERS, load_landmarker
from p3m_data.pipeline.dataset import Dataset
from p3m_data.stages.blur import BlurConfig, blur
from p3m_data.stages.detect import DetectConfig, Models, detect
from p3m_data.stages.mask import MaskConfig, Masked, mask
from p3m_data.stages.panels import panels
from p3m_data.stages.verify import VerifyConfig, finding, verify
from p3m_data.storage import folders
from p3m_data.storage.images import Limits, Picture, decode, encode_picture, encode_png, load_picture
from p3m_data.storage.mattes import encode_matte, load_matte, matte_from_alpha
from p3m_data.types import Check, Face, Frozen, Provenance, Reason, Record, Source, Status

ID_DIGITS = 16  # hex digits: among 2 million pictures two share an id once in 10 million datasets
STRONGER = (1.0, 1.5, 2.25)  # factors of the blur's strength, tried in turn while facial detail is left


class AnonymizeConfig(Frozen):
    """Everything that decides what the output looks like; its digest is in every record."""

    detect: DetectConfig = DetectConfig()
    mask: MaskConfig = MaskConfig()
    blur: BlurConfig = BlurConfig()
    verify: VerifyConfig = VerifyConfig()
    container: Literal["source", "png"] = Field(
        "source", description="source: a JPEG stays a JPEG; png: every output is lossless"
    )
    accept_no_face: bool = Field(False, description="publish pictures without a face, unseen by a person")
    max_pixels: int = Field(200_000_000, gt=0, description="larger pictures are refused")
    max_bytes: int = Field(512 * 2**20, gt=0, description="larger files are refused")

    @property
    def digest(self) -> str:
        """16 hex digits that change with any setting."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


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

    def __call__(self) -> Callable[[Source], Outcome]:
        if self.log is not None:
            _divert_stderr(self.log)
        cv2.setNumThreads(1)
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        detect_config = self.config.detect
        models = Models(
            {name: load_detector(name, self.weights[name]) for name in detect_config.detectors},
            {n: load_landmarker(n, self.weights[LANDMARKERS[n][2]]) for n in detect_config.landmarkers},
        )
        return Anonymizer(self, models)

    @property
    def provenance(self) -> Provenance:
        return Provenance(
            code_version=p3m_data.__version__, config_digest=self.config.digest, models=self.digests
        )


class _Loaded(NamedTuple):
    id: str
    picture: Picture
    alpha: FloatArray | None


class _Written(NamedTuple):
    """A candidate for publication: its bytes, what they decode to, and whether that passed."""

    data: bytes
    suffix: str
    pixels: UInt8Array
    faces: tuple[Face, ...]
    checks: tuple[Check, ...]


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
            # one picture that trips a library must not stop a run over a million; the log holds the traceback
            print(f"{source.path}:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            said = f"the program failed on it ({type(error).__name__}: {error}); please report it"
            return Outcome(blank.model_copy(update=_failed(Reason.WORKER_LOST, said)), clock.seconds)

    def _load(self, source: Source) -> _Loaded:
        limits = Limits(self.config.max_bytes, self.config.max_pixels)
        data = _read(folders.locate(self.job.photos, source.path), source.path, limits)
        matte = b""
        if source.matte is not None and self.job.mattes is not None:
            matte = _read(folders.locate(self.job.mattes, source.matte), source.matte, limits)
        content = hashlib.sha256(data).digest() + hashlib.sha256(matte).digest()
        name = "p_" + hmac.new(self.job.key, content, "sha256").hexdigest()[:ID_DIGITS]
        picture = load_picture(data, source.path, limits)
        alpha = None
        if matte:
            height, width = picture.pixels.shape[:2]
            alpha = load_matte(matte, source.matte or "", (width, height), limits)
        elif picture.alpha is not None:
            alpha = matte_from_alpha(picture.alpha)
        return _Loaded(name, picture, alpha)

    def _anonymize(self, blank: Record, loaded: _Loaded, clock: _Clock) -> Record:
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
        if problem is not None:
            self._sheet(loaded, masked, None, clock)
            return blank.model_copy(update=known | _waiting(*problem))
        written = self._blur_until_clean(loaded, masked, clock)
        known |= {"faces": written.faces, "checks": written.checks}
        self._sheet(loaded, masked, written.pixels, clock)
        if (left := finding(written.checks)) is not None:
            return blank.model_copy(update=known | _waiting(*left))
        known |= {"status": Status.ANONYMIZED, "files": self._publish(loaded, masked, written)}
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

    def _blur_until_clean(self, loaded: _Loaded, masked: Masked, clock: _Clock) -> _Written:
        picture, config = loaded.picture, self.config
        for factor in STRONGER:
            strength = config.blur.model_copy(update={"strength": config.blur.strength * factor})
            blurred = blur(picture.pixels, masked.mask, masked.faces, strength)
            clock.lap("blur")
            data, suffix = encode_picture(picture, blurred.pixels, masked.mask, config.container)
            clock.lap("encode")
            pixels = decode(data)
            checks = verify(
                picture.pixels,
                pixels,
                masked.mask,
                masked.transition,
                blurred.faces,
                self.models.detectors,
                config.verify,
                lossless=suffix == ".png",
            )
            clock.lap("verify")
            if all(check.passed for check in checks if check.name == "detail_left"):
                break
        return _Written(data, suffix, pixels, blurred.faces, checks)

    def _sheet(self, loaded: _Loaded, masked: Masked, result: UInt8Array | None, clock: _Clock) -> None:
        strip = cv2.cvtColor(panels(loaded.picture.pixels, masked, result), cv2.COLOR_RGB2BGR)
        data = cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
        folders.write_atomic(self.job.dataset.sheets / f"{loaded.id}.jpg", data)
        clock.lap("sheet")

    def _publish(self, loaded: _Loaded, masked: Masked, written: _Written) -> dict[str, str]:
        """Write the public files, the picture last: where it is, its facemask and matte are too."""
        facemask = encode_png(masked.mask.astype("uint8") * 255)
        contents = {f"train/facemask/{loaded.id}.png": facemask}
        if loaded.alpha is not None:
            contents[f"train/mask/{loaded.id}.png"] = encode_matte(loaded.alpha)
        contents[f"train/blurred_image/{loaded.id}{written.suffix}"] = written.data
        public = self.job.dataset.public
        # what is there already is what a picture of the same bytes published
        new = [public / path for path in contents if not (public / path).exists()]
        try:
            for path, data in contents.items():
                folders.write_atomic(public / path, data)
        except StorageError:
            for file in new:
                file.unlink(missing_ok=True)
            raise
        return {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}


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


def _read(path: Path, name: str, limits: Limits) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)
    except OSError as error:
        raise UnreadableImage(f"{name} cannot be read: {error.strerror or error}") from error
    if len(data) > limits.max_bytes:
        size = limits.max_bytes / 2**20
        raise ImageTooLarge(
            f"{name} is larger than the limit of {size:.3g} MiB; make it smaller or raise the limit"
        )
    return data


def _divert_stderr(log: Path) -> None:
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise StorageError(f"{log} cannot be written ({error.strerror}); make room or allow it") from error
    os.dup2(descriptor, 2)
    os.close(descriptor)
