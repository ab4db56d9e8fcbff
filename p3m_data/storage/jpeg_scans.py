"""The scans of a JPEG: each is followed to its last code, so that bytes behind the last pixel are seen."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from p3m_data.storage.jpeg_huffman import (
    BAD_BITS,
    BAD_STEP,
    AcScan,
    HuffmanTable,
    Words,
    ac_step,
    dc_first,
    dc_step,
    plain,
    sequential,
)
from p3m_data.storage.parts import Damaged, Part, ceil_div, in_bytes

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")


@dataclass
class Component:
    """One component of the frame: its place in the stream, and what scans have told of it."""

    across: int
    down: int
    quantization: int
    columns: int
    """Blocks in a row of its own scan."""
    rows: int
    accuracy: list[int | None] = field(default_factory=lambda: [None] * 64)
    """Lowest bit that scans have told of each coefficient, None before the first."""
    nonzero: dict[int, int] = field(default_factory=dict)
    """Block -> bit mask of its coefficients that are not zero (progressive only)."""


@dataclass
class Coding:
    """What the segments before a scan say of it."""

    size: tuple[int, int] = (0, 0)
    """(width, height)."""
    progressive: bool = False
    components: dict[int, Component] = field(default_factory=dict)
    quantization: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Number of a table -> where it begins and how long it is."""
    huffman: dict[tuple[int, int], HuffmanTable] = field(default_factory=dict)
    """By kind (0: first coefficients, 1: the others) and number."""
    interval: int = 0
    """Units from a restart marker to the next; 0 for none."""
    interval_used: bool = True

    def table(self, kind: int, number: int, entry: Callable[[int, int], int], bad: int, at: int) -> list[int]:
        """See `HuffmanTable.table`; `at` is where the scan begins that uses it."""
        if (kind, number) not in self.huffman:
            raise Damaged("a scan without its Huffman table", at)
        table = self.huffman[kind, number]
        table.used = True
        return table.table(entry, bad)


class _Scan(NamedTuple):
    components: list[Component]
    dc: list[int]
    ac: list[int]
    """Number of each component's Huffman tables."""
    first: int
    last: int
    before: int
    low: int
    """Bits told before this scan and after it: Ah and Al of the standard."""


Decode = Callable[[Words, int, int], int]
"""Words, first unit, units -> the bits that these take."""


def follow(data: bytes, at: int, end: int, coding: Coding, parts: list[Part]) -> int:
    """Where the scan ends whose header is `data[at:end]`; what it holds beside its pixels is added to `parts`.

    `Damaged` when it cannot be followed. Notes in `coding` what it used and told.
    """
    scan = _header(data, at, end, coding)
    marker = _MARKER.search(data, end)
    stop = marker.start() if marker else len(data)
    pieces, numbers = _intervals(data, end, stop)
    if numbers != [0xD0 + i % 8 for i in range(len(numbers))]:
        raise Damaged("restart markers in the wrong order", end)
    blocks = _units(scan, coding)
    step = coding.interval or blocks
    coding.interval_used = coding.interval_used or 0 < coding.interval < blocks
    if len(pieces) != ceil_div(blocks, step):
        raise Damaged("a scan with too few or too many parts", end)
    decode = _decoder(scan, coding, end)
    for number, (start, piece) in enumerate(pieces):
        first = number * step
        parts += _beside_pixels(decode, start, piece, first, min(step, blocks - first))
    return stop


def _units(scan: _Scan, coding: Coding) -> int:
    """Blocks of a scan of one component, MCUs of one of several."""
    if len(scan.components) == 1:
        return scan.components[0].columns * scan.components[0].rows
    across = max(c.across for c in coding.components.values())
    down = max(c.down for c in coding.components.values())
    return ceil_div(coding.size[0], 8 * across) * ceil_div(coding.size[1], 8 * down)


def _beside_pixels(decode: Decode, start: int, piece: bytes, first: int, units: int) -> list[Part]:
    content = piece.replace(b"\xff\x00", b"\xff")
    octets = np.frombuffer(content + bytes(5), np.uint8).astype(np.uint32)
    words = octets[:-3] << 24 | octets[1:-2] << 16 | octets[2:-1] << 8 | octets[3:]
    try:
        taken = decode(np.asarray(words, np.uint32).data, first, units)
    except IndexError:
        taken = BAD_BITS
    if taken > 8 * len(content):
        raise Damaged("a scan that ends early or cannot be decoded", start)
    parts = []
    spare = len(content) - ceil_div(taken, 8)
    if spare:
        what = f"{in_bytes(spare)} behind the last pixel of a scan"
        parts.append(Part(what, start + len(piece) - spare, spare))
    left = -taken % 8
    if left and content[ceil_div(taken, 8) - 1] & (1 << left) - 1 != (1 << left) - 1:
        parts.append(Part("filling bits that are not all ones", start, len(piece)))
    return parts


def _header(data: bytes, at: int, end: int, coding: Coding) -> _Scan:
    count = data[at + 4] if end - at > 4 else 0
    wrong = Damaged("a scan that does not fit its frame", at)
    if not 1 <= count <= 3 or end - at != 8 + 2 * count or not coding.components:
        raise wrong
    ids = [data[at + 5 + 2 * i] for i in range(count)]
    tables = [divmod(data[at + 6 + 2 * i], 16) for i in range(count)]
    if len(set(ids)) < count or not set(ids) <= coding.components.keys():
        raise wrong
    components = [coding.components[i] for i in ids]
    if any(c.quantization not in coding.quantization for c in components):
        raise Damaged("a component without its quantization table", at)
    if count > 1 and sum(c.across * c.down for c in components) > 10:
        raise wrong
    first, last, (before, low) = data[end - 3], data[end - 2], divmod(data[end - 1], 16)
    scan = _Scan(components, [t[0] for t in tables], [t[1] for t in tables], first, last, before, low)
    spectral = (0 < first <= last < 64 and count == 1) or first == last == 0
    if not (spectral if coding.progressive else (first, last, before, low) == (0, 63, 0, 0)):
        raise wrong
    _tell(scan, at)
    return scan


def _tell(scan: _Scan, at: int) -> None:
    """Note which bits of which coefficients the scan tells; none may be told twice."""
    expected = scan.before if scan.before else None
    for component in scan.components:
        band = component.accuracy[scan.first : scan.last + 1]
        dc_missing = scan.first > 0 and component.accuracy[0] is None
        if any(known != expected for known in band) or dc_missing:
            raise Damaged("a scan of what another scan has told", at)
        if (scan.before and scan.low != scan.before - 1) or scan.low > 13:
            raise Damaged("a scan that does not fit its frame", at)
        component.accuracy[scan.first : scan.last + 1] = [scan.low] * len(band)


def _decoder(scan: _Scan, coding: Coding, at: int) -> Decode:
    shares = [c.across * c.down if len(scan.components) > 1 else 1 for c in scan.components]
    if scan.first > 0:
        table = coding.table(1, scan.ac[0], plain, -1, at)
        band, nonzero = (scan.first, scan.last), scan.components[0].nonzero
        return AcScan(table, band, bool(scan.before), nonzero, at).interval
    if scan.before:
        return lambda _words, _first, units: units * sum(shares)
    dc = {n: coding.table(0, n, dc_step, BAD_BITS, at) for n in scan.dc}
    if coding.progressive:
        firsts = [dc[n] for n, share in zip(scan.dc, shares, strict=True) for _ in range(share)]
        return lambda words, _first, units: dc_first(words, firsts, units)
    ac = {n: coding.table(1, n, ac_step, BAD_STEP << 6, at) for n in scan.ac}
    plan = [
        (dc[d], ac[a]) for d, a, share in zip(scan.dc, scan.ac, shares, strict=True) for _ in range(share)
    ]
    return lambda words, _first, units: sequential(words, plan, units, at)


def _intervals(data: bytes, start: int, stop: int) -> tuple[list[tuple[int, bytes]], list[int]]:
    """The pieces of a scan between its restart markers, with where they begin; and the markers."""
    pieces, numbers = [], []
    for found in _RESTART.finditer(data, start, stop):
        pieces.append((start, data[start : found.start()]))
        numbers.append(found[1][0])
        start = found.end()
    return [*pieces, (start, data[start:stop])], numbers
