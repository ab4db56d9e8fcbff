"""Face detectors, one file each, behind one signature.

A detector is called with an (H, W, 3) uint8 RGB image and returns `Detections`: an (N, 15) float64
array with a row x0, y0, x1, y1, five points (eye, eye, nose, mouth corner, mouth corner; x and y, the
eye on the image's left first) and a score in [0, 1]. Coordinates are pixels of the image it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from p3m_data.arrays import UInt8Array

Detections = npt.NDArray[np.float64]
SCORE = 14

# name (also the weights' name in the registry) -> (module, class)
DETECTORS: Mapping[str, tuple[str, str]] = {
    "centerface": ("p3m_data.faces.detectors.centerface", "CenterFace"),
    "blazeface": ("p3m_data.faces.detectors.blazeface", "BlazeFace"),
    "yunet": ("p3m_data.faces.detectors.yunet", "YuNet"),
}

# the same for detectors that only audit: nobody has calibrated them for proposing what is masked
AUDITORS: Mapping[str, tuple[str, str]] = {
    "dlib_hog": ("p3m_data.faces.detectors.dlib_hog", "DlibHog"),
    "dlib_cnn": ("p3m_data.faces.detectors.dlib_cnn", "DlibCnn"),
}
WITHOUT_WEIGHTS = frozenset({"dlib_hog"})
"""Detectors that have no file of weights."""


class Detector(Protocol):
    accept: float
    """A detection with this score or more is a proposal by itself."""
    support: float
    """With this score or more it is a proposal if another detector sees a face there too."""
    hint: float
    """With this score or more, by itself, it is a weak proposal."""
    whole_only: bool
    """True for a detector with a fixed small input, which sees near faces only: no fine views for it."""

    def __call__(self, image: UInt8Array) -> Detections: ...


def load_detector(name: str, weights: Path) -> Detector:
    """The detector `name` with its weights read from the file `weights`."""
    module, kind = DETECTORS[name]
    return cast(Detector, getattr(import_module(module), kind)(weights))


def load_auditor(name: str, weights: Path | None) -> Detector:
    """Any detector by its name, those that only audit too; raises `MissingExtra`."""
    module, kind = {**DETECTORS, **AUDITORS}[name]
    return cast(Detector, getattr(import_module(module), kind)(weights))


def guessed_points(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N, 10): where an upright face in each of the (N, 4) boxes has its five points, for detectors without any."""
    share = np.array([0.3, 0.4, 0.7, 0.4, 0.5, 0.6, 0.35, 0.8, 0.65, 0.8]).reshape(5, 2)
    return np.asarray(
        (boxes[:, None, :2] + share * (boxes[:, None, 2:] - boxes[:, None, :2])).reshape(-1, 10)
    )


def no_detections() -> Detections:
    return np.zeros((0, 15))
