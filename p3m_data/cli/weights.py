"""`p3mdata weights`: which files of networks there are, where they are, and fetching them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from p3m_data.storage.weights import Weights


@click.group()
def weights() -> None:
    """List or fetch the files of the networks.

    \b
    Example:
      p3mdata weights list
      p3mdata weights get face_landmarker
    """


@weights.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, for scripts.")
def list_(as_json: bool) -> None:
    """Show every file: licence, size, where it is and what it is for.

    \b
    Example:
      p3mdata weights list --json
    """
    import json

    from p3m_data.storage import weights as storage

    rows = [_row(entry) for entry in storage.registry().values()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        size = f"{row['bytes'] / 1e6:5.1f} MB" if row["bytes"] else "unknown "
        click.echo(f"{row['name']:{width}}  {size}  {row['what']}; licence: {row['licence']}")
        click.echo(f"{'':{width}}  {row['state']}{': ' + row['where'] if row['where'] else ''}")


@weights.command("get")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every file of the registry.")
def get(names: tuple[str, ...], everything: bool) -> None:
    """Fetch missing files and print where all are.

    \b
    Example:
      p3mdata weights get face_landmarker
      p3mdata weights get --all
    """
    from p3m_data.errors import MissingExtra, UsageError, WeightsError
    from p3m_data.storage import weights as storage

    if everything == bool(names):
        raise UsageError("name the weights to fetch, or give --all; see: p3mdata weights list")
    problems: list[MissingExtra | WeightsError] = []
    for name in storage.registry() if everything else names:
        try:
            path = storage.ensure([name])[name]
        except (MissingExtra, WeightsError) as error:
            problems.append(error)
            continue
        click.echo(f"{name}  {path}")
    for problem in problems[:-1]:
        click.echo(f"p3mdata: {problem}", err=True)
    if problems:
        raise problems[-1]


def _row(entry: Weights) -> dict[str, Any]:
    state, where = _state(entry)
    return {**entry.model_dump(mode="json"), "state": state, "where": where}


def _state(entry: Weights) -> tuple[str, str]:
    """`found`, `inside` another file, `missing` or `wrong`; and where, or what is wrong."""
    from p3m_data.errors import WeightsError
    from p3m_data.storage import weights as storage

    try:
        if (path := storage.locate(entry.name)) is not None:
            return "found", str(path)
        for source in entry.sources:
            parent = storage.locate(source.member_of) if isinstance(source, storage.FromWeights) else None
            if parent is not None:
                return "inside", str(parent)
    except WeightsError as error:
        return "wrong", str(error)
    return "missing", ""
