"""Settle: carry out what a person decided about a picture: blur, verify, publish, or take away.

What is on the public side follows from the machine's record and the decisions that stand. A decision is
stored before it is carried out and can be carried out again, so one that was cut short loses nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from p3m_data.arrays import BoolArray
from p3m_data.errors import DatasetBusy, UsageError
from p3m_data.faces.detectors import Detector
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.decisions import Decision, Decisions, Finding, Verdict
from p3m_data.pipeline.ledger import Ledger
from p3m_data.stages.anonymize import Anonymizer, Outcome
from p3m_data.stages.candidate import Candidate, blur_until_clean, publish, write_sheet
from p3m_data.stages.finish import mark_stale, take_away
from p3m_data.stages.mask import Masked, drawn, suggest
from p3m_data.stages.pictures import Opened
from p3m_data.stages.verify import finding, in_words, unexplained
from p3m_data.storage.masks import encode_png_mask, load_png_mask
from p3m_data.types import Box, Check, Reason, Record, Status

WAIVABLE = ("faces_left", "detail_left", "transition_untouched")
"""Checks about which a person who looked knows more than the machine."""

AGREEMENT = 0.85
"""Least IoU of two people's masks that count as the same opinion."""


DREW = {Verdict.ACCEPT, Verdict.MASK}

_STATES: dict[str | None, str] = {
    "second_opinion": "second_opinion",
    "disagreement": "disagreement",
    "confirmed": "decided",
}
"""The state of a picture whose newest decision had this outcome, where it is not carried out again."""


class Result(NamedTuple):
    """What became of a decision."""

    outcome: str
    said: str
    findings: tuple[Finding, ...] = ()


class Settler:
    """Carries out decisions on one dataset; for one thread, the one that `anonymizer` loads its networks in."""

    def __init__(
        self,
        dataset: Dataset,
        ledger: Ledger,
        key: bytes,
        open_picture: Callable[[str], Opened],
        anonymizer: Callable[[], Anonymizer],
        second_opinion: float,
    ) -> None:
        """`open_picture` gives a picture as its file is now, and raises `UsageError` when it is another one."""
        self._dataset = dataset
        self._ledger = ledger
        self._decisions = Decisions(ledger)
        self._key = key
        self._open = open_picture
        self._anonymizer = anonymizer
        self._share = second_opinion / 100

    def settle(self, number: int) -> Result:
        """Carry out a stored decision; whatever was cut short is done again."""
        decision = self._decisions.get(number)
        if decision is None:
            raise UsageError(f"there is no decision {number}")
        if decision.outcome == "undoing":
            self._restore(decision)
            return Result("undone", "undone")
        try:
            return self._settle(decision)
        except DatasetBusy:
            raise
        except UsageError as error:
            self._hold_back(decision, Result("failed", str(error)))
            raise

    def undo(self, number: int) -> str:
        """Take back the newest decision about a picture: what held before holds again; the picture's id."""
        decision = self._decisions.get(number)
        if decision is None or not decision.standing:
            raise UsageError(f"decision {number} does not stand; there is nothing to undo")
        name = decision.id
        if any(d.number > number for d in self._decisions.of(name) if d.standing):
            raise UsageError(f"decision {number} was followed by another about {name}; undo that one first")
        if decision.verdict is Verdict.SKIP:
            with self._ledger.writing():
                self._decisions.close(number, "undone", "undone", standing=False)
                self._decisions.set_state(name, "waiting", "")
            return name
        with self._ledger.writing():
            self._decisions.mark(number, "undoing")
        self._restore(decision)
        return name

    def _settle(self, decision: Decision) -> Result:
        name = decision.id
        current, machine = self._ledger.find(name), self._machine(name)
        if current is None or machine is None:
            return self._close(decision, _gone(), standing=True)
        if decision.outcome in ("published", "agreed", "excluded"):
            return self._carry_out(decision)
        if decision.outcome is not None:
            self._withdraw(name)
            return Result(decision.outcome, decision.said, decision.findings)
        if _agrees(decision.verdict, current):
            return self._agree_with_machine(decision)
        earlier = [d for d in self._standing(name) if d.number < decision.number]
        first = next((d for d in earlier if d.outcome == "second_opinion"), None)
        if (
            first is not None
            and first.reviewer != decision.reviewer
            and self._state(name) == "second_opinion"
        ):
            return self._compare(decision, first)
        settled = any(d.outcome not in ("sent_back", "failed", "second_opinion") for d in earlier)
        asks = machine.status is Status.NEEDS_REVIEW and not settled and self._wants_second(name)
        return self._carry_out(decision, only_try=asks)

    def _restore(self, decision: Decision) -> None:
        """Take `decision` off the stack."""
        name = decision.id
        below = next((d for d in self._standing(name) if d.number != decision.number), None)
        if below is None or below.outcome == "confirmed":
            self._back_to_machine(name)
        else:
            self._withdraw(name)
        with self._ledger.writing():
            self._decisions.close(decision.number, "undone", "undone", standing=False)
            self._decisions.set_state(name, _STATES.get(below.outcome if below else None, "waiting"), "")
            if below is None:
                self._decisions.close_spot_check(name, None)
        if below is not None and below.outcome in ("published", "agreed", "excluded"):
            self._carry_out(below)
        elif below is not None and below.outcome is None:
            self._settle(below)
        elif below is not None and below.outcome in ("second_opinion", "disagreement"):
            machine = self._machine(name)
            if machine is not None:
                self._ledger.replace(machine)
        elif below is not None and below.outcome in ("sent_back", "failed"):
            self._hold_back(below, Result(below.outcome, below.said, below.findings))

    def _agree_with_machine(self, decision: Decision) -> Result:
        with self._ledger.writing():
            self._decisions.close_spot_check(decision.id, miss=False)
            self._decisions.set_state(decision.id, "decided", decision.note)
            return self._close(decision, Result("confirmed", "the machine was right"), standing=True)

    def _compare(self, decision: Decision, first: Decision) -> Result:
        """Two opinions: published is what both mask together, and passes what both let pass."""
        if self._same(decision, first):
            mask = None
            if decision.verdict in DREW:
                opened = self._open(decision.id)
                mask = encode_png_mask(self._masked(decision, opened).mask | self._masked(first, opened).mask)
            waived = [check for check in decision.waived if check in first.waived]
            with self._ledger.writing():
                self._decisions.settle_on(decision.number, mask, waived)
            return self._carry_out(decision.model_copy(update={"waived": tuple(waived)}), agreed=True)
        with self._ledger.writing():
            self._decisions.set_state(decision.id, "disagreement", "")
            said = "two people decided differently; a third look settles it"
            return self._close(decision, Result("disagreement", said), standing=True)

    def _same(self, one: Decision, other: Decision) -> bool:
        if not {one.verdict, other.verdict} <= DREW:
            return one.verdict is other.verdict
        opened = self._open(one.id)
        a, b = self._masked(one, opened).mask, self._masked(other, opened).mask
        if (a & b).sum() < AGREEMENT * max((a | b).sum(), 1):
            return False
        # a part that only one of them masked may be a face that the other did not see
        parts, labels = cv2.connectedComponents((a | b).view(np.uint8), connectivity=8)
        return len(np.unique(labels[a & b])) == parts - 1

    def _carry_out(self, decision: Decision, *, only_try: bool = False, agreed: bool = False) -> Result:
        """Publish or take away what `decision` says; with `only_try` just look whether that could be done."""
        self._withdraw(decision.id)
        agreed = agreed or decision.outcome == "agreed"
        if decision.verdict is Verdict.EXCLUDE:
            return self._await_second(decision) if only_try else self._exclude(decision, agreed)
        opened = self._open(decision.id)
        masked = self._masked(decision, opened)
        worker = self._anonymizer()
        candidate = blur_until_clean(opened.loaded, masked, worker.config, worker.models.detectors)
        candidate = candidate._replace(checks=_waived(candidate.checks, decision.waived))
        if (left := finding(candidate.checks)) is not None:
            return self._send_back(decision, opened, masked, candidate, left[0])
        if only_try:
            return self._await_second(decision)
        return self._publish(decision, opened, masked, candidate, agreed)

    def _withdraw(self, name: str) -> None:
        """From the moment that a person disagrees, what is published of a picture is so no longer."""
        with self._dataset.publishing():
            current = self._ledger.find(name)
            if current is not None and current.status is Status.ANONYMIZED:
                waiting = {"status": Status.NEEDS_REVIEW, "reason": Reason.REVIEWED, "files": {}}
                with self._ledger.writing():
                    self._ledger.replace(current.model_copy(update=waiting))
                    mark_stale(self._ledger)
                    self._decisions.close_spot_check(name, miss=True)
            # also without a row that says so: somebody may have been stopped right here
            take_away(self._dataset, name)

    def _await_second(self, decision: Decision) -> Result:
        machine = self._machine(decision.id)
        with self._ledger.writing():
            if machine is not None:
                self._ledger.replace(machine)  # what was tried before would tell
            self._decisions.set_state(decision.id, "second_opinion", "")
            said = "another person is asked, too, before anything is published"
            return self._close(decision, Result("second_opinion", said), standing=True)

    def _exclude(self, decision: Decision, agreed: bool) -> Result:
        known = {"status": Status.EXCLUDED, "reason": Reason.EXCLUDED, "detail": "left out by a reviewer"}
        result = _agreed(Result("excluded", "left out; nothing of it is published"), agreed)
        with self._dataset.publishing():
            if not self._holds(decision):
                return self._overtaken(decision)
            return self._commit(decision, known | {"files": {}, "checks": ()}, result)

    def _publish(
        self, decision: Decision, opened: Opened, masked: Masked, candidate: Candidate, agreed: bool
    ) -> Result:
        known = {
            "status": Status.ANONYMIZED,
            "reason": Reason.REVIEWED if masked.mask.any() else Reason.CONFIRMED_NO_FACE,
            "detail": "",
            "faces": candidate.faces,
            "checks": candidate.checks,
        }
        opened.result = None
        with self._dataset.publishing():
            if not self._holds(decision):
                return self._overtaken(decision)
            write_sheet(self._dataset, opened.loaded, masked, candidate.pixels)
            files = publish(self._dataset, opened.loaded, masked, candidate)
            result = _agreed(Result("published", "published"), agreed)
            result = self._commit(decision, known | {"files": files}, result)
            if result.outcome == "gone":
                take_away(self._dataset, decision.id)
        return result

    def _holds(self, decision: Decision) -> bool:
        """Whether nobody undid the decision, or decided again, while it was carried out."""
        top = self._decisions.top(decision.id)
        return top is not None and top.number == decision.number and top.outcome != "undoing"

    def _overtaken(self, decision: Decision) -> Result:
        return Result("overtaken", f"somebody decided about {decision.id} again meanwhile")

    def _commit(self, decision: Decision, known: Mapping[str, object], result: Result) -> Result:
        machine = self._machine(decision.id)
        with self._ledger.writing():
            if machine is None or not self._ledger.replace(machine.model_copy(update=dict(known))):
                return self._close(decision, _gone(), standing=True)
            mark_stale(self._ledger)
            self._decisions.set_state(decision.id, "decided", decision.note)
            return self._close(decision, result, standing=True)

    def _send_back(
        self,
        decision: Decision,
        opened: Opened,
        masked: Masked,
        candidate: Candidate,
        reason: Reason,
    ) -> Result:
        opened.result = candidate.pixels
        worker = self._anonymizer()
        found = _findings(candidate, masked, worker.models.detectors, worker.config.verify.explained)
        said = "; ".join(finding.said for finding in found)
        known = {"reason": reason, "checks": candidate.checks}
        return self._hold_back(decision, Result("sent_back", said, tuple(found)), known)

    def _hold_back(
        self, decision: Decision, result: Result, known: Mapping[str, object] | None = None
    ) -> Result:
        """The picture waits, whatever was published before: somebody objected to that."""
        self._withdraw(decision.id)
        machine = self._machine(decision.id)
        waiting = {"status": Status.NEEDS_REVIEW, "detail": result.said, "files": {}}
        if known is None:
            known = {} if machine and machine.status is Status.NEEDS_REVIEW else {"reason": Reason.REVIEWED}
        with self._ledger.writing():
            if machine is not None and self._holds(decision):
                self._ledger.replace(machine.model_copy(update=waiting | dict(known)))
                self._decisions.set_state(decision.id, "waiting", decision.note)
            return self._close(decision, result, standing=True)

    def _back_to_machine(self, name: str) -> None:
        """Without a decision that stands, what the machine said holds again."""
        machine, current = self._machine(name), self._ledger.find(name)
        if machine is None or current is None or current == machine:
            return
        self._withdraw(name)
        with self._dataset.publishing():
            if machine.status is not Status.ANONYMIZED:
                self._ledger.replace(machine)
                return
            said = {"status": Status.NEEDS_REVIEW, "reason": Reason.REVIEWED, "files": {}}
            self._ledger.replace(machine.model_copy(update=said))
            source = self._ledger.source(name)
            try:
                self._open(name)
            except UsageError:
                return  # its file is gone or another one: it waits until a run takes that up
            assert source is not None
            again: Outcome = self._anonymizer()(source)
            if again.record.id == name and self._ledger.replace(again.record):
                mark_stale(self._ledger)
            elif again.record.id is not None:
                take_away(self._dataset, again.record.id)

    def _masked(self, decision: Decision, opened: Opened) -> Masked:
        """The areas that a decision means."""
        suggested, alpha, shape = opened.suggested, opened.loaded.alpha, opened.pixels.shape
        if decision.verdict is Verdict.NO_FACE:
            machine = self._machine(decision.id)
            assert machine is not None
            known = [face for face in machine.faces if face.how != "none"]
            return suggest(known, alpha, shape, self._anonymizer().config.mask)
        data = self._decisions.mask(decision.number)
        assert data is not None
        mask = load_png_mask(data, decision.id, (shape[1], shape[0]))
        if decision.verdict is Verdict.ACCEPT and np.array_equal(mask, suggested.mask):
            return suggested
        return drawn(suggested, mask, alpha)

    def _machine(self, name: str) -> Record | None:
        """What the machine said of these bytes; the file that holds them may be another one by now."""
        machine, current = self._decisions.machine(name), self._ledger.find(name)
        if machine is None or current is None:
            return None
        return machine.model_copy(update={"source": current.source, "matte": current.matte})

    def _standing(self, name: str) -> list[Decision]:
        """The stack, the newest decision first."""
        return [d for d in self._decisions.of(name) if d.standing and d.verdict is not Verdict.SKIP]

    def _state(self, name: str) -> str | None:
        rows = self._ledger.read("SELECT state FROM review WHERE id = ?", name)
        return rows[0][0] if rows else None

    def _wants_second(self, name: str) -> bool:
        """The same pictures every time, and nobody without the dataset's key can tell which."""
        drawn_by_lot = hmac.new(self._key, f"second {name}".encode(), "sha256").digest()
        return int.from_bytes(drawn_by_lot[:4]) < self._share * 2**32

    def _close(self, decision: Decision, result: Result, *, standing: bool) -> Result:
        with self._ledger.writing():
            now = self._decisions.get(decision.number)
            if now is None or not now.standing or now.outcome == "undoing":
                return result  # it was undone meanwhile
            self._decisions.close(
                decision.number, result.outcome, result.said, standing=standing, findings=result.findings
            )
        return result


def _agreed(result: Result, agreed: bool) -> Result:
    return Result("agreed", f"two people agree: {result.said}") if agreed else result


def _gone() -> Result:
    return Result("gone", "the picture's file changed meanwhile; run p3mdata anonymize and decide again")


def _agrees(verdict: Verdict, current: Record) -> bool:
    """Whether a verdict is what the machine alone has published already."""
    by_person = (Reason.REVIEWED, Reason.CONFIRMED_NO_FACE)
    if current.status is not Status.ANONYMIZED or current.reason in by_person:
        return False
    return verdict is Verdict.ACCEPT or (verdict is Verdict.NO_FACE and not current.faces)


def _waived(checks: Iterable[Check], names: Sequence[str]) -> tuple[Check, ...]:
    return tuple(
        c.model_copy(update={"waived": True}) if c.name in names and not c.passed else c for c in checks
    )


def _findings(
    candidate: Candidate, masked: Masked, detectors: Mapping[str, Detector], least_iou: float
) -> list[Finding]:
    found = []
    for check in candidate.checks:
        if check.passed or check.waived:
            continue
        boxes: list[Box] = []
        if check.name == "faces_left":
            boxes = [_box(b) for b in unexplained(candidate.pixels, candidate.faces, detectors, least_iou)]
        elif check.name == "detail_left":
            boxes = [face.box for face in candidate.faces]
        elif check.name == "transition_untouched":
            boxes = [_extent(masked.mask & masked.transition)]
        found.append(
            Finding(
                check=check.name,
                said=in_words(check),
                boxes=tuple(boxes),
                waivable=check.name in WAIVABLE,
            )
        )
    return found


def _box(values: Iterable[float]) -> Box:
    x0, y0, x1, y1 = (round(float(v), 1) for v in values)
    return (x0, y0, x1, y1)


def _extent(area: BoolArray) -> Box:
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    return (float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1]))
