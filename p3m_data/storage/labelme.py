"""Facemasks in labelme's JSON: one file a picture, with shapes of several kinds."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from p3m_data.arrays import BoolArray
from p3m_data.errors import UsageError
from p3m_data.storage.annotations import LABEL, MAX_SHAPES, check_count, member, points_of
from p3m_data.storage.masks import (
    Points,
    Size,
    bounds,
    check_size,
    encode_png_mask,
    fill_polygon,
    png_levels,
)

LABELME_VERSION = "5.4.1"


def labelme_mask(document: dict[str, Any], name: str, size: Size) -> BoolArray:
    """The (H, W) union of the shapes of a labelme file: polygons, boxes, circles, closed lines and masks.

    `size` is the picture's. `UsageError` for a wrong size, other shapes and anything malformed.
    """
    found = member(document, "imageWidth", int, name), member(document, "imageHeight", int, name)
    check_size(found, size, name)
    shapes = member(document, "shapes", list, name)
    check_count(shapes, MAX_SHAPES, "shapes", name)
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
        x0, y0, x1, y1 = bounds(mask)
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


def _add_shape(mask: BoolArray, shape: object, name: str) -> None:
    # early versions knew polygons only and did not say so
    kind = (shape.get("shape_type") or "polygon") if isinstance(shape, dict) else ""
    points = points_of(member(shape, "points", list, name), name)
    closed = len(points) > 3 and bool((points[0] == points[-1]).all())
    if kind == "mask" and len(points) == 2:
        _add_pasted(mask, points, member(shape, "mask", str, name), name)
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
    mask[rows, columns] |= png_levels(data, f"a mask in {name}", size) > 0


def _fill_circle(mask: BoolArray, points: Points) -> None:
    """`points`: the centre and any point of the border."""
    (x, y), (bx, by) = points.tolist()
    height, width = mask.shape
    down = (np.arange(height)[:, None] + 0.5 - y) ** 2
    across = (np.arange(width)[None, :] + 0.5 - x) ** 2
    mask |= down + across <= (bx - x) ** 2 + (by - y) ** 2
