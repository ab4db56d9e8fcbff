"""How fast `p3mdata anonymize` is, and how much of its time goes beyond the bare steps that it consists of.

    python benchmarks/anonymize.py [--photos DIR --mattes DIR] [--workers 1,2] [--limit N] [--repeat K] [--install]

For each number of workers: a whole run into a new dataset, watched from outside; then, in as many workers,
every picture once more as a whole and as bare steps, in turns, so that both meet the same load of a shared
machine. The order of the worker counts turns from round to round, and figures are medians over the rounds.
Pictures come in a shuffled order (the same every time), so that the first quarter is like the others.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from command import help_seconds, install
from common import RESULTS, machine, machine_line, portraits, positive, table, write_results
from measuring import STEPS, Pair, Run, Seconds, paired_steps, whole_run

from p3m_data.errors import P3MError
from p3m_data.storage.folders import locate, scan

SEED = 20210401
MEGA = 1e6


def shuffled(photos: Path, mattes: Path | None, limit: int | None, to: Path) -> tuple[Path, Path | None]:
    """Folders of links to the pictures and to their mattes, in a random order that is always the same."""
    sources = list(scan(photos, mattes))
    random.Random(SEED).shuffle(sources)
    new_photos, new_mattes = to / "photos", to / "mattes"
    new_photos.mkdir()
    new_mattes.mkdir()
    for number, source in enumerate(sources[:limit]):
        _link(locate(photos, source.path), new_photos, number)
        if mattes is not None and source.matte is not None:
            _link(locate(mattes, source.matte), new_mattes, number)
    return new_photos, new_mattes if any(new_mattes.iterdir()) else None


def _link(file: Path, folder: Path, number: int) -> None:
    (folder / f"{number:06}{file.suffix}").symlink_to(file.resolve())


def measure(
    photos: Path, mattes: Path | None, workers: Sequence[int], rounds: int, scratch: Path
) -> dict[int, dict[str, Any]]:
    """Figures by number of workers."""
    runs: dict[int, list[Run]] = {count: [] for count in workers}
    pairs: dict[int, list[list[Pair]]] = {count: [] for count in workers}
    for number in range(rounds):
        for count in workers if number % 2 == 0 else reversed(workers):
            print(f"round {number + 1} of {rounds}, workers: {count}", file=sys.stderr, flush=True)
            dataset = scratch / f"dataset-{number}-{count}"
            runs[count].append(whole_run(photos, mattes, dataset, count))
            pairs[count].append(paired_steps(photos, mattes, dataset, count))
    return {count: _figures(count, runs[count], pairs[count]) for count in workers}


def _figures(workers: int, runs: list[Run], rounds: list[list[Pair]]) -> dict[str, Any]:
    pictures = len(runs[0].pictures)
    stages = dict.fromkeys(stage for seconds in runs[0].pictures for stage in seconds)
    in_workers = [_seconds(p.whole for p in pairs) / _seconds(p.bare for p in pairs) for pairs in rounds]
    around = [run.steady * workers / _seconds(run.pictures) for run in runs]
    return {
        "pictures": pictures,
        "wall_seconds": _median(run.wall for run in runs),
        "wall_seconds_without_start": _median(run.steady for run in runs),
        "pictures_a_second": _median(pictures / run.wall for run in runs),
        "pictures_a_second_without_start": _median(pictures / run.steady for run in runs),
        "stages": {stage: _spent([run.pictures for run in runs], stage) for stage in stages},
        "paired_stages": {s: _spent([[p.whole for p in pairs] for pairs in rounds], s) for s in stages},
        "bare_steps": {step: _spent([[p.bare for p in pairs] for pairs in rounds], step) for step in STEPS},
        "worker_over_bare": _median(in_workers),
        "run_over_worker": _median(around),
        "whole_over_bare": _median(a * b for a, b in zip(in_workers, around, strict=True)),
        "driver_peak_mb": _peaks(runs, "driver"),
        "worker_peak_mb": _peaks(runs, "worker"),
    }


def _seconds(pictures: Iterable[Seconds]) -> float:
    return sum(sum(seconds.values()) for seconds in pictures)


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)


def _spent(rounds: list[list[Seconds]], stage: str) -> dict[str, float]:
    """Milliseconds of the median picture and seconds in all, of one worker's time."""
    spent = [[seconds.get(stage, 0.0) for seconds in pictures] for pictures in rounds]
    return {
        "median_ms": _median(1000 * statistics.median(values) for values in spent),
        "total_s": _median(sum(values) for values in spent),
    }


def _peaks(runs: list[Run], who: str) -> dict[str, float]:
    """Megabytes after a quarter, half and all of the pictures."""
    count = len(runs[0].peaks)
    after = {"quarter": -(-count // 4), "half": -(-count // 2), "all": count}
    return {
        name: _median(getattr(run.peaks[done - 1], who) / MEGA for run in runs)
        for name, done in after.items()
    }


def report(results: dict[str, Any]) -> str:
    by_workers = results["workers"]
    parts = ["# Anonymize", "", _introduction(results), "", _overview(by_workers)]
    if "speed_up" in results:
        parts += ["", _speed_up(results["speed_up"])]
    for count, figures in by_workers.items():
        parts += ["", f"## Workers: {count}", "", _stage_table(figures)]
    parts += ["", "## Memory", "", _memory(by_workers), "", "## The command", "", _command(results)]
    return "\n".join([*parts, "", machine_line(results["machine"]), ""])


def _introduction(results: dict[str, Any]) -> str:
    pictures = next(iter(results["workers"].values()))["pictures"]
    return (
        f"{pictures} pictures, {results['with_matte']} with a matte; medians of {results['rounds']} round(s).\n"
        "*Bare* is the sum of decoding picture and matte (Pillow alone), proposing, landmarks of every proposal,\n"
        "and encoding picture, facemask and matte. *Whole over bare* is a worker's seconds for a picture over the\n"
        "bare seconds, measured in turns, times what the run takes beyond its workers' seconds (waiting, ledger,\n"
        "manifest; start-up left out)."
    )


def _overview(by_workers: dict[int, dict[str, Any]]) -> str:
    keys = {
        "pictures a second": "pictures_a_second",
        "pictures a second, without start-up": "pictures_a_second_without_start",
        "wall seconds": "wall_seconds",
        "wall seconds, without start-up": "wall_seconds_without_start",
        "whole over bare": "whole_over_bare",
        "of which in the worker": "worker_over_bare",
        "of which around it": "run_over_worker",
    }
    rows = [[words, *(f"{f[key]:.2f}" for f in by_workers.values())] for words, key in keys.items()]
    return table(["workers", *by_workers], rows)


def _speed_up(figures: dict[str, Any]) -> str:
    return (
        f"With {figures['workers']} workers the run is {figures['without_start']:.2f} times as fast as with one, "
        f"start-up included {figures['with_start']:.2f} times."
    )


def _stage_table(figures: dict[str, Any]) -> str:
    rows = []
    for kind, found in (("whole", figures["paired_stages"]), ("bare", figures["bare_steps"])):
        for name, spent in found.items():
            rows.append([f"{kind}: {name}", f"{spent['median_ms']:.1f}", f"{spent['total_s']:.1f}"])
        total = sum(spent["total_s"] for spent in found.values())
        rows.append([f"{kind}: all", "", f"{total:.1f}"])
    return table(["stage", "ms, median picture", "worker seconds"], rows)


def _memory(by_workers: dict[int, dict[str, Any]]) -> str:
    rows = [
        [f"{who}, workers: {count}", *(f"{peak:.0f}" for peak in figures[f"{who}_peak_mb"].values())]
        for count, figures in by_workers.items()
        for who in ("driver", "worker")
    ]
    head = ["peak resident memory, MB, after", "a quarter", "half", "all of the pictures"]
    return table(head, rows)


def _command(results: dict[str, Any]) -> str:
    said = f"`p3mdata --help` takes {results['help_seconds']:.2f} s."
    if found := results.get("install"):
        said += (
            f" `pip install .` into a new virtual environment takes {found['seconds']:.0f} s "
            f"and adds {found['megabytes']:.0f} MB in {found['packages']} packages."
        )
    return said


def main() -> None:
    given = _arguments()
    if given.photos is None:
        given.photos, given.mattes = portraits() / "images", portraits() / "mattes"
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="p3mdata-") as name:
        scratch = Path(name)
        photos, mattes = shuffled(given.photos, given.mattes, given.limit, scratch)
        by_workers = measure(photos, mattes, given.workers, given.repeat, scratch)
        results = {
            "machine": facts,
            "rounds": given.repeat,
            "with_matte": 0 if mattes is None else len(list(mattes.iterdir())),
            "help_seconds": round(help_seconds(), 3),
            "workers": by_workers,
        }
        if len(given.workers) > 1 and 1 in by_workers:
            most = max(given.workers)
            one, more = by_workers[1], by_workers[most]
            results["speed_up"] = {
                "workers": most,
                "with_start": round(one["wall_seconds"] / more["wall_seconds"], 3),
                "without_start": round(
                    one["wall_seconds_without_start"] / more["wall_seconds_without_start"], 3
                ),
            }
        if given.install:
            results["install"] = install(scratch)
    write_results(given.results, "anonymize", results, report(results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="folder of pictures (default: the test portraits)")
    parser.add_argument("--mattes", type=Path, help="folder of their mattes")
    parser.add_argument("--workers", type=_counts, default=[1, 2], help="numbers of workers (default: 1,2)")
    parser.add_argument("--limit", type=positive, help="only N pictures, chosen at random")
    parser.add_argument("--repeat", type=positive, default=1, help="rounds (default: 1)")
    parser.add_argument("--install", action="store_true", help="install into a new environment, too")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return parser.parse_args()


def _counts(text: str) -> list[int]:
    return [positive(part) for part in text.split(",")]


if __name__ == "__main__":
    try:
        main()
    except P3MError as error:
        sys.exit(f"benchmarks/anonymize.py: {error}")
