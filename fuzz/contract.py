"""What every loader owes: a value as documented or a documented error, and silence."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator

from p3m_data.errors import P3MError

Check = Callable[[bytes], None]
MAX_SENTENCE = 2_000


class Broken(Exception):
    """A loader did not do what its documentation says."""


def must(holds: object, what: str) -> None:
    """`Broken` with `what` unless `holds`; unlike `assert` also under `python -O`."""
    if not holds:
        raise Broken(what)


@contextlib.contextmanager
def documented(*errors: type[P3MError]) -> Iterator[None]:
    """Swallow exactly `errors` and look at their sentences; any other exception goes through."""
    try:
        yield
    except P3MError as error:
        if not isinstance(error, errors):
            raise Broken(f"{type(error).__name__} is not documented: {error}") from error
        sentence = str(error)
        must(sentence.strip(), f"{type(error).__name__} says nothing")
        must(sentence.isprintable(), f"an error has a line break or a control character: {sentence!r}")
        must(len(sentence) <= MAX_SENTENCE, f"an error has {len(sentence)} characters: {sentence[:200]!r}")


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """`Broken` when the block warns or writes to stdout or stderr, from Python or from a C library."""
    spoken = io.StringIO()
    with _caught_descriptors() as written, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with contextlib.redirect_stdout(spoken), contextlib.redirect_stderr(spoken):
            yield
    must(not warned, f"it warns: {[str(warning.message) for warning in warned][:3]}")
    said = spoken.getvalue().encode("utf-8", "replace") + written()
    must(not said, f"it writes to stdout or stderr: {said[:300]!r}")


@contextlib.contextmanager
def _caught_descriptors() -> Iterator[Callable[[], bytes]]:
    """Descriptors 1 and 2 go to a file, of which the function that is yielded gives the content."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    sink = _sink()
    os.ftruncate(sink, 0)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    try:
        yield lambda: os.pread(sink, MAX_SENTENCE, 0)
    finally:
        for number, kept in enumerate(before, start=1):
            os.dup2(kept, number)
            os.close(kept)


_SINKS: list[int] = []


def _sink() -> int:
    """One nameless file for all calls, since making one each time would cost more than most loaders do."""
    if not _SINKS:
        with tempfile.TemporaryFile() as file:
            _SINKS.append(os.dup(file.fileno()))
    os.lseek(_SINKS[0], 0, os.SEEK_SET)
    return _SINKS[0]
