"""`python -m fuzz TARGET [SECONDS]` fuzzes with atheris; `python -m fuzz TARGET --once PATH...` only tries files.

`python -m fuzz all [SECONDS]` fuzzes every target, two at a time. Findings are written to fuzz/findings/TARGET:
the input, and beside it the traceback. The same fault is written once. Exit 1 where there is one.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import resource
import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

from fuzz import campaign

FINDINGS = Path(__file__).parent / "findings"
NAMES = ("images", "jpeg", "mattes", "masks", "manifest", "settings")
"""Those of `targets.TARGETS`, which must not be imported before atheris is there to instrument it."""
MAX_SECONDS = 10
MAX_MB = 1500
MAX_RISE_MB = 300


def main(words: list[str]) -> int:
    if not words or words[0] not in (*NAMES, "all"):
        print(f"{__doc__}\nTargets: {', '.join(NAMES)}, all", file=sys.stderr)
        return 2
    if words[0] == "all":
        return campaign.run(NAMES, FINDINGS, float(words[1]) if words[1:] else 60)
    name = words[0]
    folder = FINDINGS / name
    folder.mkdir(parents=True, exist_ok=True)
    if words[1:2] == ["--once"]:
        return _once(name, folder, [Path(word) for word in words[2:]])
    return _fuzz(name, folder, float(words[1]) if words[1:] else 60)


def _once(name: str, folder: Path, paths: Iterable[Path]) -> int:
    """Try every file in `paths` and below; untruncated, in this process."""
    from fuzz.targets import TARGETS, try_one

    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    tried, broken, slowest = 0, 0, (0.0, "")
    for file in files:
        if not file.is_file():
            continue
        data, tried, start = file.read_bytes(), tried + 1, time.perf_counter()
        try:
            try_one(TARGETS[name], data)
        except Exception as error:
            broken += 1
            _keep(folder, data, error)
            print(f"{file}: {type(error).__name__}: {error}")
        slowest = max(slowest, (time.perf_counter() - start, str(file)))
    print(f"{name}: {tried} files, {broken} faults, the slowest took {slowest[0]:.1f} s ({slowest[1]})")
    return 1 if broken or slowest[0] > MAX_SECONDS else 0


def _keep(folder: Path, data: bytes, error: Exception) -> None:
    """Write what went wrong and with what, unless the same did before."""
    steps = traceback.extract_tb(error.__traceback__)
    where = [f"{Path(step.filename).name}:{step.lineno}" for step in steps]
    words = re.sub(r"\W|\d", "", str(error))[:30]
    fault = hashlib.sha256(repr((type(error).__name__, words, where)).encode()).hexdigest()[:12]
    file = folder / f"fault-{fault}"
    if file.exists():
        return
    file.write_bytes(data)
    file.with_suffix(".txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")


def _fuzz(name: str, folder: Path, seconds: float) -> int:
    """Never returns where all went well: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["p3m_data", "PIL", "yaml"]):
        from fuzz.contract import must
        from fuzz.targets import CORPUS, TARGETS, mutated, try_one
    target = TARGETS[name]
    grown = folder / "corpus"
    grown.mkdir(exist_ok=True)
    for seed in target.seeds():
        (grown / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)

    def one(data: bytes) -> None:
        try:
            before = _peak()
            try_one(target, data)
            # libFuzzer looks once a second, and then blames whatever input runs
            must(_peak() - before < MAX_RISE_MB, f"one input took {_peak() - before} MB")
        except Exception as error:
            # going on finds more than stopping at the first fault does
            _keep(folder, data, error)

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.25:
            return bytes(atheris.Mutate(data, max_size))
        return mutated(target, data, seed, chance.choice((1, 1, 2, 4)))[:max_size]

    options = {
        "max_total_time": round(seconds),
        "max_len": target.max_bytes,
        "rss_limit_mb": MAX_MB,
        "timeout": MAX_SECONDS,
        "artifact_prefix": f"{folder}/",
        # libFuzzer then speaks through a descriptor of its own, and 1 and 2 are ours to watch
        "close_fd_mask": 3,
        "print_final_stats": 1,
    }
    seeds = [str(grown), str(CORPUS / name), *_more_seeds()]
    arguments = [sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), *seeds]
    atheris.Setup(arguments, one, custom_mutator=change)
    atheris.Fuzz()
    return 0


def _peak() -> int:
    """The most memory, in MB, that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _more_seeds() -> list[str]:
    folder = os.environ.get("P3MDATA_FUZZ_SEEDS")
    return [folder] if folder else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
