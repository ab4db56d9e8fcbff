"""Faces to leave in a good dataset of real pictures, each with the check of `audit --only faces` that must find it.

Whoever left them is an insider: facemasks, digests, manifest and ledger say what the pictures show.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.faces.obfuscation import obfuscate
from p3m_data.faces.private_area import face_width, private_area
from p3m_data.inspection.masked import mean_alpha
from p3m_data.pipeline.dataset import PUBLISHED_AT, Dataset
from p3m_data.storage.folders import locate
from p3m_data.storage.images import decode, encode_picture, encode_png, load_picture
from p3m_data.storage.manifest import manifest_row, write_manifest
from p3m_data.storage.masks import load_png_mask
from p3m_data.storage.mattes import load_matte
from p3m_data.types import Face, Record, Status

WEAK = 0.03  # of the face's width


class Shown(NamedTuple):
    """A picture as it is published."""

    record: Record
    original: UInt8Array
    published: UInt8Array
    mask: BoolArray
    subject: tuple[Face, ...]
    """Masked faces, the widest first."""
    bystanders: tuple[Face, ...]


class Edited(NamedTuple):
    published: UInt8Array
    mask: BoolArray
    faces: tuple[Face, ...]


class FaceFault(NamedTuple):
    edit: Callable[[Shown], Edited | None]
    """What is published instead; None where there is nothing to plant."""
    check: str


def plant(fault: FaceFault, folder: Path) -> list[str]:
    """Plant `fault` into every picture of the dataset in `folder` that can have it; their ids."""
    dataset = Dataset.at(folder)
    names = []
    with dataset.ledger() as ledger:
        photos, mattes = Path(ledger.meta("photos") or ""), Path(ledger.meta("mattes") or "")
        for record in list(ledger.records(Status.ANONYMIZED)):
            changed = _planted(fault, dataset, record, photos, mattes)
            if changed is not None:
                assert ledger.replace(changed)
                names.append(str(record.id))
        write_manifest(map(manifest_row, ledger.records(Status.ANONYMIZED)), dataset.manifest)
    return names


def _planted(fault: FaceFault, dataset: Dataset, record: Record, photos: Path, mattes: Path) -> Record | None:
    picture = load_picture(locate(photos, record.source).read_bytes(), "the original")
    image, facemask = (
        next(path for path in record.files if f"/{role}/" in path) for role in ("blurred_image", "facemask")
    )
    size = (record.width or 0, record.height or 0)
    mask = load_png_mask((dataset.public / facemask).read_bytes(), facemask, size)
    matte = None
    if record.matte is not None:
        matte = load_matte(locate(mattes, record.matte).read_bytes(), "the matte", size)
    beside: list[Face] = []
    subject: list[Face] = []
    for face in sorted((f for f in record.faces if f.how != "none"), key=lambda f: -face_width(f.outline)):
        alpha = mean_alpha(matte, face.box)
        (beside if alpha is not None and alpha < 0.5 else subject).append(face)
    published = decode((dataset.public / image).read_bytes())
    edited = fault.edit(Shown(record, picture.pixels, published, mask, tuple(subject), tuple(beside)))
    if edited is None:
        return None
    data, _ = encode_picture(picture, edited.published, mask)
    files = dict(record.files)
    for path, content in (
        (image, data),
        (facemask, encode_png(edited.mask.astype(np.uint8) * np.uint8(255))),
    ):
        (dataset.public / path).write_bytes(content)
        os.utime(dataset.public / path, ns=(PUBLISHED_AT, PUBLISHED_AT))
        files[path] = hashlib.sha256(content).hexdigest()
    return record.model_copy(update={"files": files, "faces": edited.faces})


def _left(shown: Shown, faces: tuple[Face, ...]) -> Edited | None:
    """The widest of `faces` as it was, and nobody says that it is there."""
    if not faces:
        return None
    area = private_area([faces[0].outline], shown.mask.shape)
    if not (area & shown.mask).any():
        return None
    pixels = np.where((area & shown.mask)[..., None], shown.original, shown.published).astype(np.uint8)
    others = tuple(face for face in shown.record.faces if face != faces[0])
    return Edited(pixels, shown.mask & ~area, others)


def _weakly_blurred(shown: Shown) -> Edited | None:
    """All masked faces, blurred again as nobody should."""
    pixels, faces = shown.original, []
    for face in shown.record.faces:
        if face.how != "none":
            sigma = WEAK * face_width(face.outline)
            area = shown.mask & private_area([face.outline], shown.mask.shape)
            pixels = obfuscate(pixels, area, sigma, "gaussian")
            face = face.model_copy(update={"sigma": round(sigma, 2)})
        faces.append(face)
    return Edited(pixels, shown.mask, tuple(faces))


FAULTS: Mapping[str, FaceFault] = {
    "the subject's face left": FaceFault(lambda shown: _left(shown, shown.subject), "residual_face"),
    "a bystander's face left": FaceFault(lambda shown: _left(shown, shown.bystanders), "bystander_face"),
    f"faces blurred with a Gaussian of {WEAK}": FaceFault(_weakly_blurred, "detail_under_mask"),
}
