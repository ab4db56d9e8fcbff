"""The command as a user meets it: how long `--help` takes, and what installing it costs."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import REPOSITORY, run_command

from p3m_data.errors import P3MError

HELP_RUNS = 7
NEVER_INSTALLED = shutil.ignore_patterns(
    ".*", "build", "dist", "demo", "*.egg-info", "__pycache__", "tests", "benchmarks"
)
"""A copy is installed: pip builds in the tree, where its leftovers would get into a later wheel."""


def help_seconds() -> float:
    """Median wall time of `p3mdata --help` in a new process."""
    command = Path(sys.executable).with_name("p3mdata")
    return statistics.median(_timed([command, "--help"]) for _ in range(HELP_RUNS))


def anonymized(photos: Path, mattes: Path | None, public: Path) -> Path:
    """`public`, made by `p3mdata anonymize`; pictures may wait for a person."""
    command = [Path(sys.executable).with_name("p3mdata"), "anonymize", photos, "-o", public, "--json"]
    done = subprocess.run(
        [*command, *(["--mattes", mattes] if mattes else [])], capture_output=True, text=True
    )
    if done.returncode not in (0, 1):
        raise P3MError(f"p3mdata anonymize ended with status {done.returncode}: {done.stderr.strip()}")
    return public


def install(scratch: Path) -> dict[str, Any]:
    """`pip install .` into a new virtual environment: seconds, packages, and megabytes that it adds."""
    code, environment = scratch / "code", scratch / "environment"
    shutil.copytree(REPOSITORY, code, ignore=NEVER_INSTALLED)
    run_command([sys.executable, "-m", "venv", environment])
    before = _bytes(environment), _packages(environment)
    constraints = code / "constraints.txt"
    seconds = _timed([*_pip(environment), "install", "--quiet", "-c", constraints, code])
    return {
        "seconds": round(seconds, 1),
        "megabytes": round((_bytes(environment) - before[0]) / 1e6, 1),
        "packages": _packages(environment) - before[1],
    }


def _pip(environment: Path) -> list[str | Path]:
    return [environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]


def _packages(environment: Path) -> int:
    return len(run_command([*_pip(environment), "list", "--format=freeze"]).split())


def _timed(command: list[str | Path]) -> float:
    begin = time.perf_counter()
    run_command(command)
    return time.perf_counter() - begin


def _bytes(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())
