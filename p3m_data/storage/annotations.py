"""What the JSON of COCO and of labelme has in common.

The polygons of both count from the outer corner of the top-left pixel; a pixel is inside when its centre is. All
shapes of a picture are united, whatever their labels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sized
from typing import Any, Literal, TypeVar

import numpy as np

from p3m_data.errors import UsageError
from p3m_data.storage.masks import Points

Value = TypeVar("Value")
MAX_SHAPES = 2_000
MAX_POINTS = 20_000
FARTHEST = 1e5
LABEL = "face"


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


def member(entry: object, key: str, kind: type[Value], name: str) -> Value:
    """What the JSON object `entry` has under `key`; `UsageError` when that is not of `kind`."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UsageError(f'{name} lacks "{key}" somewhere, or it is not what it should be; export it again')
    return value


def points_of(pairs: list[Any], name: str) -> Points:
    """Pairs of numbers as found in a file; `UsageError` when there are too many or one is none or far off."""
    check_count(pairs, MAX_POINTS, "points in one shape", name)
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


def check_count(found: Sized, limit: int, what: str, name: str) -> None:
    """`UsageError` when a file holds more than `limit` of `what`."""
    if len(found) > limit:
        raise UsageError(f"{name} has more than {limit:,} {what}; simplify it")


def _without_picture(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in pairs if key != "imageData"}


def _no_number(word: str) -> float:
    raise ValueError(word)
