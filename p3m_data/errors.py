"""Every error that p3mdata raises on purpose.

P3MError                    a sentence for the user; never a traceback on the command line
├── UsageError              the command was asked for something it cannot do (exit 2)
│   ├── ConfigChanged       the output was made with another configuration
│   ├── DatasetBusy         another run holds this dataset
│   ├── MissingExtra        an optional package is not installed
│   ├── UnknownPicture      the dataset has no picture of that id
│   ├── PictureTaken        another reviewer works on that picture
│   └── DraftChanged        the reviewer's drawing was changed elsewhere
├── WeightsError            a weights file is missing or is not the one the registry names (exit 2)
├── StorageError            the disk is full, or the output cannot be written (exit 3)
├── WorkerFailed            no worker process comes up (exit 3)
└── InputError              one input is bad; becomes a ledger row with `reason`, the run goes on
    ├── UnreadableImage     not an image, truncated, 0 bytes
    ├── ImageTooLarge       over the size or pixel limit
    └── MatteMismatch       the matte does not fit its picture
"""

from __future__ import annotations

from typing import Any

from p3m_data.types import Reason


class P3MError(Exception):
    """Base of all; `str(error)` is one sentence that names the file and says what to do."""

    exit_code = 3

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross a process border whatever `__init__` takes."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[P3MError], args: tuple[Any, ...], state: dict[str, Any]) -> P3MError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UsageError(P3MError):
    exit_code = 2


class ConfigChanged(UsageError):
    pass


class DatasetBusy(UsageError):
    pass


class MissingExtra(UsageError):
    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f'{package} is not installed; install it with: pip install "p3mdata[{extra}]"')


class UnknownPicture(UsageError):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is no picture {name} in this dataset that can be reviewed.")


class PictureTaken(UsageError):
    pass


class DraftChanged(UsageError):
    def __init__(self, name: str, draft: dict[str, Any]) -> None:
        super().__init__(f"The drawing on {name} was changed in another window.")
        self.draft = draft
        """What it is now."""


class WeightsError(P3MError):
    exit_code = 2


class StorageError(P3MError):
    pass


class WorkerFailed(P3MError):
    pass


class InputError(P3MError):
    reason = Reason.UNREADABLE


class UnreadableImage(InputError):
    reason = Reason.UNREADABLE


class ImageTooLarge(InputError):
    reason = Reason.TOO_LARGE


class MatteMismatch(InputError):
    reason = Reason.MATTE_MISMATCH
