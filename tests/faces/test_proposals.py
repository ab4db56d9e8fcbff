"""The looks at a picture and what is made of them, with detectors that know where their dots are.

`Bright` reports every blob of bright pixels as a face, so what a view shows and where it maps back to
can be checked without a network.
"""

from __future__ import annotations

from math import pi

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.arrays import UInt8Array
from p3m_data.faces.detectors import SCORE, Detections, no_detections
from p3m_data.faces.proposals import (
    COARSE,
    TILE,
    TILE_OVERLAP,
    Proposal,
    ProposalConfig,
    View,
    box_iou,
    is_false_alarm,
    propose,
    views,
)
from p3m_data.types import Box

UPRIGHT = ProposalConfig(turned=False)


class Fake:
    """A detector of which a test says what it sees."""

    accept = 0.6
    support = 0.3
    hint = 0.45
    whole_only = False

    def __init__(self, score: float = 0.9, *, least: float = 0.0, whole_only: bool = False) -> None:
        self.score = score
        self.least = least
        self.whole_only = whole_only
        self.shown: list[tuple[int, int]] = []

    def __call__(self, image: UInt8Array) -> Detections:
        self.shown.append((image.shape[1], image.shape[0]))
        return self.see(image)

    def see(self, image: UInt8Array) -> Detections:
        raise NotImplementedError

    def face(self, box: Box) -> Detections:
        x0, y0, x1, y1 = box
        w, h = x1 - x0, y1 - y0
        across = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
        return np.array([*box, *np.ravel([(x0 + a * w, y0 + b * h) for a, b in across]), self.score])


class Bright(Fake):
    """A face at each bright blob of at least `least` pixels width."""

    def see(self, image: UInt8Array) -> Detections:
        count, _, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 100).astype(np.uint8))
        rows = [
            self.face((x - 0.5, y - 0.5, x + w - 0.5, y + h - 0.5))
            for x, y, w, h, _ in stats[1:count].tolist()
            if w >= self.least
        ]
        return np.stack(rows) if rows else no_detections()


class Standing(Bright):
    """Sees a blob only while its left half is red: faces that stand upright in the view."""

    def see(self, image: UInt8Array) -> Detections:
        found = super().see(image)
        keep = []
        for x0, y0, x1, y1 in np.rint(found[:, :4]).astype(int).clip(0):
            cut = image[y0 : y1 + 1, x0 : x1 + 1].astype(int)
            half = cut.shape[1] // 2
            keep.append(cut[:, :half, 2].mean() + 40 < cut[:, half:, 2].mean())
        return found[np.array(keep, bool)]


def picture(shape: tuple[int, int], *boxes: tuple[int, int, int, int]) -> UInt8Array:
    image = np.zeros((*shape, 3), np.uint8)
    for x0, y0, x1, y1 in boxes:
        image[y0:y1, x0:x1] = 255
    return image


def propose_with(image: UInt8Array, *detectors: Fake, config: ProposalConfig = UPRIGHT) -> list[Proposal]:
    return propose(image, {f"d{i}": d for i, d in enumerate(detectors)}, config)


shapes = st.tuples(st.integers(1, 2600), st.integers(1, 2600))


@settings(max_examples=25, deadline=None)
@given(shape=shapes, min_face=st.integers(8, 64))
def test_every_pixel_is_seen_at_every_scale(shape: tuple[int, int], min_face: int) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    finest = min(max(COARSE, max(shape) * 14 / min_face), 2 * max(shape))
    seen: dict[float, np.ndarray] = {}
    for view in views(image, ProposalConfig(min_face=min_face, min_face_share=0, turned=False)):
        if view.mirrored:
            continue
        assert max(view.pixels.shape[:2]) <= TILE
        scale = view.to_picture[0, 0] if shape[1] >= shape[0] else view.to_picture[1, 1]
        covered = seen.setdefault(scale, np.zeros(shape, bool))
        height, width = view.pixels.shape[:2]
        corners = view.to_picture @ np.array([[-0.5, -0.5, 1], [width - 0.5, height - 0.5, 1]]).T
        (x0, x1), (y0, y1) = np.rint(corners + 0.5).astype(int)
        covered[y0:y1, x0:x1] = True
    assert min(seen) == pytest.approx(max(shape) / finest, rel=0.05, abs=0.5 / finest)
    for covered in seen.values():
        assert covered.all()


def test_a_face_of_the_overlap_is_whole_in_one_tile() -> None:
    image = np.zeros((40, 2900, 3), np.uint8)
    fine = [
        v
        for v in views(image, ProposalConfig(min_face=14, min_face_share=0, turned=False))
        if v.pixels.shape[1] == TILE
    ]
    spans = sorted((v.to_picture[0, 2], v.to_picture[0, 2] + TILE) for v in fine if v.to_picture[0, 0] == 1)
    assert spans[0][0] == 0
    assert spans[-1][1] == 2900
    for left in range(0, 2900 - TILE_OVERLAP, 7):
        assert any(a <= left and left + TILE_OVERLAP <= b for a, b in spans)


def places_of(view: View) -> np.ndarray:
    """(H, W, 2): picture coordinates of a view's pixels."""
    y, x = np.mgrid[: view.pixels.shape[0], : view.pixels.shape[1]]
    return np.stack([x, y], axis=-1) @ view.to_picture[:, :2].T + view.to_picture[:, 2]


def dot_in(view: View, shape: tuple[int, int]) -> np.ndarray | None:
    """Where the view's bright dot lies in the picture, leaving out what is mirrored beyond its border."""
    places = places_of(view)
    on_picture = ((places > -0.5) & (places < np.array(shape[::-1]) - 0.5)).all(axis=-1)
    weight = np.where(on_picture, view.pixels[..., 0], 0).astype(float)
    if weight.max() < 200:  # not shown, or no more than its rim
        return None
    return np.asarray((weight[..., None] * places).sum(axis=(0, 1)) / weight.sum())


@pytest.mark.parametrize(
    ("shape", "at"), [((900, 1400), (1100, 300)), ((333, 250), (60, 301)), ((60, 40), (20, 30))]
)
def test_a_dot_maps_back_from_every_view(shape: tuple[int, int], at: tuple[int, int]) -> None:
    y, x = np.mgrid[: shape[0], : shape[1]]
    radius = max(1.5, max(shape) / 100)
    dot = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * radius**2)) * 255
    image = np.repeat(np.rint(dot).astype(np.uint8)[..., None], 3, axis=2)
    shown = [
        (v, place)
        for v in views(image, ProposalConfig(min_face=8, min_face_share=0))
        if (place := dot_in(v, shape)) is not None
    ]
    assert sum(v.turned for v, _ in shown) == 3
    assert len(shown) >= 4
    for view, place in shown:
        cut = view.fine and max(view.pixels.shape[:2]) == TILE  # a tile's edge may cut the dot
        assert np.abs(place - at).max() < (1.0 if cut else 0.1 * np.abs(view.to_picture[:, :2]).max() + 0.02)


def test_turned_views_are_turned() -> None:
    image = (
        np.random.default_rng(0).integers(0, 256, (20, 12, 3), np.uint8).repeat(10, axis=0).repeat(10, axis=1)
    )
    for view in views(image, ProposalConfig()):
        places = places_of(view).astype(np.float32)
        there = cv2.remap(image, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        # areas averaged or interpolated look alike, other places do not
        assert np.abs(there.astype(int) - view.pixels).mean() < 8


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(150, 1500), st.integers(150, 1500)),
    where=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    size=st.integers(40, 120),
)
def test_boxes_map_back(shape: tuple[int, int], where: tuple[float, float], size: int) -> None:
    # touching the border it would grow together with its mirror image
    x, y = (10 + round(w * (n - size - 20)) for w, n in zip(where, shape[::-1], strict=True))
    face = (x - 0.5, y - 0.5, x + size - 0.5, y + size - 0.5)
    found = propose_with(picture(shape, (x, y, x + size, y + size)), Bright())
    proposal = max(found, key=lambda p: box_iou(p.box, face))
    assert box_iou(proposal.box, face) > 0.8
    # the border of a tile may show a part of it for a second face
    slack = max(shape) / COARSE
    for other in found:
        assert other.box[0] > face[0] - slack
        assert other.box[1] > face[1] - slack
        assert other.box[2] < face[2] + slack
        assert other.box[3] < face[3] + slack
    assert proposal.angle == pytest.approx(0, abs=1e-6)
    assert proposal.size == pytest.approx(size, rel=0.15)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_turned_face_gets_its_angle(quarter: int) -> None:
    face = picture((240, 240), (100, 100, 160, 160))
    face[100:160, 100:130, 2] = 0  # the left half of an upright face
    image = np.ascontiguousarray(np.rot90(face, -quarter))  # turned with the clock
    (proposal,) = propose_with(image, Standing(), config=ProposalConfig())
    off = (proposal.angle - quarter * pi / 2 + pi) % (2 * pi) - pi
    assert off == pytest.approx(0, abs=1e-6)
    box = {1: (80, 100, 140, 160), 2: (80, 80, 140, 140), 3: (100, 80, 160, 140)}[quarter]
    assert box_iou(proposal.box, box) > 0.8
    assert propose_with(image, Standing(), config=UPRIGHT) == []


def test_small_and_large_faces_of_a_large_picture() -> None:
    boxes = [(30, 40, 52, 62), (1900, 1300, 1922, 1322), (700, 300, 1300, 900)]
    found = propose_with(picture((1400, 2000), *boxes), Bright(least=10))
    assert len(found) == 3
    for box in boxes:
        assert max(box_iou(p.box, box) for p in found) > 0.7


def test_whole_only_detector_sees_no_fine_view() -> None:
    coarse = Bright(whole_only=True)
    propose_with(picture((1000, 1400)), coarse)
    assert max(max(size) for size in coarse.shown) <= COARSE * 1.6
    fine = Bright()
    propose_with(picture((1000, 1400)), fine)
    assert max(max(size) for size in fine.shown) > 2 * COARSE


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (0.7, None, ("d0",)),  # one that is sure
        (0.4, None, None),  # one that is not
        (0.4, 0.4, ("d0", "d1")),  # two that support each other
        (0.4, 0.2, None),  # the other one's support is too weak
        (0.7, 0.4, ("d0", "d1")),
        (0.7, 0.2, ("d0",)),
    ],
)
def test_agreement(first: float, second: float | None, expected: tuple[str, ...] | None) -> None:
    image = picture((300, 300), (100, 100, 180, 180))
    detectors = [Bright(score) for score in (first, second) if score is not None]
    found = propose_with(image, *detectors)
    if expected is None:
        assert found == []
    else:
        assert [(p.detectors, p.weak) for p in found] == [(expected, False)]
        assert found[0].score == max(s for s in (first, second) if s is not None and s >= 0.3)


@pytest.mark.parametrize("second", [None, 0.2])
def test_a_hint_is_a_weak_proposal(second: float | None) -> None:
    detectors = [Bright(score) for score in (0.5, second) if score is not None]
    found = propose_with(picture((300, 300), (100, 100, 180, 180)), *detectors)
    assert [(p.detectors, p.weak, p.score) for p in found] == [(("d0",), True, 0.5)]


def test_what_only_a_turned_view_shows_must_score_higher() -> None:
    face = picture((240, 240), (100, 100, 160, 160))
    face[100:160, 100:130, 2] = 0
    lying = np.ascontiguousarray(np.rot90(face))
    assert [p.weak for p in propose_with(face, Standing(0.65), config=ProposalConfig())] == [False]
    assert [p.weak for p in propose_with(lying, Standing(0.65), config=ProposalConfig())] == [True]
    assert [p.weak for p in propose_with(lying, Standing(0.75), config=ProposalConfig())] == [False]


def test_one_face_is_one_proposal_and_neighbours_are_two() -> None:
    image = picture((600, 900), (100, 200, 220, 320), (222, 200, 342, 320))
    image[:, 220:222] = 0
    assert len(propose_with(image, Bright(), Bright(0.8), config=ProposalConfig())) == 2


def test_order_of_detectors_does_not_matter() -> None:
    image = picture((500, 700), (100, 100, 180, 190), (400, 50, 460, 110), (420, 300, 640, 480))
    first, second = Bright(0.7), Bright(0.65, least=70)
    there = propose(image, {"a": first, "b": second}, ProposalConfig())
    back = propose(image, {"b": second, "a": first}, ProposalConfig())
    assert there == back
    assert len(there) == 3
    assert [p.score for p in there] == sorted((p.score for p in there), reverse=True)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 3000), (7, 9)])
def test_odd_sizes(shape: tuple[int, int]) -> None:
    assert propose_with(np.zeros((*shape, 3), np.uint8), Bright(), config=ProposalConfig()) == []


def test_image_is_checked_at_the_door() -> None:
    with pytest.raises(ValueError, match="uint8 image"):
        propose_with(np.zeros((20, 20), np.uint8), Bright())


unit = st.floats(0, 100)


@given(a=st.tuples(unit, unit, unit, unit), b=st.tuples(unit, unit, unit, unit))
def test_iou_by_counting(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    """Boxes of whole pixels: the areas are counts."""

    def grid(box: tuple[float, ...]) -> tuple[tuple[int, ...], np.ndarray]:
        x0, x1 = sorted((int(box[0]), int(box[2])))
        y0, y1 = sorted((int(box[1]), int(box[3])))
        area = np.zeros((100, 100), bool)
        area[y0:y1, x0:x1] = True
        return (x0, y0, x1, y1), area

    (first, p), (second, q) = grid(a), grid(b)
    union = (p | q).sum()
    assert box_iou(first, second) == pytest.approx((p & q).sum() / union if union else 0.0)


class Sees(Fake):
    """Sees a face in the middle of whatever it is shown."""

    def see(self, image: UInt8Array) -> Detections:
        height, width = image.shape[:2]
        return self.face((width * 0.25, height * 0.25, width * 0.75, height * 0.75))[None]


class Corner(Fake):
    def see(self, image: UInt8Array) -> Detections:
        height, width = image.shape[:2]
        return self.face((0, 0, width * 0.15, height * 0.15))[None]


class Blind(Fake):
    def see(self, image: UInt8Array) -> Detections:  # noqa: ARG002
        return no_detections()


def test_false_alarm_is_what_nobody_sees_again() -> None:
    image = picture((200, 200))
    weak = Proposal((50, 60, 90, 100), 0.5, ("a",), weak=False, angle=0.4)
    sure = Proposal((50, 60, 90, 100), 0.9, ("a",), weak=False, angle=0.0)
    assert is_false_alarm(image, weak, {"a": Blind(), "b": Blind()})
    assert not is_false_alarm(image, weak, {"a": Blind(), "b": Sees(0.5)})
    assert is_false_alarm(image, weak, {"a": Sees(0.1)})
    assert is_false_alarm(image, weak, {"a": Corner()})
    assert not is_false_alarm(image, sure, {"a": Blind()})


def test_detections_have_five_points_and_a_score() -> None:
    assert no_detections().shape == (0, SCORE + 1)


def test_large_pictures_are_looked_at_for_relatively_large_faces() -> None:
    image = np.zeros((3000, 4000, 3), np.uint8)
    config = ProposalConfig(turned=False, border=False)
    finest = min(v.to_picture[0, 0] for v in views(image, config))
    # 0.6 % of 4000 pixels are 24, shown with 14 pixels
    assert finest == pytest.approx(24 / 14, rel=0.01)
