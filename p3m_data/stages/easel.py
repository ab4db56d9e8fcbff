"""Easel: a picture of the dataset to look at and to draw on, without deciding anything yet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from p3m_data.arrays import BoolArray, UInt8Array, check_mask
from p3m_data.errors import DraftChanged, InputError, UnknownPicture, UsageError
from p3m_data.faces.landmarks import locate
from p3m_data.faces.proposals import Proposal
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.decisions import Decision, Decisions, Draft
from p3m_data.pipeline.ledger import Ledger
from p3m_data.pipeline.queue import Entry, Queue
from p3m_data.stages.anonymize import Anonymizer, Job
from p3m_data.stages.candidate import load
from p3m_data.stages.drawing import parse_ops, rasterize
from p3m_data.stages.mask import drawn, suggest
from p3m_data.stages.pictures import (
    THUMBNAIL,
    Opened,
    Pictures,
    WholeBox,
    coverage,
    jpeg,
    matte_png,
    part_of,
    preview,
    shrunk,
    tinted_thumbnail,
)
from p3m_data.storage.folders import locate as locate_file
from p3m_data.storage.images import decode
from p3m_data.storage.masks import load_png_mask
from p3m_data.types import Box, Record, Source

T = TypeVar("T")


class Easel:
    """The pictures of one dataset, by id. Threads may share it; the networks have a thread of their own.

    Every method raises `UnknownPicture` for an id that is none and `UsageError` when the source is gone.
    """

    def __init__(self, dataset: Dataset, ledger: Ledger, job: Job) -> None:
        self.dataset = dataset
        self._job = job
        self._ledger = ledger
        self._queue = Queue(ledger)
        self._decisions = Decisions(ledger)
        self._pictures = Pictures(self._open_picture)
        self._anonymizer: Anonymizer | None = None
        self._work = ThreadPoolExecutor(1, thread_name_prefix="review")

    def picture(self, name: str) -> UInt8Array:
        """(H, W, 3) uint8 sRGB, upright."""
        return self._pictures.get(name).pixels

    def suggestion(self, name: str) -> BoolArray:
        """(H, W) bool: the machine's mask, with what it was not sure of."""
        return self._pictures.get(name).suggested.mask

    def layer(
        self,
        name: str,
        layer: str,
        size: int = 2048,
        box: WholeBox | None = None,
        *,
        reviewer: str,  # noqa: ARG002
    ) -> bytes:
        """One layer of a picture, or of its part `box`, with a long side of at most `size`: a JPEG or grey PNG."""
        opened = self._pictures.get(name)
        part = part_of(opened.pixels.shape, size, box)
        match layer:
            case "original":
                return jpeg(shrunk(opened.pixels, part))
            case "private":
                return coverage(opened.suggested.private, part)
            case "transition":
                return coverage(opened.suggested.transition, part)
            case "suggestion":
                return coverage(opened.suggested.mask, part)
            case "matte" if opened.loaded.alpha is not None:
                return matte_png(opened.loaded.alpha, part)
            case "result":
                return jpeg(shrunk(self._result(name, opened), part))
            case "opinion-1" | "opinion-2":
                return coverage(self._opinion(name, int(layer[-1]), opened), part)
        raise UnknownPicture(f"{name}, layer {layer},")

    def thumbnail(self, name: str, of: str = "picture") -> bytes:
        """A small JPEG of the `picture`, with the suggested mask in red, or of the `result`."""
        opened = self._pictures.get(name)
        if of == "picture":
            return tinted_thumbnail(opened)
        return jpeg(shrunk(self._result(name, opened), part_of(opened.pixels.shape, THUMBNAIL, None)))

    def save_draft(
        self,
        name: str,
        reviewer: str,
        holder: str,  # noqa: ARG002
        version: int,
        keep: int,
        add: Iterable[Any],
        done: int,
    ) -> dict[str, Any]:
        """Keep the first `keep` operations of a drawing and `add` some, of which the first `done` count."""
        self._record(name)
        self._queue.check_free(name, reviewer)
        before = self._decisions.draft(name, reviewer)
        if before.version != version:
            raise DraftChanged(name, before._asdict())
        ops = [*before.ops[:keep], *add]
        if not (0 <= keep <= len(before.ops) and 0 <= done <= len(ops)):
            raise UsageError(f"a drawing of {len(before.ops)} strokes cannot keep {keep} and count {done}")
        parsed = parse_ops(ops)
        plain = [op.model_dump(mode="json") for op in parsed]
        saved = self._decisions.save_draft(name, reviewer, before, plain, done)
        opened = self._pictures.get(name)
        mask = self._drawn(Draft(plain, done, saved), opened)
        protected = 0
        if opened.loaded.alpha is not None:
            protected = int(np.count_nonzero(mask & opened.suggested.transition))
        return {"version": saved, "area": int(np.count_nonzero(mask)), "protected": protected}

    def draft(self, name: str, reviewer: str) -> dict[str, Any]:
        """The drawing of `reviewer` on a picture."""
        return self._decisions.draft(name, reviewer)._asdict()

    def landmarks(self, name: str, box: Box) -> dict[str, Any]:
        """The private area of a face in `box`, as the landmarkers find it there."""
        x0, y0, x1, y1 = (float(v) for v in box)
        if x1 - x0 < 4 or y1 - y0 < 4:
            raise UsageError("the box is too small for a face; drag it around the whole face")
        image = self._pictures.get(name).pixels

        def look() -> dict[str, Any]:
            worker = self._networks()
            place = Proposal((x0, y0, x1, y1), 1.0, (), weak=False, angle=0.0)
            located = locate(image, place, worker.models.landmarkers, worker.config.detect.trust)
            if not located.outline:
                return {
                    "outline": None,
                    "said": "no eyes, brows and chin were found in the box; draw by hand",
                }
            sure = located.verdict == "trusted"
            return {
                "outline": located.outline,
                "said": "" if sure else "the landmarks are not certain; look whether they fit",
            }

        return self._in_thread(look)

    def preview(
        self, name: str, reviewer: str, version: int, size: int = 1600, box: WholeBox | None = None
    ) -> bytes:
        """A JPEG of the blur that the saved drawing `version` would give."""
        opened, draft = self._pictures.get(name), self._decisions.draft(name, reviewer)
        if draft.version != version:
            raise DraftChanged(name, draft._asdict())
        masked = drawn(opened.suggested, self._drawn(draft, opened), opened.loaded.alpha)
        return preview(opened, masked, part_of(opened.pixels.shape, size, box), self._job.config.blur)

    def _checked(self, name: str, mask: BoolArray) -> BoolArray:
        try:
            return check_mask(mask, self.picture(name).shape)
        except ValueError as error:
            raise UsageError(f"the mask of {name} does not fit its picture: {error}") from error

    def _drawing(self, name: str, reviewer: str, version: int | None) -> BoolArray:
        draft = self._decisions.draft(name, reviewer)
        if version is None or draft.version != version:
            raise DraftChanged(name, draft._asdict())
        return self._drawn(draft, self._pictures.get(name))

    def _drawn(self, draft: Draft, opened: Opened) -> BoolArray:
        ops = parse_ops(draft.ops[: draft.done])
        return rasterize(ops, opened.pixels.shape, opened.suggested.mask, opened.suggested.transition)

    def _result(self, name: str, opened: Opened) -> UInt8Array:
        """What the verification refused last, or what is published."""
        if opened.result is not None:
            return opened.result
        published = [p for p in self._record(name).files if p.startswith("train/blurred_image/")]
        if not published:
            raise UnknownPicture(f"{name}, blurred,")
        try:
            return decode((self.dataset.public / published[0]).read_bytes())
        except OSError as error:
            raise UnknownPicture(f"{name}, blurred,") from error

    def _opinion(self, name: str, place: int, opened: Opened) -> BoolArray:
        said = opinions(self._entry(name, self._record(name)), self._decisions.of(name))
        if place > len(said):
            raise UnknownPicture(f"{name}, opinion {place},")
        data = self._decisions.mask(said[place - 1].number)
        if data is None:
            return np.zeros(opened.pixels.shape[:2], bool)
        return load_png_mask(data, name, (opened.pixels.shape[1], opened.pixels.shape[0]))

    def _entry(self, name: str, record: Record) -> Entry:
        return self._queue.entry(name) or Entry(name, "decided", record.reason, "")

    def _record(self, name: str) -> Record:
        record = self._ledger.find(name)
        if record is None:
            raise UnknownPicture(name)
        return record

    def _open_picture(self, name: str) -> Opened:
        record, source = self._decisions.machine(name) or self._record(name), self._ledger.source(name)
        if source is None:
            raise UnknownPicture(name)
        job = self._job
        try:
            loaded = load(source, job.photos, job.mattes, job.key, job.config.limits)
        except InputError as error:
            # the error names the file, which is not for the page
            raise UsageError(
                f"the source of {name} cannot be opened any more; the private report tells which file it is"
            ) from error
        if loaded.id != name:
            raise UsageError(f"the source of {name} changed; run p3mdata anonymize again")
        shape = loaded.picture.pixels.shape
        return Opened(loaded, suggest(record.faces, loaded.alpha, shape, job.config.mask))

    def _open_now(self, name: str) -> Opened:
        """The picture as its file is now, which may have changed since somebody looked at it."""
        source = self._ledger.source(name)
        if source is not None and not _unchanged(source, self._job):
            self._pictures.forget(name)
        return self._pictures.get(name)

    def _networks(self) -> Anonymizer:
        if self._anonymizer is None:
            self._anonymizer = Anonymizer(self._job, self._job.load_models())
        return self._anonymizer

    def _close_networks(self) -> None:
        if self._anonymizer is not None:
            self._anonymizer.models.close()
            self._anonymizer = None

    def _in_thread(self, work: Callable[[], T]) -> T:
        future: Future[T] = self._work.submit(work)
        return future.result()


def _unchanged(source: Source, job: Job) -> bool:
    """Whether the files of `source` have the sizes and times that the run saw."""
    found = []
    for root, path in ((job.photos, source.path), (job.mattes, source.matte)):
        if root is not None and path is not None:
            try:
                facts = os.stat(locate_file(root, path))
            except OSError:
                return False
            found += [facts.st_size, facts.st_mtime_ns]
    known = [source.size, source.mtime_ns, source.matte_size, source.matte_mtime_ns]
    return found == known[: len(found)]


def opinions(entry: Entry, made: Sequence[Decision]) -> list[Decision]:
    """What people said of a picture, the first first, as far as it may be told."""
    if entry.state not in ("disagreement", "decided"):
        return []
    told = ("second_opinion", "disagreement", "agreed", "published", "excluded", "confirmed")
    return [d for d in reversed(made) if d.standing and d.outcome in told][-2:]
