"""Duplicates: pictures whose perceptual hashes lie close together, found without comparing all with all.

Two 64-bit hashes that differ in at most `most` bits agree, in one of four parts of 16 bits, up to `most // 4` bits.
So each part is looked up in a table of the others' parts, with every such change made to it. Nothing is missed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field

from p3m_data.arrays import UInt8Array
from p3m_data.errors import MissingExtra
from p3m_data.types import Frozen

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.intp]

PARTS = 4
BITS = 64 // PARTS
ROOM = 1 << 20
"""Candidate pairs looked at in one go."""


class DuplicateConfig(Frozen):
    """Chosen on 194 portraits: at 8 and 10 the pairs found are a retouched copy and two pictures of one burst;
    at 12 and 12 two people before the same flag. Encoding anew at quality 40, halving the size and brightening
    by a fifth keep within 6 and 7; a crop of 2 % a side does in most cases, one of 5 % does not."""

    most_phash: int = Field(8, ge=0, le=15, description="bits of 64 by which the DCT hashes may differ")
    most_dhash: int = Field(10, ge=0, le=64, description="bits of 64 by which the gradient hashes may differ")


DEFAULTS = DuplicateConfig()


class Pair(NamedTuple):
    first: int
    second: int
    """Index of the later picture; `first` is smaller."""
    phash: int
    """Bits that differ."""
    dhash: int


def can_hash() -> bool:
    """Whether the package for the hashes is installed."""
    return importlib.util.find_spec("imagehash") is not None


def hashes(pixels: UInt8Array) -> tuple[int, int]:
    """The phash and the dhash of an (H, W, 3) uint8 picture, 64 bits each; `MissingExtra` without ImageHash."""
    try:
        import imagehash
    except ImportError as error:
        raise MissingExtra("ImageHash", "audit") from error
    image = Image.fromarray(pixels)
    return _as_int(imagehash.phash(image).hash), _as_int(imagehash.dhash(image).hash)


def near_pairs(
    phash: Hashes,
    dhash: Hashes,
    groups: npt.NDArray[np.integer] | None = None,
    config: DuplicateConfig = DEFAULTS,
) -> list[Pair]:
    """Every pair of pictures that lie within both limits, by index.

    phash, dhash: (N,) uint64. groups: (N,) integers, for example the splits (None: all in one). Of pictures with
    the very same hashes in one group only the first is compared with others, and the rest with it alone: a
    thousand copies are 999 pairs, not half a million.
    """
    phash, dhash = np.asarray(phash, np.uint64), np.asarray(dhash, np.uint64)
    inside = np.zeros(len(phash), np.int64) if groups is None else np.asarray(groups, np.int64)
    if not phash.shape == dhash.shape == inside.shape or phash.ndim != 1:
        raise ValueError(f"expected three (N,) arrays, got {phash.shape}, {dhash.shape} and {inside.shape}")
    pairs = []
    holders: dict[tuple[int, int, int], int] = {}
    for index, key in enumerate(zip(phash.tolist(), dhash.tolist(), inside.tolist(), strict=True)):
        holder = holders.setdefault(key, index)
        if holder != index:
            pairs.append(Pair(holder, index, 0, 0))
    distinct = np.fromiter(holders.values(), np.intp, len(holders))
    for first, second in _candidates(phash[distinct], config.most_phash):
        a, b = distinct[first], distinct[second]
        apart = np.bitwise_count(dhash[a] ^ dhash[b])
        near = apart <= config.most_dhash
        far = np.bitwise_count(phash[a] ^ phash[b])
        pairs += map(Pair, a[near].tolist(), b[near].tolist(), far[near].tolist(), apart[near].tolist())
    return sorted(set(pairs))


def clusters(count: int, pairs: Iterable[Pair]) -> list[list[int]]:
    """Indices below `count` that pairs join directly or through others, each cluster of two or more, sorted.

    A splitter keeps a cluster in one split.
    """
    parent = list(range(count))

    def top(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for pair in pairs:
        a, b = sorted((top(pair.first), top(pair.second)))
        parent[b] = a
    members: dict[int, list[int]] = {}
    for index in range(count):
        members.setdefault(top(index), []).append(index)
    return [cluster for cluster in members.values() if len(cluster) > 1]


def _candidates(hashed: Hashes, most: int) -> Iterator[tuple[Indices, Indices]]:
    """Index arrays of the pairs (first < second) that differ in at most `most` bits; a pair may come twice."""
    changes = _changes(most // PARTS)
    for part in range(PARTS):
        keys = ((hashed >> np.uint64(part * BITS)) & np.uint64((1 << BITS) - 1)).astype(np.intp)
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], np.arange((1 << BITS) + 1))
        for change in changes:
            sought = keys ^ change
            for first, second in _joined(starts[sought], starts[sought + 1], order):
                keep = first < second
                keep[keep] = np.bitwise_count(hashed[first[keep]] ^ hashed[second[keep]]) <= most
                if keep.any():
                    yield first[keep], second[keep]


def _joined(begin: Indices, end: Indices, order: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Each index i with every order[begin[i]:end[i]], some at a time."""
    counts = end - begin
    beyond = np.cumsum(counts)
    at = 0
    while at < len(counts):
        done = beyond[at - 1] if at else 0
        to = max(int(np.searchsorted(beyond, done + ROOM)), at + 1)
        some = counts[at:to]
        first = np.repeat(np.arange(at, to), some)
        within = np.arange(len(first)) - np.repeat(np.cumsum(some) - some, some)
        yield first, order[np.repeat(begin[at:to], some) + within]
        at = to


def _changes(most: int) -> list[int]:
    """All 16-bit numbers with at most `most` bits set."""
    return [
        sum(1 << bit for bit in bits)
        for count in range(most + 1)
        for bits in combinations(range(BITS), count)
    ]


def _as_int(bits: npt.NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")
