"""What files and errors say, made fit for a sentence that a person reads."""

from __future__ import annotations

import re

MAX_QUOTED = 300
# as which Python decodes a stray byte of a file name
_STRAY_BYTE = re.compile("[\udc80-\udcff]")


def one_line(text: str) -> str:
    """`text` on one line of at most `MAX_QUOTED` characters and "...", with "?" for what cannot be printed."""
    line = " ".join(text.split())
    line = line if len(line) <= MAX_QUOTED else f"{line[:MAX_QUOTED]}..."
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def visible(text: str) -> str:
    """`text` on one line: line breaks, control and direction characters are written as escapes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def sentence(said: str) -> str:
    """What an error says, as a sentence with a capital and a full stop."""
    return f"{said[:1].upper()}{said[1:]}."


def path_text(path: str) -> str:
    """A path as text that every file and terminal takes: "\\xff" for a byte that is not UTF-8."""
    escaped = _STRAY_BYTE.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", path)
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")
