"""Blur: make every masked face unrecognisable, each with a strength that fits its own size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.faces.obfuscation import Method, obfuscate
from p3m_data.faces.private_area import face_width, private_area
from p3m_data.types import Face, Frozen

LEAST_SIGMA = 2.0  # pixels; below it a blur of a tiny face rounds to nothing


class BlurConfig(Frozen):
    """What is done inside the mask."""

    method: Method = "hardened"
    strength: float = Field(0.15, ge=0.05, le=2, description="sigma as a share of the face's width")


class Blurred(NamedTuple):
    pixels: UInt8Array
    """(H, W, 3) uint8, identical to the picture outside the mask."""
    faces: tuple[Face, ...]
    """The faces with the sigma that each got."""


def blur(image: UInt8Array, mask: BoolArray, faces: Sequence[Face], config: BlurConfig) -> Blurred:
    """Obfuscates `image` ((H, W, 3) uint8) where `mask` ((H, W) bool) covers one of `faces`."""
    result = image
    done = {}
    # where two overlap both blurs apply, so a false small face in a large one leaves nothing sharper
    for face in sorted(faces, key=lambda f: -face_width(f.outline)):
        sigma = round(max(LEAST_SIGMA, config.strength * face_width(face.outline)), 2)
        result = obfuscate(result, mask & private_area([face.outline], image.shape), sigma, config.method)
        done[face] = face.model_copy(update={"sigma": sigma})
    return Blurred(result, tuple(done[face] for face in faces))
