"""What is in the public folder beside what the files hold: names, kinds, attributes, owners and permissions."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from p3m_data.errors import StorageError
from p3m_data.inspection.findings import About, Looked, Notes
from p3m_data.inspection.ids import ID
from p3m_data.storage.layouts import FOLDERS, Layout, is_text

ABOUT: Mapping[str, About] = {
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
    "file_owners": About(
        "Owners and permissions",
        "All files have one owner, group and mode, so that these tell no file from another.",
        "That the owner's name, which archives store, may be known.",
    ),
}

PICTURE_NAME = re.compile(rf"{ID.pattern}\.(?:jpg|png)")
_LABELS = frozenset({"security.selinux"})
"""Attributes that the system itself gives to every file."""


class Entry(NamedTuple):
    """One thing in the public folder."""

    path: str
    facts: os.stat_result


def walk(root: Path, notes: Notes) -> tuple[list[Entry], list[Entry]]:
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
            notes.say("public_names", inside, f"The folder cannot be listed ({error.strerror}).")
            continue
        for name, facts in found:
            entry = Entry(f"{inside}/{name}" if inside else name, facts)
            (folders if stat.S_ISDIR(facts.st_mode) else files).append(entry)
            if stat.S_ISDIR(facts.st_mode):
                pending.append(entry.path)
    return sorted(files), sorted(folders)


def check_names(
    layout: Layout, files: list[Entry], folders: list[Entry], pictures: set[str], notes: Notes
) -> None:
    """Whether each name is one that the layout knows. pictures: paths of all that belong to samples."""
    ours = layout.kind == "p3mdata"
    full = {str(parent) for entry in files for parent in PurePosixPath(entry.path).parents}
    for path, _ in files:
        name = PurePosixPath(path).name
        if name.startswith("."):
            notes.say("public_names", path, "A hidden file; take it out of the public folder.")
        elif path in pictures:
            if ours and not PICTURE_NAME.fullmatch(name):
                said = "A picture that is not named by an id; its name may be a source's."
                notes.say("public_names", path, said)
        elif not is_public_text(layout, path):
            said = "A file that no public dataset has; take it out of the public folder."
            notes.say("public_names", path, said)
    for path, _ in folders:
        name = PurePosixPath(path).name
        if name.startswith("."):
            notes.say("public_names", path, "A hidden folder; take it out of the public folder.")
        elif name not in FOLDERS and (ours or path not in full):
            empty = "" if path in full else "n empty"
            notes.say("public_names", path, f"A{empty} folder whose name no public dataset has.")


def plain_files(files: list[Entry], notes: Notes) -> list[Entry]:
    """The plain files; anything else is found."""
    plain = []
    for entry in files:
        path, facts = entry
        if stat.S_ISLNK(facts.st_mode):
            said = "A symbolic link, which tells a path and publishes what it leads to."
            notes.say("file_kinds", path, said)
        elif not stat.S_ISREG(facts.st_mode):
            notes.say("file_kinds", path, "A pipe, socket or device in place of a file.")
        else:
            plain.append(entry)
            if facts.st_nlink > 1:
                said = f"The file has {facts.st_nlink} names (hard links); write it as a file of its own."
                notes.say("file_kinds", path, said)
    return plain


def check_attributes(root: Path, paths: list[str], notes: Notes) -> Looked:
    """Whether the file system keeps anything beside the files and folders `paths`."""
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
            said = f"Extended attributes are kept of it: {', '.join(found[:5])}."
            notes.say("file_attributes", path, said)
    why_not = f"The attributes of {unable} files and folders cannot be listed." if unable else ""
    return Looked(check="file_attributes", at=len(paths) - unable, why_not=why_not)


def check_owners(files: list[Entry], notes: Notes) -> int:
    """Whether all files have one owner, group and mode; how many there are."""
    found = Counter((f.st_uid, f.st_gid, stat.S_IMODE(f.st_mode)) for _, f in files)
    if len(found) > 1:
        most = found.most_common(1)[0][1]
        others = len(files) - most
        said = f"{others} of {len(files)} files have another owner, group or mode than the rest; make them equal."
        notes.say("file_owners", "", said, "note", value=others, limit=0)
    return len(files)


def is_public_text(layout: Layout, path: str) -> bool:
    """Whether it is a page or a text that a public dataset has, its manifest among them."""
    return layout.root / path == layout.manifest or is_text(path)
