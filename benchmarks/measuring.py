"""A whole run watched from outside; and pictures done whole and as bare steps, in turns, in the same workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil  # type: ignore[import-untyped]
from PIL import Image

from p3m_data.errors import P3MError
from p3m_data.faces.landmarkers import LANDMARKERS
from p3m_data.faces.landmarks import locate
from p3m_data.faces.proposals import propose
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.engines import WorkerLost, run_local
from p3m_data.stages.anonymize import Anonymizer, Job
from p3m_data.stages.config import AnonymizeConfig
from p3m_data.stages.detect import Models
from p3m_data.stages.run import Progress, anonymize_folder
from p3m_data.storage import folders, weights
from p3m_data.storage.images import decode, encode_picture, encode_png, load_picture
from p3m_data.storage.mattes import encode_matte, load_matte, matte_from_alpha
from p3m_data.types import Record, Source, Status

SAMPLED = 0.05  # seconds between two looks at the processes' memory
STEPS = ("decode", "propose", "landmarks", "encode")

Seconds = dict[str, float]


class Peaks(NamedTuple):
    """Largest resident memory so far, bytes: of the driver, and of the worker with the most."""

    driver: int
    worker: int


@dataclass
class Run:
    """One whole run; the lists have an element for each picture, in the order in which they were done."""

    wall: float
    """Seconds from the start of the driver's process to its end."""
    steady: float
    """The same without start-up: from when the first worker took its first picture."""
    pictures: list[Seconds]
    """Time spent by stage."""
    peaks: list[Peaks]
    """As they were when the picture was done."""


def whole_run(photos: Path, mattes: Path | None, public: Path, workers: int) -> Run:
    """`anonymize_folder` into the new dataset `public`, in a process of its own; raises what it raises."""
    context = get_context("spawn")
    here, there = context.Pipe()
    began = time.perf_counter()
    process = context.Process(target=_drive, args=(there, photos, mattes, public, workers))
    process.start()
    there.close()
    run = Run(0.0, 0.0, [], [])
    driver = psutil.Process(process.pid)
    peaks = Peaks(0, 0)
    first_began = began
    while True:
        peaks = _watched(driver, peaks)
        if not here.poll(SAMPLED):
            continue
        try:
            message = here.recv()
        except EOFError:
            break
        if isinstance(message, Exception):
            raise message
        if not run.pictures:
            first_began = time.perf_counter() - sum(message.values())
        run.pictures.append(message)
        run.peaks.append(peaks)
    process.join()
    if process.exitcode:
        raise P3MError(f"the measured run ended with status {process.exitcode}; see what it printed")
    ended = time.perf_counter()
    run.wall, run.steady = ended - began, ended - first_began
    return run


def _drive(pipe: Connection, photos: Path, mattes: Path | None, public: Path, workers: int) -> None:
    """The life of the measured driver: sends the seconds of each picture as it is done."""
    before: Seconds = {}

    def tell(progress: Progress, record: Record | None) -> None:
        nonlocal before
        if record is not None:
            pipe.send({stage: total - before.get(stage, 0.0) for stage, total in progress.seconds.items()})
            before = dict(progress.seconds)

    try:
        anonymize_folder(
            photos, Dataset.at(public), AnonymizeConfig(), mattes=mattes, workers=workers, on_progress=tell
        )
    except P3MError as error:
        pipe.send(error)


def _watched(driver: psutil.Process, peaks: Peaks) -> Peaks:
    with suppress(psutil.NoSuchProcess):
        children = [child.memory_info().rss for child in driver.children()]
        return Peaks(max(peaks.driver, driver.memory_info().rss), max([peaks.worker, *children]))
    return peaks


class Pair(NamedTuple):
    """Seconds of one picture in one worker, one right after the other."""

    whole: Seconds
    """By stage."""
    bare: Seconds
    """By step."""


def paired_steps(photos: Path, mattes: Path | None, public: Path, workers: int) -> list[Pair]:
    """Every picture that the run into `public` could read, done again whole and as bare steps."""
    dataset = Dataset.at(public)
    with dataset.ledger() as ledger:
        records = {record.source: record for record in ledger.records()}
    readable = {path for path, record in records.items() if record.status is not Status.FAILED}
    sources = [source for source in folders.scan(photos, mattes) if source.path in readable]
    items = [
        Item(source, records[source.path].files, number % 2 == 0) for number, source in enumerate(sources)
    ]
    config = AnonymizeConfig()
    networks = [*config.detect.detectors, *(LANDMARKERS[name][2] for name in config.detect.landmarkers)]
    log = dataset.private / "paired.log"
    job = Job(photos, mattes, dataset, dataset.key(), weights.ensure(networks), {}, config, log)
    pairs = []
    for _, pair in run_local(items, PairedJob(job), workers):
        if isinstance(pair, WorkerLost):
            raise P3MError(f"a worker was lost over the bare steps: {pair.detail}")
        pairs.append(pair)
    return pairs


class Item(NamedTuple):
    source: Source
    files: dict[str, str]
    """Published files of the picture, by their paths on the public side; none where it waits for review."""
    whole_first: bool


@dataclass(frozen=True)
class PairedJob:
    """Like `Job`; the worker's function does each picture as a whole and as bare steps."""

    job: Job

    def __call__(self) -> Callable[[Item], Pair]:
        whole = self.job()
        assert isinstance(whole, Anonymizer)

        def pair(item: Item) -> Pair:
            if item.whole_first:
                return Pair(whole(item.source).seconds, bare(item, self.job, whole.models))
            steps = bare(item, self.job, whole.models)
            return Pair(whole(item.source).seconds, steps)

        return pair


def bare(item: Item, job: Job, models: Models) -> Seconds:
    """Time of the bare steps; what they need besides is made outside of the measured time."""
    clock = _Clock()
    photo = folders.locate(job.photos, item.source.path)
    matte = None
    if item.source.matte is not None and job.mattes is not None:
        matte = folders.locate(job.mattes, item.source.matte)
    with clock.measured("decode"):
        _decode(photo, "RGB")
        if matte is not None:
            _decode(matte, "L")
    picture = load_picture(photo.read_bytes(), item.source.path)
    with clock.measured("propose"):
        proposals = propose(picture.pixels, models.detectors, job.config.detect.proposals)
    with clock.measured("landmarks"):
        for proposal in proposals:
            if proposal.weak:
                continue
            locate(picture.pixels, proposal, models.landmarkers, job.config.detect.trust)
    if not item.files:
        return clock.seconds
    files = {Path(path).parent.name: job.dataset.public / path for path in item.files}
    result = decode(files["blurred_image"].read_bytes())
    mask = decode(files["facemask"].read_bytes())[..., 0] > 0
    alpha = None if picture.alpha is None else matte_from_alpha(picture.alpha)
    if matte is not None:
        alpha = load_matte(matte.read_bytes(), matte.name, (mask.shape[1], mask.shape[0]))
    with clock.measured("encode"):
        encode_picture(picture, result, mask, job.config.container)
        encode_png(mask.astype(np.uint8) * 255)
        if alpha is not None:
            encode_matte(alpha)
    return clock.seconds


class _Clock:
    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STEPS, 0.0)

    @contextmanager
    def measured(self, step: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[step] = time.perf_counter() - begin


def _decode(file: Path, mode: str) -> Any:
    with Image.open(file) as image:
        return np.asarray(image.convert(mode))
