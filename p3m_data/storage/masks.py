"""Facemasks in the formats that annotation tools exchange: grey PNG, COCO and labelme.

A mask is an (H, W) bool array of the upright picture. The polygons of both JSON formats count from the outer
corner of the top-left pixel; a pixel is inside when its centre is. All shapes of a picture are united, whatever
their labels. What a file promises is compared with the picture's size before anything of that size is made.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import stat
from collections.abc import Iterable, Sized
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.errors import InputError, MissingExtra, UsageError
from p3m_data.storage.images import Limits, encode_png, opened, sixteen_bit
from p3m_data.storage.jpeg import turn

Size = tuple[int, int]
"""(width, height) in pixels."""
Points = npt.NDArray[np.float64]
"""(N, 2) x, y from the outer corner of the top-left pixel."""
Value = TypeVar("Value")

MAX_BYTES = Limits().max_bytes
MAX_SHAPES = 2_000
MAX_POINTS = 20_000
FARTHEST = 1e5
LABEL = "face"
LABELME_VERSION = "5.4.1"

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class CocoImage(NamedTuple):
    """What a COCO file says of one picture."""

    size: Size
    segmentations: tuple[object, ...]
    """As found, not yet checked."""


def read_file(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a file of masks; `UsageError` when it is none, is too large or cannot be read."""
    try:
        # a pipe would block when opened, a device would never end
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(handle, "rb") as file:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                raise UsageError(f"{path} is not a file; name files of masks or one folder of them")
            if facts.st_size > max_bytes:
                raise UsageError(f"{path} is larger than {max_bytes / 2**20:.3g} MiB; split it")
            return file.read()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); name a file that can") from error


def load_png_mask(data: bytes, name: str, size: Size) -> BoolArray:
    """The (H, W) mask in a PNG of 1, 8 or 16 bits, of a palette or of equal channels, `size` being its picture's.

    Where there are only 0 and one other value, the other is the mask (tools write 1 as well as 255);
    otherwise the upper half of the range is. One colour on black is a mask, too. What is transparent is not
    masked. `UsageError` for anything else; `name` appears in its sentence only.
    """
    values = _levels(data, name, size)
    high = values.max()
    if not ((values != 0) & (values != high)).any():
        return values > 0
    return values > np.iinfo(values.dtype).max // 2


def encode_png_mask(mask: BoolArray) -> bytes:
    """An 8-bit grey PNG, 255 where `mask` ((H, W) bool) and 0 elsewhere, without metadata."""
    return encode_png(mask.astype(np.uint8) * np.uint8(255))


def parse_annotations(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object in `data`; `UsageError` when it is none.

    Members named `imageData` are left out: labelme embeds the whole unblurred picture there.
    """
    try:
        document = json.loads(data, object_pairs_hook=_without_picture, parse_constant=_no_number)
    except (ValueError, RecursionError):
        # the error holds the text, and so the picture: nothing of it may be kept
        document = None
    if not isinstance(document, dict):
        raise UsageError(f"{name} is not a JSON file of annotations; export it again as COCO or labelme JSON")
    return document


def json_format(document: dict[str, Any], name: str) -> Literal["coco", "labelme"]:
    """Which of the two formats `document` is; `UsageError` when it is neither."""
    if "shapes" in document:
        return "labelme"
    if "annotations" in document:
        return "coco"
    raise UsageError(
        f'{name} is neither COCO (it lacks "annotations") nor labelme (it lacks "shapes"); '
        "export it again in one of them"
    )


def json_bytes(document: dict[str, Any]) -> bytes:
    """`document` as the bytes of a JSON file, the same for the same document."""
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode("ascii")


def coco_images(document: dict[str, Any], name: str) -> dict[str, CocoImage]:
    """The pictures of a COCO file by the stems of their file names, in its order.

    `UsageError` when keys are missing, a picture comes twice or an annotation has none.
    """
    found: dict[int | str, tuple[str, Size, list[object]]] = {}
    stems: set[str] = set()
    for image in _member(document, "images", list, name):
        key = _image_key(image, "id", name)
        file = _member(image, "file_name", str, name)
        stem = PurePosixPath(file.replace("\\", "/")).stem
        if key in found or stem in stems:
            raise UsageError(f"{name} lists the picture {file} twice; leave one of them out")
        stems.add(stem)
        size = _member(image, "width", int, name), _member(image, "height", int, name)
        found[key] = stem, size, []
    for annotation in _member(document, "annotations", list, name):
        key = _image_key(annotation, "image_id", name)
        if key not in found:
            raise UsageError(f'{name} has an annotation of a picture that its "images" lack; export it again')
        found[key][2].append(annotation.get("segmentation"))
    return {stem: CocoImage(size, tuple(drawn)) for stem, size, drawn in found.values()}


def coco_mask(image: CocoImage, name: str, size: Size) -> BoolArray:
    """The (H, W) union of a picture's annotations: RLE, compressed or not, and lists of polygons.

    `size` is the picture's. `UsageError` for a wrong size and for anything malformed.
    """
    _check_size(image.size, size, name)
    _check_count(image.segmentations, MAX_SHAPES, "annotations", name)
    mask = np.zeros(size[::-1], np.bool_)
    for segmentation in image.segmentations:
        if isinstance(segmentation, dict):
            mask |= _decoded(segmentation, name, size)
        elif isinstance(segmentation, list) and segmentation:
            _check_count(segmentation, MAX_SHAPES, "polygons", name)
            for flat in segmentation:
                fill_polygon(mask, _ring(flat, name))
        else:
            raise UsageError(f"{name} has an annotation without a segmentation (a box is no mask); draw one")
    return mask


def coco_document(masks: Iterable[tuple[str, BoolArray]]) -> dict[str, Any]:
    """A COCO document of (file name, (H, W) mask) pairs, with compressed RLE.

    A mask without a pixel has no annotation. `MissingExtra` without pycocotools.
    """
    try:
        from pycocotools.mask import encode
    except ImportError as error:
        raise MissingExtra("pycocotools", "review") from error
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (file, mask) in enumerate(masks, start=1):
        height, width = mask.shape
        images.append({"id": number, "file_name": file, "width": width, "height": height})
        if not mask.any():
            continue
        x0, y0, x1, y1 = _bounds(mask)
        counts = encode(np.asfortranarray(mask, np.uint8))["counts"].decode("ascii")
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": 1,
                "segmentation": {"size": [height, width], "counts": counts},
                "area": int(mask.sum()),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 1,
            }
        )
    categories = [{"id": 1, "name": LABEL, "supercategory": ""}]
    return {"images": images, "annotations": annotations, "categories": categories}


def labelme_mask(document: dict[str, Any], name: str, size: Size) -> BoolArray:
    """The (H, W) union of the shapes of a labelme file: polygons, boxes, circles, closed lines and masks.

    `size` is the picture's. `UsageError` for a wrong size, other shapes and anything malformed.
    """
    found = _member(document, "imageWidth", int, name), _member(document, "imageHeight", int, name)
    _check_size(found, size, name)
    shapes = _member(document, "shapes", list, name)
    _check_count(shapes, MAX_SHAPES, "shapes", name)
    mask = np.zeros(size[::-1], np.bool_)
    for shape in shapes:
        _add_shape(mask, shape, name)
    return mask


def labelme_document(file: str, mask: BoolArray) -> dict[str, Any]:
    """A labelme document for the picture `file` beside it, without the picture itself.

    The mask is one shape of labelme's kind `mask`, since its polygons know no holes, and hair leaves many;
    none where `mask` is empty.
    """
    shapes: list[dict[str, Any]] = []
    if mask.any():
        x0, y0, x1, y1 = _bounds(mask)
        shapes.append(
            {
                "label": LABEL,
                # labelme counts the last row and column in
                "points": [[x0, y0], [x1 - 1, y1 - 1]],
                "group_id": None,
                "description": "",
                "shape_type": "mask",
                "flags": {},
                "mask": base64.b64encode(encode_png_mask(mask[y0:y1, x0:x1])).decode("ascii"),
            }
        )
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": file,
        "imageData": None,
        "imageHeight": mask.shape[0],
        "imageWidth": mask.shape[1],
    }


def fill_polygon(mask: BoolArray, points: Points) -> None:
    """Set in `mask` ((H, W) bool) the pixels whose centres lie inside the closed polygon, by the even-odd rule."""
    height, width = mask.shape
    toggles = np.zeros((height, width + 1), np.bool_)
    rows = np.arange(height)
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        # the same way up in every polygon, so that two that share an edge neither overlap nor gape
        (x0, y0), (x1, y1) = sorted((start.tolist(), end.tolist()), key=lambda point: (point[1], point[0]))
        first, beyond = (min(max(math.ceil(y - 0.5), 0), height) for y in (y0, y1))
        if first < beyond:
            x = x0 + (rows[first:beyond] + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.intp)
            toggles[rows[first:beyond], columns] ^= True
    mask |= np.logical_xor.accumulate(toggles, axis=1)[:, :width]


def _levels(data: bytes, name: str, size: Size) -> npt.NDArray[np.uint8 | np.uint16]:
    """(H, W) grey values of a PNG that is as large as `size`, upright."""
    if data[:8] != _SIGNATURE or data[12:16] != b"IHDR":
        raise UsageError(f"{name} is not a PNG file; save the mask as PNG")
    stored = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if sorted(stored) != sorted(size):
        raise _wrong_size(stored, size, name)
    try:
        with opened(data, name, Limits(max_pixels=size[0] * size[1])) as (image, orientation):
            pixels = turn(_channels(image), orientation)
    except InputError as error:
        raise UsageError(str(error)) from error
    _check_size((pixels.shape[1], pixels.shape[0]), size, name)
    return pixels if pixels.ndim == 2 else _grey(np.asarray(pixels, np.uint8), name)


def _channels(image: Image.Image) -> npt.NDArray[np.uint8 | np.uint16]:
    """(H, W) grey or (H, W, 4) uint8 RGBA."""
    if image.mode.startswith("I"):
        return sixteen_bit(image)
    if image.mode in ("1", "L") and not image.has_transparency_data:
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGBA"))


def _grey(pixels: UInt8Array, name: str) -> UInt8Array:
    """(H, W, 4) RGBA over black as (H, W) grey; one colour alone counts as white."""
    grey = pixels[..., :3].max(axis=2)
    if (pixels[..., :3].min(axis=2) != grey).any():
        drawn = pixels[grey > 0][:, :3]
        if (drawn != drawn[0]).any():
            raise UsageError(f"{name} shows several colours; save the mask as grey, white where it masks")
        grey = np.where(grey > 0, np.uint8(255), np.uint8(0))
    shown: UInt8Array = ((grey.astype(np.uint16) * pixels[..., 3] + 127) // 255).astype(np.uint8)
    return shown


def _decoded(rle: dict[str, Any], name: str, size: Size) -> BoolArray:
    width, height = size
    if rle.get("size") != [height, width]:
        raise UsageError(
            f"{name} has a mask of another size than its picture, which is {width} x {height}; "
            "draw on the picture's own size"
        )
    counts = rle.get("counts")
    runs = _unpacked(counts) if isinstance(counts, str) else _plain(counts)
    # pycocotools takes any sum of runs and fills the rest with whatever lies in memory
    if runs is None or not ((runs >= 0) & (runs <= width * height)).all() or runs.sum() != width * height:
        raise UsageError(f"{name} has a run-length mask that does not fill its picture; export it again")
    # the runs go down the columns, the first one is outside the mask
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _plain(counts: object) -> npt.NDArray[np.int64] | None:
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        return None
    try:
        return np.array(counts, np.int64)
    except OverflowError:
        return None


def _unpacked(text: str) -> npt.NDArray[np.int64] | None:
    """The runs of COCO's compressed RLE; None when it is not one.

    Each number is written in characters from "0" on: five bits each, least first, 32 for "more follows", the
    highest bit of the last one its sign. From the fourth on, a number is added to the one two before it.
    """
    codes = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - ord("0")
    last = codes & 32 == 0
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or not last[-1]:
        return None
    start = np.flatnonzero(np.r_[True, last[:-1]])
    place = np.arange(len(codes)) - np.repeat(start, np.diff(np.r_[start, len(codes)]))
    if place.max() > 6:
        return None
    runs = np.add.reduceat((codes & 31) << (5 * place), start)
    runs -= (codes[last] >> 4 & 1) << (5 * (place[last] + 1))
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _add_shape(mask: BoolArray, shape: object, name: str) -> None:
    # early versions knew polygons only and did not say so
    kind = (shape.get("shape_type") or "polygon") if isinstance(shape, dict) else ""
    points = _points(_member(shape, "points", list, name), name)
    closed = len(points) > 3 and bool((points[0] == points[-1]).all())
    if kind == "mask" and len(points) == 2:
        _add_pasted(mask, points, _member(shape, "mask", str, name), name)
    elif kind == "circle" and len(points) == 2:
        _fill_circle(mask, points)
    elif kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        fill_polygon(mask, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
    elif len(points) > 2 and (kind in ("polygon", "rectangle") or (kind == "linestrip" and closed)):
        fill_polygon(mask, points)
    else:
        raise UsageError(
            f"{name} has a shape of {len(points)} points that encloses nothing; "
            "draw a polygon, rectangle, circle or mask"
        )


def _add_pasted(mask: BoolArray, points: Points, encoded: str, name: str) -> None:
    """Unite `mask` with a PNG in base64 whose first and last pixel are `points`."""
    height, width = mask.shape
    (x0, y0), (x1, y1) = points.tolist()
    whole = all(value.is_integer() for value in (x0, y0, x1, y1))
    if not (whole and 0 <= x0 <= x1 < width and 0 <= y0 <= y1 < height):
        raise UsageError(f"{name} has a mask that does not lie in its picture; draw it again")
    rows, columns = slice(int(y0), int(y1) + 1), slice(int(x0), int(x1) + 1)
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"{name} has a mask that is damaged (not base64); draw it again") from error
    size = columns.stop - columns.start, rows.stop - rows.start
    mask[rows, columns] |= _levels(data, f"a mask in {name}", size) > 0


def _fill_circle(mask: BoolArray, points: Points) -> None:
    """`points`: the centre and any point of the border."""
    (x, y), (bx, by) = points.tolist()
    height, width = mask.shape
    down = (np.arange(height)[:, None] + 0.5 - y) ** 2
    across = (np.arange(width)[None, :] + 0.5 - x) ** 2
    mask |= down + across <= (bx - x) ** 2 + (by - y) ** 2


def _ring(flat: object, name: str) -> Points:
    """x, y, x, y, ... of at least three points, as points."""
    if not isinstance(flat, list) or len(flat) < 6 or len(flat) % 2:
        raise UsageError(f"{name} has a polygon that is not a list of three or more points; draw it again")
    return _points(list(zip(flat[::2], flat[1::2], strict=True)), name)


def _points(pairs: list[Any], name: str) -> Points:
    _check_count(pairs, MAX_POINTS, "points in one shape", name)
    numbers = [
        value if type(value) in (int, float) else math.nan
        for pair in pairs
        for value in (pair if isinstance(pair, (list, tuple)) and len(pair) == 2 else [math.nan] * 2)
    ]
    if not all(abs(number) <= FARTHEST for number in numbers):
        raise UsageError(
            f"{name} has a point that is not two numbers of at most {FARTHEST:,.0f}; draw that shape again"
        )
    return np.array(numbers, np.float64).reshape(-1, 2)


def _bounds(mask: BoolArray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a mask that is not empty, the end exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _without_picture(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in pairs if key != "imageData"}


def _no_number(word: str) -> float:
    raise ValueError(word)


def _member(entry: object, key: str, kind: type[Value], name: str) -> Value:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UsageError(f'{name} lacks "{key}" somewhere, or it is not what it should be; export it again')
    return value


def _image_key(entry: object, key: str, name: str) -> int | str:
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, str) else _member(entry, key, int, name)


def _check_count(found: Sized, limit: int, what: str, name: str) -> None:
    if len(found) > limit:
        raise UsageError(f"{name} has more than {limit:,} {what}; simplify it")


def _check_size(found: Size, size: Size, name: str) -> None:
    if found != size:
        raise _wrong_size(found, size, name)


def _wrong_size(found: Size, size: Size, name: str) -> UsageError:
    return UsageError(
        f"{name} is {found[0]} x {found[1]} but its picture is {size[0]} x {size[1]}; "
        "draw on the picture's own size"
    )
