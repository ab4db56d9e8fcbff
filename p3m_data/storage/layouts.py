"""Which dataset a folder holds: its splits, its samples and the files that belong to nothing.

Read are our own datasets, both public releases of P3M-10k, and plain folders of pictures and mattes. Nothing is
opened here: a sample is told by the names of its files alone.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from p3m_data.errors import UsageError
from p3m_data.storage.folders import PICTURE_SUFFIXES, locate

P3M_FOLDERS = {
    "blurred_image": "image",
    "original_image": "image",
    "mask": "matte",
    "trimap": "trimap",
    "facemask": "facemask",
    "fg": "foreground",
    "fg_blurred": "foreground",
    "bg": "background",
}
"""Folder of a split -> the role of the files in it."""

PLAIN_FOLDERS = {
    "images": "image",
    "mattes": "matte",
    "alphas": "matte",
    "masks": "matte",
    "trimaps": "trimap",
    "facemasks": "facemask",
}

SPLITS = {
    "train": "train",
    "validation/P3M-500-P": "P3M-500-P",
    "validation/P3M-500-NP": "P3M-500-NP",
    "P3M-500-P": "P3M-500-P",
    "P3M-500-NP": "P3M-500-NP",
}
"""Folder below the dataset -> name of the split."""
FOLDERS = frozenset(P3M_FOLDERS) | {name for place in SPLITS for name in place.split("/")}
"""Every name of a folder in a dataset that is laid out in splits."""

MANIFEST = "manifest.jsonl"
SUMS = "SHA256SUMS"
_TEXTS = re.compile(
    r"README\.(md|txt)|LICEN[CS]E(\.md|\.txt)?|CITATION\.cff|croissant\.json|SHA256SUMS|report(-[0-9]+)?\.html"
)


class Lone(NamedTuple):
    """A matte, trimap, facemask, ... without a picture of its stem."""

    role: str
    path: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with its mates."""

    split: str
    """"train", "P3M-500-P", "P3M-500-NP"; "" in plain folders."""
    name: str
    """The stem, unique within its split."""
    files: Mapping[str, str]
    """Role (image, matte, trimap, facemask, foreground, background) -> POSIX path relative to the dataset;
    "image" is always there."""
    blurred: bool
    """Whether its faces should be masked: not in `original_image`, and not in plain folders without facemasks."""


@dataclass(frozen=True)
class Layout:
    """What `recognise` found; paths are relative to `root`, POSIX style."""

    kind: str
    """"p3mdata", "P3M-10k 2021", "P3M-10k 2024" or "pairs"."""
    root: Path
    samples: tuple[Sample, ...]
    """In the order of splits and names."""
    strays: tuple[str, ...]
    """Files that belong to nothing."""
    manifest: Path | None
    roles: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Split -> the roles that it has a folder for."""
    lone: tuple[Lone, ...] = ()
    doubles: tuple[tuple[str, str], ...] = ()
    """Two files of one folder with the same stem: the one that is taken, and the other."""
    casings: tuple[tuple[str, str], ...] = ()
    """A picture and its mate whose stems differ in upper and lower case."""


def recognise(root: Path) -> Layout:
    """The dataset in the folder `root`; `UsageError` when it is none that is known."""
    if not root.is_dir():
        raise UsageError(f"{root} is no folder; name the folder of a dataset")
    manifest = root / MANIFEST
    found = _Found(root, manifest.is_file())
    splits = {place: split for place, split in SPLITS.items() if _folders(root, place)}
    if splits:
        for place, split in splits.items():
            found.take(split, _folders(root, place) | _apart(root, place))
        roles = found.roles.values()
        release = "2024" if any("foreground" in held for held in roles) else "2021"
        return found.layout("p3mdata" if found.ours else f"P3M-10k {release}")
    plain = {name: role for name, role in PLAIN_FOLDERS.items() if (root / name).is_dir()}
    if "images" in plain and "matte" in plain.values():
        found.take("", plain)
        return found.layout("pairs")
    if found.ours:
        return found.layout("p3mdata")
    raise UsageError(
        f"{root} is no dataset that is known: looked for {MANIFEST} (p3mdata), for train/blurred_image or "
        "[validation/]P3M-500-P and P3M-500-NP with blurred_image or original_image (P3M-10k), "
        "and for images/ beside mattes/, alphas/ or masks/; name the folder that holds these"
    )


def _folders(root: Path, place: str) -> dict[str, str]:
    """Folders of the split at `place` with their roles; none when it has no folder of pictures."""
    there = {f"{place}/{name}": role for name, role in P3M_FOLDERS.items() if (root / place / name).is_dir()}
    return there if "image" in there.values() else {}


def _apart(root: Path, place: str) -> dict[str, str]:
    """The facemasks of the split at `place`, unpacked beside the splits from the archive of their own."""
    if (root / place / "facemask").is_dir():
        return {}
    for folder in (f"facemask/{place}", f"facemask/{posixpath.basename(place)}"):
        for inner in (f"{folder}/facemask", folder):
            if (root / inner).is_dir():
                return {inner: "facemask"}
    return {}


class _Found:
    """Collects the parts of a layout."""

    def __init__(self, root: Path, ours: bool) -> None:
        self.root = root
        self.ours = ours
        self.samples: list[Sample] = []
        self.roles: dict[str, frozenset[str]] = {}
        self._folders: set[str] = set()
        self._lone: list[Lone] = []
        self._strays: list[str] = []
        self._doubles: list[tuple[str, str]] = []
        self._casings: list[tuple[str, str]] = []

    def take(self, split: str, folders: Mapping[str, str]) -> None:
        """Sort the files of `folders` (path -> role) into samples of `split`."""
        by_role: dict[str, dict[str, str]] = {}
        for folder, role in folders.items():
            self._folders.add(folder)
            stems = by_role.setdefault(role, {})
            for stem, path in self._pictures(folder):
                if stem in stems:
                    self._doubles.append((stems[stem], path))
                else:
                    stems[stem] = path
        self.roles[split] = self.roles.get(split, frozenset()) | by_role.keys()
        images = by_role.pop("image", {})
        mates = {role: self._mates(role, stems, images) for role, stems in by_role.items()}
        for stem, path in images.items():
            files = {"image": path}
            files |= {role: stems[stem] for role, stems in mates.items() if stem in stems}
            original = posixpath.basename(posixpath.dirname(path)) == "original_image"
            blurred = not original and (split != "" or "facemask" in mates)
            self.samples.append(Sample(split, stem, files, blurred))

    def _mates(self, role: str, stems: dict[str, str], images: dict[str, str]) -> dict[str, str]:
        """Stem of a picture -> its file of `role`, whose own stem may differ in case."""
        mates = {stem: path for stem, path in stems.items() if stem in images}
        left = {stem: path for stem, path in stems.items() if stem not in images}
        if not left:
            return mates
        lonely = {stem.casefold(): stem for stem in images if stem not in mates}
        for stem, path in left.items():
            image = lonely.pop(stem.casefold(), None)
            if image is None:
                self._lone.append(Lone(role, path))
            else:
                mates[image] = path
                self._casings.append((images[image], path))
        return mates

    def _pictures(self, folder: str) -> Iterator[tuple[str, str]]:
        """Stem and path of each picture right in `folder`, by name; everything else in it is a stray."""
        for entry in _entries(locate(self.root, folder)):
            path = f"{folder}/{entry.name}"
            if path in self._folders:
                continue
            stem, suffix = posixpath.splitext(entry.name)
            if entry.is_dir():
                self._strays += _files_below(self.root, path)
            elif suffix.lower() in PICTURE_SUFFIXES and not entry.name.startswith(".") and entry.is_file():
                yield stem, path
            else:
                # also dead links, and pipes and devices, which would be waited for
                self._strays.append(path)

    def layout(self, kind: str) -> Layout:
        return Layout(
            kind=kind,
            root=self.root,
            samples=tuple(sorted(self.samples, key=lambda sample: (sample.split, sample.name))),
            strays=tuple(sorted([*self._strays, *self._elsewhere("")])),
            manifest=self.root / MANIFEST if self.ours else None,
            roles=self.roles,
            lone=tuple(sorted(self._lone)),
            doubles=tuple(self._doubles),
            casings=tuple(self._casings),
        )

    def _elsewhere(self, folder: str) -> Iterator[str]:
        """Files that lie in none of the folders that were taken."""
        for entry in _entries(locate(self.root, folder)):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if path in self._folders:
                continue
            if any(taken.startswith(f"{path}/") for taken in self._folders):
                yield from self._elsewhere(path)
            elif not entry.is_dir(follow_symlinks=False):
                if folder or not (entry.name == MANIFEST or is_text(entry.name)):
                    yield path
            else:
                yield from _files_below(self.root, path)


def is_text(path: str) -> bool:
    """Whether it is a page or a text that a dataset has in its own folder, beside the manifest."""
    return _TEXTS.fullmatch(path) is not None


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UsageError(f"{folder} cannot be read ({error.strerror}); allow reading it") from error


def _files_below(root: Path, folder: str) -> Iterator[str]:
    """Every file under `folder`; the folder itself, with a slash behind it, when it is empty."""
    there = False
    for at, _, names in sorted(os.walk(root / folder)):
        for name in sorted(names):
            there = True
            yield Path(at, name).relative_to(root).as_posix()
    if not there:
        yield f"{folder}/"
