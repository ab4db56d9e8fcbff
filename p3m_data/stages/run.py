"""The run over a folder: scan, hand pictures to workers, keep the ledger, finish the dataset.

Only this process writes the ledger. A run can be stopped at any moment and started again: what is in the
ledger is done, what is not is done again with the same result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from p3m_data.errors import ConfigChanged, UsageError
from p3m_data.pipeline.dataset import Dataset, key_mark
from p3m_data.pipeline.decisions import Decisions
from p3m_data.pipeline.engines import TimedOut, WorkerLost, run_local
from p3m_data.pipeline.ledger import Ledger
from p3m_data.stages.anonymize import Job, Outcome, find_weights
from p3m_data.stages.config import AnonymizeConfig
from p3m_data.stages.finish import finish, take_away
from p3m_data.stages.review import Desk
from p3m_data.storage.folders import other_files, remove_leftovers, scan, unused_mattes
from p3m_data.types import Reason, Record, Source, Status


@dataclass
class Progress:
    """What a run has done so far, for whoever shows it."""

    total: int = 0
    """Pictures that were pending when the run began."""
    done: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """Time spent by stage, summed over workers."""


def anonymize_folder(
    photos: Path,
    dataset: Dataset,
    config: AnonymizeConfig,
    *,
    mattes: Path | None = None,
    workers: int = 1,
    retry_failed: bool = False,
    time_limit: float | None = None,
    weights_by_path: dict[str, Path] | None = None,
    on_progress: Callable[[Progress, Record | None], None] = lambda _progress, _record: None,
    on_note: Callable[[str], None] = lambda _note: None,
) -> None:
    """Anonymizes every picture under `photos` into `dataset`, going on where an earlier run stopped.

    `mattes`: folder with the pictures' mattes. `time_limit`: seconds for a picture, as the engine takes it.
    `on_note` gets sentences a person should see.
    Raises `UsageError`, `ConfigChanged`, `DatasetBusy`, `WeightsError` before anything is written to the
    public side, and `StorageError` when a disk is full; bad pictures are rows in the ledger instead.
    """
    sides = (dataset.public, dataset.private)
    _check_sides(photos, mattes, sides)
    sources = scan(photos, mattes, exclude=sides)
    files, digests = find_weights(config, weights_by_path or {})
    dataset.check_free()
    dataset.create()
    with Ledger(dataset.ledger_path, create=True) as ledger:
        _remember(ledger, dataset, photos, mattes, config)
        key = dataset.known_key(ledger)
        ledger.set_meta("key", key_mark(key))
        _tidy(dataset)
        _add(ledger, sources, photos, mattes, sides, on_note)
        with dataset.publishing():
            _redo_lost(ledger, dataset, on_note)
        if retry_failed:
            ledger.retry(Status.FAILED)
        log = dataset.private / "workers.log"
        decided = Decisions(ledger).effective()
        job = Job(photos, mattes, dataset, key, files, digests, config, log, decided)
        progress = Progress(total=ledger.counts()[Status.PENDING])
        on_progress(progress, None)
        # a duplicate whose original went away is pending again behind the reader's back
        while ledger.counts()[Status.PENDING]:
            for record, seconds in _process(ledger.pending(), job, workers, time_limit):
                kept = _commit(record, ledger, dataset)
                progress.done += 1
                for stage, spent in seconds.items():
                    progress.seconds[stage] = progress.seconds.get(stage, 0.0) + spent
                on_progress(progress, kept)
        _carry_out_again(ledger, dataset, on_note)
        _tidy(dataset)
        finish(ledger, dataset, on_note)


def _process(
    sources: Iterator[Source], job: Job, workers: int, time_limit: float | None
) -> Iterator[Outcome]:
    for source, outcome in run_local(sources, job, workers, time_limit=time_limit):
        if isinstance(outcome, WorkerLost):
            reason, detail = Reason.WORKER_LOST, outcome.detail
            if isinstance(outcome, TimedOut):
                reason = Reason.TIMED_OUT
                detail = (
                    f"it was tried twice and not done in {time_limit:g} seconds; "
                    "give it more with --time-limit and --retry-failed, or leave it out"
                )
            lost = Record(
                source=source.path,
                matte=source.matte,
                status=Status.FAILED,
                reason=reason,
                detail=detail,
                provenance=job.provenance,
            )
            yield Outcome(lost, {})
        else:
            yield outcome


def _tidy(dataset: Dataset) -> None:
    """Remove what processes that were killed, the workers of this run among them, had not finished writing."""
    with dataset.publishing():
        for side in (dataset.public, dataset.private):
            remove_leftovers(side)


def _check_sides(photos: Path, mattes: Path | None, sides: tuple[Path, ...]) -> None:
    for folder in filter(None, (photos, mattes)):
        for side in sides:
            if folder.resolve().is_relative_to(side):
                raise UsageError(
                    f"{folder} lies in {side}, where the result goes; name another output folder"
                )


def _remember(
    ledger: Ledger, dataset: Dataset, photos: Path, mattes: Path | None, config: AnonymizeConfig
) -> None:
    """A dataset is made from one folder with one configuration; anything else would mix two in one."""
    settings = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    before = ledger.meta("config")
    if before is not None and before != settings:
        changed = ", ".join(_changed(json.loads(before), json.loads(settings)))
        raise ConfigChanged(
            f"{dataset.public} was made with other settings ({changed}); "
            "use the same ones, or another output folder"
        )
    for key, folder, what in (("photos", photos, "pictures"), ("mattes", mattes, "mattes")):
        place = "" if folder is None else str(folder.resolve())
        known = ledger.meta(key)
        if known is not None and known != place:
            raise ConfigChanged(
                f"{dataset.public} was made with the {what} of {known or 'no folder'}, not of "
                f"{place or 'no folder'}; use the same, or another output folder"
            )
        ledger.set_meta(key, place)
    ledger.set_meta("config", settings)


def _changed(before: dict[str, object], after: dict[str, object], prefix: str = "") -> Iterator[str]:
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changed(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}: {old} then, {new} now"


def _redo_lost(ledger: Ledger, dataset: Dataset, on_note: Callable[[str], None]) -> None:
    """Do pictures again of which somebody removed a public file."""
    lost = [
        record.source
        for record in ledger.records(Status.ANONYMIZED)
        if not all((dataset.public / path).is_file() for path in record.files)
    ]
    for source in lost:
        ledger.redo(source)
    if lost:
        on_note(f"{len(lost)} published pictures are not in {dataset.public} any more and are done again")


def _commit(record: Record, ledger: Ledger, dataset: Dataset) -> Record:
    """Store what a worker made, unless a person decided about those bytes while it was under way."""
    if record.status is not Status.ANONYMIZED or record.id is None:
        return ledger.commit(record)
    with dataset.publishing():
        if Decisions(ledger).overrules_machine(record.id):
            take_away(dataset, record.id)
            said = "a reviewer decided about it meanwhile, which p3mdata review carries out again"
            waiting = {"status": Status.NEEDS_REVIEW, "reason": Reason.REVIEWED, "detail": said, "files": {}}
            record = record.model_copy(update=waiting)
        return ledger.commit(record)


def _carry_out_again(ledger: Ledger, dataset: Dataset, on_note: Callable[[str], None]) -> None:
    """What people decided holds for the same bytes, whatever made the machine look at them again."""
    if Decisions(ledger).cut_short():
        with Desk.open(dataset) as desk:
            count = desk.catch_up()
        for sentence in desk.troubles:
            on_note(sentence)
        on_note(f"{count} decisions of reviewers were carried out again")


def _add(
    ledger: Ledger,
    sources: Iterator[Source],
    photos: Path,
    mattes: Path | None,
    sides: tuple[Path, ...],
    on_note: Callable[[str], None],
) -> None:
    used: set[str] = set()
    paired = 0

    def counted() -> Iterator[Source]:
        nonlocal paired
        for source in sources:
            if source.matte is not None:
                used.add(source.matte)
                paired += 1
            yield source

    added = ledger.add(counted())
    total = added.new + added.changed + added.kept
    if others := other_files(photos, exclude=sides if mattes is None else (*sides, mattes)):
        on_note(f"{others} other files in {photos} are no pictures by their suffix and were passed over")
    if added.changed:
        on_note(f"{added.changed} pictures changed since they were done and are done again")
    if mattes is not None:
        if paired < total:
            on_note(f"{total - paired} of {total} pictures have no matte")
        if unused := len(unused_mattes(mattes, used, exclude=sides)):
            on_note(f"{unused} mattes have no picture")
