"""Rewriting a JPEG so that only the masked pixels change.

Decoding a JPEG to RGB and encoding it again moves every pixel, even with the same tables: chroma is
interpolated on the way in and averaged on the way out, RGB is rounded and clipped, and the blocks at the
right and lower edge lose what lies beyond the picture. Here the planes stay as the file holds them: luma and
chroma each at their own resolution, whole blocks included. What the mask leaves alone goes back through the
same quantization tables onto the same coefficients.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array
from p3m_data.storage.jpeg_segments import (
    ADOBE,
    ALL_FRAMES,
    FRAMES,
    JFIF,
    METADATA,
    PROGRESSIVE,
    SOS,
    Segment,
    frame_size,
    header,
)

# Where no source tables can be kept: below 100 the mean change of a detailed picture passes half a level.
FINE_QUALITY = 100

Scalar = TypeVar("Scalar", bound=np.generic)

_LARGEST_SIDE = 65500
_CELLS = {0: (1, 1), 1: (1, 2), 2: (2, 2)}
"""Pillow's number of a chroma subsampling -> (rows, columns) of pixels that share a chroma sample."""


@dataclass(frozen=True)
class JpegCoding:
    """How a JPEG holds its pixels, and the file itself, so that its planes can be decoded when needed."""

    data: bytes
    size: tuple[int, int]
    """(width, height) as stored."""
    padded: tuple[int, int]
    """(width, height) of the whole blocks that the file holds."""
    tables: tuple[tuple[int, ...], ...]
    """Quantization table of each component, 64 steps in natural (not zigzag) order."""
    sampling: int
    """0: 4:4:4, 1: 4:2:2, 2: 4:2:0, as Pillow counts; 0 for one component."""
    mode: str
    """"L", "YCbCr", or "RGB" where the components are R, G and B themselves."""
    orientation: int = 1
    """EXIF orientation (1 to 8) that turns the stored picture upright."""


def coding_of(image: Image.Image, data: bytes, orientation: int = 1) -> JpegCoding | None:
    """The coding of the JPEG `data`, opened as `image`; None where its pixels cannot stay on its grid.

    Kept are 8-bit sequential and progressive files of one component, of Y, Cb and Cr in 4:4:4, 4:2:2 or
    4:2:0, and of R, G and B in 4:4:4, whose blocks are still whole after `orientation` (EXIF, 1 to 8).
    """
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.layers not in (1, 3):
        return None
    segments = list(header(data))
    frame = next((s for s in segments if s.marker in ALL_FRAMES), None)
    tables = [image.quantization.get(layer[3]) for layer in image.layer]
    sampling = 0 if image.layers == 1 else JpegImagePlugin.get_sampling(image)
    if frame is None or frame.marker not in FRAMES or segments[-1].marker != SOS:
        return None
    if sampling not in _CELLS or None in tables:
        return None
    mode = "L" if image.layers == 1 else _colour_mode(data, segments, [layer[0] for layer in image.layer])
    if mode == "RGB" and sampling != 0:
        return None
    size = frame_size(data, frame.start)
    padded = _padded(size, _block(data, segments, frame, sampling))
    if max(padded) > _LARGEST_SIDE or min(size) == 0:
        return None
    coding = JpegCoding(data, size, padded, tuple(tuple(t) for t in tables if t), sampling, mode, orientation)
    return coding if _stays_whole(coding) else None


def encode_on_grid(coding: JpegCoding, result: UInt8Array, mask: BoolArray) -> bytes:
    """A baseline JPEG with the source's tables and subsampling: `result` where `mask`, else the source.

    result: (H, W, 3) uint8 sRGB, upright. mask: (H, W) bool. A chroma sample that the mask covers in part is
    the average of the result's colour there and the source's elsewhere. Holds no metadata.
    """
    planes = [turn(plane, coding.orientation) for plane in native_planes(coding)]
    if mask.any():
        _replace(planes, coding, result, mask)
    tables = [_turned_table(table, coding.orientation) for table in coding.tables]
    rows, columns = planes[0].shape
    bands = [
        _settled(plane, table)
        if plane.shape == (rows, columns)
        else cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_NEAREST)
        for plane, table in zip(planes, tables, strict=True)
    ]
    layers = [Image.fromarray(band) for band in bands]
    image = layers[0] if coding.mode == "L" else Image.merge(coding.mode, layers)
    out = io.BytesIO()
    image.save(out, "JPEG", qtables=tables, subsampling=coding.sampling, keep_rgb=coding.mode == "RGB")
    return _with_size(out.getvalue(), (result.shape[1], result.shape[0]))


def encode_fine(image: UInt8Array) -> bytes:
    """A 4:4:4 JPEG of high quality without metadata, for pixels that are on no JPEG's grid.

    image: (H, W, 3) uint8 sRGB.
    """
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=FINE_QUALITY, subsampling=0)
    return out.getvalue()


def native_planes(coding: JpegCoding) -> list[UInt8Array]:
    """The components as the file holds them, (H, W) uint8 each, whole blocks, as stored (not turned upright).

    Luma is as large as `coding.padded`; chroma has one sample for each cell of the subsampling.
    """
    data = _bare(coding)
    if coding.mode == "L":
        return _decoded(data, None, None)
    if coding.mode == "RGB" or coding.sampling == 0:
        return _decoded(data, coding.mode, None)
    if coding.sampling == 1:
        luma, *chroma = _decoded(data, "YCbCr", None)
        return [luma, *(_without_interpolation(plane) for plane in chroma)]
    # at half scale libjpeg needs no interpolation: the chroma blocks are decoded at their own resolution
    width, height = coding.padded
    _, *chroma = _decoded(data, "YCbCr", (width // 2, height // 2))
    return [*_decoded(data, "L", None), *chroma]


def turn(array: npt.NDArray[Scalar], orientation: int) -> npt.NDArray[Scalar]:
    """`array` ((H, W) or (H, W, C), any dtype) turned upright by its EXIF `orientation`, 1 to 8."""
    if orientation >= 5:
        array = np.asarray(cv2.transpose(array))
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return array if flip is None else np.asarray(cv2.flip(array, flip))


def _colour_mode(data: bytes, segments: list[Segment], ids: list[int]) -> str:
    """What three components are, by the rules of libjpeg: "YCbCr" or "RGB"."""
    contents = [(segment.marker, data[segment.start + 4 : segment.end]) for segment in segments]
    if any(marker == JFIF and len(c) >= 14 and c.startswith(b"JFIF\0") for marker, c in contents):
        return "YCbCr"
    adobe = [c for marker, c in contents if marker == ADOBE and len(c) >= 12 and c.startswith(b"Adobe")]
    if adobe:
        # of several the last one holds
        return "RGB" if adobe[-1][11] == 0 else "YCbCr"
    return "RGB" if bytes(ids) == b"RGB" else "YCbCr"


def _block(data: bytes, segments: list[Segment], frame: Segment, sampling: int) -> tuple[int, int]:
    """(width, height) in pixels of the smallest unit of which the file holds a whole number."""
    scan = segments[-1]
    components = data[frame.start + 9]
    interleaved = scan.marker == SOS and data[scan.start + 4] == components > 1
    if frame.marker == PROGRESSIVE or not interleaved:
        # scans of one component stop at its own last block, which for chroma may be half a unit early
        return 8, 8
    rows, columns = _CELLS[sampling]
    return 8 * columns, 8 * rows


def _padded(size: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // block[0]) * block[0], -(-size[1] // block[1]) * block[1]


def _stays_whole(coding: JpegCoding) -> bool:
    """Whether blocks are blocks after turning: padding may be at the right and at the bottom only."""
    rows, columns = _CELLS[coding.sampling]
    if coding.orientation >= 5 and rows != columns:
        return False
    right, below = coding.size[0] % (8 * columns) != 0, coding.size[1] % (8 * rows) != 0
    return not (right and coding.orientation in (2, 3, 7, 8)) and not (
        below and coding.orientation in (3, 4, 6, 7)
    )


def _turned_table(table: tuple[int, ...], orientation: int) -> list[int]:
    return np.reshape(table, (8, 8)).T.ravel().tolist() if orientation >= 5 else list(table)


def _bare(coding: JpegCoding) -> bytes:
    """The file without metadata, its size set to whole blocks so that all of them are decoded."""
    segments = list(header(coding.data))
    parts = [coding.data[s.start : s.end] for s in segments if s.marker not in METADATA]
    return _with_size(b"\xff\xd8" + b"".join(parts) + coding.data[segments[-1].end :], coding.padded)


def _with_size(data: bytes, size: tuple[int, int]) -> bytes:
    """The JPEG `data` with (width, height) in its frame header; the number of blocks must not change."""
    at = next(s.start for s in header(data) if s.marker in FRAMES) + 5
    return data[:at] + size[1].to_bytes(2, "big") + size[0].to_bytes(2, "big") + data[at + 4 :]


def _decoded(data: bytes, mode: str | None, size: tuple[int, int] | None) -> list[UInt8Array]:
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        if mode in ("L", "YCbCr"):
            image.draft(mode, size)
        image.load()
        return [np.asarray(band) for band in image.split()]


def _without_interpolation(plane: UInt8Array) -> UInt8Array:
    """Every chroma sample of a 4:2:2 picture, from the twice as wide plane that libjpeg interpolated.

    libjpeg makes (3 c[i] + c[i-1] + 1) // 4 and (3 c[i] + c[i+1] + 2) // 4 of each sample c[i]. The right one
    of c[i] and the left one of c[i+1] are two equations in c[i] and c[i+1]; each sample is in two such pairs.
    """
    wide = plane.astype(np.float32)
    # the middle of the four values that libjpeg's integer division maps onto one
    right_of, left_of = 4 * wide[:, 1:-1:2] - 0.5, 4 * wide[:, 2::2] + 0.5
    samples = np.empty((plane.shape[0], plane.shape[1] // 2), np.float32)
    samples[:, :-1] = (3 * right_of - left_of) / 8
    samples[:, 1:-1] = (samples[:, 1:-1] + (3 * left_of[:, :-1] - right_of[:, :-1]) / 8) / 2
    samples[:, 0], samples[:, -1] = wide[:, 0], wide[:, -1]
    return np.clip(np.rint(samples), 0, 255).astype(np.uint8)


def _replace(planes: list[UInt8Array], coding: JpegCoding, result: UInt8Array, mask: BoolArray) -> None:
    """Write `result` into `planes` where `mask`; both go on into the padding at the right and lower edge."""
    height, width = planes[0].shape
    rows, columns = _CELLS[coding.sampling]
    top, bottom = _extent(np.flatnonzero(mask.any(axis=1)), rows, mask.shape[0], height)
    left, right = _extent(np.flatnonzero(mask.any(axis=0)), columns, mask.shape[1], width)
    beyond = [(0, max(0, bottom - mask.shape[0])), (0, max(0, right - mask.shape[1]))]
    where = np.pad(mask[top:bottom, left:right], beyond, mode="edge").astype(np.uint8)
    colours = np.pad(result[top:bottom, left:right], [*beyond, (0, 0)], mode="edge")
    for index, component in enumerate(_components_of(colours, coding.mode)):
        high, wide = (rows, columns) if index else (1, 1)
        plane = planes[index].copy()
        kept = plane[top // high : bottom // high, left // wide : right // wide]
        if (high, wide) == (1, 1):
            cv2.copyTo(component, where, kept)
        else:
            masked = _cell_means(np.multiply(where, component, dtype=np.float32), high, wide)
            kept[:] = np.rint(masked + (1 - _cell_means(where.astype(np.float32), high, wide)) * kept)
        planes[index] = plane


def _extent(places: npt.NDArray[np.intp], cell: int, size: int, padded: int) -> tuple[int, int]:
    """First and past the last of `places`, in whole cells; to `padded` where the last one is at the edge."""
    first, last = int(places[0]), int(places[-1])
    return first // cell * cell, padded if last == size - 1 else -(-(last + 1) // cell) * cell


def _components_of(colours: UInt8Array, mode: str) -> tuple[UInt8Array, ...]:
    if mode == "RGB":
        return tuple(cv2.split(colours))
    luma, red, blue = cv2.split(cv2.cvtColor(colours, cv2.COLOR_RGB2YCrCb))
    return (luma,) if mode == "L" else (luma, blue, red)


def _cell_means(values: FloatArray, high: int, wide: int) -> FloatArray:
    size = values.shape[1] // wide, values.shape[0] // high
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA))


def _dct() -> FloatArray:
    """(64, 64) orthonormal matrix from the 64 values of a block to its 64 coefficients, both row by row."""
    k = np.arange(8)
    cosines = np.cos(np.pi * (2 * k + 1) * k[:, None] / 16) / 2
    cosines[0] /= np.sqrt(2)
    return np.kron(cosines, cosines).astype(np.float32)


_DCT = _dct()
_ROUNDS = 4


def _settled(plane: UInt8Array, table: list[int]) -> UInt8Array:
    """`plane` (whole blocks) altered where it clips, so that what is decoded again is closer to `plane`.

    A decoder cuts what overshoots 0 and 255, and a block that was cut encodes to other coefficients than it
    came from. Adding back the error that quantization makes, a few times, finds values that come out right.
    """
    settled = plane.copy()
    blocks = settled.reshape(plane.shape[0] // 8, 8, -1, 8).swapaxes(1, 2)
    at = _clipping_blocks(plane)
    wanted = blocks[at].reshape(-1, 64).astype(np.float32)
    error = wanted - _recoded(wanted, table)
    off = np.abs(error).max(axis=1, initial=0) > 1
    at, wanted, error = (at[0][off], at[1][off]), wanted[off], error[off]
    best, least = wanted.copy(), np.square(error).sum(axis=1)
    tried = wanted
    for _ in range(_ROUNDS):
        tried = np.clip(tried + error, 0, 255)
        error = wanted - _recoded(np.rint(tried), table)
        squares = np.square(error).sum(axis=1)
        better = squares < least
        best[better], least[better] = np.rint(tried[better]), squares[better]
    blocks[at] = best.reshape(-1, 8, 8)
    return settled


def _clipping_blocks(plane: UInt8Array) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """(row, column) of the blocks that hold 0 or 255 and anything else."""
    # 0 and 255 become 255 and 254; the eight flags of a block's row make one integer
    flags = (
        np.ascontiguousarray(plane - np.uint8(1) >= 254).view(np.uint64).reshape(-1, 8, plane.shape[1] // 8)
    )
    mixed = flags.any(axis=1) & (flags != np.uint64(0x0101010101010101)).any(axis=1)
    rows, columns = np.nonzero(mixed)
    return rows, columns


def _recoded(blocks: FloatArray, table: list[int]) -> FloatArray:
    """(N, 64) pixel values after quantization, as a decoder returns them."""
    steps = np.array(table, np.float32)
    stored = np.rint((blocks - 128) @ _DCT.T / steps) * steps
    return np.asarray(np.clip(np.rint(stored @ _DCT + 128), 0, 255), np.float32)
