"""What is owed by the loaders of pictures and mattes, and by the encoder."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import struct

import numpy as np
from PIL import Image

from fuzz.contract import documented, must
from fuzz.formats import jpeg_segments, mutate_image, mutate_jpeg, png_chunks
from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.errors import ImageTooLarge, InputError, MatteMismatch, UnreadableImage
from p3m_data.storage.images import FORMATS, Limits, Picture, decode, encode_picture, load_picture, opened
from p3m_data.storage.mattes import encode_matte, load_matte

__all__ = ["check_image", "check_jpeg", "check_matte", "image_seeds", "jpeg_seeds", "matte_seeds"]
__all__ += ["mutate_image", "mutate_jpeg"]

NAME = "album/odd.jpg"
LIMITS = Limits(max_bytes=2**24, max_pixels=2_000_000)
GREY = 128
_REACH = 32
"""Pixels from the mask's edge beyond which neither a block nor the interpolation of chroma mixes the sides."""


def check_image(data: bytes) -> None:
    """Load, write again with a mask, and read what was written."""
    picture = _loaded(data)
    if picture is None:
        return
    for mask in _masks(picture.pixels.shape[:2]):
        for container in ("source", "png"):
            written, suffix = encode_picture(picture, _grey(picture), mask, container)
            must(suffix == ".png" or (suffix == ".jpg" and container == "source"), f"suffix {suffix}")
            (_no_metadata_in_png if suffix == ".png" else _no_metadata_in_jpeg)(written)
            again = decode(written)
            must(again.shape == picture.pixels.shape, f"{again.shape} came of {picture.pixels.shape}")
            _hidden(again, mask)
            if suffix == ".png":
                must((again == picture.pixels)[~mask].all(), "a PNG changed a pixel outside the mask")


def check_jpeg(data: bytes) -> None:
    """As `check_image`, for what is opened as JPEG."""
    check_image(data if data[:2] == b"\xff\xd8" else b"\xff\xd8" + data)


def check_matte(data: bytes) -> None:
    """Load for a picture of just that size, and for one of another."""
    with documented(MatteMismatch, UnreadableImage, ImageTooLarge):
        load_matte(data, NAME, (0, 0), LIMITS)
        must(False, "a matte fits a picture without pixels")
    size = _upright_size(data)
    if size is None:
        return
    with documented(MatteMismatch, UnreadableImage, ImageTooLarge):
        alpha = load_matte(data, NAME, size, LIMITS)
        must(alpha.dtype == np.float32 and alpha.shape == size[::-1], f"{alpha.dtype} {alpha.shape}")
        must(alpha.min() >= 0 and alpha.max() <= 1, f"alpha from {alpha.min()} to {alpha.max()}")
        again = load_matte(encode_matte(alpha), NAME, size, LIMITS)
        must(np.abs(again - alpha).max() <= 0.5 / 255 + 1e-6, "a written matte is another one")


def _loaded(data: bytes) -> Picture | None:
    picture = None
    with documented(UnreadableImage, ImageTooLarge):
        picture = load_picture(data, NAME, LIMITS)
    if picture is None:
        return None
    pixels, alpha = picture.pixels, picture.alpha
    must(pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3, f"pixels {pixels.shape}")
    must(0 < pixels.shape[0] * pixels.shape[1] <= LIMITS.max_pixels, f"{pixels.shape} is over the limit")
    must(picture.format in (*FORMATS, "MPO", "HEIF"), f"format {picture.format!r}")
    must(all(isinstance(note, str) and note.isprintable() for note in picture.notes), f"{picture.notes}")
    if alpha is not None:
        must(
            alpha.dtype == np.uint8 and alpha.shape == pixels.shape[:2], f"alpha {alpha.dtype} {alpha.shape}"
        )
        must(alpha.min() < 255, "an alpha that is opaque everywhere")
        must(not pixels[alpha == 0].any(), "a colour under what is transparent")
    return picture


def _grey(picture: Picture) -> UInt8Array:
    return np.full(picture.pixels.shape, GREY, np.uint8)


def _masks(shape: tuple[int, int]) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Nothing, everything, and a quarter at the upper right."""
    some = np.zeros(shape, np.bool_)
    some[: max(1, shape[0] // 2), shape[1] // 2 :] = True
    return np.zeros(shape, np.bool_), np.ones(shape, np.bool_), some


def _hidden(result: UInt8Array, mask: BoolArray) -> None:
    """Well inside the mask is the grey that was put there, which every quantization table keeps exactly."""
    inside = mask.copy()
    if not mask.all():
        inside[max(0, mask.shape[0] // 2 - _REACH) :] = False
        inside[:, : mask.shape[1] // 2 + _REACH] = False
    off = np.abs(result[inside].astype(np.int16) - GREY)
    must(off.max(initial=0) <= 1, f"inside the mask is not what was put there, off by {off.max(initial=0)}")


def _no_metadata_in_png(data: bytes) -> None:
    names = {name for name, _ in png_chunks(data)}
    must(names <= {b"IHDR", b"IDAT", b"IEND"}, f"a written PNG has chunks {names}")
    must(data[-12:] == b"\0\0\0\0IEND\xaeB`\x82", "something follows the last chunk")


def _no_metadata_in_jpeg(data: bytes) -> None:
    segments, scan = jpeg_segments(data)
    allowed = {0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD}
    for marker, content in segments:
        plain = (marker == 0xE0 and content[:5] == b"JFIF\0") or (marker == 0xEE and content[:5] == b"Adobe")
        must((plain and len(content) <= 14) or marker in allowed, f"a written JPEG has a segment {marker:x}")
    must(scan.find(b"\xff\xd9") == len(scan) - 2, "something follows the end of a written JPEG")


def _upright_size(data: bytes) -> tuple[int, int] | None:
    with contextlib.suppress(InputError), opened(data, NAME, LIMITS) as (image, orientation):
        return image.size[::-1] if orientation >= 5 else image.size
    return None


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@functools.cache
def jpeg_seeds() -> tuple[bytes, ...]:
    """Of every subsampling, mode, way of coding and orientation."""
    wide, tall = _scene(70, 41), _scene(33, 80)
    found = [saved(wide, "JPEG", subsampling=number, quality=80) for number in (0, 1, 2)]
    found += [saved(tall, "JPEG", subsampling=number, progressive=True) for number in (0, 1, 2)]
    found += [saved(wide.convert(mode), "JPEG") for mode in ("L", "CMYK")]
    found.append(saved(wide, "JPEG", keep_rgb=True, subsampling=0))
    found.append(saved(wide, "JPEG", restart_marker_blocks=2, icc_profile=b"\0" * 130, comment=b"hello"))
    for orientation in range(2, 9):
        turned = Image.Exif()
        turned[0x0112] = orientation
        found.append(saved(_scene(32, 48), "JPEG", exif=turned, subsampling=orientation % 3))
    found.append(saved(wide, "MPO", save_all=True, append_images=[tall]))
    return tuple(found)


@functools.cache
def image_seeds() -> tuple[bytes, ...]:
    """Of every format but JPEG that is opened, in the modes that it knows."""
    scene = _scene(37, 22)
    alpha = scene.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(scene.size))
    deep = Image.fromarray(np.linspace(0, 65535, 37 * 22).astype(np.uint16).reshape(22, 37))
    shown = [
        scene,
        alpha,
        scene.convert("L"),
        scene.convert("1"),
        scene.convert("P"),
        alpha.convert("LA"),
        deep,
    ]
    found = [saved(image, "PNG") for image in shown]
    found += [saved(scene.convert("P"), "PNG", transparency=3), saved(scene, "PNG", transparency=(0, 0, 0))]
    found += [saved(image, "TIFF") for image in (*shown, scene.convert("CMYK"), scene.convert("LAB"))]
    for packed in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        found.append(saved(scene, "TIFF", compression=packed))
    found.append(saved(Image.fromarray(np.linspace(0, 1, 37 * 22, dtype=np.float32).reshape(22, 37)), "TIFF"))
    found.append(saved(scene.convert("1"), "TIFF", compression="group4"))
    found += [saved(alpha, "WEBP", lossless=True), saved(scene, "WEBP"), saved(scene, "BMP")]
    found += [saved(scene.convert(mode), "BMP") for mode in ("P", "1")]
    found.append(saved(scene, "GIF", save_all=True, append_images=[scene.convert("L")]))
    found += [saved(scene, "PPM"), saved(deep, "PPM"), saved(alpha, "TGA"), saved(scene, "TGA", rle=True)]
    found += [saved(scene, "JPEG2000"), saved(alpha, "JPEG2000", no_jp2=True), saved(scene, "AVIF")]
    found.append(saved(scene, "PNG", save_all=True, append_images=[scene.rotate(90)]))
    return tuple(found)


@functools.cache
def matte_seeds() -> tuple[bytes, ...]:
    """Grey of every depth, cut-outs, and the pictures, which are no mattes."""
    grey = Image.linear_gradient("L").resize((24, 16))
    found = [saved(grey, kind) for kind in ("PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG")]
    floats = np.linspace(0, 1, 24 * 16, dtype=np.float32).reshape(16, 24)
    floats[0, 0] = np.nan
    found += [saved(Image.fromarray(floats), "TIFF"), saved(grey.convert("1"), "PNG")]
    found.append(b"PF\n3 2\n-1.0\n" + struct.pack("<18f", *itertools.repeat(0.5, 18)))
    found.append(b"Pf\n3 2\n-1.0\n" + struct.pack("<6f", *itertools.repeat(0.5, 6)))
    return (*found, *image_seeds())


def _scene(width: int, height: int) -> Image.Image:
    """A gradient with an edge and saturated corners."""
    down, across = np.mgrid[0:height, 0:width]
    channels = [across * 255 // width, down * 255 // height, (across > width // 2) * 255]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))
