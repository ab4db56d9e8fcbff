"""`p3mdata status`: how a dataset stands, also while a run goes on."""

from __future__ import annotations

from pathlib import Path

import click

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("dataset", type=FOLDER, default=".")
@click.option("--work", type=FOLDER, help="The dataset's private folder.  [default: DATASET.private]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def status(dataset: Path, work: Path | None, as_json: bool) -> None:
    """Tell how far a dataset is and what waits for a person.

    DATASET is the public folder that p3mdata anonymize made; the current folder when it is not named.
    The exit code is 0 when all is done, 1 when pictures wait for a person or are still to be done, and 3
    when some failed.

    \b
    Example:
      p3mdata status OUT
      p3mdata status OUT --json
    """
    import json

    from p3m_data.pipeline.dataset import Dataset
    from p3m_data.pipeline.decisions import Decisions
    from p3m_data.pipeline.outcome import config_digest, exit_code, next_step, summary_lines

    sides = Dataset.at(dataset, work)
    with sides.ledger() as ledger:
        counts, reasons, digest = ledger.counts(), ledger.reasons(), config_digest(ledger)
        spot = Decisions(ledger).spot_checks()
    report = sides.private / "report.html"
    if as_json:
        facts = {
            "dataset": str(sides.public),
            "private": str(sides.private),
            "report": str(report) if report.is_file() else None,
            "config_digest": digest,
            "spot_check": spot._asdict() | {"upper_bound": spot.upper_bound} if spot.drawn else None,
            "counts": {status.value: number for status, number in counts.items()},
            "reasons": {f"{s.value}/{r.value}": number for (s, r), number in sorted(reasons.items())},
            "next": next_step(counts),
            "exit_code": exit_code(counts),
        }
        click.echo(json.dumps(facts, indent=2))
    else:
        for line in summary_lines(counts, reasons):
            click.echo(line)
        if spot.drawn:
            click.echo(f"Spot check:     {spot.words}")
        click.echo(f"Configuration:  {digest or 'none yet'}")
        click.echo(
            f"Private report: {report if report.is_file() else 'not yet written, it comes at the end of a run'}"
        )
        click.echo(f"Next: {next_step(counts)}")
    click.get_current_context().exit(exit_code(counts))
