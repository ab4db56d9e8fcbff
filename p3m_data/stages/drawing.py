"""Drawing: what a reviewer draws, kept as strokes and turned into a mask at the picture's own resolution.

Strokes instead of pixels: a picture of any size is painted on at screen resolution, each stroke is small
enough to be saved at once, and undo takes one away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, TypeAdapter, ValidationError

from p3m_data.arrays import BoolArray, UInt8Array, check_mask
from p3m_data.errors import UsageError
from p3m_data.types import Frozen

MOST_OPS = 2_000
MOST_POINTS = 20_000

SHIFT = 4  # fractional bits of OpenCV's drawing functions

Points = npt.NDArray[np.float64]
Coordinate = Annotated[float, Field(ge=-1e5, le=1e5, allow_inf_nan=False)]
Place = tuple[Coordinate, Coordinate]


class Brush(Frozen):
    """A round brush of `radius` pixels along a polyline; a single point is a disc."""

    tool: Literal["brush"]
    erase: bool = False
    radius: float = Field(ge=0.5, le=2000, allow_inf_nan=False)
    points: tuple[Place, ...] = Field(min_length=1, max_length=MOST_POINTS)


class Polygon(Frozen):
    """A filled polygon; where it crosses itself, even-odd."""

    tool: Literal["polygon"]
    erase: bool = False
    points: tuple[Place, ...] = Field(min_length=3, max_length=MOST_POINTS)


class Ellipse(Frozen):
    """A filled ellipse that touches the sides of `box`."""

    tool: Literal["ellipse"]
    erase: bool = False
    box: tuple[Coordinate, Coordinate, Coordinate, Coordinate]


class Suggestion(Frozen):
    """Adds the machine's mask."""

    tool: Literal["suggestion"]


class Clip(Frozen):
    """Takes the transition area away from what is there by now."""

    tool: Literal["clip"]


class Clear(Frozen):
    """Takes everything away."""

    tool: Literal["clear"]


Op = Annotated[Brush | Polygon | Ellipse | Suggestion | Clip | Clear, Field(discriminator="tool")]
_OPS: TypeAdapter[list[Op]] = TypeAdapter(list[Op])


def parse_ops(ops: Iterable[Any]) -> list[Op]:
    """Operations from JSON; `UsageError` when one is none of ours or there are too many."""
    try:
        found = _OPS.validate_python(list(ops))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise UsageError(f"the drawing cannot be read ({where}: {first['msg']})") from error
    if len(found) > MOST_OPS:
        raise UsageError(
            f"a drawing may have {MOST_OPS} strokes, not {len(found)}; clear it and draw fewer, larger ones"
        )
    return found


def rasterize(
    ops: Sequence[Op],
    shape: tuple[int, ...],
    suggestion: BoolArray,
    transition: BoolArray,
    *,
    scale: float = 1.0,
) -> BoolArray:
    """The mask that `ops` draw, in their order, on a canvas of `shape` (H, W, ...): (H, W) bool.

    `suggestion`, `transition`: (H, W) bool. `scale`: of the canvas in relation to the picture that the
    operations' coordinates are of.
    """
    check_mask(suggestion, shape)
    check_mask(transition, shape)
    drawn = np.zeros(shape[:2], bool)
    for op in ops:
        match op:
            case Suggestion():
                drawn |= suggestion
            case Clip():
                drawn &= ~transition
            case Clear():
                drawn[:] = False
            case _:
                _stamp(drawn, op, scale)
    return drawn


def _stamp(drawn: BoolArray, op: Brush | Polygon | Ellipse, scale: float) -> None:
    """Adds one shape to `drawn`, or takes it away, in place.

    OpenCV bends edges that leave its canvas, so the shape is drawn whole and cut afterwards.
    """
    height, width = drawn.shape
    size = np.array([width, height])
    radius = min(max(op.radius * scale, 0.5), float(size.max())) if isinstance(op, Brush) else 0.0
    # what is further out than the picture's own size changes nothing in it that a person could have meant
    points = np.clip(_scaled(_points(op), scale), -size, 2 * size)
    low = np.floor(points.min(axis=0) - radius).astype(int) - 1
    high = np.ceil(points.max(axis=0) + radius).astype(int) + 2
    x0, y0 = np.clip(low, 0, size)
    x1, y1 = np.clip(high, 0, size)
    if x0 >= x1 or y0 >= y1:
        return
    canvas = np.zeros((high - low)[::-1], np.uint8)
    _draw(canvas, op, points - low, radius)
    cut = canvas[y0 - low[1] : y1 - low[1], x0 - low[0] : x1 - low[0]].astype(bool)
    part = drawn[y0:y1, x0:x1]
    part[cut] = not op.erase


def _draw(canvas: UInt8Array, op: Brush | Polygon | Ellipse, points: Points, radius: float) -> None:
    if not isinstance(op, Brush):
        cv2.fillPoly(canvas, [_fixed(points)], 1, cv2.LINE_8, SHIFT)
        return
    fixed, thick = _fixed(points), round(radius * (1 << SHIFT))
    for x, y in fixed.tolist():
        cv2.circle(canvas, (x, y), thick, 1, cv2.FILLED, cv2.LINE_8, SHIFT)
    for start, end in pairwise(points):
        along = end - start
        length = float(np.hypot(*along))
        if length > 0:
            side = np.array([-along[1], along[0]]) * (radius / length)
            quad = np.stack([start + side, end + side, end - side, start - side])
            cv2.fillConvexPoly(canvas, _fixed(quad), 1, cv2.LINE_8, SHIFT)


_TURN = np.linspace(0, 2 * np.pi, 96, endpoint=False)


def _points(op: Brush | Polygon | Ellipse) -> npt.ArrayLike:
    if not isinstance(op, Ellipse):
        return op.points
    x0, y0, x1, y1 = op.box
    half = np.abs([x1 - x0, y1 - y0]) / 2
    return np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1) * half + np.array([x0 + x1, y0 + y1]) / 2


def _scaled(points: npt.ArrayLike, scale: float) -> Points:
    """Pixel coordinates of the picture -> of the canvas; a pixel's centre is at integers in both."""
    return (np.asarray(points, np.float64) + 0.5) * scale - 0.5


def _fixed(points: Points) -> npt.NDArray[np.int32]:
    return np.round(points * (1 << SHIFT)).astype(np.int32)
