"""What a file says, made fit to be quoted in an error's sentence."""

from __future__ import annotations

MAX_QUOTED = 300


def one_line(text: str) -> str:
    """`text` on one line of at most `MAX_QUOTED` characters and "...", with "?" for what cannot be printed."""
    line = " ".join(text.split())
    line = line if len(line) <= MAX_QUOTED else f"{line[:MAX_QUOTED]}..."
    return "".join(letter if letter.isprintable() else "?" for letter in line)
