"""`p3mdata validate`: is this dataset right?"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from p3m_data.inspection.findings import Finding, Inspection

FOLDER = click.Path(path_type=Path)
FIRST = 5
"""Findings of a check that are printed; the report has all."""
EVERY = 10.0  # seconds between lines where there is no terminal


@click.command()
@click.argument("dataset", type=FOLDER, default=".")
@click.option("--originals", type=FOLDER, help="Folder of the originals.  [default: where the ledger says]")
@click.option("--work", type=FOLDER, help="The dataset's private folder.  [default: DATASET.private]")
@click.option("--report", type=FOLDER, help="Folder for the private report.  [default: the private folder]")
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: one for each CPU]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def validate(
    dataset: Path,
    originals: Path | None,
    work: Path | None,
    report: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Check that a dataset is right.

    DATASET is a folder that p3mdata made, one of the two releases of P3M-10k, or a folder with images/ and
    mattes/, alphas/ or masks/ (and trimaps/); the current folder when it is not named. With the originals it
    also checks that exactly what is masked was changed. The exit code is 0 when nothing is wrong and 1 when
    something is; notes do not count.

    \b
    Example:
      p3mdata validate OUT
      p3mdata validate P3M-10k --report checked/ --json
    """
    from p3m_data.errors import UsageError
    from p3m_data.inspection.validate import validate as inspect
    from p3m_data.pipeline.dataset import Dataset
    from p3m_data.report.inspection import write_inspection

    folder = report or Dataset.at(dataset, work).private
    if folder.resolve().is_relative_to(dataset.resolve()):
        raise UsageError(f"{folder} lies in {dataset}, but the report is private; name another folder")
    with _Counter(quiet=as_json) as counter:
        inspection = inspect(
            dataset,
            originals=originals,
            private=work,
            workers=workers or _cpus(),
            on_progress=counter.show,
        )
    _make_private(folder, chosen=report is not None)
    page = write_inspection(inspection, (), folder)
    if as_json:
        click.echo(inspection.model_dump_json(indent=2))
    else:
        for line in lines(inspection):
            click.echo(line)
        click.echo(f"Look at: {page}")
    click.get_current_context().exit(1 if inspection.faults else 0)


def lines(inspection: Inspection) -> list[str]:
    """The counts by check and the first findings of each, for a terminal."""
    by_check: dict[str, list[Finding]] = {}
    for finding in inspection.findings:
        by_check.setdefault(finding.check, []).append(finding)
    told = [f"{inspection.pictures} pictures ({inspection.layout})"]
    for check, findings in by_check.items():
        faults = sum(finding.level == "fault" for finding in findings)
        notes = len(findings) - faults
        counts = [f"{faults} wrong"] * (faults > 0) + [f"{notes} to note"] * (notes > 0)
        told.append(f"{check}: {', '.join(counts)}")
        first = sorted(findings, key=lambda finding: finding.level != "fault")[:FIRST]
        told += [
            f"  {finding.where}: {finding.said}" if finding.where else f"  {finding.said}"
            for finding in first
        ]
        if len(findings) > FIRST:
            told.append(f"  and {len(findings) - FIRST} more")
    skipped = [looked for looked in inspection.looked if looked.why_not]
    made = len(inspection.looked) - len(skipped)
    told.append(f"{made} of {len(inspection.looked)} checks made, {inspection.faults} things wrong")
    told += [f"  not made: {looked.check} ({looked.why_not})" for looked in skipped]
    # names of files may hold line breaks and terminal escapes
    return ["".join(c if c.isprintable() else repr(c)[1:-1] for c in line) for line in told]


def _make_private(folder: Path, *, chosen: bool) -> None:
    """The folder for the report, for its owner's eyes only; one that the user chose and that is there stays."""
    from p3m_data.storage.folders import check_writable

    there = folder.is_dir()
    check_writable(folder)
    if not (chosen and there):
        os.chmod(folder, 0o700)


class _Counter:
    """Shows how many pictures are done on stderr."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._told = time.monotonic()
        self._shown = False

    def __enter__(self) -> _Counter:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._shown and self._terminal:
            click.echo(err=True)

    def show(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._quiet or (now - self._told < (0.2 if self._terminal else EVERY) and done < total):
            return
        if self._terminal:
            click.echo(f"\r{done} of {total} pictures", nl=False, err=True)
        elif now - self._told >= EVERY:
            click.echo(f"{done} of {total} pictures", err=True)
        else:
            return
        self._told, self._shown = now, True


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
