"""What a long run shows: a bar on a terminal, a line now and then elsewhere, and the summary at its end."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click
from tqdm import tqdm

from p3m_data.errors import StorageError
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.outcome import exit_code, summary_lines
from p3m_data.report.contact import write_private_report, write_public_report
from p3m_data.stages.blur import BlurConfig
from p3m_data.stages.run import Progress
from p3m_data.types import Record, Status

EVERY = 10.0  # seconds between lines where there is no terminal


class Meter:
    """Shows a run's progress on stderr."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty() and not quiet
        self._bar: tqdm[Any] | None = None
        self._began = self._told = time.monotonic()
        self._waiting = self._failed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def note(self, sentence: str) -> None:
        if not self._quiet:
            tqdm.write(f"p3mdata: {sentence}", file=sys.stderr)

    def show(self, progress: Progress, record: Record | None) -> None:
        if record is not None:
            self._waiting += record.status is Status.NEEDS_REVIEW
            self._failed += record.status is Status.FAILED
        if self._terminal:
            self._show_bar(progress)
        elif not self._quiet:
            self._show_line(progress)

    def _show_bar(self, progress: Progress) -> None:
        bar = self._bar or tqdm(total=progress.total, unit="picture", file=sys.stderr, dynamic_ncols=True)
        bar.set_postfix_str(f"{self._waiting} wait for review, {self._failed} failed", refresh=False)
        bar.update(progress.done - bar.n)
        self._bar = bar

    def _show_line(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._told < EVERY or progress.done == 0:
            return
        self._told = now
        rate = progress.done / (now - self._began)
        left = max(0.0, (progress.total - progress.done) / rate)
        click.echo(
            f"{progress.done} of {progress.total} pictures, {rate:.1f} a second, about {left / 60:.0f} min left, "
            f"{self._waiting} wait for review, {self._failed} failed",
            err=True,
        )


@contextmanager
def libraries_aside(log: Path) -> Iterator[None]:
    """Let the private file `log` take what libraries write to stderr past Python; our own lines stay there."""
    try:
        aside = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise StorageError(f"{log} cannot be written ({error.strerror}); make room or allow it") from error
    before, kept = sys.stderr, os.dup(2)
    os.dup2(aside, 2)
    os.close(aside)
    if before is sys.__stderr__:
        sys.stderr = os.fdopen(os.dup(kept), "w", buffering=1, errors="backslashreplace")
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        sys.stderr = before


def report(dataset: Dataset, blur: BlurConfig, *, as_json: bool) -> int:
    """Write both reports, print the summary, and return the exit code."""
    with dataset.ledger() as ledger:
        private = write_private_report(dataset, ledger)
        write_public_report(dataset, blur)
        counts, reasons = ledger.counts(), ledger.reasons()
    if as_json:
        summary = {
            "dataset": str(dataset.public),
            "private": str(dataset.private),
            "report": str(private),
            "counts": {status.value: number for status, number in counts.items()},
            "reasons": {f"{s.value}/{r.value}": number for (s, r), number in sorted(reasons.items())},
        }
        click.echo(json.dumps(summary, indent=2))
    else:
        for line in summary_lines(counts, reasons):
            click.echo(line)
        click.echo(f"Public side:  {dataset.public}")
        click.echo(f"Private side: {dataset.private}   (never publish it)")
        click.echo(f"Look at:      {private}")
    return exit_code(counts)
