"""The originals of a dataset's pictures, where somebody who may see them inspects it.

A dataset of ours is led to its sources by the private ledger; any other one by equal names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from p3m_data.errors import UsageError
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.ledger import Ledger
from p3m_data.stages.config import AnonymizeConfig
from p3m_data.storage.folders import PICTURE_SUFFIXES, locate
from p3m_data.storage.layouts import Layout, Sample
from p3m_data.types import Record


@dataclass
class Originals:
    """Where the originals are; a context manager, since the ledger stays open."""

    folder: Path | None = None
    """The folder of the originals."""
    mattes: Path | None = None
    """The folder of the mattes that the run was given."""
    ledger: Ledger | None = None
    key: bytes | None = None
    """The secret that the ids were made with."""
    config: AnonymizeConfig | None = None
    """The settings of the run."""
    why_not: str = ""
    """A sentence when there are no originals."""
    by_stem: dict[str, str] = field(default_factory=dict)
    """Without a ledger: stem -> path relative to `folder`."""

    @classmethod
    def of(cls, layout: Layout, folder: Path | None, private: Path | None) -> Originals:
        """The originals of the dataset in `layout`.

        `folder`: where they are now (default: where the ledger says that they were). `private`: the dataset's
        private folder (default: DATASET.private, if there is a ledger in it). `UsageError` when a named folder
        is not there, and when two originals could be one sample's.
        """
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{folder} is no folder; name the folder that holds the originals")
        sides = Dataset.at(layout.root, private)
        if private is not None or sides.ledger_path.is_file():
            return cls._with_ledger(sides, folder)
        if folder is None:
            return cls(why_not="no originals were named (--originals DIR)")
        by_stem = _by_stem(folder, {sample.name for sample in layout.samples})
        if not by_stem:
            raise UsageError(
                f"no picture in {folder} is named like one of {layout.root}; name the folder of its originals"
            )
        return cls(folder, by_stem=by_stem)

    @classmethod
    def _with_ledger(cls, sides: Dataset, folder: Path | None) -> Originals:
        ledger = sides.ledger()
        photos, mattes = folder or _folder(ledger, "photos"), _folder(ledger, "mattes")
        why_not = ""
        if photos is None or not photos.is_dir():
            photos = None
            why_not = (
                "the originals are not where the ledger says that they were; name them with --originals DIR"
            )
        # Dataset.key would make a secret where there is none
        key = sides.known_key(ledger) if sides.key_path.is_file() else None
        return cls(
            folder=photos,
            mattes=mattes if mattes is not None and mattes.is_dir() else None,
            ledger=ledger,
            key=key,
            config=_config(ledger),
            why_not=why_not,
        )

    def record(self, sample: Sample) -> Record | None:
        """The sample's row of the ledger."""
        return self.ledger.find(sample.name) if self.ledger is not None else None

    def path(self, sample: Sample) -> Path | None:
        """The sample's original; None when it is not there."""
        if self.ledger is None:
            source = self.by_stem.get(sample.name)
        else:
            record = self.record(sample)
            source = record.source if record is not None else None
        if self.folder is None or source is None:
            return None
        file = locate(self.folder, source)
        return file if file.is_file() else None

    def close(self) -> None:
        if self.ledger is not None:
            self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _folder(ledger: Ledger, name: str) -> Path | None:
    place = ledger.meta(name)
    return Path(place) if place else None


def _config(ledger: Ledger) -> AnonymizeConfig | None:
    settings = ledger.meta("config")
    try:
        return AnonymizeConfig.model_validate_json(settings) if settings else None
    except ValidationError as error:
        raise UsageError(
            f"{ledger.path} holds settings that this version does not know; use the version that made it"
        ) from error


def _by_stem(folder: Path, wanted: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in _pictures(folder):
        stem = Path(path).stem
        if stem not in wanted:
            continue
        if stem in found:
            raise UsageError(
                f"{found[stem]} and {path} in {folder} could both be the original of {stem}; move one away"
            )
        found[stem] = path
    return found


def _pictures(folder: Path) -> Iterator[str]:
    for at, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES:
                yield Path(at, name).relative_to(folder).as_posix()
