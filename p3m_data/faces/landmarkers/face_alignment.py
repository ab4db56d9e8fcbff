"""FAN (Bulat and Tzimiropoulos, ICCV 2017): 68 points of one face, run by the package face-alignment.

It has no opinion on whether there is a face: it puts its points on anything, so trust comes only from looks
that agree.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from p3m_data.arrays import UInt8Array
from p3m_data.errors import MissingExtra, WeightsError
from p3m_data.faces.private_area import Points, points68_outline
from p3m_data.types import Outline

MAKERS_FILE = "2DFAN4-11f355bf06.pth.tar"
POINTS = 68


class FaceAlignmentLandmarker:
    eyes = (36, 45)

    def __init__(self, weights: Path) -> None:
        """Raises `MissingExtra` without the package, `WeightsError` when `weights` does not hold FAN's weights."""
        self._aligner = _aligner(weights)

    def __call__(self, crop: UInt8Array) -> list[Points]:
        height, width = crop.shape[:2]
        # the package looks at twice the box that it is given: at this one with a margin of half its size
        box = (0.0, 0.0, float(width), float(height))
        found = self._aligner.get_landmarks_from_image(np.ascontiguousarray(crop), detected_faces=[box])
        return [np.asarray(points, np.float64).reshape(POINTS, 2) for points in found]

    def outline(self, looks: list[Points]) -> Outline:
        return points68_outline(np.mean(looks, axis=0))


def _aligner(weights: Path) -> Any:
    try:
        import torch
        from face_alignment import FaceAlignment, LandmarksType
        from face_alignment.models import FAN
    except ImportError as error:
        raise MissingExtra("face-alignment", "face-alignment") from error

    class FromFile(FaceAlignment):  # type: ignore[misc]  # the package has no types
        """As the package makes it, but never with weights from its maker's server."""

        def _load_native(self, _name: str, network_size: int, device: str, dtype: torch.dtype) -> Any:
            network = FAN(network_size)
            network.load_state_dict(torch.load(weights, map_location=device, weights_only=True))
            return network.to(device, dtype=dtype).eval()

    torch.set_num_threads(1)  # the engine's workers share the cores
    try:
        # "folder" is the one face detector of the package that loads nothing
        return FromFile(LandmarksType.TWO_D, device="cpu", compile=False, face_detector="folder")
    except OSError as error:
        raise WeightsError(
            f"{weights} cannot be read ({error.strerror or error}); give the path of {MAKERS_FILE}"
        ) from error
    except Exception as error:  # a foreign file can make the unpickler raise anything
        raise WeightsError(
            f"{weights} does not hold the weights of FAN with 4 hourglasses; "
            f"give the path of {MAKERS_FILE}, the file that face-alignment 1.5.0 uses"
        ) from error
