"""Blur: each face by its own size, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from p3m_data.faces.obfuscation import METHODS, obfuscate
from p3m_data.faces.private_area import face_width, private_area
from p3m_data.stages.blur import LEAST_SIGMA, BlurConfig, blur
from tests.stages.faces import face, photograph

SHAPE = (160, 240)
LARGE, SMALL = face((10, 10, 110, 150)), face((160, 40, 200, 90))


@pytest.mark.parametrize("method", METHODS)
def test_each_face_gets_its_own_sigma(method: str) -> None:
    image = photograph(0, SHAPE)
    areas = [private_area([f.outline], SHAPE) for f in (SMALL, LARGE)]
    config = BlurConfig(method=method, strength=0.2)  # type: ignore[arg-type]
    result = blur(image, areas[0] | areas[1], [SMALL, LARGE], config)
    assert [f.sigma for f in result.faces] == [
        round(0.2 * face_width(SMALL.outline), 2),
        round(0.2 * face_width(LARGE.outline), 2),
    ]
    for blurred, area in zip(result.faces, areas, strict=True):
        assert blurred.sigma is not None
        alone = obfuscate(image, area, blurred.sigma, config.method)
        np.testing.assert_array_equal(result.pixels[area], alone[area])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), method=st.sampled_from(METHODS), strength=st.floats(0.05, 2))
def test_outside_the_mask_nothing_changes(seed: int, method: str, strength: float) -> None:
    image = photograph(seed, SHAPE)
    mask = np.random.default_rng(seed).random(SHAPE) < 0.7
    before = image.copy()
    result = blur(image, mask, [SMALL, LARGE], BlurConfig(method=method, strength=strength))  # type: ignore[arg-type]
    np.testing.assert_array_equal(result.pixels[~mask], image[~mask])
    np.testing.assert_array_equal(image, before)


def test_a_tiny_face_is_blurred_too() -> None:
    tiny = face((20, 20, 28, 28))
    image = photograph(1, SHAPE)
    area = private_area([tiny.outline], SHAPE)
    result = blur(image, area, [tiny], BlurConfig())
    assert result.faces[0].sigma == LEAST_SIGMA
    assert result.pixels[area].std() < 0.5 * image[area].std()


def test_a_false_small_face_in_a_large_one_leaves_nothing_sharper() -> None:
    image = photograph(2, SHAPE)
    inner = face((45, 60, 70, 90))
    area = private_area([LARGE.outline], SHAPE)
    alone = blur(image, area, [LARGE], BlurConfig()).pixels
    both = blur(image, area, [inner, LARGE], BlurConfig()).pixels
    within = private_area([inner.outline], SHAPE)
    assert both[within].std() <= alone[within].std() + 0.5


def test_no_faces_is_the_picture_itself() -> None:
    image = photograph(3, SHAPE)
    result = blur(image, np.ones(SHAPE, bool), [], BlurConfig())
    np.testing.assert_array_equal(result.pixels, image)
    assert result.faces == ()


@pytest.mark.parametrize("settings", [{"strength": 0.01}, {"strength": 3}, {"method": "box"}, {"sigma": 4}])
def test_config_is_checked(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BlurConfig.model_validate(settings)
