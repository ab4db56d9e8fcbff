"""The transition area: the pixels that matting is judged on, which no mask may touch (paper, section 3.2)."""

from __future__ import annotations

import cv2
import numpy as np

from p3m_data.arrays import BoolArray, FloatArray


def transition_area(alpha: FloatArray, margin: float = 0.0, tolerance: float = 0.0) -> BoolArray:
    """(H, W) bool: where alpha is neither 0 nor 1, and up to `margin` pixels around.

    `alpha`: (H, W) float32 in [0, 1]. Values within `tolerance` of 0 or 1 count as 0 or 1: many mattes
    hold 254 of 255 all over the subject, which is compression or rounding and no hair.
    """
    if alpha.ndim != 2:
        raise ValueError(f"expected an (H, W) alpha, got {alpha.shape}")
    # half an 8-bit step, so that tolerance k/255 includes the value k/255 whatever the rounding
    slack = tolerance + 0.5 / 255 if tolerance > 0 else 0.0
    soft = ((alpha > slack) & (alpha < 1 - slack)).astype(np.uint8)
    radius = round(margin)
    if radius > 0 and soft.any():
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        soft = cv2.dilate(soft, disc)
    return soft.astype(bool)


def remove_specks(mask: BoolArray, smallest: float) -> BoolArray:
    """`mask` without its 8-connected parts of fewer than `smallest` pixels."""
    found = mask.astype(np.uint8)
    x, y, width, height = cv2.boundingRect(found)
    kept = np.zeros_like(mask)
    if width:
        part = slice(y, y + height), slice(x, x + width)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(found[part], connectivity=8)
        keep = stats[:, cv2.CC_STAT_AREA] >= smallest
        keep[0] = False
        kept[part] = keep[labels]
    return kept
