"""What the walks over JPEG and PNG files have in common: the parts they name, and how they say so."""

from __future__ import annotations

from typing import NamedTuple

from p3m_data.storage.images import Limits

SIGNATURES = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n"}
"""Kind of a file -> how it begins."""
MAX_PIXELS = Limits().max_pixels


class Part(NamedTuple):
    """Something that the pixels do not need: `data[offset:offset + length]`."""

    what: str
    """To follow "it holds": "an APP1 segment (Exif, 412 bytes)"."""
    offset: int
    length: int


class Damaged(Exception):
    """From here on the file cannot be followed."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(what)
        self.what, self.at = what, at

    def part(self, data: bytes) -> Part:
        """All the rest of `data`."""
        return Part(self.what, self.at, max(0, len(data) - self.at))


def trailer(data: bytes, at: int) -> list[Part]:
    """What `data` holds behind its end at `at`: one part, or none."""
    if at >= len(data):
        return []
    begins = next((kind for kind, start in SIGNATURES.items() if data.startswith(start, at)), None)
    like = f", which begin like another {begins}" if begins else ""
    return [Part(f"{in_bytes(len(data) - at)} after its end{like}", at, len(data) - at)]


def in_bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count} bytes"


def ceil_div(value: int, step: int) -> int:
    return -(-value // step)
