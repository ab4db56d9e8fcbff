"""`p3mdata audit`: can anybody still be recognised, or does anything else leak?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from p3m_data.cli.inspecting import (
    FOLDER,
    Counter,
    conclude,
    cpus,
    quiet_libraries,
    report_folder,
    shared_options,
)

if TYPE_CHECKING:
    from p3m_data.inspection.audit import Part

PARTS = ("leaks", "faces", "recognition")


@click.command()
@click.argument("dataset", type=FOLDER, default=".")
@click.option("--originals", type=FOLDER, help="Folder of the originals.  [default: where the ledger says]")
@click.option(
    "--labels", type=FOLDER, metavar="CSV", help="Who is in the pictures (identity), and groups (age, ...)."
)
@click.option(
    "--group", "columns", multiple=True, metavar="COLUMN", help="Compare the groups of this column."
)
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="This part only; can be repeated.")
@click.option("--detector", "detectors", multiple=True, help="Look with this detector only; can be repeated.")
@shared_options
def audit(
    dataset: Path,
    originals: Path | None,
    labels: Path | None,
    columns: tuple[str, ...],
    only: tuple[Part, ...],
    detectors: tuple[str, ...],
    work: Path | None,
    report: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Check that nobody can be recognised and nothing leaks.

    DATASET is a folder that p3mdata made or any other that p3mdata validate reads; the current folder when it is
    not named. Three parts: leaks (every byte, name and time that is public), faces (detectors, some of which no
    run uses, look for faces that are left), recognition (with originals and a CSV of identities: blurred faces
    are looked for among other photos of the same people). The exit code is 0 when nothing is wrong and 1 when
    something is; notes do not count. Recognition needs, and faces sees more with: pip install "p3mdata[audit]".

    \b
    Example:
      p3mdata audit OUT --labels people.csv
      p3mdata audit P3M-10k --only leaks --report checked/
    """
    from p3m_data.inspection.audit import PARTS as EVERYTHING
    from p3m_data.inspection.audit import audit as inspect

    folder = report_folder(dataset, work, report)
    with quiet_libraries(), Counter(quiet=as_json) as counter:
        audited = inspect(
            dataset,
            originals=originals,
            private=work,
            labels=labels,
            group_columns=columns or None,
            parts=only or EVERYTHING,
            detectors=detectors or None,
            workers=workers or cpus(),
            on_progress=lambda part, done, total: counter.show(done, total, f"{part}: "),
        )
    conclude(audited.inspection, audited.crops, folder, chosen=report is not None, as_json=as_json)
