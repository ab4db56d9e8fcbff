"""Which networks are on this machine to look at published pictures; nothing is fetched."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from p3m_data.errors import MissingExtra, UsageError, WeightsError
from p3m_data.faces.detectors import AUDITORS, DETECTORS, WITHOUT_WEIGHTS
from p3m_data.faces.landmarkers import LANDMARKERS
from p3m_data.storage import weights


def find_detectors(names: Sequence[str] | None) -> tuple[dict[str, Path | None], list[str]]:
    """The weights of each detector that is at hand, and a sentence for each that is not; fetches nothing."""
    everybody = (*DETECTORS, *AUDITORS)
    if unknown := [name for name in names or () if name not in everybody]:
        raise UsageError(f"unknown detector {unknown[0]}; there are {', '.join(everybody)}")
    files: dict[str, Path | None] = {}
    why_not = []
    for name in names if names is not None else everybody:
        try:
            if name in AUDITORS and importlib.util.find_spec("dlib") is None:
                raise MissingExtra("dlib-bin", "audit")
            files[name] = None if name in WITHOUT_WEIGHTS else weights.resolve(name)
        except WeightsError:
            why_not.append(
                f"{name} did not look: its weights are not here, or damaged (p3mdata weights get {name})"
            )
        except MissingExtra as error:
            why_not.append(f"{name} did not look: {error}")
    return files, why_not


def find_landmarker(why_not: list[str]) -> Path | None:
    """The weights of the landmarker; without them a sentence is added to `why_not`."""
    try:
        return weights.resolve(LANDMARKERS["mediapipe"][2])
    except WeightsError as error:
        why_not.append(f"landmarks were not looked for: {error}")
        return None
