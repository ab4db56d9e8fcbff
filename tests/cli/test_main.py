"""The lazy group: its table, its start-up time, and what it makes of every kind of error."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from p3m_data import __version__
from p3m_data.cli import main as cli
from p3m_data.cli.main import BUG, COMMANDS, INTERRUPTED, Lazy, main
from p3m_data.errors import InputError, P3MError, StorageError, UsageError, WeightsError

FAIL = "tests_cli_failing_command"


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Environment in which `p3mdata` runs a table with one command `fail`, whose code is `$FAIL_WITH`."""
    (tmp_path / f"{FAIL}.py").write_text(
        "import os, sys, click\n"
        "from p3m_data.errors import *\n"
        "@click.command()\n"
        "def fail():\n"
        '    """Fail."""\n'
        "    exec(os.environ['FAIL_WITH'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cli, "COMMANDS", {"fail": Lazy(f"{FAIL}:fail", "Fail.")})
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def fail_with(code: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["fail"], env={"FAIL_WITH": code, **environment})


def in_a_process(code: str, environment: dict[str, str], **options: object) -> subprocess.Popen[bytes]:
    script = (
        "from p3m_data.cli import main as cli\n"
        f"cli.COMMANDS = {{'fail': cli.Lazy('{FAIL}:fail', 'Fail.')}}\n"
        "cli.main(['fail'])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**environment, "FAIL_WITH": code},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_tells_the_truth(name: str) -> None:
    module, attribute = COMMANDS[name].target.split(":")
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not written yet")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help is not None
    assert command.help.strip().splitlines()[0] == COMMANDS[name].help


def test_help_lists_every_command_with_its_line() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name, command in COMMANDS.items():
        assert f"{name}  " in result.stdout
        assert command.help in result.stdout
    assert "Example:" in result.stdout
    assert CliRunner().invoke(main, ["-h"]).stdout == result.stdout


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout == f"p3mdata, version {__version__}\n"


@pytest.mark.parametrize("words", [[], ["--nope"], ["nope"], ["weights", "nope"]])
def test_wrong_usage_is_exit_2(words: list[str]) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_help_imports_no_command_and_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from p3m_data.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print(*sys.modules)\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    loaded = set(printed.splitlines()[-1].split())
    ours = {name for name in loaded if name.startswith("p3m_data")}
    assert ours == {"p3m_data", "p3m_data.cli", "p3m_data.cli.main"}
    assert not loaded & {"pydantic", "numpy", "cv2", "PIL", "mediapipe", "torch", "yaml", "jinja2", "tqdm"}


def test_help_answers_at_once() -> None:
    command = [sys.executable, "-c", "from p3m_data.cli.main import main; main()", "--help"]
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.3


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("error", [P3MError, UsageError, WeightsError, StorageError, InputError])
def test_our_errors_are_one_sentence(error: type[P3MError]) -> None:
    result = fail_with(f"raise {error.__name__}('photos/a.jpg is broken; mend it')")
    assert (result.exit_code, result.stdout) == (error.exit_code, "")
    assert result.stderr == "p3mdata: photos/a.jpg is broken; mend it\n"


@pytest.mark.usefixtures("failing")
def test_a_name_cannot_break_the_line_or_drive_the_terminal() -> None:
    result = fail_with(r"raise UsageError('a\n\x1b[31m\udcffé.jpg is broken')")
    assert result.stderr == "p3mdata: a\\n\\x1b[31m\\udcffé.jpg is broken\n"


def test_a_name_that_is_not_utf8_can_be_printed(failing: dict[str, str]) -> None:
    process = in_a_process(r"print('a\udcff.jpg')", failing)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, b"a\\udcff.jpg\n", b"")


@pytest.mark.usefixtures("failing")
def test_a_bug_says_that_it_is_one() -> None:
    result = fail_with("{}['key']")
    assert result.exit_code == BUG
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("p3mdata: this is a bug in p3mdata (KeyError: 'key'); please report")


@pytest.mark.usefixtures("failing")
def test_the_traceback_of_a_bug_is_shown_on_request() -> None:
    result = fail_with("{}['key']", P3MDATA_DEBUG="1")
    assert result.exit_code == BUG
    assert "Traceback" in result.stderr
    assert "p3mdata: this is a bug" in result.stderr


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize(
    "code", ["raise EOFError", "raise BrokenPipeError(32, 'worker lost')", "import no_such_thing"]
)
def test_what_click_would_hide_is_a_bug_too(code: str) -> None:
    result = fail_with(code)
    assert result.exit_code == BUG
    assert "this is a bug" in result.stderr


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("code", ["sys.exit(3)", "click.get_current_context().exit(3)"])
def test_a_command_chooses_its_exit_code(code: str) -> None:
    result = fail_with(code)
    assert (result.exit_code, result.output) == (3, "")


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("code", ["raise KeyboardInterrupt", "raise click.Abort"])
def test_an_interrupt_is_one_line(code: str) -> None:
    result = fail_with(code)
    assert result.exit_code == INTERRUPTED
    assert result.stderr == "p3mdata: interrupted; run the same command again to go on\n"


def test_a_reader_that_leaves_is_no_error(failing: dict[str, str]) -> None:
    process = in_a_process("for n in range(10 ** 6): print(n)", failing)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=20) == 1


def test_a_reader_that_leaves_before_a_short_answer(failing: dict[str, str]) -> None:
    process = in_a_process("import time; time.sleep(0.3); print('short')", failing)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=20) == 1
