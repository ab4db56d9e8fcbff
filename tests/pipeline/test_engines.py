"""The local engine. Functions that run in workers are at the top: a spawned process imports them by name."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.errors import MissingExtra, StorageError, UnreadableImage, UsageError, WorkerFailed
from p3m_data.pipeline import engines
from p3m_data.pipeline.engines import ONE_THREAD, ItemFailed, TimedOut, WorkerLost, run_local

HERE = Path(__file__).parent
LIMIT = 4.0
"""Seconds: enough for a worker to start on a busy machine."""


def constant(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return function


def square(item: int) -> int:
    return item * item


def die_at(status: int, poison: int, item: int) -> int:
    if item == poison:
        os._exit(status)
    return item


def die_once(marks: Path, item: int) -> int:
    """The first worker that gets an odd item kills itself as the kernel would when memory runs out."""
    mark = marks / str(item)
    if item % 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def exhaust(item: int) -> int:
    if item == 1:
        raise MemoryError
    return item


def log_and_die(log: Path, item: int) -> int:
    with log.open("a") as lines:
        lines.write(f"{item} {os.getpid()}\n")
    if item == 3:
        os._exit(1)
    return item


def fail(error: Exception, item: int) -> int:
    if item == 2:
        raise error
    return item


class Odd(Exception):
    """Cannot be pickled: it takes two arguments and keeps a lock."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")
        self.lock = threading.Lock()


def raise_odd(_: int) -> int:
    raise Odd(1, 2)


def unpicklable(_: int) -> Any:
    return threading.Lock()


def counting_setup() -> Callable[[int], tuple[int, int]]:
    calls = itertools.count()
    return lambda _: (os.getpid(), next(calls))


def broken_setup(error: Exception) -> Callable[[int], int]:
    raise error


def dying_setup(log: Path) -> Callable[[int], int]:
    with log.open("a") as lines:
        lines.write("x")
    os._exit(4)


def surroundings(_: int) -> dict[str, Any]:
    import cv2

    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return {"threads": cv2.getNumThreads(), "ignored": ignored, **{k: os.environ.get(k) for k in ONE_THREAD}}


def echo(item: bytes) -> bytes:
    return item


def sleep_forever(item: int) -> int:
    if item:
        time.sleep(600)
    return item


def hang(item: str) -> str:
    """Never answers, in the way that the item names; any other item comes back."""
    if item == "deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        time.sleep(600)
    elif item == "in C":
        # as a library does that keeps the interpreter's lock: no other thread of the worker runs
        ctypes.PyDLL(None).sleep(600)
    elif item == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    return item


def hang_once(marks: Path, item: int) -> int:
    mark = marks / str(item)
    if item % 3 == 1 and not mark.exists():
        mark.touch()
        time.sleep(600)
    return item


def hang_then_die(marks: Path, item: int) -> int:
    hang_once(marks, item)
    return die_at(9, 1, item)


def mark_begin(marks: Path, item: int) -> int:
    (marks / str(item)).touch()
    return item


def hanging_setup() -> Callable[[int], int]:
    time.sleep(600)
    return square


def endless() -> None:
    """A driver for the tests that end it from outside; says when both workers are busy."""
    for _ in run_local(itertools.count(), partial(constant, sleep_forever), 2):
        time.sleep(0.5)
        print("busy", flush=True)


def descendants() -> list[psutil.Process]:
    """This process' workers; the tracker that multiprocessing keeps does not count."""
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def driver() -> subprocess.Popen[str]:
    script = f"import sys; sys.path.insert(0, {str(HERE)!r}); import test_engines; test_engines.endless()"
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@settings(max_examples=5, deadline=None)
@given(items=st.lists(st.integers(), max_size=30), workers=st.integers(1, 3), window=st.integers(1, 5))
def test_each_item_comes_back_once_with_its_own_result(items: list[int], workers: int, window: int) -> None:
    results = list(run_local(items, partial(constant, square), workers, window=window))
    assert Counter(results) == Counter((item, item * item) for item in items)


def test_setup_runs_once_in_each_worker() -> None:
    results = [result for _, result in run_local(range(40), counting_setup, 2)]
    calls: dict[int, list[int]] = {}
    for process, call in results:
        calls.setdefault(process, []).append(call)
    assert len(calls) == 2
    assert os.getpid() not in calls
    assert all(sorted(numbers) == list(range(len(numbers))) for numbers in calls.values())


def test_no_more_workers_than_items() -> None:
    assert list(run_local([], partial(constant, square), 4)) == []
    assert len({pid for _, (pid, _) in run_local([1], counting_setup, 4)}) == 1


@pytest.mark.parametrize(("workers", "window"), [(0, 4), (-1, 4), (1, 0)])
def test_senseless_sizes_are_refused(workers: int, window: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        next(run_local([1], partial(constant, square), workers, window=window))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_poisonous_item_costs_only_itself(workers: int) -> None:
    results = dict(run_local(range(20), partial(constant, partial(die_at, 9, 7)), workers))
    lost = results.pop(7)
    assert isinstance(lost, WorkerLost)
    assert lost.detail == "Two worker processes were lost over it; the second one ended with status 9."
    assert results == {item: item for item in range(20) if item != 7}


def test_an_item_that_loses_one_worker_is_tried_again(tmp_path: Path) -> None:
    results = list(run_local(range(6), partial(constant, partial(die_once, tmp_path)), 2))
    assert sorted(results) == [(item, item) for item in range(6)]
    assert {mark.name for mark in tmp_path.iterdir()} == {"1", "3", "5"}


def test_the_second_try_is_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    dict(run_local(range(12), partial(constant, partial(log_and_die, log)), 2))
    runs = [tuple(line.split()) for line in log.read_text().splitlines()]
    processes = [process for item, process in runs if item == "3"]
    assert len(set(processes)) == 2
    assert [item for item, process in runs if process == processes[1]] == ["3"]
    assert Counter(item for item, _ in runs) == Counter([*map(str, range(12)), "3"])


def test_a_worker_killed_from_outside_is_replaced() -> None:
    results = []
    for item, result in run_local(range(60), partial(constant, square), 2, window=2):
        if item == 10:
            descendants()[0].kill()
        results.append((item, result))
    assert sorted(results) == [(item, item * item) for item in range(60)]


def test_running_out_of_memory_costs_one_item() -> None:
    results = dict(run_local(range(4), partial(constant, exhaust), 1))
    lost = results.pop(1)
    assert isinstance(lost, WorkerLost)
    assert "ran out of memory" in lost.detail
    assert results == {0: 0, 2: 2, 3: 3}


@pytest.mark.slow
def test_a_worker_that_hangs_costs_its_item_whatever_it_does() -> None:
    items = [*map(str, range(6)), "deaf", "in C", *map(str, range(6, 12)), "stopped", "12"]
    results = dict(run_local(items, partial(constant, hang), 3, time_limit=LIMIT))
    for item in ("deaf", "in C", "stopped"):
        lost = results.pop(item)
        assert isinstance(lost, TimedOut)
        assert f"the second one had no answer after {LIMIT:g} seconds" in lost.detail
    assert results == {str(number): str(number) for number in range(13)}
    assert not descendants()


@pytest.mark.slow
def test_an_item_that_hangs_once_is_tried_again(tmp_path: Path) -> None:
    function = partial(constant, partial(hang_once, tmp_path))
    results = list(run_local(range(6), function, 2, time_limit=LIMIT))
    assert sorted(results) == [(item, item) for item in range(6)]
    assert {mark.name for mark in tmp_path.iterdir()} == {"1", "4"}


@pytest.mark.slow
def test_the_second_loss_says_what_became_of_the_item(tmp_path: Path) -> None:
    function = partial(constant, partial(hang_then_die, tmp_path))
    lost = dict(run_local(range(3), function, 1, time_limit=LIMIT))[1]
    assert type(lost) is WorkerLost
    assert lost.detail.endswith("the second one ended with status 9.")


@pytest.mark.slow
def test_workers_that_hang_before_they_are_ready_are_not_waited_for() -> None:
    with pytest.raises(WorkerFailed, match="3 worker processes in a row had no answer after 1 seconds"):
        list(run_local(range(5), hanging_setup, 3, time_limit=1))
    assert not descendants()


def test_an_answer_that_waits_is_not_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes the results may be slow: what a worker did meanwhile counts."""
    ahead = [0.0]
    clock = time.monotonic
    monkeypatch.setattr(engines.time, "monotonic", lambda: clock() + ahead[0])
    results = []
    for item, result in run_local(
        range(8), partial(constant, partial(mark_begin, tmp_path)), 1, time_limit=600
    ):
        results.append((item, result))
        if item < 6:
            # it has begun the item after the next one, so the next one's answer is in the pipe
            wait_for(tmp_path / str(item + 2))
            ahead[0] += 10_000
    assert results == [(item, item) for item in range(8)]
    assert len(descendants()) == 0


@pytest.mark.parametrize("limit", [1e300, float("inf")])
def test_a_limit_may_be_far_away(limit: float) -> None:
    results = list(run_local(range(3), partial(constant, square), 1, time_limit=limit))
    assert sorted(results) == [(0, 0), (1, 1), (2, 4)]


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_senseless_limits_are_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        next(run_local([1], partial(constant, square), 1, time_limit=limit))


def test_a_process_that_the_kernel_keeps_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one is that reads from a server which has gone away: not even SIGKILL ends it at once."""
    monkeypatch.setattr(engines, "PATIENCE", 0)
    stuck = Stuck()
    here, there = connection.Pipe()
    assert engines._end(engines._Worker(stuck, here, False)) is None  # type: ignore[arg-type]
    assert stuck.kills == 1
    assert there.poll()


class Stuck:
    """A process that does not end."""

    kills = 0

    def join(self, timeout: float) -> None:
        assert timeout is not None

    def is_alive(self) -> bool:
        return True

    def kill(self) -> None:
        self.kills += 1


@pytest.mark.parametrize("error", [ValueError("no such thing"), UnreadableImage("photo.jpg is not an image")])
def test_an_exception_names_the_item_and_its_place_in_the_worker(error: Exception) -> None:
    with pytest.raises(ItemFailed, match=f"^2: {type(error).__name__}: {error}$") as caught:
        list(run_local(range(5), partial(constant, partial(fail, error)), 2))
    assert type(caught.value.__cause__) is type(error)
    assert "in fail" in "".join(caught.value.__cause__.__notes__)
    assert not descendants()


def test_a_full_disk_passes_as_it_is() -> None:
    with pytest.raises(StorageError) as caught:
        list(run_local(range(5), partial(constant, partial(fail, StorageError("The disk is full."))), 2))
    assert str(caught.value) == "The disk is full."


@pytest.mark.parametrize(("function", "message"), [(raise_odd, "Odd: 1 and 2"), (unpicklable, "pickle")])
def test_what_cannot_be_pickled_is_an_exception_too(function: Callable[[int], Any], message: str) -> None:
    with pytest.raises(ItemFailed, match=message):
        list(run_local([1], partial(constant, function), 1))


def test_items_that_cannot_be_pickled_leave_no_worker() -> None:
    with pytest.raises(TypeError, match="pickle"):
        list(run_local([threading.Lock()], partial(constant, square), 1))
    assert not descendants()


@pytest.mark.parametrize(
    "error", [MissingExtra("face-alignment", "fan"), UsageError("no"), ValueError("bug")]
)
def test_what_setup_raises_passes_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        list(run_local(range(5), partial(broken_setup, error), 2))
    assert str(caught.value) == str(error)
    assert not descendants()


def test_workers_that_die_in_setup_are_not_started_for_ever(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(WorkerFailed, match="3 worker processes in a row ended with status 4"):
        list(run_local(itertools.count(), partial(dying_setup, log), 2))
    assert 3 <= len(log.read_text()) <= 4
    assert not descendants()


def test_no_more_is_taken_than_the_window_allows() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in itertools.count():
            taken += 1
            yield item

    for done, _ in enumerate(run_local(items(), partial(constant, partial(die_at, 1, 50)), 2, window=3)):
        assert taken - done <= 6
        if done == 300:
            break
    assert not descendants()


def test_large_items_and_results_do_not_block_each_other() -> None:
    items = [bytes([number]) * 3_000_000 for number in range(12)]
    results = list(run_local(items, partial(constant, echo), 2))
    assert sorted(results) == [(item, item) for item in items]


def test_a_worker_has_one_thread_a_library_and_ignores_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    ((_, seen),) = run_local([1], partial(constant, surroundings), 1)
    assert seen == {"threads": 1, "ignored": True, **dict.fromkeys(ONE_THREAD, "1")}
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"} <= set(ONE_THREAD)
    assert dict(os.environ) == before


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_driver(blow: signal.Signals) -> None:
    process = driver()
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    if blow is signal.SIGINT:
        os.killpg(process.pid, blow)
    else:
        process.send_signal(blow)
    _, complaints = process.communicate(timeout=20)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert process.returncode == -blow
    assert complaints.count("Traceback") == (1 if blow is signal.SIGINT else 0), complaints


def test_ctrl_c_while_workers_start_is_quiet() -> None:
    process = driver()
    deadline = time.monotonic() + 20
    while not psutil.Process(process.pid).children() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, complaints = process.communicate(timeout=20)
    assert complaints.count("Traceback") == 1, complaints
    assert complaints.rstrip().endswith("KeyboardInterrupt")
