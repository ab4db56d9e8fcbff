"""Re-identification: its figures on made-up embeddings, its workers on one face, and a small real dataset."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from p3m_data.arrays import FloatArray
from p3m_data.errors import MissingExtra
from p3m_data.faces.detectors import load_detector
from p3m_data.faces.embedding import CHIP, LENGTH, Embeddings
from p3m_data.faces.obfuscation import obfuscate
from p3m_data.faces.proposals import box_iou
from p3m_data.inspection.attacker import ALONE, ATTACKS, FILLED, WHOLE, AttackConfig
from p3m_data.inspection.duplicates import DuplicateConfig
from p3m_data.inspection.findings import Finding
from p3m_data.inspection.gallery import (
    Files,
    Gallery,
    Known,
    Look,
    excluded,
    find_files,
    largest_face,
)
from p3m_data.inspection.originals import Originals
from p3m_data.inspection.people import Subject, identities
from p3m_data.inspection.recognition import Trial
from p3m_data.inspection.reidentify import (
    ABOUT,
    BLURRED_GALLERY,
    FEW_PEOPLE,
    Attack,
    Reidentified,
    ReidentifyConfig,
    measure,
    reidentify,
)
from p3m_data.pipeline.dataset import Dataset
from p3m_data.storage import weights
from p3m_data.storage.layouts import recognise
from p3m_data.types import Box
from tests.faces.test_embedding import attackers_files
from tests.inspection.planting import good_dataset
from tests.runs import dataset, faceless, p3mdata, portrait, records, save

FACE: Box = (117, 64, 215, 196)
"""In `portrait()`, measured by hand."""
PEOPLE = ("Ariel_Sharon", "Colin_Powell", "George_W_Bush", "Tony_Blair")
PHOTOS = 3


def crowd(people: int, photos: int, strangers: int = 0) -> Trial:
    named = [f"person {i // photos}" for i in range(people * photos)]
    persons = (*named, *(f"stranger {i}" for i in range(strangers)))
    return Trial(persons, np.eye(len(persons), dtype=bool))


def findings(trial: Trial, leaks: Mapping[str, float], seed: int) -> list[Finding]:
    """What is found when each view of each attempt tells as much of the person as `leaks` says (else nothing)."""
    random = np.random.default_rng(seed)
    centres = {person: random.normal(size=LENGTH) for person in dict.fromkeys(trial.persons)}
    clear = np.array([centres[person] for person in trial.persons])
    gallery = clear + 0.5 * random.normal(size=clear.shape)
    attempts: dict[str, Embeddings] = {}
    for view in (WHOLE, ALONE):
        for name in (*ATTACKS, FILLED):
            noise = random.normal(size=(len(trial.probes), LENGTH))
            attempts[f"{view}/{name}"] = leaks.get(f"{view}/{name}", 0.0) * clear[trial.probes] + noise
    figures, found = measure(trial, gallery, attempts)
    json.dumps(figures, allow_nan=False)
    return found


class TestMeasure:
    @pytest.mark.parametrize("people", [2, 5, 12])
    def test_nothing_is_found_where_nothing_leaks(self, people: int) -> None:
        # 5 % of such audits may be wrong; a bootstrap alone is so in 60 % for two people
        alarms = [bool(findings(crowd(people, 4, 5), {}, seed)) for seed in range(10, 15)]
        assert sum(alarms) <= 1

    def test_surroundings_that_tell_as_much_without_the_face_are_no_fault(self) -> None:
        leaks = {f"{WHOLE}/{name}": 0.5 for name in (*ATTACKS, FILLED)}
        assert sum(bool(findings(crowd(6, 4, 5), leaks, seed)) for seed in range(4)) <= 1

    @pytest.mark.parametrize("name", list(ATTACKS))
    def test_a_masked_area_that_tells_who_it_is(self, name: str) -> None:
        found = findings(crowd(4, 3), {f"{ALONE}/{name}": 1.0}, 1)
        (one,) = [f for f in found if "masked areas alone" in f.said]
        assert (one.check, one.where, one.level) == ("reidentification", "", "fault")
        assert ATTACKS[name] in one.said
        assert one.value is not None
        assert one.limit is not None
        assert one.value > one.limit > 0.2

    def test_a_face_that_tells_more_than_its_control(self) -> None:
        leaks = {f"{WHOLE}/{name}": 0.15 for name in (*ATTACKS, FILLED)} | {f"{WHOLE}/wiener": 1.0}
        found = findings(crowd(FEW_PEOPLE + 4, 3), leaks, 1)
        (one,) = [f for f in found if ATTACKS["wiener"] in f.said]
        assert "more than when the mask is one colour" in one.said
        assert one.value is not None
        assert 0.3 < one.value <= 1

    def test_few_people_cannot_differ_from_their_control_for_sure(self) -> None:
        leaks = {f"{WHOLE}/published": 1.0}
        assert findings(crowd(FEW_PEOPLE - 1, 3), leaks, 1) == []
        assert findings(crowd(FEW_PEOPLE, 3), leaks, 1)

    def test_blurred_faces_that_are_alike_in_a_way_of_their_own(self) -> None:
        # as if a blur turned each person's face into one pattern: no unblurred photo is like it
        trial = crowd(FEW_PEOPLE + 2, 3)
        random = np.random.default_rng(0)
        attempts = {
            f"{view}/{name}": random.normal(size=(len(trial.probes), LENGTH))
            for view in (WHOLE, ALONE)
            for name in (*ATTACKS, FILLED)
        }
        patterns = np.repeat(random.normal(size=(FEW_PEOPLE + 2, LENGTH)), 3, axis=0)
        attempts[f"{ALONE}/published"] += 2 * patterns
        figures, found = measure(trial, random.normal(size=(len(trial.persons), LENGTH)), attempts)
        assert [f.said.partition("(among")[1] for f in found] == ["(among"]
        alone = figures[ALONE]
        assert isinstance(alone, dict)
        assert alone[BLURRED_GALLERY]["rank_1"][0] == 1  # type: ignore[index,call-overload]

    def test_figures_of_what_was_tried(self) -> None:
        trial = crowd(3, 3, 2)
        gallery = np.eye(LENGTH)[[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4]]
        attempts = {
            f"{view}/{name}": gallery[:9]
            for view in (WHOLE, ALONE)
            for name in ("published", "mean_face", FILLED)
        }
        figures, _ = measure(trial, gallery, attempts)
        assert (figures["probes"], figures["people"], figures["gallery"]) == (9, 3, 11)
        for view in (WHOLE, ALONE):
            told = figures[view]
            assert isinstance(told, dict)
            blurred = {BLURRED_GALLERY, f"{BLURRED_GALLERY}_{FILLED}"}
            assert told.keys() == {"published", "mean_face", FILLED} | blurred
            assert "rank_1_above_control" not in told[FILLED]  # type: ignore[operator]
            assert told["published"]["rank_1"] == [1, 1, 1]  # type: ignore[index,call-overload]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_photo_is_shown_to_its_copies_or_near_duplicates(data: st.DataObject) -> None:
    words = st.integers(0, 2**64 - 1)
    bits = st.lists(st.integers(0, 63), max_size=12)
    hashed: list[tuple[int, int]] = [(data.draw(words), data.draw(words))]
    for _ in range(data.draw(st.integers(0, 7))):
        # copies and changed copies of those before
        phash, dhash = data.draw(st.sampled_from(hashed))
        for bit in data.draw(bits):
            phash ^= 1 << bit
        for bit in data.draw(bits):
            dhash ^= 1 << bit
        hashed.append((phash, dhash))
    limits = DuplicateConfig()
    near = [
        [
            (a[0] ^ b[0]).bit_count() <= limits.most_phash and (a[1] ^ b[1]).bit_count() <= limits.most_dhash
            for b in hashed
        ]
        for a in hashed
    ]
    np.testing.assert_array_equal(excluded(hashed), near)


def test_a_gallery_without_some_pictures() -> None:
    trial = crowd(3, 2, 2)
    subjects = tuple(Subject(f"p{i}", None, Path(), Path(), Path(), None, None) for i in range(8))
    gallery = Gallery(
        subjects, trial, np.arange(8 * LENGTH, dtype=float).reshape(8, LENGTH), np.zeros((1, 1, 3))
    )
    assert [s.where for s in gallery.probes] == [f"p{i}" for i in range(6)]
    left = gallery.without({"p1", "p6"})
    assert left is not None
    assert [s.where for s in left.subjects] == ["p0", "p2", "p3", "p4", "p5", "p7"]
    assert [s.where for s in left.probes] == ["p2", "p3", "p4", "p5"]
    np.testing.assert_array_equal(left.embeddings, gallery.embeddings[[0, 2, 3, 4, 5, 7]])
    assert left.trial.persons == tuple(trial.persons[i] for i in (0, 2, 3, 4, 5, 7))
    assert gallery.without({"p0", "p2"}) is None
    assert gallery.without({s.where for s in subjects}) is None


def test_a_gallery_in_which_nobody_can_be_mistaken() -> None:
    # every photo of the one is a near-duplicate of every photo of the other
    excluded = np.eye(4, dtype=bool)
    excluded[:2, 2:] = excluded[2:, :2] = True
    subjects = tuple(Subject(f"p{i}", None, Path(), Path(), Path(), None, None) for i in range(4))
    gallery = Gallery(
        subjects, Trial(("a", "a", "b", "b"), excluded), np.zeros((4, LENGTH)), np.zeros((1, 1, 3))
    )
    assert gallery.without(()) is None


@pytest.fixture(scope="module")
def files() -> Files:
    attackers_files()
    weights.ensure(["centerface"])
    return find_files()


def placed(folder: Path, sigma: float | None = 8.0) -> Subject:
    """A picture with its blurred version and its mask."""
    mask = np.zeros((300, 300), np.uint8)
    cv2.ellipse(mask, (166, 130), (46, 62), 0, 0, 360, 255, -1)
    blurred = obfuscate(portrait(), mask > 0, 8.0, "hardened")
    paths = (
        save(folder / "secret name.png", portrait()),
        save(folder / "p.png", blurred),
        save(folder / "m.png", mask),
    )
    return Subject("p_1", "Ann", *paths, FACE, sigma)


class TestLook:
    def test_it_embeds_the_face_that_the_ledger_knows_or_that_it_finds(
        self, files: Files, tmp_path: Path
    ) -> None:
        look = Look(files)()
        subject = placed(tmp_path)
        told, found = look(subject), look(subject._replace(box=None))
        assert isinstance(told, Known)
        assert isinstance(found, Known)
        assert told.box == FACE
        assert box_iou(np.array(found.box), FACE) > 0.5
        assert np.linalg.norm(told.embedding - found.embedding) < 0.4
        assert (told.chip.shape, told.embedding.shape) == ((CHIP, CHIP, 3), (LENGTH,))

    def test_why_there_is_nothing_to_see(self, files: Files, tmp_path: Path) -> None:
        look = Look(files)()
        subject = placed(tmp_path)._replace(box=None)
        save(subject.original, faceless())
        assert look(subject) == "no main face was found in its original"
        subject.original.write_bytes(b"no picture")
        assert look(subject) == "its original cannot be read"
        subject.original.unlink()
        assert look(subject) == "its original cannot be read"

    def test_the_widest_face_is_found_whatever_the_size(self, files: Files) -> None:
        detector = load_detector("centerface", files.detector)
        two = np.hstack([portrait(), cv2.resize(portrait(), (150, 150))[np.arange(300) % 150]])
        for scale in (1, 4):
            large = cv2.resize(two, None, fx=scale, fy=scale)
            found = largest_face(detector, large)
            assert found is not None
            assert box_iou(np.array(found) / scale, FACE) > 0.5
        assert largest_face(detector, faceless()) is None


class TestAttack:
    @pytest.fixture
    def setup(self, files: Files) -> Attack:
        mean: FloatArray = np.full((CHIP, CHIP, 3), 120, np.float32)
        return Attack(files, mean, AttackConfig(rounds=2))

    def test_each_view_of_each_attack_is_embedded(self, setup: Attack, tmp_path: Path) -> None:
        attack = setup()
        seen = attack(placed(tmp_path))
        assert isinstance(seen, dict)
        assert seen.keys() == {f"{view}/{name}" for view in (WHOLE, ALONE) for name in (*ATTACKS, FILLED)}
        assert {one.shape for one in seen.values()} == {(LENGTH,)}
        unknown = attack(placed(tmp_path, sigma=None))
        assert isinstance(unknown, dict)
        needing = {f"{view}/{name}" for view in (WHOLE, ALONE) for name in ("wiener", "richardson_lucy")}
        assert seen.keys() - unknown.keys() == needing

    @pytest.mark.parametrize("which", ["original", "published", "facemask"])
    def test_what_cannot_be_read_is_said_without_a_name(
        self, setup: Attack, tmp_path: Path, which: str
    ) -> None:
        attack = setup()
        subject = placed(tmp_path)
        file: Path = getattr(subject, which)
        content = file.read_bytes()
        for data in (b"", b"no picture", content[: len(content) // 2]):
            file.write_bytes(data)
            assert attack(subject) == "it, its facemask or its original cannot be read"
        file.unlink()
        assert attack(subject) == "it, its facemask or its original cannot be read"

    def test_sizes_must_agree(self, setup: Attack, tmp_path: Path) -> None:
        subject = placed(tmp_path)
        save(subject.original, portrait()[:200])
        assert setup()(subject) == "it has not the size of its original"


class TestWhyNot:
    def all_say(self, told: Reidentified, *parts: str) -> None:
        assert (told.findings, told.figures) == ([], {})
        assert [one.check for one in told.looked] == list(ABOUT)
        for one in told.looked:
            assert one.at == 0
            assert all(part in one.why_not for part in parts), one.why_not

    def test_without_labels(self, tmp_path: Path) -> None:
        layout = recognise(good_dataset(tmp_path).public)
        with Originals.of(layout, None, None) as originals:
            self.all_say(reidentify(layout, originals, {}), "--labels FILE")

    def test_without_originals(self, tmp_path: Path) -> None:
        layout = recognise(good_dataset(tmp_path).public)
        people = {sample.name: f"person {i % 2}" for i, sample in enumerate(layout.samples)}
        shutil.rmtree(tmp_path / "photos")
        with Originals.of(layout, None, None) as originals:
            self.all_say(reidentify(layout, originals, people), f"{len(people)} pictures without an original")

    def test_with_one_person(self, tmp_path: Path) -> None:
        layout = recognise(good_dataset(tmp_path).public)
        people = dict.fromkeys((sample.name for sample in layout.samples), "Ann")
        with Originals.of(layout, None, None) as originals:
            self.all_say(reidentify(layout, originals, people), "fewer than two people have two pictures")

    def test_without_dlib(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        layout = recognise(good_dataset(tmp_path).public)
        people = {sample.name: f"person {i % 2}" for i, sample in enumerate(layout.samples)}
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
        with (
            Originals.of(layout, None, None) as originals,
            pytest.raises(MissingExtra, match=r"p3mdata\[audit\]"),
        ):
            reidentify(layout, originals, people)


def test_a_config_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError):
        ReidentifyConfig(probes=1)


@pytest.fixture(scope="module")
def photographed(portraits: Path, tmp_path_factory: pytest.TempPathFactory, files: Files) -> Path:
    """A folder with `photos`, `labels.csv` and the dataset `out`: four people, three photos each."""
    assert files.embedding.is_file()
    folder = tmp_path_factory.mktemp("people")
    (folder / "photos").mkdir()
    with (portraits / "SOURCES.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    names = [f"lfw_{who}_{i:04}.jpg" for who in PEOPLE for i in range(1, PHOTOS + 1)]
    with (folder / "labels.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["file", "identity"])
        writer.writerows([r["file"], r["identity"]] for r in rows if Path(r["file"]).name in names)
    for name in names:
        shutil.copy(portraits / "images" / name, folder / "photos")
    run = p3mdata("anonymize", folder / "photos", "-o", dataset(folder / "out").public)
    assert run.returncode == 0, run.stderr
    return folder


def looked_for(folder: Path, photos: Path | None = None) -> tuple[Reidentified, list[tuple[int, int]]]:
    layout = recognise(folder / "out")
    steps: list[tuple[int, int]] = []
    with Originals.of(layout, photos, None) as originals:
        people = identities(folder / "labels.csv", layout, originals)
        told = reidentify(layout, originals, people, on_progress=lambda *step: steps.append(step))
    said = [*(f.model_dump_json() for f in told.findings), *(one.model_dump_json() for one in told.looked)]
    for private in ("lfw", *PEOPLE, str(folder), "labels"):
        assert not any(private in one for one in said)
        assert private not in json.dumps(told.figures)
    return told, steps


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to, dirs_exist_ok=True)
    return to


@pytest.mark.portraits
@pytest.mark.slow
class TestOnPeople:
    def test_blurred_people_are_not_recognised(self, photographed: Path) -> None:
        told, steps = looked_for(photographed)
        assert told.findings == []
        assert (told.figures["probes"], told.figures["people"]) == (12, 4)
        assert told.figures["unblurred"]["rank_1"] == [1, 1, 1]  # type: ignore[index,call-overload]
        assert [one.at for one in told.looked] == [12, 12]
        assert all(one.why_not.startswith("4 people are too few") for one in told.looked)
        assert steps == [(done, 24) for done in range(1, 25)]

    def test_people_who_were_left_unblurred_are(self, photographed: Path, tmp_path: Path) -> None:
        folder = copied(photographed, tmp_path)
        for source, record in records(Dataset.at(folder / "out")).items():
            (image,) = [path for path in record.files if "blurred_image" in path]
            shutil.copy(folder / "photos" / source, folder / "out" / image)
        told, _ = looked_for(folder, folder / "photos")
        assert {f.check for f in told.findings} == {"reidentification"}
        assert {f.level for f in told.findings} == {"fault"}
        assert any(ATTACKS["published"] in f.said for f in told.findings)
        for view in (WHOLE, ALONE):
            assert told.figures[view]["published"]["rank_1"] == [1, 1, 1]  # type: ignore[index,call-overload]
        assert told.figures["very_same_photo"]["published"][0] == 1  # type: ignore[index,call-overload]

    def test_damaged_files_of_a_foreign_dataset(self, photographed: Path, tmp_path: Path) -> None:
        folder = copied(photographed, tmp_path)
        photos = folder / "photos"
        rows = {Path(r["file"]).name: r["identity"] for r in csv.DictReader((folder / "labels.csv").open())}
        with (folder / "labels.csv").open("w") as lines:
            print("name,identity", file=lines)
            for source, record in records(Dataset.at(folder / "out")).items():
                (photos / source).rename(photos / f"{record.id}.jpg")
                print(f"{record.id},{rows[source]}", file=lines)
        shutil.rmtree(folder / "out.private")
        (folder / "out" / "manifest.jsonl").unlink()
        samples = recognise(folder / "out").samples
        first, second, third = samples[:3]
        (folder / "out" / first.files["image"]).write_bytes(b"no picture")
        save(folder / "out" / second.files["facemask"], faceless())
        (photos / f"{third.name}.jpg").write_bytes(b"")
        told, _ = looked_for(folder, photos)
        why_not = told.looked[0].why_not
        for sample in (first, second):
            assert f"{sample.files['image']}: it, its facemask or its original cannot be read" in why_not
        assert f"{third.files['image']}: its original cannot be read" in why_not
        assert "sigma of some blurs is not known" in why_not
        assert told.figures["gallery"] == 9
        assert told.looked[0].at == told.figures["probes"]
        tried = told.figures[ALONE]
        assert isinstance(tried, dict)
        assert {"wiener", "richardson_lucy"} & tried.keys() == set()
        assert "wiener_estimated" in tried
