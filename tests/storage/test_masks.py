from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from p3m_data.arrays import BoolArray
from p3m_data.errors import UsageError
from p3m_data.storage.masks import encode_png_mask, fill_polygon, load_png_mask, read_file
from tests.runs import bomb
from tests.storage import MASK, MASKS, SIZE, png, size_of


def loaded(data: bytes) -> BoolArray:
    mask = load_png_mask(data, "m.png", SIZE)
    assert mask.dtype == np.bool_
    return mask


@given(MASKS)
def test_png_there_and_back(mask: BoolArray) -> None:
    data = encode_png_mask(mask)
    assert np.array_equal(load_png_mask(data, "m.png", size_of(mask)), mask)
    stored = Image.open(io.BytesIO(data))
    assert stored.mode == "L"
    assert np.array_equal(np.asarray(stored), np.where(mask, 255, 0))


FORMS: dict[str, Callable[[BoolArray], bytes]] = {
    "grey 0 and 255": lambda mask: png(np.where(mask, 255, 0).astype(np.uint8)),
    "grey 0 and 1": lambda mask: png(mask.astype(np.uint8)),
    "grey, soft": lambda mask: png(np.where(mask, 128 + np.arange(7), 120 + np.arange(7)).astype(np.uint8)),
    "grey, never 0": lambda mask: png(np.where(mask, 200, 10).astype(np.uint8)),
    "one bit": lambda mask: png(mask),
    "palette of greys": lambda mask: png(np.where(mask, 255, 0).astype(np.uint8), "P"),
    "palette of one colour": lambda mask: png(palette(mask, (128, 0, 0))),
    "red on black": lambda mask: png(np.where(mask[..., None], (250, 20, 60), (0, 0, 0)).astype(np.uint8)),
    "three equal channels": lambda mask: png(np.where(mask, 255, 0).astype(np.uint8), "RGB"),
    "four channels": lambda mask: png(np.where(mask, 255, 0).astype(np.uint8), "RGBA"),
    "white on nothing": lambda mask: png(
        np.where(mask[..., None], [255] * 4, [255] * 3 + [0]).astype(np.uint8)
    ),
    "sixteen bits": lambda mask: png(np.where(mask, 65535, 0).astype(np.uint16)),
    "sixteen bits, soft": lambda mask: png((np.where(mask, 32768, 32760) + np.arange(7)).astype(np.uint16)),
}


def palette(mask: BoolArray, colour: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(mask.astype(np.uint8)).convert("P")
    image.putdata(mask.ravel().astype(int).tolist())
    image.putpalette([0, 0, 0, *colour])
    return image


@pytest.mark.parametrize("form", FORMS)
def test_pngs_of_many_kinds(form: str) -> None:
    assert np.array_equal(loaded(FORMS[form](MASK)), MASK)


@pytest.mark.parametrize("value", [1, 255])
def test_a_png_of_one_value(value: int) -> None:
    assert loaded(png(np.full((5, 7), value, np.uint8))).all()
    assert not loaded(png(np.zeros((5, 7), np.uint8))).any()


def test_a_png_that_lies_on_its_side_is_turned() -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(MASK)).save(out, "PNG", exif=exif)
    assert np.array_equal(loaded(out.getvalue()), MASK)


COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
BAD_PNGS = {
    "of another size": (png(np.zeros((5, 8), np.uint8)), "is 8 x 5 but its picture is 7 x 5"),
    "on its side": (png(np.zeros((7, 5), np.uint8)), "is 5 x 7 but its picture is 7 x 5"),
    "a bomb": (bomb(), "is 30000 x 30000 but its picture is 7 x 5"),
    "colours": (png(COLOURS), "several colours"),
    "cut": (png(MASK)[:-30], "not an image that can be read"),
    "a header only": (png(MASK)[:33], "not an image that can be read"),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(40), "is not a PNG file"),
    "empty": (b"", "is not a PNG file"),
    "a second header": (png(MASK)[:33] + bomb(9_000, 9_000)[8:], "over the limit"),
}


@pytest.mark.parametrize("which", BAD_PNGS)
def test_a_bad_png_is_a_sentence(which: str) -> None:
    data, words = BAD_PNGS[which]
    with pytest.raises(UsageError, match=words) as caught:
        loaded(data)
    assert str(caught.value).startswith("m.png ")


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-2, 9), st.floats(-2, 9)), min_size=3, max_size=3))
def test_two_polygons_that_share_an_edge_neither_overlap_nor_gape(points: list[tuple[float, float]]) -> None:
    one, other = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    (ax, ay), (bx, by), _ = points
    fill_polygon(one, np.array([(ax, ay), (bx, by), (-50, by), (-50, ay)]))
    fill_polygon(other, np.array([(bx, by), (ax, ay), (50, ay), (50, by)]))
    rows = np.arange(9) + 0.5
    between = (rows >= min(ay, by)) & (rows < max(ay, by))
    assert not (one & other).any()
    assert np.array_equal((one | other).all(axis=1), between)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(b"{}")
    os.mkfifo(tmp_path / "pipe.png")
    assert read_file(tmp_path / "m.json") == b"{}"
    for name, limit, words in [
        ("m.json", 1, "is larger than"),
        ("gone.png", 9, "cannot be read"),
        ("pipe.png", 9, "is not a file"),
        (".", 9, "cannot be read|is not a file"),
    ]:
        with pytest.raises(UsageError, match=words):
            read_file(tmp_path / name, limit)
