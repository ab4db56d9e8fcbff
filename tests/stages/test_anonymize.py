"""One picture at a time, with the real networks; what is not proven must never reach the public side."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from p3m_data.arrays import BoolArray, UInt8Array
from p3m_data.errors import StorageError
from p3m_data.faces.detectors import Detector
from p3m_data.faces.landmarkers import Landmarker
from p3m_data.faces.private_area import Points
from p3m_data.pipeline.dataset import Dataset
from p3m_data.stages import anonymize as stage
from p3m_data.stages import candidate
from p3m_data.stages.anonymize import Anonymizer, Job
from p3m_data.stages.blur import BlurConfig
from p3m_data.stages.candidate import STRONGER
from p3m_data.stages.config import AnonymizeConfig
from p3m_data.stages.detect import Models
from p3m_data.storage.images import encode_picture, encode_png
from p3m_data.storage.mattes import encode_matte
from p3m_data.types import Check, Outline, Reason, Record, Source, Status
from tests.runs import bomb, faceless, matte, portrait, save, tree

KEY = bytes(range(32))
Make = Callable[..., Anonymizer]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = Dataset.at(tmp_path / "out")
    made.create()
    return made


@pytest.fixture
def make(
    tmp_path: Path, dataset: Dataset, detectors: dict[str, Detector], landmarkers: dict[str, Landmarker]
) -> Make:
    """A worker's function for the folders `photos` and `mattes`; `landmark` overrules the landmarker."""

    def made(key: bytes = KEY, landmark: Landmarker | None = None, **settings: Any) -> Anonymizer:
        config = AnonymizeConfig(**settings)
        job = Job(
            tmp_path / "photos", tmp_path / "mattes", dataset, key, {}, {"centerface": "c0ffee"}, config
        )
        return Anonymizer(job, Models(detectors, {"mediapipe": landmark} if landmark else landmarkers))

    return made


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    save(folder / "face.png", portrait())
    save(folder / "face.jpg", portrait(), quality=85)
    save(folder / "cup.png", faceless())
    return folder


@pytest.fixture
def mattes(tmp_path: Path) -> Path:
    folder = tmp_path / "mattes"
    folder.mkdir()
    (folder / "face.png").write_bytes(encode_matte(matte()))
    return folder


def source(path: str, matte: str | None = None) -> Source:
    return Source(path=path, size=1, mtime_ns=1, matte=matte)


def nothing_public(dataset: Dataset) -> bool:
    return not tree(dataset.public)


def public(dataset: Dataset, record: Record, folder: str) -> UInt8Array:
    (path,) = (path for path in record.files if f"/{folder}/" in path)
    return np.asarray(Image.open(dataset.public / path))


@pytest.mark.usefixtures("photos")
def test_a_png_is_published_with_its_facemask(make: Make, dataset: Dataset) -> None:
    record, seconds = make()(source("face.png"))
    assert (record.status, record.reason, record.detail) == (Status.ANONYMIZED, None, "")
    assert (record.width, record.height, record.transition) == (300, 300, "estimated")
    assert [face.how for face in record.faces] == ["landmarks"]
    assert all(check.passed for check in record.checks)
    assert {p: hashlib.sha256(data).hexdigest() for p, data in tree(dataset.public).items()} == record.files
    assert set(record.files) == {f"train/{f}/{record.id}.png" for f in ("blurred_image", "facemask")}
    mask = public(dataset, record, "facemask")
    assert set(np.unique(mask)) == {0, 255}
    changed = (public(dataset, record, "blurred_image") != portrait()).any(axis=2)
    assert not (changed & (mask == 0)).any()
    assert changed[mask > 0].mean() > 0.9
    assert set(seconds) == {"load", "detect", "mask", "blur", "encode", "verify", "sheet", "write"}


@pytest.mark.usefixtures("photos", "mattes")
def test_the_matte_is_published_and_its_transition_area_is_left_alone(make: Make, dataset: Dataset) -> None:
    record, _ = make()(source("face.png", "face.png"))
    assert (record.status, record.transition) == (Status.ANONYMIZED, "matte")
    stored = public(dataset, record, "mask")
    assert (stored == np.rint(matte() * 255)).all()
    soft = (stored > 5) & (stored < 250)
    changed = (public(dataset, record, "blurred_image") != portrait()).any(axis=2)
    assert soft.any()
    assert not (changed & soft).any()
    assert not ((public(dataset, record, "facemask") > 0) & soft).any()


@pytest.mark.usefixtures("mattes")
def test_the_alpha_of_a_cut_out_is_its_matte(make: Make, dataset: Dataset, photos: Path) -> None:
    alpha = np.rint(matte() * 255).astype(np.uint8)
    save(photos / "cut.png", np.dstack([portrait(), alpha]))
    record, _ = make()(source("cut.png"))
    assert (record.status, record.transition) == (Status.ANONYMIZED, "matte")
    assert (public(dataset, record, "mask") == alpha).all()
    image = public(dataset, record, "blurred_image")
    assert image.shape == (300, 300, 3)
    assert not image[alpha == 0].any()


def test_a_jpeg_is_published_upright_and_bare(make: Make, dataset: Dataset, photos: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(photos / "turned.jpg", np.ascontiguousarray(np.rot90(portrait())), quality=85, exif=exif)
    record, _ = make()(source("turned.jpg"))
    assert record.status is Status.ANONYMIZED
    (path,) = (path for path in record.files if path.endswith(".jpg"))
    with Image.open(dataset.public / path) as image:
        assert "exif" not in image.info
        away = cv2.dilate(public(dataset, record, "facemask"), np.ones((33, 33))) == 0
        assert np.abs(np.asarray(image, np.int16) - portrait())[away].mean() < 3
    assert all(check.passed for check in record.checks)


@pytest.mark.usefixtures("photos")
def test_container_png_makes_every_picture_lossless(make: Make, dataset: Dataset) -> None:
    record, _ = make(container="png")(source("face.jpg"))
    (path,) = (path for path in record.files if "blurred_image" in path)
    assert path.endswith(".png")
    assert next(c for c in record.checks if c.name == "outside_identical").passed
    assert (dataset.public / path).is_file()


@pytest.mark.usefixtures("mattes")
def test_ids_are_keyed_by_the_secret_and_the_content(make: Make, photos: Path) -> None:
    save(photos / "other.png", portrait(9))
    first = make()(source("face.png"))[0].id
    assert make()(source("face.png"))[0].id == first
    others = [
        make(key=bytes(32))(source("face.png")),
        make()(source("face.png", "face.png")),
        make()(source("other.png")),
    ]
    assert len({first, *(outcome.record.id for outcome in others)}) == 4
    content = hashlib.sha256((photos / "face.png").read_bytes()).digest() + hashlib.sha256(b"").digest()
    assert first == "p_" + hmac.digest(KEY, content, "sha256").hex()[:16]


@pytest.mark.usefixtures("photos")
def test_no_face_waits_for_a_person(make: Make, dataset: Dataset) -> None:
    record, _ = make()(source("cup.png"))
    assert (record.status, record.reason) == (Status.NEEDS_REVIEW, Reason.NO_FACE)
    assert record.files == {}
    assert nothing_public(dataset)
    assert [file.stem for file in dataset.sheets.iterdir()] == [record.id]


@pytest.mark.usefixtures("photos")
def test_no_face_is_published_on_the_operators_word_only(make: Make, dataset: Dataset) -> None:
    record, _ = make(accept_no_face=True)(source("cup.png"))
    assert (record.status, record.reason) == (Status.ANONYMIZED, Reason.ACCEPTED_NO_FACE)
    assert (public(dataset, record, "blurred_image") == faceless()).all()
    assert not public(dataset, record, "facemask").any()


@pytest.mark.parametrize("landmark", [False, True], ids=["ellipse", "landmarks"])
@pytest.mark.usefixtures("photos")
def test_a_bystanders_face_alone_waits(make: Make, dataset: Dataset, mattes: Path, landmark: bool) -> None:
    """The only face lies where alpha is 0; the subject, in the corner, has none that was found."""
    corner = np.zeros((300, 300), np.float32)
    corner[270:, :30] = 1
    (mattes / "face.png").write_bytes(encode_matte(corner))
    record, _ = make(landmark=None if landmark else Blind())(source("face.png", "face.png"))
    assert {face.how for face in record.faces} == {"landmarks" if landmark else "ellipse"}
    assert (record.status, record.reason) == (Status.NEEDS_REVIEW, Reason.NO_FACE)
    assert "on the subject" in record.detail
    assert nothing_public(dataset)


class Blind:
    """A landmarker that sees no face."""

    eyes = (0, 1)

    def __call__(self, crop: UInt8Array) -> list[Points]:  # noqa: ARG002
        return []

    def outline(self, looks: list[Points]) -> Outline:
        raise AssertionError(looks)


@pytest.mark.usefixtures("photos")
def test_a_face_without_landmarks_waits_even_when_faceless_ones_are_accepted(
    make: Make, dataset: Dataset
) -> None:
    record, _ = make(landmark=Blind(), accept_no_face=True)(source("face.png"))
    assert (record.status, record.reason) == (Status.NEEDS_REVIEW, Reason.NO_LANDMARKS)
    assert nothing_public(dataset)
    assert "(" in record.detail


def keeps_the_face(picture: Any, result: UInt8Array, mask: BoolArray, container: Any) -> tuple[bytes, str]:
    return encode_picture(picture, result, np.zeros_like(mask), container)


def changes_all(picture: Any, result: UInt8Array, mask: BoolArray, container: Any) -> tuple[bytes, str]:  # noqa: ARG001
    return encode_png(result // 2), ".png"


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("encoder", "reason"),
    [
        (keeps_the_face, Reason.FACE_REMAINS),
        (changes_all, Reason.NOT_AS_WRITTEN),
    ],
)
def test_what_the_written_bytes_do_not_prove_waits(
    make: Make,
    dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    encoder: Callable[..., tuple[bytes, str]],
    reason: Reason,
) -> None:
    monkeypatch.setattr(candidate, "encode_picture", encoder)
    record, _ = make()(source("face.png"))
    assert (record.status, record.reason) == (Status.NEEDS_REVIEW, reason)
    assert nothing_public(dataset)
    assert not all(check.passed for check in record.checks)


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("tries", [1, 2, 3])
def test_the_blur_grows_until_no_detail_is_left(
    make: Make, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    verdicts = iter([False] * (tries - 1) + [True])

    def judged(*_: object, **__: object) -> tuple[Check, ...]:
        return (Check(name="detail_left", passed=next(verdicts), value=1, limit=1),)

    plain = make()(source("face.png"))[0].faces[0].sigma
    monkeypatch.setattr(candidate, "verify", judged)
    record, _ = make()(source("face.png"))
    assert record.status is Status.ANONYMIZED
    assert plain is not None
    assert record.faces[0].sigma == pytest.approx(plain * STRONGER[tries - 1], abs=0.02)
    assert next(verdicts, None) is None


def bad_files(folder: Path) -> dict[str, tuple[Reason, str]]:
    """Writes bad pictures; name -> the reason and a word of the sentence."""
    picture = io.BytesIO()
    Image.fromarray(portrait()).save(picture, "JPEG")
    (folder / "nothing.jpg").write_bytes(b"")
    (folder / "cut.jpg").write_bytes(picture.getvalue()[:2000])
    (folder / "text.jpg").write_text("This is not a picture.\n" * 50)
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "dead.jpg").symlink_to("gone.jpg")
    (folder / "folder.jpg").mkdir()
    return {
        "nothing.jpg": (Reason.UNREADABLE, "empty"),
        "cut.jpg": (Reason.UNREADABLE, "truncated"),
        "text.jpg": (Reason.UNREADABLE, "none of JPEG"),
        "bomb.png": (Reason.TOO_LARGE, "30000 x 30000"),
        "loop.jpg": (Reason.UNREADABLE, "symbolic link"),
        "dead.jpg": (Reason.UNREADABLE, "No such file"),
        "folder.jpg": (Reason.UNREADABLE, "directory"),
        "gone.jpg": (Reason.UNREADABLE, "No such file"),
    }


def test_a_bad_file_is_a_row_with_one_sentence(make: Make, dataset: Dataset, photos: Path) -> None:
    expected = bad_files(photos)
    worker = make()
    for name, (reason, word) in expected.items():
        record, _ = worker(source(name))
        assert (record.status, record.reason, record.id) == (Status.FAILED, reason, None), name
        assert record.detail.startswith(name), name
        assert word in record.detail, record.detail
        assert "\n" not in record.detail
    assert nothing_public(dataset)
    assert not tree(dataset.sheets)


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(("limit", "word"), [("max_pixels", "89,999"), ("max_bytes", "MiB")])
def test_the_limits_are_those_of_the_configuration(make: Make, limit: str, word: str) -> None:
    record, _ = make(**{limit: 89_999})(source("face.png"))
    assert (record.status, record.reason) == (Status.FAILED, Reason.TOO_LARGE)
    assert word in record.detail


def test_a_matte_that_does_not_fit_is_a_row(make: Make, dataset: Dataset, photos: Path, mattes: Path) -> None:
    (mattes / "small.png").write_bytes(encode_matte(matte(200)))
    save(mattes / "colour.png", portrait())
    (mattes / "text.png").write_text("text")
    expected = {
        "small.png": (Reason.MATTE_MISMATCH, "200 x 200 but its picture is 300 x 300"),
        "colour.png": (Reason.MATTE_MISMATCH, "colour picture"),
        "text.png": (Reason.UNREADABLE, "text.png is not an image"),
        "gone.png": (Reason.UNREADABLE, "gone.png cannot be read"),
    }
    for name, (reason, words) in expected.items():
        record, _ = make()(source("face.png", name))
        assert (record.status, record.reason) == (Status.FAILED, reason), record.detail
        assert words in record.detail
    assert photos.is_dir()
    assert nothing_public(dataset)


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("missing", ["blurred_image", "facemask"])
def test_a_disk_that_takes_only_some_files_gets_none(make: Make, dataset: Dataset, missing: str) -> None:
    (dataset.train / missing).rmdir()
    with pytest.raises(StorageError):
        make()(source("face.png"))
    assert nothing_public(dataset)


@pytest.mark.usefixtures("photos")
def test_files_of_a_picture_with_the_same_bytes_stay(
    make: Make, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()(source("face.png"))
    before = tree(dataset.public)
    write = candidate.folders.write_atomic

    def full(path: Path, data: bytes, **options: Any) -> None:
        if path.parent.name == "blurred_image":
            raise StorageError("the disk is full")
        write(path, data, **options)

    monkeypatch.setattr(candidate.folders, "write_atomic", full)
    with pytest.raises(StorageError):
        make()(source("face.png"))
    assert tree(dataset.public) == before


@pytest.mark.usefixtures("photos")
def test_a_picture_that_trips_the_program_is_a_row_and_the_log_says_where(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trip(*_: object) -> None:
        raise ZeroDivisionError("of a kind")

    monkeypatch.setattr(stage, "mask", trip)
    record, _ = make()(source("face.png"))
    assert (record.status, record.reason) == (Status.FAILED, Reason.WORKER_LOST)
    assert "ZeroDivisionError: of a kind" in record.detail
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("error", [MemoryError, StorageError, KeyboardInterrupt])
def test_what_concerns_the_whole_run_is_raised(
    make: Make, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def trip(*_: object) -> None:
        raise error

    monkeypatch.setattr(stage, "mask", trip)
    with pytest.raises(error):
        make()(source("face.png"))


def test_a_job_can_be_sent_to_a_worker(make: Make) -> None:
    job = make().job
    assert pickle.loads(pickle.dumps(job)) == job


@given(
    method=st.sampled_from(["hardened", "gaussian", "mosaic", "fill"]),
    strength=st.sampled_from([0.05, 0.15, 2.0]),
    accept=st.booleans(),
    png=st.booleans(),
)
def test_the_digest_tells_configurations_apart(method: Any, strength: float, accept: bool, png: bool) -> None:
    config = AnonymizeConfig(
        blur=BlurConfig(method=method, strength=strength),
        accept_no_face=accept,
        container="png" if png else "source",
    )
    again = AnonymizeConfig.model_validate(json.loads(config.model_dump_json()))
    assert again.digest == config.digest
    assert len(config.digest) == 16
    assert (config.digest == AnonymizeConfig().digest) == (config == AnonymizeConfig())
