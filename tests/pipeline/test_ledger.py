from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.errors import DatasetBusy, StorageError
from p3m_data.pipeline import ledger
from p3m_data.pipeline.ledger import Added, Ledger
from p3m_data.types import Check, Face, Provenance, Reason, Record, Source, Status

DONE = Status.ANONYMIZED
PROVENANCE = Provenance(code_version="1", config_digest="c", models={"yunet": "0" * 64})


def source(path: str, size: int = 1, **matte: object) -> Source:
    return Source.model_validate({"path": path, "size": size, "mtime_ns": 5, **matte})


def record(path: str, name: str | None = None, status: Status = DONE, **rest: object) -> Record:
    return Record.model_validate({"source": path, "id": name, "status": status, **rest})


def paths(sources: Iterator[Source]) -> list[str]:
    return [source.path for source in sources]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite", create=True) as book:
        yield book


def test_sources_are_new_then_kept_then_changed(book: Ledger) -> None:
    assert book.add([source("a"), source("b"), source("c")]) == Added(new=3, changed=0, kept=0)
    book.commit(record("a", "p_1"))
    assert book.add([source("a", 2), source("b"), source("d")]) == Added(new=1, changed=1, kept=1)
    assert paths(book.pending()) == ["a", "b", "c", "d"]
    assert list(book.records()) == []


@pytest.mark.parametrize(
    "matte",
    [
        {"matte": "m.png", "matte_size": 1, "matte_mtime_ns": 2},
        {"matte": "n.png", "matte_size": 1, "matte_mtime_ns": 1},
        {"matte": "m.png", "matte_size": 2, "matte_mtime_ns": 1},
        {},
    ],
)
def test_another_matte_is_a_change(book: Ledger, matte: dict[str, object]) -> None:
    book.add([source("a", matte="m.png", matte_size=1, matte_mtime_ns=1)])
    book.commit(record("a", "p_1"))
    assert book.add([source("a", 1, **matte)]).changed == 1
    assert list(book.pending()) == [source("a", 1, **matte)]


def test_a_touched_file_is_a_change(book: Ledger) -> None:
    book.add([source("a")])
    assert book.add([Source(path="a", size=1, mtime_ns=6)]).changed == 1


def test_pending_is_in_order_and_survives_commits(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "PAGE", 7)
    monkeypatch.setattr(ledger, "BATCH", 10)
    names = [f"{number:03d}.jpg" for number in range(100)]
    assert book.add(source(name) for name in random.Random(0).sample(names, 100)).new == 100
    seen = []
    for item in book.pending():
        seen.append(item.path)
        book.commit(record(item.path))
    assert seen == names
    assert paths(book.pending()) == []
    assert [each.source for each in book.records()] == names


names = st.text(min_size=1, max_size=8) | st.binary(min_size=1, max_size=8).map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
faces = st.builds(
    Face,
    box=st.tuples(numbers, numbers, numbers, numbers),
    score=numbers,
    detectors=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    how=st.sampled_from(["landmarks", "ellipse", "person", "none"]),
    outline=st.lists(st.tuples(numbers, numbers), max_size=4).map(tuple),
    sigma=st.none() | numbers,
)


@settings(max_examples=40, deadline=None)
@given(
    name=names,
    matte=st.none() | names,
    detail=names,
    faces=st.lists(faces, max_size=3).map(tuple),
    checks=st.lists(st.builds(Check, name=st.text(), passed=st.booleans(), value=numbers, limit=numbers)),
    size=st.integers(0, 2**62),
)
def test_whatever_goes_in_comes_out(
    name: str, matte: str | None, detail: str, faces: tuple[Face, ...], checks: list[Check], size: int
) -> None:
    found = Source(path=name, size=size, mtime_ns=-size, matte=matte, matte_size=size, matte_mtime_ns=1)
    made = record(name, "p_1", matte=matte, detail=detail, faces=faces, checks=checks, provenance=PROVENANCE)
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "l", create=True) as book:
        book.add([found])
        assert list(book.pending()) == [found]
        assert book.commit(made) == made
        assert list(book.records()) == list(book.records(DONE)) == [made]


@settings(max_examples=30, deadline=None)
@given(found=st.sets(names, max_size=12))
def test_the_order_is_that_of_the_text(found: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "l", create=True) as book:
        book.add(source(name) for name in found)
        assert paths(book.pending()) == sorted(found)


def test_of_the_same_bytes_the_first_in_order_keeps_the_id(book: Ledger) -> None:
    book.add(map(source, "abc"))
    assert book.commit(record("b", "p_1")).status is DONE
    late = book.commit(record("c", "p_1", files={"train/mask/p_1.png": "0"}, faces=(), width=4))
    assert late == record(
        "c", None, Status.DUPLICATE, reason=Reason.SAME_BYTES, detail="The same bytes as b.", width=4
    )
    assert book.commit(record("a", "p_1")) == record("a", "p_1")
    assert {each.source: each.detail for each in book.records(Status.DUPLICATE)} == {
        "b": "The same bytes as a.",
        "c": "The same bytes as a.",
    }


outcomes = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.tuples(
        st.sampled_from(["p_1", "p_2", "p_3", None]),
        st.sampled_from([Status.ANONYMIZED, Status.NEEDS_REVIEW, Status.FAILED]),
    ),
    min_size=1,
)


def expected(outcomes: dict[str, tuple[str | None, Status]]) -> dict[str, tuple[str | None, Status]]:
    """Brute force: go through the sources in order, first come, first served."""
    taken: set[str] = set()
    result: dict[str, tuple[str | None, Status]] = {}
    for path, (name, status) in sorted(outcomes.items()):
        if name in taken and status is not Status.FAILED:
            result[path] = (None, Status.DUPLICATE)
        else:
            result[path] = (name, status)
            if name is not None and status is not Status.FAILED:
                taken.add(name)
    return result


@settings(max_examples=40, deadline=None)
@given(outcomes=outcomes, data=st.data())
def test_the_end_does_not_depend_on_the_order_nor_on_detours(
    outcomes: dict[str, tuple[str | None, Status]], data: st.DataObject
) -> None:
    """Any order of commits, over whatever was there before, ends in the rows of an undisturbed run."""
    with tempfile.TemporaryDirectory() as folder:
        with Ledger(Path(folder) / "straight", create=True) as book:
            book.add(map(source, outcomes))
            finish(book, outcomes, list(outcomes))
            straight = list(book.records())
        with Ledger(Path(folder) / "crooked", create=True) as book:
            book.add(map(source, outcomes))
            book._database.execute("PRAGMA synchronous = OFF")
            wander(book, data)
            finish(book, outcomes, data.draw(st.permutations(list(outcomes))))
            assert list(book.records()) == straight
    assert {each.source: (each.id, each.status) for each in straight} == expected(outcomes)


def finish(book: Ledger, outcomes: dict[str, tuple[str | None, Status]], order: list[str]) -> None:
    """Commit everything in `order`, and again what was put back."""
    while order:
        for path in order:
            book.commit(record(path, *outcomes[path]))
        order = paths(book.pending())


def wander(book: Ledger, data: st.DataObject) -> None:
    """Other outcomes, changed files and second tries."""
    known = paths(book.pending())
    for path in data.draw(st.lists(st.sampled_from(known))):
        name, status = data.draw(st.sampled_from([("p_1", DONE), ("p_2", DONE), ("p_1", Status.FAILED)]))
        book.commit(record(path, name, status))
    book.add(source(path, 2) for path in data.draw(st.lists(st.sampled_from(known))))
    book.retry(*data.draw(st.lists(st.sampled_from([DONE, Status.FAILED, Reason.SAME_BYTES]))))


def test_duplicates_of_a_picture_that_changes_are_done_again(book: Ledger) -> None:
    book.add(map(source, "abc"))
    for path in "abc":
        book.commit(record(path, "p_1"))
    book.add([source("a", 2)])
    assert paths(book.pending()) == ["a", "b", "c"]


@pytest.mark.parametrize("later", [record("a", "p_2"), record("a", "p_1", Status.FAILED), record("a")])
def test_duplicates_of_a_picture_that_lets_go_are_done_again(book: Ledger, later: Record) -> None:
    book.add(map(source, "abc"))
    for path in "abc":
        book.commit(record(path, "p_1"))
    assert book.commit(record("a", "p_1", Status.NEEDS_REVIEW)).status is Status.NEEDS_REVIEW
    assert paths(book.pending()) == []
    book.commit(later)
    assert paths(book.pending()) == ["b", "c"]


def test_a_failed_picture_holds_no_id(book: Ledger) -> None:
    book.add(map(source, "ab"))
    book.commit(record("b", "p_1"))
    book.commit(record("a", "p_1", Status.FAILED, reason=Reason.MATTE_MISMATCH))
    assert [each.status for each in book.records()] == [Status.FAILED, DONE]


def test_counts_and_reasons(book: Ledger) -> None:
    book.add(map(source, "abcde"))
    book.commit(record("a", "p_1"))
    book.commit(record("b", "p_1"))
    for path in "cd":
        book.commit(record(path, None, Status.FAILED, reason=Reason.UNREADABLE))
    assert book.counts() == {
        Status.PENDING: 1,
        Status.ANONYMIZED: 1,
        Status.NEEDS_REVIEW: 0,
        Status.EXCLUDED: 0,
        Status.FAILED: 2,
        Status.DUPLICATE: 1,
    }
    assert book.reasons() == {
        (Status.DUPLICATE, Reason.SAME_BYTES): 1,
        (Status.FAILED, Reason.UNREADABLE): 2,
    }


def test_retry_by_status_and_by_reason(book: Ledger) -> None:
    book.add(map(source, "abcdef"))
    book.commit(record("a", "p_1", Status.NEEDS_REVIEW, reason=Reason.NO_FACE))
    book.commit(record("b", "p_1", Status.NEEDS_REVIEW, reason=Reason.NO_FACE))
    book.commit(record("c", None, Status.FAILED, reason=Reason.WORKER_LOST))
    book.commit(record("d", None, Status.FAILED, reason=Reason.UNREADABLE))
    book.commit(record("e", "p_2"))
    assert book.retry() == 0
    assert book.retry(Status.PENDING) == 0
    assert book.retry(Reason.WORKER_LOST) == 1
    assert paths(book.pending()) == ["c", "f"]
    assert book.retry(Status.FAILED) == 1
    assert book.retry(Reason.NO_FACE) == 2
    assert paths(book.pending()) == ["a", "b", "c", "d", "f"]
    assert [each.source for each in book.records()] == ["e"]


@pytest.mark.parametrize("status", [Status.PENDING, Status.DUPLICATE])
def test_what_only_the_ledger_decides_is_not_committed(book: Ledger, status: Status) -> None:
    book.add([source("a")])
    with pytest.raises(ValueError, match="cannot be committed"):
        book.commit(record("a", None, status))


def test_an_unknown_source_and_endless_numbers_are_refused(book: Ledger) -> None:
    book.add([source("a")])
    with pytest.raises(ValueError, match="b is not in the ledger"):
        book.commit(record("b"))
    with pytest.raises(ValueError, match="JSON"):
        book.commit(record("a", checks=(Check(name="x", passed=True, value=float("nan"), limit=0),)))
    assert paths(book.pending()) == ["a"]


def test_meta_is_kept(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l", create=True) as book:
        assert book.meta("config") is None
        book.set_meta("config", "1")
        book.set_meta("config", "ü\n2")
    with Ledger(tmp_path / "l") as book:
        assert book.meta("config") == "ü\n2"


def test_reading_goes_on_while_a_run_writes(book: Ledger) -> None:
    book.add([source("a"), source("b")])
    with Ledger(book.path) as reader:
        with book.writing():
            book._store(record("a", "p_1"), holds="p_1")
            assert reader.counts()[Status.PENDING] == 2
        assert reader.counts()[Status.PENDING] == 1
        assert [each.id for each in reader.records()] == ["p_1"]


WRITER = """
import sys
from pathlib import Path
from p3m_data.pipeline.ledger import Ledger
from p3m_data.types import Record, Source, Status
book = Ledger(Path(sys.argv[1]), create=True)
book.add(Source(path=f"{number:06d}", size=1, mtime_ns=1) for number in range(5000))
for source in book.pending():
    book.commit(Record(source=source.path, id="p_" + source.path, status=Status.ANONYMIZED))
    print(source.path, flush=True)
"""


def test_killed_at_any_moment_nothing_committed_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "l"
    told: list[str] = []
    for lines in (1, 60, 200):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            told += [writer.stdout.readline().strip() for _ in range(lines)]
            with pytest.raises(DatasetBusy, match=f"process {writer.pid}"):
                Ledger(path, create=True)
            writer.send_signal(signal.SIGKILL)
            told += writer.stdout.read().split()
    with Ledger(path, create=True) as book:
        kept = [each.source for each in book.records()]
        assert told == sorted(set(told))
        assert set(told) <= set(kept)
        assert len(kept) <= len(told) + 3
        assert len(kept) + len(paths(book.pending())) == 5000


REVIEWED = {"status": Status.ANONYMIZED, "reason": Reason.REVIEWED, "detail": "ü", "files": {"train/a": "0"}}


def test_find_and_source_go_by_the_id(book: Ledger) -> None:
    found = source("a\udcff/ä.jpg", matte="m.png", matte_size=1, matte_mtime_ns=2)
    book.add([found, *map(source, "bcd")])
    made = book.commit(record(found.path, "p_1", width=7))
    book.commit(record("b", "p_2", Status.FAILED))
    assert book.commit(record("c", "p_1")).status is Status.DUPLICATE
    assert book.find("p_1") == made
    assert book.source("p_1") == found
    for name in ("p_2", "p_3", "", "c"):
        assert book.find(name) is None
        assert book.source(name) is None


def test_replace_keeps_the_id_and_its_duplicates(book: Ledger) -> None:
    book.add(map(source, "abc"))
    for path in "abc":
        book.commit(record(path, "p_1" if path < "c" else "p_2", Status.NEEDS_REVIEW, reason=Reason.NO_FACE))
    decided = record("a", "p_1").model_copy(update=REVIEWED)
    assert book.replace(decided)
    assert book.find("p_1") == decided
    assert book.counts()[Status.DUPLICATE] == 1
    assert [each.source for each in book.records(Status.NEEDS_REVIEW)] == ["c"]
    assert book.reasons()[(DONE, Reason.REVIEWED)] == 1


def test_replace_touches_only_the_picture_that_it_was_made_for(book: Ledger) -> None:
    """Meanwhile a run may have found another file, or another holder of the same bytes."""
    book.add(map(source, "abc"))
    book.commit(record("b", "p_1"))
    stale = book.find("p_1")
    assert stale is not None
    decided = stale.model_copy(update=REVIEWED)
    book.commit(record("a", "p_1"))  # takes the id over
    before = list(book.records())
    assert not book.replace(decided)
    assert not book.replace(record("c", "p_9"))
    assert not book.replace(record("c", None))
    assert list(book.records()) == before
    book.add([source("a", 2)])  # changed: pending again
    assert not book.replace(record("a", "p_1"))
    assert paths(book.pending()) == ["a", "b", "c"]


def test_retry_by_the_new_status(book: Ledger) -> None:
    book.add(map(source, "ab"))
    book.commit(record("a", "p_1", Status.NEEDS_REVIEW, reason=Reason.NO_FACE))
    book.commit(record("b", "p_1", Status.NEEDS_REVIEW, reason=Reason.NO_FACE))
    excluded = record("a", "p_1", Status.EXCLUDED, reason=Reason.EXCLUDED)
    assert book.replace(excluded)
    assert book.counts()[Status.EXCLUDED] == 1
    assert book.retry(Status.EXCLUDED) == 2
    assert paths(book.pending()) == ["a", "b"]


def test_one_transaction_inside_another_is_part_of_it(book: Ledger) -> None:

    def broken() -> None:
        with book.writing():
            book.set_meta("outer", "1")
            with book.writing():
                book.execute("INSERT INTO meta VALUES (?, ?)", "inner", "1")
            book.add([source("a")])
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert book.read("SELECT * FROM meta") == []
    assert book.counts()[Status.PENDING] == 0
    with book.writing(), book.writing():
        book.set_meta("both", "1")
    assert book.meta("both") == "1"
    with Ledger(book.path) as reader:
        assert reader.meta("both") == "1"


def test_nothing_of_a_transaction_is_seen_before_its_end(book: Ledger) -> None:
    with Ledger(book.path) as reader:
        with book.writing():
            with book.writing():
                book.set_meta("inner", "1")
            assert reader.meta("inner") is None
        assert reader.meta("inner") == "1"


def test_values_by_place_and_by_name(book: Ledger) -> None:
    with book.writing():
        book.execute("INSERT INTO meta VALUES (?, ?)", "a", "1")
        book.execute("INSERT INTO meta VALUES (:key, :value)", {"key": "b", "value": "2"})
        assert book.execute("DELETE FROM meta WHERE key = :key", {"key": "a"}).rowcount == 1
    assert book.read("SELECT key, value FROM meta WHERE value = :v OR key = :v", {"v": "b"}) == [("b", "2")]


def test_parse_says_when_a_record_is_none(book: Ledger) -> None:
    made = record("a", "p_1", width=3)
    assert book.parse(made.model_dump_json()) == made
    for text in ("", "{", "[]", '{"source": 1}', '{"source": "a", "more": 1}'):
        with pytest.raises(StorageError, match="is damaged; put a copy"):
            book.parse(text)


def test_many_threads_share_one_ledger(book: Ledger) -> None:
    """Each adds to a number that it has read; a lost update or an error shows in the sum."""
    book.set_meta("sum", "0")
    start, errors = threading.Barrier(8), []

    def work() -> None:
        try:
            start.wait()
            for _ in range(10):
                with book.writing():
                    book.set_meta("sum", str(int(book.meta("sum") or 0) + 1))
                assert book.counts()[Status.PENDING] == 0
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert book.meta("sum") == "80"


def test_a_thread_waits_for_the_transaction_of_another(book: Ledger) -> None:
    seen: list[str | None] = []
    other = threading.Thread(target=lambda: seen.append(book.meta("whole")))
    with book.writing():
        book.set_meta("whole", "half")
        other.start()
        other.join(0.05)
        assert seen == []
        book.set_meta("whole", "all")
    other.join()
    assert seen == ["all"]
