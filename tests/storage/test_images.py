from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, ImageOps

from fuzz.contract import documented
from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.errors import ImageTooLarge, InputError, UnreadableImage
from p3m_data.storage.images import Limits, Picture, decode, encode_picture, encode_png, load_picture


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def colours(height: int = 24, width: int = 36, channels: int = 3, seed: int = 0) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Every (name, content) of a PNG; nothing may follow IEND."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    found, at = [], 8
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        found.append((name, data[at + 8 : at + 8 + length]))
        at += 12 + length
    assert found[-1][0] == b"IEND"
    return found


def png(
    width: int, height: int, bits: int, colour_type: int, rows: bytes, *extra: tuple[bytes, bytes]
) -> bytes:
    """A PNG written by hand: `rows` are the raw rows with their filter bytes."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def profile_with(gamma: float) -> bytes:
    """sRGB's primaries with a plain power curve, made by patching the curves of Pillow's sRGB profile."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for i in range(struct.unpack(">I", profile[128:132])[0]):
        name, offset, size = struct.unpack(">4sII", profile[132 + 12 * i : 144 + 12 * i])
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            curve = struct.pack(">4sIHHi", b"para", 0, 0, 0, round(gamma * 65536))
            profile[offset : offset + size] = curve.ljust(size, b"\0")
    return bytes(profile)


@pytest.fixture
def odd(test_data: Path) -> Path:
    return test_data / "odd"


def no_program(*_: object, **__: object) -> None:
    raise AssertionError("a program was started")


def outcome(file: Path) -> Picture | InputError:
    try:
        return load_picture(file.read_bytes(), file.name, Limits(max_pixels=30_000_000))
    except InputError as error:
        return error


def test_every_odd_file_is_a_picture_or_one_sentence(
    odd: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "Popen", no_program)
    monkeypatch.setattr(os, "system", no_program)
    read, refused = 0, 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for file in sorted(f for f in odd.rglob("*") if f.is_file()):
            started = time.process_time()
            loaded = outcome(file)
            if isinstance(loaded, InputError):
                refused += 1
                assert str(loaded).startswith(file.name)
                assert "\n" not in str(loaded)
                assert not isinstance(loaded.__cause__, AttributeError | NameError | KeyError), file.name
            else:
                read += 1
                height, width = loaded.pixels.shape[:2]
                assert loaded.pixels.shape == (height, width, 3)
                assert loaded.pixels.dtype == np.uint8
                assert loaded.alpha is None or loaded.alpha.shape == (height, width)
            assert time.process_time() - started < 5, file.name
    assert read > 500
    assert refused > 100
    assert capfd.readouterr() == ("", "")


def test_odd_files_that_pillow_decodes_are_turned_as_pillow_turns_them(odd: Path) -> None:
    checked = 0
    for file in sorted((odd / "exif_orientation").iterdir()) + sorted((odd / "exif_samples").glob("*.jpg")):
        try:
            picture = load_picture(file.read_bytes(), file.name)
        except InputError:
            continue
        if any("ICC" in note or "CMYK" in note for note in picture.notes):
            continue
        with Image.open(file) as image:
            assert np.array_equal(picture.pixels, np.asarray(ImageOps.exif_transpose(image).convert("RGB")))
        checked += 1
    assert checked > 10


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_orientation(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(colours())
    data = saved(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as again:
        expected = np.asarray(ImageOps.exif_transpose(again))
    picture = load_picture(data, "x")
    assert np.array_equal(picture.pixels, expected)


@pytest.mark.parametrize("orientation", [0, 9, 700])
def test_impossible_orientation_is_none(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(colours()), "PNG", exif=exif)
    assert np.array_equal(load_picture(data, "x").pixels, colours())


def test_a_profile_that_is_srgb_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = load_picture(saved(Image.fromarray(colours()), "PNG", icc_profile=profile), "x")
    assert np.array_equal(picture.pixels, colours())
    assert picture.notes == ()
    assert (
        load_picture(saved(Image.fromarray(colours()), "JPEG", icc_profile=profile), "x").coding is not None
    )


def test_another_profile_is_applied() -> None:
    profile = profile_with(1.0)
    picture = load_picture(saved(Image.fromarray(colours()), "PNG", icc_profile=profile), "x")
    linear = colours() / 255.0
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(picture.pixels - expected).max() <= 2
    assert picture.notes == ("ICC profile applied",)
    assert load_picture(saved(Image.fromarray(colours()), "JPEG", icc_profile=profile), "x").coding is None


def test_a_broken_profile_is_noted_and_ignored() -> None:
    picture = load_picture(saved(Image.fromarray(colours()), "PNG", icc_profile=b"nonsense" * 40), "x")
    assert np.array_equal(picture.pixels, colours())
    assert picture.notes == ("ICC profile ignored: broken or for other colours",)


def test_grey_with_the_profile_of_a_colour_picture() -> None:
    grey = colours()[..., 0]
    picture = load_picture(saved(Image.fromarray(grey), "PNG", icc_profile=profile_with(1.0)), "x")
    assert np.ptp(picture.pixels.astype(int), axis=2).max() <= 1
    assert picture.pixels[grey == 128].min() > 180


def test_cmyk() -> None:
    ink = colours(channels=4)
    data = saved(Image.frombytes("CMYK", (36, 24), ink.tobytes()), "TIFF")
    expected = (255 - ink[..., :3].astype(float)) * (255 - ink[..., 3:].astype(float)) / 255
    assert np.abs(load_picture(data, "x").pixels - expected).max() <= 1
    flat = Image.new("CMYK", (32, 32), (0, 200, 200, 0))
    red = load_picture(saved(flat, "JPEG", quality=95), "x")
    assert red.coding is None
    assert red.pixels[..., 0].min() > 240
    assert red.pixels[..., 1:].max() < 70


def test_sixteen_bit_grey_is_scaled() -> None:
    values = np.random.default_rng(1).integers(0, 65536, (5, 7), np.uint16)
    for kind in ("PNG", "TIFF"):
        picture = load_picture(saved(Image.fromarray(values), kind), "x")
        assert np.array_equal(picture.pixels[..., 0], np.rint(values / 257))
        assert picture.notes == ("more than 8 bits reduced to 8",)


def test_sixteen_bit_colour_is_scaled() -> None:
    values = np.random.default_rng(1).integers(0, 65536, (5, 7, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    picture = load_picture(png(7, 5, 16, 2, rows), "x")
    assert np.abs(picture.pixels - values / 257).max() <= 1
    assert picture.notes == ("more than 8 bits reduced to 8",)


def test_one_bit_and_palette() -> None:
    bits = colours()[..., 0] > 127
    assert np.array_equal(load_picture(saved(Image.fromarray(bits), "PNG"), "x").pixels[..., 1], bits * 255)
    palette = Image.fromarray(colours()).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(load_picture(saved(palette, "GIF"), "x").pixels, expected)


def test_floats_are_refused() -> None:
    data = saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    with pytest.raises(UnreadableImage, match="floating-point"):
        load_picture(data, "x.tif")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_colour_under_a_zero_alpha_is_gone(mode: str) -> None:
    rgba = colours(channels=4)
    rgba[:8, :, 3] = 0
    image = Image.fromarray(rgba)
    if mode == "PA":
        palette = Image.fromarray(rgba[..., :3]).quantize(8)
        palette.info["transparency"] = 3
        data = saved(palette, "PNG", transparency=3)
        alpha = np.where(np.asarray(palette) == 3, 0, 255)
        shown = np.asarray(palette.convert("RGB"))
    else:
        data = saved(image.convert(mode), "PNG")
        alpha = rgba[..., 3]
        shown = np.asarray(image.convert(mode).convert("RGB"))
    picture = load_picture(data, "x")
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, alpha)
    assert not picture.pixels[alpha == 0].any()
    assert np.array_equal(picture.pixels[alpha > 0], shown[alpha > 0])


def test_an_opaque_alpha_is_none() -> None:
    rgba = colours(channels=4)
    rgba[..., 3] = 255
    picture = load_picture(saved(Image.fromarray(rgba), "PNG"), "x")
    assert picture.alpha is None
    assert np.array_equal(picture.pixels, rgba[..., :3])


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_only_the_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (32, 32), c) for c in ("red", "blue", "lime")]
    picture = load_picture(saved(frames[0], kind, save_all=True, append_images=frames[1:]), "x")
    assert np.abs(picture.pixels.reshape(-1, 3).astype(int) - (255, 0, 0)).max() <= 3
    assert "first of several frames" in picture.notes
    written, _ = encode_picture(picture, picture.pixels, np.zeros((32, 32), bool))
    with Image.open(io.BytesIO(written)) as again:
        assert getattr(again, "n_frames", 1) == 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", r"it is empty \(0 bytes\)"),
        (b"just a letter to my mother\n" * 20, "it is none of JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "it is none of JPEG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "HEIC photo|cannot|none of|[Ii]nvalid|error"),
        (saved(Image.fromarray(colours()), "PNG")[:-60], ""),
        (saved(Image.fromarray(colours(200, 200)), "JPEG")[:-2000], "truncated"),
        (b"\xff\xd8\xff\xe0", ""),
    ],
)
def test_unreadable(data: bytes, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", no_program)
    with pytest.raises(
        UnreadableImage, match=f"^holiday.jpg is not an image that can be read: .*({why})"
    ) as caught:
        load_picture(data, "holiday.jpg")
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


def test_a_pixel_bomb_costs_nothing() -> None:
    data = png(30_000, 30_000, 8, 2, bytes(1000))
    started = time.perf_counter()
    with pytest.raises(ImageTooLarge, match=r"bomb\.png has 30000 x 30000 pixels"):
        load_picture(data, "bomb.png")
    assert time.perf_counter() - started < 0.5


def test_limits() -> None:
    data = saved(Image.fromarray(colours()), "PNG")
    assert load_picture(data, "x", Limits(max_bytes=len(data), max_pixels=36 * 24)).pixels.shape == (
        24,
        36,
        3,
    )
    with pytest.raises(ImageTooLarge, match="x is larger than"):
        load_picture(data, "x", Limits(max_bytes=len(data) - 1))
    with pytest.raises(ImageTooLarge, match="x has 36 x 24 pixels"):
        load_picture(data, "x", Limits(max_pixels=36 * 24 - 1))


def test_pillows_own_limit_neither_speaks_nor_interferes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for kind in ("PNG", "JPEG"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture = load_picture(saved(Image.fromarray(colours()), kind), "x")
            decode(encode_picture(picture, picture.pixels, np.ones((24, 36), bool))[0])
    assert Image.MAX_IMAGE_PIXELS == 100


def test_png_holds_pixels_only() -> None:
    exif = Image.Exif()
    exif[0x010E] = "at home"
    data = saved(Image.fromarray(colours()), "PNG", exif=exif, dpi=(300, 300), icc_profile=profile_with(1.0))
    picture = load_picture(data, "x")
    written, suffix = encode_picture(picture, picture.pixels, np.zeros((24, 36), bool))
    assert suffix == ".png"
    assert {name for name, _ in chunks(written)} == {b"IHDR", b"IDAT", b"IEND"}
    assert {name for name, _ in chunks(encode_png(colours()[..., 0]))} == {b"IHDR", b"IDAT", b"IEND"}


def test_containers() -> None:
    nothing = np.zeros((24, 36), bool)
    for kind, suffix in (
        ("JPEG", ".jpg"),
        ("PNG", ".png"),
        ("WEBP", ".png"),
        ("BMP", ".png"),
        ("PPM", ".png"),
    ):
        picture = load_picture(saved(Image.fromarray(colours()), kind), "x")
        assert encode_picture(picture, picture.pixels, nothing)[1] == suffix
        lossless, png_suffix = encode_picture(picture, picture.pixels, nothing, container="png")
        assert png_suffix == ".png"
        assert np.array_equal(decode(lossless), picture.pixels)


def test_what_does_not_fit_is_the_callers_error() -> None:
    picture = load_picture(saved(Image.fromarray(colours()), "PNG"), "x")
    with pytest.raises(ValueError, match="bool mask"):
        encode_picture(picture, picture.pixels, np.zeros((24, 35), bool))
    with pytest.raises(ValueError, match="bool mask"):
        encode_picture(picture, np.zeros((23, 36, 3), np.uint8), np.zeros((23, 36), bool))
    with pytest.raises(ValueError, match="uint8"):
        encode_png(np.zeros((4, 4), np.float32))  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    pixels=hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))),
    data=st.data(),
)
def test_a_png_is_identical_outside_the_mask(pixels: UInt8Array, data: st.DataObject) -> None:
    mask: BoolArray = data.draw(hnp.arrays(np.bool_, pixels.shape[:2]))
    source = saved(Image.fromarray(pixels), "PNG")
    picture = load_picture(source, "x.png")
    result = 255 - pixels
    written, _ = encode_picture(picture, result, mask)
    assert np.array_equal(decode(written), np.where(mask[..., None], result, pixels))
    assert encode_picture(picture, result, mask)[0] == written


def gif_frame_beyond(width: int, height: int) -> bytes:
    """A GIF of 32 x 32 whose first frame says that it is of another size, and is to be disposed of."""
    screen = b"GIF87a" + struct.pack("<HHBBB", 32, 32, 0x80, 0, 0) + bytes(6)
    control = b"\x21\xf9\x04" + bytes([2 << 2, 0, 0, 0, 0])
    return (
        screen + control + b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"
    )


def test_a_gif_frame_larger_than_the_limit_has_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    fill = Image.core.fill
    monkeypatch.setattr(
        Image.core, "fill", lambda mode, size, *rest: made.append(size) or fill(mode, size, *rest)
    )
    with pytest.raises(ImageTooLarge, match=r"a\.gif has too many pixels, over the limit of 1,000,000"):
        load_picture(gif_frame_beyond(3000, 3000), "a.gif", Limits(max_pixels=1_000_000))
    assert all(width * height <= 2_000_000 for width, height in made)


@pytest.mark.parametrize("side", [1001, 1300])
def test_a_gif_frame_just_over_the_limit_is_too_large_as_well(side: int) -> None:
    with pytest.raises(ImageTooLarge, match=f"has {side} x {side} pixels"):
        load_picture(gif_frame_beyond(side, side), "a.gif", Limits(max_pixels=1_000_000))


def test_what_pillow_logs_of_a_malformed_file_is_not_printed() -> None:
    """In a process of its own, since pytest listens to what is logged."""
    tiff = bytearray(saved(Image.new("RGB", (8, 8)), "TIFF"))
    start = struct.unpack("<I", tiff[4:8])[0] + 2
    entries = range(start, start + 12 * struct.unpack("<H", tiff[start - 2 : start])[0], 12)
    at = next(entry for entry in entries if struct.unpack("<H", tiff[entry : entry + 2])[0] == 277)
    tiff[at + 8 : at + 10] = struct.pack("<H", 2048)
    code = (
        "import sys; from p3m_data.errors import UnreadableImage\n"
        "from p3m_data.storage.images import load_picture\n"
        "try: load_picture(sys.stdin.buffer.read(), 'a.tif')\n"
        "except UnreadableImage: sys.exit(7)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=bytes(tiff), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")


def test_coarse_tables_are_kept_without_a_remark_of_libjpeg(capfd: pytest.CaptureFixture[str]) -> None:
    tables = [[min(300, 16 + 20 * step) for step in range(64)]]
    data = saved(Image.fromarray(colours()), "JPEG", qtables=tables)
    capfd.readouterr()
    picture = load_picture(data, "a.jpg")
    written, suffix = encode_picture(picture, picture.pixels, np.zeros(picture.pixels.shape[:2], np.bool_))
    assert capfd.readouterr() == ("", "")
    assert suffix == ".jpg"
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(written)) as after:
        assert all(table == before.quantization[0] for table in after.quantization.values())
        assert max(before.quantization[0]) > 255


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP"]), st.data())
def test_damaged_files_load_or_are_refused_in_one_line(noise: bytes, kind: str, draw: st.DataObject) -> None:
    data = saved(Image.fromarray(colours()), kind)
    at = draw.draw(st.integers(0, len(data)))
    with documented(UnreadableImage, ImageTooLarge):
        picture = load_picture(data[:at] + noise + data[at + len(noise) :], "a", Limits(max_pixels=1_000_000))
        whole = np.ones(picture.pixels.shape[:2], np.bool_)
        again = decode(encode_picture(picture, picture.pixels, whole)[0])
        assert again.shape == picture.pixels.shape
