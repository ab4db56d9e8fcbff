"""What `validate` and `audit` share on the command line: lines, progress, and where the report goes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from p3m_data.inspection.findings import Crop, Finding, Inspection, Looked

FOLDER = click.Path(path_type=Path)
FIRST = 5
"""Findings of a check that are printed; the report has all."""
EVERY = 10.0  # seconds between lines where there is no terminal


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every inspection ends with."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts."),
        click.option("--workers", type=click.IntRange(1), help="Processes.  [default: one for each CPU]"),
        click.option(
            "--report", type=FOLDER, help="Folder for the private report.  [default: the private folder]"
        ),
        click.option("--work", type=FOLDER, help="The dataset's private folder.  [default: DATASET.private]"),
    ):
        command = option(command)
    return command


def report_folder(dataset: Path, work: Path | None, chosen: Path | None) -> Path:
    """Where the report goes; `UsageError` when that is in the dataset, since it is private.

    `StorageError` when nothing can be written there.
    """
    from p3m_data.errors import UsageError
    from p3m_data.pipeline.dataset import Dataset
    from p3m_data.storage.folders import check_writable

    folder = chosen or Dataset.at(dataset, work).private
    if folder.resolve().is_relative_to(dataset.resolve()):
        raise UsageError(f"{folder} lies in {dataset}, but the report is private; name another folder")
    # before hours of work, and without making a folder for what may be no dataset
    check_writable(next(place for place in (folder, *folder.resolve().parents) if place.exists()))
    return folder


def conclude(inspection: Inspection, crops: list[Crop], folder: Path, *, chosen: bool, as_json: bool) -> None:
    """Write the report into `folder`, say what was found, and exit with 1 when something is wrong.

    chosen: the user named the folder.
    """
    from p3m_data.report.inspection import write_inspection

    _make_private(folder, chosen=chosen)
    page = write_inspection(inspection, crops, folder)
    if as_json:
        click.echo(inspection.to_json(), nl=False)
    else:
        for line in lines(inspection):
            click.echo(line)
        click.echo(f"Look at: {page}")
    click.get_current_context().exit(1 if inspection.faults else 0)


def lines(inspection: Inspection) -> list[str]:
    """The counts by check and the first findings of each, for a terminal; what is wrong comes first."""
    from p3m_data.pipeline.outcome import pictures
    from p3m_data.storage.sentences import visible

    by_check: dict[str, list[Finding]] = {}
    for finding in sorted(inspection.findings, key=lambda finding: finding.level != "fault"):
        by_check.setdefault(finding.check, []).append(finding)
    told = [f"{inspection.pictures} {pictures(inspection.pictures)} ({inspection.layout})"]
    for check, findings in by_check.items():
        faults = sum(finding.level == "fault" for finding in findings)
        notes = len(findings) - faults
        counts = [f"{faults} wrong"] * (faults > 0) + [f"{notes} to note"] * (notes > 0)
        told.append(f"{check}: {', '.join(counts)}")
        told += [
            f"  {finding.where}: {finding.said}" if finding.where else f"  {finding.said}"
            for finding in findings[:FIRST]
        ]
        if len(findings) > FIRST:
            told.append(f"  and {len(findings) - FIRST} more")
    skipped = [looked for looked in inspection.looked if looked.why_not]
    made = len(inspection.looked) - sum(not looked.at for looked in skipped)
    things = "thing" if inspection.faults == 1 else "things"
    told.append(f"{made} of {len(inspection.looked)} checks made, {inspection.faults} {things} wrong")
    for words, those in (
        ("not made", [looked for looked in skipped if not looked.at]),
        ("not everywhere", [looked for looked in skipped if looked.at]),
    ):
        told += [f"  {words}: {', '.join(checks)} ({why})" for why, checks in _by_reason(those).items()]
    # names of files may hold line breaks and terminal escapes
    return [visible(line) for line in told]


def _by_reason(skipped: Iterable[Looked]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for looked in skipped:
        found.setdefault(looked.why_not, []).append(looked.check)
    return found


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep what libraries write to stderr past Python off the terminal, but for whoever looks for a bug."""
    from p3m_data.cli.progress import libraries_aside

    if os.environ.get("P3MDATA_DEBUG") == "1":
        yield
        return
    with libraries_aside(Path(os.devnull)):
        yield


def _make_private(folder: Path, *, chosen: bool) -> None:
    """The folder for the report, for its owner's eyes only; one that the user chose and that is there stays."""
    from p3m_data.storage.folders import check_writable

    there = folder.is_dir()
    check_writable(folder)
    if not (chosen and there):
        os.chmod(folder, 0o700)


class Counter:
    """Shows how many pictures are done on stderr."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._told = time.monotonic()
        self._shown = False

    def __enter__(self) -> Counter:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._shown and self._terminal:
            click.echo(err=True)

    def show(self, done: int, total: int, doing: str = "") -> None:
        from p3m_data.pipeline.outcome import pictures

        now = time.monotonic()
        if self._quiet or (now - self._told < (0.2 if self._terminal else EVERY) and done < total):
            return
        if self._terminal:
            click.echo(f"\r{doing}{done} of {total} {pictures(total)}\033[K", nl=False, err=True)
        elif now - self._told >= EVERY:
            click.echo(f"{doing}{done} of {total} {pictures(total)}", err=True)
        else:
            return
        self._told, self._shown = now, True


def cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
