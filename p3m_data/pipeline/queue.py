"""The queue of pictures that a person must look at, and the leases that keep two people off the same one.

A picture is in one state: `waiting`, `skipped`, `second_opinion`, `disagreement`, `spot_check` or `decided`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from p3m_data.errors import PictureTaken, UnknownPicture
from p3m_data.pipeline.ledger import Ledger
from p3m_data.types import Reason

STATES = ("waiting", "skipped", "second_opinion", "disagreement", "spot_check", "decided")

LEASE_SECONDS = 120.0
"""A reviewer who is silent for so long has left, and somebody else may get the picture."""

COLUMNS = "q.id, q.state, q.reason, q.note"

# who gave a second opinion a first time must not give the other one, too
MINE = """(q.state <> 'second_opinion' OR NOT EXISTS (
    SELECT 1 FROM decision d WHERE d.id = q.id AND d.standing AND d.reviewer = :reviewer
    AND d.outcome = 'second_opinion'))"""
# a lease that ends later than any could that is made now is from before the clock was set back
HELD = f"until > :now AND until <= :now + {2 * LEASE_SECONDS}"
FREE = f"NOT EXISTS (SELECT 1 FROM lease l WHERE l.id = q.id AND {HELD} AND l.holder <> :holder)"


class Entry(NamedTuple):
    """A picture in the queue."""

    id: str
    state: str
    reason: Reason | None
    note: str


class Queue:
    """The queue of one ledger; `now` gives the time in seconds."""

    def __init__(self, ledger: Ledger, now: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._now = now

    def counts(self) -> dict[str, int]:
        """How many pictures there are in each of `STATES`, 0 included."""
        found = dict(self._ledger.read("SELECT state, count(*) FROM queue GROUP BY state"))
        return {state: found.get(state, 0) for state in STATES}

    def reasons(self) -> dict[Reason, int]:
        """Why the waiting pictures wait, the most frequent reason first."""
        rows = self._ledger.read(
            "SELECT reason, count(*) FROM queue WHERE state = 'waiting' GROUP BY reason ORDER BY 2 DESC, 1"
        )
        return {Reason(reason): count for reason, count in rows}

    def left_for(self, reviewer: str) -> int:
        """How many open pictures `reviewer` may decide."""
        query = f"SELECT count(*) FROM queue q WHERE q.state <> 'decided' AND {MINE}"
        return int(self._ledger.read(query, {"reviewer": reviewer})[0][0])

    def entry(self, name: str) -> Entry | None:
        """Where the picture `name` is in the queue; None when it is not in it."""
        rows = self._ledger.read(f"SELECT {COLUMNS} FROM queue q WHERE q.id = ?", name)
        return _entry(rows[0]) if rows else None

    def entries(
        self, state: str | None, reason: str | None, offset: int, limit: int
    ) -> tuple[int, list[Entry]]:
        """How many pictures are in `state` (None: all that are open) for `reason`, and some of them in order."""
        which, values = _which(state, reason)
        total = self._ledger.read(f"SELECT count(*) FROM queue q WHERE {which}", values)[0][0]
        page = f"SELECT {COLUMNS} FROM queue q WHERE {which} ORDER BY {_ORDER} LIMIT :limit OFFSET :offset"
        rows = self._ledger.read(page, values | {"limit": limit, "offset": offset})
        return int(total), [_entry(row) for row in rows]

    def take(
        self,
        reviewer: str,
        holder: str,
        *,
        state: str | None = None,
        reason: str | None = None,
        after: str | None = None,
        want: str | None = None,
        count: int = 1,
    ) -> tuple[list[Entry], bool]:
        """Lease up to `count` pictures, those that follow `after` first; whether it went round to the start.

        `want` comes first, whatever its state. `PictureTaken` when another reviewer has it.
        """
        which, values = _which(state, reason)
        values |= {"reviewer": reviewer, "holder": holder, "now": self._now(), "limit": count, "want": want}
        which += f" AND q.id IS NOT :want AND {MINE} AND {FREE}"
        found: list[Entry] = []
        with self._ledger.writing():
            if want is not None:
                found.append(self._wanted(want, reviewer, holder))
                values["limit"] -= 1
            skipped, path = self._place(after)
            if skipped and self._some(f"{which} AND q.state <> 'skipped'", values | {"limit": 1}):
                skipped = 0  # it was skipped a moment ago: go on from where it was
            values |= {"skipped": skipped, "path": path}
            later = self._some(f"{which} AND {_PLACE} > (:skipped, :path)", values)
            values["limit"] -= len(later)
            earlier = self._some(f"{which} AND {_PLACE} <= (:skipped, :path)", values)
            found += later + earlier
            for entry in found:
                self._lease(entry.id, reviewer, holder)
        return found, bool(earlier)

    def renew(self, holder: str, names: Sequence[str]) -> None:
        """Keep the leases of `holder` on `names` for longer."""
        with self._ledger.writing():
            for name in names:
                self._ledger.execute(
                    "UPDATE lease SET until = ? WHERE id = ? AND holder = ?",
                    self._now() + LEASE_SECONDS,
                    name,
                    holder,
                )

    def release(self, holder: str, names: Sequence[str]) -> None:
        with self._ledger.writing():
            for name in names:
                self._ledger.execute("DELETE FROM lease WHERE id = ? AND holder = ?", name, holder)

    def check_free(self, name: str, reviewer: str) -> None:
        """`PictureTaken` when another reviewer than `reviewer` holds the picture."""
        taken_by = self.taken_by(name)
        if taken_by not in (None, reviewer):
            raise PictureTaken(f"{taken_by} works on {name} at this moment; take another picture")

    def taken_by(self, name: str) -> str | None:
        query = f"SELECT reviewer FROM lease WHERE id = :name AND {HELD}"
        rows = self._ledger.read(query, {"name": name, "now": self._now()})
        return str(rows[0][0]) if rows else None

    def _wanted(self, name: str, reviewer: str, holder: str) -> Entry:
        self.check_free(name, reviewer)
        entry = self.entry(name)
        if entry is None:
            record = self._ledger.find(name)
            if record is None:
                raise UnknownPicture(name)
            entry = Entry(name, "decided", record.reason, "")
        self._lease(name, reviewer, holder)
        return entry

    def _lease(self, name: str, reviewer: str, holder: str) -> None:
        until = self._now() + LEASE_SECONDS
        self._ledger.execute(
            "INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?)", name, reviewer, holder, until
        )

    def _place(self, name: str | None) -> tuple[int, bytes]:
        """Where in the order the picture `name` is, or was before it was decided."""
        query = """SELECT coalesce(r.state = 'skipped', 0), p.path
            FROM picture p LEFT JOIN review r ON r.id = p.id WHERE p.id = ?"""
        rows = self._ledger.read(query, name) if name else []
        return (rows[0][0], rows[0][1]) if rows else (0, b"")

    def _some(self, which: str, values: dict[str, Any]) -> list[Entry]:
        query = f"SELECT {COLUMNS} FROM queue q WHERE {which} ORDER BY {_ORDER} LIMIT :limit"
        return [_entry(row) for row in self._ledger.read(query, values)] if values["limit"] > 0 else []


_PLACE = "(q.state = 'skipped', q.path)"
_ORDER = "q.state = 'skipped', q.path"


def _which(state: str | None, reason: str | None) -> tuple[str, dict[str, Any]]:
    which = "q.state <> 'decided'" if state is None else "q.state = :state"
    return (f"{which} AND q.reason = :reason" if reason else which), {"state": state, "reason": reason}


def _entry(row: Sequence[Any]) -> Entry:
    name, state, reason, note = row
    return Entry(name, state, None if reason is None else Reason(reason), note)
