from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p3m_data.inspection.crops import SHOWN, crop_name, cut_out
from p3m_data.report.inspection import write_inspection
from tests.report.test_inspection import finding, inspection


def test_a_crop_is_named_after_its_picture() -> None:
    assert crop_name("p_0123456789abcdef", 0) == "residual_p_0123456789abcdef_0.jpg"
    assert crop_name("train/blurred_image/a.jpg", 12) == "residual_train_blurred_image_a.jpg_12.jpg"


@given(st.text(min_size=1, max_size=400), st.integers(0, 999))
def test_any_name_is_one_that_a_file_system_takes(where: str, number: int) -> None:
    name = crop_name(where, number)
    assert "/" not in name
    assert "\\" not in name
    assert len(name.encode()) <= 255
    assert name.endswith(f"_{number}.jpg")


@pytest.mark.parametrize("letter", ["a", "ö", "\udcff", "人"])
def test_long_names_stay_apart_and_can_be_written(letter: str, tmp_path: Path) -> None:
    names = [crop_name(f"train/blurred_image/{letter * 200}{n}.jpg", 0) for n in range(3)]
    assert len(set(names)) == 3
    crops = [cut_out(np.zeros((20, 30, 3), np.uint8), (5, 5, 9, 9), name) for name in names]
    write_inspection(inspection("audit", finding("residual_face", crop=names[0])), crops, tmp_path)
    assert {file.name for file in (tmp_path / "audit").iterdir()} == set(names)


@pytest.mark.parametrize("box", [(10, 10, 30, 30), (-20, -5, 15, 20), (90, 50, 140, 90), (0, 0, 1, 1)])
def test_the_place_is_cut_out_wherever_it_lies(box: tuple[float, float, float, float]) -> None:
    image = np.full((60, 100, 3), 90, np.uint8)
    crop = cut_out(image, box, "name.jpg")
    shown = cv2.imdecode(np.frombuffer(crop.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert crop.name == "name.jpg"
    assert max(shown.shape[:2]) == SHOWN
    drawn = (shown[..., 2] > 180) & (shown[..., 0] < 90)
    assert drawn.any()
