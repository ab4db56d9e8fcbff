"""The command `p3mdata`: a table of commands, each imported only when it is used, and how errors are told."""

from __future__ import annotations

import errno
import os
import select
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from p3m_data import __version__

INTERRUPTED = 130
BUG = 70


class Lazy(NamedTuple):
    target: str
    """`module:attribute` of the click command."""
    help: str
    """First line of its help, so that listing the commands imports none."""


COMMANDS = {
    "anonymize": Lazy("p3m_data.cli.anonymize:anonymize", "Blur every face in a folder of portraits."),
    "review": Lazy("p3m_data.cli.review:review", "Decide in the browser what the machine could not."),
    "status": Lazy("p3m_data.cli.status:status", "Tell how far a dataset is and what waits for a person."),
    "validate": Lazy("p3m_data.cli.validate:validate", "Check that a dataset is right."),
    "audit": Lazy("p3m_data.cli.audit:audit", "Check that nobody can be recognised and nothing leaks."),
    "weights": Lazy("p3m_data.cli.weights:weights", "List or fetch the files of the networks."),
}


class LazyCommands(click.Group):
    """A group that imports a command of its `table` when it is used."""

    def table(self) -> Mapping[str, Lazy]:
        raise NotImplementedError

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.table())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.table():
            return None
        module, attribute = self.table()[cmd_name].target.split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self.table().items()])


class LazyGroup(LazyCommands):
    """The commands in `COMMANDS`; errors become one line on stderr and an exit code."""

    def table(self) -> Mapping[str, Lazy]:
        return COMMANDS

    def invoke(self, ctx: click.Context) -> Any:
        _print_any_name()
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (click.exceptions.Exit, click.ClickException):
            raise
        except (KeyboardInterrupt, click.Abort):
            _say("interrupted; run the same command again to go on")
            ctx.exit(INTERRUPTED)
        except Exception as error:
            if _reader_left(error):
                raise
            ctx.exit(_tell(error))
        return result


def _print_any_name() -> None:
    """Let names of files that are not UTF-8 be printed, escaped, instead of stopping the run."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _reader_left(error: Exception) -> bool:
    """Whether `p3mdata ... | head` broke the pipe, not the loss of a worker; click then ends quietly."""
    if not isinstance(error, OSError) or error.errno != errno.EPIPE:
        return False
    try:
        out = sys.stdout.fileno()
    except OSError:
        return False
    poll = select.poll()
    poll.register(out, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _tell(error: Exception) -> int:
    """Say on stderr what went wrong; the exit code."""
    from p3m_data.errors import P3MError

    if isinstance(error, P3MError):
        _say(str(error))
        return error.exit_code
    if os.environ.get("P3MDATA_DEBUG") == "1":
        traceback.print_exception(error)
    _say(
        f"this is a bug in p3mdata ({type(error).__name__}: {error}); "
        "please report it with what P3MDATA_DEBUG=1 prints for the same command"
    )
    return BUG


def _say(sentence: str) -> None:
    from p3m_data.storage.sentences import visible

    # names of files may hold line breaks and terminal escapes
    click.echo(f"p3mdata: {visible(sentence)}", err=True)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="p3mdata")
def main() -> None:
    """Make privacy-preserving portrait matting datasets: blur faces, keep every hair.

    \b
    Example:
      p3mdata anonymize photos/ -o OUT --mattes mattes/
      p3mdata status OUT
    """
