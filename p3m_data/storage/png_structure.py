"""The chunks of a PNG: what is not needed to decode its 8-bit pixels is named.

The compressed stream is inflated and followed row by row, so that bytes behind the last pixel are seen.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from p3m_data.errors import InputError
from p3m_data.storage.images import Limits, opened
from p3m_data.storage.parts import MAX_PIXELS, Damaged, Part, ceil_div, in_bytes, trailer


class Png:
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
        except Damaged as error:
            self.parts.append(error.part(self.data))
        return self.parts

    def _walk(self) -> None:
        at, data = 8, self.data
        while at + 12 <= len(data):
            end = at + 12 + int.from_bytes(data[at : at + 4], "big")
            if end > len(data):
                raise Damaged("a chunk that ends past the file", at)
            kind, content = data[at + 4 : at + 8], memoryview(data)[at + 8 : end - 4]
            if zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(data[end - 4 : end], "big"):
                self.parts.append(Part("a chunk with a wrong checksum", at, end - at))
            self._chunk(kind, content, at, end)
            if kind == b"IEND":
                self.parts += trailer(data, end)
                return
            at = end
        raise Damaged("an end before its last chunk", at)

    def _chunk(self, kind: bytes, content: memoryview, at: int, end: int) -> None:
        if (kind == b"IHDR") != (not self.order):
            raise Damaged("chunks in the wrong order", at)
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
                self.parts.append(Part(f"{in_bytes(len(content))} in the last chunk", at + 8, len(content)))
            if not self.done:
                raise Damaged("pixels that end early", at)
        else:
            name = kind.decode() if kind.isalpha() and kind.isascii() else kind.hex()
            self.parts.append(Part(f"a {name} chunk ({in_bytes(len(content))})", at, end - at))
        if self.order[-1:] != [kind]:
            self.order.append(kind)

    def _header(self, content: bytes, at: int) -> None:
        if len(content) != 13:
            raise Damaged("a header of another length", at)
        width, height = (int.from_bytes(content[i : i + 4], "big") for i in (0, 4))
        depth, colour, compression, filtering, interlaced = content[8:]
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 0)
        if not 0 < width * height <= MAX_PIXELS:
            raise Damaged(f"a header of {width} x {height} pixels", at)
        if not channels or depth not in (1, 2, 4, 8, 16) or compression or filtering or interlaced > 1:
            raise Damaged("a header that cannot be decoded", at)
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
            raise Damaged("bytes behind the last pixel", at)
        end = at + len(content)
        while content and not self.inflate.eof:
            try:
                pixels = self.inflate.decompress(content, 1 << 20)
            except zlib.error:
                raise Damaged("pixels that cannot be inflated", at) from None
            content = self.inflate.unconsumed_tail
            self._follow(pixels, at)
            # what was held back for want of room comes without further input
            if not content and len(pixels) == 1 << 20:
                self._follow(self.inflate.decompress(b"", 1 << 20), at)
        if self.inflate.eof:
            spare = self.inflate.unused_data
            if spare:
                self.parts.append(
                    Part(f"{in_bytes(len(spare))} behind the last pixel", end - len(spare), len(spare))
                )
            if self.left or next(self.rows, 0):
                raise Damaged("pixels that end early", at)
            self.done = True

    def _follow(self, pixels: bytes, at: int) -> None:
        """Go on by inflated bytes: every row begins with the number of its filter."""
        i = 0
        while i < len(pixels):
            if not self.left:
                self.left = next(self.rows, 0)
                if not self.left:
                    raise Damaged("more pixels than its header says", at)
                if pixels[i] > 4:
                    raise Damaged("a row of pixels that cannot be decoded", at)
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
        columns, rows = ceil_div(max(0, width - x), dx), ceil_div(max(0, height - y), dy)
        if columns:
            for _ in range(rows):
                yield 1 + ceil_div(columns * bits, 8)


def _under_alpha(data: bytes) -> str:
    try:
        with opened(data, "it", Limits()) as (image, _):
            pixels = np.asarray(image.convert("RGBA"))
    except InputError:
        return "which cannot be decoded"
    hidden = int((pixels[pixels[..., 3] == 0][:, :3] != 0).any(axis=1).sum())
    return f"with colour under {hidden} transparent pixels" if hidden else "with no colour under it"
