from __future__ import annotations

import base64
import builtins
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from p3m_data.arrays import BoolArray
from p3m_data.errors import MissingExtra, UsageError
from p3m_data.storage.masks import (
    coco_document,
    coco_images,
    coco_mask,
    encode_png_mask,
    fill_polygon,
    json_bytes,
    json_format,
    labelme_document,
    labelme_mask,
    load_png_mask,
    parse_annotations,
    read_file,
)
from tests.runs import bomb

ID = "p_0123456789abcdef"
MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12))
SIZE = (7, 5)
MASK = np.random.default_rng(1).random((5, 7)) > 0.5


def size_of(mask: BoolArray) -> tuple[int, int]:
    return mask.shape[1], mask.shape[0]


def again(document: dict[str, Any]) -> dict[str, Any]:
    """`document` written and read."""
    return parse_annotations(json_bytes(document), "m.json")


def png(pixels: Any, mode: str | None = None) -> bytes:
    out = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
    (image.convert(mode) if mode else image).save(out, "PNG")
    return out.getvalue()


def loaded(data: bytes) -> BoolArray:
    mask = load_png_mask(data, "m.png", SIZE)
    assert mask.dtype == np.bool_
    return mask


def from_coco(document: dict[str, Any], size: tuple[int, int] = SIZE) -> BoolArray:
    return coco_mask(coco_images(document, "m.json")[ID], "m.json", size)


def coco(*segmentations: object, **image: object) -> dict[str, Any]:
    """A COCO document of one picture of `SIZE` with these annotations."""
    entry = {"id": 9, "file_name": f"{ID}.jpg", "width": SIZE[0], "height": SIZE[1], **image}
    return {
        "images": [entry],
        "annotations": [{"id": n, "image_id": 9, "segmentation": s} for n, s in enumerate(segmentations)],
    }


def labelme(*shapes: object, **more: object) -> dict[str, Any]:
    return {"shapes": list(shapes), "imageWidth": SIZE[0], "imageHeight": SIZE[1], **more}


def shape(points: object, kind: str | None = "polygon", **more: object) -> dict[str, Any]:
    return {"label": "face", "points": points, "shape_type": kind, **more}


def brute_counts(mask: BoolArray) -> list[int]:
    """COCO's runs by walking down one column after the other."""
    counts, value = [0], False
    for x in range(mask.shape[1]):
        for y in range(mask.shape[0]):
            if bool(mask[y, x]) != value:
                counts.append(0)
                value = not value
            counts[-1] += 1
    return counts


def brute_decoder(text: str, height: int, width: int) -> BoolArray:
    """COCO's compressed RLE, character by character."""
    counts: list[int] = []
    at = 0
    while at < len(text):
        number = place = 0
        while True:
            code = ord(text[at]) - 48
            at += 1
            number |= (code & 31) << (5 * place)
            place += 1
            if not code & 32:
                break
        if code & 16:
            number -= 1 << (5 * place)
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
    mask = np.zeros((height, width), bool)
    pixels = ((y, x) for x in range(width) for y in range(height))
    for turn, count in enumerate(counts):
        for _ in range(count):
            mask[next(pixels)] = turn % 2
    return mask


def brute_polygon(points: list[tuple[float, float]], height: int, width: int) -> BoolArray:
    """Even-odd at every pixel's centre: how many edges lie to the left of it."""
    mask = np.zeros((height, width), bool)
    edges = list(zip(points, points[1:] + points[:1], strict=True))
    for y, x in np.ndindex(height, width):
        cx, cy = x + 0.5, y + 0.5
        for (x0, y0), (x1, y1) in edges:
            if (y0 <= cy) != (y1 <= cy):
                mask[y, x] ^= x0 + (cy - y0) * (x1 - x0) / (y1 - y0) <= cx
    return mask


@given(MASKS)
def test_png_there_and_back(mask: BoolArray) -> None:
    data = encode_png_mask(mask)
    assert np.array_equal(load_png_mask(data, "m.png", size_of(mask)), mask)
    stored = Image.open(io.BytesIO(data))
    assert stored.mode == "L"
    assert np.array_equal(np.asarray(stored), np.where(mask, 255, 0))


@given(MASKS)
def test_coco_there_and_back(mask: BoolArray) -> None:
    document = again(coco_document([(f"{ID}.jpg", mask)]))
    assert np.array_equal(from_coco(document, size_of(mask)), mask)


@given(MASKS)
def test_labelme_there_and_back(mask: BoolArray) -> None:
    document = again(labelme_document(f"{ID}.jpg", mask))
    assert np.array_equal(labelme_mask(document, "m.json", size_of(mask)), mask)


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


@given(MASKS)
def test_written_coco_is_what_a_brute_force_decoder_reads(mask: BoolArray) -> None:
    document = coco_document([(f"{ID}.jpg", mask)])
    height, width = mask.shape
    assert document["images"] == [{"id": 1, "file_name": f"{ID}.jpg", "width": width, "height": height}]
    assert [category["name"] for category in document["categories"]] == ["face"]
    if not mask.any():
        assert document["annotations"] == []
        return
    (annotation,) = document["annotations"]
    assert annotation["segmentation"]["size"] == [height, width]
    assert np.array_equal(brute_decoder(annotation["segmentation"]["counts"], height, width), mask)
    x, y, w, h = annotation["bbox"]
    assert annotation["area"] == mask[y : y + h, x : x + w].sum() == mask.sum()
    box = mask[y : y + h, x : x + w]
    assert box[0].any() and box[-1].any() and box[:, 0].any() and box[:, -1].any()  # noqa: PT018
    assert (annotation["iscrowd"], annotation["category_id"]) == (1, 1)


@given(MASKS)
def test_runs_in_plain_numbers(mask: BoolArray) -> None:
    rle = {"size": list(mask.shape), "counts": brute_counts(mask)}
    size = size_of(mask)
    document = coco(rle, width=size[0], height=size[1])
    assert np.array_equal(from_coco(document, size), mask)


@given(st.lists(st.integers(0, 2**17), min_size=1, max_size=9))
def test_long_runs_as_another_implementation_packs_them(counts: list[int]) -> None:
    from pycocotools.mask import frPyObjects

    counts[0] += 1
    total = sum(counts)
    packed = frPyObjects({"size": [1, total], "counts": counts}, 1, total)["counts"].decode()
    document = coco({"size": [1, total], "counts": packed}, width=total, height=1)
    expected = np.concatenate([np.full(count, n % 2, bool) for n, count in enumerate(counts)])
    assert np.array_equal(from_coco(document, (total, 1))[0], expected)


def test_annotations_of_one_picture_are_united() -> None:
    runs = {"size": [5, 7], "counts": [0, 3, 32]}
    left = [[0, 0, 2, 0, 2, 5, 0, 5], [6, 4, 7, 4, 7, 5, 6, 5]]
    expected = np.zeros((5, 7), bool)
    expected[:, :2] = expected[4, 6] = True
    assert np.array_equal(from_coco(coco(runs, left)), expected)


def test_pictures_are_found_by_the_stem() -> None:
    document = coco_document(
        [(f"{ID}.jpg", MASK), ("p_00000002.png", ~MASK), ("p_00000003.png", MASK & False)]
    )
    document["images"][1]["file_name"] = "C:\\faces\\p_00000002.png"
    document["images"][0]["file_name"] = f"some/where/{ID}.JPEG"
    document["images"][0]["id"] = document["annotations"][0]["image_id"] = "one"
    images = coco_images(again(document), "m.json")
    assert list(images) == [ID, "p_00000002", "p_00000003"]
    assert np.array_equal(coco_mask(images[ID], "m", SIZE), MASK)
    assert np.array_equal(coco_mask(images["p_00000002"], "m", SIZE), ~MASK)
    assert images["p_00000003"].segmentations == ()


POINTS = st.lists(
    st.tuples(*[st.integers(-12, 52).map(lambda quarter: quarter / 4)] * 2), min_size=3, max_size=8
)


@given(POINTS)
def test_polygons_against_brute_force(points: list[tuple[float, float]]) -> None:
    expected = brute_polygon(points, 5, 7)
    flat = [number for point in points for number in point]
    assert np.array_equal(from_coco(coco([flat])), expected)
    assert np.array_equal(labelme_mask(labelme(shape(points)), "m", SIZE), expected)


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


def test_a_polygon_from_0_to_the_width_is_the_whole_picture() -> None:
    corners = [[0, 0], [7, 0], [7, 5], [0, 5]]
    assert labelme_mask(labelme(shape(corners)), "m", SIZE).all()
    assert labelme_mask(labelme(shape([[7, 5], [0, 0]], "rectangle")), "m", SIZE).all()
    inner = labelme_mask(labelme(shape([[1, 1], [6, 1], [6, 4], [1, 4]], None)), "m", SIZE)
    assert np.array_equal(inner, np.pad(np.ones((3, 5), bool), 1))


def test_labelme_shapes_are_united_whatever_their_labels() -> None:
    ring = [[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]
    pasted = base64.b64encode(png(np.array([[0, 1], [1, 0]], np.uint8))).decode()
    document = labelme(
        shape(ring, "linestrip", label="line"),
        shape([[4.5, 2.5], [4.5, 3.6]], "circle", label=7),
        shape([[5, 0], [6, 1]], "mask", mask=pasted),
    )
    expected = np.zeros((5, 7), bool)
    expected[:2, :2] = True
    expected[2, 3:6] = expected[1:4, 4] = True
    expected[0, 6] = expected[1, 5] = True
    assert np.array_equal(labelme_mask(document, "m", SIZE), expected)


def test_labelme_never_holds_the_picture() -> None:
    document = labelme_document(f"{ID}.jpg", MASK)
    assert document["imageData"] is None
    assert document["imagePath"] == f"{ID}.jpg"
    document["imageData"] = "c2VjcmV0"
    document["shapes"][0]["imageData"] = "c2VjcmV0"
    assert "c2VjcmV0" not in json.dumps(again(document))
    assert np.array_equal(labelme_mask(again(document), "m.json", SIZE), MASK)


def test_a_broken_file_is_told_without_its_picture() -> None:
    with pytest.raises(UsageError, match=r"m\.json is not a JSON file of annotations") as caught:
        parse_annotations(b'{"imageData": "c2VjcmV0", "shapes": [', "m.json")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


NO_JSON = [
    b"",
    b"nothing",
    b"[]",
    b"7",
    b"\xff\xfe\xfa",
    b'{"a": NaN}',
    b'{"a":' * 100_000,
    b"1" * 5_000,
    b"\x00",
]


@pytest.mark.parametrize("data", NO_JSON, ids=range(len(NO_JSON)))
def test_what_is_no_json_object(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"m\.json is not a JSON file"):
        parse_annotations(data, "m.json")


def test_the_format_is_told_by_the_content() -> None:
    assert json_format(coco(), "m") == "coco"
    assert json_format(labelme(), "m") == "labelme"
    with pytest.raises(UsageError, match="m is neither COCO"):
        json_format({"images": []}, "m")


HUGE = 10**400
BAD_COCO = {
    "no pictures": ({"annotations": []}, '"images"'),
    "pictures are no list": ({"images": {}, "annotations": []}, '"images"'),
    "a picture is no object": ({"images": [3], "annotations": []}, '"id"'),
    "no file name": ({"images": [{"id": 1, "width": 7, "height": 5}], "annotations": []}, '"file_name"'),
    "no width": (coco(width=None), '"width"'),
    "a width that is none": (coco(width=True), '"width"'),
    "an unknown picture": ({**coco(), "annotations": [{"image_id": 4}]}, "annotation of a picture"),
    "no picture's id": ({**coco(), "annotations": [{"image_id": [4]}]}, '"image_id"'),
    "a picture twice": ({**coco(), "images": coco()["images"] * 2}, "twice"),
    "of another size": (coco(width=8), "is 8 x 5 but its picture is 7 x 5"),
    "a huge size": (coco(width=HUGE), "but its picture is 7 x 5"),
    "runs of another size": (coco({"size": [7, 5], "counts": [35]}), "another size .* 7 x 5"),
    "runs too short": (coco({"size": [5, 7], "counts": [34]}), "does not fill"),
    "runs too long": (coco({"size": [5, 7], "counts": [30, 6]}), "does not fill"),
    "a run below 0": (coco({"size": [5, 7], "counts": [40, -5]}), "does not fill"),
    "a huge run": (coco({"size": [5, 7], "counts": [HUGE]}), "does not fill"),
    "runs whose sum wraps": (coco({"size": [5, 7], "counts": [2**62] * 4 + [35]}), "does not fill"),
    "a run that is no number": (coco({"size": [5, 7], "counts": ["35"]}), "does not fill"),
    "no runs": (coco({"size": [5, 7]}), "does not fill"),
    "packed runs, none": (coco({"size": [5, 7], "counts": ""}), "does not fill"),
    "packed runs, too short": (coco({"size": [5, 7], "counts": "1"}), "does not fill"),
    "packed runs, too long": (coco({"size": [5, 7], "counts": "oooooo0"}), "does not fill"),
    "packed runs, never ending": (coco({"size": [5, 7], "counts": "PPPP"}), "does not fill"),
    "packed runs, a number of 40 digits": (coco({"size": [5, 7], "counts": "P" * 40 + "1"}), "does not fill"),
    "packed runs, other characters": (coco({"size": [5, 7], "counts": "S\u00e91\x00"}), "does not fill"),
    "a box only": (coco([]), "without a segmentation"),
    "nothing": (coco(None), "without a segmentation"),
    "a polygon of two points": (coco([[0, 0, 1, 1]]), "three or more points"),
    "half a point": (coco([[0, 0, 1, 1, 2, 2, 3]]), "three or more points"),
    "numbers in no polygon": (coco([0, 0, 1, 1, 2, 2]), "three or more points"),
    "a point far away": (coco([[0, 0, 1, 1, 2, 1e6]]), "a point that is not"),
    "a point beyond floats": (coco([[0, 0, 1, 1, 2, HUGE]]), "a point that is not"),
    "a point of words": (coco([[0, 0, 1, 1, 2, "2"]]), "a point that is not"),
    "infinity": (coco([[0, 0, 1, 1, 2, float("inf")]]), "a point that is not"),
    "too many points": (coco([[0] * 50_000]), "more than 20,000 points"),
    "too many polygons": (coco([[0] * 6] * 2_001), "more than 2,000 polygons"),
    "too many annotations": (coco(*[[[0] * 6]] * 2_001), "more than 2,000 annotations"),
}


@pytest.mark.parametrize("which", BAD_COCO)
def test_bad_coco_is_a_sentence(which: str) -> None:
    document, words = BAD_COCO[which]
    with pytest.raises(UsageError, match=words) as caught:
        from_coco(document)
    assert str(caught.value).startswith("m.json ")
    assert len(str(caught.value)) < 600


SMALL = base64.b64encode(png(np.ones((2, 2), bool))).decode()
BAD_LABELME = {
    "no size": ({"shapes": []}, '"imageWidth"'),
    "no shapes": ({"imageWidth": 7, "imageHeight": 5}, '"shapes"'),
    "of another size": (labelme(imageHeight=6), "is 7 x 6 but its picture is 7 x 5"),
    "a shape is no object": (labelme(3), '"points"'),
    "no points": (labelme(shape(None)), '"points"'),
    "a point of three": (labelme(shape([[0, 0, 0]] * 3)), "a point that is not"),
    "a point that is none": (labelme(shape([[0, 0], [1, 1], 5])), "a point that is not"),
    "two points": (labelme(shape([[0, 0], [1, 1]])), "encloses nothing"),
    "an open line": (labelme(shape([[0, 0], [3, 0], [3, 3], [0, 3]], "linestrip")), "encloses nothing"),
    "a point": (labelme(shape([[0, 0]], "point")), "encloses nothing"),
    "another kind": (labelme(shape([[0, 0], [1, 0], [1, 1]], "hexagon")), "encloses nothing"),
    "a kind that is no word": (labelme(shape([[0, 0], [1, 0], [1, 1]], ["polygon"])), "encloses nothing"),
    "too many points": (labelme(shape([[0, 0]] * 20_001)), "more than 20,000 points"),
    "too many shapes": (labelme(*[shape([[0, 0]] * 3)] * 2_001), "more than 2,000 shapes"),
    "a mask without one": (labelme(shape([[0, 0], [1, 1]], "mask")), '"mask"'),
    "a mask outside": (labelme(shape([[6, 0], [7, 1]], "mask", mask=SMALL)), "does not lie"),
    "a mask below 0": (labelme(shape([[-1, 0], [0, 1]], "mask", mask=SMALL)), "does not lie"),
    "a mask turned round": (labelme(shape([[1, 1], [0, 0]], "mask", mask=SMALL)), "does not lie"),
    "a mask between pixels": (labelme(shape([[0.5, 0], [1.5, 1]], "mask", mask=SMALL)), "does not lie"),
    "a mask of another size": (labelme(shape([[0, 0], [2, 2]], "mask", mask=SMALL)), "is 2 x 2 .* 3 x 3"),
    "no base64": (labelme(shape([[0, 0], [1, 1]], "mask", mask="?")), "not base64"),
    "no ASCII": (labelme(shape([[0, 0], [1, 1]], "mask", mask="\u00e9")), "not base64"),
    "no PNG": (labelme(shape([[0, 0], [1, 1]], "mask", mask="aGVsbG8=")), "is not a PNG"),
    "a bomb": (
        labelme(shape([[0, 0], [1, 1]], "mask", mask=base64.b64encode(bomb()).decode())),
        "is 30000 x 30000",
    ),
}


@pytest.mark.parametrize("which", BAD_LABELME)
def test_bad_labelme_is_a_sentence(which: str) -> None:
    document, words = BAD_LABELME[which]
    with pytest.raises(UsageError, match=words) as caught:
        labelme_mask(document, "m.json", SIZE)
    assert "m.json " in str(caught.value)


def test_without_pycocotools_only_writing_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    document = coco_document([(f"{ID}.jpg", MASK)])
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("pycocotools"):
            raise ModuleNotFoundError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert np.array_equal(from_coco(document), MASK)
    with pytest.raises(MissingExtra, match=r"p3mdata\[review\]"):
        coco_document([(f"{ID}.jpg", MASK)])


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
