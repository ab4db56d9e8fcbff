from __future__ import annotations

import math
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from p3m_data.errors import DraftChanged, StorageError
from p3m_data.pipeline import decisions as module
from p3m_data.pipeline.decisions import (
    Decisions,
    Draft,
    Finding,
    SpotChecks,
    Verdict,
    miss_rate_bound,
)
from p3m_data.pipeline.ledger import Ledger
from p3m_data.types import Check, Face, Reason, Record, Source, Status

WAITS, DONE = Status.NEEDS_REVIEW, Status.ANONYMIZED
DOT: dict[str, Any] = {"tool": "brush", "erase": False, "radius": 3.5, "points": [[1, 2]]}


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite", create=True) as book:
        yield book


@pytest.fixture
def made(book: Ledger) -> Decisions:
    return Decisions(book)


def put(book: Ledger, path: str, status: Status = WAITS, **rest: Any) -> Record:
    book.add([Source(path=path, size=1, mtime_ns=1)])
    reason = Reason.NO_FACE if status is WAITS else None
    return book.commit(Record(source=path, id=f"p_{path}", status=status, reason=reason, **rest))


def decide(
    made: Decisions,
    machine: Record,
    reviewer: str = "ann",
    verdict: Verdict = Verdict.MASK,
    outcome: str | None = None,
    **rest: Any,
) -> int:
    assert machine.id is not None
    given = {"note": "", "waived": (), "mask": None} | rest
    number = made.record(machine.id, reviewer, verdict, machine=machine, **given)
    if outcome is not None:
        made.close(number, outcome, outcome, standing=outcome != "sent_back")
    return number


def standing(made: Decisions, name: str) -> list[int]:
    return [d.number for d in made.of(name) if d.standing]


class TestDrafts:
    def test_an_empty_one_has_version_0(self, made: Decisions) -> None:
        assert made.draft("p_a", "ann") == Draft([], 0, 0)

    def test_each_save_is_the_next_version(self, book: Ledger, made: Decisions) -> None:
        ops = [DOT, {"tool": "clear"}, {"tool": "ellipse", "box": [0.1, 1e-9, 3, -1e5]}]
        for version in range(1, 4):
            before = made.draft("p_a", "ann")
            assert made.save_draft("p_a", "ann", before, ops[:version], version - 1) == version
            assert made.draft("p_a", "ann") == Draft(ops[:version], version - 1, version)
        with Ledger(book.path) as other:
            assert Decisions(other).draft("p_a", "ann") == Draft(ops, 2, 3)

    def test_everybody_has_their_own_on_every_picture(self, made: Decisions) -> None:
        for name, reviewer, done in (("p_a", "ann", 1), ("p_a", "bob", 2), ("p_b", "ann", 3)):
            made.save_draft(name, reviewer, Draft([], 0, 0), [DOT] * done, done)
        assert made.draft("p_a", "ann").done == 1
        assert made.draft("p_a", "bob").done == 2
        assert made.draft("p_b", "ann").done == 3
        assert made.draft("p_b", "bob") == Draft([], 0, 0)

    @pytest.mark.parametrize("version", [0, 1, 3])
    def test_one_that_was_changed_elsewhere_is_handed_back(self, made: Decisions, version: int) -> None:
        first = Draft([], 0, 0)
        made.save_draft("p_a", "ann", first, [DOT], 1)
        made.save_draft("p_a", "ann", made.draft("p_a", "ann"), [DOT, DOT], 1)
        with pytest.raises(DraftChanged, match="p_a was changed in another window") as caught:
            made.save_draft("p_a", "ann", Draft([], 0, version), [], 0)
        assert caught.value.draft == {"ops": [DOT, DOT], "done": 1, "version": 2}
        assert made.draft("p_a", "ann") == Draft([DOT, DOT], 1, 2)

    def test_of_windows_that_save_at_once_one_wins(self, book: Ledger, made: Decisions) -> None:
        start, won, lost = threading.Barrier(6), list[int](), list[int]()

        def work(number: int) -> None:
            with Ledger(book.path, beside_a_run=True) as mine:
                start.wait()
                try:
                    Decisions(mine).save_draft("p_a", "ann", Draft([], 0, 0), [DOT] * number, number)
                    won.append(number)
                except DraftChanged as error:
                    lost.append(error.draft["done"])

        threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert lost == won * 5
        assert made.draft("p_a", "ann").done == won[0]


class TestDecisions:
    def test_what_is_recorded_is_told(self, book: Ledger, made: Decisions) -> None:
        machine = put(book, "a", faces=(Face(box=(0, 0, 1, 1), score=1, detectors=("x",), how="none"),))
        before = datetime.now(UTC) - timedelta(seconds=1)
        number = decide(made, machine, note="ü\n", waived=("faces_left",), mask=b"\0PNG")
        decision = made.get(number)
        assert decision is not None
        assert (decision.id, decision.reviewer, decision.verdict) == ("p_a", "ann", Verdict.MASK)
        assert (decision.note, decision.waived, decision.standing) == ("ü\n", ("faces_left",), True)
        assert (decision.outcome, decision.said, decision.findings) == (None, "", ())
        assert before <= datetime.fromisoformat(decision.at) <= datetime.now(UTC)
        assert made.mask(number) == b"\0PNG"
        assert made.machine("p_a") == machine
        found = Finding(check="faces_left", said="one", boxes=((1.0, 2.0, 3.0, 4.5),), waivable=True)
        made.close(number, "sent_back", "no", standing=False, findings=[found])
        closed = made.get(number)
        assert closed == decision.model_copy(
            update={"outcome": "sent_back", "said": "no", "standing": False, "findings": (found,)}
        )

    def test_nothing_there(self, made: Decisions) -> None:
        assert made.get(1) is None
        assert made.machine("p_a") is None
        assert made.of("p_a") == made.newest(5) == made.cut_short() == []
        assert made.effective() == frozenset()
        assert made.done_by("ann") == 0
        assert made.decided_twice() == (0, 0)

    def test_numbers_grow_and_the_newest_comes_first(self, book: Ledger, made: Decisions) -> None:
        machines = [put(book, path) for path in "ab"]
        numbers = [decide(made, machines[i % 2], "ann") for i in range(4)]
        assert numbers == sorted(set(numbers))
        assert [d.number for d in made.newest(3)] == numbers[:0:-1]
        assert [d.number for d in made.of("p_b")] == [numbers[3], numbers[1]]

    def test_the_machines_record_is_the_one_from_before_anybody_decided(
        self, book: Ledger, made: Decisions
    ) -> None:
        machine = put(book, "a")
        decide(made, machine)
        decide(made, machine.model_copy(update={"status": DONE, "reason": Reason.REVIEWED}), "bob")
        assert made.machine("p_a") == machine
        book.execute("UPDATE review SET machine = substr(machine, 3)")
        with pytest.raises(StorageError, match="is damaged"):
            made.machine("p_a")

    def test_decisions_are_a_stack(self, book: Ledger, made: Decisions) -> None:
        a, b = put(book, "a"), put(book, "b")
        first, elsewhere = decide(made, a), decide(made, b)
        second, skip = decide(made, a, "bob"), decide(made, a, verdict=Verdict.SKIP, outcome="skipped")
        assert standing(made, "p_a") == [skip, second, first]
        tops = made.top("p_a"), made.top("p_b")
        assert [top and top.number for top in tops] == [second, elsewhere]
        made.close(second, "undone", "", standing=False)
        top = made.top("p_a")
        assert top is not None
        assert top.number == first

    @settings(max_examples=50, deadline=None)
    @given(
        made_by=st.lists(
            st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.sampled_from(list(Verdict))),
            max_size=12,
        ),
        undone=st.sets(st.integers(0, 11)),
    )
    def test_which_decision_holds(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        made_by: list[tuple[str, str, Verdict]],
        undone: set[int],
    ) -> None:
        """Brute force: a list of what stands for each picture."""
        with Ledger(tmp_path_factory.mktemp("l") / "l", create=True) as book:
            book._database.execute("PRAGMA synchronous = OFF")
            made, machines = Decisions(book), {path: put(book, path) for path in "ab"}
            stacks: dict[str, list[int]] = {"a": [], "b": []}
            deciders: set[tuple[str, str]] = set()
            for place, (path, reviewer, verdict) in enumerate(made_by):
                number = decide(made, machines[path], reviewer, verdict)
                if place in undone:
                    made.close(number, "undone", "", standing=False)
                elif verdict is not Verdict.SKIP:
                    stacks[path].append(number)
                    deciders.add((path, reviewer))
            for path, stack in stacks.items():
                top = made.top(f"p_{path}")
                assert (top and top.number) == (stack[-1] if stack else None)
                assert made.overrules_machine(f"p_{path}") == bool(stack)
            assert made.effective() == {f"p_{path}" for path, stack in stacks.items() if stack}
            for reviewer in "xyz":
                assert made.done_by(reviewer) == sum(who == reviewer for _, who in deciders)

    def test_a_note_stays_unless_there_is_a_new_one(self, book: Ledger, made: Decisions) -> None:
        decide(made, put(book, "a"))
        notes = []
        for state, note in (("skipped", "dark"), ("waiting", None), ("second_opinion", "")):
            made.set_state("p_a", state, note)
            notes += book.read("SELECT state, note FROM review")
        assert notes == [("skipped", "dark"), ("waiting", "dark"), ("second_opinion", "")]

    def test_a_record_that_fails_leaves_nothing(self, book: Ledger, made: Decisions) -> None:
        first = decide(made, put(book, "a"))
        endless = Check(name="x", passed=True, value=math.inf, limit=0)
        broken = Record(source="a", id="p_a", checks=(endless,))
        with pytest.raises(ValueError, match="JSON"):
            made.record("p_a", "ann", Verdict.MASK, note="", waived=(), mask=None, machine=broken)
        assert standing(made, "p_a") == [first]


FITS: dict[str | None, set[Status]] = {
    "undoing": set(),
    None: set(),
    "published": {DONE},
    "agreed": {DONE},
    "excluded": {Status.EXCLUDED},
    "sent_back": {WAITS, Status.EXCLUDED},
    "failed": {WAITS, Status.EXCLUDED},
    "second_opinion": {WAITS, Status.EXCLUDED},
    "disagreement": {WAITS, Status.EXCLUDED},
    "confirmed": set(Status),
    "gone": set(Status),
}
"""What a decision's picture may be when there is nothing to carry out (again)."""


@pytest.mark.parametrize("outcome", FITS)
@pytest.mark.parametrize("status", [WAITS, DONE, Status.EXCLUDED])
@pytest.mark.parametrize("stands", [True, False])
def test_what_has_to_be_carried_out_again(
    book: Ledger, made: Decisions, outcome: str | None, status: Status, stands: bool
) -> None:
    """Only a decision that stands, and that the ledger does not agree with."""
    machine = put(book, "a")
    number = decide(made, machine)
    book.execute("UPDATE decision SET outcome = ?, standing = ?", outcome, stands)
    book.replace(machine.model_copy(update={"status": status}))
    decisive = stands and outcome != "confirmed"
    assert made.effective() == (frozenset({"p_a"}) if decisive else frozenset())
    again = stands and status not in FITS[outcome]
    assert [d.number for d in made.cut_short()] == ([number] if again else [])


def test_only_the_newest_decision_is_carried_out_again(book: Ledger, made: Decisions) -> None:
    machine = put(book, "a")
    decide(made, machine, outcome="published")
    newest = decide(made, machine, "bob")
    assert [d.number for d in made.cut_short()] == [newest]
    made.close(newest, "sent_back", "", standing=True)
    assert made.cut_short() == []


def test_the_oldest_of_what_was_cut_short_comes_first(book: Ledger, made: Decisions) -> None:
    numbers = [decide(made, put(book, path)) for path in "cab"]
    assert [d.number for d in made.cut_short()] == numbers
    book.add([Source(path="c", size=2, mtime_ns=1)])
    assert [d.number for d in made.cut_short()] == numbers


def test_a_skip_never_has_to_be_carried_out(book: Ledger, made: Decisions) -> None:
    """The verification has nothing to do for it, and no run may leave its picture to a person's word."""
    decide(made, put(book, "a"), verdict=Verdict.SKIP)
    assert made.cut_short() == []
    assert made.effective() == frozenset()


def test_pictures_that_two_people_decided(book: Ledger, made: Decisions) -> None:
    for path, second in (("a", "agreed"), ("b", "disagreement"), ("c", "agreed")):
        machine = put(book, path)
        decide(made, machine, "ann", outcome="second_opinion" if second == "disagreement" else "published")
        decide(made, machine, "bob", outcome=second)
    decide(made, put(book, "d"), outcome="published")
    decide(made, put(book, "e"), outcome="second_opinion")
    decide(made, put(book, "f"), verdict=Verdict.SKIP, outcome="skipped")
    assert made.decided_twice() == (3, 1)


def test_who_agrees_with_the_machine_is_no_second_person(book: Ledger, made: Decisions) -> None:
    machine = put(book, "a", DONE)
    made.draw_spot_checks(1)
    decide(made, machine, verdict=Verdict.ACCEPT, outcome="confirmed")
    made.close_spot_check("p_a", miss=False)
    assert made.decided_twice() == (0, 0)


class TestSpotChecks:
    def names(self, book: Ledger) -> list[str]:
        return [name for (name,) in book.read("SELECT id FROM spot_check ORDER BY id")]

    def test_tops_up_only(self, book: Ledger, made: Decisions) -> None:
        for number in range(20):
            put(book, f"{number:02d}", DONE)
        assert [made.draw_spot_checks(n) for n in (-1, 0, 5, 5, 3, 8, 99, 99)] == [0, 0, 5, 0, 0, 3, 12, 0]
        assert len(self.names(book)) == 20
        assert made.spot_checks() == SpotChecks(20, 0, 0, 20)

    def test_what_was_drawn_stays(self, book: Ledger, made: Decisions) -> None:
        for number in range(20):
            put(book, f"{number:02d}", DONE)
        made.draw_spot_checks(5)
        first = set(self.names(book))
        made.close_spot_check(min(first), miss=True)
        made.draw_spot_checks(9)
        assert first < set(self.names(book))
        assert made.spot_checks() == SpotChecks(9, 1, 1, 20)

    def test_only_what_the_machine_published_unseen(self, book: Ledger, made: Decisions) -> None:
        for path, status in zip("abcde", [DONE, WAITS, Status.EXCLUDED, DONE, DONE], strict=True):
            put(book, path, status)
        put(book, "f", Status.FAILED)
        book.add([Source(path="g", size=1, mtime_ns=1)])
        book.add([Source(path="h", size=1, mtime_ns=1)])
        assert book.commit(Record(source="h", id="p_a", status=DONE)).status is Status.DUPLICATE
        reviewed = book.find("p_d")
        assert reviewed is not None
        decide(made, reviewed, outcome="published")
        assert made.draw_spot_checks(99) == 2
        assert self.names(book) == ["p_a", "p_e"]
        assert made.is_spot_check("p_a")
        assert not made.is_spot_check("p_d")
        assert made.spot_checks().population == 2

    def test_looks_count_until_they_are_taken_back(self, book: Ledger, made: Decisions) -> None:
        for path in "abcd":
            put(book, path, DONE)
        made.draw_spot_checks(3)
        a, b, c = self.names(book)
        for name, miss in ((a, True), (b, False), (c, True)):
            made.close_spot_check(name, miss)
        assert made.spot_checks() == SpotChecks(drawn=3, checked=3, misses=2, population=4)
        assert made.spot_checks().upper_bound == miss_rate_bound(2, 3)
        made.close_spot_check(a, None)
        made.close_spot_check("p_unknown", True)
        assert made.spot_checks() == SpotChecks(drawn=3, checked=2, misses=1, population=4)

    def test_a_looked_at_one_stays_in_the_population(self, book: Ledger, made: Decisions) -> None:
        for path in "abcd":
            put(book, path, DONE)
        made.draw_spot_checks(2)
        name = self.names(book)[0]
        machine = book.find(name)
        assert machine is not None
        decide(made, machine, verdict=Verdict.ACCEPT, outcome="agreed")
        made.close_spot_check(name, miss=False)
        assert made.spot_checks() == SpotChecks(2, 1, 0, 4)

    def test_a_drawn_picture_that_is_gone_is_replaced(self, book: Ledger, made: Decisions) -> None:
        for path in "abc":
            put(book, path, DONE)
        made.draw_spot_checks(1)
        (name,) = self.names(book)
        book.add([Source(path=name[2:], size=2, mtime_ns=1)])
        book.commit(Record(source=name[2:], id="p_new", status=DONE))
        assert made.spot_checks() == SpotChecks(0, 0, 0, 3)
        assert made.draw_spot_checks(1) == 1

    def test_every_picture_is_as_likely(
        self, book: Ledger, made: Decisions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Chi-square over 400 samples of 3 of 12; pairs, too, so that neighbours are not drawn together."""
        book._database.execute("PRAGMA synchronous = OFF")
        names = [put(book, f"{number:02d}", DONE).id for number in range(12)]
        single, pairs = dict.fromkeys(names, 0), 0
        source = random.Random(20)
        monkeypatch.setattr(module.random, "SystemRandom", lambda: source)
        for _ in range(400):
            with book.writing():
                made.draw_spot_checks(2)
                made.draw_spot_checks(3)
                drawn = self.names(book)
                book.execute("DELETE FROM spot_check")
            assert len(set(drawn)) == 3
            for name in drawn:
                single[name] += 1
            places = [names.index(name) for name in drawn]
            pairs += sum(b - a == 1 for a in places for b in places)
        assert stats.chisquare(list(single.values())).pvalue > 1e-4
        expected = 400 * 3 * 11 / math.comb(12, 2)
        assert abs(pairs - expected) < 5 * math.sqrt(expected)

    def test_nobody_can_foresee_the_sample(self) -> None:
        assert module.random.SystemRandom is random.SystemRandom


class TestBound:
    @settings(max_examples=100, deadline=None)
    @given(checked=st.integers(1, 1000), share=st.floats(0, 1))
    def test_is_clopper_and_pearsons(self, checked: int, share: float) -> None:
        misses = min(int(share * checked), checked - 1)
        expected = stats.beta.ppf(0.95, misses + 1, checked - misses)
        assert miss_rate_bound(misses, checked) == pytest.approx(expected, abs=1e-7)

    @pytest.mark.parametrize("checked", [1, 2, 30, 300, 3_000, 100_000])
    def test_without_a_miss_it_is_the_rule_of_three(self, checked: int) -> None:
        bound = miss_rate_bound(0, checked)
        assert bound == pytest.approx(1 - 0.05 ** (1 / checked), abs=2e-9)
        assert bound <= 3 / checked
        if checked >= 30:
            assert bound == pytest.approx(3 / checked, rel=0.06)

    def test_all_misses_or_no_look_prove_nothing(self) -> None:
        assert miss_rate_bound(0, 0) == miss_rate_bound(7, 7) == miss_rate_bound(1, 1) == 1.0

    def test_more_misses_are_worse_and_more_looks_better(self) -> None:
        for checked in (1, 5, 59, 300):
            bounds = [miss_rate_bound(misses, checked) for misses in range(0, checked + 1, 1 + checked // 60)]
            assert bounds == sorted(set(bounds))
            assert all(
                bound > misses / checked or bound == 1
                for misses, bound in zip(range(0, checked + 1, 1 + checked // 60), bounds, strict=True)
            )
        looks = [miss_rate_bound(2, checked) for checked in range(3, 200)]
        assert looks == sorted(set(looks), reverse=True)
