"""Layers of any size, the cache, and the preview beside the stage that it foresees."""

from __future__ import annotations

import io
import threading

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.errors import UsageError
from p3m_data.stages import pictures as module
from p3m_data.stages.blur import BlurConfig, blur
from p3m_data.stages.candidate import Loaded
from p3m_data.stages.mask import MaskConfig, Masked, suggest
from p3m_data.stages.pictures import (
    AT_LEAST,
    THUMBNAIL,
    Opened,
    Part,
    Pictures,
    coverage,
    jpeg,
    matte_png,
    part_of,
    preview,
    shrunk,
    tinted_thumbnail,
)
from p3m_data.storage.images import Picture, decode
from tests.stages.faces import face, photograph

GREY = npt.NDArray[np.float64]


def opened(pixels: UInt8Array, *boxes: tuple[float, float, float, float]) -> Opened:
    """A picture with a face in each box, without a matte."""
    picture = Picture(pixels, "PNG", None, None, ())
    return Opened(
        Loaded("p_0", picture, None), suggest([face(b) for b in boxes], None, pixels.shape, MaskConfig())
    )


def shares(size: int, shown: int) -> GREY:
    """(shown, size): how much of each of `size` pixels lies in each of `shown` equal stretches, in shares."""
    edges, pixel = np.linspace(0, size, shown + 1), np.arange(size)
    inside = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.clip(inside, 0, None) * shown / size


def averaged(pixels: UInt8Array, part: Part) -> GREY:
    """The exact mean of `pixels` (H, W) over the area of each shown pixel."""
    cut = pixels[part.y0 : part.y1, part.x0 : part.x1].astype(np.float64)
    return np.asarray(shares(cut.shape[0], part.height) @ cut @ shares(cut.shape[1], part.width).T)


def grey_png(data: bytes) -> UInt8Array:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)


class TestPart:
    @settings(max_examples=200, deadline=None)
    @given(
        shape=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
        size=st.integers(1, 3000),
        corner=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    )
    def test_it_fits_and_keeps_its_proportions(
        self, shape: tuple[int, int], size: int, corner: tuple[float, float, float, float]
    ) -> None:
        height, width = shape
        x0, y0 = int(corner[0] * (width - 1)), int(corner[1] * (height - 1))
        x1, y1 = x0 + 1 + int(corner[2] * (width - x0 - 1)), y0 + 1 + int(corner[3] * (height - y0 - 1))
        part = part_of((height, width, 3), size, (x0, y0, x1, y1))
        assert part[:4] == (x0, y0, x1, y1)
        long, shown = max(x1 - x0, y1 - y0), max(part.width, part.height)
        assert shown == min(size, long)
        assert part.width == max(1, part.width) <= x1 - x0
        assert part.height == max(1, part.height) <= y1 - y0
        for side, of in ((part.width, x1 - x0), (part.height, y1 - y0)):
            assert abs(side - of * shown / long) <= 1
        assert part.scale == part.width / (x1 - x0)

    def test_everything_by_default(self) -> None:
        assert part_of((30, 40, 3), 20, None) == Part(0, 0, 40, 30, 20, 15)
        assert part_of((30, 40), 4000, None) == Part(0, 0, 40, 30, 40, 30)
        assert part_of((1, 5000), 10, None) == Part(0, 0, 5000, 1, 10, 1)

    @pytest.mark.parametrize(
        "box",
        [
            (0, 0, 0, 5),
            (0, 5, 5, 5),
            (6, 0, 5, 5),
            (-1, 0, 5, 5),
            (0, 0, 41, 5),
            (0, 0, 5, 31),
            (0, -1, 5, 5),
        ],
    )
    def test_a_box_that_is_empty_or_outside_is_refused(self, box: tuple[int, int, int, int]) -> None:
        with pytest.raises(UsageError, match=r"is not in a picture of 40 x 30$"):
            part_of((30, 40, 3), 100, box)


class TestShrunk:
    @pytest.mark.parametrize(("factor", "steps"), [(2, 1), (4, 2), (8, 3), (16, 4)])
    def test_whole_factors_are_box_means(self, factor: int, steps: int) -> None:
        """Each halving rounds, so they may add up to half a level a step."""
        pixels = photograph(factor, (192, 256))
        part = part_of(pixels.shape, 256 // factor, None)
        expected = np.asarray(Image.fromarray(pixels).reduce(factor), int)
        assert np.abs(shrunk(pixels, part) - expected).max() <= 0.5 + steps / 2

    @pytest.mark.parametrize(
        ("shape", "size"), [((333, 257), 256), ((300, 301), 299), ((101, 99), 60), ((1, 77), 70)]
    )
    def test_less_than_half_is_the_mean_over_the_area(self, shape: tuple[int, int], size: int) -> None:
        pixels = photograph(1, shape)[..., 0]
        part = part_of(shape, size, None)
        assert np.abs(shrunk(pixels, part) - averaged(pixels, part)).max() <= 1

    ODD = (((511, 513), 100), ((1023, 1023), 255), ((640, 481), 17), ((5, 3), 2), ((129, 1025), 64))

    @pytest.mark.parametrize(("shape", "size"), ODD)
    def test_odd_sizes_are_less_than_a_shown_pixel_off(self, shape: tuple[int, int], size: int) -> None:
        """A ramp tells where each shown pixel is from; the outermost ones may not leave the picture."""
        part = part_of(shape, size, None)
        for axis, (long, shown) in enumerate(zip(shape, (part.height, part.width), strict=True)):
            ramp = np.moveaxis(
                np.broadcast_to(np.linspace(0, 250, long), shape[::-1] if axis == 0 else shape), -1, axis
            )
            pixels = np.ascontiguousarray(np.rint(ramp).astype(np.uint8))
            off = np.abs(shrunk(pixels, part) - averaged(pixels, part)).max()
            assert off <= 250 / shown + 2

    @pytest.mark.parametrize(("shape", "size"), ODD)
    def test_odd_sizes_are_the_mean_over_the_area(self, shape: tuple[int, int], size: int) -> None:
        pixels = photograph(2, shape)[..., 0]
        part = part_of(shape, size, None)
        assert np.abs(shrunk(pixels, part) - averaged(pixels, part)).max() <= 2.5

    @settings(max_examples=150, deadline=None)
    @given(
        shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
        size=st.integers(1, 320),
        colour=st.booleans(),
    )
    def test_any_size_comes_out_as_it_is_shown(self, shape: tuple[int, int], size: int, colour: bool) -> None:
        pixels = np.full((*shape, 3) if colour else shape, 77, np.uint8)
        part = part_of(shape, size, None)
        small = shrunk(pixels, part)
        assert small.shape == (part.height, part.width, *((3,) if colour else ()))
        assert (small.dtype, small.flags.c_contiguous) == (np.uint8, True)
        assert (small == 77).all()

    def test_at_full_size_it_is_the_part_itself(self) -> None:
        pixels = photograph(3, (40, 50))
        np.testing.assert_array_equal(
            shrunk(pixels, part_of(pixels.shape, 99, (3, 5, 41, 40))), pixels[5:40, 3:41]
        )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 99),
    shape=st.tuples(st.integers(2, 90), st.integers(2, 90)),
    size=st.integers(1, 100),
)
def test_coverage_is_0_outside_and_255_inside(seed: int, shape: tuple[int, int], size: int) -> None:
    area = np.random.default_rng(seed).random(shape) < 0.5
    part = part_of(shape, size, None)
    for full, expected in ((np.zeros(shape, bool), 0), (np.ones(shape, bool), 255)):
        assert (grey_png(coverage(full, part)) == expected).all()
    shown = grey_png(coverage(area, part))
    assert shown.shape == (part.height, part.width)
    if (part.height, part.width) == shape:
        np.testing.assert_array_equal(shown, area * np.uint8(255))
    left = np.zeros(shape, bool)
    left[:, : shape[1] // 2] = True
    share = grey_png(coverage(left, part)).mean() / 255
    assert abs(share - left.mean()) <= 1 / part.width + 0.01


def test_a_matte_keeps_its_values() -> None:
    alpha = (np.arange(256, dtype=np.float32) / 255).reshape(16, 16)
    np.testing.assert_array_equal(
        grey_png(matte_png(alpha, part_of(alpha.shape, 99, None))), np.arange(256).reshape(16, 16)
    )
    part = part_of(alpha.shape, 99, (2, 3, 9, 16))
    np.testing.assert_array_equal(grey_png(matte_png(alpha, part)), np.arange(256).reshape(16, 16)[3:16, 2:9])


def test_a_jpeg_is_rgb_and_tells_nothing_else() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    data = jpeg(red)
    assert np.abs(decode(data).astype(int) - red).max() <= 4
    info = set(Image.open(io.BytesIO(data)).info)
    assert info <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_the_thumbnail_is_red_where_the_mask_is() -> None:
    grey = np.full((700, 500, 3), 90, np.uint8)
    picture = opened(grey, (100, 100, 350, 400))
    small = decode(tinted_thumbnail(picture)).astype(int)
    assert max(small.shape) == THUMBNAIL
    part = part_of(grey.shape, THUMBNAIL, None)
    area = shrunk(picture.suggested.mask.astype(np.uint8) * 255, part)
    inside = cv2.erode(area, np.ones((17, 17), np.uint8)) == 255
    outside = cv2.dilate(area, np.ones((37, 37), np.uint8)) == 0
    assert inside.any()
    assert (small[inside][:, 0] - small[inside][:, 2] > 50).all()
    assert np.abs(small[outside] - 90).max() <= 3


def drawn_mask(pixels: UInt8Array) -> Masked:
    return opened(pixels, (40, 30, 120, 140), (130, 100, 170, 160)).suggested


def test_the_preview_is_the_stage_blur() -> None:
    """At full size: the same pixels before they become a JPEG, so the same JPEG."""
    pixels = photograph(5, (180, 200))
    masked = drawn_mask(pixels)
    before = pixels.copy()
    shown = decode(preview(opened(pixels), masked, part_of(pixels.shape, 999, None), BlurConfig()))
    expected = blur(pixels, masked.mask, masked.faces, BlurConfig()).pixels
    np.testing.assert_array_equal(shown, decode(jpeg(expected)))
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(expected[~masked.mask], pixels[~masked.mask])
    assert np.abs(expected[masked.mask].astype(int) - pixels[masked.mask]).mean() > 10


@pytest.mark.parametrize("size", [200, 100, 67])
@pytest.mark.parametrize("box", [None, (20, 10, 150, 170), (60, 50, 110, 120)])
def test_a_part_of_the_preview_hides_the_mask_and_nothing_else(
    size: int, box: tuple[int, int, int, int] | None
) -> None:
    """Far from the mask it is the shrunk picture within a JPEG's loss, deep in it detail is gone."""
    pixels = photograph(6, (180, 200))
    masked = drawn_mask(pixels)
    part = part_of(pixels.shape, size, box)
    shown = decode(preview(opened(pixels), masked, part, BlurConfig())).astype(int)
    plain = decode(jpeg(shrunk(pixels, part))).astype(int)
    assert shown.shape == (part.height, part.width, 3)
    area = shrunk(masked.mask.view(np.uint8) * np.uint8(255), part)
    far = cv2.dilate((area > 0).astype(np.uint8), np.ones((37, 37), np.uint8)) == 0
    deep = cv2.erode((area == 255).astype(np.uint8), np.ones((3, 3), np.uint8)) == 1
    np.testing.assert_array_equal(shown[far], plain[far])
    assert deep.any()

    def detail(image: npt.NDArray[np.int_]) -> float:
        return float(np.abs(cv2.Laplacian(image.astype(np.float32), cv2.CV_32F))[deep].mean())

    assert detail(shown) < 0.35 * detail(plain)


class TestCache:
    def picture(self, side: int = 8) -> Opened:
        return opened(np.zeros((side, side, 3), np.uint8))

    def test_each_is_loaded_once_however_many_ask(self) -> None:
        loads: list[str] = []
        release, surplus, asked = threading.Event(), threading.Event(), threading.Barrier(9)

        def load(name: str) -> Opened:
            loads.append(name)
            if len(loads) > 2:
                surplus.set()
            release.wait(30)
            return self.picture()

        cache, got = Pictures(load), list[Opened]()

        def work(name: str) -> None:
            asked.wait()
            got.append(cache.get(name))

        threads = [threading.Thread(target=work, args=(name,)) for name in "abab" * 2]
        for thread in threads:
            thread.start()
        asked.wait()
        assert not surplus.wait(0.1)
        release.set()
        for thread in threads:
            thread.join()
        assert sorted(loads) == ["a", "b"]
        assert len(got) == 8
        assert len({id(each) for each in got}) == 2

    def test_one_that_loads_does_not_keep_others_waiting(self) -> None:
        begun, release = threading.Event(), threading.Event()

        def load(name: str) -> Opened:
            if name == "slow":
                begun.set()
                assert release.wait(30)
            return self.picture()

        cache = Pictures(load)
        thread = threading.Thread(target=cache.get, args=("slow",))
        thread.start()
        assert begun.wait(30)
        cache.get("quick")
        release.set()
        thread.join()

    def test_the_least_recently_used_goes_but_never_below_the_least(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loads: list[str] = []

        def load(name: str) -> Opened:
            loads.append(name)
            return self.picture()

        monkeypatch.setattr(module, "ROOM", 5 * self.picture().nbytes)
        cache = Pictures(load)
        for name in "abcdeafa":
            cache.get(name)
        assert "".join(loads) == "abcdef"  # b went for f
        for name in "cdefab":
            cache.get(name)
        assert "".join(loads) == "abcdefb"
        monkeypatch.setattr(module, "ROOM", 0)
        loads.clear()
        for name in "xyz" * 3:
            cache.get(name)
        assert "".join(loads) == "xyz"
        assert AT_LEAST == 3
        for name in "wz":
            cache.get(name)
        cache.get("x")
        assert "".join(loads) == "xyzwx"

    def test_a_load_that_fails_is_tried_again(self) -> None:
        answers: list[Opened | None] = [None, self.picture()]

        def load(name: str) -> Opened:
            answer = answers.pop(0)
            if answer is None:
                raise UsageError(f"{name} is gone")
            return answer

        cache = Pictures(load)
        with pytest.raises(UsageError, match="a is gone"):
            cache.get("a")
        assert cache.get("a") is cache.get("a")
        assert answers == []

    def test_a_forgotten_one_is_loaded_again(self) -> None:
        cache = Pictures(lambda _: self.picture())
        first = cache.get("a")
        cache.forget("a")
        cache.forget("unknown")
        assert cache.get("a") is not first

    def test_size_counts_pixels_matte_and_areas(self) -> None:
        plain = self.picture(10)
        areas: BoolArray = plain.suggested.mask
        assert plain.nbytes == 300 + 3 * areas.nbytes
        alpha = np.zeros((10, 10), np.float32)
        assert Opened(plain.loaded._replace(alpha=alpha), plain.suggested).nbytes == plain.nbytes + 400
