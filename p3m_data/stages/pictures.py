"""Pictures on the reviewer's desk: loaded once, kept while there is room, and shown as layers of any size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array
from p3m_data.errors import UsageError
from p3m_data.stages.blur import BlurConfig, blur
from p3m_data.stages.candidate import Loaded
from p3m_data.stages.mask import Masked
from p3m_data.storage.images import encode_png

ROOM = 1 << 30
"""Bytes of decoded pictures that are kept, besides the last few."""

AT_LEAST = 3
"""Pictures that are kept whatever their size: the one in work and two that come next."""

QUALITY = 90
THUMBNAIL = 320
TINT = np.array((255, 60, 50), np.float32)
TINTED = 0.45

WholeBox = tuple[int, int, int, int]


class Part(NamedTuple):
    """A rectangle of a picture in whole pixels (x1, y1 exclusive), shown `width` x `height` pixels large."""

    x0: int
    y0: int
    x1: int
    y1: int
    width: int
    height: int

    @property
    def scale(self) -> float:
        return self.width / (self.x1 - self.x0)


@dataclass
class Opened:
    """A picture on the desk."""

    loaded: Loaded
    suggested: Masked
    """What the machine would mask if a person agreed."""
    result: UInt8Array | None = None
    """(H, W, 3) uint8, the last result that the verification refused."""

    @property
    def pixels(self) -> UInt8Array:
        return self.loaded.picture.pixels

    @property
    def nbytes(self) -> int:
        alpha = self.loaded.alpha
        arrays = self.pixels, alpha, self.result, *self.suggested[1:4]
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))


class Pictures:
    """The opened pictures, by id; `open_picture` loads one that is not there."""

    def __init__(self, open_picture: Callable[[str], Opened]) -> None:
        self._open = open_picture
        self._kept: OrderedDict[str, Opened] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}

    def get(self, name: str) -> Opened:
        """The picture `name`; threads that ask for the same one wait for one load."""
        with self._lock:
            loading = self._loading.setdefault(name, threading.Lock())
        with loading:
            with self._lock:
                if name in self._kept:
                    self._kept.move_to_end(name)
                    return self._kept[name]
            opened = self._open(name)
            with self._lock:
                self._kept[name] = opened
                while len(self._kept) > AT_LEAST and sum(o.nbytes for o in self._kept.values()) > ROOM:
                    self._kept.popitem(last=False)
            return opened

    def forget(self, name: str) -> None:
        with self._lock:
            self._kept.pop(name, None)


def part_of(shape: tuple[int, ...], size: int, box: WholeBox | None) -> Part:
    """The part `box` (None: everything) of a picture of `shape` (H, W, ...), its long side at most `size`.

    `UsageError` when the box is empty or leaves the picture.
    """
    x0, y0, x1, y1 = box or (0, 0, shape[1], shape[0])
    if not (0 <= x0 < x1 <= shape[1] and 0 <= y0 < y1 <= shape[0]):
        raise UsageError(f"the part {x0},{y0},{x1},{y1} is not in a picture of {shape[1]} x {shape[0]}")
    scale = min(1.0, size / max(x1 - x0, y1 - y0))
    return Part(x0, y0, x1, y1, max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))


def shrunk(pixels: UInt8Array, part: Part) -> UInt8Array:
    """`part` of (H, W) or (H, W, 3) uint8, as large as it is shown."""
    cut = pixels[part.y0 : part.y1, part.x0 : part.x1]
    # halving is what OpenCV does fastest; odd sizes would be stretched by it
    while _halves(cut.shape[0], part.height) and _halves(cut.shape[1], part.width):
        cut = cv2.resize(cut, (cut.shape[1] // 2, cut.shape[0] // 2), interpolation=cv2.INTER_AREA)
    if cut.shape[:2] != (part.height, part.width):
        cut = cv2.resize(cut, (part.width, part.height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(cut, np.uint8)


def _halves(size: int, shown: int) -> bool:
    return size % 2 == 0 and size >= 2 * shown


def jpeg(pixels: UInt8Array) -> bytes:
    """A JPEG without metadata of (H, W, 3) uint8 RGB."""
    coded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return coded[1].tobytes()


def coverage(area: BoolArray, part: Part) -> bytes:
    """A grey PNG: how much of each shown pixel lies in `area`, of 255."""
    return encode_png(shrunk(area.view(np.uint8) * np.uint8(255), part))


def matte_png(alpha: FloatArray, part: Part) -> bytes:
    """A grey PNG of `alpha` ((H, W) float32 in [0, 1])."""
    cut = np.rint(alpha[part.y0 : part.y1, part.x0 : part.x1] * 255).astype(np.uint8)
    return encode_png(shrunk(cut, part._replace(x0=0, y0=0, x1=part.x1 - part.x0, y1=part.y1 - part.y0)))


def tinted_thumbnail(opened: Opened) -> bytes:
    """A small JPEG of the picture with the suggested mask in red."""
    part = part_of(opened.pixels.shape, THUMBNAIL, None)
    shown = shrunk(opened.pixels, part).astype(np.float32)
    area = shrunk(opened.suggested.mask.view(np.uint8) * np.uint8(255), part).astype(np.float32) / 255
    return jpeg((shown + (TINT - shown) * (TINTED * area[..., None])).astype(np.uint8))


def preview(opened: Opened, masked: Masked, part: Part, config: BlurConfig) -> bytes:
    """A JPEG of `part` as `masked` would be blurred: the stage `blur` on a picture of the size that is shown."""
    shown = shrunk(opened.pixels, part)
    area = shrunk(masked.mask.view(np.uint8) * np.uint8(255), part) > 127
    offset = np.array([part.x0, part.y0]) - 0.5
    faces = []
    for face in masked.faces:
        outline = (np.array(face.outline) - offset) * part.scale - 0.5
        faces.append(face.model_copy(update={"outline": tuple(map(tuple, outline.tolist()))}))
    return jpeg(blur(shown, area, faces, config).pixels)
