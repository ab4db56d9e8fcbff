"""Every target in a process of its own, and what came of it in a line each."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

JOBS = 2
_GRACE = 120
"""Seconds for starting, reading the corpus and the last input, beyond those of fuzzing."""


def run(names: tuple[str, ...], findings: Path, seconds: float) -> int:
    """Fuzz `names`, `JOBS` at a time; 1 where a target has findings or its process failed."""
    with ThreadPoolExecutor(JOBS) as pool:
        bad = list(pool.map(lambda name: _one(name, findings / name, seconds), names))
    return int(any(bad))


def _one(name: str, folder: Path, seconds: float) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "fuzz", name, str(seconds)]
        try:
            code: int | None = subprocess.run(
                command, stdout=out, stderr=subprocess.STDOUT, timeout=seconds + _GRACE, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    said = log.read_text("utf-8", "replace")
    tried, covered = _last(r"executed_units: +(\d+)", said), _last(r"cov: (\d+)", said)
    found = inputs(folder)
    # a process that ends before its time without a word has not fuzzed
    failed = code != 0 or tried == "no"
    ended = "did not end" if code is None else f"ended with {code}, see {log}" if failed else "ended well"
    print(
        f"{name}: {tried} inputs tried, {covered} branches covered, {len(found)} findings, {ended}",
        flush=True,
    )
    for file in found:
        print(f"  {file}", flush=True)
    return bool(found) or failed


def inputs(folder: Path) -> list[Path]:
    """What was found for a target: faults of ours, and libFuzzer's crashes, timeouts and the like."""
    kinds = ("fault-", "crash-", "timeout-", "oom-", "leak-")
    return sorted(p for p in folder.iterdir() if p.name.startswith(kinds) and p.suffix != ".txt")


def _last(pattern: str, text: str) -> str:
    found = re.findall(pattern, text)
    return found[-1] if found else "no"
