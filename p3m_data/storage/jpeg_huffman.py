"""The Huffman codes of a JPEG's scans, followed without decoding a pixel: how many bits do so many blocks take?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p3m_data.storage.parts import Damaged

BAD_BITS = 1 << 40
"""A step in the stream that ends beyond any file."""
BAD_STEP = 1024
"""Coefficients in a step that no block has."""
_BLOCK_ENDS = 128
Words = memoryview
"""The 32 bits that begin at each byte of a scan."""


@dataclass
class HuffmanTable:
    """One table, and whether a scan used it."""

    at: int
    """Where it begins in the file."""
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
            raise Damaged("a Huffman table with more codes than there can be", self.at)
        return table + [bad] * ((1 << 16) - len(table))


def dc_step(length: int, symbol: int) -> int:
    """Bits to go on by a first coefficient: its code and what follows it."""
    return length + symbol if symbol <= 11 else BAD_BITS


def ac_step(length: int, symbol: int) -> int:
    """Bits to go on (the low six of the number) and coefficients to go on."""
    run, size = symbol >> 4, symbol & 15
    if size == 0:
        return length | ({0: _BLOCK_ENDS, 15: 16}.get(run, BAD_STEP) << 6)
    return (length + size) | ((run + 1 if size <= 10 else BAD_STEP) << 6)


def plain(length: int, symbol: int) -> int:
    """The length (the low eight bits of the number) and the symbol, for `AcScan`."""
    return length | symbol << 8


def sequential(words: Words, plan: list[tuple[list[int], list[int]]], units: int, at: int) -> int:
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
                raise Damaged("a scan that cannot be decoded", at)
    return p


def dc_first(words: Words, plan: list[list[int]], units: int) -> int:
    """Bits that the first coefficients of `units` MCUs take, told for the first time."""
    p = 0
    for _ in range(units):
        for dc in plan:
            p += dc[words[p >> 3] >> (16 - (p & 7)) & 0xFFFF]
    return p


class AcScan:
    """The scans of a progressive JPEG that tell coefficients other than the first, one component each."""

    def __init__(
        self, table: list[int], band: tuple[int, int], refines: bool, nonzero: dict[int, int], at: int
    ) -> None:
        self.table, self.refines, self.nonzero, self.at = table, refines, nonzero, at
        self.first, self.last = band
        self.band = (1 << self.last + 1) - (1 << self.first)

    def interval(self, words: Words, start: int, blocks: int) -> int:
        """Bits that the blocks from `start` on take."""
        block, end, p = start, start + blocks, 0
        one_block = self._refined if self.refines else self._found
        while block < end:
            p, ends = one_block(words, p, block)
            if block + ends > end:
                raise Damaged("a scan that runs past its last block", self.at)
            if self.refines and self.nonzero and ends > 1:
                p += sum(self._known(other) for other in range(block + 1, block + ends))
            block += max(1, ends)
        return p

    def _known(self, block: int, start: int = 0) -> int:
        """Coefficients from `start` on that get a bit of correction each."""
        return (self.nonzero.get(block, 0) & self.band & -(1 << start)).bit_count()

    def _code(self, words: Words, p: int) -> tuple[int, int, int]:
        entry = self.table[words[p >> 3] >> (16 - (p & 7)) & 0xFFFF]
        return p + (entry & 0xFF if entry >= 0 else BAD_BITS), entry >> 12 & 15, entry >> 8 & 15

    def _run(self, words: Words, p: int, bits: int) -> tuple[int, int]:
        """Blocks, this one among them, that end here."""
        more = words[p >> 3] >> (32 - (p & 7) - bits) & (1 << bits) - 1
        return p + bits, (1 << bits) + more

    def _found(self, words: Words, p: int, block: int) -> tuple[int, int]:
        k, mask = self.first, 0
        while k <= self.last:
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
        if k > self.last + 1:
            raise Damaged("a scan that cannot be decoded", self.at)
        return p, 0

    def _note(self, block: int, mask: int) -> None:
        if mask:
            self.nonzero[block] = self.nonzero.get(block, 0) | mask

    def _refined(self, words: Words, p: int, block: int) -> tuple[int, int]:
        known, new, k = self.nonzero.get(block, 0), 0, self.first
        while k <= self.last:
            p, run, size = self._code(words, p)
            if size == 0 and run < 15:
                p, ends = self._run(words, p, run)
                # those found in this very scan have no bit of correction in it
                p += self._known(block, k)
                self._note(block, new)
                return p, ends
            p += size
            while k <= self.last and (run > 0 or known >> k & 1):
                p, run = (p + 1, run) if known >> k & 1 else (p, run - 1)
                k += 1
            if size != (1 if size else 0) or (size and k > self.last):
                raise Damaged("a scan that cannot be decoded", self.at)
            new |= size << k
            k += 1
        self._note(block, new)
        return p, 0
