"""The segments of a JPEG: what is not needed to decode its 8-bit pixels is named."""

from __future__ import annotations

from p3m_data.storage.jpeg_huffman import HuffmanTable
from p3m_data.storage.jpeg_scans import Coding, Component, follow
from p3m_data.storage.jpeg_segments import (
    ADOBE,
    ALL_FRAMES,
    APPLICATIONS,
    BARE,
    COMMENT,
    DAC,
    DHT,
    DQT,
    DRI,
    EOI,
    FRAMES,
    JFIF,
    PROGRESSIVE,
    SOI,
    SOS,
    frame_size,
    segment_at,
)
from p3m_data.storage.parts import MAX_PIXELS, Damaged, Part, ceil_div, in_bytes, trailer

_COMPONENT_IDS = frozenset({(0,), (1,), (1, 2, 3), (0, 1, 2), tuple(b"RGB")})
# what programs write that know nothing of a camera or a scanner: no unit, 72 and 96 dots per inch
_RESOLUTIONS = frozenset({(0, 1, 1), (1, 72, 72), (1, 96, 96)})
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


class Jpeg:
    """One walk over the segments of a JPEG."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.parts: list[Part] = []
        self.coding = Coding()
        self.interval_at = 0
        self.jfif = self.adobe = self.scanned = False

    def judge(self) -> list[Part]:
        try:
            self._walk()
        except Damaged as error:
            self.parts.append(error.part(self.data))
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
                self._note(f"{in_bytes(at - start)} of filling before a marker", start, at - start)
            if at + 2 > len(data) or data[at] != 0xFF or data[at + 1] == 0:
                raise Damaged("an end before its last marker" if at + 2 > len(data) else "stray bytes", at)
            marker = data[at + 1]
            if marker == EOI:
                return self._end(at + 2)
            if marker in BARE:
                self._note("a second start of a picture" if marker == SOI else "a stray marker", at, 2)
                at += 2
                continue
            end = segment_at(data, at).end
            if not at + 4 <= end <= len(data):
                raise Damaged("a segment that ends past the file", at)
            self._segment(marker, at, end)
            at = self._scan(at, end) if marker == SOS else end

    def _scan(self, at: int, end: int) -> int:
        stop = follow(self.data, at, end, self.coding, self.parts)
        self.scanned = True
        return stop

    def _segment(self, marker: int, at: int, end: int) -> None:
        if marker in (DQT, DHT) and end == at + 4:
            self._note("a segment without a table in it", at, end - at)
        elif marker == DQT:
            self._quantization(at + 4, end)
        elif marker == DHT:
            self._huffman(at + 4, end)
        elif marker == DRI:
            self._restarts(at, end)
        elif marker in FRAMES:
            self._frame(marker, at, end)
        elif marker in ALL_FRAMES or marker == DAC:
            raise Damaged("pixels in a coding other than sequential or progressive Huffman", at)
        elif marker == JFIF and self._is_plain_jfif(at, end):
            self.jfif = True
        elif marker == ADOBE and self._is_plain_adobe(self.data[at + 4 : end]):
            self.adobe = True
        elif marker != SOS:
            self._note(f"{_segment_name(marker)} ({self._owner(at, end)})", at, end - at)

    def _owner(self, at: int, end: int) -> str:
        content = self.data[at + 4 : end]
        owner = next((f"{name}, " for start, name in _OWNERS if content.startswith(start)), "")
        return f"{owner}{in_bytes(len(content))}"

    def _is_plain_jfif(self, at: int, end: int) -> bool:
        content = self.data[at + 4 : end]
        if at != 2 or len(content) != 14 or content[:6] != b"JFIF\0\1" or content[6] > 2:
            return False
        resolution = content[7], *(int.from_bytes(content[i : i + 2], "big") for i in (8, 10))
        return resolution in _RESOLUTIONS and content[12:] == b"\0\0"

    def _is_plain_adobe(self, content: bytes) -> bool:
        """Whether it says no more than how three components are coded, and nothing else says it."""
        once = not (self.adobe or self.jfif or self.scanned)
        return once and content in (b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\1")

    def _quantization(self, at: int, end: int) -> None:
        while at < end:
            wide, number = divmod(self.data[at], 16)
            size = 1 + 64 * (1 + wide)
            if wide > 1 or number > 3 or at + size > end:
                raise Damaged(
                    f"{in_bytes(end - at)} in a segment of quantization tables that are no table", at
                )
            if number in self.coding.quantization:
                self._note("a quantization table that replaces another", at, size)
            self.coding.quantization[number] = at, size
            at += size

    def _huffman(self, at: int, end: int) -> None:
        while at < end:
            kind, number = divmod(self.data[at], 16)
            counts = self.data[at + 1 : at + 17]
            size = 17 + sum(counts)
            symbols = self.data[at + 17 : at + size]
            if kind > 1 or number > 3 or at + size > end or len(set(symbols)) < len(symbols):
                raise Damaged(f"{in_bytes(end - at)} in a segment of Huffman tables that are no table", at)
            if (kind, number) in self.coding.huffman:
                self._say_unused(self.coding.huffman[kind, number])
            self.coding.huffman[kind, number] = HuffmanTable(at, counts, symbols)
            at += size

    def _say_unused(self, table: HuffmanTable) -> None:
        if not table.used:
            self._note("a Huffman table that no scan uses", table.at, 17 + len(table.symbols))

    def _restarts(self, at: int, end: int) -> None:
        self._say_idle_interval()
        self.coding.interval = int.from_bytes(self.data[at + 4 : at + 6], "big")
        self.interval_at, self.coding.interval_used = at, False
        if end - at != 6:
            self._note(f"a restart interval of {in_bytes(end - at - 4)}", at, end - at)

    def _say_idle_interval(self) -> None:
        if not self.coding.interval_used:
            self._note("a restart interval that no scan uses", self.interval_at, 6)

    def _frame(self, marker: int, at: int, end: int) -> None:
        data, count = self.data, self.data[at + 9] if end - at >= 10 else 0
        if self.coding.components or count not in (1, 3) or end - at != 10 + 3 * count or data[at + 4] != 8:
            raise Damaged("a frame that is not the only one of 8 bits and one or three components", at)
        width, height = frame_size(data, at)
        if not 0 < width * height <= MAX_PIXELS:
            raise Damaged(f"a frame of {width} x {height} pixels", at)
        layers = [data[i : i + 3] for i in range(at + 10, end, 3)]
        factors = [divmod(layer[1], 16) for layer in layers]
        if not all(1 <= a <= 4 and 1 <= d <= 4 for a, d in factors) or any(layer[2] > 3 for layer in layers):
            raise Damaged("a frame that cannot be decoded", at)
        if tuple(layer[0] for layer in layers) not in _COMPONENT_IDS:
            self._note("components with unusual numbers", at + 10, 3 * count)
        across, down = (max(pair[i] for pair in factors) for i in (0, 1))
        for layer, (a, d) in zip(layers, factors, strict=True):
            columns, rows = ceil_div(ceil_div(width * a, across), 8), ceil_div(ceil_div(height * d, down), 8)
            self.coding.components[layer[0]] = Component(a, d, layer[2], columns, rows)
        self.coding.size, self.coding.progressive = (width, height), marker == PROGRESSIVE

    def _end(self, at: int) -> None:
        if not self.coding.components or any(c.accuracy[0] is None for c in self.coding.components.values()):
            self._note("an end before the last scan", at, 0)
        wanted = {c.quantization for c in self.coding.components.values()}
        for number, (start, size) in self.coding.quantization.items():
            if number not in wanted:
                self._note("a quantization table that no component uses", start, size)
        for table in self.coding.huffman.values():
            self._say_unused(table)
        self._say_idle_interval()
        self.parts += trailer(self.data, at)


def _segment_name(marker: int) -> str:
    if marker in APPLICATIONS:
        return f"an APP{marker - APPLICATIONS.start} segment"
    return "a comment" if marker == COMMENT else f"a segment of the kind {marker:02X}"
