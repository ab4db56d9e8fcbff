"""`p3mdata review`: the page in the browser, the queue on the terminal, and what its commands share."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p3m_data.cli.main import Lazy, LazyCommands

if TYPE_CHECKING:
    from p3m_data.pipeline.dataset import Dataset
    from p3m_data.stages.review import Desk

FOLDER = click.Path(path_type=Path)
STATES = ("waiting", "skipped", "second_opinion", "disagreement", "spot_check", "decided")
SUBCOMMANDS = {
    "serve": Lazy("p3m_data.cli.review:serve", "Open the page; what review does when no command is named."),
    "list": Lazy("p3m_data.cli.review:list_", "List the pictures of the queue."),
    "show": Lazy("p3m_data.cli.review:show", "Tell all about one picture."),
    "accept": Lazy("p3m_data.cli.review_decide:accept", "Accept the suggested mask."),
    "no-face": Lazy("p3m_data.cli.review_decide:no_face", "Say that no identifiable face is visible."),
    "exclude": Lazy("p3m_data.cli.review_decide:exclude", "Leave pictures out of the dataset."),
    "skip": Lazy("p3m_data.cli.review_decide:skip", "Put pictures to the end of the queue."),
    "undo": Lazy("p3m_data.cli.review_decide:undo", "Take the last decision on a picture back."),
    "import-mask": Lazy("p3m_data.cli.review_masks:import_mask", "Decide with masks from another tool."),
    "export": Lazy("p3m_data.cli.review_masks:export", "Write the suggested masks for another tool."),
}
PAGE = 500
FAILED = 3

Command = TypeVar("Command", bound=Callable[..., Any])


class ReviewGroup(LazyCommands):
    """Serves when the first word is no command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[1:] and args[0] not in SUBCOMMANDS and args[1] in SUBCOMMANDS:
            raise click.UsageError(f"write the command first: p3mdata review {args[1]} {args[0]}", ctx)
        if not args or (args[0] not in SUBCOMMANDS and args[0] not in ctx.help_option_names):
            args = ["serve", *args]
        return super().parse_args(ctx, args)

    def table(self) -> Mapping[str, Lazy]:
        return SUBCOMMANDS


def on_behalf(command: Command) -> Command:
    """The options of every command on one reviewer's behalf."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts."),
        click.option("--reviewer", help="Who decides.  [default: the login name]"),
        click.option("--work", type=FOLDER, help="The dataset's private folder.  [default: DATASET.private]"),
    ):
        command = option(command)
    return command


def filters(command: Command) -> Command:
    """The options that choose pictures of the queue."""
    for option in (
        click.option("--reason", help="Only pictures that wait for this reason, such as no_face_found."),
        click.option("--state", type=click.Choice(STATES), help="Only pictures in this state."),
    ):
        command = option(command)
    return command


def split(words: Sequence[str]) -> tuple[Path, list[str]]:
    """The dataset ("." when none is named) and the ids among `words`, each id once; `click.UsageError` otherwise."""
    ids = list(dict.fromkeys(word for word in words if is_id(word)))
    others = [word for word in words if not is_id(word)]
    if len(others) > 1:
        raise click.UsageError(f"{others[1]!r} is no id of a picture (p_ and 16 hex digits)")
    return Path(others[0] if others else "."), ids


def is_id(word: str) -> bool:
    return re.fullmatch(r"p_[0-9a-f]{8,}", word) is not None


@contextmanager
def open_desk(dataset: Path, work: Path | None, second_opinion: float | None = None) -> Iterator[Desk]:
    """The desk of a dataset; reports are written anew when something was decided at it."""
    from p3m_data.cli.progress import libraries_aside
    from p3m_data.pipeline.dataset import Dataset
    from p3m_data.stages.review import Desk

    sides = Dataset.at(dataset, work)
    sides.ledger().close()
    with libraries_aside(sides.private / "review.log"), Desk.open(sides, second_opinion) as desk:
        try:
            yield desk
        finally:
            if desk.decided:
                desk.flush()
                _write_reports(sides)


def _write_reports(dataset: Dataset) -> None:
    from p3m_data.report.contact import write_private_report, write_public_report
    from p3m_data.stages.config import AnonymizeConfig

    with dataset.ledger() as ledger:
        write_private_report(dataset, ledger)
        settings = ledger.meta("config")
    config = AnonymizeConfig.model_validate_json(settings) if settings else None
    write_public_report(dataset, config.blur if config else None)


def acting(reviewer: str | None) -> str:
    """Who decides: the one that was named, else the login name."""
    import getpass

    if reviewer is not None:
        return reviewer
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise click.UsageError("this login has no name; say who decides with --reviewer NAME") from error


def queued(desk: Desk, reviewer: str, state: str | None, reason: str | None) -> Iterator[dict[str, Any]]:
    """The items of the queue that are in `state` (None: all that are open) for `reason`."""
    offset = 0
    while items := desk.listing(state, reason, offset, PAGE, reviewer)["items"]:
        yield from items
        offset += len(items)


def private_folder(folder: Path, dataset: Dataset) -> Path:
    """`folder`, made for its owner alone; `UsageError` when it is public or others can look into it."""
    from p3m_data.errors import UsageError
    from p3m_data.storage.folders import check_writable

    real = folder.resolve()
    if real.is_relative_to(dataset.public):
        raise UsageError(f"{folder} lies inside the public folder {dataset.public}; name a private one")
    new = not real.exists()
    check_writable(real)
    if new:
        os.chmod(real, 0o700)
    elif real.stat().st_mode & 0o077:
        raise UsageError(f"others can look into {folder}; name a new folder, or do: chmod 700 {folder}")
    return real


def printable(text: object) -> str:
    """`text` on one line and without terminal escapes."""
    from p3m_data.storage.sentences import visible

    return visible(str(text))


@click.group(cls=ReviewGroup, options_metavar="[OPTIONS]", subcommand_metavar="[DATASET] | COMMAND [ARGS]...")
def review() -> None:
    """Decide in the browser what the machine could not.

    Without a command, the review page of DATASET is served and opened; p3mdata review serve --help tells the
    options. The commands do the same work on the terminal. Words that look like p_0123456789abcdef are ids of
    pictures, the other one is the dataset, which is the current folder when it is not named.

    \b
    Example:
      p3mdata review OUT
      p3mdata review list OUT
      p3mdata review accept OUT p_2624821b194c6c57
    """


@click.command()
@click.argument("dataset", type=FOLDER, default=".")
@click.option(
    "--reviewer", "reviewers", multiple=True, help="Who decides; may be repeated.  [default: login name]"
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to serve on.  [default: the last one, or a free one]",
)
@click.option("--no-browser", is_flag=True, help="Print the link only.")
@click.option(
    "--second-opinion",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Share of the pictures that two people must decide independently.",
)
@click.option(
    "--spot-check",
    type=click.IntRange(1),
    metavar="N",
    help="Let people look at N of the pictures that the machine published.",
)
@click.option("--work", type=FOLDER, help="The dataset's private folder.  [default: DATASET.private]")
@click.option("--json", "as_json", is_flag=True, help="Print what is left in the end as JSON.")
def serve(
    dataset: Path,
    reviewers: tuple[str, ...],
    host: str,
    port: int | None,
    no_browser: bool,
    second_opinion: float | None,
    spot_check: int | None,
    work: Path | None,
    as_json: bool,
) -> None:
    """Open the page; what review does when no command is named.

    The page shows the pictures unblurred, so it is served to this machine only and behind a secret link.
    Ctrl-C ends it; every decision is stored at once. The exit code is 0 when nothing waits, 1 when pictures
    wait, and 3 when some failed.

    \b
    Example:
      p3mdata review OUT
      p3mdata review OUT --reviewer anna --reviewer ben --second-opinion 10
      p3mdata review OUT --spot-check 300
    """
    from p3m_data.pipeline.outcome import exit_code

    start = _server()
    names = list(dict.fromkeys(reviewers)) or [acting(None)]
    with open_desk(dataset, work, second_opinion) as desk:
        if spot_check is not None:
            click.echo(f"Spot check: {_spot_words(desk.draw_spot_checks(spot_check))}", err=as_json)
        desk.warm_up()
        start(
            desk,
            names,
            host=host,
            port=port,
            open_browser=not no_browser,
            say=lambda line: click.echo(line, err=as_json),
            private=desk.dataset.private,
        )
        overview = desk.overview(names[0])
        with desk.dataset.ledger() as ledger:
            code = exit_code(ledger.counts())
    for line in [json.dumps(overview, indent=2)] if as_json else _left(overview):
        click.echo(line)
    click.get_current_context().exit(code)


def _server() -> Callable[..., None]:
    from p3m_data.errors import MissingExtra

    try:
        from p3m_data.review.serve import serve
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "p3m_data"):
            raise
        raise MissingExtra(missing, "review") from error
    return serve


def _left(overview: dict[str, Any]) -> Iterator[str]:
    """What is left, state by state."""
    counts = {state: count for state, count in overview["counts"].items() if count and state != "decided"}
    yield f"{overview['counts']['decided']} decided, {sum(counts.values())} left"
    for state, count in counts.items():
        yield f"  {count} {state.replace('_', ' ')}"
    if spot := overview["spot"]:
        yield f"Spot check: {_spot_words(spot)}"


def _spot_words(spot: dict[str, Any]) -> str:
    from p3m_data.pipeline.decisions import SpotChecks

    return SpotChecks(**{field: spot[field] for field in SpotChecks._fields}).words


@click.command("list")
@click.argument("dataset", type=FOLDER, default=".")
@filters
@on_behalf
def list_(
    dataset: Path,
    state: str | None,
    reason: str | None,
    work: Path | None,
    reviewer: str | None,
    as_json: bool,
) -> None:
    """List the pictures of the queue.

    A line each: id, state, and why it waits. Without --state, those that are not decided.

    \b
    Example:
      p3mdata review list OUT
      p3mdata review list OUT --state skipped
      p3mdata review list OUT --reason no_face_found --json
    """
    with open_desk(dataset, work) as desk:
        items = queued(desk, acting(reviewer), state, reason)
        if as_json:
            click.echo(json.dumps(list(items), indent=2))
            return
        for item in items:
            click.echo(_line(item))


def _line(item: dict[str, Any]) -> str:
    note = f' "{printable(item["note"])}"' if item["note"] else ""
    taken = f" ({printable(item['taken_by'])} works on it)" if item["taken_by"] else ""
    return f"{item['id']}  {item['state']:14}  {item['words'] or ''}{note}{taken}".rstrip()


@click.command()
@click.argument("words", nargs=-1, metavar="[DATASET] ID")
@click.option("--save", type=FOLDER, help="Write original, suggestion and result to this private folder.")
@on_behalf
def show(
    words: tuple[str, ...], save: Path | None, work: Path | None, reviewer: str | None, as_json: bool
) -> None:
    """Tell all about one picture.

    \b
    Example:
      p3mdata review show OUT p_2624821b194c6c57
      p3mdata review show OUT p_2624821b194c6c57 --save look/
    """
    dataset, ids = split(words)
    if len(ids) != 1:
        raise click.UsageError("name one picture by its id; see: p3mdata review list")
    name, who = ids[0], acting(reviewer)
    with open_desk(dataset, work) as desk:
        detail = desk.detail(name, who)
        click.echo(json.dumps(detail, indent=2) if as_json else "\n".join(_facts(detail)))
        for file in _save(desk, detail, save, who) if save else ():
            click.echo(f"written: {file}", err=as_json)


def _facts(detail: dict[str, Any]) -> Iterator[str]:
    yield f"{detail['id']}  {detail['state']}  {detail['words'] or ''}".rstrip()
    matte = "its matte" if detail["transition"] == "matte" else "an estimated transition area"
    facts = {
        "size": f"{detail['width']} x {detail['height']}, with {matte}",
        "machine": printable(detail["said"]),
        "faces": ", ".join(face["how"] for face in detail["faces"]) or "none",
        "suggestion": f"{detail['suggestion_area']:,} pixels",
        "drawing": f"{detail['draft']['done']} operations" if detail["draft"]["ops"] else "",
        "note": printable(detail["note"] or ""),
    }
    for name, value in facts.items():
        if value:
            yield f"  {name:10}  {value}"
    if decision := detail["decision"]:
        yield (
            f"  {'decided':10}  {decision['verdict']} by {printable(decision['by'])} at {decision['at']}: "
            f"{decision['outcome']}"
        )
    for opinion in detail["opinions"]:
        yield f"  {'opinion':10}  {opinion['verdict']} by {printable(opinion['by'])} {printable(opinion['note'])}"
    for finding in detail["findings"]:
        yield f"  {'finding':10}  {finding['said']} ({finding['check']})"


def _save(desk: Desk, detail: dict[str, Any], folder: Path, reviewer: str) -> Iterator[Path]:
    """The files written: pictures at full size, what there is of them."""
    from p3m_data.errors import UsageError
    from p3m_data.storage.folders import write_atomic

    real = private_folder(folder, desk.dataset)
    size = max(detail["width"], detail["height"])
    for layer, suffix in (("original", "jpg"), ("suggestion", "png"), ("result", "jpg")):
        try:
            data = desk.layer(detail["id"], layer, size, reviewer=reviewer)
        except UsageError:
            if layer == "original":
                raise
            continue
        file = real / f"{detail['id']}.{layer}.{suffix}"
        write_atomic(file, data)
        yield file
