"""Faces to leave in a good dataset of real pictures, each with the check of `audit` that must find it.

Whoever left them is an insider: facemasks, digests, manifest and ledger say what the pictures show.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.faces.obfuscation import obfuscate
from p3m_data.faces.private_area import face_width, private_area
from p3m_data.inspection.masked import mean_alpha
from p3m_data.pipeline.dataset import PUBLISHED_AT, Dataset
from p3m_data.storage.folders import locate
from p3m_data.storage.images import Picture, decode, encode_picture, encode_png, load_picture
from p3m_data.storage.manifest import manifest_row, write_manifest
from p3m_data.storage.masks import load_png_mask
from p3m_data.storage.mattes import load_matte
from p3m_data.types import Face, Record, Status

WEAK, TOO_WEAK = 0.05, 0.03  # of the face's width; a run blurs with 0.15
SURE = 0.8  # of a face beside the subject; what has less is often none, or out of focus


class Shown(NamedTuple):
    """A picture as it is published."""

    record: Record
    picture: Picture
    """Its original."""
    published: UInt8Array
    mask: BoolArray
    subject: tuple[Face, ...]
    """Masked faces, the widest first."""
    bystanders: tuple[Face, ...]
    """Those that the run was sure of."""


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
    for seen in shown(folder):
        edited = fault.edit(seen)
        if edited is not None:
            _publish(dataset, seen, edited)
            names.append(str(seen.record.id))
    with dataset.ledger() as ledger:
        write_manifest(map(manifest_row, ledger.records(Status.ANONYMIZED)), dataset.manifest)
    return names


def shown(folder: Path) -> list[Shown]:
    """The published pictures of the dataset in `folder`."""
    dataset = Dataset.at(folder)
    with dataset.ledger() as ledger:
        photos, mattes = Path(ledger.meta("photos") or ""), Path(ledger.meta("mattes") or "")
        return [_shown(dataset, record, photos, mattes) for record in ledger.records(Status.ANONYMIZED)]


def _shown(dataset: Dataset, record: Record, photos: Path, mattes: Path) -> Shown:
    picture = load_picture(locate(photos, record.source).read_bytes(), "the original")
    size = picture.pixels.shape[1], picture.pixels.shape[0]
    image, facemask = (_file(dataset, record, role) for role in ("blurred_image", "facemask"))
    matte = None
    if record.matte is not None:
        matte = load_matte(locate(mattes, record.matte).read_bytes(), "the matte", size)
    faces = sorted((f for f in record.faces if f.how != "none"), key=lambda f: -face_width(f.outline))
    opaque = {face: mean_alpha(matte, face.box) for face in faces}
    beside = [face for face in faces if (alpha := opaque[face]) is not None and alpha < 0.5]
    return Shown(
        record,
        picture,
        published=decode(image.read_bytes()),
        mask=load_png_mask(facemask.read_bytes(), "its facemask", size),
        subject=tuple(face for face in faces if face not in beside),
        bystanders=tuple(face for face in beside if face.score >= SURE),
    )


def _file(dataset: Dataset, record: Record, role: str) -> Path:
    return dataset.public / next(path for path in record.files if f"/{role}/" in path)


def _publish(dataset: Dataset, seen: Shown, edited: Edited) -> None:
    """The picture and its facemask anew, with what the ledger says of them."""
    data, _ = encode_picture(seen.picture, edited.published, seen.mask)
    mask = encode_png(edited.mask.astype(np.uint8) * np.uint8(255))
    files = dict(seen.record.files)
    for role, content in (("blurred_image", data), ("facemask", mask)):
        file = _file(dataset, seen.record, role)
        file.write_bytes(content)
        os.utime(file, ns=(PUBLISHED_AT, PUBLISHED_AT))
        files[file.relative_to(dataset.public).as_posix()] = hashlib.sha256(content).hexdigest()
    with dataset.ledger() as ledger:
        assert ledger.replace(seen.record.model_copy(update={"files": files, "faces": edited.faces}))


def _left(seen: Shown, faces: Sequence[Face]) -> Edited | None:
    """These `faces` as they were, and nobody says that they are there."""
    if not faces:
        return None
    area = private_area([face.outline for face in faces], seen.mask.shape)
    pixels = np.where((area & seen.mask)[..., None], seen.picture.pixels, seen.published)
    others = tuple(face for face in seen.record.faces if face not in faces)
    return Edited(pixels.astype(np.uint8), seen.mask & ~area, others)


def _weakly_blurred(strength: float, seen: Shown) -> Edited | None:
    """All masked faces, blurred again as nobody should."""
    pixels, faces = seen.picture.pixels, []
    for face in seen.record.faces:
        if face.how != "none":
            sigma = strength * face_width(face.outline)
            area = seen.mask & private_area([face.outline], seen.mask.shape)
            pixels = obfuscate(pixels, area, sigma, "gaussian")
            face = face.model_copy(update={"sigma": round(sigma, 2)})
        faces.append(face)
    return Edited(pixels, seen.mask, tuple(faces))


FAULTS: Mapping[str, FaceFault] = {
    "the subject's face left": FaceFault(lambda seen: _left(seen, seen.subject[:1]), "residual_face"),
    "bystanders' faces left": FaceFault(lambda seen: _left(seen, seen.bystanders), "bystander_face"),
    f"all faces blurred with a Gaussian of {TOO_WEAK}": FaceFault(
        partial(_weakly_blurred, TOO_WEAK), "detail_under_mask"
    ),
}

RECOGNISABLE: Mapping[str, FaceFault] = {
    f"all faces blurred with a Gaussian of {WEAK}": FaceFault(
        partial(_weakly_blurred, WEAK), "reidentification"
    ),
}
"""Nothing in one picture shows these: people in many pictures are recognised more often than by chance."""
