"""How MediaPipe's tasks end."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Protocol


class Task(Protocol):
    def close(self) -> None: ...


def close_with(owner: object, task: Task) -> None:
    """Close `task` when `owner`, which holds it, is collected.

    Left to its own `__del__`, a task that is collected in a reference cycle waits for ever for its thread,
    which ended a moment earlier.
    """
    weakref.finalize(owner, _close, task)


def _close(task: Task) -> None:
    # when Python ends, its threads are gone before this
    with suppress(RuntimeError):
        task.close()
