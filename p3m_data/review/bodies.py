"""What the review server takes: the bodies of its writes and the values of its queries."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.requests import Request

from p3m_data.review.security import Refused, known
from p3m_data.types import Reason

DRAFT_BODY = 1 << 20


def _reason(value: str) -> str:
    return Reason(value).value


State = Literal["waiting", "skipped", "second_opinion", "disagreement", "spot_check", "decided"]
STATES: tuple[str, ...] = State.__args__  # type: ignore[attr-defined]
Holder = Annotated[str, Field(pattern=r"^[!-~]{1,100}$")]
Name = Annotated[str, Field(max_length=100)]
Count = Annotated[int, Field(ge=0)]
ReasonValue = Annotated[str, AfterValidator(_reason)]


class Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Exchange(Body):
    token: Annotated[str, Field(max_length=200)]


class Next(Body):
    holder: Holder
    state: State | None = None
    reason: ReasonValue | None = None
    after: Name | None = None
    want: Name | None = None
    count: Annotated[int, Field(ge=1, le=20)] = 1


class Leases(Body):
    holder: Holder
    ids: Annotated[list[Name], Field(max_length=100)]


class Draft(Body):
    holder: Holder
    version: Count
    keep: Count
    add: Annotated[list[dict[str, Any]], Field(max_length=2000)]
    """The operations themselves are the desk's to check."""
    done: Count


class Region(Body):
    box: Annotated[list[Annotated[float, Field(ge=-1e5, le=1e5)]], Field(min_length=4, max_length=4)]


class Decision(Body):
    holder: Holder
    verdict: Literal["accept", "mask", "no_face", "exclude", "skip"]
    version: Count | None = None
    note: Annotated[str, Field(max_length=2000)] | None = None
    waive: Annotated[list[Name], Field(max_length=20)] = []


class Undo(Body):
    number: Count


def known_or_none(text: str | None) -> str | None:
    return None if text is None else known(text)


def number(request: Request, name: str, low: int, high: int, default: int | None = None) -> int:
    """The whole number `name` of the query, in [low, high]; `Refused` with 400."""
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch("[0-9]{1,15}", text) or not low <= int(text) <= high:
        raise Refused(400, f"{name} must be a whole number from {low} to {high}.")
    return int(text)


def part(request: Request) -> tuple[int, int, int, int] | None:
    """The `box` of the query in whole pixels, its end exclusive; None without one. `Refused` with 400."""
    text = request.query_params.get("box")
    if text is None:
        return None
    if re.fullmatch("[0-9]{1,6}(,[0-9]{1,6}){3}", text):
        x0, y0, x1, y1 = map(int, text.split(","))
        if x0 < x1 and y0 < y1:
            return x0, y0, x1, y1
    raise Refused(400, "box must be x0,y0,x1,y1 in whole pixels, with x0 < x1 and y0 < y1.")


def choice(request: Request, name: str, values: tuple[str, ...]) -> str | None:
    """The word `name` of the query, one of `values`; None without it. `Refused` with 400."""
    text = request.query_params.get(name)
    if text is not None and text not in values:
        raise Refused(400, f"{name} must be one of: {', '.join(values)}.")
    return text
