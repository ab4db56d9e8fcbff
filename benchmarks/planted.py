"""Plants every kind of fault into a good dataset of real portraits, and looks whether p3mdata finds them all.

    python benchmarks/planted.py [--seed N] [--workers K]

A run anonymizes 16 portraits; `p3mdata validate` and `p3mdata audit` must be silent on what it made. Then each fault
of `tests/inspection/planting*.py` is planted into a copy, and the command must end with status 1 and name the check
and the place. What only many pictures show is planted into a larger run. Needs the extras `test` and `audit`.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from common import REPOSITORY, RESULTS, machine, machine_line, portraits, positive, table, write_results
from PIL import Image

from p3m_data.errors import P3MError

sys.path.insert(0, str(REPOSITORY))
from tests.inspection import planting, planting_faces, planting_leaks
from tests.runs import dataset, p3mdata

COUNT = 16
MOST_PIXELS = 1_100_000
SOFT = 0.003
"""A matte with a smaller share of soft pixels is a cut-out, which `validate` notes."""
STRANGERS = 40
NOTED = ("swapped mattes", "hard matte", "the same picture twice", "bystanders' faces left")
"""What may be right; a person should look at it."""
NEED_TRIMAPS = ("trimap with another value", "trimap against the matte", "trimap on its side")
Command = tuple[str, ...]
VALIDATE: Command = ("validate",)
AUDIT: Command = ("audit",)
LEAKS, FACES, RECOGNITION = ((*AUDIT, "--only", part) for part in ("leaks", "faces", "recognition"))
Base = Literal["real", "drawn", "many"]


class Case(NamedTuple):
    """A fault, and who must find it."""

    name: str
    command: Command
    check: str
    plant: Callable[[Path], list[str]]
    """Changes the dataset in a folder; the public names at which it must be found."""
    base: Base = "real"


def _cases() -> Iterable[Case]:
    for name, fault in planting.FAULTS.items():
        base: Base = "drawn" if name in NEED_TRIMAPS else "real"
        yield Case(name, VALIDATE, fault.check, partial(_one, partial(planting.planted, fault)), base)
    for name, leak in planting_leaks.FAULTS.items():
        yield Case(name, LEAKS, leak.check, partial(_one, leak.plant))
    for name, left in planting_faces.FAULTS.items():
        yield Case(name, FACES, left.check, partial(planting_faces.plant, left))
    for name, blur in planting_faces.RECOGNISABLE.items():
        yield Case(name, RECOGNITION, blur.check, partial(_everywhere, blur), "many")


def _one(plant: Callable[[Path], str], folder: Path) -> list[str]:
    return [plant(folder)]


def _everywhere(fault: planting_faces.FaceFault, folder: Path) -> list[str]:
    """Names the whole dataset."""
    planting_faces.plant(fault, folder)
    return [""]


CASES = tuple(_cases())


@dataclass(frozen=True)
class Portrait:
    """A portrait that may be chosen."""

    file: Path
    matte: Path | None
    person: str
    faces: int | None
    """As its notes say."""
    small: bool


@dataclass(frozen=True)
class Place:
    scratch: Path
    labels: Path
    workers: int


@dataclass(frozen=True)
class Inspected:
    """What a command said."""

    status: int
    said: dict[str, Any]

    @property
    def found(self) -> set[tuple[str, str, str]]:
        """(check, where, level) of each finding."""
        return {(one["check"], one["where"], one["level"]) for one in self.said["findings"]}


def known_portraits(root: Path) -> list[Portrait]:
    """The test portraits, in the order of their names."""
    found = []
    with (root / "SOURCES.csv").open(newline="") as lines:
        rows = sorted(
            (row for row in csv.DictReader(lines) if row["kind"] == "image"), key=lambda r: r["file"]
        )
    for row in rows:
        file = root / row["file"]
        with Image.open(file) as image:
            small = image.width * image.height <= MOST_PIXELS
        matte = root / "mattes" / f"{file.stem}.png"
        faces = re.search(r"faces: (\d+)", row["notes"])
        there = matte if matte.is_file() else None
        found.append(Portrait(file, there, row["identity"], int(faces[1]) if faces else None, small))
    return found


def choose(known: list[Portrait], chance: random.Random) -> list[Portrait]:
    """`COUNT` small portraits with soft mattes; among them PNGs, several faces in one, and two people twice."""
    small = [one for one in known if one.small and one.faces != 0]
    fit = [one for one in small if one.matte is not None and _is_soft(one.matte)]
    chosen = chance.sample([one for one in fit if one.file.suffix == ".png"], 2)
    chosen += chance.sample([one for one in fit if (one.faces or 0) > 1], 2)
    for own in chance.sample(list(_several(fit).values()), 2):
        chosen += chance.sample(own, 2)
    chosen = list(dict.fromkeys(chosen))
    return chosen + chance.sample([one for one in fit if one not in chosen], COUNT - len(chosen))


def choose_many(known: list[Portrait], chance: random.Random) -> list[Portrait]:
    """Everybody of whom there are several photos, and strangers."""
    several = [one for own in _several(known).values() for one in own]
    others = [one for one in known if one not in several and one.faces == 1 and one.small]
    return several + chance.sample(others, min(STRANGERS, len(others)))


def _several(known: list[Portrait]) -> Mapping[str, list[Portrait]]:
    people = defaultdict(list)
    for one in known:
        if one.person and ";" not in one.person:
            people[one.person].append(one)
    return {person: own for person, own in people.items() if len(own) > 1}


def _is_soft(matte: Path) -> bool:
    alpha = cv2.imread(str(matte), cv2.IMREAD_GRAYSCALE)
    return alpha is not None and float(np.mean((alpha > 10) & (alpha < 245))) > SOFT


def make(chosen: list[Portrait], place: Place, name: str, *options: str) -> Path:
    """The dataset `out` in a folder `name`, by `p3mdata anonymize`; that folder."""
    folder = place.scratch / name
    photos, mattes = folder / "photos", folder / "mattes"
    photos.mkdir(parents=True)
    mattes.mkdir()
    for one in chosen:
        shutil.copy2(one.file, photos)
        if one.matte is not None:
            shutil.copy2(one.matte, mattes)
    out = dataset(folder / "out").public
    workers = ("--workers", str(place.workers))
    done = p3mdata("anonymize", photos, "--mattes", mattes, "-o", out, *workers, *options)
    if done.returncode not in (0, 1):
        raise P3MError(f"p3mdata anonymize ended with status {done.returncode}: {done.stderr.strip()}")
    return folder


def inspect(out: Path, command: Command, place: Place) -> Inspected:
    """What `p3mdata COMMAND` says of the dataset `out`."""
    words: list[str | Path] = ["--workers", str(place.workers), "--json", "--report", out.parent / "report"]
    if command[0] == "audit" and command != LEAKS:
        words += ["--labels", place.labels]
    done = p3mdata(command[0], out, *command[1:], *words)
    if done.returncode not in (0, 1):
        raise P3MError(f"p3mdata {command[0]} ended with status {done.returncode}: {done.stderr.strip()}")
    return Inspected(done.returncode, json.loads(done.stdout))


def plant(case: Case, good: Path, before: Inspected, place: Place) -> dict[str, Any]:
    """What became of one fault. before: what the same command says of the good dataset."""
    row = {
        "fault": case.name,
        "command": " ".join(case.command),
        "check": case.check,
        "dataset": case.base,
    }
    with tempfile.TemporaryDirectory(dir=place.scratch) as name:
        copy = Path(name)
        for side in ("out", "out.private"):
            shutil.copytree(good / side, copy / side)
        try:
            names = case.plant(copy / "out")
        except OSError as error:
            return row | {"not_planted": error.strerror}
        after = inspect(copy / "out", case.command, place)
        return row | judge(case.check, names, before, after, may_be_noted=case.name in NOTED)


def judge(
    check: str, names: list[str], before: Inspected, after: Inspected, *, may_be_noted: bool = False
) -> dict[str, Any]:
    """Whether a finding of `check` that was not there before names each place, and the status says so."""
    new = [(where, level) for found, where, level in after.found - before.found if found == check]
    levels = []
    for name in names:
        seen = {level for where, level in new if where == name or (name and name in where)}
        levels += ["fault"] if "fault" in seen else sorted(seen)
    counted = Counter(levels)
    enough = len(levels) == len(names) if may_be_noted else counted["fault"] == len(names)
    return {
        "planted": len(names),
        "levels": dict(counted),
        "status": after.status,
        "found": bool(names) and enough and after.status == bool(after.said["faults"]),
    }


def silence(said: Inspected, what: str, command: Command) -> dict[str, Any]:
    """What a command said of a good dataset."""
    findings = said.said["findings"]
    made = [one for one in said.said["looked"] if one["at"] or not one["why_not"]]
    return {
        "dataset": what,
        "command": " ".join(command),
        "pictures": said.said["pictures"],
        "checks": len(made),
        "faults": said.said["faults"],
        "notes": dict(Counter(one["check"] for one in findings if one["level"] == "note")),
        "fault_checks": sorted({one["check"] for one in findings if one["level"] == "fault"}),
        "status": said.status,
    }


def planted(place: Place, chance: random.Random, root: Path) -> dict[str, Any]:
    """All figures but the machine's."""
    known = known_portraits(root)
    goods = {
        "real": make(choose(known, chance), place, "real"),
        "many": make(choose_many(known, chance), place, "many"),
        "drawn": place.scratch / "drawn",
    }
    planting.good_dataset(goods["drawn"])
    facts = contents(goods["real"])
    before, silent = {}, []
    for base, command in (("real", VALIDATE), ("real", AUDIT), ("drawn", VALIDATE), ("many", RECOGNITION)):
        said = inspect(goods[base] / "out", command, place)
        silent.append(silence(said, base, command))
        before[base, command[0]] = said
    rows = []
    for case in CASES:
        rows.append(plant(case, goods[case.base], before[case.base, case.command[0]], place))
        if not rows[-1].get("found"):
            print(f"not found: {rows[-1]}", file=sys.stderr)
    return {"good": facts, "silent": silent, "faults": rows}


def contents(good: Path) -> dict[str, Any]:
    """What the good dataset holds; `P3MError` when it lacks what some faults need."""
    out = good / "out"
    published = sorted((out / "train" / "blurred_image").iterdir())
    kinds = Counter(file.suffix.removeprefix(".").upper() for file in published)
    shown = planting_faces.shown(out)
    bystanders = sum(bool(one.bystanders) for one in shown)
    if not (kinds["PNG"] and kinds["JPG"] and bystanders):
        raise P3MError("the chosen portraits lack a PNG, a JPEG or a bystander; choose others with --seed")
    return {
        "pictures": len(published),
        "by_format": dict(kinds),
        "faces": sum(len(one.subject) + len(one.bystanders) for one in shown),
        "pictures_with_bystanders": bystanders,
    }


def told(figures: dict[str, Any]) -> str:
    good, rows = figures["good"], [row for row in figures["faults"] if "not_planted" not in row]
    found = [row for row in rows if row["found"]]
    notes = sum("fault" not in row["levels"] for row in found)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(good["by_format"].items()))
    silent = [
        (one["dataset"], f"`{one['command']}`", one["pictures"], one["checks"], one["faults"],
         sum(one["notes"].values())) for one in figures["silent"]
    ]  # fmt: skip
    head = ("fault", "found by", "level", "status", "dataset", "found")
    lines = [
        "# Planted faults", "",
        f"`{figures['command']}`", "", machine_line(figures["machine"]), "",
        f"{good['pictures']} portraits drawn at random ({kinds}; {good['faces']} masked faces, in "
        f"{good['pictures_with_bystanders']} pictures also a bystander's) were anonymized by `p3mdata anonymize`. "
        "Each fault was planted into a copy, and the command was run on that as a user does.", "",
        f"**{len(found)} of {len(rows)} planted faults were found** where they are: {len(found) - notes} as "
        f"faults (status 1), {notes} as notes. All of it took {figures['seconds'] / 60:.0f} minutes.", "",
        "## Without faults", "",
        table(("dataset", "command", "pictures", "checks made", "faults", "notes"), silent), "",
        "*real*: the portraits. *drawn*: ten drawn pictures with trimaps, which a run does not write. *many*: "
        "everybody of whom there are several portraits, and strangers, anonymized with the default settings, "
        "without mattes where there are none.", "",
    ]  # fmt: skip
    for command, own in _by_command(figures["faults"]).items():
        lines += [f"## Found by `p3mdata {command}`", "", table(head, map(_cells, own)), ""]
    lines += [
        "A note is what may be right and a person should look at; the status is then 1 when something else is wrong "
        "with that copy, too. All else counts as found when it is a fault. Faces were left and weakly blurred in "
        "every picture that has them, by somebody who made facemask, manifest and ledger true as well (a run itself "
        "blurs again where detail is left). Bystanders of whom the run is not sure were not left: they are out of "
        "focus, or no faces, and the audit does not call what is out of focus a face.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _by_command(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["command"], []).append(row)
    return found


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    if "not_planted" in row:
        return row["fault"], row["check"], "", "", row["dataset"], f"not planted ({row['not_planted']})"
    levels, planted = row["levels"], row["planted"]
    level = " and ".join(f"{count} {name}" if planted > 1 else name for name, count in levels.items())
    found = f"{sum(levels.values())} of {planted}" if planted > 1 else ""
    said = ("yes " if row["found"] else "**no** ") + found
    return row["fault"], row["check"], level, row["status"], row["dataset"], said.strip()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=2021)
    parser.add_argument("--workers", type=positive, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    facts, began, root = machine(), time.monotonic(), portraits()
    with tempfile.TemporaryDirectory(prefix="p3mdata-planted-") as scratch:
        place = Place(Path(scratch), root / "SOURCES.csv", given.workers)
        figures = planted(place, random.Random(given.seed), root)
    options = [f"--seed {given.seed}"] if given.seed != 2021 else []
    figures = {
        "command": " ".join(["python benchmarks/planted.py", *options]),
        "machine": facts,
        "seconds": round(time.monotonic() - began),
        **figures,
    }
    write_results(given.results, "planted", figures, told(figures))
    silent = all(one["status"] == 0 for one in figures["silent"])
    return 0 if silent and all(row.get("found", True) for row in figures["faults"]) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except P3MError as error:
        sys.exit(f"planted.py: {error}")
