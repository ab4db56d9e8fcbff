"""Review: the desk at which a person decides what the machine could not (the paper annotated those by hand).

The desk knows the queue, hands out pictures, keeps drawings and takes decisions; the page in the browser and
the command line are two ways to sit at it. Everything that it returns is ready for JSON, except pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from p3m_data.arrays import BoolArray
from p3m_data.errors import DatasetBusy, P3MError, UsageError
from p3m_data.pipeline.database import DatasetLock
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.decisions import Decision, Verdict
from p3m_data.pipeline.ledger import Ledger
from p3m_data.pipeline.outcome import REASON_WORDS
from p3m_data.pipeline.queue import STATES, Entry
from p3m_data.stages.anonymize import Job, find_weights
from p3m_data.stages.config import AnonymizeConfig
from p3m_data.stages.easel import Easel, opinions
from p3m_data.stages.finish import finish_review
from p3m_data.stages.settle import WAIVABLE, Settler
from p3m_data.storage.folders import remove_leftovers
from p3m_data.storage.masks import encode_png_mask
from p3m_data.types import Record, Status

SECOND_OPINION = "second_opinion"
"""Key of the ledger's note of how many percent of the decisions another person takes, too."""

STATE_WORDS = {
    "spot_check": "the machine published it; it was drawn for a spot check",
    "second_opinion": "somebody decided; another person is asked without being told what",
    "disagreement": "two people decided differently",
}
"""What is said of a picture in place of the machine's reason."""

SKIPPED = "skipped; it stays in the queue"
LONGEST_NAME = 60
LONGEST_NOTE = 2_000


class Desk(Easel):
    """The review of one dataset; a context manager. Threads may share it.

    Methods that take an id raise `UnknownPicture`, those that decide or draw `PictureTaken` when another
    reviewer has the picture, and `UsageError` with a sentence for whatever else cannot be done.
    """

    def __init__(self, dataset: Dataset, ledger: Ledger, job: Job, second_opinion: float) -> None:
        super().__init__(dataset, ledger, job)
        self.second_opinion = second_opinion
        self.decided = False
        """Whether anything was decided, or undone, at this desk."""
        self.words = {reason.value: words for reason, words in REASON_WORDS.items()}
        self.troubles: list[str] = []
        """Why decisions that were cut short could not be carried out again, in sentences."""
        self._caught_up = 0
        self._settler = Settler(dataset, ledger, job.key, self._open_now, self._networks, second_opinion)

    @classmethod
    def open(cls, dataset: Dataset, second_opinion: float | None = None) -> Desk:
        """The desk of `dataset`; carries out first what was cut short.

        `second_opinion`: percent of the pictures that two people decide; None: as it was.
        """
        ledger = dataset.ledger(beside_a_run=True)
        try:
            settings, photos = ledger.meta("config"), ledger.meta("photos")
            if settings is None or photos is None:
                raise UsageError(f"{dataset.public} was not begun yet: run p3mdata anonymize first")
            config = AnonymizeConfig.model_validate_json(settings)
            if second_opinion is None:
                second_opinion = float(ledger.meta(SECOND_OPINION) or 0)
            elif not 0 <= second_opinion <= 100:
                raise UsageError(f"a second opinion is asked for 0 to 100 percent, not {second_opinion:g}")
            else:
                ledger.set_meta(SECOND_OPINION, f"{second_opinion:g}")
            mattes = ledger.meta("mattes")
            files, digests = find_weights(config, {})
            job = Job(
                Path(photos),
                Path(mattes) if mattes else None,
                dataset,
                dataset.known_key(ledger),
                files,
                digests,
                config,
            )
            desk = cls(dataset, ledger, job, second_opinion)
        except BaseException:
            ledger.close()
            raise
        desk._work.submit(desk._clear_up)
        return desk

    def close(self) -> None:
        """Finish what is under way and bring the manifest in step."""
        self._work.submit(self._close_networks)
        self._work.shutdown(wait=True)
        try:
            self.flush()
        finally:
            self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def flush(self) -> None:
        """Bring `manifest.jsonl` in step with the decisions."""
        finish_review(self._ledger, self.dataset)

    def warm_up(self) -> None:
        """Load the networks now, so that neither the first picture nor the first decision waits for them."""
        self._in_thread(self._networks)

    def catch_up(self) -> int:
        """Wait until what was cut short has been carried out; how many decisions that were."""
        return self._in_thread(self._catch_up)

    def overview(self, reviewer: str) -> dict[str, Any]:
        """How the review stands."""
        spot = self._decisions.spot_checks()
        twice, disagreed = self._decisions.decided_twice()
        return {
            "counts": self._queue.counts(),
            "mine_waiting": self._queue.left_for(reviewer),
            "reasons": [
                {"reason": reason.value, "words": REASON_WORDS[reason], "count": count}
                for reason, count in self._queue.reasons().items()
            ],
            "done_by_me": self._decisions.done_by(reviewer),
            "run": {"pending": self._ledger.counts()[Status.PENDING]},
            "spot": spot._asdict() | {"upper_bound": spot.upper_bound} if spot.drawn else None,
            "second": {"decided_twice": twice, "disagreed": disagreed},
        }

    def listing(
        self, state: str | None, reason: str | None, offset: int, limit: int, reviewer: str
    ) -> dict[str, Any]:
        """A page of the queue; `state` None: everything that is open."""
        _check_choice("state", state, STATES)
        _check_choice("reason", reason, self.words)
        total, entries = self._queue.entries(state, reason, offset, limit)
        return {"total": total, "items": [self._item(entry, reviewer) for entry in entries]}

    def next(
        self,
        reviewer: str,
        holder: str,
        *,
        state: str | None = None,
        reason: str | None = None,
        after: str | None = None,
        want: str | None = None,
        count: int = 1,
    ) -> dict[str, Any]:
        """Lease up to `count` pictures to `holder`, a window of `reviewer`."""
        _check_name(reviewer)
        _check_choice("state", state, STATES)
        _check_choice("reason", reason, self.words)
        entries, wrapped = self._queue.take(
            reviewer, holder, state=state, reason=reason, after=after, want=want, count=count
        )
        return {"items": [self._item(entry, reviewer) for entry in entries], "wrapped": wrapped}

    def renew(self, reviewer: str, holder: str, names: Sequence[str]) -> None:  # noqa: ARG002
        self._queue.renew(holder, names)

    def release(self, reviewer: str, holder: str, names: Sequence[str]) -> None:  # noqa: ARG002
        self._queue.release(holder, names)

    def draw_spot_checks(self, size: int) -> dict[str, Any]:
        """Draw published pictures at random until the sample has `size` of them."""
        self._decisions.draw_spot_checks(size)
        spot = self._decisions.spot_checks()
        return spot._asdict() | {"upper_bound": spot.upper_bound}

    def detail(self, name: str, reviewer: str) -> dict[str, Any]:
        """All that the page shows of a picture besides pixels."""
        record, opened = self._record(name), self._pictures.get(name)
        entry = self._entry(name, record)
        made = self._decisions.of(name)
        draft = self._decisions.draft(name, reviewer)
        decision = _shown(entry, made)
        tried = next((d for d in made if d.standing and d.verdict is not Verdict.SKIP), None)
        findings = tried.findings if tried and tried.outcome == "sent_back" else ()
        return self._item(entry, reviewer) | {
            "said": record.detail,
            "has_matte": opened.loaded.alpha is not None,
            "transition": record.transition or "estimated",
            "faces": [
                {"box": face.box, "how": face.how, "outline": face.outline} for face in opened.suggested.faces
            ],
            "suggestion_area": int(opened.suggested.mask.sum()),
            "draft": draft._asdict(),
            "findings": [finding.model_dump(mode="json") for finding in findings],
            "opinions": [
                {"by": d.reviewer, "verdict": d.verdict, "note": d.note, "number": d.number}
                for d in opinions(entry, made)
            ],
            "decision": None
            if decision is None
            else {
                "number": decision.number,
                "verdict": decision.verdict,
                "by": decision.reviewer,
                "at": decision.at,
                "outcome": decision.outcome,
                "note": decision.note,
            },
        }

    def decide(
        self,
        name: str,
        reviewer: str,
        verdict: str,
        *,
        holder: str | None = None,
        version: int | None = None,
        mask: BoolArray | None = None,
        note: str = "",
        waive: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Take a decision and carry it out. For `mask`: either the drawing `version` or a (H, W) bool `mask`."""
        _check_name(reviewer)
        _check_choice("verdict", verdict, list(Verdict))
        for check in waive:
            _check_choice("check to let pass", check, WAIVABLE)
        if len(note) > LONGEST_NOTE:
            raise UsageError(f"a note has at most {LONGEST_NOTE} characters, not {len(note)}")
        if any("\ud800" <= character <= "\udfff" for character in note):
            raise UsageError("the note is not text; write it in UTF-8")
        record = self._record(name)
        self._queue.check_free(name, reviewer)
        if record.status not in (Status.NEEDS_REVIEW, Status.ANONYMIZED, Status.EXCLUDED):
            raise UsageError(f"{name} is {record.status}, which cannot be decided about")
        said = Verdict(verdict)
        if said is Verdict.SKIP:
            self._check_skip(name)
        data = self._mask_of(said, name, reviewer, version, mask, record)
        self.decided = True
        number = self._decisions.record(
            name, reviewer, said, note=note, waived=waive, mask=data, machine=record
        )
        if said is Verdict.SKIP:
            result = self._skip(name, number, note)
        else:
            result = self._in_thread(lambda: self._settler.settle(number)._asdict())
        if holder is not None:
            self._queue.release(holder, [name])
        findings = [finding.model_dump(mode="json") for finding in result["findings"]]
        return result | {"findings": findings, "number": number}

    def undo(self, number: int, reviewer: str) -> dict[str, Any]:
        """Take a decision back: what held before it holds again."""
        decision = self._decisions.get(number)
        if decision is None:
            raise UsageError(f"there is no decision {number}")
        self._queue.check_free(decision.id, reviewer)
        self.decided = True
        name = self._in_thread(lambda: self._settler.undo(number))
        return {"id": name, "said": "the decision is undone"}

    def decisions(self, limit: int) -> list[dict[str, Any]]:
        """The newest decisions; those that another person must not know yet tell no verdict."""
        kept = {"number", "id", "verdict", "at", "note", "outcome", "standing"}
        found = []
        for decision in self._decisions.newest(limit):
            row = decision.model_dump(mode="json", include=kept) | {"by": decision.reviewer}
            if self._is_secret(decision.id):
                row |= {"verdict": None, "note": "", "outcome": "second_opinion"}
            found.append(row)
        return found

    def _is_secret(self, name: str) -> bool:
        """Whether somebody is still to decide about the picture without knowing what others said."""
        entry = self._queue.entry(name)
        return entry is not None and entry.state == "second_opinion"

    def _check_skip(self, name: str) -> None:
        entry = self._queue.entry(name)
        if entry is None or entry.state not in ("waiting", "skipped", "spot_check"):
            state = "decided" if entry is None else entry.state
            raise UsageError(f"{name} cannot be skipped: {STATE_WORDS.get(state, state)}")

    def _skip(self, name: str, number: int, note: str) -> dict[str, Any]:
        with self._ledger.writing():
            self._decisions.set_state(name, "skipped", note)
            self._decisions.close(number, "skipped", SKIPPED, standing=True)
        return {"outcome": "skipped", "said": SKIPPED, "findings": ()}

    def _mask_of(
        self,
        verdict: Verdict,
        name: str,
        reviewer: str,
        version: int | None,
        mask: BoolArray | None,
        record: Record,
    ) -> bytes | None:
        """The file of the mask that a verdict is about."""
        if verdict is Verdict.ACCEPT:
            mask = self.suggestion(name)
            if not mask.any() and record.status is not Status.ANONYMIZED:
                raise UsageError(
                    f"there is no suggestion for {name}: draw a mask, or confirm that no face can be identified"
                )
        elif verdict is Verdict.MASK:
            mask = self._checked(name, mask) if mask is not None else self._drawing(name, reviewer, version)
            if not mask.any():
                raise UsageError(
                    f"the mask of {name} is empty: draw one, or confirm that no face can be identified"
                )
        else:
            return None
        return encode_png_mask(mask)

    def _item(self, entry: Entry, reviewer: str) -> dict[str, Any]:
        record = self._record(entry.id)
        decision = _shown(entry, self._decisions.of(entry.id))
        taken_by = self._queue.taken_by(entry.id)
        said = REASON_WORDS[entry.reason] if entry.reason else ""
        return {
            "id": entry.id,
            "state": entry.state,
            "reason": entry.reason,
            "words": STATE_WORDS.get(entry.state, said),
            "note": entry.note,
            "width": record.width,
            "height": record.height,
            "verdict": decision and decision.verdict,
            "outcome": decision and decision.outcome,
            "by": decision and decision.reviewer,
            "at": decision and decision.at,
            "taken_by": None if taken_by == reviewer else taken_by,
        }

    def _clear_up(self) -> None:
        """What an earlier desk was stopped in; a run that goes on clears up after itself."""
        try:
            lock = DatasetLock(self.dataset.ledger_path.with_name(f"{self.dataset.ledger_path.name}.lock"))
        except DatasetBusy:
            pass
        else:
            with self.dataset.publishing():
                remove_leftovers(self.dataset.public)
            lock.release()
        self._catch_up()

    def _catch_up(self) -> int:
        for decision in self._decisions.cut_short():
            try:
                self._settler.settle(decision.number)
            except P3MError as error:
                # one that cannot be carried out must not keep the others from it
                self.troubles.append(str(error))
            else:
                self._caught_up += 1
                self.decided = True
        self.flush()
        return self._caught_up


def _shown(entry: Entry, made: Sequence[Decision]) -> Decision | None:
    """The decision that holds; none while the picture waits for somebody who must not be influenced."""
    if entry.state in ("second_opinion", "waiting", "spot_check"):
        return None
    return next((d for d in made if d.standing), None)


def _check_name(reviewer: str) -> None:
    if not (0 < len(reviewer) <= LONGEST_NAME and reviewer.isprintable()):
        raise UsageError(f"a reviewer's name has 1 to {LONGEST_NAME} printable characters")


def _check_choice(what: str, value: str | None, choices: Iterable[str]) -> None:
    if value is not None and value not in choices:
        raise UsageError(f"{value!r} is no {what}; there are {', '.join(choices)}")
