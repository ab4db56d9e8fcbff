"""Small pictures that a run can publish, runs in a process of their own, and what they wrote."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage import data

from p3m_data.arrays import FloatArray, UInt8Array
from p3m_data.pipeline.dataset import Dataset
from p3m_data.storage.mattes import encode_matte
from p3m_data.types import Record

KEY = "5ec2e7" + 58 * "0"
"""A secret for datasets that must come out the same."""


def portrait(shift: int = 0) -> UInt8Array:
    """(300, 300, 3) uint8 with one face; another picture for every `shift` of 0 to 30 pixels."""
    return np.ascontiguousarray(data.astronaut()[:300, 55 + shift : 355 + shift])


def matte(size: int = 300) -> FloatArray:
    """(size, size) float32 in [0, 1]: a soft-edged head and shoulders that hold the face of `portrait`."""
    hard = np.zeros((size, size), np.uint8)
    cv2.ellipse(hard, (size * 11 // 20, size // 2), (size * 2 // 5, size * 9 // 20), 0, 0, 360, 255, -1)
    return cv2.GaussianBlur(hard, (0, 0), 3).astype(np.float32) / 255


def faceless() -> UInt8Array:
    """(160, 160, 3) uint8: a cup of coffee."""
    return np.ascontiguousarray(data.coffee()[100:260, 200:360])


def save(file: Path, pixels: UInt8Array, **options: object) -> Path:
    """Writes `pixels` in the format of the suffix of `file`, with Pillow's `options`; `file`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)  # type: ignore[arg-type]
    return file


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A PNG of a few hundred bytes whose header promises `width` x `height` pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return len(content).to_bytes(4, "big") + kind + content + checksum.to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    some = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + some + chunk(b"IEND", b"")


def dataset(public: Path, private: Path | None = None) -> Dataset:
    """The dataset at `public`, with `KEY` as its secret."""
    made = Dataset.at(public, private)
    made.private.mkdir(parents=True)
    made.key_path.write_text(KEY)
    return made


def command(*words: str | Path) -> list[str]:
    return [str(Path(sysconfig.get_path("scripts")) / "p3mdata"), *map(str, words)]


def p3mdata(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`p3mdata WORDS` in a process of its own."""
    return subprocess.run(
        command(*words), env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`: its path there -> its bytes."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def records(made: Dataset) -> dict[str, Record]:
    """Source -> its row of the ledger."""
    with made.ledger() as ledger:
        return {record.source: record for record in ledger.records()}


def review_dataset(folder: Path) -> Path:
    """Makes `photos`, `mattes` and the dataset `out` in `folder`, by `p3mdata anonymize`; `folder`.

    `face.png` (with a matte) and `face.jpg` are published; `cup.png` waits because nobody is in it,
    `soft.png` because its matte is soft all over the face, `blurred.png` because its face is blurred already.
    """
    photos, mattes = folder / "photos", folder / "mattes"
    save(photos / "face.png", portrait())
    save(photos / "face.jpg", portrait(10), quality=85)
    save(photos / "cup.png", faceless())
    save(photos / "soft.png", portrait(20))
    blurred = portrait(28)
    blurred[20:180, 90:230] = cv2.GaussianBlur(blurred, (0, 0), 9)[20:180, 90:230]
    save(photos / "blurred.png", blurred)
    mattes.mkdir()
    (mattes / "face.png").write_bytes(encode_matte(matte()))
    soft = matte()
    soft[60:110, 60:] = 0.5
    (mattes / "soft.png").write_bytes(encode_matte(soft))
    shutil.rmtree(folder / "out", ignore_errors=True)
    made = dataset(folder / "out")
    run = p3mdata("anonymize", photos, "--mattes", mattes, "-o", made.public)
    assert run.returncode == 1, run.stderr
    return folder
