"""What the benchmarks share: where the test pictures are, facts of the machine, tables, results files."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from p3m_data.errors import P3MError, UsageError

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results"
LIBRARIES = ("p3mdata", "numpy", "opencv-python-headless", "Pillow", "mediapipe", "pydantic")


def portraits() -> Path:
    """The folder of test portraits; raises `UsageError` when it is not there."""
    root = Path(os.environ.get("P3MDATA_TEST_DATA", REPOSITORY.parent / "shared"))
    if not (root / "portraits" / "images").is_dir():
        raise UsageError(
            "the test pictures are not here; set P3MDATA_TEST_DATA to the folder that holds portraits/, "
            "or name your own with --photos and --mattes"
        )
    return root / "portraits"


def machine() -> dict[str, Any]:
    """What figures depend on, and nothing that names the machine or its user."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "load_before": round(os.getloadavg()[0], 1),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def machine_line(facts: dict[str, Any]) -> str:
    libraries = ", ".join(f"{name} {number}" for name, number in facts["libraries"].items())
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['system']}, Python {facts['python']}, {libraries}. "
        f"Load average when it began: {facts['load_before']}."
    )


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines: list[Sequence[object]] = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def write_results(folder: Path, name: str, figures: dict[str, Any], text: str) -> None:
    """NAME.json and NAME.md in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    (folder / f"{name}.md").write_text(text)
    print(text)


def run_command(command: Sequence[str | Path]) -> str:
    """What `command` prints; raises `P3MError` with its complaint when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise P3MError(f"{Path(command[0]).name} ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def positive(text: str) -> int:
    """A command line's whole number of at least 1."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
