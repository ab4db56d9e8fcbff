"""Who does the work: the local engine maps items in spawned processes and survives the loss of any of them.

Each worker is one process and one pipe. The driver alone decides what is in flight; a worker answers its
items in the order they were sent, so the first unanswered one is what it worked on when it died, or what
it hangs on when its time is over.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

from p3m_data.errors import StorageError, WorkerFailed

T = TypeVar("T")
R = TypeVar("R")

ONE_THREAD = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")
}
"""What the numeric libraries read when they are first imported."""

STARTS = 3
"""So many workers in a row may die before they are ready; then no more are started."""

OUT_OF_MEMORY = 77
"""Exit status of a worker that raised MemoryError: like a kill, it costs one item."""

LONGEST_WAIT = 3600.0
"""Seconds to wait for answers before looking at the clock again."""

PATIENCE = 5.0
"""Seconds for a worker to end before it is killed, and to be gone then."""


@dataclass(frozen=True)
class WorkerLost:
    """In place of a result: two workers were lost over this item. `detail` is a sentence."""

    detail: str


@dataclass(frozen=True)
class TimedOut(WorkerLost):
    """The second one was killed because it had no answer within the time limit."""


class ItemFailed(RuntimeError):
    """The mapped function raised; `__cause__` is its exception. An error of the program, not of the input."""


def run_local(
    items: Iterable[T],
    setup: Callable[[], Callable[[T], R]],
    workers: int,
    *,
    window: int = 4,
    time_limit: float | None = None,
) -> Iterator[tuple[T, R | WorkerLost]]:
    """Pairs of each item and `setup()(item)`, as they are done, from at most `workers` spawned processes.

    `setup` and what it returns run in the workers, `setup` once in each; it, the items and the results must
    be picklable. At most `workers * window` items are taken and not yet yielded, so `items` may be endless.
    A worker that dies is replaced and its item tried once more with a worker to itself. So is one that takes
    longer than `time_limit` seconds for an item or to get ready: a busy or sleeping machine is slow once.

    Raises what `setup` raises, `StorageError` as the function raises it, `ItemFailed` for its other
    exceptions, `WorkerFailed` when workers die before they are ready. Workers end with the iterator, and
    when this process ends in any way.
    """
    if workers < 1 or window < 1:
        raise ValueError(f"workers and window must be at least 1, not {workers} and {window}")
    if time_limit is not None and not time_limit > 0:
        raise ValueError(f"the time limit must be more than 0 seconds, not {time_limit}")
    pool = _Pool(iter(items), setup, workers, window, time_limit)
    try:
        yield from pool.results()
    finally:
        pool.stop()


@dataclass(eq=False)
class _Worker(Generic[T]):
    process: SpawnProcess
    pipe: Connection
    alone: bool
    """It retries an item that a worker died over, and gets no other meanwhile."""
    queue: deque[T] = field(default_factory=deque)
    ready: bool = False
    since: float = field(default_factory=time.monotonic)
    """When it began what it does now."""


class _Pool(Generic[T, R]):
    def __init__(
        self,
        items: Iterator[T],
        setup: Callable[[], Callable[[T], R]],
        size: int,
        window: int,
        time_limit: float | None,
    ) -> None:
        self._items = items
        self._setup = setup
        self._size = size
        self._window = window
        self._time_limit = time_limit
        self._workers: list[_Worker[T]] = []
        self._returned: deque[T] = deque()
        """Items that waited behind the one their worker died over."""
        self._suspects: deque[T] = deque()
        """Items that one worker was lost over."""
        self._failed_starts = 0

    def results(self) -> Iterator[tuple[T, R | WorkerLost]]:
        self._hand_out()
        while busy := {worker.pipe: worker for worker in self._workers if worker.queue}:
            for pipe in connection.wait(list(busy), self._time_left()):
                worker = busy[cast(Connection, pipe)]
                try:
                    answer = worker.pipe.recv_bytes()
                except (EOFError, OSError):
                    yield from self._bury(worker)
                else:
                    yield from self._take(worker, answer)
                self._hand_out()
            for worker in self._overdue():
                worker.process.kill()
                yield from self._bury(worker, late=True)
                self._hand_out()

    def _time_left(self) -> float | None:
        """Seconds until the time of a worker may be over; None when there is no limit."""
        if self._time_limit is None:
            return None
        oldest = min(worker.since for worker in self._workers if worker.queue)
        # the system's own waiting takes no number of any size
        return min(max(0.0, oldest + self._time_limit - time.monotonic()), LONGEST_WAIT)

    def _overdue(self) -> list[_Worker[T]]:
        """Workers whose time is over and who have not answered; a late answer is one, and so is a death."""
        if self._time_limit is None:
            return []
        began = time.monotonic() - self._time_limit
        return [w for w in self._workers if w.queue and w.since <= began and not w.pipe.poll()]

    def stop(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            _end(worker)
        self._workers.clear()

    def _hand_out(self) -> None:
        """Give suspects a new worker each, and the other workers as much as the window allows."""
        while self._suspects and len(self._workers) < self._size:
            self._send(self._start(alone=True), self._suspects.popleft())
        while True:
            free = [w for w in self._workers if not w.alone and len(w.queue) < self._window]
            vacant = len(self._workers) < self._size
            if not free and not vacant:
                return
            try:
                item = self._returned.popleft() if self._returned else next(self._items)
            except StopIteration:
                return
            shortest = min(free, key=lambda w: len(w.queue), default=None)
            if shortest is None or (shortest.queue and vacant):
                shortest = self._start()
            self._send(shortest, item)

    def _start(self, *, alone: bool = False) -> _Worker[T]:
        context = get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, self._setup), daemon=True)
        try:
            with _surroundings():
                process.start()
        except OSError as error:
            raise WorkerFailed(
                f"Cannot start a worker process: {error.strerror}; use fewer workers."
            ) from error
        there.close()
        worker: _Worker[T] = _Worker(process, here, alone)
        self._workers.append(worker)
        return worker

    def _send(self, worker: _Worker[T], item: T) -> None:
        message = pickle.dumps(item)
        if worker.ready and not worker.queue:
            worker.since = time.monotonic()
        worker.queue.append(item)
        # a worker that is already dead says so when its answer is read, and the item comes back
        with suppress(OSError):
            worker.pipe.send_bytes(message)

    def _take(self, worker: _Worker[T], answer: bytes) -> Iterator[tuple[T, R | WorkerLost]]:
        kind, content = pickle.loads(answer)
        worker.since = time.monotonic()
        if kind == "ready":
            worker.ready = True
            self._failed_starts = 0
        elif kind == "done":
            worker.alone = False
            yield worker.queue.popleft(), content
        elif kind == "broken" or isinstance(content, StorageError):
            raise content
        else:
            item = repr(worker.queue[0])[:300]
            raise ItemFailed(f"{item}: {type(content).__name__}: {content}") from content

    def _bury(self, worker: _Worker[T], *, late: bool = False) -> Iterator[tuple[T, R | WorkerLost]]:
        self._workers.remove(worker)
        cause = _cause(_end(worker))
        if late:
            cause = f"had no answer after {self._time_limit:g} seconds"
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts == STARTS:
                raise WorkerFailed(
                    f"{STARTS} worker processes in a row {cause} before they were ready; "
                    "use fewer workers, and run p3mdata doctor."
                )
            (self._suspects if worker.alone else self._returned).extend(worker.queue)
            return
        suspect = worker.queue.popleft()
        self._returned.extend(worker.queue)
        if worker.alone:
            kind = TimedOut if late else WorkerLost
            yield suspect, kind(f"Two worker processes were lost over it; the second one {cause}.")
        else:
            self._suspects.append(suspect)


def _end(worker: _Worker[Any]) -> int | None:
    """Wait until a worker that has died, or was told to, is gone; its exit status, None where it stays."""
    worker.pipe.close()
    worker.process.join(PATIENCE)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join(PATIENCE)
    if worker.process.is_alive():
        # the kernel holds a process that reads from a disk or server which has gone away
        return None
    status = worker.process.exitcode
    worker.process.close()
    return status


def _cause(status: int | None) -> str:
    if status == OUT_OF_MEMORY:
        return "ran out of memory"
    if status is not None and status < 0:
        hint = "; often out of memory" if status == -9 else ""
        return f"was ended by signal {-status} ({signal.strsignal(-status)}{hint})"
    return f"ended with status {status}"


@contextmanager
def _surroundings() -> Iterator[None]:
    """What a process started inside inherits: one thread a library, no Ctrl-C from its first moment on."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    masks = hasattr(signal, "pthread_sigmask")
    os.environ.update(ONE_THREAD)
    if masks:
        # its own start, within that of the first worker, would unblock the signal again
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _work(pipe: Connection, setup: Callable[[], Callable[[Any], Any]]) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, inbox), daemon=True).start()
    try:
        function = _set_up(setup)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except Exception as error:
        _answer(pipe, "broken", _portable(error))
        return
    _answer(pipe, "ready", None)
    while True:
        message = inbox.get()
        try:
            _answer(pipe, "done", function(pickle.loads(message)))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except Exception as error:
            _answer(pipe, "failed", _portable(error))


def _answer(pipe: Connection, kind: str, content: Any) -> None:
    message = pickle.dumps((kind, content))
    try:
        pipe.send_bytes(message)
    except OSError:
        os._exit(1)


def _portable(error: Exception) -> Exception:
    """`error` with its traceback as a note; its text alone when it cannot be pickled."""
    note = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"In the worker process:\n{note}")
    return error


def _receive(pipe: Connection, inbox: SimpleQueue[bytes]) -> None:
    """Empty the pipe, so that the driver never waits to send; end the process with the driver's end of it."""
    while True:
        try:
            inbox.put(pipe.recv_bytes())
        except (EOFError, OSError):
            os._exit(1)


def _set_up(setup: Callable[[], Callable[[Any], Any]]) -> Callable[[Any], Any]:
    import cv2

    cv2.setNumThreads(1)
    return setup()
