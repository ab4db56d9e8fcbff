from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p3m_data.arrays import FloatArray
from p3m_data.errors import ImageTooLarge, MatteMismatch, UnreadableImage
from p3m_data.storage.images import Limits
from p3m_data.storage.mattes import encode_matte, load_matte, matte_from_alpha

GREY = np.random.default_rng(0).integers(0, 256, (24, 36), np.uint8)
SIZE = (36, 24)
EXPECTED = GREY / np.float64(255)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def loaded(data: bytes) -> FloatArray:
    alpha = load_matte(data, "m.png", SIZE, Limits())
    assert alpha.dtype == np.float32
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    return alpha


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_channel(kind: str) -> None:
    np.testing.assert_allclose(loaded(saved(Image.fromarray(GREY), kind)), EXPECTED, atol=1e-7)


def test_three_equal_channels() -> None:
    image = Image.merge("RGB", [Image.fromarray(GREY)] * 3)
    np.testing.assert_allclose(loaded(saved(image)), EXPECTED, atol=1e-7)
    soft = Image.merge("RGB", [Image.linear_gradient("L").resize(SIZE)] * 3)
    from_jpeg = loaded(saved(soft, "JPEG", quality=95))
    np.testing.assert_allclose(from_jpeg, np.asarray(soft)[..., 0] / 255, atol=0.03)


def test_palette_of_greys() -> None:
    image = Image.fromarray(GREY // 16 * 17).convert("P")
    np.testing.assert_allclose(loaded(saved(image)), GREY // 16 * 17 / 255, atol=1e-7)


def test_unequal_channels() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
    with pytest.raises(MatteMismatch, match=r"matte m\.png looks like a colour picture"):
        loaded(saved(Image.fromarray(colour)))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_the_alpha_of_a_cut_out(mode: str) -> None:
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8))
    image = colour.convert(mode)
    image.putalpha(Image.fromarray(GREY))
    np.testing.assert_allclose(loaded(saved(image)), EXPECTED, atol=1e-7)


def test_an_opaque_alpha_channel_is_no_matte() -> None:
    image = Image.merge("RGB", [Image.fromarray(GREY)] * 3).convert("RGBA")
    np.testing.assert_allclose(loaded(saved(image)), EXPECTED, atol=1e-7)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits(kind: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (24, 36), np.uint16)
    np.testing.assert_allclose(loaded(saved(Image.fromarray(values), kind)), values / 65535, atol=1e-6)


def test_one_bit() -> None:
    assert np.array_equal(loaded(saved(Image.fromarray(GREY > 127))), GREY > 127)


def test_floats() -> None:
    values = EXPECTED.astype(np.float32)
    assert np.array_equal(loaded(saved(Image.fromarray(values), "TIFF")), values)
    for bad in (values * 2, values - 0.5, np.full_like(values, np.nan)):
        with pytest.raises(UnreadableImage, match=r"m\.png is not an image .* not all between 0 and 1"):
            loaded(saved(Image.fromarray(bad), "TIFF"))


def test_size_is_that_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(GREY).transpose(Image.Transpose.ROTATE_90)
    np.testing.assert_allclose(loaded(saved(turned, exif=exif)), EXPECTED, atol=1e-7)
    with pytest.raises(MatteMismatch, match=r"matte m\.png is 24 x 36 but its picture is 36 x 24; .*"):
        loaded(saved(turned))


def test_bad_files() -> None:
    for data in (b"", b"text", saved(Image.fromarray(GREY))[:60]):
        with pytest.raises(UnreadableImage, match=r"^m\.png is not an image that can be read"):
            loaded(data)
    with pytest.raises(ImageTooLarge):
        load_matte(saved(Image.fromarray(GREY)), "m.png", SIZE, Limits(max_pixels=10))


def test_round_trip() -> None:
    alpha = matte_from_alpha(GREY)
    np.testing.assert_allclose(alpha, EXPECTED, atol=1e-7)
    assert np.array_equal(loaded(encode_matte(alpha)), alpha)
    with Image.open(io.BytesIO(encode_matte(alpha))) as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), GREY)


@pytest.mark.parametrize("bad", [-0.01, 1.01, np.nan])
def test_alpha_out_of_range_is_the_callers_error(bad: float) -> None:
    with pytest.raises(ValueError, match=r"alpha in \[0, 1\]"):
        encode_matte(np.full((3, 3), bad, np.float32))


@pytest.mark.portraits
def test_real_mattes_load_at_their_pictures_size(portraits: Path) -> None:
    pictures = {file.stem: file for file in (portraits / "images").iterdir()}
    files = [file for file in sorted((portraits / "mattes").iterdir()) if file.stem in pictures]
    for file in files[::10]:
        with Image.open(pictures[file.stem]) as picture, Image.open(file) as matte:
            expected = np.asarray(matte.convert("L"), np.float32) / 255
            alpha = load_matte(file.read_bytes(), file.name, picture.size, Limits())
        assert np.abs(alpha - expected).max() <= 1 / 255, file.name
    assert len(files) > 100
