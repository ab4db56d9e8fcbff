from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p3m_data.arrays import BoolArray
from p3m_data.errors import UsageError
from p3m_data.storage.annotations import json_format, parse_annotations
from p3m_data.storage.labelme import labelme_mask
from tests.storage import SIZE, coco, from_coco, labelme, shape


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


POINTS = st.lists(
    st.tuples(*[st.integers(-12, 52).map(lambda quarter: quarter / 4)] * 2), min_size=3, max_size=8
)


@given(POINTS)
def test_polygons_against_brute_force(points: list[tuple[float, float]]) -> None:
    expected = brute_polygon(points, 5, 7)
    flat = [number for point in points for number in point]
    assert np.array_equal(from_coco(coco([flat])), expected)
    assert np.array_equal(labelme_mask(labelme(shape(points)), "m", SIZE), expected)
