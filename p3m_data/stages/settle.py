"""Settle: carry out what a person decided about a picture: blur, verify, publish, or take away.

What is on the public side follows from the machine's record and the decisions that stand. A decision is
stored before it is carried out and can be carried out again, so one that was cut short loses nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from p3m_data.arrays import BoolArray
from p3m_data.errors import UsageError
from p3m_data.faces.detectors import Detector
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.decisions import Decision, Decisions, Finding, Verdict
from p3m_data.pipeline.ledger import Ledger
from p3m_data.stages.anonymize import Anonymizer, Outcome
from p3m_data.stages.candidate import Candidate, blur_until_clean, publish, write_sheet
from p3m_data.stages.finish import mark_stale, take_away
from p3m_data.stages.mask import Masked, drawn, suggest
from p3m_data.stages.pictures import Opened, Pictures
from p3m_data.stages.verify import finding, in_words, unexplained
from p3m_data.storage.masks import load_png_mask
from p3m_data.types import Box, Check, Reason, Record, Status

WAIVABLE = ("faces_left", "detail_left", "transition_untouched")
"""Checks about which a person who looked knows more than the machine."""

AGREEMENT = 0.85
"""Least IoU of two people's masks that count as the same opinion."""


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
        pictures: Pictures,
        anonymizer: Callable[[], Anonymizer],
        second_opinion: float,
    ) -> None:
        self._dataset = dataset
        self._ledger = ledger
        self._decisions = Decisions(ledger)
        self._pictures = pictures
        self._anonymizer = anonymizer
        self._share = second_opinion / 100

    def settle(self, number: int) -> Result:
        """Carry out a stored decision; whatever was cut short is done again."""
        decision = self._decisions.get(number)
        if decision is None:
            raise UsageError(f"there is no decision {number}")
        current, machine = self._ledger.find(decision.id), self._machine(decision.id)
        if current is None or machine is None:
            return self._close(decision, _gone(), standing=True)
        if _agrees(decision.verdict, current):
            return self._agree_with_machine(decision)
        others = [d for d in self._standing(decision.id) if d.reviewer != decision.reviewer]
        opinion = next((d for d in others if d.outcome == "second_opinion"), None)
        disagreed = any(d.outcome == "disagreement" for d in self._decisions.of(decision.id) if d.standing)
        if opinion is not None and not disagreed and self._state(decision.id) == "second_opinion":
            return self._compare(decision, opinion)
        first = not others and machine.status is Status.NEEDS_REVIEW
        return self._carry_out(decision, only_try=first and self._wants_second(decision.id))

    def undo(self, number: int) -> str:
        """Take back the newest standing decision about a picture; the picture's id."""
        decision = self._decisions.get(number)
        if decision is None or not decision.standing:
            raise UsageError(f"decision {number} does not stand; there is nothing to undo")
        name = decision.id
        if any(d.number > number for d in self._decisions.of(name) if d.standing):
            raise UsageError(f"decision {number} was followed by another about {name}; undo that one first")
        with self._ledger.writing():
            self._decisions.close(number, "undone", "undone", standing=False)
            for left in self._standing(name):
                self._decisions.close(left.number, "second_opinion", left.said, standing=True)
            self._decisions.set_state(name, "second_opinion" if self._standing(name) else "waiting", "")
            self._decisions.close_spot_check(name, None)
        self._back_to_machine(name)
        return name

    def _agree_with_machine(self, decision: Decision) -> Result:
        with self._ledger.writing():
            self._decisions.close_spot_check(decision.id, miss=False)
            self._decisions.set_state(decision.id, "decided", decision.note)
            return self._close(decision, Result("confirmed", "the machine was right"), standing=True)

    def _compare(self, decision: Decision, first: Decision) -> Result:
        if self._same(decision, first):
            result = self._carry_out(first)
            if result.outcome == "sent_back":
                return self._close(decision, result, standing=False)
            with self._ledger.writing():
                self._decisions.close(first.number, result.outcome, result.said, standing=True)
                agreed = Result("agreed", f"two people agree; {result.said}")
                return self._close(decision, agreed, standing=True)
        with self._ledger.writing():
            self._decisions.set_state(decision.id, "disagreement", decision.note or None)
            said = "two people decided differently; a third look settles it"
            return self._close(decision, Result("disagreement", said), standing=True)

    def _same(self, one: Decision, other: Decision) -> bool:
        drew = {Verdict.ACCEPT, Verdict.MASK}
        if not {one.verdict, other.verdict} <= drew:
            return one.verdict is other.verdict
        opened = self._pictures.get(one.id)
        a, b = self._masked(one, opened).mask, self._masked(other, opened).mask
        return bool((a & b).sum() >= AGREEMENT * max((a | b).sum(), 1))

    def _carry_out(self, decision: Decision, *, only_try: bool = False) -> Result:
        """Publish or take away what `decision` says; with `only_try` just look whether that could be done."""
        self._withdraw(decision.id)
        if decision.verdict is Verdict.EXCLUDE:
            if only_try:
                return self._await_second(decision)
            return self._exclude(decision)
        opened = self._pictures.get(decision.id)
        masked = self._masked(decision, opened)
        worker = self._anonymizer()
        candidate = blur_until_clean(opened.loaded, masked, worker.config, worker.models.detectors)
        checks = _waived(candidate.checks, decision.waived)
        candidate = candidate._replace(checks=checks)
        if (left := finding(checks)) is not None:
            return self._send_back(decision, opened, masked, candidate, left[0])
        if only_try:
            return self._await_second(decision)
        return self._publish(decision, opened, masked, candidate)

    def _withdraw(self, name: str) -> None:
        """From the moment that a person disagrees, what is published of a picture is so no longer."""
        with self._dataset.publishing():
            current = self._ledger.find(name)
            if current is None or current.status is not Status.ANONYMIZED:
                return
            waiting = {"status": Status.NEEDS_REVIEW, "reason": Reason.REVIEWED, "files": {}}
            with self._ledger.writing():
                self._ledger.replace(current.model_copy(update=waiting))
                mark_stale(self._ledger)
                self._decisions.close_spot_check(name, miss=True)
            take_away(self._dataset, current)

    def _await_second(self, decision: Decision) -> Result:
        self._pictures.forget(decision.id)  # with it goes the result of an earlier try, which would tell
        with self._ledger.writing():
            self._decisions.set_state(decision.id, "second_opinion", decision.note or None)
            said = "another person is asked, too, before anything is published"
            return self._close(decision, Result("second_opinion", said), standing=True)

    def _exclude(self, decision: Decision) -> Result:
        detail = "left out by a reviewer"
        known = {"status": Status.EXCLUDED, "reason": Reason.EXCLUDED, "detail": detail}
        result = Result("excluded", "left out; nothing of it is published")
        return self._commit(decision, known | {"files": {}, "checks": ()}, result)

    def _publish(self, decision: Decision, opened: Opened, masked: Masked, candidate: Candidate) -> Result:
        no_face = not masked.mask.any()
        known = {
            "status": Status.ANONYMIZED,
            "reason": Reason.CONFIRMED_NO_FACE if no_face else Reason.REVIEWED,
            "detail": "",
            "faces": candidate.faces,
            "checks": candidate.checks,
        }
        opened.result = None
        write_sheet(self._dataset, opened.loaded, masked, candidate.pixels)
        with self._dataset.publishing():
            files = publish(self._dataset, opened.loaded, masked, candidate)
            result = self._commit(decision, known | {"files": files}, Result("published", "published"))
            if result.outcome != "published":
                for path in files:
                    (self._dataset.public / path).unlink(missing_ok=True)
        return result

    def _commit(self, decision: Decision, known: Mapping[str, object], result: Result) -> Result:
        machine = self._machine(decision.id)
        with self._ledger.writing():
            if machine is None or not self._ledger.replace(machine.model_copy(update=dict(known))):
                return self._close(decision, _gone(), standing=True)
            mark_stale(self._ledger)
            self._decisions.overrule(decision.id, decision.number)
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
        machine = self._machine(decision.id)
        assert machine is not None
        opened.result = candidate.pixels
        worker = self._anonymizer()
        least = worker.config.verify.explained
        found = _findings(candidate, masked, worker.models.detectors, least)
        said = "; ".join(finding.said for finding in found)
        waiting = {"status": Status.NEEDS_REVIEW, "reason": reason, "detail": said, "files": {}}
        with self._ledger.writing():
            self._ledger.replace(machine.model_copy(update=waiting | {"checks": candidate.checks}))
            self._decisions.set_state(decision.id, "waiting", decision.note)
            result = Result("sent_back", said, tuple(found))
            return self._close(decision, result, standing=False)

    def _back_to_machine(self, name: str) -> None:
        """Without a decision that stands, what the machine said holds again."""
        machine, current = self._machine(name), self._ledger.find(name)
        if machine is None or current is None or current == machine:
            return
        self._withdraw(name)
        self._decisions.close_spot_check(name, None)
        source = self._ledger.source(name)
        if machine.status is Status.ANONYMIZED and source is not None:
            with self._dataset.publishing():
                again: Outcome = self._anonymizer()(source)
                # another id: the file changed, which the next run takes up
                if again.record.id == name and self._ledger.replace(again.record):
                    mark_stale(self._ledger)
        else:
            self._ledger.replace(machine)

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
        return [d for d in self._decisions.of(name) if d.standing and d.verdict is not Verdict.SKIP]

    def _state(self, name: str) -> str | None:
        rows = self._ledger.read("SELECT state FROM review WHERE id = ?", name)
        return rows[0][0] if rows else None

    def _wants_second(self, name: str) -> bool:
        """The same pictures every time, and nobody without the dataset's key can tell which."""
        drawn_by_lot = hmac.new(self._dataset.key(), f"second {name}".encode(), "sha256").digest()
        return int.from_bytes(drawn_by_lot[:4]) < self._share * 2**32

    def _close(self, decision: Decision, result: Result, *, standing: bool) -> Result:
        with self._ledger.writing():
            self._decisions.close(
                decision.number, result.outcome, result.said, standing=standing, findings=result.findings
            )
        return result


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
