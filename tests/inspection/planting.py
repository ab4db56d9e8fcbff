"""A good dataset, and faults to plant into it, each with the check that must find it.

Nothing here uses a detector or the code that inspects: the dataset is drawn, and a fault is made by hand.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array
from p3m_data.pipeline.dataset import PUBLISHED_AT, Dataset, key_mark
from p3m_data.pipeline.ledger import Ledger
from p3m_data.stages.config import AnonymizeConfig
from p3m_data.storage.images import encode_picture, load_picture
from p3m_data.storage.manifest import manifest_row, write_manifest
from p3m_data.types import Face, Provenance, Record, Source, Status
from tests.runs import KEY, save

COUNT = 10
SIZE = 240
Row = dict[str, Any]


class Fault(NamedTuple):
    plant: Callable[[Path], str]
    """Changes the dataset in a folder; gives the public name where the fault is found."""
    check: str
    rehashed: bool = True
    """Whether the manifest's digests are made true again: a clumsy builder, not an attacker."""


def scene(seed: int) -> tuple[UInt8Array, FloatArray, BoolArray]:
    """A drawn portrait with its matte and the mask of its face; another one for every seed."""
    random = np.random.default_rng(seed)
    coarse = random.integers(20, 120, (6, 6, 3)).astype(np.float32)
    ground = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    centre = int(random.integers(100, 140)), int(random.integers(110, 140))
    hard = np.zeros((SIZE, SIZE), np.uint8)
    cv2.ellipse(
        hard, centre, (int(random.integers(60, 75)), int(random.integers(80, 95))), 0, 0, 360, 255, -1
    )
    alpha = (cv2.GaussianBlur(hard, (0, 0), 2).astype(np.float32) / 255).clip(0, 1)
    skin = random.integers(170, 235, 3).astype(np.float32)
    face = np.zeros((SIZE, SIZE), np.uint8)
    cv2.ellipse(face, centre, (32, 40), 0, 0, 360, 255, -1)
    texture = np.kron(random.integers(0, 2, (SIZE // 6, SIZE // 6)), np.ones((6, 6)))[..., None] * 120
    subject = np.where(face[..., None] > 0, skin - texture, skin)
    pixels = ground * (1 - alpha[..., None]) + subject * alpha[..., None]
    return np.rint(pixels).clip(0, 255).astype(np.uint8), np.rint(alpha * 255) / np.float32(255), face > 0


def good_dataset(folder: Path) -> Dataset:
    """A dataset `out` with its private side, and the `photos` and `mattes` it was made from, in `folder`.

    Every other picture is a JPEG; all have trimaps.
    """
    dataset = Dataset.at(folder / "out")
    dataset.create()
    dataset.key_path.write_text(KEY)
    photos, mattes = folder / "photos", folder / "mattes"
    records = []
    with Ledger(dataset.ledger_path, create=True) as ledger:
        ledger.set_meta("photos", str(photos))
        ledger.set_meta("mattes", str(mattes))
        ledger.set_meta("config", AnonymizeConfig().model_dump_json())
        ledger.set_meta("key", key_mark(bytes.fromhex(KEY)))
        for number in range(COUNT):
            record = _publish(dataset, photos, mattes, number)
            ledger.add([Source(path=record.source, size=1, mtime_ns=1_000 + number, matte=record.matte)])
            records.append(ledger.commit(record))
    write_manifest(map(manifest_row, records), dataset.manifest)
    for file in dataset.public.rglob("*.*"):
        os.utime(file, ns=(PUBLISHED_AT, PUBLISHED_AT))
    return dataset


def _publish(dataset: Dataset, photos: Path, mattes: Path, number: int) -> Record:
    pixels, alpha, face = scene(number)
    name = f"photo_{number:02d}"
    suffix, options = (".png", {}) if number % 2 else (".jpg", {"quality": 90})
    photo = save(photos / f"{name}{suffix}", pixels, **options)
    matte = save(mattes / f"{name}.png", np.rint(alpha * 255).astype(np.uint8))
    content = hashlib.sha256(photo.read_bytes()).digest() + hashlib.sha256(matte.read_bytes()).digest()
    name = "p_" + hmac.new(bytes.fromhex(KEY), content, "sha256").hexdigest()[:16]
    picture = load_picture(photo.read_bytes(), photo.name)
    blurred = cv2.GaussianBlur(picture.pixels, (0, 0), 12)
    data, suffix = encode_picture(picture, np.asarray(blurred, np.uint8), face)
    train = dataset.train
    image = train / "blurred_image" / f"{name}{suffix}"
    image.write_bytes(data)
    files = [image, train / "mask" / f"{name}.png", train / "facemask" / f"{name}.png"]
    save(files[1], np.rint(alpha * 255).astype(np.uint8))
    save(files[2], face.astype(np.uint8) * np.uint8(255))
    files.append(save(train / "trimap" / f"{name}.png", trimap(alpha)))
    return Record(
        source=photo.name,
        matte=matte.name,
        id=name,
        status=Status.ANONYMIZED,
        width=SIZE,
        height=SIZE,
        transition="matte",
        faces=(Face(box=(80, 80, 160, 160), score=1, detectors=(), how="landmarks", sigma=12),),
        files={file.relative_to(dataset.public).as_posix(): sha256(file) for file in files},
        provenance=Provenance(code_version="0.1.0", config_digest="a1dfb627d1906b20", models={}),
    )


def trimap(alpha: FloatArray) -> UInt8Array:
    soft = cv2.dilate(((alpha > 0) & (alpha < 1)).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return np.where(soft, 128, np.where(alpha >= 1, 255, 0)).astype(np.uint8)


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def rows(folder: Path) -> list[Row]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def write_rows(folder: Path, kept: list[Row]) -> None:
    text = "".join(json.dumps(row, sort_keys=True) + "\n" for row in sorted(kept, key=lambda row: row["id"]))
    (folder / "manifest.jsonl").write_text(text)


def rehash(folder: Path) -> None:
    """Make the digests in the manifest those of the files that are there."""
    kept = rows(folder)
    for row in kept:
        for path in row["sha256"]:
            if (folder / path).is_file():
                row["sha256"][path] = sha256(folder / path)
    write_rows(folder, kept)


def planted(fault: Fault, folder: Path) -> str:
    """Plant `fault` into the dataset in `folder`; the public name where it is found."""
    name = fault.plant(folder)
    if fault.rehashed:
        rehash(folder)
    return name


def _files(folder: Path, role: str, suffix: str = "") -> list[Path]:
    return [file for file in sorted((folder / "train" / role).iterdir()) if file.name.endswith(suffix)]


def _first(folder: Path, role: str, suffix: str = "") -> Path:
    return _files(folder, role, suffix)[0]


def read(file: Path) -> UInt8Array:
    pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return np.asarray(pixels if pixels.ndim == 2 else pixels[..., ::-1], np.uint8)


def _edited(role: str, edit: Callable[[UInt8Array], UInt8Array], folder: Path) -> str:
    """Write the first file of `role` anew, changed by `edit`."""
    file = _first(folder, role)
    save(file, np.ascontiguousarray(edit(read(file))))
    return file.stem


def _mate(image: Path, role: str) -> Path:
    return image.parent.parent / role / f"{image.stem}.png"


def _original(folder: Path, name: str) -> UInt8Array:
    with Ledger(folder.with_name(f"{folder.name}.private") / "ledger.sqlite") as ledger:
        source = ledger.source(name)
        photos = ledger.meta("photos")
    assert source is not None
    assert photos is not None
    file = Path(photos) / source.path
    return load_picture(file.read_bytes(), file.name).pixels


def renamed(folder: Path, old: str, new: str) -> str:
    """Give the picture `old` another id, in names and manifest."""
    kept = rows(folder)
    for row in kept:
        if row["id"] == old:
            for path in row["sha256"]:
                (folder / path).rename(folder / path.replace(old, new))
    write_rows(folder, json.loads(json.dumps(kept).replace(old, new)))
    return new


def face_left(suffix: str, folder: Path) -> str:
    image = _first(folder, "blurred_image", suffix)
    pixels, face = read(image), read(_mate(image, "facemask")) > 0
    pixels[face] = _original(folder, image.stem)[face]
    save(image, pixels, **({"quality": 90} if suffix == ".jpg" else {}))
    return image.stem


def one_pixel_outside(folder: Path) -> str:
    image = _first(folder, "blurred_image", ".png")
    pixels, facemask = read(image), read(_mate(image, "facemask"))
    y, x = np.argwhere(facemask == 0)[0]
    pixels[y, x] ^= 1
    save(image, pixels)
    return image.stem


def patch_outside(folder: Path) -> str:
    image = _first(folder, "blurred_image", ".jpg")
    pixels, facemask = read(image), read(_mate(image, "facemask"))
    # a JPEG spreads the face's edge by a block of 16
    away = cv2.erode((facemask == 0).astype(np.uint8), np.ones((73, 73)), borderValue=1)
    y, x = np.argwhere(away[:-20, :-20])[0]
    patch = pixels[y : y + 20, x : x + 20]
    patch[:] = 255 - patch
    save(image, pixels, quality=95)
    return image.stem


def shifted_mask(folder: Path) -> str:
    image = _first(folder, "blurred_image", ".png")
    facemask = _mate(image, "facemask")
    save(facemask, np.roll(read(facemask), 12, axis=1))
    return image.stem


def mask_in_the_hair(folder: Path) -> str:
    file = _first(folder, "facemask")
    facemask, alpha = read(file), read(file.parent.parent / "mask" / file.name)
    soft = np.argwhere((alpha > 100) & (alpha < 150))
    facemask[tuple(soft[0])] = 255
    save(file, facemask)
    return file.stem


def swapped_mattes(folder: Path) -> str:
    """The two mattes of one size that are least alike change places, with their trimaps."""
    mattes = {file: read(file).astype(np.float32) for file in _files(folder, "mask")}
    pairs = [(a, b) for a, b in combinations(mattes, 2) if mattes[a].shape == mattes[b].shape]
    a, b = max(pairs, key=lambda pair: float(np.abs(mattes[pair[0]] - mattes[pair[1]]).mean()))
    for role in ("mask", "trimap"):
        one, other = (file.parent.parent / role / file.name for file in (a, b))
        if not one.is_file():
            continue
        data = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(data)
    return a.stem


def trimap_against_matte(folder: Path) -> str:
    file = _first(folder, "trimap")
    levels = read(file)
    levels[:8, :8] = 255
    save(file, levels)
    return file.stem


def copied(folder: Path, quality: int | None = None) -> str:
    """The first picture, once more, in another split; encoded anew at `quality`."""
    image = _first(folder, "blurred_image", ".jpg")
    name, split = "p_0123456789abcdef", "P3M-500-P"
    row = next(row for row in rows(folder) if row["id"] == image.stem)
    base = folder / "validation" / split
    sums = {}
    for path in row["sha256"]:
        file = base / Path(path).parent.name / Path(path).name.replace(image.stem, name)
        file.parent.mkdir(parents=True)
        file.write_bytes((folder / path).read_bytes())
        if quality and file.suffix == ".jpg":
            save(file, read(file), quality=quality)
        sums[file.relative_to(folder).as_posix()] = sha256(file)
    moved = {
        key: f"validation/{split}/" + row[key].removeprefix("train/")
        for key in ("image", "facemask", "matte")
        if row[key] is not None
    }
    moved = {key: path.replace(image.stem, name) for key, path in moved.items()}
    write_rows(folder, [*rows(folder), {**row, **moved, "id": name, "split": split, "sha256": sums}])
    return name if name > image.stem else image.stem


def copied_within(folder: Path) -> str:
    """The first picture's file takes the place of the second's."""
    first, second = _files(folder, "blurred_image", ".jpg")[:2]
    second.write_bytes(first.read_bytes())
    return second.stem


def extra(path: str, folder: Path) -> str:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"something")
    return path


def extra_picture(folder: Path) -> str:
    image = _first(folder, "blurred_image")
    name = "p_" + "ab" * 8
    for file in (image, _mate(image, "facemask")):
        file.with_name(name + file.suffix).write_bytes(file.read_bytes())
    return name


def removed(role: str, folder: Path) -> str:
    file = _first(folder, role)
    file.unlink()
    return file.stem


def removed_with_mates(folder: Path) -> str:
    image = _first(folder, "blurred_image")
    for file in (image, *(_mate(image, role) for role in ("mask", "facemask", "trimap"))):
        file.unlink(missing_ok=True)
    return image.stem


def recoded(folder: Path) -> str:
    """The same pixels in another file."""
    file = _first(folder, "mask")
    save(file, read(file), compress_level=9)
    return file.stem


def truncated(role: str, keep: float, folder: Path) -> str:
    file = _first(folder, role)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep)])
    return file.stem


def second_suffix(folder: Path) -> str:
    image = _first(folder, "blurred_image", ".jpg")
    save(image.with_suffix(".png"), read(image))
    return image.stem


def upper_suffix(folder: Path) -> str:
    file = _first(folder, "facemask")
    file.rename(file.with_suffix(".PNG"))
    text = (folder / "manifest.jsonl").read_text()
    (folder / "manifest.jsonl").write_text(text.replace(f"facemask/{file.name}", f"facemask/{file.stem}.PNG"))
    return file.stem


def upper_stem(folder: Path) -> str:
    file = _first(folder, "mask")
    file.rename(file.with_name(file.stem.upper() + ".png"))
    return file.stem.upper()


def row_changed(key: str, value: object, folder: Path) -> str:
    kept = rows(folder)
    kept[0][key] = value
    write_rows(folder, kept)
    return str(kept[0]["id"])


def unknown_key(folder: Path) -> str:
    row_changed("camera", "x", folder)
    return "manifest.jsonl"


def broken_line(folder: Path) -> str:
    with (folder / "manifest.jsonl").open("ab") as manifest:
        manifest.write(b'{"id": "p_12345678", \xff\n')
    return "manifest.jsonl"


def double_row(folder: Path) -> str:
    kept = rows(folder)
    write_rows(folder, [*kept, kept[0]])
    return "manifest.jsonl"


def id_of(what: Callable[[Path, str], bytes], algorithm: str, folder: Path) -> str:
    old = _first(folder, "blurred_image").stem
    digest = hashlib.new(algorithm, what(folder, old)).hexdigest()
    return renamed(folder, old, f"p_{digest[:16]}")


def _published(folder: Path, name: str) -> bytes:
    return next((folder / "train" / "blurred_image").glob(f"{name}.*")).read_bytes()


def counted_ids(folder: Path) -> str:
    for number, row in enumerate(rows(folder)):
        renamed(folder, row["id"], f"p_{number + 1:016x}")
    return ""


def id_by_another_key(folder: Path) -> str:
    return renamed(folder, _first(folder, "blurred_image").stem, "p_" + "5e" * 8)


def no_id(folder: Path) -> str:
    return renamed(folder, _first(folder, "blurred_image").stem, "alice")


def sums(folder: Path, spoil: Callable[[list[str]], list[str]]) -> str:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    listed = [f"{sha256(file)}  {file.relative_to(folder).as_posix()}" for file in files]
    (folder / "SHA256SUMS").write_text("\n".join(spoil(listed)) + "\n")
    return str(files[0].relative_to(folder).as_posix())


def _dot(levels: UInt8Array) -> UInt8Array:
    levels = levels.copy()
    levels[0, 0] = 128
    return levels


def _colour(levels: UInt8Array) -> UInt8Array:
    return np.stack([levels, 255 - levels, levels], axis=-1)


FAULTS: Mapping[str, Fault] = {
    "face left in a PNG": Fault(partial(face_left, ".png"), "changed_inside"),
    "face left in a JPEG": Fault(partial(face_left, ".jpg"), "changed_inside"),
    "one pixel changed outside, PNG": Fault(one_pixel_outside, "changed_outside"),
    "a patch changed outside, JPEG": Fault(patch_outside, "changed_outside"),
    "shifted facemask": Fault(shifted_mask, "changed_outside"),
    "facemask in the hair": Fault(mask_in_the_hair, "facemask_transition"),
    "facemask with grey": Fault(partial(_edited, "facemask", _dot), "facemask_values"),
    "empty facemask": Fault(partial(_edited, "facemask", np.zeros_like), "facemask_empty"),
    "swapped mattes": Fault(swapped_mattes, "matte_edges"),
    "swapped mattes, as they were listed": Fault(swapped_mattes, "checksums", rehashed=False),
    "inverted matte": Fault(partial(_edited, "mask", lambda m: np.uint8(255) - m), "matte_inverted"),
    "matte of 0": Fault(partial(_edited, "mask", np.zeros_like), "matte_values"),
    "matte of 255": Fault(partial(_edited, "mask", lambda m: np.full_like(m, 255)), "matte_values"),
    "colour picture as matte": Fault(partial(_edited, "mask", _colour), "matte_values"),
    "hard matte": Fault(
        partial(_edited, "mask", lambda m: (m > 127).astype(np.uint8) * np.uint8(255)), "matte_hard"
    ),
    "trimap with another value": Fault(
        partial(_edited, "trimap", lambda t: np.where(t == 128, 127, t).astype(np.uint8)), "trimap_values"
    ),
    "trimap against the matte": Fault(trimap_against_matte, "trimap_matte"),
    "picture of another size": Fault(partial(_edited, "blurred_image", lambda p: p[:-1]), "sizes"),
    "matte of another size": Fault(partial(_edited, "mask", lambda m: m[:-2]), "sizes"),
    "trimap on its side": Fault(partial(_edited, "trimap", lambda t: t[:, :-8].T), "sizes"),
    "facemask of another size": Fault(partial(_edited, "facemask", lambda m: m[::2, ::2]), "sizes"),
    "size in the manifest": Fault(partial(row_changed, "width", SIZE + 1), "sizes"),
    "the same picture in two splits": Fault(copied, "duplicates"),
    "encoded anew in another split": Fault(partial(copied, quality=60), "near_duplicates"),
    "the same picture twice": Fault(copied_within, "duplicates"),
    "file that nobody knows": Fault(partial(extra, "train/mask/notes.txt"), "stray_files"),
    "folder that nobody knows": Fault(partial(extra, "backup/old.png"), "stray_files"),
    "hidden file": Fault(partial(extra, "train/.DS_Store"), "stray_files"),
    "picture without a row": Fault(extra_picture, "manifest_files"),
    "facemask missing": Fault(partial(removed, "facemask"), "mates"),
    "picture missing": Fault(partial(removed, "blurred_image"), "mates"),
    "matte missing": Fault(partial(removed, "mask"), "manifest_files"),
    "row without files": Fault(removed_with_mates, "manifest_files"),
    "split of another name in the manifest": Fault(partial(row_changed, "split", "test"), "manifest_files"),
    "other bytes, same pixels": Fault(recoded, "checksums", rehashed=False),
    "truncated picture": Fault(partial(truncated, "blurred_image", 0.5), "readable"),
    "truncated matte": Fault(partial(truncated, "mask", 0.5), "readable"),
    "facemask of 0 bytes": Fault(partial(truncated, "facemask", 0), "readable"),
    "two suffixes": Fault(second_suffix, "double_stems"),
    "upper-case suffix": Fault(upper_suffix, "name_case"),
    "upper-case name": Fault(upper_stem, "name_case"),
    "line that is no row": Fault(broken_line, "manifest_rows", rehashed=False),
    "row of more than the schema": Fault(unknown_key, "manifest_rows"),
    "row twice": Fault(double_row, "manifest_rows"),
    "id from the published bytes": Fault(partial(id_of, _published, "md5"), "id_digest"),
    "id of another secret": Fault(id_by_another_key, "id_keyed"),
    "counted ids": Fault(counted_ids, "id_order"),
    "name instead of an id": Fault(no_id, "id_pattern"),
    "SHA256SUMS lacks a file": Fault(partial(sums, spoil=lambda lines: lines[1:]), "sums_file"),
    "SHA256SUMS is wrong": Fault(
        partial(sums, spoil=lambda lines: ["0" * 64 + lines[0][64:], *lines[1:]]), "sums_file"
    ),
    "SHA256SUMS is no list": Fault(partial(sums, spoil=lambda lines: ["what", *lines]), "sums_file"),
}
