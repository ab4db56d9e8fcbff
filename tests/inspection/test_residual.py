"""Faces left in published pictures, planted with the real detectors on a picture that everybody has."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.errors import UsageError
from p3m_data.faces.detectors import Detections
from p3m_data.faces.private_area import ellipse_outline
from p3m_data.inspection import residual as module
from p3m_data.inspection.findings import Finding
from p3m_data.inspection.masked import is_masked, known_faces
from p3m_data.inspection.networks import find_detectors
from p3m_data.inspection.originals import Originals
from p3m_data.inspection.residual import (
    ABOUT,
    ACCEPT,
    SUPPORT,
    SURE,
    Item,
    Looker,
    Residual,
    ResidualConfig,
    Seen,
    Setup,
    is_sure,
    residual,
)
from p3m_data.inspection.sightings import LookConfig, Place
from p3m_data.stages.detect import Models
from p3m_data.storage import weights
from p3m_data.storage.layouts import recognise
from p3m_data.storage.mattes import encode_matte
from p3m_data.types import Box, Face
from tests.runs import faceless, matte, portrait, save

FACE = (117.0, 64.0, 215.0, 196.0)
"""In `portrait()`, measured by hand."""
QUICK = ResidualConfig(look=LookConfig(scales=(1.0,), turns=(90,)))


@pytest.fixture(scope="module")
def looker() -> Iterator[Looker]:
    files = weights.ensure(["face_landmarker", "blazeface", "centerface"])
    landmarker = files.pop("face_landmarker")
    looker = Setup(files, landmarker, QUICK)()
    assert isinstance(looker, Looker)
    yield looker
    looker.models.close()


def face_mask() -> BoolArray:
    mask = np.zeros((300, 300), np.uint8)
    cv2.ellipse(mask, (166, 135), (46, 62), 0, 0, 360, 1, -1)
    return mask.astype(bool)


def blurred() -> UInt8Array:
    image = portrait()
    soft = cv2.GaussianBlur(image, (0, 0), 18)
    return np.where(face_mask()[..., None], soft, image).astype(np.uint8)


def place(folder: Path, image: UInt8Array, mask: BoolArray | None = None, name: str = "a") -> Item:
    """A picture in the layout of P3M-10k, with its facemask."""
    picture = save(folder / "train" / "blurred_image" / f"{name}.png", image)
    facemask = None
    if mask is not None:
        facemask = save(folder / "train" / "facemask" / f"{name}.png", mask.astype(np.uint8) * np.uint8(255))
    return Item(name, picture, facemask, None, (), frozenset())


def summary(seen: Seen) -> list[tuple[str, str]]:
    return [(finding.check, finding.level) for finding in seen.findings]


def test_a_masked_face_is_no_finding(looker: Looker, tmp_path: Path) -> None:
    seen = looker(place(tmp_path, blurred(), face_mask()))
    assert summary(seen) == []
    assert [person.how for person in seen.people] == ["facemask"]
    assert seen.seconds.keys() == {"blazeface", "centerface"}


class Sees:
    """Sees a face at `FACE` whatever it is shown."""

    accept = support = hint = 0.5
    whole_only = False

    def __init__(self, score: float) -> None:
        self.row = np.array([[*FACE, *np.zeros(10), score]])

    def __call__(self, _: UInt8Array) -> Detections:
        return self.row


def test_a_masked_face_that_is_still_a_head_is_counted(tmp_path: Path) -> None:
    detectors = {"centerface": Sees(0.9), "yunet": Sees(0.5)}
    config = ResidualConfig(look=LookConfig(scales=(1.0,), turns=()))
    item = place(tmp_path, blurred(), face_mask())
    seen = Looker(Models(detectors, {}), config)(item)
    assert summary(seen) == []
    assert seen.heads == {"centerface"}
    assert seen.sightings == {("centerface", "x1", "masked"): 1, ("yunet", "x1", "masked"): 1}
    told = module.figures([seen], ["centerface", "yunet"])["detectors"]
    assert isinstance(told, dict)
    shares = {name: f["pictures_whose_masked_face_is_still_a_head"]["hits"] for name, f in told.items()}  # type: ignore[index,call-overload]
    assert shares == {"centerface": 1, "yunet": 0}


def test_one_detector_alone_makes_a_note(tmp_path: Path) -> None:
    config = ResidualConfig(look=LookConfig(scales=(1.0,), turns=()))
    seen = Looker(Models({"centerface": Sees(0.9)}, {}), config)(place(tmp_path, portrait()))
    assert summary(seen) == [("residual_face", "note")]
    unsure = Looker(Models({"centerface": Sees(0.4)}, {}), config)(place(tmp_path, portrait()))
    assert summary(unsure) == []
    strict = config.model_copy(update={"smallest": 200.0})
    assert summary(Looker(Models({"centerface": Sees(0.9)}, {}), strict)(place(tmp_path, portrait()))) == []


def test_a_face_that_nobody_masked(looker: Looker, tmp_path: Path) -> None:
    for mask in (None, np.zeros((300, 300), bool)):
        seen = looker(place(tmp_path, portrait(), mask))
        assert summary(seen) == [("residual_face", "fault")]
        (finding,), (crop,) = seen.findings, seen.crops
        assert finding.crop == crop.name
        shown = cv2.imdecode(np.frombuffer(crop.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert max(shown.shape) == 320


def test_a_blurred_face_without_a_facemask_is_no_finding(looker: Looker, tmp_path: Path) -> None:
    strong = cv2.GaussianBlur(portrait(), (0, 0), 14)
    assert summary(looker(place(tmp_path, strong))) == []


def test_a_second_face_beside_the_masked_one(looker: Looker, tmp_path: Path) -> None:
    both = np.hstack([blurred(), portrait()[:, ::-1]])
    mask = np.hstack([face_mask(), np.zeros((300, 300), bool)])
    seen = looker(place(tmp_path, both, mask))
    assert summary(seen) == [("residual_face", "fault")]


@pytest.mark.parametrize(("waived", "level"), [(frozenset(), "fault"), (frozenset({"faces_left"}), "note")])
def test_what_a_reviewer_let_pass_is_a_note(
    looker: Looker, tmp_path: Path, waived: frozenset[str], level: str
) -> None:
    seen = looker(place(tmp_path, portrait())._replace(waived=waived))
    assert summary(seen) == [("residual_face", level)]
    assert ("reviewer" in seen.findings[0].said) == (level == "note")


@pytest.mark.parametrize(("waived", "level"), [(frozenset(), "fault"), (frozenset({"detail_left"}), "note")])
def test_a_face_pasted_back_under_its_mask(
    looker: Looker, tmp_path: Path, waived: frozenset[str], level: str
) -> None:
    seen = looker(place(tmp_path, portrait(), face_mask())._replace(waived=waived))
    assert summary(seen) == [("detail_under_mask", level)]
    finding = seen.findings[0]
    assert finding.value is not None
    assert finding.limit is not None
    assert finding.value > finding.limit


def test_a_face_in_the_ledger_without_its_mask_explains_nothing(looker: Looker, tmp_path: Path) -> None:
    face = Face(box=FACE, score=1, detectors=("x",), how="landmarks", outline=ellipse_outline(FACE))
    item = place(tmp_path, portrait(), np.zeros((300, 300), bool))._replace(faces=(face,))
    assert summary(looker(item)) == [("residual_face", "fault")]
    masked = place(tmp_path, blurred(), face_mask())._replace(faces=(face,))
    assert [person.how for person in looker(masked).people] == ["landmarks"]


def test_a_bystander_is_told_from_the_subject_by_the_matte(looker: Looker, tmp_path: Path) -> None:
    both = np.hstack([blurred(), portrait()[:, ::-1]])
    mask = np.hstack([face_mask(), np.zeros((300, 300), bool)])
    alpha = np.hstack([matte(), np.zeros((300, 300), np.float32)])
    file = tmp_path / "matte.png"
    file.write_bytes(encode_matte(alpha))
    seen = looker(place(tmp_path, both, mask)._replace(matte=file))
    assert summary(seen) == [("bystander_face", "fault")]
    subject, bystander = seen.people
    assert subject.alpha is not None
    assert subject.alpha > 0.9
    assert (bystander.how, bystander.level, bystander.alpha) == ("unmasked", "fault", 0.0)


def test_nobody_there(looker: Looker, tmp_path: Path) -> None:
    seen = looker(place(tmp_path, faceless(), np.zeros((160, 160), bool)))
    assert summary(seen) == []
    assert seen.people == ()


@pytest.mark.parametrize("broken", ["image", "facemask", "matte"])
def test_a_file_that_cannot_be_read_is_a_fault_and_names_no_folder(
    looker: Looker, tmp_path: Path, broken: str
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"none")
    item = place(tmp_path, blurred(), face_mask())._replace(**{broken: bad})
    for case in (item, item._replace(**{broken: tmp_path / "gone.png"})):
        seen = looker(case)
        assert summary(seen) == [("pictures_looked_at", "fault")]
        assert seen.seconds == {}
        assert str(tmp_path) not in seen.findings[0].said


def test_known_faces_are_the_ledgers_or_else_the_masks_parts() -> None:
    mask = np.zeros((200, 300), bool)
    mask[20:80, 20:70] = True
    mask[20:80, 150:200] = True
    mask[100:102, 100:102] = True  # a speck that hair left
    first: Box = (18, 15, 72, 85)
    known = known_faces(
        [
            Face(box=first, score=1, detectors=(), how="ellipse"),
            Face(box=(220, 100, 260, 150), score=1, detectors=(), how="ellipse"),
            Face(box=(20, 20, 70, 80), score=1, detectors=(), how="none"),
        ],
        mask,
    )
    assert [(how, box) for box, how, _ in known] == [("ellipse", first), ("facemask", (150, 20, 200, 80))]


def test_a_box_is_masked_by_what_covers_its_inner_part() -> None:
    mask = np.zeros((100, 100), bool)
    box = (10.0, 10.0, 90.0, 90.0)
    assert not is_masked(box, [], mask)
    mask[:30] = True
    assert not is_masked(box, [], mask)
    mask[:55] = True
    assert is_masked(box, [], mask)
    assert is_masked(box, [(0.0, 0.0, 80.0, 80.0)], np.zeros((100, 100), bool))


@pytest.mark.parametrize(
    ("scores", "trusted", "sure"),
    [
        ({"centerface": 0.9, "yunet": 0.9}, False, True),
        ({"centerface": 0.64, "yunet": 0.87}, True, False),  # two that are unsure
        ({"centerface": 0.9}, False, False),
        ({"centerface": 0.9}, True, True),
        ({"dlib_hog": 0.3, "blazeface": 0.75}, False, True),
        ({"dlib_hog": 0.3, "blazeface": 0.5}, False, False),
    ],
)
def test_who_is_sure(scores: dict[str, float], trusted: bool, sure: bool) -> None:
    found = Place((0, 0, 9, 9), {name: score / ACCEPT[name] for name, score in scores.items()}, ())
    assert is_sure(found, trusted) is sure


def test_every_detector_has_scores_in_order() -> None:
    assert SURE.keys() == ACCEPT.keys() == SUPPORT.keys()
    files, why_not = find_detectors(None)
    assert files.keys() <= SURE.keys()
    assert len(files) + len(why_not) == len(SURE)
    for name in SURE:
        assert 0 < SUPPORT[name] <= ACCEPT[name] <= SURE[name] <= 1


def test_an_unknown_detector_and_one_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="unknown detector haar; there are centerface"):
        find_detectors(["haar"])
    monkeypatch.setenv("P3MDATA_CACHE", str(tmp_path))
    monkeypatch.delenv("P3MDATA_WEIGHTS", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    files, why_not = find_detectors(["yunet", "dlib_hog"])
    assert files == {}
    assert [said.split(" did not look: ")[0] for said in why_not] == ["yunet", "dlib_hog"]
    assert "p3mdata weights get yunet" in why_not[0]
    assert 'pip install "p3mdata[audit]"' in why_not[1]


def look(folder: Path, detectors: list[str]) -> tuple[Residual, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    found = residual(
        recognise(folder),
        Originals(),
        detectors=detectors,
        config=QUICK,
        on_progress=lambda done, total: told.append((done, total)),
    )
    return found, told


def test_a_whole_dataset(tmp_path: Path) -> None:
    place(tmp_path, blurred(), face_mask(), "good")
    place(tmp_path, portrait(), np.zeros((300, 300), bool), "left")
    save(tmp_path / "P3M-500-NP" / "original_image" / "free.png", portrait())
    (tmp_path / "train" / "blurred_image" / "odd.png").write_bytes(b"none")
    found, told = look(tmp_path, ["centerface", "blazeface"])
    faults: list[Finding] = [finding for finding in found.findings if finding.level == "fault"]
    assert [(f.check, f.where) for f in faults] == [
        ("residual_face", "train/blurred_image/left.png"),
        ("pictures_looked_at", "train/blurred_image/odd.png"),
    ]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert {one.check for one in found.looked} == ABOUT.keys()
    assert {one.check: one.at for one in found.looked} == dict.fromkeys(ABOUT, 2) | {"detail_under_mask": 1}
    assert "1 pictures are of the split" in found.looked[0].why_not
    assert found.figures["pictures_with_a_fault"] == {"hits": 1, "of": 2, "low": 0.094531, "high": 0.905469}
    assert [crop.name for crop in found.crops] == [faults[0].crop]


def test_without_any_detector_nothing_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path, portrait(), None)
    monkeypatch.setenv("P3MDATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("P3MDATA_WEIGHTS", raising=False)
    found, told = look(tmp_path, ["yunet"])
    assert found.findings == []
    assert told == []
    assert {one.at for one in found.looked} == {0}
    assert "yunet did not look" in found.looked[0].why_not


@pytest.mark.portraits
def test_real_faces_are_faults(looker: Looker, portraits: Path) -> None:
    files = sorted((portraits / "images").glob("lfw_*"))[::12]
    assert files
    for file in files:
        seen = looker(Item(file.stem, file, None, None, (), frozenset()))
        assert ("residual_face", "fault") in summary(seen), file.name
