"""Mutations that know JPEG segments, PNG chunks and TIFF entries, so that what is damaged is still opened.

A `Mutator` takes the bytes of a file and a source of chance and returns other bytes; given anything else than
its own format it falls back on plain damage.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

Mutator = Callable[[bytes, random.Random], bytes]
INTERESTING = (
    0,
    1,
    2,
    3,
    7,
    8,
    127,
    128,
    254,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
PNG = b"\x89PNG\r\n\x1a\n"
_APP1 = b"\xff\xe1"


def damage(data: bytes, chance: random.Random) -> bytes:
    """A few bytes set, taken out, repeated or cut off."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
        at = chance.randrange(len(out) + 1)
        kind = chance.randrange(5)
        if kind == 0 and at < len(out):
            out[at] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
        elif kind == 1:
            del out[at : at + chance.choice((1, 1, 2, 4, 16))]
        elif kind == 2:
            out[at:at] = out[at : at + chance.choice((1, 2, 4, 16))] or b"\0"
        elif kind == 3:
            width = chance.choice((2, 4))
            value = chance.choice(INTERESTING) % 256**width
            out[at : at + width] = value.to_bytes(width, chance.choice(("big", "little")))
        elif chance.random() < 0.2:
            del out[at:]
    return bytes(out)


def mutate_jpeg(data: bytes, chance: random.Random) -> bytes:
    """Segments changed, moved, repeated, left out; frame and scan headers changed field by field."""
    segments, rest = jpeg_segments(data)
    if not segments:
        return damage(data, chance)
    at = chance.randrange(len(segments))
    marker, content = segments[at]
    kind = chance.randrange(9)
    if kind == 0:
        segments[at] = marker, damage(content, chance)
    elif kind == 1:
        del segments[at]
    elif kind == 2:
        segments.insert(chance.randrange(len(segments) + 1), (marker, damage(content, chance)))
    elif kind == 3:
        other = chance.randrange(len(segments))
        segments[at], segments[other] = segments[other], segments[at]
    elif kind == 4:
        segments[at] = chance.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xDB, 0xDD, 0xE1, 0xEE, 0xFE)), content
    elif kind == 5:
        segments = [(m, _other_frame(c, chance) if 0xC0 <= m <= 0xC2 else c) for m, c in segments]
    elif kind == 6:
        segments.insert(0, (0xE1, b"Exif\0\0" + exif(chance.choice((0, 2, 3, 4, 5, 6, 7, 8, 9, 65535)))))
    elif kind == 7:
        segments.insert(at, _extra_segment(chance))
    else:
        rest = damage(rest, chance)
    fill = b"\xff" * chance.choice((0, 0, 0, 0, 1, 3))
    return b"\xff\xd8" + b"".join(fill + _segment(*segment) for segment in segments) + rest


def jpeg_segments(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """(marker, content) up to the first scan's header, and what follows; none where `data` is no JPEG."""
    found: list[tuple[int, bytes]] = []
    at = 2
    while data[:2] == b"\xff\xd8" and at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:
            at += 1
            continue
        found.append((marker, data[at + 4 : at + 2 + length]))
        at += 2 + max(length, 2)
        if marker == 0xDA:
            break
    return found, data[at:]


def _segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + (min(len(content) + 2, 65535)).to_bytes(2, "big") + content[:65533]


def _other_frame(content: bytes, chance: random.Random) -> bytes:
    """A frame header of another size, depth, subsampling, component name or table."""
    out = bytearray(content)
    if len(out) < 9:
        return damage(content, chance)
    at = chance.randrange(len(out))
    if at in (1, 2, 3, 4):
        first = 1 if at < 3 else 3
        out[first : first + 2] = chance.choice((0, 1, 7, 8, 9, 15, 16, 17, 31, 65500, 65535)).to_bytes(
            2, "big"
        )
    elif at >= 6 and (at - 6) % 3 == 1:
        out[at] = chance.choice((0x11, 0x12, 0x21, 0x22, 0x41, 0x14, 0x31, 0x44, 0x00, 0x01))
    else:
        out[at] = chance.choice((0, 1, 2, 3, 4, 8, 12, 0x42, 0x47, 0x52, 255))
    return bytes(out)


def _extra_segment(chance: random.Random) -> tuple[int, bytes]:
    return chance.choice(
        (
            (0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([chance.randrange(4)])),
            (0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
            (0xDD, chance.choice((0, 1, 2, 65535)).to_bytes(2, "big")),
            (0xFE, b"comment"),
            (0xE2, b"MPF\0" + bytes(chance.randrange(40))),
            (0xE2, b"ICC_PROFILE\0\x01\x01" + bytes(chance.randrange(200))),
            (0xED, b"Photoshop 3.0\x008BIM" + bytes(chance.randrange(30))),
        )
    )


def exif(orientation: int) -> bytes:
    """A TIFF header with one entry, the orientation."""
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def mutate_png(data: bytes, chance: random.Random) -> bytes:
    """Chunks changed, moved, repeated, left out, their checksums made right again."""
    chunks = png_chunks(data)
    if not chunks:
        return damage(data, chance)
    at = chance.randrange(len(chunks))
    name, content = chunks[at]
    kind = chance.randrange(7)
    if kind == 0:
        chunks[at] = name, damage(content, chance)
    elif kind == 1:
        del chunks[at]
    elif kind == 2:
        chunks.insert(chance.randrange(len(chunks) + 1), (name, content))
    elif kind == 3:
        chunks.insert(chance.randrange(1, len(chunks) + 1), _extra_chunk(chance))
    elif kind == 4:
        chunks = [(n, _other_header(c, chance) if n == b"IHDR" else c) for n, c in chunks]
    elif kind == 5:
        chunks = [(n, _other_rows(c, chance) if n == b"IDAT" else c) for n, c in chunks]
    else:
        chunks[at] = chance.choice((b"tRNS", b"PLTE", b"IDAT", b"fdAT", b"zzzz")), content
    return PNG + b"".join(_chunk(*chunk) for chunk in chunks)


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """(name, content) of each chunk; none where `data` is no PNG."""
    found, at = [], 8
    while data[:8] == PNG and at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")


def _other_header(content: bytes, chance: random.Random) -> bytes:
    out = bytearray(content.ljust(13, b"\0"))
    at = chance.randrange(13)
    if at < 8:
        side = chance.choice((0, 1, 2, 7, 8, 9, 65535, 2**31 - 1, 2**32 - 1))
        out[at // 4 * 4 : at // 4 * 4 + 4] = side.to_bytes(4, "big")
    else:
        out[at] = chance.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    return bytes(out[:13])


def _other_rows(content: bytes, chance: random.Random) -> bytes:
    """Pixels damaged before they are compressed."""
    try:
        rows = zlib.decompressobj().decompress(content, 2**20)
    except zlib.error:
        return damage(content, chance)
    return zlib.compress(damage(rows, chance), 1)


def _extra_chunk(chance: random.Random) -> tuple[bytes, bytes]:
    return chance.choice(
        (
            (b"tRNS", bytes(chance.choice((0, 1, 2, 3, 6, 256)))),
            (b"PLTE", bytes(chance.randrange(256) for _ in range(chance.choice((0, 3, 6, 768, 5))))),
            (b"gAMA", chance.choice(INTERESTING).to_bytes(5, "big")[1:]),
            (b"iCCP", b"icc\0\0" + zlib.compress(bytes(chance.randrange(200)))),
            (b"iCCP", b"icc\0\0" + zlib.compress(bytes(2**21))),
            (b"zTXt", b"text\0\0" + zlib.compress(bytes(2**21))),
            (b"eXIf", exif(chance.randrange(12))),
            (b"acTL", struct.pack(">II", chance.choice((0, 1, 2, 2**31)), 0)),
            (b"fcTL", struct.pack(">IIIIIHHBB", 0, 9, 9, 0, 0, 1, 1, 1, 1)),
            (b"cHRM", bytes(32)),
            (b"IEND", b""),
        )
    )


def mutate_tiff(data: bytes, chance: random.Random) -> bytes:
    """Entries of the first directory changed, tag, type, count and value apart."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 10:
        return damage(data, chance)
    start = struct.unpack(f"{order}I", data[4:8])[0]
    count = int.from_bytes(data[start : start + 2], "little" if order == "<" else "big")
    first, last = start + 2, start + 2 + 12 * count
    if not count or last > len(data):
        return damage(data, chance)
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2))):
        at = first + 12 * chance.randrange(count)
        tag, kind, number, value = struct.unpack(f"{order}HHII", out[at : at + 12])
        what = chance.randrange(4)
        tag = (
            chance.choice((256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 317, 322, 338))
            if what == 0
            else tag
        )
        kind = chance.randrange(18) if what == 1 else kind
        number = chance.choice(INTERESTING) if what == 2 else number
        # a short value lies in the first two bytes, whatever the order
        value = chance.choice((*INTERESTING, *range(12), 32773, 34677, 50000)) if what == 3 else value
        if what == 3 and kind == 3 and number == 1:
            value = value % 65536 << (16 if order == ">" else 0)
        out[at : at + 12] = struct.pack(f"{order}HHII", tag, kind, number, value)
    return bytes(out)


def mutate_image(data: bytes, chance: random.Random) -> bytes:
    """By the format that the first bytes name."""
    if data[:2] == b"\xff\xd8":
        return mutate_jpeg(data, chance)
    if data[:8] == PNG:
        return mutate_png(data, chance)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return mutate_tiff(data, chance)
    changed = damage(data, chance)
    if changed[:4] == b"RIFF":
        return b"RIFF" + (len(changed) - 8).to_bytes(4, "little", signed=True) + changed[8:]
    return changed
