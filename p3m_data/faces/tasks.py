"""How MediaPipe's tasks end."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol


class Task(Protocol):
    def close(self) -> None: ...


def close_with(owner: object, task: Task) -> Callable[[], object]:
    """Close `task` when `owner`, which holds it, is collected, or when what is returned is called.

    Left to its own `__del__`, a task that is collected in a reference cycle waits for ever for its thread,
    which ended a moment earlier. Who makes tasks while others are collected must close those first: a
    collection may come while a thread is being started, and closing starts one.
    """
    return weakref.finalize(owner, _close, task)


def _close(task: Task) -> None:
    # when Python ends, its threads are gone before this
    with suppress(RuntimeError):
        task.close()
