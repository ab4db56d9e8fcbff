from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p3m_data.arrays import BoolArray
from p3m_data.errors import MissingExtra, UsageError
from p3m_data.storage.coco import coco_document, coco_images, coco_mask
from tests.storage import ID, MASK, MASKS, SIZE, again, coco, from_coco, size_of


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


@given(MASKS)
def test_coco_there_and_back(mask: BoolArray) -> None:
    document = again(coco_document([(f"{ID}.jpg", mask)]))
    assert np.array_equal(from_coco(document, size_of(mask)), mask)


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


@given(st.text(max_size=400))
def test_a_file_name_of_any_characters_is_quoted_on_one_line(name: str) -> None:
    entry = {"id": 1, "file_name": name, "width": SIZE[0], "height": SIZE[1]}
    with pytest.raises(UsageError, match="twice") as error:
        coco_images({"images": [entry, {**entry, "id": 2}], "annotations": []}, "a.json")
    assert str(error.value).isprintable()
