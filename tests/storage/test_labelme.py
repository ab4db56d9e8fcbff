from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given

from p3m_data.arrays import BoolArray
from p3m_data.errors import UsageError
from p3m_data.storage.labelme import labelme_document, labelme_mask
from tests.runs import bomb
from tests.storage import ID, MASK, MASKS, SIZE, again, labelme, png, shape, size_of


@given(MASKS)
def test_labelme_there_and_back(mask: BoolArray) -> None:
    document = again(labelme_document(f"{ID}.jpg", mask))
    assert np.array_equal(labelme_mask(document, "m.json", size_of(mask)), mask)


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
