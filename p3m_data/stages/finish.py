"""Finish: bring the public side in step with the ledger."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from p3m_data.errors import StorageError
from p3m_data.pipeline.dataset import OUTPUTS, PUBLISHED_AT, Dataset
from p3m_data.pipeline.ledger import Ledger
from p3m_data.storage.manifest import manifest_row, write_manifest
from p3m_data.types import Status

STALE = "manifest_stale"
"""Key of the ledger's note that the manifest does not tell of the last decisions yet; another for each."""


def finish(ledger: Ledger, dataset: Dataset, on_note: Callable[[str], None]) -> None:
    """Write the manifest and move every file without a row to the private side.

    Only for who holds the dataset: the workers of a run publish files before they have a row.
    """
    with dataset.publishing():
        _write_manifest(ledger, dataset)
        strays = [
            dataset.train / folder / file.name
            for folder in OUTPUTS
            for file in sorted((dataset.train / folder).iterdir())
        ]
        public = {path for record in ledger.records(Status.ANONYMIZED) for path in record.files}
        _set_times(dataset, public)
        strays = [file for file in strays if str(file.relative_to(dataset.public).as_posix()) not in public]
        if strays:
            aside = dataset.private / "orphans"
            _move(strays, aside)
            on_note(f"{len(strays)} files that belong to no picture of this dataset were moved to {aside}")


def mark_stale(ledger: Ledger) -> None:
    """Note, in the transaction that changes what is public, that the manifest does not say so yet."""
    ledger.set_meta(STALE, secrets.token_hex(8))


def finish_review(ledger: Ledger, dataset: Dataset) -> None:
    """Write the manifest if decisions made it stale; also beside a run."""
    with dataset.publishing():
        if ledger.meta(STALE):
            _write_manifest(ledger, dataset)


def take_away(dataset: Dataset, name: str) -> None:
    """Remove whatever is public of the picture with the id `name`, also what no row knows of."""
    for folder in OUTPUTS:
        for file in (dataset.train / folder).glob(f"{name}.*"):
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(
                    f"{file} must not be published and cannot be removed ({error.strerror}); "
                    "allow it, or remove it by hand"
                ) from error


def _write_manifest(ledger: Ledger, dataset: Dataset) -> None:
    known = ledger.meta(STALE)
    rows = (manifest_row(record) for record in ledger.records(Status.ANONYMIZED))
    write_manifest(rows, dataset.manifest)
    with ledger.writing():
        # a decision that came while the rows were read left another note
        if known and ledger.meta(STALE) == known:
            ledger.set_meta(STALE, "")


def _set_times(dataset: Dataset, public: set[str]) -> None:
    """For files that an earlier version published, or that somebody touched or copied."""
    for path in public:
        try:
            if (dataset.public / path).stat().st_mtime_ns != PUBLISHED_AT:
                os.utime(dataset.public / path, ns=(PUBLISHED_AT, PUBLISHED_AT))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StorageError(
                f"the time of {dataset.public / path} cannot be set ({error.strerror}); allow it"
            ) from error


def _move(files: list[Path], aside: Path) -> None:
    try:
        aside.mkdir(exist_ok=True)
        for file in files:
            shutil.move(file, aside / f"{file.parent.name}-{file.name}")
    except OSError as error:
        raise StorageError(
            f"files cannot be moved to {aside} ({error.strerror}); make room or allow it"
        ) from error
