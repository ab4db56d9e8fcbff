"""The whitelist of JPEG and PNG: encoders' own files are silent, and whatever is put into them is found.

Pillow is the independent reader: what it sees beside the pixels must be found, and a change that nothing
finds must be one of pixels.
"""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from p3m_data.arrays import UInt8Array
from p3m_data.storage.images import encode_picture, encode_png, load_picture
from p3m_data.storage.jpeg import encode_fine
from p3m_data.storage.parts import Part
from p3m_data.storage.structure import foreign_parts

quick = settings(max_examples=60, deadline=None)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + kind + content + checksum


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def _saved(pixels: npt.NDArray[Any], kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


@st.composite
def pictures(draw: st.DrawFn, channels: tuple[int, ...] = (1, 3), least: int = 1) -> UInt8Array:
    """(H, W) or (H, W, 3): noise, one colour, or smooth."""
    height, width = draw(st.integers(least, 70)), draw(st.integers(least, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    look = draw(st.sampled_from(["noise", "one colour", "smooth"]))
    if look == "one colour":
        pixels[:] = pixels[0, 0]
    elif look == "smooth":
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 3), np.uint8)
    return pixels if draw(st.sampled_from(channels)) == 3 else np.ascontiguousarray(pixels[..., 0])


def _ways(data: bytes) -> list[str]:
    return [part.what for part in foreign_parts(data, ".png" if data[:1] == b"\x89" else ".jpg")]


@quick
@given(pictures())
def test_png_encoders_are_silent(pixels: UInt8Array) -> None:
    assert foreign_parts(encode_png(pixels), ".png") == []
    assert foreign_parts(cv2.imencode(".png", pixels)[1].tobytes(), ".PNG") == []
    for options in ({}, {"optimize": True}, {"compress_level": 0}):
        assert foreign_parts(_saved(pixels, "PNG", **options), ".png") == []


@quick
@given(
    pictures(),
    st.integers(1, 100),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
)
def test_jpeg_encoders_are_silent(
    pixels: UInt8Array, quality: int, subsampling: int, progressive: bool, optimize: bool
) -> None:
    data = _saved(
        pixels, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive, optimize=optimize
    )
    assert foreign_parts(data, ".jpg") == []
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    assert foreign_parts(cv2.imencode(".jpg", pixels, options)[1].tobytes(), ".jpeg") == []


@quick
@given(pictures(least=40), st.integers(0, 2), st.booleans())
def test_restart_markers_are_silent(pixels: UInt8Array, subsampling: int, progressive: bool) -> None:
    for restarts in ({"restart_marker_rows": 1}, {"restart_marker_blocks": 2}):
        data = _saved(pixels, "JPEG", subsampling=subsampling, progressive=progressive, **restarts)
        assert foreign_parts(data, ".jpg") == []


@quick
@given(pictures((3,), least=8), st.integers(5, 100), st.integers(0, 2), st.booleans(), st.integers(1, 8))
def test_our_own_pictures_are_silent(
    pixels: UInt8Array, quality: int, subsampling: int, rgb: bool, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"keep_rgb": True} if rgb else {"subsampling": subsampling}
    source = load_picture(_saved(pixels, "JPEG", quality=quality, exif=exif.tobytes(), **options), "it")
    mask = np.zeros(source.pixels.shape[:2], np.bool_)
    mask[2:6, 2:6] = True
    assert foreign_parts(*encode_picture(source, np.full_like(source.pixels, 90), mask)) == []
    assert foreign_parts(encode_fine(pixels), ".jpg") == []


GOOD = np.asarray(
    cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (50, 66, 3), np.uint8), (0, 0), 2)
)
JPEGS = {
    "baseline": _saved(GOOD, "JPEG", quality=80),
    "progressive": _saved(GOOD, "JPEG", quality=80, progressive=True),
    "restarts": _saved(GOOD, "JPEG", quality=80, restart_marker_rows=1),
    "grey": _saved(np.ascontiguousarray(GOOD[..., 0]), "JPEG", optimize=True),
}
PNGS = {"colour": encode_png(GOOD), "grey": encode_png(np.ascontiguousarray(GOOD[..., 0]))}


def _pixels(data: bytes) -> bytes | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB").tobytes()
    except Exception:
        return None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(JPEGS)), st.data())
def test_bytes_put_into_a_jpeg_are_found_or_are_pixels(kind: str, data: st.DataObject) -> None:
    good = JPEGS[kind]
    at = data.draw(st.integers(0, len(good)))
    extra = data.draw(st.binary(min_size=1, max_size=40))
    changed = good[:at] + extra + good[at:]
    if not foreign_parts(changed, ".jpg") and changed != good:
        assert _pixels(changed) != _pixels(good)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(JPEGS)), st.integers(0, 255), st.binary(max_size=80), st.data())
def test_a_segment_put_into_a_jpeg_is_found(
    kind: str, marker: int, content: bytes, data: st.DataObject
) -> None:
    good = JPEGS[kind]
    border = data.draw(st.sampled_from(_borders(good)))
    assert foreign_parts(good[:border] + _segment(marker, content) + good[border:], ".jpg")


@pytest.mark.parametrize("marker", [0xC4, 0xDB])
def test_a_segment_of_tables_without_any_is_found(marker: int) -> None:
    good = JPEGS["baseline"]
    for border in (20, good.index(b"\xff\xda"), len(good) - 2):
        parts = foreign_parts(good[:border] + _segment(marker, b"") + good[border:], ".jpg")
        assert parts == [Part("a segment without a table in it", border, 4)]


def _borders(data: bytes) -> list[int]:
    """Where the segments of the header begin, by their lengths alone, and where the end marker does."""
    at, found = 2, []
    while data[at + 1] != 0xDA:
        found.append(at)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return [*found, at, len(data) - 2, len(data)]


@quick
@given(st.sampled_from(sorted(JPEGS)), st.data())
def test_a_segment_repeated_is_found(kind: str, data: st.DataObject) -> None:
    good = JPEGS[kind]
    *starts, _, _ = _borders(good)
    number = data.draw(st.integers(0, len(starts) - 2))
    copied = good[starts[number] : starts[number + 1]]
    border = data.draw(st.sampled_from(starts))
    assert foreign_parts(good[:border] + copied + good[border:], ".jpg")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(PNGS)), st.binary(min_size=1, max_size=40), st.data())
def test_bytes_put_into_a_png_are_found(kind: str, extra: bytes, data: st.DataObject) -> None:
    good = PNGS[kind]
    at = data.draw(st.integers(0, len(good)))
    changed = good[:at] + extra + good[at:]
    assert changed == good or foreign_parts(changed, ".png")


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(PNGS)),
    st.sampled_from([b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"IEND", b"tEXt", b"gAMA", b"pHYs"])
    | st.binary(min_size=4, max_size=4),
    st.binary(max_size=40),
    st.data(),
)
def test_a_chunk_put_into_a_png_is_found(kind: str, name: bytes, content: bytes, data: st.DataObject) -> None:
    good = PNGS[kind]
    borders = [8]
    while borders[-1] < len(good):
        borders.append(borders[-1] + 12 + int.from_bytes(good[borders[-1] : borders[-1] + 4], "big"))
    border = data.draw(st.sampled_from(borders))
    assert foreign_parts(good[:border] + _chunk(name, content) + good[border:], ".png")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*JPEGS.values(), *PNGS.values()]), st.data())
def test_a_part_of_a_file_is_found(good: bytes, data: st.DataObject) -> None:
    kept = good[: data.draw(st.integers(0, len(good) - 1))]
    assert _ways(kept)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([".jpg", ".png", "", ".gif", ".JPEG"]), st.booleans())
def test_any_bytes_are_judged(data: bytes, suffix: str, begun: bool) -> None:
    start = (b"\xff\xd8\xff" if suffix.lower() != ".png" else PNGS["grey"][:41]) if begun else b""
    parts = foreign_parts(start + data, suffix)
    assert parts
    assert all(0 <= p.offset <= len(start + data) and p.offset + p.length <= len(start + data) for p in parts)


def test_a_part_says_what_and_where() -> None:
    good = JPEGS["baseline"]
    exif = _segment(0xE1, b"Exif\0\0" + bytes(406))
    assert foreign_parts(good[:20] + exif + good[20:] + b"tail", ".jpg") == [
        Part("an APP1 segment (Exif, 412 bytes)", 20, 416),
        Part("4 bytes after its end", len(good) + 416, 4),
    ]
    text = _chunk(b"tEXt", b"Author\0Anna")
    png = PNGS["grey"]
    assert foreign_parts(png[:33] + text + png[33:], ".png") == [Part("a tEXt chunk (11 bytes)", 33, 23)]


@pytest.mark.parametrize(
    ("data", "suffix", "said"),
    [
        (JPEGS["baseline"], ".png", "JPEG data under the suffix .png"),
        (PNGS["grey"], ".jpg", "PNG data under the suffix .jpg"),
        (PNGS["grey"], "", "PNG data under the suffix (none)"),
        (b"GIF89a", ".gif", "neither JPEG nor PNG data under the suffix .gif"),
        (JPEGS["grey"] + JPEGS["grey"], ".jpg", "which begin like another JPEG"),
        (JPEGS["grey"][:-2] + b"\xff\xff\xd9", ".jpg", "1 byte of filling before a marker"),
        (JPEGS["grey"][:-2] + b"anna" + b"\xff\xd9", ".jpg", "4 bytes behind the last pixel of a scan"),
        (
            JPEGS["grey"].replace(b"\xff\xdb", b"\xff\xdd\0\4\1\2\xff\xdb", 1),
            ".jpg",
            "a restart interval that no",
        ),
        (_saved(GOOD, "JPEG", dpi=(317, 317)), ".jpg", "an APP0 segment (JFIF, 14 bytes)"),
        (_saved(GOOD, "JPEG", comment=b"x"), ".jpg", "a comment (1 byte)"),
        (_saved(np.dstack([GOOD, 0 * GOOD[..., 0]]), "PNG"), ".png", "an alpha channel, with colour under"),
        (_saved(np.dstack([0 * GOOD, 0 * GOOD[..., 0]]), "PNG"), ".png", "an alpha channel, with no colour"),
        (_saved(GOOD.astype(np.uint16)[..., 0] * 257, "PNG"), ".png", "pixels of 16 bits"),
    ],
)
def test_each_kind_is_named(data: bytes, suffix: str, said: str) -> None:
    assert any(part.what.startswith(said) or said in part.what for part in foreign_parts(data, suffix))


def _streams() -> dict[str, Callable[[bytes], bytes]]:
    return {
        "a row too many": lambda raw: zlib.compress(raw + bytes(1 + 66)),
        "a byte too many": lambda raw: zlib.compress(raw + b"\0"),
        "a row too few": lambda raw: zlib.compress(raw[: -(1 + 66)]),
        "bytes behind the stream": lambda raw: zlib.compress(raw) + b"anna",
        "a second stream": lambda raw: zlib.compress(raw) + zlib.compress(b"anna"),
        "a row of an unknown filter": lambda raw: zlib.compress(b"\5" + raw[1:]),
        "a wrong sum": lambda raw: zlib.compress(raw)[:-1] + b"\0",
    }


@pytest.mark.parametrize("how", _streams())
@pytest.mark.parametrize("pieces", [1, 3])
def test_what_hides_in_the_stream_is_found(how: str, pieces: int) -> None:
    good = PNGS["grey"]
    start = good.index(b"IDAT") - 4
    raw = zlib.decompress(b"".join(_contents(good)))
    stream = _streams()[how](raw)

    def png(content: bytes) -> bytes:
        step = -(-len(content) // pieces)
        parts = [content[i : i + step] for i in range(0, len(content), step)]
        return good[:start] + b"".join(_chunk(b"IDAT", part) for part in parts) + _chunk(b"IEND", b"")

    assert foreign_parts(png(zlib.compress(raw)), ".png") == []
    parts = foreign_parts(png(stream), ".png")
    assert parts
    for part in parts:
        if part.what == "4 bytes behind the last pixel":
            assert png(stream)[part.offset : part.offset + part.length] == b"anna"


def _contents(png: bytes) -> list[bytes]:
    at, found = 8, []
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            found.append(png[at + 8 : at + 8 + length])
        at += 12 + length
    return found


@pytest.mark.parametrize("sides", [(30_000, 30_000), (2**31 - 1, 2**31 - 1), (14_000, 14_000)])
def test_a_bomb_is_judged_by_its_header_and_its_bytes(sides: tuple[int, int]) -> None:
    header = sides[0].to_bytes(4, "big") + sides[1].to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    pixels = _chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
    assert foreign_parts(PNGS["grey"][:8] + _chunk(b"IHDR", header) + pixels + _chunk(b"IEND", b""), ".png")
    jpeg = bytearray(JPEGS["grey"])
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = b"\xff\xdc\xff\xdc"
    assert foreign_parts(bytes(jpeg), ".jpg")


_HARMLESS = {
    "jfif",
    "jfif_version",
    "jfif_unit",
    "jfif_density",
    "progressive",
    "progression",
    "dpi",
    "adobe",
}


def _seen_by_pillow(file: Path) -> list[str]:
    """What Pillow finds in a file beside its pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                seen = sorted(str(key) for key in image.info.keys() - _HARMLESS - {"adobe_transform"})
                seen += ["exif"] * bool(dict(image.getexif()))
                applications = [name for name, _ in getattr(image, "applist", [])]
                seen += [name for name in applications if name not in ("APP0", "APP14")]
                seen += ["frames"] * (getattr(image, "n_frames", 1) > 1)
                image.load()
                return [*seen, *getattr(image, "text", {})]
    except Exception:
        return ["unreadable"]


@pytest.mark.slow
@pytest.mark.portraits
def test_what_pillow_sees_in_odd_files_is_found(test_data: Path) -> None:
    files = sorted(file for file in (test_data / "odd").rglob("*") if file.is_file())
    assert len(files) > 800
    silent = [file for file in files if not foreign_parts(file.read_bytes(), file.suffix)]
    assert {file.suffix.lower() for file in silent} <= {".jpg", ".jpeg", ".png"}
    assert [(file.name, seen) for file in silent if (seen := _seen_by_pillow(file))] == []
    # the plain ones among them are said to be plain
    assert len(silent) > 15
