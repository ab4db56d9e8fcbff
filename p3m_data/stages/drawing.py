"""Drawing: what a reviewer draws, kept as strokes and turned into a mask at the picture's own resolution.

Strokes instead of pixels: a picture of any size is painted on at screen resolution, each stroke is small
enough to be saved at once, and undo takes one away.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, StrictBool, TypeAdapter, ValidationError

from p3m_data.arrays import BoolArray, UInt8Array, check_mask
from p3m_data.errors import UsageError
from p3m_data.storage.masks import fill_polygon
from p3m_data.types import Frozen

MOST_OPS = 2_000
MOST_POINTS = 20_000

SHIFT = 4  # fractional bits of OpenCV's drawing functions

Points = npt.NDArray[np.float64]
Coordinate = Annotated[float, Field(strict=True, ge=-1e5, le=1e5, allow_inf_nan=False)]
Place = tuple[Coordinate, Coordinate]
Radius = Annotated[float, Field(strict=True, ge=0.5, le=2000, allow_inf_nan=False)]


class Brush(Frozen):
    """A round brush of `radius` pixels along a polyline; a single point is a disc."""

    tool: Literal["brush"]
    erase: StrictBool = False
    radius: Radius
    points: tuple[Place, ...] = Field(min_length=1, max_length=MOST_POINTS)


class Polygon(Frozen):
    """A filled polygon; where it crosses itself, even-odd."""

    tool: Literal["polygon"]
    erase: StrictBool = False
    points: tuple[Place, ...] = Field(min_length=3, max_length=MOST_POINTS)


class Ellipse(Frozen):
    """A filled ellipse that touches the sides of `box`."""

    tool: Literal["ellipse"]
    erase: StrictBool = False
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


def parse_ops(ops: Any) -> list[Op]:
    """Operations from JSON; `UsageError` when one is none of ours or there are too many."""
    try:
        found = _OPS.validate_python(ops)
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
    """Adds one shape to `drawn`, or takes it away, in place."""
    size = np.array(drawn.shape[::-1])
    points = _scaled(_points(op), scale)
    radius = max(op.radius * scale, 0.5) if isinstance(op, Brush) else 0.0
    x0, y0 = np.clip(np.floor(points.min(axis=0) - radius).astype(int) - 1, 0, size)
    x1, y1 = np.clip(np.ceil(points.max(axis=0) + radius).astype(int) + 2, 0, size)
    if x0 >= x1 or y0 >= y1:
        return
    part = drawn[y0:y1, x0:x1]
    shape = np.zeros(part.shape, bool)
    if isinstance(op, Brush):
        _brush(shape.view(np.uint8), points - [x0, y0], radius)
    else:
        fill_polygon(shape, points - [x0, y0] + 0.5)  # which counts from the corner of the first pixel
    part[shape] = not op.erase


def _brush(canvas: UInt8Array, points: Points, radius: float) -> None:
    size = np.array(canvas.shape[::-1])
    near = ((points > -radius - 1) & (points < size + radius)).all(axis=1)
    thick = round(radius * (1 << SHIFT))
    for x, y in _fixed(points[near]).tolist():
        cv2.circle(canvas, (x, y), thick, 1, cv2.FILLED, cv2.LINE_8, SHIFT)
    for start, end in pairwise(points):
        ends = _clipped(start, end, -radius - 1, size + radius)
        length = float(np.hypot(*(end - start)))
        if ends is not None and length > 0:
            side = np.array([start[1] - end[1], end[0] - start[0]]) * (radius / length)
            quad = np.stack([ends[0] + side, ends[1] + side, ends[1] - side, ends[0] - side])
            cv2.fillConvexPoly(canvas, _fixed(quad), 1, cv2.LINE_8, SHIFT)


def _clipped(start: Points, end: Points, low: float, high: Points) -> tuple[Points, Points] | None:
    """The part of a line that lies in the square from `low` to `high`; None when there is none.

    OpenCV's integers would overflow, and its time would be wasted, far outside the picture.
    """
    along = end - start
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (low - start) / along, (high - start) / along
    inside = (start >= low) & (start <= high)
    enter = np.where(along == 0, np.where(inside, 0.0, 2.0), np.minimum(first, second)).max()
    leave = np.where(along == 0, 1.0, np.maximum(first, second)).min()
    enter, leave = max(float(enter), 0.0), min(float(leave), 1.0)
    return (start + along * enter, start + along * leave) if enter <= leave else None


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
