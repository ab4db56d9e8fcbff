"""Residual faces: what several detectors, most of which the run did not use, still see in the published pictures.

A head with a blurred face is a face to a detector, and rightly so. So what lies on a masked face is counted,
and what does not is looked at closer: how sure which detectors are, whether there is facial detail, and
whether landmarks can be found. Inside the masks no facial detail may be left.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from pydantic import Field, JsonValue

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array
from p3m_data.errors import P3MError, StorageError
from p3m_data.faces.detail import BLURRED, TELLING, detail
from p3m_data.faces.detectors import load_auditor
from p3m_data.faces.landmarkers import load_landmarker
from p3m_data.faces.landmarks import LandmarkConfig, locate
from p3m_data.faces.private_area import ellipse_outline
from p3m_data.faces.proposals import Proposal
from p3m_data.inspection.crops import crop_name, cut_out
from p3m_data.inspection.findings import TIME_LIMIT, About, Crop, Finding, Level, Looked, OnProgress, unheard
from p3m_data.inspection.masked import is_masked, known_faces, mean_alpha
from p3m_data.inspection.networks import find_detectors, find_landmarker
from p3m_data.inspection.sightings import LookConfig, Place, Sighting, places, sightings
from p3m_data.inspection.statistics import rate
from p3m_data.pipeline.engines import WorkerLost, run_local
from p3m_data.stages.detect import Models
from p3m_data.storage.folders import locate as file_of
from p3m_data.storage.images import load_picture
from p3m_data.storage.manifest import read_manifest
from p3m_data.storage.masks import load_png_mask, read_file
from p3m_data.storage.mattes import load_matte
from p3m_data.types import Box, Check, Face, Frozen, Outline

if TYPE_CHECKING:
    from p3m_data.inspection.originals import Originals
    from p3m_data.storage.layouts import Layout, Sample

ABOUT: Mapping[str, About] = {
    "residual_face": About(
        "Faces that are not masked",
        "Up to five independent detectors looked at every published picture, at several sizes and turned "
        "(dlib's CNN once, at 640 pixels, because it is slow). Where two of them, or one and the landmarks, are "
        "sure of a face that no mask covers and that has facial detail, it is a fault. Where one alone is, it is "
        "a note, with a picture of the place: most notes are hands, shoes and patterns, a few are faces out of "
        "focus or cut by the border.",
        "That nobody can be recognised. Detectors miss faces, above all small, blurred, hidden and cut ones, and "
        "do not look for hair, clothes, tattoos or places. Faces narrower than 12 pixels are not judged.",
    ),
    "bystander_face": About(
        "Bystanders' faces that are not masked",
        "The same, for faces that lie mainly where the matte says that the subject is not.",
        "The same. Without a matte nobody is told from the subject.",
    ),
    "detail_under_mask": About(
        "Facial detail inside the masks",
        "Inside every mask the fine structure of the published pixels is measured; visible faces have at least "
        "twice as much as is allowed. A picture whose mask is there but whose blur is not is found.",
        "That the blur cannot be undone: that is what re-identification tries.",
    ),
    "pictures_looked_at": About(
        "Pictures that could be looked at",
        "Every published picture was decoded and shown to the detectors.",
        "Anything about the pictures that it names: nobody looked at them.",
    ),
}

SURE = {"blazeface": 0.88, "centerface": 0.65, "yunet": 0.88, "dlib_hog": 0.25, "dlib_cnn": 0.5}
"""Scores of a clear face: in 182 anonymized portraits nothing but masked faces reaches one that counts alone."""
ACCEPT = {"blazeface": 0.75, "centerface": 0.45, "yunet": 0.75, "dlib_hog": 0.2, "dlib_cnn": 0.5}
"""Scores worth a note."""
SUPPORT = {"blazeface": 0.4, "centerface": 0.3, "yunet": 0.45, "dlib_hog": 0.1, "dlib_cnn": 0.4}
"""Scores that back another detector; what is below is noise."""

LOOKED = -0.2  # margin of the ellipse in which facial detail is measured: without what is behind the head
BESIDE = 0.5  # a face with less mean alpha is not the subject's


class ResidualConfig(Frozen):
    """What is looked for in the published pictures."""

    look: LookConfig = LookConfig()
    smallest: float = Field(12.0, ge=1, description="narrower faces, in pixels, are not judged")
    detail: float = Field(BLURRED, gt=0, le=255, description="facial detail that nobody recognises, of 255")
    trust: LandmarkConfig = LandmarkConfig()


class Item(NamedTuple):
    """One picture and what is known of it; picklable."""

    where: str
    """What findings call it: its id, or its path in the dataset."""
    image: Path
    facemask: Path | None
    matte: Path | None
    faces: tuple[Face, ...]
    """The ledger's, where there is one."""
    waived: frozenset[str]
    """Checks that a reviewer let pass."""


class Person(NamedTuple):
    """A face in a picture, masked or not."""

    how: str
    """`landmarks`, `ellipse`, `person` (from the ledger), `facemask` (from the mask alone), `unmasked`."""
    level: Level | None
    """Of the finding about it."""
    alpha: float | None
    """Mean alpha over it; None without a matte."""


class Seen(NamedTuple):
    """All that was found out about one picture."""

    where: str
    findings: tuple[Finding, ...]
    crops: tuple[Crop, ...]
    people: tuple[Person, ...]
    sightings: Counter[tuple[str, str, str]]
    """(detector, view, `masked` or `unmasked`) -> detections."""
    heads: frozenset[str]
    """Detectors to which a masked face is still a face."""
    seconds: dict[str, float]
    """Time that each detector took."""


class Residual(NamedTuple):
    findings: list[Finding]
    looked: list[Looked]
    figures: dict[str, JsonValue]
    crops: list[Crop]
    seen: list[Seen]
    """For `bystanders` and `groups`."""


@dataclass(frozen=True)
class Setup:
    """Loads a worker's networks; picklable."""

    files: Mapping[str, Path | None]
    """Detector -> its weights."""
    landmarker: Path | None
    config: ResidualConfig = field(default_factory=ResidualConfig)

    def __call__(self) -> Callable[[Item], Seen]:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        detectors = {name: load_auditor(name, file) for name, file in self.files.items()}
        found = {"mediapipe": load_landmarker("mediapipe", self.landmarker)} if self.landmarker else {}
        return Looker(Models(detectors, found), self.config)


class Looker:
    """A worker's function: a picture becomes what was seen in it."""

    def __init__(self, models: Models, config: ResidualConfig) -> None:
        self.models = models
        self.config = config

    def __call__(self, item: Item) -> Seen:
        try:
            return self._opened(item)
        except (StorageError, MemoryError):
            raise
        except Exception as error:
            # one picture that trips a library must not end an audit of a million
            return not_seen(
                item.where, f"the program failed on it ({type(error).__name__}); please report it"
            )

    def _opened(self, item: Item) -> Seen:
        try:
            image = load_picture(read_file(item.image), item.where).pixels
            size = (image.shape[1], image.shape[0])
            mask = np.zeros(image.shape[:2], np.bool_)
            if item.facemask is not None:
                mask = load_png_mask(read_file(item.facemask), item.where, size)
            alpha = None if item.matte is None else load_matte(read_file(item.matte), item.where, size)
        except StorageError:
            raise
        except P3MError as error:
            said = str(error)
            for file in filter(None, (item.image, item.facemask, item.matte)):
                said = said.replace(str(file), file.name)
            return not_seen(item.where, said)
        return self._look(item, np.ascontiguousarray(image), mask, alpha)

    def _look(self, item: Item, image: UInt8Array, mask: BoolArray, alpha: FloatArray | None) -> Seen:
        seen: list[Sighting] = []
        seconds = {}
        for name, detector in self.models.detectors.items():
            began = time.perf_counter()
            seen += sightings(image, {name: detector}, self.config.look)
            seconds[name] = time.perf_counter() - began
        known = known_faces(item.faces, mask)
        masked = [(box, how) for box, how, _ in known]
        people = [Person(how, None, mean_alpha(alpha, box)) for box, how in masked]
        findings = list(self._under_masks(item, image, mask, known))
        crops: list[Crop] = []
        counts: Counter[tuple[str, str, str]] = Counter()
        heads: set[str] = set()
        for place in places(seen, ACCEPT, SUPPORT):
            explained = is_masked(place.box, [box for box, _ in masked], mask)
            counts.update(
                (s.detector, s.view, "masked" if explained else "unmasked") for s in place.sightings
            )
            if explained:
                heads |= {name for name, score in place.scores.items() if score >= 1}
                continue
            finding = self._judge(item, image, mask, place, alpha)
            if finding is None:
                continue
            crops.append(cut_out(image, place.box, crop_name(item.where, len(crops))))
            findings.append(finding.model_copy(update={"crop": crops[-1].name}))
            people.append(Person("unmasked", finding.level, mean_alpha(alpha, place.box)))
        return Seen(
            item.where, tuple(findings), tuple(crops), tuple(people), counts, frozenset(heads), seconds
        )

    def _judge(
        self, item: Item, image: UInt8Array, mask: BoolArray, place: Place, alpha: FloatArray | None
    ) -> Finding | None:
        """The finding about a face that no mask explains; None when it is nothing worth a look."""
        wide = place.box[2] - place.box[0]
        if place.score < 1 or wide < self.config.smallest:
            return None
        left = detail(image, ellipse_outline(place.box, LOOKED), ~mask)
        if left < self.config.detail and wide >= TELLING:
            return None
        proposal = Proposal(place.box, 1.0, tuple(place.scores), weak=False, angle=0.0)
        found = self.models.landmarkers
        trusted = bool(found) and locate(image, proposal, found, self.config.trust).verdict == "trusted"
        fault = left >= self.config.detail and is_sure(place, trusted)
        waived = "faces_left" in item.waived
        opaque = mean_alpha(alpha, place.box)
        return Finding(
            check="bystander_face" if is_beside(opaque) else "residual_face",
            where=item.where,
            said=_said(place, fault, trusted, waived),
            level="fault" if fault and not waived else "note",
            value=round(left, 2),
            limit=self.config.detail,
        )

    def _under_masks(
        self, item: Item, image: UInt8Array, mask: BoolArray, known: Sequence[tuple[Box, str, Outline]]
    ) -> Iterator[Finding]:
        left = max((detail(image, outline, mask) for _, _, outline in known), default=0.0)
        if left > self.config.detail:
            waived = "detail_left" in item.waived
            yield Finding(
                check="detail_under_mask",
                where=item.where,
                said="facial detail can be made out where the mask says that the face is blurred"
                + ("; a reviewer let it pass" if waived else ""),
                level="note" if waived else "fault",
                value=round(left, 2),
                limit=self.config.detail,
            )


def is_sure(place: Place, trusted: bool) -> bool:
    """Whether an unmasked face is certain: two detectors, one of them sure, or one that is sure and landmarks."""
    scores = {name: score * ACCEPT[name] for name, score in place.scores.items()}
    sure = [name for name, score in scores.items() if score >= SURE[name]]
    accepted = [name for name, score in scores.items() if score >= ACCEPT[name]]
    return bool(sure) and (len(accepted) > 1 or trusted)


def is_beside(alpha: float | None) -> bool:
    """Whether a face with that mean alpha is a bystander's; without a matte nobody can tell."""
    return alpha is not None and alpha < BESIDE


def not_seen(where: str, why: str) -> Seen:
    """In place of a picture that could not be looked at."""
    said = f"nobody could look at it: {why}"
    finding = Finding(check="pictures_looked_at", where=where, said=said)
    return Seen(where, (finding,), (), (), Counter(), frozenset(), {})


def residual(
    layout: Layout,
    originals: Originals,
    *,
    detectors: Sequence[str] | None = None,
    workers: int = 1,
    config: ResidualConfig | None = None,
    on_progress: OnProgress = unheard,
) -> Residual:
    """Looks for faces in all published pictures but those that are published unmasked on purpose.

    detectors: names of `DETECTORS` and `AUDITORS`; by default all that are on this machine. `UsageError` for an
    unknown one, and as `run_local`.
    """
    files, why_not = find_detectors(detectors)
    chosen = [sample for sample in layout.samples if not sample.split.endswith("-NP")]
    left_out = len(layout.samples) - len(chosen)
    if left_out:
        why_not.append(f"{left_out} pictures are of the split whose faces are published on purpose")
    seen: list[Seen] = []
    if files:
        setup = Setup(files, find_landmarker(why_not), config or ResidualConfig())
        for item, result in run_local(
            _items(layout, originals, chosen), setup, workers, time_limit=TIME_LIMIT
        ):
            one = not_seen(item.where, result.detail) if isinstance(result, WorkerLost) else result
            seen.append(one)
            on_progress(len(seen), len(chosen))
    seen.sort(key=lambda one: one.where)
    at = sum(bool(one.seconds) for one in seen)
    masked = sum(any(person.how != "unmasked" for person in one.people) for one in seen)
    return Residual(
        findings=[finding for one in seen for finding in one.findings],
        looked=[
            Looked(check=check, at=masked if check == "detail_under_mask" else at, why_not="; ".join(why_not))
            for check in ABOUT
        ],
        figures=figures(seen, list(files)),
        crops=[crop for one in seen for crop in one.crops],
        seen=seen,
    )


def figures(seen: Sequence[Seen], detectors: Sequence[str]) -> dict[str, JsonValue]:
    """What the detectors saw, by detector and view, and what they cost."""
    looked = [one for one in seen if one.seconds]
    by_detector: dict[str, JsonValue] = {}
    for name in detectors:
        total: Counter[tuple[str, str, str]] = Counter()
        for one in looked:
            total.update({key: count for key, count in one.sightings.items() if key[0] == name})
        views: dict[str, JsonValue] = {}
        for view in sorted({key[1] for key in total}):
            counts: dict[str, JsonValue] = {k: total[(name, view, k)] for k in ("masked", "unmasked")}
            views[view] = counts
        masked = [one for one in looked if any(p.how != "unmasked" for p in one.people)]
        heads = rate(sum(name in one.heads for one in masked), len(masked))
        by_detector[name] = {
            "pictures_whose_masked_face_is_still_a_head": dict(heads.figure()),
            "detections_by_view": views,
            "seconds_a_picture": round(
                sum(o.seconds.get(name, 0.0) for o in looked) / max(len(looked), 1), 3
            ),
        }
    faults = rate(sum(any(f.level == "fault" for f in one.findings) for one in looked), len(looked))
    return {"pictures_with_a_fault": dict(faults.figure()), "detectors": by_detector}


def _items(layout: Layout, originals: Originals, samples: Sequence[Sample]) -> Iterator[Item]:
    checks = _public_checks(layout)
    for sample in samples:
        record = originals.record(sample)
        path = {role: file_of(layout.root, name) for role, name in sample.files.items()}
        told: tuple[Check, ...] = record.checks if record else checks.get(sample.files["image"], ())
        yield Item(
            where=where(layout, sample),
            image=path["image"],
            facemask=path.get("facemask"),
            matte=path.get("matte"),
            faces=record.faces if record else (),
            waived=frozenset(check.name for check in told if check.waived),
        )


def where(layout: Layout, sample: Sample) -> str:
    """What findings call a sample: its id in a dataset of ours, else its picture's path."""
    return sample.name if layout.kind == "p3mdata" else sample.files["image"]


def _public_checks(layout: Layout) -> dict[str, tuple[Check, ...]]:
    """Path of a picture -> what the manifest says of it; nothing of a manifest that cannot be read."""
    if layout.manifest is None or not os.path.isfile(layout.manifest):
        return {}
    try:
        return {row.image: row.checks for row in read_manifest(layout.manifest)}
    except P3MError:
        return {}  # `validate` says what is wrong with it; here nothing is waived


def _said(place: Place, fault: bool, trusted: bool, waived: bool) -> str:
    who = ", ".join(f"{n} {score * ACCEPT[n]:.2f}" for n, score in sorted(place.scores.items()))
    x0, y0, x1, y1 = (round(v) for v in place.box)
    marks = ", and its landmarks were found" if trusted else ""
    said = "an unmasked face" if fault else "something that may be an unmasked face; look at it"
    return f"{said} at ({x0}, {y0}) to ({x1}, {y1}), seen by {who}{marks}" + (
        "; a reviewer let it pass" if waived else ""
    )
