"""Validation of mattes, trimaps and facemasks: what is wrong with them, seen from their values alone.

Arrays are of one picture and of one size: alpha (H, W) float32 in [0, 1], levels (H, W) uint8, masks (H, W) bool.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array
from p3m_data.matte.transition import transition_area
from p3m_data.types import Frozen

UNKNOWN = 128
TRIMAP_LEVELS = (0, UNKNOWN, 255)
FRAME = 0.03
"""The border is this share of the shorter side wide."""
MIDDLE = 1 / 3
"""The centre is this share of both sides."""

MOST_PARTS = 16  # parts of a facemask that are looked at, the largest first
SMALL = 256  # pixels of the long side at which edges are compared
SMALLEST = 32  # a shorter side than this tells nothing
RINGS = (8, 14, 20)  # pixels by which the matte is moved at that size
TURNS = 16  # directions in which it is moved
AROUND = 25  # pixels over which the strength of edges is evened out


class MatteConfig(Frozen):
    """What counts as wrong."""

    tolerance: float = Field(
        5 / 255, ge=0, lt=0.5, description="alpha this close to 0 or 1 counts as 0 or 1 (0: strictly)"
    )
    subject: float = Field(
        0.005, ge=0, le=1, description="least share of the picture that one connected subject takes"
    )
    trimap: float = Field(
        1e-4, ge=0, le=1, description="share of a trimap's certain pixels that may contradict the matte"
    )
    agreement: float = Field(
        3.0,
        description="least edge agreement; 130 portraits have 3.7 and more, of swapped mattes 99 % below 2.6",
    )


class Problem(NamedTuple):
    """One thing that is wrong (`fault`), or that a person should know (`note`)."""

    check: str
    said: str
    level: Literal["fault", "note"] = "fault"
    value: float | None = None
    limit: float | None = None


class MatteFigures(NamedTuple):
    """What values a matte holds."""

    background: float
    """Share of pixels with alpha 0, strictly."""
    soft: float
    opaque: float
    """Share of pixels with alpha 1, strictly."""
    distinct: int
    """How many of the 256 levels occur."""
    histogram: tuple[int, ...]
    """Pixels in 16 equal steps of alpha."""


def matte_figures(alpha: FloatArray) -> MatteFigures:
    levels = np.bincount(np.rint(alpha * 255).astype(np.uint8).ravel(), minlength=256)
    return MatteFigures(
        background=float((alpha <= 0).mean()),
        soft=float(((alpha > 0) & (alpha < 1)).mean()),
        opaque=float((alpha >= 1).mean()),
        distinct=int(np.count_nonzero(levels)),
        histogram=tuple(levels.reshape(16, 16).sum(axis=1).tolist()),
    )


def matte_problems(
    alpha: FloatArray, facemask: BoolArray | None, config: MatteConfig, *, face_on_subject: bool = True
) -> list[Problem]:
    """Problems of a matte alone, and of where the facemask (None: there is none) lies on it.

    `face_on_subject`: False when only bystanders' faces may be masked, so that a mask off the subject is right.
    """
    low, high, slack = float(alpha.min()), float(alpha.max()), _slack(config.tolerance)
    if high <= slack:
        return [Problem("matte_values", "the matte is 0 everywhere, so it shows no subject", value=high)]
    if low >= 1 - slack:
        return [Problem("matte_values", "the matte is 255 everywhere, so it cuts nothing out", value=low)]
    problems = []
    if (said := _inverted(alpha, facemask, face_on_subject)) is not None:
        problems.append(Problem("matte_inverted", said))
    elif (share := largest_part(alpha > 0.5)) < config.subject:
        said = f"the largest connected subject takes {share:.2%} of the picture"
        problems.append(Problem("matte_subject", said, value=share, limit=config.subject))
    if not ((alpha > 0) & (alpha < 1)).any():
        said = "the matte holds only 0 and 255: it is a segmentation, without hair or soft edges"
        problems.append(Problem("matte_hard", said, "note"))
    return problems


def _slack(tolerance: float) -> float:
    """As in the transition area: half an 8-bit step more, so that k/255 includes the value k/255."""
    return tolerance + 0.5 / 255 if tolerance > 0 else 0.0


def _inverted(alpha: FloatArray, facemask: BoolArray | None, face_on_subject: bool) -> str | None:
    """Why the matte seems to be 1 where the background is."""
    border, centre = _border_and_centre(alpha)
    around = border > 0.5 and centre < 0.5
    if facemask is None or not facemask.any():
        said = "the border is mostly opaque and the centre is not: the matte seems to be inverted"
        return said if around else None
    on = [float(alpha[part].mean()) for part in _parts(facemask)]
    # bystanders' faces lie where alpha is 0, and where it is 1 once the matte is inverted
    if on[0] < 0.5 and (around or (face_on_subject and max(on) < 0.5)):
        return "the largest masked face is not on the subject: the matte is inverted or another picture's"
    return None


def _parts(mask: BoolArray) -> list[BoolArray]:
    """The connected parts, the largest first; not more than `MOST_PARTS`."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    order = np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:MOST_PARTS] + 1
    return [labels == label for label in order]


def _border_and_centre(alpha: FloatArray) -> tuple[float, float]:
    """Mean alpha along the border, and of the centre."""
    height, width = alpha.shape
    frame = max(1, round(FRAME * min(height, width)))
    inner = np.zeros(alpha.shape, bool)
    inner[frame : height - frame, frame : width - frame] = True
    dy, dx = round(height * (1 - MIDDLE) / 2), round(width * (1 - MIDDLE) / 2)
    centre = alpha[dy : height - dy, dx : width - dx]
    border = alpha[~inner]
    return float(border.mean()), float(centre.mean()) if centre.size else float(alpha.mean())


def largest_part(mask: BoolArray) -> float:
    """Share of all pixels that the largest 8-connected part of `mask` takes."""
    if not mask.any():
        return 0.0
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    return float(stats[1:, cv2.CC_STAT_AREA].max() / mask.size)


def trimap_problems(trimap: UInt8Array, alpha: FloatArray | None, config: MatteConfig) -> list[Problem]:
    """Problems of a trimap: its values, and what it says of the matte.

    255 must lie where alpha is 1 and 0 where alpha is 0, but for the tolerance and for a small share: a matte
    and its trimap may have been rounded or compressed apart.
    """
    odd = int(np.count_nonzero(~np.isin(trimap, TRIMAP_LEVELS)))
    if odd:
        said = f"{odd} pixels of the trimap are none of 0, 128 and 255"
        return [Problem("trimap_values", said, value=odd, limit=0)]
    if alpha is None:
        return []
    slack = _slack(config.tolerance)
    wrong = int(np.count_nonzero((trimap == 255) & (alpha < 1 - slack)))
    wrong += int(np.count_nonzero((trimap == 0) & (alpha > slack)))
    certain = int(np.count_nonzero(trimap != UNKNOWN))
    share = wrong / max(certain, 1)
    if share > config.trimap:
        said = f"{wrong} pixels that the trimap calls certain are something else in the matte"
        return [Problem("trimap_matte", said, value=share, limit=config.trimap)]
    return []


def facemask_problems(facemask: UInt8Array, alpha: FloatArray | None, tolerance: float) -> list[Problem]:
    """Problems of a facemask: its values, and whether it meets the transition area (margin 0) of the matte.

    An empty one is no problem by itself: there may be no face.
    """
    problems = []
    odd = int(np.count_nonzero((facemask > 0) & (facemask < 255)))
    if odd:
        said = f"{odd} pixels of the facemask are neither 0 nor 255"
        problems.append(Problem("facemask_values", said, value=odd, limit=0))
    if alpha is not None:
        touched = int(np.count_nonzero((facemask > 0) & transition_area(alpha, 0, tolerance)))
        if touched:
            said = f"{touched} pixels of the facemask lie in the matte's transition area"
            problems.append(Problem("facemask_transition", said, value=touched, limit=0))
    return problems


def edge_agreement(picture: UInt8Array, alpha: FloatArray) -> float | None:
    """How much better the picture's edges fit the matte's where it lies than where it is moved to.

    picture: (H, W, 3) uint8. In standard deviations over `TURNS` directions and several distances; None when
    the picture is too small or the matte has no edges.
    """
    height, width = alpha.shape
    scale = min(1.0, SMALL / max(height, width))
    size = round(width * scale), round(height * scale)
    if min(size) < SMALLEST:
        return None
    strength = _evened(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    outline = np.hypot(*_gradient(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)))
    if outline.max() < 0.1:
        return None
    angles = np.arange(TURNS) * (2 * np.pi / TURNS)
    moved = [
        _along(strength, outline, radius * float(np.cos(angle)), radius * float(np.sin(angle)))
        for radius in RINGS
        for angle in angles
    ]
    return float((_along(strength, outline, 0, 0) - np.mean(moved)) / (np.std(moved) + 1e-6))


def _evened(picture: UInt8Array) -> FloatArray:
    """(H, W) strength of a picture's edges, as a multiple of what is usual around: busy grounds count less."""
    lab = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2LAB)
    gradients = [g for c in range(3) for g in _gradient(np.ascontiguousarray(lab[..., c], np.float32))]
    strength = np.sqrt(np.sum(np.square(gradients), axis=0))
    return np.asarray(strength / (cv2.blur(strength, (AROUND, AROUND)) + 2), np.float32)


def _gradient(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    smooth = cv2.GaussianBlur(values, (0, 0), 1)
    return (
        np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), np.float32),
        np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 0, 1), np.float32),
    )


def _along(strength: FloatArray, outline: npt.NDArray[np.floating], dx: float, dy: float) -> float:
    """Mean `strength` along `outline` moved by (dx, dy)."""
    move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    weight = cv2.warpAffine(outline, move, strength.shape[::-1])
    return float((weight * strength).sum() / (weight.sum() + 1e-6))
