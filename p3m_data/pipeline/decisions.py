"""What people drew and decided: drafts, decisions, spot checks. All of it is in the ledger, none of it public.

Decisions about a picture are a stack: the newest that stands is the one that holds, and undo takes it off.
A decision is stored before it is carried out, so that one that was cut short can be carried out later. One
that the verification sent back, or that failed, stands as well: somebody objected to what was there before.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from p3m_data.errors import DraftChanged
from p3m_data.pipeline.ledger import Ledger
from p3m_data.storage.manifest import canonical_json
from p3m_data.types import Box, Frozen, Record

CONFIDENCE = 0.95


class Verdict(StrEnum):
    """What a person says of a picture."""

    ACCEPT = "accept"
    MASK = "mask"
    NO_FACE = "no_face"
    EXCLUDE = "exclude"
    SKIP = "skip"


class Finding(Frozen):
    """Why the verification sent a decision back."""

    check: str
    said: str
    boxes: tuple[Box, ...] = ()
    waivable: bool


class Decision(Frozen):
    """One decision as it is kept; `outcome` is None until it was carried out."""

    number: int
    id: str
    reviewer: str
    at: str
    """UTC, ISO 8601."""
    verdict: Verdict
    note: str
    waived: tuple[str, ...]
    standing: bool
    outcome: str | None
    said: str
    findings: tuple[Finding, ...]


class Draft(NamedTuple):
    """A reviewer's drawing: `ops`, of which the first `done` count and the rest can be redone."""

    ops: list[dict[str, Any]]
    done: int
    version: int


class SpotChecks(NamedTuple):
    """A random sample of what the machine published unseen."""

    drawn: int
    checked: int
    misses: int
    population: int
    """Pictures that the sample speaks for: those that the machine published."""

    @property
    def upper_bound(self) -> float:
        """95 % upper bound on the share of such pictures with a miss; see `miss_rate_bound`."""
        return miss_rate_bound(self.misses, self.checked)

    @property
    def words(self) -> str:
        """What the sample tells so far."""
        if not self.checked:
            return f"{_count(self.drawn, 'picture')} drawn, none looked at yet"
        rest = f" of {self.drawn} that were drawn" if self.checked < self.drawn else ""
        return (
            f"{_count(self.misses, 'miss', 'misses')} in {_count(self.checked, 'picture')}{rest}; with 95 % "
            f"confidence at most {self.upper_bound:.1%} of what the machine published is wrong"
        )


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


class Decisions:
    """The drafts and decisions in one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def draft(self, name: str, reviewer: str) -> Draft:
        """The drawing of `reviewer` on the picture `name`; an empty one has version 0."""
        query = "SELECT ops, done, version FROM draft WHERE id = ? AND reviewer = ?"
        rows = self._ledger.read(query, name, reviewer)
        return Draft(json.loads(rows[0][0]), rows[0][1], rows[0][2]) if rows else Draft([], 0, 0)

    def save_draft(
        self, name: str, reviewer: str, before: Draft, ops: list[dict[str, Any]], done: int
    ) -> int:
        """Store a drawing that follows `before`; its version. `DraftChanged` when `before` is not the last."""
        with self._ledger.writing():
            if (now := self.draft(name, reviewer)).version != before.version:
                raise DraftChanged(name, now._asdict())
            self._ledger.execute(
                "INSERT OR REPLACE INTO draft (id, reviewer, version, done, ops) VALUES (?, ?, ?, ?, ?)",
                name,
                reviewer,
                before.version + 1,
                done,
                json.dumps(ops),
            )
        return before.version + 1

    def record(
        self,
        name: str,
        reviewer: str,
        verdict: Verdict,
        *,
        note: str,
        waived: Sequence[str],
        mask: bytes | None,
        machine: Record,
    ) -> int:
        """Store a decision that is still to be carried out; its number.

        `mask`: the file of the mask that was drawn or accepted. `machine`: the picture's record as it was
        before anybody decided about it; kept once.
        """
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with self._ledger.writing():
            number = self._ledger.execute(
                "INSERT INTO decision (id, reviewer, at, verdict, note, waived, mask, standing, said, findings)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 1, '', '[]')",
                name,
                reviewer,
                at,
                verdict,
                note,
                json.dumps(list(waived)),
                mask,
            ).lastrowid
            self._ledger.execute(
                "INSERT OR IGNORE INTO review VALUES (?, 'waiting', '', ?)", name, canonical_json(machine)
            )
        assert number is not None
        return number

    def close(
        self, number: int, outcome: str, said: str, *, standing: bool, findings: Sequence[Finding] = ()
    ) -> None:
        """Store what became of a decision."""
        self._ledger.execute(
            "UPDATE decision SET outcome = ?, said = ?, standing = ?, findings = ? WHERE number = ?",
            outcome,
            said,
            standing,
            json.dumps([finding.model_dump(mode="json") for finding in findings]),
            number,
        )

    def settle_on(self, number: int, mask: bytes | None, waived: Sequence[str]) -> None:
        """What two people agree on, in place of what the second of them said alone."""
        self._ledger.execute(
            "UPDATE decision SET mask = ?, waived = ? WHERE number = ?",
            mask,
            json.dumps(list(waived)),
            number,
        )

    def mark(self, number: int, outcome: str) -> None:
        """Change what became of a decision, and nothing else of it."""
        self._ledger.execute("UPDATE decision SET outcome = ? WHERE number = ?", outcome, number)

    def set_state(self, name: str, state: str, note: str | None = None) -> None:
        """Move a picture, of which `record` was called, in the queue."""
        self._ledger.execute(
            "UPDATE review SET state = ?, note = coalesce(?, note) WHERE id = ?", state, note, name
        )

    def machine(self, name: str) -> Record | None:
        """The record that the picture had before anybody decided; None when nobody did."""
        rows = self._ledger.read("SELECT machine FROM review WHERE id = ?", name)
        return self._ledger.parse(rows[0][0]) if rows else None

    def get(self, number: int) -> Decision | None:
        return next(iter(self._some("WHERE number = ?", number)), None)

    def of(self, name: str) -> list[Decision]:
        """All decisions about the picture `name`, the newest first."""
        return self._some("WHERE id = ? ORDER BY number DESC", name)

    def newest(self, limit: int) -> list[Decision]:
        return self._some("ORDER BY number DESC LIMIT ?", limit)

    def top(self, name: str) -> Decision | None:
        """The decision that holds for the picture `name`."""
        return next(iter(self._some(f"WHERE id = ? AND {_TOP}", name)), None)

    def effective(self) -> frozenset[str]:
        """Ids of the pictures about which the machine alone has nothing to say any more."""
        rows = self._ledger.read(f"SELECT id FROM decision WHERE {_TOP} AND {_OVERRULES}")
        return frozenset(name for (name,) in rows)

    def overrules_machine(self, name: str) -> bool:
        """Whether `name` is one of `effective`."""
        query = f"SELECT 1 FROM decision WHERE id = ? AND {_TOP} AND {_OVERRULES}"
        return bool(self._ledger.read(query, name))

    def cut_short(self) -> list[Decision]:
        """Decisions that hold, and are not what the ledger says of their picture; the oldest first."""
        return self._some(
            f"""WHERE {_TOP} AND (outcome IS NULL OR outcome = 'undoing' OR EXISTS (
                SELECT 1 FROM picture p WHERE p.id = decision.id AND (
                    (outcome IN ('published', 'agreed') AND p.status <> 'anonymized')
                    OR (outcome = 'excluded' AND p.status <> 'excluded')
                    OR (outcome IN ({_HELD_BACK}) AND p.status = 'anonymized'))))
            ORDER BY number"""
        )

    def mask(self, number: int) -> bytes | None:
        """The file of the mask that a decision is about."""
        found = self._ledger.read("SELECT mask FROM decision WHERE number = ?", number)[0][0]
        return None if found is None else bytes(found)

    def done_by(self, reviewer: str) -> int:
        """About how many pictures `reviewer` decided."""
        query = (
            "SELECT count(DISTINCT id) FROM decision WHERE reviewer = ? AND standing AND verdict <> 'skip'"
        )
        return int(self._ledger.read(query, reviewer)[0][0])

    def draw_spot_checks(self, size: int) -> int:
        """Make the sample `size` pictures large, if it is smaller, at random; how many were drawn."""
        with self._ledger.writing():
            self._ledger.execute(f"DELETE FROM spot_check WHERE NOT ({_COUNTS})")
            (have,) = self._ledger.read("SELECT count(*) FROM spot_check")[0]
            rows = self._ledger.read(f"SELECT p.id FROM picture p WHERE {_UNSEEN} ORDER BY p.id")
            names = [name for (name,) in rows]
            drawn = random.SystemRandom().sample(names, min(max(0, size - have), len(names)))
            for name in drawn:
                self._ledger.execute("INSERT INTO spot_check (id) VALUES (?)", name)
        return len(drawn)

    def is_spot_check(self, name: str) -> bool:
        return bool(self._ledger.read("SELECT 1 FROM spot_check WHERE id = ?", name))

    def close_spot_check(self, name: str, miss: bool | None) -> None:
        """Whether the machine was wrong about a picture of the sample; None: nobody has looked."""
        self._ledger.execute("UPDATE spot_check SET miss = ? WHERE id = ?", miss, name)

    def spot_checks(self) -> SpotChecks:
        ((drawn, checked, misses),) = self._ledger.read(
            f"SELECT count(*), count(miss), coalesce(sum(miss), 0) FROM spot_check WHERE {_COUNTS}"
        )
        ((unseen,),) = self._ledger.read(f"SELECT count(*) FROM picture p WHERE {_UNSEEN}")
        return SpotChecks(drawn, checked, misses, unseen + drawn)

    def decided_twice(self) -> tuple[int, int]:
        """How many pictures two people decided independently, and about how many of them they disagreed."""
        ((agreed, disagreed),) = self._ledger.read(
            "SELECT count(DISTINCT CASE WHEN outcome = 'agreed' THEN id END),"
            " count(DISTINCT CASE WHEN outcome = 'disagreement' THEN id END) FROM decision"
        )
        return agreed + disagreed, disagreed

    def _some(self, which: str, *values: Any) -> list[Decision]:
        columns = "number, id, reviewer, at, verdict, note, waived, standing, outcome, said, findings"
        rows = self._ledger.read(f"SELECT {columns} FROM decision {which}", *values)
        return [_decision(row) for row in rows]


_TOP = """standing AND verdict <> 'skip' AND NOT EXISTS (SELECT 1 FROM decision newer
    WHERE newer.id = decision.id AND newer.number > decision.number AND newer.standing
    AND newer.verdict <> 'skip')"""
_OVERRULES = "outcome IS NOT 'confirmed'"
_HELD_BACK = "'sent_back', 'failed', 'second_opinion', 'disagreement'"

_COUNTS = """(miss IS NOT NULL
    OR EXISTS (SELECT 1 FROM picture p WHERE p.id = spot_check.id AND p.status = 'anonymized'))"""
"""What is in the sample: not what was drawn, and then its file changed before anybody looked."""

_UNSEEN = """p.status = 'anonymized' AND p.id NOT IN (SELECT id FROM spot_check)
    AND p.id NOT IN (SELECT id FROM review)"""


def _decision(row: Sequence[Any]) -> Decision:
    number, name, reviewer, at, verdict, note, waived, standing, outcome, said, findings = row
    return Decision(
        number=number,
        id=name,
        reviewer=reviewer,
        at=at,
        verdict=verdict,
        note=note,
        waived=json.loads(waived),
        standing=bool(standing),
        outcome=outcome,
        said=said,
        findings=json.loads(findings),
    )


def miss_rate_bound(misses: int, checked: int) -> float:
    """The one-sided 95 % upper bound (Clopper and Pearson) on a rate of which a sample of `checked` shows `misses`.

    With no miss in n it is 1 - 0.05 ** (1 / n), about 3 / n. 1 when nothing was checked.
    """
    if misses >= checked:
        return 1.0
    low, high = misses / checked, 1.0
    while high - low > 1e-9:
        rate = (low + high) / 2
        if _at_most(misses, checked, rate) > 1 - CONFIDENCE:
            low = rate
        else:
            high = rate
    return high


def _at_most(misses: int, checked: int, rate: float) -> float:
    """Probability of `misses` or fewer among `checked` at a miss rate in (0, 1)."""
    return math.fsum(
        math.exp(
            math.lgamma(checked + 1)
            - math.lgamma(k + 1)
            - math.lgamma(checked - k + 1)
            + k * math.log(rate)
            + (checked - k) * math.log1p(-rate)
        )
        for k in range(misses + 1)
    )
