"""`p3mdata validate`: is this dataset right?"""

from __future__ import annotations

from pathlib import Path

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


@click.command()
@click.argument("dataset", type=FOLDER, default=".")
@click.option("--originals", type=FOLDER, help="Folder of the originals.  [default: where the ledger says]")
@shared_options
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
    from p3m_data.inspection.validate import validate as inspect

    folder = report_folder(dataset, work, report)
    with quiet_libraries(), Counter(quiet=as_json) as counter:
        inspection = inspect(
            dataset, originals=originals, private=work, workers=workers or cpus(), on_progress=counter.show
        )
    conclude(inspection, [], folder, chosen=report is not None, as_json=as_json)
