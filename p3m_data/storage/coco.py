"""Facemasks in COCO's JSON: one file for many pictures, with run lengths or polygons."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from p3m_data.arrays import BoolArray
from p3m_data.errors import MissingExtra, UsageError
from p3m_data.storage.annotations import LABEL, MAX_SHAPES, check_count, member, points_of
from p3m_data.storage.masks import Points, Size, bounds, check_size, fill_polygon
from p3m_data.storage.rle import decode_rle
from p3m_data.storage.sentences import one_line


class CocoImage(NamedTuple):
    """What a COCO file says of one picture."""

    size: Size
    segmentations: tuple[object, ...]
    """As found, not yet checked."""


def coco_images(document: dict[str, Any], name: str) -> dict[str, CocoImage]:
    """The pictures of a COCO file by the stems of their file names, in its order.

    `UsageError` when keys are missing, a picture comes twice or an annotation has none.
    """
    found: dict[int | str, tuple[str, Size, list[object]]] = {}
    stems: set[str] = set()
    for image in member(document, "images", list, name):
        key = _image_key(image, "id", name)
        file = member(image, "file_name", str, name)
        stem = PurePosixPath(file.replace("\\", "/")).stem
        if key in found or stem in stems:
            raise UsageError(f"{name} lists the picture {one_line(file)} twice; leave one of them out")
        stems.add(stem)
        size = member(image, "width", int, name), member(image, "height", int, name)
        found[key] = stem, size, []
    for annotation in member(document, "annotations", list, name):
        key = _image_key(annotation, "image_id", name)
        if key not in found:
            raise UsageError(f'{name} has an annotation of a picture that its "images" lack; export it again')
        found[key][2].append(annotation.get("segmentation"))
    return {stem: CocoImage(size, tuple(drawn)) for stem, size, drawn in found.values()}


def coco_mask(image: CocoImage, name: str, size: Size) -> BoolArray:
    """The (H, W) union of a picture's annotations: RLE, compressed or not, and lists of polygons.

    `size` is the picture's. `UsageError` for a wrong size and for anything malformed.
    """
    check_size(image.size, size, name)
    check_count(image.segmentations, MAX_SHAPES, "annotations", name)
    mask = np.zeros(size[::-1], np.bool_)
    for segmentation in image.segmentations:
        if isinstance(segmentation, dict):
            mask |= decode_rle(segmentation, name, size)
        elif isinstance(segmentation, list) and segmentation:
            check_count(segmentation, MAX_SHAPES, "polygons", name)
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
        x0, y0, x1, y1 = bounds(mask)
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


def _ring(flat: object, name: str) -> Points:
    """x, y, x, y, ... of at least three points, as points."""
    if not isinstance(flat, list) or len(flat) < 6 or len(flat) % 2:
        raise UsageError(f"{name} has a polygon that is not a list of three or more points; draw it again")
    return points_of(list(zip(flat[::2], flat[1::2], strict=True)), name)


def _image_key(entry: object, key: str, name: str) -> int | str:
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, str) else member(entry, key, int, name)
