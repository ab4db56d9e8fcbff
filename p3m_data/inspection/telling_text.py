"""Private things in public pages and texts: by what they look like, and by what the private side knows."""

from __future__ import annotations

import html
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from p3m_data.inspection.findings import About, Level, Notes
from p3m_data.inspection.private_side import Private
from p3m_data.storage.layouts import FOLDERS, SUMS
from p3m_data.storage.weights import registry

ABOUT: Mapping[str, About] = {
    "telling_text": About(
        "Private things in public text",
        "Pages and texts hold no path of this or another machine, address, place, list of coordinates, embedded "
        "data or unknown digest. With the private side: no name of a source, nor of the machine, its user or folders.",
        "That a sentence which a person wrote gives nobody away. Names that are plain words are only noted.",
    ),
}

_TEXT_LIMIT = 64 * 2**20

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

SHORTEST_NAME = 4
"""Characters of a source's name below which it is not searched for."""


def check_text(root: Path, path: str, digests: dict[str, str], known: Private | None, notes: Notes) -> None:
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
    if path == SUMS:
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
        _private_names(text, path, known, notes)


def _are_sums(text: str, digests: dict[str, str]) -> bool:
    lines = [_SUMS_LINE.fullmatch(line) for line in text.splitlines()]
    return all(line is not None and digests.get(line[2]) == line[1] for line in lines)


def plain_text(written: str) -> str:
    """`written` with the spellings undone that HTML, JSON and addresses have for characters."""
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), written)
    return unicodedata.normalize("NFC", unquote(html.unescape(text.replace("\\/", "/"))))


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _private_names(text: str, path: str, known: Private, notes: Notes) -> None:
    """Search for what only the private side knows; the finding does not repeat it."""
    for place in sorted(known.places):
        if (at := text.find(place)) >= 0:
            notes.say("telling_text", path, f"It names a private folder at line {_line(text, at)}.")
    surely, perhaps = _searched_for(known)
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


def _searched_for(known: Private) -> tuple[set[str], set[str]]:
    """Names that stand in a text for one reason only, and those that are words or numbers as well."""
    names = {unicodedata.normalize("NFC", name) for name in known.names if len(name) >= SHORTEST_NAME}
    perhaps = {name for name in names if name in FOLDERS or _WORD.fullmatch(name)}
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
