"""The marker segments of a JPEG: their numbers, where they begin and end, and the header that they make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

SOI, EOI, SOS, DQT, DHT, DAC, DRI = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xCC, 0xDD
JFIF, ADOBE, COMMENT = 0xE0, 0xEE, 0xFE
APPLICATIONS = range(0xE0, 0xF0)
METADATA = frozenset({*APPLICATIONS, COMMENT}) - {JFIF, ADOBE}
"""What no decoder needs for the pixels: JFIF and Adobe tell how they are coded."""
PROGRESSIVE = 0xC2
FRAMES = frozenset({0xC0, 0xC1, PROGRESSIVE})
"""Sequential and progressive Huffman coding."""
ALL_FRAMES = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, DAC}
BARE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers that no length follows."""


class Segment(NamedTuple):
    """One marker segment of a JPEG: `data[start:end]`, marker and length included."""

    marker: int
    start: int
    end: int


def segment_at(data: bytes, at: int) -> Segment:
    """The segment whose marker and length are the four bytes from `at` on; it may end past the file."""
    return Segment(data[at + 1], at, at + 2 + int.from_bytes(data[at + 2 : at + 4], "big"))


def header(data: bytes) -> Iterator[Segment]:
    """The marker segments of a JPEG up to its first scan; ends early where the header is malformed."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:
            at += 1
            continue
        segment = segment_at(data, at)
        yield segment
        if segment.marker == SOS:
            return
        at = segment.end


def frame_size(data: bytes, frame: int) -> tuple[int, int]:
    """(width, height) that the frame header at `frame` tells."""
    height, width = (int.from_bytes(data[frame + i : frame + i + 2], "big") for i in (5, 7))
    return width, height
