"""Candidate: one picture from its file to verified bytes, and from there to the public side.

The worker of a run and the review take the same way, so that a mask counts the same whoever made it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2

from p3m_data.arrays import FloatArray, UInt8Array
from p3m_data.errors import ImageTooLarge, StorageError, UnreadableImage
from p3m_data.faces.detectors import Detector
from p3m_data.pipeline.dataset import PUBLISHED_AT, Dataset
from p3m_data.stages.blur import blur
from p3m_data.stages.config import AnonymizeConfig
from p3m_data.stages.mask import Masked
from p3m_data.stages.panels import panels
from p3m_data.stages.verify import verify
from p3m_data.storage import folders
from p3m_data.storage.images import Limits, Picture, decode, encode_picture, encode_png, load_picture
from p3m_data.storage.mattes import encode_matte, load_matte, matte_from_alpha
from p3m_data.types import Check, Face, Source

ID_DIGITS = 16  # hex digits: among 2 million pictures two share an id once in 10 million datasets
STRONGER = (1.0, 1.5, 2.25)  # factors of the blur's strength, tried in turn while facial detail is left


class Loaded(NamedTuple):
    """A source as it was read."""

    id: str
    picture: Picture
    alpha: FloatArray | None
    """(H, W) float32 in [0, 1]."""


class Candidate(NamedTuple):
    """What may be published: its bytes, what they decode to, and whether that passed."""

    data: bytes
    suffix: str
    pixels: UInt8Array
    faces: tuple[Face, ...]
    checks: tuple[Check, ...]


def load(source: Source, photos: Path, mattes: Path | None, key: bytes, limits: Limits) -> Loaded:
    """Reads `source` under the folders `photos` and `mattes`; raises `InputError`."""
    data = _read(folders.locate(photos, source.path), source.path, limits)
    matte = b""
    if source.matte is not None and mattes is not None:
        matte = _read(folders.locate(mattes, source.matte), source.matte, limits)
    content = hashlib.sha256(data).digest() + hashlib.sha256(matte).digest()
    name = "p_" + hmac.new(key, content, "sha256").hexdigest()[:ID_DIGITS]
    picture = load_picture(data, source.path, limits)
    alpha = None
    if matte:
        height, width = picture.pixels.shape[:2]
        alpha = load_matte(matte, source.matte or "", (width, height), limits)
    elif picture.alpha is not None:
        alpha = matte_from_alpha(picture.alpha)
    return Loaded(name, picture, alpha)


def blur_until_clean(
    loaded: Loaded,
    masked: Masked,
    config: AnonymizeConfig,
    detectors: Mapping[str, Detector],
    lap: Callable[[str], None] = lambda _stage: None,
) -> Candidate:
    """Blurs and verifies, more strongly while facial detail is left; `lap` is told when a stage is done."""
    picture = loaded.picture
    for factor in STRONGER:
        strength = config.blur.model_copy(update={"strength": config.blur.strength * factor})
        blurred = blur(picture.pixels, masked.mask, masked.faces, strength)
        lap("blur")
        data, suffix = encode_picture(picture, blurred.pixels, masked.mask, config.container)
        lap("encode")
        pixels = decode(data)
        checks = verify(
            picture.pixels,
            pixels,
            masked.mask,
            masked.transition,
            blurred.faces,
            detectors,
            config.verify,
            lossless=suffix == ".png",
        )
        lap("verify")
        if all(check.passed for check in checks if check.name == "detail_left"):
            break
    return Candidate(data, suffix, pixels, blurred.faces, checks)


def write_sheet(dataset: Dataset, loaded: Loaded, masked: Masked, result: UInt8Array | None) -> None:
    """The private strip with the steps of figure 3."""
    strip = cv2.cvtColor(panels(loaded.picture.pixels, masked, result), cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    folders.write_atomic(dataset.sheets / f"{loaded.id}.jpg", data)


def publish(dataset: Dataset, loaded: Loaded, masked: Masked, candidate: Candidate) -> dict[str, str]:
    """Writes the public files, the picture last: where it is, its facemask and matte are too.

    Returns each path on the public side with its sha256. A disk that fills up leaves nothing behind.
    """
    facemask = encode_png(masked.mask.astype("uint8") * 255)
    contents = {f"train/facemask/{loaded.id}.png": facemask}
    if loaded.alpha is not None:
        contents[f"train/mask/{loaded.id}.png"] = encode_matte(loaded.alpha)
    contents[f"train/blurred_image/{loaded.id}{candidate.suffix}"] = candidate.data
    public = dataset.public
    # what is there already is what a picture of the same bytes published
    new = [public / path for path in contents if not (public / path).exists()]
    try:
        for path, data in contents.items():
            folders.write_atomic(public / path, data, time_ns=PUBLISHED_AT)
    except StorageError:
        for file in new:
            file.unlink(missing_ok=True)
        raise
    return {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}


def _read(path: Path, name: str, limits: Limits) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)
    except OSError as error:
        raise UnreadableImage(f"{name} cannot be read: {error.strerror or error}") from error
    if len(data) > limits.max_bytes:
        size = limits.max_bytes / 2**20
        raise ImageTooLarge(
            f"{name} is larger than the limit of {size:.3g} MiB; make it smaller or raise the limit"
        )
    return data
