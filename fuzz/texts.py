"""What is owed by the readers of manifests, settings and mask imports."""

from __future__ import annotations

import copy
import functools
import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.contract import documented, must
from fuzz.formats import PNG, damage, mutate_png
from p3m_data.arrays import BoolArray
from p3m_data.errors import UsageError
from p3m_data.stages.config import AnonymizeConfig
from p3m_data.storage.annotations import json_bytes, json_format, parse_annotations
from p3m_data.storage.coco import coco_document, coco_images, coco_mask
from p3m_data.storage.labelme import labelme_document, labelme_mask
from p3m_data.storage.manifest import canonical_json, read_manifest
from p3m_data.storage.masks import Size, encode_png_mask, load_png_mask
from p3m_data.storage.settings import read_settings
from p3m_data.types import ManifestRow

NAME = "masks/odd.json"
SIZE = (24, 16)
_MAX_AREA = 2_000_000
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e5, 1e308, 2**63, -(2**63), 10**400, "", "0", "polygon", "mask",
    "circle", "rectangle", "p_0123abcd", "../x", "a\nb", "\ud800", "\0", [], [[]], [0, 0], {}, {"counts": ""},
)  # fmt: skip
_WORDS = (
    "NaN", "Infinity", "-Infinity", "1e999", "null", "{", "[", "]", '"', "\\u0000", "\\ud800", "-", "1" * 5000,
    "[" * 600, "&a ", "*a", "<<: *a", "!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!binary ", "!!set ",
    "!!python/none ", "2001-99-99", "0b", "0x", "1:99", ".inf", ".nan", "? ", "- ", ": ", "|", "---\n", "%YAML 9.9\n",
    "\t", "#", "\x85", "\u2028", "\ufeff",
)  # fmt: skip


def check_manifest(data: bytes) -> None:
    """Every row that is read can be written and is then the same row."""
    with documented(UsageError):
        for row in read_manifest(_as_file(data)):
            must(isinstance(row, ManifestRow), f"a {type(row).__name__} is no row")
            must(ManifestRow.model_validate_json(canonical_json(row)) == row, "a written row is another one")


def check_settings(data: bytes) -> None:
    """The configuration of a run, whose digest is a matter of its values alone."""
    with documented(UsageError):
        config = read_settings(_as_file(data), AnonymizeConfig)
        must(isinstance(config, AnonymizeConfig), f"a {type(config).__name__} is no configuration")
        must(len(config.digest) == 16, f"digest {config.digest}")
        again = AnonymizeConfig.model_validate_json(config.model_dump_json())
        must(again == config and again.digest == config.digest, "a written configuration is another one")


def check_masks(data: bytes) -> None:
    """A PNG, or the JSON of COCO or labelme, for a picture of just that size and for one of another."""
    if data[:8] == PNG:
        claimed = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        sizes = {SIZE, claimed} if 0 < claimed[0] * claimed[1] <= _MAX_AREA else {SIZE}
        for size in sizes:
            with documented(UsageError):
                _is_mask(load_png_mask(data, NAME, size), size)
        return
    with documented(UsageError):
        document = parse_annotations(data, NAME)
        if json_format(document, NAME) == "labelme":
            _is_mask(labelme_mask(document, NAME, SIZE), SIZE)
            return
        for stem, image in coco_images(document, NAME).items():
            must(isinstance(stem, str), f"the stem {stem!r}")
            with documented(UsageError):
                _is_mask(coco_mask(image, NAME, SIZE), SIZE)


def _is_mask(mask: BoolArray, size: Size) -> None:
    must(mask.dtype == np.bool_ and mask.shape == size[::-1], f"{mask.dtype} {mask.shape} for {size}")
    must((load_png_mask(encode_png_mask(mask), NAME, size) == mask).all(), "a written mask is another one")


def mutate_masks(data: bytes, chance: random.Random) -> bytes:
    return mutate_png(data, chance) if data[:8] == PNG else mutate_json(data, chance)


def mutate_json(data: bytes, chance: random.Random) -> bytes:
    """One value somewhere in the tree replaced, left out or repeated; each line is a tree of its own."""
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    try:
        tree = json.loads(data)
        at, lines = 0, [data]
    except (ValueError, RecursionError):
        try:
            tree = json.loads(lines[at])
        except (ValueError, RecursionError):
            return mutate_text(data, chance)
    if chance.random() < 0.2:
        return mutate_text(data, chance)
    changed = _other_tree(tree, chance)
    if chance.random() < 0.3:
        changed = _other_tree(changed, chance)
    try:
        lines[at] = json.dumps(changed).encode()
    except (ValueError, RecursionError):
        return mutate_text(data, chance)
    return b"\n".join(lines)


def _other_tree(tree: Any, chance: random.Random) -> Any:
    spots = _spots(tree)
    if not spots:
        return _any_value(chance)
    parent, key = chance.choice(spots)
    kind = chance.randrange(6)
    if kind <= 2:
        parent[key] = _any_value(chance)
    elif kind == 3:
        del parent[key]
    elif kind == 4:
        parent[key] = _near(parent[key], chance)
    elif isinstance(parent, list):
        parent.insert(chance.randrange(len(parent) + 1), parent[key])
    else:
        parent[chance.choice(("id", "size", "counts", "mask", "points", "shape_type", "extra"))] = parent[key]
    return tree


def _any_value(chance: random.Random) -> Any:
    # a copy, since what is put in may be changed next
    return copy.deepcopy(chance.choice(_VALUES))


def _near(value: Any, chance: random.Random) -> Any:
    """A value of the same kind."""
    if isinstance(value, (int, float)):
        return value + chance.choice((-1, 1, 2**31, -(2**40)))
    if isinstance(value, str):
        # a number or a mask in text is damaged as bytes are
        return damage(value.encode("utf-8", "replace"), chance).decode("utf-8", "replace")
    return [value]


def _spots(tree: Any) -> list[tuple[Any, Any]]:
    """(parent, key) of every value in `tree`, which may be nested deeply."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        parent = waiting.pop()
        keys = parent if isinstance(parent, dict) else range(len(parent)) if isinstance(parent, list) else ()
        found += [(parent, key) for key in keys]
        waiting += [parent[key] for key in keys]
    return found


def mutate_text(data: bytes, chance: random.Random) -> bytes:
    """A word that parsers stumble over put in at the start or end of another; or plain damage."""
    if chance.random() < 0.3:
        return damage(data, chance)
    text = data.decode("utf-8", "surrogateescape")
    edges = [at for at in range(len(text) + 1) if at in (0, len(text)) or text[at - 1] in ' \n:,[{"']
    at = chance.choice(edges)
    end = at + chance.choice((0, 0, 1, 3))
    if chance.random() < 0.3:
        # up to the end of the value
        end = next((i for i in range(at, len(text)) if text[i] in ",\n]}"), len(text))
    word = chance.choice(_WORDS)
    return (text[:at] + word + text[end:]).encode("utf-8", "surrogateescape")


@functools.cache
def manifest_seeds() -> tuple[bytes, ...]:
    row = {
        "id": "p_0123abcd", "split": "train", "image": "train/blurred_image/p_0123abcd.jpg",
        "facemask": "train/facemask/p_0123abcd.png", "matte": None, "width": 640, "height": 480,
        "anonymized_by": "machine", "faces": [{"how": "landmarks", "sigma": 7.5}], "transition": "matte",
        "checks": [{"name": "detail_left", "passed": True, "value": 0.5, "limit": 2.5, "waived": False}],
        "sha256": {"train/facemask/p_0123abcd.png": "a" * 64},
        "provenance": {"code_version": "1", "config_digest": "c" * 16, "models": {"yunet": "1" * 64}},
    }  # fmt: skip
    line = json.dumps(row).encode()
    return (b"", line, line + b"\n" + line + b"\n")


@functools.cache
def settings_seeds() -> tuple[bytes, ...]:
    whole = AnonymizeConfig().model_dump(mode="json")
    texts = [f"{key}:\n" + "".join(f"  {k}: {json.dumps(v)}\n" for k, v in value.items())
             for key, value in whole.items() if isinstance(value, dict)]  # fmt: skip
    texts += [
        "container: png\naccept_no_face: true\nmax_pixels: 1_000\n",
        "# nothing\n",
        "a: &a {b: 1}\nc: *a\n",
    ]
    texts += ["detect: {detectors: [centerface, yunet], trust: {agreement: .5}}\nmax_bytes: 2001-01-01\n"]
    return tuple(text.encode() for text in (*texts, json.dumps(whole)))


@functools.cache
def mask_seeds() -> tuple[bytes, ...]:
    mask = np.zeros(SIZE[::-1], np.bool_)
    mask[3:9, 5:20] = True
    shapes: list[dict[str, object]] = [
        {"label": "a", "points": [[1, 1], [20, 3], [9.5, 12]], "shape_type": "polygon"},
        {"label": "a", "points": [[1, 1], [20, 3]], "shape_type": "rectangle"},
        {"label": "a", "points": [[1, 1], [20, 3]], "shape_type": "circle"},
        {"label": "a", "points": [[1, 1], [20, 3], [9, 12], [1, 1]], "shape_type": "linestrip"},
    ]
    drawn: dict[str, Any] = {
        "imageWidth": SIZE[0],
        "imageHeight": SIZE[1],
        "imageData": "x",
        "shapes": shapes,
    }
    picture = {"id": 1, "file_name": "a/b.png", "width": SIZE[0], "height": SIZE[1]}
    runs = {"size": [16, 24], "counts": [100, 50, 234]}
    plain: dict[str, Any] = {
        "images": [picture],
        "annotations": [
            {"image_id": 1, "segmentation": runs},
            {"image_id": 1, "segmentation": [[1, 1, 20, 3, 9, 12.5]]},
        ],
    }
    documents: list[dict[str, Any]] = [
        drawn,
        plain,
        labelme_document("a.png", mask),
        coco_document([("a.png", mask)]),
    ]
    return (encode_png_mask(mask), *(json_bytes(document) for document in documents))


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    # memory rather than a disk, where there is some
    memory = "/dev/shm"
    return tempfile.TemporaryDirectory(
        prefix="p3mdata-fuzz-", dir=memory if os.access(memory, os.W_OK) else None
    )


def _as_file(data: bytes) -> Path:
    path = Path(_folder().name) / "input"
    path.write_bytes(data)
    return path
