"""The queue beside a model of it in plain Python, with a clock that the tests turn."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.errors import PictureTaken, UnknownPicture
from p3m_data.pipeline.decisions import Decisions, Verdict
from p3m_data.pipeline.ledger import Ledger
from p3m_data.pipeline.queue import LEASE_SECONDS, STATES, Queue
from p3m_data.types import Reason, Record, Source, Status

OPEN = tuple(state for state in STATES if state != "decided")

WAITS, DONE = Status.NEEDS_REVIEW, Status.ANONYMIZED


@dataclass
class Clock:
    time: float = 1000.0

    def __call__(self) -> float:
        return self.time


def put(book: Ledger, path: str, state: str, reason: Reason = Reason.NO_FACE) -> str:
    """Brings a new picture into `state`, the way that the review does; its id."""
    name = f"p_{path}"
    book.add([Source(path=path, size=1, mtime_ns=1)])
    published = state == "spot_check"
    made = Record(
        source=path, id=name, status=DONE if published else WAITS, reason=None if published else reason
    )
    book.commit(made)
    decisions = Decisions(book)
    with book.writing():
        match state:
            case "skipped":
                close(decisions, made, "ann", Verdict.SKIP, "skipped")
            case "second_opinion":
                close(decisions, made, "ann", Verdict.MASK, "second_opinion")
            case "disagreement":
                close(decisions, made, "ann", Verdict.MASK, "second_opinion")
                close(decisions, made, "bob", Verdict.EXCLUDE, "disagreement")
            case "decided":
                close(decisions, made, "ann", Verdict.MASK, "published")
                book.replace(made.model_copy(update={"status": DONE, "reason": Reason.REVIEWED}))
            case "spot_check":
                book.execute("INSERT INTO spot_check (id) VALUES (?)", name)
        if state not in ("waiting", "spot_check"):
            decisions.set_state(name, state, f"note of {path}")
    return name


def close(decisions: Decisions, made: Record, reviewer: str, verdict: Verdict, outcome: str) -> int:
    assert made.id is not None
    number = decisions.record(made.id, reviewer, verdict, note="", waived=(), mask=None, machine=made)
    decisions.close(number, outcome, "", standing=True)
    return number


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite", create=True) as book:
        yield book


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(book: Ledger, clock: Clock) -> Queue:
    return Queue(book, clock)


def ids(taken: tuple[list[object], bool]) -> list[str]:
    return [entry.id[2:] for entry in taken[0]]  # type: ignore[attr-defined]


def test_an_empty_queue(queue: Queue) -> None:
    assert queue.counts() == dict.fromkeys(STATES, 0)
    assert queue.reasons() == {}
    assert queue.left_for("ann") == 0
    assert queue.entry("p_a") is None
    assert queue.entries(None, None, 0, 10) == (0, [])
    assert queue.take("ann", "h", count=3) == ([], False)
    assert queue.take("ann", "h", after="p_unknown", count=3) == ([], False)


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_told(book: Ledger, queue: Queue, state: str) -> None:
    name = put(book, "a", state)
    put(book, "b", "waiting", Reason.NO_LANDMARKS)
    expected = dict.fromkeys(STATES, 0)
    expected[state] += 1
    expected["waiting"] += 1
    assert queue.counts() == expected
    entry = queue.entry(name)
    assert entry is not None
    assert (entry.id, entry.state) == (name, state)
    assert entry.note == ("" if state in ("waiting", "spot_check") else "note of a")
    total, found = queue.entries(state, None, 0, 10)
    assert total == len(found) == expected[state]
    assert entry in found
    everything = [each.id for each in queue.entries(None, None, 0, 10)[1]]
    assert (name in everything) == (state in OPEN)


def test_published_pending_failed_and_duplicate_pictures_are_not_in_it(book: Ledger, queue: Queue) -> None:
    book.add(Source(path=path, size=1, mtime_ns=1) for path in "abcde")
    book.commit(Record(source="a", id="p_a", status=DONE))
    book.commit(Record(source="b", status=Status.FAILED, reason=Reason.UNREADABLE))
    book.commit(Record(source="c", id="p_c", status=WAITS, reason=Reason.NO_FACE))
    book.commit(Record(source="d", id="p_c", status=WAITS, reason=Reason.NO_FACE))
    assert sum(queue.counts().values()) == 1
    assert ids(queue.take("ann", "h", count=9)) == ["c"]


def test_reasons_are_those_of_waiting_pictures_most_frequent_first(book: Ledger, queue: Queue) -> None:
    for path, reason in zip(
        "abcde", [Reason.NO_FACE, *[Reason.FACE_REMAINS] * 3, Reason.NO_FACE], strict=True
    ):
        put(book, path, "waiting", reason)
    put(book, "f", "skipped", Reason.MASK_TOO_SMALL)
    assert list(queue.reasons().items()) == [(Reason.FACE_REMAINS, 3), (Reason.NO_FACE, 2)]


def test_in_the_order_of_the_paths_with_skipped_ones_last(book: Ledger, queue: Queue) -> None:
    for path in ("d", "b", "ä", "Z", "a/x"):
        put(book, path, "waiting")
    put(book, "a", "skipped")
    put(book, "c", "skipped")
    order = ["Z", "a/x", "b", "d", "ä", "a", "c"]
    assert [each.id[2:] for each in queue.entries(None, None, 0, 99)[1]] == order
    pages = [queue.entries(None, None, offset, 3) for offset in (0, 3, 6, 9)]
    assert [total for total, _ in pages] == [7] * 4
    assert [each.id[2:] for _, page in pages for each in page] == order
    assert ids(queue.take("ann", "h", count=99)) == order


def test_round_to_the_start_once(book: Ledger, queue: Queue) -> None:
    for path in "abcde":
        put(book, path, "waiting")
    assert queue.take("ann", "h", after="p_b", count=2)[1] is False
    later, wrapped = queue.take("ann", "h", after="p_b", count=99)
    assert ([each.id for each in later], wrapped) == (["p_c", "p_d", "p_e", "p_a", "p_b"], True)
    assert queue.take("ann", "h", after="p_e", count=1)[1] is True
    assert ids(queue.take("ann", "h", after="p_e", count=1)) == ["a"]
    assert ids(queue.take("ann", "h", count=1)) == ["a"]


def test_what_follows_a_decided_picture_is_what_followed_it_before(book: Ledger, queue: Queue) -> None:
    for path, state in zip("abcd", ["waiting", "decided", "waiting", "waiting"], strict=True):
        put(book, path, state)
    assert ids(queue.take("ann", "h", after="p_b", count=9)) == ["c", "d", "a"]


@pytest.mark.parametrize("others", [{}, {"z": "skipped"}])
def test_after_a_skipped_picture_the_next_one_that_waits_follows(
    book: Ledger, queue: Queue, others: dict[str, str]
) -> None:
    for path, state in ({"a": "waiting", "b": "skipped", "c": "waiting"} | others).items():
        put(book, path, state)
    assert ids(queue.take("ann", "h", after="p_b", count=1)) == ["c"]


def test_through_the_skipped_ones_at_the_end(book: Ledger, queue: Queue) -> None:
    for path in "abc":
        put(book, path, "skipped")
    assert queue.take("ann", "h", after="p_a", count=1)[1] is False
    assert ids(queue.take("ann", "h", after="p_a", count=9)) == ["b", "c", "a"]


def test_only_of_one_state_and_for_one_reason(book: Ledger, queue: Queue) -> None:
    kinds = [(state, reason) for state in STATES for reason in (Reason.NO_FACE, Reason.FACE_REMAINS)]
    for place, (state, reason) in enumerate(kinds):
        put(book, f"{place:02d}", state, reason)
    for state in (None, *STATES):
        for reason in (None, Reason.NO_FACE, Reason.FACE_REMAINS, Reason.UNREADABLE):
            expected = [
                f"{place:02d}"
                for place, (s, r) in enumerate(kinds)
                if (s == state or (state is None and s != "decided")) and reason in (None, _kept(s, r))
            ]
            total, found = queue.entries(state, reason, 0, 99)
            assert sorted(each.id[2:] for each in found) == expected
            assert total == len(expected)
            taken = queue.take("cat", "h", state=state, reason=reason, count=99)
            assert ids(taken) == [each.id[2:] for each in found]


def _kept(state: str, reason: Reason) -> Reason | None:
    """What a picture of `put` has as its reason."""
    return {"spot_check": None, "decided": Reason.REVIEWED}.get(state, reason)


def test_a_second_opinion_is_asked_of_somebody_else(book: Ledger, queue: Queue) -> None:
    put(book, "a", "second_opinion")
    put(book, "b", "waiting")
    assert (queue.left_for("ann"), queue.left_for("bob")) == (1, 2)
    for state in (None, "second_opinion"):
        assert "a" not in ids(queue.take("ann", "h", state=state, count=9))
        assert "a" not in ids(queue.take("ann", "h", state=state, after="p_b", count=9))
    assert ids(queue.take("bob", "i", state="second_opinion", count=9)) == ["a"]
    assert [each.id for each in queue.entries("second_opinion", None, 0, 9)[1]] == ["p_a"]


def test_who_skipped_or_took_back_may_give_the_second_opinion(book: Ledger, queue: Queue) -> None:
    put(book, "a", "second_opinion")
    made = book.find("p_a")
    assert made is not None
    decisions = Decisions(book)
    close(decisions, made, "bob", Verdict.SKIP, "skipped")
    assert queue.left_for("bob") == 1
    (first,) = (d for d in decisions.of("p_a") if d.reviewer == "ann")
    decisions.close(first.number, "undone", "", standing=False)
    assert ids(queue.take("ann", "h", count=1)) == ["a"]


def test_anybody_settles_a_disagreement(book: Ledger, queue: Queue) -> None:
    put(book, "a", "disagreement")
    assert [queue.left_for(who) for who in ("ann", "bob", "cat")] == [1, 1, 1]
    assert ids(queue.take("ann", "h")) == ["a"]


def test_a_decided_picture_that_waits_again_is_offered_again(book: Ledger, queue: Queue) -> None:
    put(book, "a", "decided")
    assert queue.take("ann", "h") == ([], False)
    book.redo("a")
    assert sum(queue.counts().values()) == 0
    book.commit(Record(source="a", id="p_a", status=WAITS, reason=Reason.FACE_REMAINS))
    assert queue.counts()["waiting"] == 1
    assert ids(queue.take("ann", "h")) == ["a"]


def test_a_picture_that_was_left_out_is_decided(book: Ledger, queue: Queue) -> None:
    put(book, "a", "decided")
    book.replace(Record(source="a", id="p_a", status=Status.EXCLUDED, reason=Reason.EXCLUDED))
    assert queue.counts()["decided"] == 1
    assert queue.left_for("ann") == 0


def test_a_spot_check_may_be_skipped_and_ends_with_a_look(book: Ledger, queue: Queue) -> None:
    put(book, "a", "spot_check")
    put(book, "b", "waiting")
    made = book.find("p_a")
    assert made is not None
    decisions = Decisions(book)
    close(decisions, made, "ann", Verdict.SKIP, "skipped")
    assert queue.counts()["spot_check"] == 1
    decisions.set_state("p_a", "skipped", "dark")
    assert [each[:2] for each in queue.entries(None, None, 0, 9)[1]] == [
        ("p_b", "waiting"),
        ("p_a", "skipped"),
    ]
    decisions.close_spot_check("p_a", miss=False)
    decisions.set_state("p_a", "decided")
    assert queue.counts()["decided"] == 1
    assert queue.left_for("ann") == 1


class TestWant:
    @pytest.mark.parametrize("state", STATES)
    def test_comes_first_whatever_its_state(self, book: Ledger, queue: Queue, state: str) -> None:
        for path in "abc":
            put(book, path, "waiting")
        put(book, "d", state)
        assert ids(queue.take("ann", "h", want="p_d", count=3)) == ["d", "a", "b"]
        assert ids(queue.take("ann", "h", want="p_d", state="waiting", count=1)) == ["d"]
        assert queue.taken_by("p_d") == "ann"

    def test_a_published_picture_can_be_had(self, book: Ledger, queue: Queue) -> None:
        book.add([Source(path="a", size=1, mtime_ns=1)])
        book.commit(Record(source="a", id="p_a", status=DONE))
        ((entry,), wrapped) = queue.take("ann", "h", want="p_a")
        assert (entry.id, entry.state, wrapped) == ("p_a", "decided", False)

    def test_an_unknown_one_leases_nothing(self, book: Ledger, queue: Queue) -> None:
        put(book, "a", "waiting")
        with pytest.raises(UnknownPicture, match="no picture p_x"):
            queue.take("ann", "h", want="p_x", count=3)
        assert book.read("SELECT * FROM lease") == []

    def test_another_reviewers_is_refused_and_leases_nothing(self, book: Ledger, queue: Queue) -> None:
        put(book, "a", "waiting")
        put(book, "b", "waiting")
        queue.take("ann", "h", want="p_b")
        with pytest.raises(PictureTaken, match="ann works on p_b"):
            queue.take("bob", "i", want="p_b", count=2)
        assert (queue.taken_by("p_a"), queue.taken_by("p_b")) == (None, "ann")
        queue.check_free("p_b", "ann")
        queue.check_free("p_a", "bob")
        with pytest.raises(PictureTaken):
            queue.check_free("p_b", "bob")

    def test_ones_own_is_taken_over_from_another_window(
        self, book: Ledger, queue: Queue, clock: Clock
    ) -> None:
        put(book, "a", "waiting")
        queue.take("ann", "old")
        assert queue.take("ann", "new") == ([], False)
        assert ids(queue.take("ann", "new", want="p_a")) == ["a"]
        clock.time += LEASE_SECONDS / 2
        queue.renew("old", ["p_a"])
        queue.release("old", ["p_a"])
        assert queue.taken_by("p_a") == "ann"
        clock.time += LEASE_SECONDS / 2
        assert queue.taken_by("p_a") is None


def test_a_lease_ends_and_is_renewed(book: Ledger, queue: Queue, clock: Clock) -> None:
    put(book, "a", "waiting")
    put(book, "b", "waiting")
    queue.take("ann", "h", count=2)
    clock.time += LEASE_SECONDS - 1
    assert queue.take("bob", "i", count=2) == ([], False)
    queue.renew("h", ["p_a", "p_unknown"])
    clock.time += 1
    assert ids(queue.take("bob", "i", count=2)) == ["b"]
    queue.renew("h", ["p_b"])  # somebody else's by now
    assert (queue.taken_by("p_a"), queue.taken_by("p_b")) == ("ann", "bob")
    queue.release("i", ["p_a", "p_b"])
    assert (queue.taken_by("p_a"), queue.taken_by("p_b")) == ("ann", None)


PATHS = "abcdef"
WHO = {"h1": "ann", "h2": "ann", "h3": "bob", "h4": "cat"}
holders = st.sampled_from(list(WHO))
pictures = st.sampled_from([f"p_{path}" for path in PATHS])
some = st.lists(pictures, max_size=3)
steps = st.one_of(
    st.tuples(st.just("take"), holders, st.integers(1, 4), st.none() | pictures, st.none() | pictures),
    st.tuples(st.just("renew"), holders, some),
    st.tuples(st.just("release"), holders, some),
    st.tuples(st.just("wait"), st.sampled_from([1.0, LEASE_SECONDS / 2, LEASE_SECONDS])),
)


@dataclass
class Model:
    """Who has which picture: what `Queue` says in SQL, once more without it."""

    states: dict[str, str]
    held: dict[str, tuple[str, float]] = field(default_factory=dict)

    def holder(self, name: str, now: float) -> str | None:
        holder, until = self.held.get(name, ("", 0.0))
        return holder if until > now else None

    def take(
        self, holder: str, count: int, after: str | None, want: str | None, now: float
    ) -> tuple[list[str], bool] | None:
        if want is not None and WHO[self.holder(want, now) or holder] != WHO[holder]:
            return None
        free = [
            name
            for name, state in self.states.items()
            if state != "decided"
            and name != want
            and self.holder(name, now) in (None, holder)
            and not (state == "second_opinion" and WHO[holder] == "ann")
        ]
        place = {name: (state == "skipped", name) for name, state in self.states.items()}
        start = place[after] if after else (False, "")
        free.sort(key=lambda name: (place[name] <= start, place[name]))
        rest = free[: count - (want is not None)]
        taken = ([want] if want else []) + rest
        self.held |= dict.fromkeys(taken, (holder, now + LEASE_SECONDS))
        return taken, any(place[name] <= start for name in rest)


@settings(max_examples=60, deadline=None)
@given(
    states=st.lists(st.sampled_from(STATES), min_size=len(PATHS), max_size=len(PATHS)),
    steps=st.lists(steps, max_size=25),
)
def test_nobody_gets_what_another_has_whatever_happens(
    states: list[str], steps: list[tuple[object, ...]]
) -> None:
    clock = Clock()
    model = Model({f"p_{path}": state for path, state in zip(PATHS, states, strict=True)})
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "l", create=True) as book:
        book._database.execute("PRAGMA synchronous = OFF")
        for name, state in model.states.items():
            put(book, name[2:], state)
        queue = Queue(book, clock)
        for step in steps:
            play(queue, model, clock, step)
            for name in model.states:
                holder = model.holder(name, clock.time)
                assert queue.taken_by(name) == (None if holder is None else WHO[holder])


def play(queue: Queue, model: Model, clock: Clock, step: tuple[object, ...]) -> None:
    match step:
        case ("wait", float(seconds)):
            clock.time += seconds
        case ("take", str(holder), int(count), after, want):
            if after is not None and model.states[str(after)] == "skipped":
                after = None  # a test of its own
            before = {name: model.holder(name, clock.time) for name in model.states}
            expected = model.take(holder, count, after, want, clock.time)  # type: ignore[arg-type]
            if expected is None:
                with pytest.raises(PictureTaken):
                    queue.take(WHO[holder], holder, after=after, want=want, count=count)  # type: ignore[arg-type]
                return
            found, wrapped = queue.take(WHO[holder], holder, after=after, want=want, count=count)  # type: ignore[arg-type]
            assert ([each.id for each in found], wrapped) == expected
            for each in found:
                assert before[each.id] in (None, holder) or (
                    each.id == want and WHO[str(before[each.id])] == WHO[holder]
                )
        case ("renew", str(holder), list(names)):
            queue.renew(holder, names)
            renewed = {n for n in names if model.held.get(n, ("", 0))[0] == holder}
            model.held |= dict.fromkeys(renewed, (holder, clock.time + LEASE_SECONDS))
        case ("release", str(holder), list(names)):
            queue.release(holder, names)
            model.held = {n: h for n, h in model.held.items() if not (n in names and h[0] == holder)}


def test_windows_that_ask_at_the_same_time_share_nothing(book: Ledger) -> None:
    """Each window has a connection of its own, as two processes would."""
    for number in range(40):
        put(book, f"{number:02d}", "waiting")
    start, got, errors = threading.Barrier(4), list[str](), list[BaseException]()

    def work(holder: str) -> None:
        try:
            with Ledger(book.path, beside_a_run=True) as mine:
                queue = Queue(mine, lambda: 0.0)
                start.wait()
                have: list[str] = []
                after = None
                for _ in range(5):
                    found, _ = queue.take(holder, holder, after=after, count=2)
                    after = found[-1].id
                    have += [each.id for each in found]
                got.extend(have)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"h{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(got) == [f"p_{number:02d}" for number in range(40)]


def test_ten_thousand_pictures(book: Ledger, queue: Queue) -> None:
    names = [f"{number * 7919 % 10_000:05d}" for number in range(10_000)]
    record = '{"source": "x", "status": "needs_review"}'
    with book.writing():
        book._database.executemany(
            "INSERT INTO picture (path, size, mtime_ns, status, reason, id, record) VALUES (?, 1, 1, ?, ?, ?, ?)",
            [(n.encode(), WAITS, Reason.NO_FACE, f"p_{n}", record) for n in names],
        )
        book._database.executemany(
            "INSERT INTO review VALUES (?, ?, '', ?)",
            [
                (f"p_{n}", "skipped" if n < "05000" else "second_opinion", record)
                for n in names
                if n < "06000"
            ],
        )
    assert queue.counts() == dict.fromkeys(STATES, 0) | {
        "waiting": 4000,
        "skipped": 5000,
        "second_opinion": 1000,
    }
    order = sorted(names, key=lambda n: (n < "05000", n))
    total, page = queue.entries(None, None, 7_000, 60)
    assert (total, [each.id[2:] for each in page]) == (10_000, order[7_000:7_060])
    assert ids(queue.take("ann", "h", after="p_09998", count=3)) == ["09999", "00000", "00001"]
    assert ids(queue.take("ann", "h", state="waiting", after="p_09999", count=2)) == ["06000", "06001"]
    plan = " ".join(
        row[3] for row in book.read("EXPLAIN QUERY PLAN SELECT * FROM queue WHERE state = 'waiting'")
    )
    assert "SCAN p" not in plan
