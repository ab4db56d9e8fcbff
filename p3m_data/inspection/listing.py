"""Listing: what the names of a dataset's files, its manifest and its list of checksums say, without the pictures."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pydantic import ValidationError

from p3m_data.errors import StorageError
from p3m_data.inspection.findings import Finding, Level
from p3m_data.inspection.ids import ID
from p3m_data.inspection.statistics import rank_correlation
from p3m_data.storage.folders import locate
from p3m_data.storage.layouts import MANIFEST, SUMS, Layout, Sample, is_text
from p3m_data.types import ManifestRow

NAMES = {
    "matte": "matte",
    "trimap": "trimap",
    "facemask": "facemask",
    "foreground": "foreground",
    "background": "background",
}
FEW = 9
"""So many ids in the order of their sources are no accident (1 in 180,000)."""
FAR = 5.0
"""Standard deviations beyond which a rank correlation is no accident."""
DENSE = 1000
"""Ids that lie closer than this on average are counted, not drawn."""
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def layout_findings(layout: Layout) -> Iterator[Finding]:
    """What is wrong with the names of the files."""
    if not layout.samples:
        yield Finding(check="dataset_empty", where="", said="The dataset holds no pictures.")
    yield from _missing(layout)
    for role, path in layout.lone:
        yield Finding(check="mates", where=path, said=f"This {NAMES[role]} has no picture of its name.")
    for kept, other in layout.doubles:
        said = f"It has the same name as {kept}, only another suffix; which one counts is not clear."
        yield Finding(check="double_stems", where=other, said=said)
    for image, mate in layout.casings:
        said = f"Its name differs from {image} in upper and lower case."
        yield Finding(check="name_case", where=mate, said=said)
    plain = layout.kind == "pairs"
    for sample in layout.samples:
        for path in sample.files.values():
            suffix = posixpath.splitext(path)[1]
            if suffix != suffix.lower():
                said = f"The suffix {suffix} is not lower case, so programs that look for {suffix.lower()} miss it."
                yield Finding(check="name_case", where=path, said=said, level="note" if plain else "fault")
    level: Level = "fault" if layout.kind == "p3mdata" else "note"
    for path in layout.strays:
        said = "It belongs to no picture and is no known file of a dataset."
        yield Finding(check="stray_files", where=path, said=said, level=level)


def _missing(layout: Layout) -> Iterator[Finding]:
    """Pictures that lack what their split holds; in plain folders, how many."""
    counts: Counter[str] = Counter()
    for sample in layout.samples:
        for role in sorted(_expected(layout, sample) - sample.files.keys()):
            if layout.kind == "pairs":
                counts[role] += 1
            else:
                said = f"This picture has no {NAMES[role]}."
                yield Finding(check="mates", where=sample.files["image"], said=said)
    for role, count in sorted(counts.items()):
        said = f"{count} of {len(layout.samples)} pictures have no {NAMES[role]}."
        yield Finding(check="mates", where="", said=said, level="note", value=count)


def _expected(layout: Layout, sample: Sample) -> set[str]:
    roles = set(layout.roles.get(sample.split, ())) - {"image"}
    if layout.kind == "p3mdata":
        # a dataset of ours may hold pictures without mattes; the manifest says which
        return roles if "matte" in sample.files else roles & {"facemask"}
    return roles


def index_manifest(manifest: Path) -> tuple[dict[str, tuple[int, int]], list[Finding]]:
    """Id -> where its line begins and how long it is, and what is wrong with the lines."""
    rows: dict[str, tuple[int, int]] = {}
    findings = []
    begin = 0
    try:
        with manifest.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                said = _row_problem(line, rows, begin)
                if said is not None:
                    findings.append(_of_file("manifest_rows", manifest.name, f"Line {number} {said}."))
                begin += len(line)
    except OSError as error:
        raise StorageError(f"Cannot read the manifest {manifest}: {error.strerror or error}.") from error
    return rows, findings


def _row_problem(line: bytes, rows: dict[str, tuple[int, int]], begin: int) -> str | None:
    """Take up the row in `line`; what is wrong with it."""
    try:
        row = ManifestRow.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        return f"is not a manifest row ({where}: {first['msg']})" if where else "is not a manifest row"
    if row.id in rows:
        return f"has the id {row.id}, which an earlier line has"
    rows[row.id] = begin, len(line)
    return None


class Sums:
    """The list of checksums of a dataset, ticked off file by file."""

    def __init__(self, layout: Layout, listed: dict[str, bytes], findings: list[Finding]) -> None:
        self._layout = layout
        self._listed = listed
        self._findings = findings
        self.count = len(listed)

    @classmethod
    def read(cls, layout: Layout) -> Sums | None:
        """The list in the dataset's folder, None when there is none."""
        file = layout.root / SUMS
        if not file.is_file():
            return None
        try:
            return cls(layout, *cls._parse(file))
        except OSError as error:
            raise StorageError(f"{file} cannot be read ({error.strerror}); allow reading it.") from error

    @staticmethod
    def _parse(file: Path) -> tuple[dict[str, bytes], list[Finding]]:
        listed: dict[str, bytes] = {}
        findings = []
        with file.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                found = _LINE.fullmatch(line.rstrip("\r\n"))
                if found is None:
                    findings.append(_of_file("sums_file", SUMS, f"Line {number} is not a sha256 and a path."))
                    continue
                path = found[2].removeprefix("./")
                if path in listed or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                    said = f"Line {number} names a file twice, or one outside the dataset."
                    findings.append(_of_file("sums_file", SUMS, said))
                else:
                    listed[path] = bytes.fromhex(found[1])
        return listed, findings

    def compare(self, sums: Mapping[str, bytes]) -> Iterator[Finding]:
        """What is wrong with the files `sums` (path -> sha256)."""
        for path, digest in sums.items():
            listed = self._listed.pop(path, None)
            if listed is None:
                yield _of_file("sums_file", path, f"{SUMS} does not list this file.")
            elif listed != digest:
                yield _of_file("sums_file", path, f"The file's sha256 is not the one in {SUMS}.")

    def rest(self) -> list[Finding]:
        """What is wrong with the list itself, and with the files that are no picture's; to be asked at the end."""
        here = {file.name for file in self._layout.root.iterdir() if file.is_file()} - {SUMS}
        others = {name for name in here if name == MANIFEST or is_text(name)} | {
            path for path in self._listed if locate(self._layout.root, path).is_file()
        }
        findings = list(self._findings)
        for path in sorted(others):
            try:
                digest = _sha256(locate(self._layout.root, path))
            except OSError as error:
                self._listed.pop(path, None)
                findings.append(_of_file("sums_file", path, f"It cannot be read ({error.strerror})."))
            else:
                findings += self.compare({path: digest})
        return findings + [
            _of_file("sums_file", path, f"{SUMS} lists this file, but it is not there.")
            for path in sorted(self._listed)
        ]


def pattern_findings(samples: Iterable[Sample]) -> Iterator[Finding]:
    """Names that are no ids."""
    for sample in samples:
        if not ID.fullmatch(sample.name):
            said = "It is not named by an id (p_ and 8 or more hex digits)."
            yield Finding(check="id_pattern", where=sample.files["image"], said=said)


class _Source(NamedTuple):
    name: str
    path: str
    mtime_ns: int


def order_findings(names: Sequence[str], sources: Sequence[tuple[str, str, int]]) -> list[Finding]:
    """Whether the ids `names` are counted, or sort as the sources (id, path, time) do."""
    findings = []
    numbers = sorted(int(name[2:], 16) for name in names)
    if len(numbers) > 2 and numbers[-1] - numbers[0] < DENSE * len(numbers):
        findings.append(_of_file("id_order", "", "The ids are consecutive numbers, which tell an order."))
    known = [_Source(*source) for source in sources if ID.fullmatch(source[0])]
    ids = [int(source.name[2:], 16) for source in known]
    for what, values in (
        ("names", [source.path for source in known]),
        ("times", [source.mtime_ns for source in known]),
    ):
        if _follow(ids, values):
            said = f"The ids sort as the {what} of the originals do."
            findings.append(_of_file("id_order", "", said))
    return findings


def _follow(ids: Sequence[int], values: Sequence[str] | Sequence[int]) -> bool:
    """Whether the ranks of `ids` and `values` are correlated beyond accident."""
    count = len(ids)
    if count < FEW or len(set(values)) < FEW:
        return False
    rho = rank_correlation(ids, values)
    return abs(rho) > 1 - 1e-9 or abs(rho) * (count - 1) ** 0.5 > FAR


def _sha256(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _of_file(check: str, where: str, said: str) -> Finding:
    return Finding(check=check, where=where, said=said)
