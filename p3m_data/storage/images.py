"""Pictures from bytes to upright 8-bit sRGB arrays, and back to bytes without metadata.

A picture is decoded from bytes that are already in memory, so that it is read once. Only formats that cameras
and photo programs write are opened; nothing that runs another program (EPS) or that is a document.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from p3m_data.arrays import BoolArray, UInt8Array, check_image, check_mask
from p3m_data.errors import ImageTooLarge, InputError, UnreadableImage
from p3m_data.storage.jpeg import JpegCoding, coding_of, encode_fine, encode_on_grid, turn
from p3m_data.storage.sentences import one_line

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF", "TGA")
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_READABLE = "JPEG, PNG, WebP, TIFF, BMP, GIF, PPM, JPEG 2000, AVIF, TGA"

# Level 1 costs a third of the default's time for a tenth more bytes.
_PNG_LEVEL = 1
_ORIENTATION_TAG = 0x0112
_BITS_PER_SAMPLE_TAG = 258
# A profile that moves no colour further than this, of 255, is sRGB for our purpose.
_SAME_COLOUR = 2
# Where nobody listens, Python prints what Pillow logs of malformed files; it comes as an exception too.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Limits:
    """What is refused before it is decoded."""

    max_bytes: int = 512 * 2**20
    max_pixels: int = 200_000_000


@dataclass(frozen=True)
class Picture:
    """One loaded picture."""

    pixels: UInt8Array
    """(H, W, 3) uint8 sRGB, upright; may be read-only. Where `alpha` is 0 the colour is (0, 0, 0)."""
    format: str
    """As found: "JPEG", "PNG", ..."""
    coding: JpegCoding | None
    """How the source JPEG was coded, where `pixels` are still on its grid."""
    alpha: UInt8Array | None
    """(H, W) uint8, where the source has an alpha channel that is not opaque everywhere."""
    notes: tuple[str, ...]
    """What was done to arrive at `pixels`."""


def load_picture(data: bytes, name: str, limits: Limits = Limits()) -> Picture:
    """The picture in `data` as upright sRGB; of an animation or a stereo pair, the first frame.

    `name` appears in error sentences only. Raises `UnreadableImage` and `ImageTooLarge`.
    """
    with opened(data, name, limits) as (image, orientation):
        colour, alpha = _without_alpha(image)
        colour, moved, colour_notes = _to_srgb(colour, image.info.get("icc_profile"))
        pixels = np.asarray(colour)
        coding = None if moved or image.mode not in ("RGB", "L") else coding_of(image, data, orientation)
        notes = (*_notes_on_storage(image, data, orientation), *colour_notes)
        kind = image.format or ""
    pixels = turn(pixels, orientation)
    if alpha is not None:
        alpha = turn(alpha, orientation)
        pixels = np.where(alpha[..., None] > 0, pixels, np.uint8(0))
    return Picture(pixels, kind, coding, alpha, notes)


def encode_picture(
    picture: Picture, result: UInt8Array, mask: BoolArray, container: Literal["source", "png"] = "source"
) -> tuple[bytes, str]:
    """The picture with `result` where `mask`, as file bytes and suffix (".jpg" or ".png"), without metadata.

    result: (H, W, 3) uint8 sRGB. mask: (H, W) bool; what `result` holds elsewhere is not looked at.
    A JPEG source stays a JPEG with its own tables and subsampling; every other source becomes a PNG.
    """
    check_mask(mask, check_image(result).shape)
    check_mask(mask, picture.pixels.shape)
    from_jpeg = picture.format in ("JPEG", "MPO") and container == "source"
    if from_jpeg and picture.coding is not None:
        # libjpeg remarks on steps that only take two bytes
        coarse = any(step > 255 for table in picture.coding.tables for step in table)
        with _pillow_alone(), _silenced(coarse):
            return encode_on_grid(picture.coding, result, mask), ".jpg"
    masked = np.ascontiguousarray(cv2.copyTo(result, mask.astype(np.uint8), picture.pixels.copy()), np.uint8)
    return (encode_fine(masked), ".jpg") if from_jpeg else (encode_png(masked), ".png")


def encode_png(array: UInt8Array) -> bytes:
    """A PNG without metadata. array: (H, W) grey or (H, W, 3) sRGB, uint8."""
    if array.dtype != np.uint8 or not (array.ndim == 2 or array.shape[2:] == (3,)):
        raise ValueError(f"expected an (H, W) or (H, W, 3) uint8 array, got {array.shape} {array.dtype}")
    stored = array if array.ndim == 2 else cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", stored, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL])[1].tobytes()


def decode(data: bytes) -> UInt8Array:
    """Our own output as any reader sees it: (H, W, 3) uint8 RGB. Raises `UnreadableImage`."""
    with opened(data, "the written file", Limits(len(data), 2**63)) as (image, _):
        return np.asarray(_rgb(image))


@contextmanager
def opened(data: bytes, name: str, limits: Limits) -> Iterator[tuple[Image.Image, int]]:
    """The first frame in `data`, loaded but as stored, and the EXIF orientation (1 to 8) still to be applied.

    Whatever Pillow raises here or in the block becomes `UnreadableImage`: on malformed files it raises nearly
    anything. Raises `ImageTooLarge` before anything is decoded.
    """
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(
            f"{name} is larger than the limit of {limits.max_bytes / 2**20:.3g} MiB; "
            "make it smaller, raise the limit, or leave it out"
        )
    # a GIF's frame may be larger than its picture, and has its memory before `Image.open` returns
    with _pillow_alone(limits.max_pixels if data.startswith(b"GIF") else None):
        try:
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                _check_pixels(image.size, name, limits)
                # a TIFF's tile may be larger than its picture, too
                Image.MAX_IMAGE_PIXELS = limits.max_pixels
                with _silenced(image.format == "TIFF"):
                    image.load()
                yield image, _orientation(image)
        except (InputError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise _too_many_pixels("too many", name, limits) from error
        except Exception as error:
            raise UnreadableImage(
                f"{name} is not an image that can be read: {_why(error, data)}; "
                "export it again as JPEG or PNG, or leave it out"
            ) from error


_PILLOW = threading.RLock()


@contextmanager
def _pillow_alone(max_pixels: int | None = None) -> Iterator[None]:
    """Pillow without warnings, and refusing more than twice `max_pixels`; one thread at a time.

    Both are settings of the whole process, so threads must not change them under each other.
    """
    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _silenced(talks: bool) -> Iterator[None]:
    """libtiff and libjpeg write to file descriptor 2 themselves; what matters of it comes as an exception too."""
    if not talks:
        yield
        return
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


@functools.cache
def _formats() -> tuple[str, ...]:
    try:
        import pi_heif
    except ImportError:
        return FORMATS
    pi_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def _check_pixels(size: tuple[int, int], name: str, limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise _too_many_pixels(f"{width} x {height}", name, limits)


def _too_many_pixels(found: str, name: str, limits: Limits) -> ImageTooLarge:
    return ImageTooLarge(
        f"{name} has {found} pixels, over the limit of {limits.max_pixels:,}; "
        "make it smaller, raise the limit, or leave it out"
    )


def _why(error: Exception, data: bytes) -> str:
    """The reason in a few words, on one line."""
    if not data:
        return "it is empty (0 bytes)"
    if not isinstance(error, UnidentifiedImageError):
        return one_line(str(error)) or type(error).__name__
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and "HEIF" not in _formats():
        return 'it is a HEIC photo, which needs an optional package (pip install "p3mdata[heic]")'
    return f"it is none of {_READABLE}, or its first bytes are damaged"


def _orientation(image: Image.Image) -> int:
    # An unreadable EXIF block says nothing of how to turn the picture, but does not spoil it either.
    try:
        value = image.getexif().get(_ORIENTATION_TAG)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _notes_on_storage(image: Image.Image, data: bytes, orientation: int) -> list[str]:
    notes = []
    if getattr(image, "is_animated", False):
        notes.append("first of several frames")
    if orientation != 1:
        notes.append("turned upright")
    bits = data[24] if image.format == "PNG" else 8
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = max(image.tag_v2.get(_BITS_PER_SAMPLE_TAG, (8,)))
    if bits > 8 or image.mode.startswith("I"):
        notes.append("more than 8 bits reduced to 8")
    return notes


def _without_alpha(image: Image.Image) -> tuple[Image.Image, UInt8Array | None]:
    """The colours in mode L, RGB, CMYK or LAB, and the alpha channel where one is not opaque everywhere."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):
        return Image.fromarray(((sixteen_bit(image).astype(np.uint32) + 128) // 257).astype(np.uint8)), None
    if not image.has_transparency_data:
        if image.mode in ("L", "RGB", "CMYK", "LAB"):
            return image, None
        return image.convert("L" if image.mode == "1" else "RGB"), None
    # Pillow goes from premultiplied to plain colours only to the mode of the same name
    image = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode))
    grey = image.mode in ("L", "LA")
    full = image.convert("RGBA")
    alpha = np.asarray(full.getchannel("A"))
    return full.convert("RGB").convert("L" if grey else "RGB"), None if alpha.min() == 255 else alpha


def sixteen_bit(image: Image.Image) -> npt.NDArray[np.uint16]:
    """The (H, W) uint16 values of an `image` of Pillow's modes I;16 and I; `ValueError` beyond 16 bits."""
    values = np.asarray(image)
    if values.dtype.itemsize > 2 and not (values.min() >= 0 and values.max() <= 65535):
        raise ValueError("its pixels have more than 16 bits")
    return values.astype(np.uint16)


def _to_srgb(colour: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool, list[str]]:
    """`colour` (mode L, RGB, CMYK or LAB) as RGB in sRGB, whether any colour moved, and notes."""
    notes = []
    if profile:
        try:
            # grey pictures often carry the RGB profile that they were made under
            mode = "RGB" if colour.mode == "L" and profile[16:20] == b"RGB " else colour.mode
            transform = _transform(profile, mode)
        except (ImageCms.PyCMSError, OSError, ValueError):
            notes.append("ICC profile ignored: broken or for other colours")
        else:
            if transform is None:
                return _rgb(colour), False, []
            moved = transform.apply(colour.convert(mode))
            return moved, True, ["ICC profile applied"]
    if colour.mode == "LAB":
        lab = ImageCms.buildTransform(ImageCms.createProfile("LAB"), _SRGB, "LAB", "RGB")
        return lab.apply(colour), True, [*notes, "Lab converted"]
    if colour.mode == "CMYK":
        notes.append("CMYK converted without a profile")
    return _rgb(colour), colour.mode == "CMYK", notes


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


_SRGB = ImageCms.createProfile("sRGB")


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from `profile` to sRGB, None where it moves no colour visibly; raises `PyCMSError`."""
    intent = ImageCms.Intent.PERCEPTUAL if mode == "CMYK" else ImageCms.Intent.RELATIVE_COLORIMETRIC
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        _SRGB,
        mode,
        "RGB",
        intent,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode not in ("L", "RGB"):
        return transform
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    sample = Image.fromarray(grid if mode == "RGB" else np.arange(256, dtype=np.uint8)[None])
    before = np.asarray(sample.convert("RGB"), np.int16)
    after = np.asarray(transform.apply(sample), np.int16)
    return None if np.abs(after - before).max() <= _SAME_COLOUR else transform
