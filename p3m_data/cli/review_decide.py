"""`p3mdata review accept | no-face | exclude | skip | undo`: decisions on the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p3m_data.cli.review import (
    FAILED,
    Command,
    acting,
    filters,
    on_behalf,
    open_desk,
    printable,
    queued,
    split,
)

if TYPE_CHECKING:
    from p3m_data.stages.review import Desk

WAIVABLE = ("faces_left", "detail_left", "transition_untouched")
NOT_DONE = 1
LOOKED_BACK = 100_000
"""Decisions among which one's own is looked for."""

waive_option = click.option(
    "--waive",
    type=click.Choice(WAIVABLE),
    multiple=True,
    help="Publish although this check did not pass; may be repeated.",
)
note_option = click.option("--note", default="", help="A sentence for the next reviewer.")


def targets(command: Command) -> Command:
    """Ids, or all of the queue that the filters leave."""
    for option in (
        click.argument("words", nargs=-1, metavar="[DATASET] [ID]..."),
        click.option("--yes", is_flag=True, help="Do not ask before deciding with --all."),
        click.option(
            "--all", "everything", is_flag=True, help="Every picture that --state and --reason leave."
        ),
    ):
        command = option(command)
    return on_behalf(filters(command))


def _command(
    verdict: str, does: str, *options: Callable[[Any], Any], name: str
) -> Callable[[Command], click.Command]:
    """A command that decides `verdict`; `does` is asked before a decision on many."""

    def decorate(described: Command) -> click.Command:
        def decide(
            words: tuple[str, ...], note: str = "", waive: tuple[str, ...] = (), **choice: Any
        ) -> None:
            _decide(words, verdict, does, note, waive, **choice)

        decide.__doc__ = described.__doc__
        run: Any = targets(note_option(decide))
        for option in options:
            run = option(run)
        return click.command(name)(run)

    return decorate


@_command("accept", "accept", waive_option, name="accept")
def accept() -> None:
    """Accept the suggested mask.

    The picture is blurred inside the mask that the machine suggests, checked, and published. What the check
    finds is told; --waive NAME lets the finding of that name be. After a spot check: the machine was right.

    \b
    Example:
      p3mdata review accept OUT p_2624821b194c6c57
      p3mdata review accept OUT --all --reason proposal_without_landmarks
      p3mdata review accept OUT p_2624821b194c6c57 --waive detail_left
    """


@_command("no_face", "publish unblurred", waive_option, name="no-face")
def no_face() -> None:
    """Say that no identifiable face is visible.

    The picture is published without a mask.

    \b
    Example:
      p3mdata review no-face OUT p_2624821b194c6c57 p_0123456789abcdef
      p3mdata review no-face OUT --all --reason no_face_found
    """


@_command("exclude", "leave out", name="exclude")
def exclude() -> None:
    """Leave pictures out of the dataset.

    \b
    Example:
      p3mdata review exclude OUT p_2624821b194c6c57 --note "a child"
    """


@_command("skip", "skip", name="skip")
def skip() -> None:
    """Put pictures to the end of the queue.

    \b
    Example:
      p3mdata review skip OUT p_2624821b194c6c57 --note "is that a face in the mirror?"
    """


@click.command()
@click.argument("words", nargs=-1, metavar="[DATASET] ID...", required=True)
@on_behalf
def undo(words: tuple[str, ...], work: Path | None, reviewer: str | None, as_json: bool) -> None:
    """Take the last decision on a picture back.

    What it published is removed from the public folder.

    \b
    Example:
      p3mdata review undo OUT p_2624821b194c6c57
    """
    dataset, ids = split(words)
    if not ids:
        raise click.UsageError("name pictures by their ids; see: p3mdata review list --state decided")
    who = acting(reviewer)
    with open_desk(dataset, work) as desk:
        code = carry_out(ids, lambda name: _undo(desk, name, who), as_json=as_json)
    click.get_current_context().exit(code)


def _undo(desk: Desk, name: str, reviewer: str) -> dict[str, Any]:
    from p3m_data.errors import UsageError

    decision = desk.detail(name, reviewer)["decision"] or _own(desk, name, reviewer)
    if decision is None:
        raise UsageError(f"there is no decision about {name} that you could undo")
    return {"outcome": "undone", "findings": [], **desk.undo(decision["number"], reviewer)}


def _own(desk: Desk, name: str, reviewer: str) -> dict[str, Any] | None:
    """The standing decision of `reviewer`, which the desk hides while another person is asked."""
    mine = (
        d for d in desk.decisions(LOOKED_BACK) if (d["id"], d["by"]) == (name, reviewer) and d["standing"]
    )
    return next(mine, None)


def _decide(
    words: tuple[str, ...],
    verdict: str,
    does: str,
    note: str,
    waive: tuple[str, ...],
    *,
    everything: bool,
    state: str | None,
    reason: str | None,
    yes: bool,
    work: Path | None,
    reviewer: str | None,
    as_json: bool,
) -> None:
    dataset, ids = split(words)
    if everything == bool(ids):
        raise click.UsageError("name pictures by their ids, or choose with --all, --state and --reason")
    if ids and (state or reason):
        raise click.UsageError("--state and --reason choose among all: give --all, or ids without them")
    who = acting(reviewer)
    with open_desk(dataset, work) as desk:
        if everything:
            ids = [item["id"] for item in queued(desk, who, state or "waiting", reason)]
            if not yes and ids:
                _confirm(does, len(ids))
        code = carry_out(
            ids,
            lambda name: desk.decide(name, who, verdict, note=note, waive=waive),
            as_json=as_json,
        )
    click.get_current_context().exit(code)


def _confirm(does: str, count: int) -> None:
    """Let the number be typed: a yes is typed too easily; `click.UsageError` for another one, or none."""
    try:
        typed = click.prompt(
            f"Type {count} to {does} {count} pictures unseen", default="", show_default=False, err=True
        )
    except click.Abort:
        typed = ""
    if typed.strip() != str(count):
        raise click.UsageError(f"nothing was done; type {count}, or give --yes")


def carry_out(
    names: Iterable[str], act: Callable[[str], dict[str, Any]], *, as_json: bool, key: str = "id"
) -> int:
    """`act` on each of `names` and tell what came of it; the exit code.

    `key` is what `names` are: ids or files. What cannot be done to one of several is told and the others go
    on (exit code 3); the error of an id that was named alone is raised.
    """
    from p3m_data.errors import UsageError

    names = list(names)
    outcomes: list[dict[str, Any]] = []
    try:
        for name in names:
            try:
                outcome = {key: name, **act(name)}
            except UsageError as error:
                if len(names) == 1 and key == "id":
                    raise
                outcome = {key: name, "outcome": "failed", "said": str(error), "findings": []}
            outcomes.append(outcome)
            for line in () if as_json else _told(outcome):
                click.echo(line, err=outcome["outcome"] == "failed")
    finally:
        # what was decided before the disk filled up is decided
        if as_json and (outcomes or not names):
            click.echo(json.dumps(outcomes, indent=2))
    found = {outcome["outcome"] for outcome in outcomes}
    return FAILED if found & {"failed", "gone"} else NOT_DONE if found & {"sent_back", "not_drawn"} else 0


def _told(outcome: dict[str, Any]) -> Iterator[str]:
    said = printable(outcome["said"])
    if outcome["outcome"] == "failed":
        yield f"p3mdata: {said}"
        return
    yield f"{outcome['id']}  {outcome['outcome'].replace('_', ' ')}  {said}".rstrip()
    for finding in outcome["findings"]:
        way = f"; --waive {finding['check']} lets it be" if finding["waivable"] else ""
        yield f"  {printable(finding['said'])}{way}"
