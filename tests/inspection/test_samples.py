from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from p3m_data.arrays import UInt8Array
from p3m_data.inspection.samples import Inspected, Job, SampleConfig, Task
from p3m_data.storage.layouts import Sample
from tests.inspection.planting import scene
from tests.runs import bomb, save


def look(root: Path, original: Path | None = None, **files: str) -> Inspected:
    """What a worker sees of one sample of a foreign dataset."""
    job = Job(root, ours=False, manifest=None, key=None, config=SampleConfig())
    task = Task(Sample("train", "a", files, blurred=True), original=original)
    seen = pickle.loads(pickle.dumps(job))()(pickle.loads(pickle.dumps(task)))
    assert isinstance(pickle.loads(pickle.dumps(seen)), Inspected)
    return seen


def checks(seen: Inspected) -> list[str]:
    return [finding.check for finding in seen.findings]


def levels(alpha: np.ndarray) -> UInt8Array:  # type: ignore[type-arg]
    return np.asarray(np.rint(alpha * 255), np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pixels, alpha, face = scene(0)
    save(tmp_path / "a.png", pixels)
    save(tmp_path / "m.png", levels(alpha))
    save(tmp_path / "f.png", face.astype(np.uint8) * np.uint8(255))
    return tmp_path


def test_a_good_sample_gives_its_hashes_and_figures(root: Path) -> None:
    seen = look(root, image="a.png", matte="m.png", facemask="f.png")
    assert checks(seen) == []
    assert seen.sums == {
        name: hashlib.sha256((root / name).read_bytes()).digest() for name in ("a.png", "m.png", "f.png")
    }
    assert seen.figures is not None
    _, alpha, _ = scene(0)
    assert seen.figures.background == pytest.approx(float((levels(alpha) == 0).mean()))


def test_the_same_pixels_in_another_format_have_the_same_digest(root: Path) -> None:
    pixels, _, _ = scene(0)
    save(root / "a.bmp", pixels)
    assert look(root, image="a.bmp").pixels == look(root, image="a.png").pixels
    pixels[0, 0, 0] ^= 1
    save(root / "b.png", pixels)
    assert look(root, image="b.png").pixels != look(root, image="a.png").pixels


def test_the_same_bytes_of_another_shape_are_another_picture(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.zeros((40, 50, 3), np.uint8))
    save(tmp_path / "b.png", np.zeros((50, 40, 3), np.uint8))
    assert look(tmp_path, image="a.png").pixels != look(tmp_path, image="b.png").pixels


@pytest.mark.parametrize("data", [b"", b"text", bomb()], ids=["empty", "text", "bomb"])
@pytest.mark.parametrize("role", ["image", "matte", "trimap", "facemask", "foreground"])
def test_what_cannot_be_read_is_a_finding(role: str, data: bytes, root: Path) -> None:
    (root / "bad.png").write_bytes(data)
    seen = look(root, **{"image": "a.png", "matte": "m.png", "facemask": "f.png", role: "bad.png"})
    assert [(f.check, f.where) for f in seen.findings] == [("readable", "bad.png")]


def test_what_is_not_there_is_a_finding(root: Path) -> None:
    assert checks(look(root, image="missing.png", matte="m.png")) == ["readable"]


def test_mattes_may_be_of_three_equal_channels_or_16_bits(root: Path) -> None:
    _, alpha, _ = scene(0)
    save(root / "rgb.png", np.stack([levels(alpha)] * 3, axis=-1))
    save(root / "deep.png", np.rint(alpha * 65535).astype(np.uint16))  # type: ignore[arg-type]
    assert checks(look(root, image="a.png", matte="rgb.png", facemask="f.png")) == []
    assert checks(look(root, image="a.png", matte="deep.png", facemask="f.png")) == []


def test_a_colour_picture_is_no_matte_and_another_size_is_said_as_that(root: Path) -> None:
    pixels, alpha, _ = scene(0)
    save(root / "small.png", levels(alpha)[:100])
    assert checks(look(root, image="a.png", matte="a.png")) == ["matte_values"]
    (finding,) = look(root, image="a.png", matte="small.png").findings
    assert finding.check == "sizes"
    assert "240 x 100" in finding.said
    save(root / "narrow.png", pixels[:, :100])
    assert checks(look(root, image="a.png", background="narrow.png")) == ["sizes"]


def test_an_original_of_another_size_is_said(root: Path) -> None:
    pixels, _, _ = scene(0)
    save(root / "o.png", pixels[1:])
    assert checks(look(root, root / "o.png", image="a.png", facemask="f.png")) == ["sizes"]


def test_an_original_that_cannot_be_read_is_said_without_its_name(root: Path) -> None:
    (root / "alice.png").write_bytes(b"x")
    (finding,) = look(root, root / "alice.png", image="a.png", facemask="f.png").findings
    assert finding.check == "changed_outside"
    assert "alice" not in finding.said
