"""Leaks: does anything but the pixels leave? What is public is compared with what may be there.

Every file, name, attribute and value of the public side has a known shape; what has another one is named.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue, ValidationError

from p3m_data.errors import StorageError
from p3m_data.inspection.findings import About, Finding, Level, Looked
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.engines import WorkerLost, run_local
from p3m_data.storage.images import Limits
from p3m_data.storage.layouts import Layout
from p3m_data.storage.manifest import canonical_json, manifest_row
from p3m_data.storage.structure import Part, foreign_parts
from p3m_data.storage.weights import registry
from p3m_data.types import Frozen, ManifestRow, Record, Status

ABOUT: Mapping[str, About] = {
    "foreign_bytes": About(
        "Bytes that are no pixels",
        "Every public picture holds only what is needed to decode its 8-bit pixels: no metadata, thumbnail, "
        "second picture, colour under transparency, or bytes before, between or behind its parts.",
        "That the pixels, or the choice of tables and filters that code them, hide no message: a text in the "
        "picture, a watermark, steganography.",
    ),
    "public_names": About(
        "Files and names that do not belong there",
        "Every file and folder is one that the layout knows; in a dataset of p3mdata every picture is named by "
        "its id, so no name can be a source's.",
        "That the ids cannot be computed from the sources, or, for a foreign dataset, that its names tell nothing.",
    ),
    "file_kinds": About(
        "Links and special files",
        "Every entry is a plain file of one name, or a folder; nothing points out of the dataset.",
        "What a later copy or archive program makes of them.",
    ),
    "file_attributes": About(
        "Attributes kept beside files",
        "The file system keeps no extended attribute of any file or folder (where it was downloaded, tags, "
        "access lists).",
        "What another file system adds when the dataset is copied there.",
    ),
    "file_times": About(
        "Times of change",
        "No public file bears its source's time, and sorting by time does not give the order of the sources.",
        "With no private side at hand, only that all pictures bear one time. Archives may add times of their own.",
    ),
    "file_owners": About(
        "Owners and permissions",
        "All files have one owner, group and mode, so that these tell no file from another.",
        "That the owner's name, which archives store, may be known.",
    ),
    "manifest_values": About(
        "Values in the manifest",
        "Every line is the one spelling of a row, in the order of ids, and every value has its known shape: "
        "digests are those of the public files and of published weights, paths are of the row's own files. With "
        "the private side, the row says what the ledger says.",
        "Without the private side, that a number of the right shape was measured and not put there to tell.",
    ),
    "telling_text": About(
        "Private things in public text",
        "Pages and texts hold no path of this or another machine, address, place, list of coordinates, embedded "
        "data or unknown digest. With the private side: no name of a source, nor of the machine, its user or folders.",
        "That a sentence which a person wrote gives nobody away. Names that are plain words are only noted.",
    ),
}

_PICTURE_NAME = re.compile(r"p_[0-9a-f]{8,}\.(jpg|png)")
_TEXTS = re.compile(
    r"README\.(md|txt)|LICEN[CS]E(\.md|\.txt)?|CITATION\.cff|croissant\.json|SHA256SUMS|report(-[0-9]+)?\.html"
)
_FOLDERS = frozenset(
    {"train", "validation", "P3M-500-P", "P3M-500-NP", "blurred_image", "original_image"}
    | {"mask", "trimap", "facemask", "fg", "fg_blurred", "bg"}
)
_LABELS = frozenset({"security.selinux"})
"""Attributes that the system itself gives to every file."""
_TEXT_LIMIT = 64 * 2**20

_SHAPES = {
    "split": re.compile(r"train|validation|val|test|P3M-500-P|P3M-500-NP"),
    "version": re.compile(r"[0-9]+(\.[0-9]+){1,3}((a|b|rc|\.dev|\.post)[0-9]+)?"),
    "digest": re.compile(r"[0-9a-f]{16}"),
    "check": re.compile(
        r"size|transition_untouched|outside_identical|outside_mean|outside_changed|detail_left|faces_left"
    ),
}
_PATTERNS: tuple[tuple[str, re.Pattern[str], Level], ...] = (
    ("an absolute path", re.compile(r"(?<![\w/.:<\\*])/(?:[\w.@+~-]+/)+[\w.@+-]*"), "fault"),
    (
        "a path with a drive or a machine",
        re.compile(r"(?<!\w)[A-Za-z]:\\|(?<![\w/])[A-Za-z]:/\w|\\\\\w+\\\w"),
        "fault",
    ),
    ("a path of a home folder", re.compile(r"(?<![\w~])~\w*/\w"), "fault"),
    ("the address of a local file", re.compile(r"file:/", re.I), "fault"),
    ("embedded data", re.compile(r"data:\w+/[\w.+-]+[;,]|[A-Za-z0-9+/_-]{200,}", re.I), "fault"),
    (
        "something that a browser loads from elsewhere",
        re.compile(
            r"""(?:src|srcset|poster)\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?(?:https?:)?//|"""
            r"""<(?:link|iframe|object|embed)\b[^>]{0,500}(?:https?:)?//|<script|@import""",
            re.I,
        ),
        "fault",
    ),
    (
        "coordinates",
        re.compile(
            r"-?\b\d{1,3}\.\d{4,}\s*[,; ]\s*-?\d{1,3}\.\d{4,}\b|\d{1,3}\s?°\s?\d{1,2}\s?['′]"
            r"|(?:[\[(]\s*-?\d+(?:\.\d+)?\s*,\s*-?\d+(?:\.\d+)?\s*[\])]\s*,?\s*){5}|\bGPS(?:Lat|Long)"
        ),
        "fault",
    ),
    ("an e-mail address", re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,64}\.[\w.-]{2,64}"), "note"),
    ("a time of day", re.compile(r"\b\d{4}[-:]\d\d[-:]\d\d[T ]\d\d:\d\d"), "note"),
)
_HEXES = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{32,}(?![0-9A-Za-z])")
_WORD = re.compile(r"[^\W\d_]+|\d{1,6}")
"""A name that a text may hold for another reason."""
_SUMS_LINE = re.compile(r"([0-9a-f]{64})[ ][ *]([^/\\\n][^\\\n]*)")

OnProgress = Callable[[int, int], None]


class LeaksConfig(Frozen):
    order_limit: float = 0.1
    """Rank correlation of times and sources that is let pass however many pictures there are."""
    order_deviations: float = 3.3
    """So many standard deviations of chance are let pass, too."""
    order_pictures: int = 5
    """Fewer pictures have no order to speak of."""
    shortest_name: int = 4
    """Characters of a source's name below which it is not searched for."""
    parts_told: int = 4
    """Foreign parts that the finding of one picture names."""


DEFAULTS = LeaksConfig()


class Entry(NamedTuple):
    """One thing in the public folder."""

    path: str
    facts: os.stat_result


@dataclass
class _Notes:
    findings: list[Finding] = field(default_factory=list)

    def say(self, check: str, where: str, said: str, level: Level = "fault", **values: float) -> None:
        self.findings.append(Finding(check=check, where=where, said=said, level=level, **values))


@dataclass(frozen=True)
class Private:
    """What the private side tells of that must not be found on the public one."""

    order: dict[str, int]
    """Id -> place of its source in the order of paths."""
    times: dict[str, tuple[int, ...]]
    """Id -> times of change of its source and its matte, in ns."""
    rows: dict[str, str]
    """Id -> digest of what the manifest may say of it, "" where that is nothing."""
    names: frozenset[str]
    """Paths, file names, stems and folder names of the sources."""
    places: frozenset[str]
    """Folders of the private side."""

    @classmethod
    def of(cls, root: Path, private: Path | None) -> Private | None:
        """None without a folder, or where it holds no ledger; `StorageError` when that is damaged."""
        if private is None or not os.path.isfile(private / "ledger.sqlite"):
            return None
        order: dict[str, int] = {}
        times: dict[str, tuple[int, ...]] = {}
        rows: dict[str, str] = {}
        names: set[str] = set()
        with Dataset.at(root, private).ledger() as ledger:
            for number, record in enumerate(ledger.records()):
                for path in filter(None, (record.source, record.matte)):
                    names |= {path, *PurePosixPath(path).parts, PurePosixPath(path).stem}
                if record.status is Status.ANONYMIZED and record.id is not None:
                    order[record.id], rows[record.id] = number, _expected(record)
                    source = ledger.source(record.id)
                    times[record.id] = (source.mtime_ns, source.matte_mtime_ns or 0) if source else ()
            places = {
                str(private.resolve()),
                str(root.resolve()),
                ledger.meta("photos"),
                ledger.meta("mattes"),
            }
        private_places = frozenset(place for place in places if place and len(place) > 4)
        return cls(order, times, rows, frozenset(names), private_places)


def leaks(
    layout: Layout,
    *,
    workers: int = 1,
    private: Path | None = None,
    on_progress: OnProgress = lambda _done, _total: None,
    config: LeaksConfig = DEFAULTS,
) -> tuple[tuple[Finding, ...], tuple[Looked, ...], dict[str, JsonValue]]:
    """What leaves with the dataset beside its pixels: findings, what was looked at, figures by check.

    private: the work folder with the ledger; without it, what needs the sources is not looked at.
    `StorageError` when the dataset's folder cannot be listed or the ledger is damaged.
    """
    notes = _Notes()
    known = Private.of(layout.root, private)
    pictures = {path for sample in layout.samples for path in sample.files.values()}
    pictures |= {mate.path for mate in layout.lone} | {path for pair in layout.doubles for path in pair}
    files, folders = _tree(layout.root, notes)
    _names(layout, files, folders, pictures, notes)
    plain = _kinds(files, notes)
    attributes = _attributes(layout.root, [e.path for e in (*plain, *folders)], notes)
    owners = _owners(plain, notes)
    texts, others = _told_apart(layout, plain)
    digests, bytes_figures = _structure(layout.root, others, workers, config, notes, on_progress)
    shown = [entry for entry in plain if entry.path in pictures]
    times = _times(shown, known, config, notes)
    digests |= {path: _sha256(layout.root / path) for path in texts}
    rows = 0 if layout.manifest is None else _manifest(layout, digests, known, notes)
    for path in texts:
        if layout.root / path != layout.manifest:
            _text(layout.root, path, digests, known, config, notes)
    no_ledger = "" if known else "The private side is not at hand, so nothing was compared with the sources."
    looked = (
        Looked(check="foreign_bytes", at=len(others)),
        Looked(
            check="public_names",
            at=len(files) + len(folders),
            why_not=""
            if layout.kind == "p3mdata"
            else "A foreign dataset's names follow no rule that is known.",
        ),
        Looked(check="file_kinds", at=len(files)),
        attributes,
        Looked(check="file_times", at=len(shown), why_not=no_ledger),
        Looked(check="file_owners", at=owners),
        Looked(
            check="manifest_values",
            at=rows,
            why_not=no_ledger if layout.manifest else "The dataset has no manifest.",
        ),
        Looked(check="telling_text", at=len(texts), why_not=no_ledger),
    )
    return tuple(notes.findings), looked, {"foreign_bytes": bytes_figures, "file_times": times}


def _tree(root: Path, notes: _Notes) -> tuple[list[Entry], list[Entry]]:
    """Everything under `root` that is no folder, and the folders, in the order of paths; links are not followed."""
    files: list[Entry] = []
    folders: list[Entry] = []
    pending = [""]
    while pending:
        inside = pending.pop()
        try:
            with os.scandir(root / inside) as entries:
                found = sorted((entry.name, entry.stat(follow_symlinks=False)) for entry in entries)
        except OSError as error:
            if not inside:
                raise StorageError(f"{root} cannot be listed ({error.strerror}); allow reading it") from error
            notes.say("public_names", _shown(inside), f"The folder cannot be listed ({error.strerror}).")
            continue
        for name, facts in found:
            entry = Entry(f"{inside}/{name}" if inside else name, facts)
            (folders if stat.S_ISDIR(facts.st_mode) else files).append(entry)
            if stat.S_ISDIR(facts.st_mode):
                pending.append(entry.path)
    return sorted(files), sorted(folders)


def _names(
    layout: Layout, files: list[Entry], folders: list[Entry], pictures: set[str], notes: _Notes
) -> None:
    ours = layout.kind == "p3mdata"
    full = {str(parent) for entry in files for parent in PurePosixPath(entry.path).parents}
    for path, _ in files:
        name = PurePosixPath(path).name
        if name.startswith("."):
            notes.say("public_names", _shown(path), "A hidden file; take it out of the public folder.")
        elif path in pictures:
            if ours and not _PICTURE_NAME.fullmatch(name):
                notes.say(
                    "public_names",
                    _shown(path),
                    "A picture that is not named by an id; its name may be a source's.",
                )
        elif not _is_text(layout, path):
            notes.say(
                "public_names",
                _shown(path),
                "A file that no public dataset has; take it out of the public folder.",
            )
    for path, _ in folders:
        name = PurePosixPath(path).name
        if name.startswith("."):
            notes.say("public_names", _shown(path), "A hidden folder; take it out of the public folder.")
        elif name not in _FOLDERS and (ours or path not in full):
            empty = "" if path in full else "n empty"
            notes.say("public_names", _shown(path), f"A{empty} folder whose name no public dataset has.")


def _is_text(layout: Layout, path: str) -> bool:
    return layout.root / path == layout.manifest or bool(_TEXTS.fullmatch(path))


def _told_apart(layout: Layout, files: list[Entry]) -> tuple[list[str], list[str]]:
    """Texts that a public dataset has, and all other files."""
    apart: dict[bool, list[str]] = {True: [], False: []}
    for entry in files:
        apart[_is_text(layout, entry.path)].append(entry.path)
    return apart[True], apart[False]


def _kinds(files: list[Entry], notes: _Notes) -> list[Entry]:
    """The plain files; anything else is found."""
    plain = []
    for entry in files:
        path, facts = entry
        if stat.S_ISLNK(facts.st_mode):
            notes.say(
                "file_kinds",
                _shown(path),
                "A symbolic link, which tells a path and publishes what it leads to.",
            )
        elif not stat.S_ISREG(facts.st_mode):
            notes.say("file_kinds", _shown(path), "A pipe, socket or device in place of a file.")
        else:
            plain.append(entry)
            if facts.st_nlink > 1:
                said = f"The file has {facts.st_nlink} names (hard links); write it as a file of its own."
                notes.say("file_kinds", _shown(path), said)
    return plain


def _attributes(root: Path, paths: list[str], notes: _Notes) -> Looked:
    if not hasattr(os, "listxattr"):
        return Looked(check="file_attributes", why_not="This system cannot list the attributes of files.")
    unable = 0
    for path in paths:
        try:
            found = sorted(set(os.listxattr(root / path, follow_symlinks=False)) - _LABELS)
        except OSError:
            unable += 1
            continue
        if found:
            said = f"Extended attributes are kept of it: {', '.join(map(_shown, found[:5]))}."
            notes.say("file_attributes", _shown(path), said)
    why_not = f"The attributes of {unable} files and folders cannot be listed." if unable else ""
    return Looked(check="file_attributes", at=len(paths) - unable, why_not=why_not)


def _owners(files: list[Entry], notes: _Notes) -> int:
    found = Counter((f.st_uid, f.st_gid, stat.S_IMODE(f.st_mode)) for _, f in files)
    if len(found) > 1:
        most = found.most_common(1)[0][1]
        others = len(files) - most
        said = f"{others} of {len(files)} files have another owner, group or mode than the rest; make them equal."
        notes.say("file_owners", "", said, "note", value=others, limit=0)
    return len(files)


class _Judged(NamedTuple):
    parts: list[Part]
    sha256: str
    size: int
    error: str = ""


@dataclass(frozen=True)
class _Judge:
    """A worker's function: a file's foreign parts and digest."""

    root: Path

    def __call__(self) -> Callable[[str], _Judged]:
        return self.judge

    def judge(self, path: str) -> _Judged:
        try:
            handle = os.open(self.root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(handle, "rb") as file:
                data = file.read(Limits().max_bytes + 1)
        except OSError as error:
            return _Judged([], "", 0, f"It cannot be read ({error.strerror}).")
        if len(data) > Limits().max_bytes:
            return _Judged([], "", len(data), "It is too large to be looked through.")
        parts = foreign_parts(data, PurePosixPath(path).suffix)
        return _Judged(parts, hashlib.sha256(data).hexdigest(), len(data))


def _structure(
    root: Path, paths: list[str], workers: int, config: LeaksConfig, notes: _Notes, on_progress: OnProgress
) -> tuple[dict[str, str], dict[str, JsonValue]]:
    """sha256 by path, and figures; what is foreign is found, in the order of paths."""
    judged: dict[str, _Judged] = {}
    for path, result in run_local(paths, _Judge(root), max(1, min(workers, len(paths)))):
        judged[path] = _Judged([], "", 0, result.detail) if isinstance(result, WorkerLost) else result
        on_progress(len(judged), len(paths))
    kinds: Counter[str] = Counter()
    for path, (parts, _, _, error) in sorted(judged.items()):
        if error:
            notes.say("foreign_bytes", _shown(path), error)
        if parts:
            said = "; ".join(part.what for part in parts[: config.parts_told])
            more = f"; and {len(parts) - config.parts_told} more" if len(parts) > config.parts_told else ""
            size = sum(part.length for part in parts)
            notes.say("foreign_bytes", _shown(path), f"It holds {said}{more}.", value=size, limit=0)
        kinds.update({re.sub(r"\d{2,}|\d+ bytes?", "N", part.what) for part in parts})
    figures: dict[str, JsonValue] = {
        "files": len(judged),
        "bytes": sum(result.size for result in judged.values()),
        "files_with_foreign_parts": sum(bool(result.parts) for result in judged.values()),
        "kinds": dict(kinds.most_common(20)),
    }
    return {path: result.sha256 for path, result in judged.items()}, figures


def _times(
    files: list[Entry], known: Private | None, config: LeaksConfig, notes: _Notes
) -> dict[str, JsonValue]:
    distinct = len({facts.st_mtime_ns for _, facts in files})
    by_id: defaultdict[str, list[int]] = defaultdict(list)
    for path, facts in files:
        name = PurePosixPath(path).stem
        by_id[name].append(facts.st_mtime_ns)
        if known and any(_same_time(facts.st_mtime_ns, t) for t in known.times.get(name, ())):
            said = "The file bears the time of change of its source; set all public files to one time."
            notes.say("file_times", _shown(path), said)
    figures: dict[str, JsonValue] = {"distinct": distinct}
    if distinct > 1 and known:
        ids = [name for name in by_id if name in known.order]
        order = rank_correlation(
            np.array([min(by_id[name]) for name in ids], np.int64),
            np.array([[known.order[name], known.times[name][0]] for name in ids], np.int64).reshape(-1, 2),
        )
        figures["rank_correlation"] = order
        # Fisher's transformation, with the wider spread that ranks have
        chance = float(np.tanh(config.order_deviations * (1.06 / max(1, len(ids) - 3)) ** 0.5))
        limit = max(config.order_limit, chance)
        if len(ids) >= config.order_pictures and order >= limit:
            said = (
                "The times of the public files follow the order of the sources, so that sorting by time tells it; "
                "set all public files to one time."
            )
            notes.say("file_times", "", said, value=round(order, 4), limit=round(limit, 4))
            return figures
    if distinct > 1:
        said = (
            f"The pictures bear {distinct} different times of change, which tell when and in which order they were "
            "made; set them all to one time."
        )
        notes.say("file_times", "", said, "note", value=distinct, limit=1)
    return figures


def _same_time(public: int, source: int) -> bool:
    """Also when the copy kept whole seconds only."""
    whole = 10**9
    return public == source or (public % whole == 0 and public // whole == source // whole)


def rank_correlation(times: npt.NDArray[np.int64], keys: npt.NDArray[np.int64]) -> float:
    """Spearman's rank correlation of `times` (N,) with the column of `keys` (N, K) it follows most; 0 to 1."""
    best = 0.0
    ours = _ranks(times)
    for column in keys.T:
        theirs = _ranks(column)
        spread = float(np.sqrt((ours**2).sum() * (theirs**2).sum()))
        if spread > 0:
            best = max(best, abs(float((ours * theirs).sum())) / spread)
    return best


def _ranks(values: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Ranks about their mean; equal values share one."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(middle[inverse] - (len(values) + 1) / 2, np.float64)


def _manifest(layout: Layout, digests: dict[str, str], known: Private | None, notes: _Notes) -> int:
    """Rows that were looked at."""
    assert layout.manifest is not None
    weights = {name: entry.sha256 for name, entry in registry().items()}
    before, number = "", 0
    where = layout.manifest.relative_to(layout.root).as_posix()
    try:
        with layout.manifest.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                at = f"{where}:{number}"
                row = _row(line, at, notes)
                if row is None:
                    continue
                if row.id <= before:
                    notes.say(
                        "manifest_values",
                        at,
                        "The rows are not in the order of their ids, which may tell another one.",
                    )
                before = row.id
                for what in _strange_values(row, digests, weights, known):
                    notes.say("manifest_values", at, f"{what}.")
    except OSError as error:
        notes.say("manifest_values", where, f"It cannot be read ({error.strerror}).")
    return number


def _row(line: bytes, at: str, notes: _Notes) -> ManifestRow | None:
    try:
        row = ManifestRow.model_validate_json(line)
    except ValidationError as error:
        # the value itself may be what must not be told
        first = error.errors(include_url=False, include_input=False)[0]
        extra = first["type"] == "extra_forbidden"
        what = "a value that no row has" if extra else "a value of another shape than a row has"
        notes.say("manifest_values", at, f"The line holds {what}.")
        return None
    try:
        plain = canonical_json(row).encode() + b"\n"
    except ValueError:
        plain = b""
    if line != plain:
        notes.say(
            "manifest_values",
            at,
            "The line is spelled otherwise than p3mdata does, which may tell something.",
        )
    return row


def _strange_values(
    row: ManifestRow, digests: dict[str, str], weights: dict[str, str], known: Private | None
) -> Iterator[str]:
    paths = [p for p in (row.image, row.facemask, row.matte) if p is not None]
    if not _SHAPES["split"].fullmatch(row.split):
        yield "The split has a name that no split has"
    for path in {*paths, *row.sha256}:
        parts = PurePosixPath(path).parts
        named = bool(parts) and _PICTURE_NAME.fullmatch(parts[-1]) and PurePosixPath(path).stem == row.id
        if "/".join(parts) != path or not named or not set(parts[:-1]) <= _FOLDERS:
            yield "A path is not that of a public file of this id"
        elif row.sha256.get(path) != digests.get(path):
            yield "A digest is not that of the public file it stands by; it may be the source's"
    if not all(_SHAPES["check"].fullmatch(check.name) for check in row.checks):
        yield "A check has a name that no check has"
    made = row.provenance
    if not _SHAPES["version"].fullmatch(made.code_version) or not _SHAPES["digest"].fullmatch(
        made.config_digest
    ):
        yield "The version or the digest of the configuration has another shape than these have"
    if not made.models.items() <= weights.items():
        yield "A digest is of no weights that p3mdata knows"
    if known is not None:
        if row.id not in known.rows:
            yield "The row's id is of no published picture in the ledger"
        elif known.rows[row.id] != _said(row):
            yield "The row says something else than the ledger"


_MOVED = {"split", "image", "facemask", "matte", "sha256"}
"""What a later stage may change of a row: in which folders its files are."""


def _said(row: ManifestRow) -> str:
    return hashlib.sha256(repr(row.model_dump(exclude=_MOVED)).encode()).hexdigest()


def _expected(record: Record) -> str:
    try:
        return _said(manifest_row(record))
    except ValueError:
        return ""


def _text(
    root: Path, path: str, digests: dict[str, str], known: Private | None, config: LeaksConfig, notes: _Notes
) -> None:
    try:
        data = (root / path).read_bytes() if (root / path).stat().st_size <= _TEXT_LIMIT else None
    except OSError as error:
        return notes.say("telling_text", path, f"It cannot be read ({error.strerror}).")
    if data is None:
        return notes.say("telling_text", path, "It is too large to be a text of a dataset.")
    try:
        written = data.decode("utf-8")
    except UnicodeDecodeError:
        return notes.say("telling_text", path, "It is not text in UTF-8.")
    if any(ord(c) < 32 and c not in "\n\r\t" for c in written):
        notes.say("telling_text", path, "It holds control characters, which no text needs.")
    # the sums are digests and paths by design; each is compared with its file
    if path == "SHA256SUMS":
        if not _are_sums(written, digests):
            notes.say("telling_text", path, "A line is not the digest and the path of a public file.")
        return
    text = plain_text(written)
    for what, pattern, level in _PATTERNS:
        if found := pattern.search(text):
            notes.say("telling_text", path, f"It holds {what} at line {_line(text, found.start())}.", level)
    public = {*digests.values(), *(entry.sha256 for entry in registry().values())}
    if any(found[0].lower() not in public for found in _HEXES.finditer(text)):
        notes.say("telling_text", path, "It holds a digest of no public file and of no published weights.")
    if known is not None:
        _private_names(text, path, known, config, notes)


def _are_sums(text: str, digests: dict[str, str]) -> bool:
    lines = [_SUMS_LINE.fullmatch(line) for line in text.splitlines()]
    return all(line is not None and digests.get(line[2]) == line[1] for line in lines)


def plain_text(written: str) -> str:
    """`written` with the spellings undone that HTML, JSON and addresses have for characters."""
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), written)
    return unicodedata.normalize("NFC", unquote(html.unescape(text.replace("\\/", "/"))))


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _private_names(text: str, path: str, known: Private, config: LeaksConfig, notes: _Notes) -> None:
    """Search for what only the private side knows; the finding does not repeat it."""
    for place in sorted(known.places):
        if (at := text.find(place)) >= 0:
            notes.say("telling_text", path, f"It names a private folder at line {_line(text, at)}.")
    surely, perhaps = _searched_for(known, config.shortest_name)
    # what can only be a name is one in any case of its letters
    folded = text.lower(), {name.lower() for name in surely | _of_this_machine()}
    for (there, names), level in ((folded, "fault"), ((text, perhaps), "note")):
        found = next(occurrences(there, frozenset(names)), None)
        if found is not None and level == "fault":
            said = f"It holds the name of a source, or of this machine or its user, at line {_line(there, found)}."
            notes.say("telling_text", path, said)
        elif found is not None:
            said = f"It holds a word at line {_line(there, found)} that is also the name of a source."
            notes.say("telling_text", path, said, "note")


def _searched_for(known: Private, shortest: int) -> tuple[set[str], set[str]]:
    """Names that stand in a text for one reason only, and those that are words or numbers as well."""
    names = {unicodedata.normalize("NFC", name) for name in known.names if len(name) >= shortest}
    perhaps = {name for name in names if name in _FOLDERS or _WORD.fullmatch(name)}
    return names - perhaps, perhaps


def _of_this_machine() -> set[str]:
    """Names of the machine, its user and the user's folder, but for those that every machine has."""
    home = os.path.expanduser("~")
    user, host = os.path.basename(home), os.uname().nodename
    usual = {"root", "user", "home", "admin", "ubuntu", "debian", "runner", "localhost", "nobody"}
    return {name for name in (user, host, f"{home}/") if len(name) >= 4 and name not in usual}


def occurrences(text: str, names: frozenset[str]) -> Iterator[int]:
    """Where one of `names` stands in `text` with no letter, digit or underscore on either side.

    Takes time by the length of the text, however many names there are.
    """
    lengths: defaultdict[str, set[int]] = defaultdict(set)
    for name in names:
        lengths[name[:4]].add(len(name))
    for at in range(len(text) - 3):
        for length in lengths.get(text[at : at + 4], ()):
            end = at + length
            whole = not (_is_word(text, at - 1) or _is_word(text, end))
            if whole and text[at:end] in names:
                yield at
                break


def _is_word(text: str, at: int) -> bool:
    return 0 <= at < len(text) and (text[at].isalnum() or text[at] == "_")


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest()
    except OSError:
        return ""


def _shown(path: str) -> str:
    """A name as text, whatever its bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
