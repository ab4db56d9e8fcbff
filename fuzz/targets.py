"""Every target: what is checked, what it starts from and how its inputs are changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fuzz import pictures, texts
from fuzz.contract import Check, silent
from fuzz.formats import Mutator

CORPUS = Path(__file__).parent / "corpus"


class Target(NamedTuple):
    """One loader, or a family of them that shares its inputs."""

    check: Check
    seeds: Callable[[], tuple[bytes, ...]]
    mutate: Mutator
    max_bytes: int


TARGETS = {
    "images": Target(pictures.check_image, pictures.image_seeds, pictures.mutate_image, 16384),
    "jpeg": Target(pictures.check_jpeg, pictures.jpeg_seeds, pictures.mutate_jpeg, 16384),
    "mattes": Target(pictures.check_matte, pictures.matte_seeds, pictures.mutate_image, 16384),
    "masks": Target(texts.check_masks, texts.mask_seeds, texts.mutate_masks, 8192),
    "manifest": Target(texts.check_manifest, texts.manifest_seeds, texts.mutate_json, 8192),
    "settings": Target(texts.check_settings, texts.settings_seeds, texts.mutate_text, 2048),
}


def try_one(target: Target, data: bytes) -> None:
    """Raises whatever is wrong with how the target takes `data`."""
    with silent():
        target.check(data)


def corpus(name: str) -> list[Path]:
    """Small files that once broke the target, or that a change of it should not break."""
    return sorted(path for path in (CORPUS / name).glob("*") if path.is_file())


def mutated(target: Target, data: bytes, seed: int, rounds: int = 1) -> bytes:
    """`data` changed `rounds` times by the target's mutator; the same for the same `seed`."""
    chance = random.Random(seed)
    for _ in range(rounds):
        data = target.mutate(data, chance)[: target.max_bytes]
    return data
