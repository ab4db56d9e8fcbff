"""Kills runs over real portraits at random moments, and looks whether what they end with is what it must be.

    python benchmarks/torture.py --kills 200 --seed 1

A kill is SIGKILL to the driver, to one worker, or to the whole process group, at a uniformly random time
between the start of a run and the time that an undisturbed one takes; over a dataset whose pictures are all
done, in the later half of that time, where manifest and reports are written. After each kill every file of the
public side must be whole and one of the undisturbed run's. A run that is not killed in time ends; then all
files and the ledger's records must be equal to the undisturbed run's, and a new dataset is begun.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil  # type: ignore[import-untyped]
from common import RESULTS, machine, machine_line, portraits, positive, table, write_results

from p3m_data.errors import P3MError
from p3m_data.pipeline.dataset import Dataset
from p3m_data.storage.folders import scan
from p3m_data.types import Record, Status

Victim = Literal["driver", "worker", "group"]
VICTIMS: tuple[Victim, ...] = ("driver", "worker", "group")
KEY = "70" * 32
FRUITLESS = 40
"""So many kills without an end of the run, and a dataset gets no further."""
AT_THE_END = 4
"""Kills of runs over each finished dataset."""


@dataclass(frozen=True)
class Place:
    """What is run over, and where."""

    photos: Path
    mattes: Path | None
    scratch: Path
    workers: int


@dataclass(frozen=True)
class Whole:
    """What an undisturbed run makes, and how long it takes."""

    files: dict[str, bytes]
    sheets: dict[str, bytes]
    records: list[Record]
    seconds: float
    seconds_at_the_end: float
    """Of a run over the finished dataset."""


@dataclass
class Tally:
    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(victim, what the run did) -> how many."""
    datasets: int = 0
    partial: int = 0
    """Kills that left a file behind of which only a part was written."""
    differences: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.kills.values())


def main() -> int:
    options = _options()
    chance = random.Random(options.seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="p3mdata-torture-") as name:
        place = _prepared(options, Path(name), chance)
        whole = undisturbed(place)
        tally = Tally()
        while tally.total < options.kills and not tally.differences:
            torture_one(place, whole, tally, options.kills, chance)
            print(f"{tally.total} kills, {tally.datasets} datasets", file=sys.stderr, flush=True)
        pictures = len(whole.records)
    figures = {
        "seed": options.seed,
        "kills_asked_for": options.kills,
        "pictures": pictures,
        "workers": options.workers,
        "seconds_undisturbed": round(whole.seconds, 1),
        "seconds": round(time.monotonic() - began),
        "kills": tally.total,
        "kills_by_victim_and_phase": {f"{who}, {what}": n for (who, what), n in sorted(tally.kills.items())},
        "kills_that_left_part_of_a_file": tally.partial,
        "datasets_compared": tally.datasets,
        "differences": tally.differences,
        "machine": machine(),
    }
    write_results(options.results, "torture", figures, _told(figures, tally))
    return 1 if tally.differences else 0


def undisturbed(place: Place) -> Whole:
    made = _new_dataset(place, "undisturbed")
    seconds = []
    for _ in range(2):
        began = time.monotonic()
        status = _start(place, made).wait()
        seconds.append(time.monotonic() - began)
        if status not in (0, 1, 3):
            raise P3MError(f"the undisturbed run ended with status {status}")
    return Whole(tree(made.public), tree(made.sheets), _records(made), *seconds)


def torture_one(place: Place, whole: Whole, tally: Tally, wanted: int, chance: random.Random) -> None:
    """Kills runs over one new dataset until one ends, then those that only write its manifest and reports."""
    made = _new_dataset(place, f"tortured-{tally.datasets}")
    for _ in range(FRUITLESS):
        if _run_and_kill(place, made, whole, tally, (0.0, whole.seconds), chance):
            break
    else:
        tally.differences.append(f"{FRUITLESS} kills, and no run came to its end")
    for _ in range(AT_THE_END):
        if tally.total < wanted:
            late = (whole.seconds_at_the_end / 2, whole.seconds_at_the_end)
            _run_and_kill(place, made, whole, tally, late, chance)
    # a picture over which two workers were killed has failed
    status = _start(place, made, "--retry-failed").wait()
    if status not in (0, 1, 3):
        tally.differences.append(f"the last run ended with status {status}")
    tally.differences += compare(made, whole)
    tally.datasets += 1
    for side in (made.public, made.private):
        shutil.rmtree(side)


def _run_and_kill(
    place: Place,
    made: Dataset,
    whole: Whole,
    tally: Tally,
    window: tuple[float, float],
    chance: random.Random,
) -> bool:
    """Whether the run came to its end; else it was killed, perhaps after some of its workers were."""
    before = _pending(made)
    process = _start(place, made)
    while True:
        try:
            process.wait(chance.uniform(*window))
        except subprocess.TimeoutExpired:
            pass
        else:
            return True
        victim = chance.choice(VICTIMS)
        if not _kill(process, victim, chance):
            continue
        tally.kills[victim, _phase(before, _pending(made))] += 1
        tally.partial += any(file.name.startswith(".p3mdata-") for file in made.public.rglob(".*"))
        tally.differences += half_done(made, whole)
        if victim != "worker":
            process.wait()
            return False


def _kill(process: subprocess.Popen[bytes], victim: Victim, chance: random.Random) -> bool:
    """False when there was nobody to kill."""
    with suppress(ProcessLookupError, psutil.Error):
        if victim == "driver":
            process.kill()
        elif victim == "group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            children = psutil.Process(process.pid).children()
            workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
            if not workers:
                return False
            chance.choice(workers).kill()
        return True
    return False


def _phase(before: int | None, after: int | None) -> str:
    if after == 0:
        return "while it finished"
    return "while it started" if after is None or after == before else "while it worked"


def _pending(made: Dataset) -> int | None:
    """Pictures still to be done; None before there is a ledger."""
    try:
        with made.ledger() as ledger:
            counts = ledger.counts()
    except P3MError:
        return None
    return counts[Status.PENDING] if sum(counts.values()) else None


def half_done(made: Dataset, whole: Whole) -> list[str]:
    """What is wrong on a public side at which a run was killed."""
    found = tree(made.public)
    visible = {path: data for path, data in found.items() if not Path(path).name.startswith(".")}
    return [
        f"after a kill {path} is not the undisturbed run's"
        for path, data in visible.items()
        if path.startswith("train/") and whole.files.get(path) != data
    ]


def compare(made: Dataset, whole: Whole) -> list[str]:
    """What differs between a dataset and the undisturbed one."""
    wrong = []
    for what, found, expected in (
        ("public file", tree(made.public), whole.files),
        ("sheet", tree(made.sheets), whole.sheets),
    ):
        wrong += [f"{what} {path} is missing" for path in expected.keys() - found.keys()]
        wrong += [f"{what} {path} is too many" for path in found.keys() - expected.keys()]
        wrong += [
            f"{what} {path} differs"
            for path in expected.keys() & found.keys()
            if found[path] != expected[path]
        ]
    if _records(made) != whole.records:
        wrong.append("the ledger's records differ")
    return sorted(wrong)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`, while others may write there: its path -> its bytes."""
    found = {}
    for file in sorted(folder.rglob("*")):
        with suppress(FileNotFoundError, IsADirectoryError):
            found[file.relative_to(folder).as_posix()] = file.read_bytes()
    return found


def _records(made: Dataset) -> list[Record]:
    with made.ledger() as ledger:
        return list(ledger.records())


def _new_dataset(place: Place, name: str) -> Dataset:
    made = Dataset.at(place.scratch / name)
    made.private.mkdir()
    made.key_path.write_text(KEY)
    return made


def _start(place: Place, made: Dataset, *words: str) -> subprocess.Popen[bytes]:
    mattes = [] if place.mattes is None else ["--mattes", str(place.mattes)]
    command = [sys.executable, "-m", "p3m_data.cli", "anonymize", str(place.photos), "-o", str(made.public)]
    with (place.scratch / "log").open("ab") as log:
        return subprocess.Popen(
            [*command, *mattes, "--workers", str(place.workers), *words],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _prepared(options: argparse.Namespace, scratch: Path, chance: random.Random) -> Place:
    """A random choice of pictures, with their mattes, in folders of their own."""
    photos, mattes = options.photos, options.mattes
    if photos is None:
        photos, mattes = portraits() / "images", portraits() / "mattes"
    sources = list(scan(photos, mattes))
    chosen = chance.sample(sources, min(options.pictures, len(sources)))
    place = Place(scratch / "photos", scratch / "mattes", scratch, options.workers)
    for source in chosen:
        _copy(photos, source.path, place.photos)
        if source.matte is not None:
            _copy(mattes, source.matte, scratch / "mattes")
    if not any(source.matte for source in chosen):
        return Place(place.photos, None, scratch, options.workers)
    return place


def _copy(root: Path, path: str, to: Path) -> None:
    (to / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / path, to / path)


def _told(figures: dict[str, Any], tally: Tally) -> str:
    phases = ("while it started", "while it worked", "while it finished")
    rows = [[who, *(tally.kills[who, phase] for phase in phases)] for who in VICTIMS]
    verdict = "\n".join(f"- {line}" for line in tally.differences[:50]) or "None."
    return f"""# Torture

`python benchmarks/torture.py --kills {figures["kills_asked_for"]} --seed {figures["seed"]}`

{figures["kills"]} times SIGKILL at random moments, during runs over {figures["pictures"]} pictures drawn at random,
started again each time until a run came to its end. So {figures["datasets_compared"]} datasets were finished and
compared, file for file and record for record, with the undisturbed one. A subset is used because every kill
costs a start: an undisturbed run took {figures["seconds_undisturbed"]} s, all of it {figures["seconds"]} s.

{table(["killed", *phases], rows)}

{figures["kills_that_left_part_of_a_file"]} of the kills left a part of a file, which the next run removed.

## Differences

{verdict}

{machine_line(figures["machine"])}
"""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Kill runs at random moments and compare what they end with."
    )
    parser.add_argument("--kills", type=positive, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pictures", type=positive, default=8, help="drawn at random (default: 8)")
    parser.add_argument("--workers", type=positive, default=2)
    parser.add_argument("--photos", type=Path, help="default: the test portraits")
    parser.add_argument("--mattes", type=Path)
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder for torture.md and torture.json"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
