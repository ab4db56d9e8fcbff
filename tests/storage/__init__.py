"""Masks, and the files that hold them as other tools write them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from p3m_data.arrays import BoolArray
from p3m_data.storage.annotations import json_bytes, parse_annotations
from p3m_data.storage.coco import coco_images, coco_mask

ID = "p_0123456789abcdef"
MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12))
SIZE = (7, 5)
MASK = np.random.default_rng(1).random((5, 7)) > 0.5


def size_of(mask: BoolArray) -> tuple[int, int]:
    return mask.shape[1], mask.shape[0]


def again(document: dict[str, Any]) -> dict[str, Any]:
    """`document` written and read."""
    return parse_annotations(json_bytes(document), "m.json")


def png(pixels: Any, mode: str | None = None) -> bytes:
    out = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
    (image.convert(mode) if mode else image).save(out, "PNG")
    return out.getvalue()


def from_coco(document: dict[str, Any], size: tuple[int, int] = SIZE) -> BoolArray:
    return coco_mask(coco_images(document, "m.json")[ID], "m.json", size)


def coco(*segmentations: object, **image: object) -> dict[str, Any]:
    """A COCO document of one picture of `SIZE` with these annotations."""
    entry = {"id": 9, "file_name": f"{ID}.jpg", "width": SIZE[0], "height": SIZE[1], **image}
    return {
        "images": [entry],
        "annotations": [{"id": n, "image_id": 9, "segmentation": s} for n, s in enumerate(segmentations)],
    }


def labelme(*shapes: object, **more: object) -> dict[str, Any]:
    return {"shapes": list(shapes), "imageWidth": SIZE[0], "imageHeight": SIZE[1], **more}


def shape(points: object, kind: str | None = "polygon", **more: object) -> dict[str, Any]:
    return {"label": "face", "points": points, "shape_type": kind, **more}
