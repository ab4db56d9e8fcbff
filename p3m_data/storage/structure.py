"""What a JPEG or PNG holds beside its pixels, by a whitelist: whatever is not needed to decode them is named.

The scans of a JPEG are decoded as far as Huffman codes go, and the stream of a PNG is inflated, so that bytes
behind the last pixel are seen also where they look like more of the same.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from p3m_data.errors import InputError
from p3m_data.storage.images import Limits, opened

SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
_SIGNATURES = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n"}
_MAX_PIXELS = Limits().max_pixels

_SOI, _EOI, _SOS, _DQT, _DHT, _DRI, _JFIF, _ADOBE = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xE0, 0xEE
_FRAMES = (0xC0, 0xC1, 0xC2)
_PROGRESSIVE = 0xC2
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {_DHT, 0xC8, 0xCC}
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
_COMPONENT_IDS = frozenset({(0,), (1,), (1, 2, 3), (0, 1, 2), tuple(b"RGB")})
# what programs write that know nothing of a camera or a scanner: no unit, 72 and 96 dots per inch
_RESOLUTIONS = frozenset({(0, 1, 1), (1, 72, 72), (1, 96, 96)})
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_OWNERS = (
    (b"Exif\0", "Exif"),
    (b"http://ns.adobe.com/xap", "XMP"),
    (b"http://ns.adobe.com/xmp/extension", "extended XMP"),
    (b"ICC_PROFILE", "ICC profile"),
    (b"MPF\0", "index of further pictures"),
    (b"Photoshop 3.0", "Photoshop and IPTC"),
    (b"JFXX\0", "JFIF thumbnail"),
    (b"JFIF\0", "JFIF"),
    (b"Adobe", "Adobe"),
)


class Part(NamedTuple):
    """Something that the pixels do not need: `data[offset:offset + length]`."""

    what: str
    """To follow "it holds": "an APP1 segment (Exif, 412 bytes)"."""
    offset: int
    length: int


class _Damaged(Exception):
    def __init__(self, what: str, at: int) -> None:
        super().__init__(what)
        self.what, self.at = what, at


def foreign_parts(data: bytes, suffix: str) -> list[Part]:
    """Whatever a file named `*suffix` holds but 8-bit grey or colour pixels; empty when there is nothing else.

    Bytes that are neither JPEG nor PNG, or that cannot be followed to their end, are such a part, too.
    """
    kind = next((kind for kind, start in _SIGNATURES.items() if data.startswith(start)), None)
    expected = SUFFIXES.get(suffix.lower())
    parts = []
    if kind is None or kind != expected:
        what = f"{kind or 'neither JPEG nor PNG'} data under the suffix {suffix or '(none)'}"
        parts.append(Part(what, 0, len(data)))
    if kind == "JPEG":
        parts += _Jpeg(data).judge()
    elif kind == "PNG":
        parts += _Png(data).judge()
    return parts


@dataclass
class _Component:
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
class _Huffman:
    at: int
    counts: bytes
    symbols: bytes
    used: bool = False

    def table(self, entry: Callable[[int, int], int], bad: int) -> list[int]:
        """For each 16 bits to come: `entry(length of the code, symbol)`, or `bad` where there is no code."""
        table: list[int] = []
        symbols = iter(self.symbols)
        for length, count in enumerate(self.counts, start=1):
            for _ in range(count):
                table += [entry(length, next(symbols))] * (1 << 16 - length)
        # the code of only ones belongs to none
        if len(table) >= 1 << 16:
            raise _Damaged("a Huffman table with more codes than there can be", self.at)
        return table + [bad] * ((1 << 16) - len(table))


class _Scan(NamedTuple):
    components: list[_Component]
    dc: list[int]
    ac: list[int]
    """Number of each component's Huffman tables."""
    first: int
    last: int
    before: int
    low: int
    """Bits told before this scan and after it: Ah and Al of the standard."""


_BAD_BITS = 1 << 40
"""A step in the stream that ends beyond any file."""
_BLOCK_ENDS, _BAD_STEP = 128, 1024


def _dc_step(length: int, symbol: int) -> int:
    return length + symbol if symbol <= 11 else _BAD_BITS


def _ac_step(length: int, symbol: int) -> int:
    """Bits to go on (the low six of the number) and coefficients to go on."""
    run, size = symbol >> 4, symbol & 15
    if size == 0:
        return length | ({0: _BLOCK_ENDS, 15: 16}.get(run, _BAD_STEP) << 6)
    return (length + size) | ((run + 1 if size <= 10 else _BAD_STEP) << 6)


def _plain(length: int, symbol: int) -> int:
    return length | symbol << 8


Words = memoryview
"""The 32 bits that begin at each byte of a scan."""


def _sequential(words: Words, plan: list[tuple[list[int], list[int]]], units: int, at: int) -> int:
    """Bits that `units` MCUs take whose blocks have the tables `plan`."""
    p = 0
    for _ in range(units):
        for dc, ac in plan:
            p += dc[words[p >> 3] >> (16 - (p & 7)) & 0xFFFF]
            k = 1
            while k < 64:
                step = ac[words[p >> 3] >> (16 - (p & 7)) & 0xFFFF]
                p += step & 63
                k += step >> 6
            if k != 64 and not _BLOCK_ENDS < k < _BLOCK_ENDS + 64:
                raise _Damaged("a scan that cannot be decoded", at)
    return p


def _dc_first(words: Words, plan: list[list[int]], units: int) -> int:
    p = 0
    for _ in range(units):
        for dc in plan:
            p += dc[words[p >> 3] >> (16 - (p & 7)) & 0xFFFF]
    return p


class _AcScan:
    """The scans of a progressive JPEG that tell coefficients other than the first, one component each."""

    def __init__(self, scan: _Scan, table: list[int], at: int) -> None:
        self.scan, self.table, self.at = scan, table, at
        self.nonzero = scan.components[0].nonzero
        self.band = (1 << scan.last + 1) - (1 << scan.first)

    def interval(self, words: Words, start: int, blocks: int) -> int:
        """Bits that the blocks from `start` on take."""
        block, end, p = start, start + blocks, 0
        one_block = self._refined if self.scan.before else self._first
        while block < end:
            p, ends = one_block(words, p, block)
            if block + ends > end:
                raise _Damaged("a scan that runs past its last block", self.at)
            if self.scan.before and self.nonzero and ends > 1:
                p += sum(self._known(other) for other in range(block + 1, block + ends))
            block += max(1, ends)
        return p

    def _known(self, block: int, start: int = 0) -> int:
        """Coefficients from `start` on that get a bit of correction each."""
        return (self.nonzero.get(block, 0) & self.band & -(1 << start)).bit_count()

    def _code(self, words: Words, p: int) -> tuple[int, int, int]:
        entry = self.table[words[p >> 3] >> (16 - (p & 7)) & 0xFFFF]
        return p + (entry & 0xFF if entry >= 0 else _BAD_BITS), entry >> 12 & 15, entry >> 8 & 15

    def _run(self, words: Words, p: int, bits: int) -> tuple[int, int]:
        """Blocks, this one among them, that end here."""
        more = words[p >> 3] >> (32 - (p & 7) - bits) & (1 << bits) - 1
        return p + bits, (1 << bits) + more

    def _first(self, words: Words, p: int, block: int) -> tuple[int, int]:
        k, mask = self.scan.first, 0
        while k <= self.scan.last:
            p, run, size = self._code(words, p)
            if size == 0 and run < 15:
                self._note(block, mask)
                return self._run(words, p, run)
            k += run
            if size:
                p += size
                mask |= 1 << k
            k += 1
        self._note(block, mask)
        if k > self.scan.last + 1:
            raise _Damaged("a scan that cannot be decoded", self.at)
        return p, 0

    def _note(self, block: int, mask: int) -> None:
        if mask:
            self.nonzero[block] = self.nonzero.get(block, 0) | mask

    def _refined(self, words: Words, p: int, block: int) -> tuple[int, int]:
        known, new, k = self.nonzero.get(block, 0), 0, self.scan.first
        while k <= self.scan.last:
            p, run, size = self._code(words, p)
            if size == 0 and run < 15:
                p, ends = self._run(words, p, run)
                # those found in this very scan have no bit of correction in it
                p += self._known(block, k)
                self._note(block, new)
                return p, ends
            p += size
            while k <= self.scan.last and (run > 0 or known >> k & 1):
                p, run = (p + 1, run) if known >> k & 1 else (p, run - 1)
                k += 1
            if size != (1 if size else 0) or (size and k > self.scan.last):
                raise _Damaged("a scan that cannot be decoded", self.at)
            new |= size << k
            k += 1
        self._note(block, new)
        return p, 0


class _Jpeg:
    """One walk over the segments of a JPEG."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.parts: list[Part] = []
        self.progressive = self.jfif = self.adobe = False
        self.size = (0, 0)
        self.components: dict[int, _Component] = {}
        self.quantization: dict[int, tuple[int, int]] = {}
        self.huffman: dict[tuple[int, int], _Huffman] = {}
        self.interval = 0
        self.interval_at = 0
        self.interval_used = True
        self.scans = 0

    def judge(self) -> list[Part]:
        try:
            self._walk()
        except _Damaged as error:
            self.parts.append(Part(error.what, error.at, max(0, len(self.data) - error.at)))
        return self.parts

    def _note(self, what: str, at: int, length: int) -> None:
        self.parts.append(Part(what, at, length))

    def _walk(self) -> None:
        at, data = 2, self.data
        while True:
            start = at
            while data[at : at + 2] == b"\xff\xff":
                at += 1
            if at > start:
                self._note(f"{_bytes(at - start)} of filling before a marker", start, at - start)
            if at + 2 > len(data) or data[at] != 0xFF or data[at + 1] == 0:
                raise _Damaged("an end before its last marker" if at + 2 > len(data) else "stray bytes", at)
            marker = data[at + 1]
            if marker == _EOI:
                return self._end(at + 2)
            if marker in _BARE:
                self._note("a second start of a picture" if marker == _SOI else "a stray marker", at, 2)
                at += 2
                continue
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if not at + 4 <= end <= len(data):
                raise _Damaged("a segment that ends past the file", at)
            self._segment(marker, at, end)
            at = self._scan(at, end) if marker == _SOS else end

    def _segment(self, marker: int, at: int, end: int) -> None:
        if marker == _DQT:
            self._quantization(at + 4, end)
        elif marker == _DHT:
            self._huffman(at + 4, end)
        elif marker == _DRI:
            self._restarts(at, end)
        elif marker in _FRAMES:
            self._frame(marker, at, end)
        elif marker in _OTHER_FRAMES or marker == 0xCC:
            raise _Damaged("pixels in a coding other than sequential or progressive Huffman", at)
        elif marker == _JFIF and self._is_plain_jfif(at, end):
            self.jfif = True
        elif marker == _ADOBE and self._is_plain_adobe(self.data[at + 4 : end]):
            self.adobe = True
        elif marker != _SOS:
            self._note(f"{_segment_name(marker)} ({self._owner(at, end)})", at, end - at)

    def _owner(self, at: int, end: int) -> str:
        content = self.data[at + 4 : end]
        owner = next((f"{name}, " for start, name in _OWNERS if content.startswith(start)), "")
        return f"{owner}{_bytes(len(content))}"

    def _is_plain_jfif(self, at: int, end: int) -> bool:
        content = self.data[at + 4 : end]
        if at != 2 or len(content) != 14 or content[:6] != b"JFIF\0\1" or content[6] > 2:
            return False
        resolution = content[7], *(int.from_bytes(content[i : i + 2], "big") for i in (8, 10))
        return resolution in _RESOLUTIONS and content[12:] == b"\0\0"

    def _is_plain_adobe(self, content: bytes) -> bool:
        """Whether it says no more than how three components are coded, and nothing else says it."""
        once = not (self.adobe or self.jfif or self.scans)
        return once and content in (b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\1")

    def _quantization(self, at: int, end: int) -> None:
        while at < end:
            wide, number = divmod(self.data[at], 16)
            size = 1 + 64 * (1 + wide)
            if wide > 1 or number > 3 or at + size > end:
                raise _Damaged(
                    f"{_bytes(end - at)} in a segment of quantization tables that are no table", at
                )
            if number in self.quantization:
                self._note("a quantization table that replaces another", at, size)
            self.quantization[number] = at, size
            at += size

    def _huffman(self, at: int, end: int) -> None:
        while at < end:
            kind, number = divmod(self.data[at], 16)
            counts = self.data[at + 1 : at + 17]
            size = 17 + sum(counts)
            symbols = self.data[at + 17 : at + size]
            if kind > 1 or number > 3 or at + size > end or len(set(symbols)) < len(symbols):
                raise _Damaged(f"{_bytes(end - at)} in a segment of Huffman tables that are no table", at)
            if (kind, number) in self.huffman:
                self._say_unused(self.huffman[kind, number])
            self.huffman[kind, number] = _Huffman(at, counts, symbols)
            at += size

    def _say_unused(self, table: _Huffman) -> None:
        if not table.used:
            self._note("a Huffman table that no scan uses", table.at, 17 + len(table.symbols))

    def _restarts(self, at: int, end: int) -> None:
        self._say_idle_interval()
        self.interval = int.from_bytes(self.data[at + 4 : at + 6], "big")
        self.interval_at, self.interval_used = at, False
        if end - at != 6:
            self._note(f"a restart interval of {_bytes(end - at - 4)}", at, end - at)

    def _say_idle_interval(self) -> None:
        if not self.interval_used:
            self._note("a restart interval that no scan uses", self.interval_at, 6)

    def _frame(self, marker: int, at: int, end: int) -> None:
        data, count = self.data, self.data[at + 9] if end - at >= 10 else 0
        if self.components or count not in (1, 3) or end - at != 10 + 3 * count or data[at + 4] != 8:
            raise _Damaged("a frame that is not the only one of 8 bits and one or three components", at)
        height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (5, 7))
        if not 0 < width * height <= _MAX_PIXELS:
            raise _Damaged(f"a frame of {width} x {height} pixels", at)
        layers = [data[i : i + 3] for i in range(at + 10, end, 3)]
        factors = [divmod(layer[1], 16) for layer in layers]
        if not all(1 <= a <= 4 and 1 <= d <= 4 for a, d in factors) or any(layer[2] > 3 for layer in layers):
            raise _Damaged("a frame that cannot be decoded", at)
        if tuple(layer[0] for layer in layers) not in _COMPONENT_IDS:
            self._note("components with unusual numbers", at + 10, 3 * count)
        across, down = (max(pair[i] for pair in factors) for i in (0, 1))
        for layer, (a, d) in zip(layers, factors, strict=True):
            columns, rows = _up(_up(width * a, across), 8), _up(_up(height * d, down), 8)
            self.components[layer[0]] = _Component(a, d, layer[2], columns, rows)
        self.size, self.progressive = (width, height), marker == _PROGRESSIVE

    def _scan(self, at: int, end: int) -> int:
        """Where the scan ends whose header is `data[at:end]`."""
        scan = self._scan_header(at, end)
        marker = _MARKER.search(self.data, end)
        stop = marker.start() if marker else len(self.data)
        pieces, numbers = _intervals(self.data, end, stop)
        if numbers != [0xD0 + i % 8 for i in range(len(numbers))]:
            raise _Damaged("restart markers in the wrong order", end)
        self.scans += 1
        interleaved = len(scan.components) > 1
        one = scan.components[0]
        across, down = (max(getattr(c, f) for c in self.components.values()) for f in ("across", "down"))
        blocks = one.columns * one.rows
        if interleaved:
            blocks = _up(self.size[0], 8 * across) * _up(self.size[1], 8 * down)
        step = self.interval or blocks
        self.interval_used = self.interval_used or 0 < self.interval < blocks
        if len(pieces) != _up(blocks, step):
            raise _Damaged("a scan with too few or too many parts", end)
        decode = self._decoder(scan, end)
        for number, (start, piece) in enumerate(pieces):
            first = number * step
            self._check(decode, start, piece, first, min(step, blocks - first))
        return stop

    def _check(
        self, decode: Callable[[Words, int, int], int], start: int, piece: bytes, first: int, units: int
    ) -> None:
        content = piece.replace(b"\xff\x00", b"\xff")
        octets = np.frombuffer(content + bytes(5), np.uint8).astype(np.uint32)
        words = octets[:-3] << 24 | octets[1:-2] << 16 | octets[2:-1] << 8 | octets[3:]
        try:
            taken = decode(np.asarray(words, np.uint32).data, first, units)
        except IndexError:
            taken = _BAD_BITS
        if taken > 8 * len(content):
            raise _Damaged("a scan that ends early or cannot be decoded", start)
        spare = len(content) - _up(taken, 8)
        if spare:
            self._note(f"{_bytes(spare)} behind the last pixel of a scan", start + len(piece) - spare, spare)
        left = -taken % 8
        if left and content[_up(taken, 8) - 1] & (1 << left) - 1 != (1 << left) - 1:
            self._note("filling bits that are not all ones", start, len(piece))

    def _scan_header(self, at: int, end: int) -> _Scan:
        data, count = self.data, self.data[at + 4] if end - at > 4 else 0
        wrong = _Damaged("a scan that does not fit its frame", at)
        if not 1 <= count <= 3 or end - at != 8 + 2 * count or not self.components:
            raise wrong
        ids = [data[at + 5 + 2 * i] for i in range(count)]
        tables = [divmod(data[at + 6 + 2 * i], 16) for i in range(count)]
        if len(set(ids)) < count or not set(ids) <= self.components.keys():
            raise wrong
        components = [self.components[i] for i in ids]
        if any(c.quantization not in self.quantization for c in components):
            raise _Damaged("a component without its quantization table", at)
        if count > 1 and sum(c.across * c.down for c in components) > 10:
            raise wrong
        first, last, (before, low) = data[end - 3], data[end - 2], divmod(data[end - 1], 16)
        scan = _Scan(components, [t[0] for t in tables], [t[1] for t in tables], first, last, before, low)
        spectral = (0 < first <= last < 64 and count == 1) or first == last == 0
        if not (spectral if self.progressive else (first, last, before, low) == (0, 63, 0, 0)):
            raise wrong
        self._tell(scan, at)
        return scan

    def _tell(self, scan: _Scan, at: int) -> None:
        """Note which bits of which coefficients the scan tells; none may be told twice."""
        expected = scan.before if scan.before else None
        for component in scan.components:
            band = component.accuracy[scan.first : scan.last + 1]
            dc_missing = scan.first > 0 and component.accuracy[0] is None
            if any(known != expected for known in band) or dc_missing:
                raise _Damaged("a scan of what another scan has told", at)
            if (scan.before and scan.low != scan.before - 1) or scan.low > 13:
                raise _Damaged("a scan that does not fit its frame", at)
            component.accuracy[scan.first : scan.last + 1] = [scan.low] * len(band)

    def _table(
        self, kind: int, number: int, entry: Callable[[int, int], int], bad: int, at: int
    ) -> list[int]:
        if (kind, number) not in self.huffman:
            raise _Damaged("a scan without its Huffman table", at)
        table = self.huffman[kind, number]
        table.used = True
        return table.table(entry, bad)

    def _decoder(self, scan: _Scan, at: int) -> Callable[[Words, int, int], int]:
        """What gives the bits that so many units take, from a unit on."""
        shares = [c.across * c.down if len(scan.components) > 1 else 1 for c in scan.components]
        if scan.first > 0:
            return _AcScan(scan, self._table(1, scan.ac[0], _plain, -1, at), at).interval
        if scan.before:
            return lambda _words, _first, units: units * sum(shares)
        dc = {n: self._table(0, n, _dc_step, _BAD_BITS, at) for n in scan.dc}
        if self.progressive:
            firsts = [dc[n] for n, share in zip(scan.dc, shares, strict=True) for _ in range(share)]
            return lambda words, _first, units: _dc_first(words, firsts, units)
        ac = {n: self._table(1, n, _ac_step, _BAD_STEP << 6, at) for n in scan.ac}
        plan = [
            (dc[d], ac[a]) for d, a, share in zip(scan.dc, scan.ac, shares, strict=True) for _ in range(share)
        ]
        return lambda words, _first, units: _sequential(words, plan, units, at)

    def _end(self, at: int) -> None:
        if not self.components or any(c.accuracy[0] is None for c in self.components.values()):
            self._note("an end before the last scan", at, 0)
        wanted = {c.quantization for c in self.components.values()}
        for number, (start, size) in self.quantization.items():
            if number not in wanted:
                self._note("a quantization table that no component uses", start, size)
        for table in self.huffman.values():
            self._say_unused(table)
        self._say_idle_interval()
        _note_trailer(self.parts, self.data, at)


def _intervals(data: bytes, start: int, stop: int) -> tuple[list[tuple[int, bytes]], list[int]]:
    """The pieces of a scan between its restart markers, with where they begin; and the markers."""
    pieces, numbers = [], []
    for found in _RESTART.finditer(data, start, stop):
        pieces.append((start, data[start : found.start()]))
        numbers.append(found[1][0])
        start = found.end()
    return [*pieces, (start, data[start:stop])], numbers


class _Png:
    """One walk over the chunks of a PNG."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.parts: list[Part] = []
        self.rows: Iterator[int] = iter(())
        self.inflate = zlib.decompressobj()
        self.left = 0
        """Bytes of the row that is being inflated, the byte of its filter included."""
        self.done = False
        self.order: list[bytes] = []

    def judge(self) -> list[Part]:
        try:
            self._walk()
        except _Damaged as error:
            self.parts.append(Part(error.what, error.at, max(0, len(self.data) - error.at)))
        return self.parts

    def _walk(self) -> None:
        at, data = 8, self.data
        while at + 12 <= len(data):
            end = at + 12 + int.from_bytes(data[at : at + 4], "big")
            if end > len(data):
                raise _Damaged("a chunk that ends past the file", at)
            kind, content = data[at + 4 : at + 8], memoryview(data)[at + 8 : end - 4]
            if zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(data[end - 4 : end], "big"):
                self.parts.append(Part("a chunk with a wrong checksum", at, end - at))
            self._chunk(kind, content, at, end)
            if kind == b"IEND":
                return _note_trailer(self.parts, data, end)
            at = end
        raise _Damaged("an end before its last chunk", at)

    def _chunk(self, kind: bytes, content: memoryview, at: int, end: int) -> None:
        if (kind == b"IHDR") != (not self.order):
            raise _Damaged("chunks in the wrong order", at)
        if kind == b"IHDR":
            self._header(bytes(content), at)
        elif kind == b"IDAT":
            if b"IDAT" in self.order and self.order[-1] != b"IDAT":
                self.parts.append(Part("pixels that another chunk interrupts", at, end - at))
            if not content:
                self.parts.append(Part("an IDAT chunk without pixels", at, end - at))
            self._pixels(bytes(content), at + 8)
        elif kind == b"IEND":
            if len(content):
                self.parts.append(Part(f"{_bytes(len(content))} in the last chunk", at + 8, len(content)))
            if not self.done:
                raise _Damaged("pixels that end early", at)
        else:
            name = kind.decode() if kind.isalpha() and kind.isascii() else kind.hex()
            self.parts.append(Part(f"a {name} chunk ({_bytes(len(content))})", at, end - at))
        if self.order[-1:] != [kind]:
            self.order.append(kind)

    def _header(self, content: bytes, at: int) -> None:
        if len(content) != 13:
            raise _Damaged("a header of another length", at)
        width, height = (int.from_bytes(content[i : i + 4], "big") for i in (0, 4))
        depth, colour, compression, filtering, interlaced = content[8:]
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 0)
        if not 0 < width * height <= _MAX_PIXELS:
            raise _Damaged(f"a header of {width} x {height} pixels", at)
        if not channels or depth not in (1, 2, 4, 8, 16) or compression or filtering or interlaced > 1:
            raise _Damaged("a header that cannot be decoded", at)
        if interlaced:
            self.parts.append(Part("interlaced pixels", at, 25))
        if depth != 8 or colour == 3:
            what = "a palette in place of colours" if colour == 3 else f"pixels of {depth} bits"
            self.parts.append(Part(what, at, 25))
        if colour in (4, 6):
            self.parts.append(Part(f"an alpha channel, {_under_alpha(self.data)}", at, 25))
        self.rows = _row_bytes(width, height, depth * channels, bool(interlaced))

    def _pixels(self, content: bytes, at: int) -> None:
        if self.inflate.eof:
            raise _Damaged("bytes behind the last pixel", at)
        end = at + len(content)
        while content and not self.inflate.eof:
            try:
                pixels = self.inflate.decompress(content, 1 << 20)
            except zlib.error:
                raise _Damaged("pixels that cannot be inflated", at) from None
            content = self.inflate.unconsumed_tail
            self._follow(pixels, at)
            # what was held back for want of room comes without further input
            if not content and len(pixels) == 1 << 20:
                self._follow(self.inflate.decompress(b"", 1 << 20), at)
        if self.inflate.eof:
            spare = self.inflate.unused_data
            if spare:
                self.parts.append(
                    Part(f"{_bytes(len(spare))} behind the last pixel", end - len(spare), len(spare))
                )
            if self.left or next(self.rows, 0):
                raise _Damaged("pixels that end early", at)
            self.done = True

    def _follow(self, pixels: bytes, at: int) -> None:
        """Go on by inflated bytes: every row begins with the number of its filter."""
        i = 0
        while i < len(pixels):
            if not self.left:
                self.left = next(self.rows, 0)
                if not self.left:
                    raise _Damaged("more pixels than its header says", at)
                if pixels[i] > 4:
                    raise _Damaged("a row of pixels that cannot be decoded", at)
            taken = min(self.left, len(pixels) - i)
            self.left -= taken
            i += taken


def _row_bytes(width: int, height: int, bits: int, interlaced: bool) -> Iterator[int]:
    """Bytes of each row as it is stored, its filter's number included."""
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        ]
    for x, y, dx, dy in passes:
        columns, rows = _up(max(0, width - x), dx), _up(max(0, height - y), dy)
        if columns:
            for _ in range(rows):
                yield 1 + _up(columns * bits, 8)


def _under_alpha(data: bytes) -> str:
    try:
        with opened(data, "it", Limits()) as (image, _):
            pixels = np.asarray(image.convert("RGBA"))
    except InputError:
        return "which cannot be decoded"
    hidden = int((pixels[pixels[..., 3] == 0][:, :3] != 0).any(axis=1).sum())
    return f"with colour under {hidden} transparent pixels" if hidden else "with no colour under it"


def _note_trailer(parts: list[Part], data: bytes, at: int) -> None:
    if at < len(data):
        begins = next((k for k, start in _SIGNATURES.items() if data.startswith(start, at)), None)
        like = f", which begin like another {begins}" if begins else ""
        parts.append(Part(f"{_bytes(len(data) - at)} after its end{like}", at, len(data) - at))


def _segment_name(marker: int) -> str:
    if 0xE0 <= marker <= 0xEF:
        return f"an APP{marker - 0xE0} segment"
    return "a comment" if marker == 0xFE else f"a segment of the kind {marker:02X}"


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count} bytes"


def _up(value: int, step: int) -> int:
    return -(-value // step)
