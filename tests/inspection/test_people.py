"""Who is looked for: labels, main faces, and samples of many."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from p3m_data.errors import UsageError
from p3m_data.inspection.originals import Originals
from p3m_data.inspection.people import Subject, identities, main_face, subjects, too_few
from p3m_data.pipeline.ledger import Ledger
from p3m_data.storage.layouts import Layout, Sample, recognise
from p3m_data.types import Face, Record
from tests.inspection.planting import good_dataset
from tests.storage.test_layouts import touch


def face(width: float, how: str = "landmarks", sigma: float | None = 5.0) -> Face:
    box = (10.0, 10.0, 10.0 + width, 70.0)
    return Face(box=box, score=1, detectors=("a",), how=how, sigma=sigma)  # type: ignore[arg-type]


def record(*faces: Face) -> Record:
    return Record(source="private name.jpg", faces=faces)


def plain(root: Path, names: str) -> tuple[Layout, Originals]:
    """A dataset of P3M-10k with a picture for each letter, and its originals."""
    folders = [("train/blurred_image", "jpg"), ("train/facemask", "png")]
    touch(root / "set", *(f"{folder}/{name}.{end}" for name in names for folder, end in folders))
    originals = touch(root / "originals", *(f"{name}.jpg" for name in names))
    layout = recognise(root / "set")
    return layout, Originals.of(layout, originals, None)


def chosen(
    layout: Layout,
    originals: Originals,
    people: Mapping[str, str],
    why_not: list[str] | None = None,
    probes: int = 100,
    strangers: int = 100,
    seed: int = 1,
) -> list[Subject]:
    reasons = [] if why_not is None else why_not
    found = subjects(layout, originals, people, reasons, probes=probes, strangers=strangers, seed=seed)
    return list(found)


def at(name: str) -> str:
    return f"train/blurred_image/{name}.jpg"


class TestMainFace:
    def test_it_is_the_widest_that_was_masked(self) -> None:
        unmasked = face(200, "none", None)
        assert main_face(record(face(30, sigma=3), face(100, "ellipse", 9), unmasked)) == (face(100).box, 9)

    @pytest.mark.parametrize(("other", "clear"), [(59.0, True), (60.0, True), (61.0, False), (100.0, False)])
    def test_of_two_alike_nobody_knows_whose_the_label_is(self, other: float, clear: bool) -> None:
        for faces in ((face(100), face(other)), (face(other), face(100))):
            assert (main_face(record(*faces)) is not None) == clear

    def test_there_may_be_none(self) -> None:
        assert main_face(record()) is None
        assert main_face(record(face(50, "none", None))) is None

    def test_nobody_may_know_its_blur(self) -> None:
        assert main_face(record(face(50, sigma=None))) == (face(50).box, None)


class TestIdentities:
    def test_labels_lead_from_sources_to_public_names(self, tmp_path: Path) -> None:
        dataset = good_dataset(tmp_path)
        layout = recognise(dataset.public)
        with Ledger(dataset.ledger_path) as ledger:
            ids = {record.source: record.id for record in ledger.records()}
        first, second, third, *_ = sorted(ids)
        labels = tmp_path / "SOURCES.csv"
        labels.write_text(
            "file,kind,identity,notes\n"
            f"images/{first},image,us:a,x\nmattes/{Path(first).stem}.png,matte,,\n"
            f"images/{second},image,us:a;us:b,\nimages/{third},image,,\nimages/elsewhere.jpg,image,us:c,\n"
        )
        with Originals.of(layout, None, None) as originals:
            found = identities(labels, layout, originals)
        assert found == {ids[first]: "us:a", ids[second]: "us:a;us:b"}

    def test_without_a_ledger_names_are_paths(self, tmp_path: Path) -> None:
        layout, originals = plain(tmp_path, "ab")
        labels = tmp_path / "labels.csv"
        labels.write_text("name;identity\na;Ann\n")
        assert identities(labels, layout, originals) == {at("a"): "Ann"}

    def test_labels_without_identities_say_nothing(self, tmp_path: Path) -> None:
        layout, originals = plain(tmp_path, "a")
        labels = tmp_path / "labels.csv"
        labels.write_text("file,gender\na.jpg,f\n")
        assert identities(labels, layout, originals) == {}

    def test_labels_that_contradict_each_other_are_refused(self, tmp_path: Path) -> None:
        layout, originals = plain(tmp_path, "a")
        labels = tmp_path / "labels.csv"
        labels.write_text("file,identity\na.jpg,Ann\na.png,Bob\ntrain/blurred_image/a.jpg,Bob\n")
        with pytest.raises(UsageError, match="identity differs"):
            identities(labels, layout, originals)


class TestSubjects:
    def test_people_come_first_and_strangers_after(self, tmp_path: Path) -> None:
        layout, originals = plain(tmp_path, "abcdef")
        people = {at("b"): "B", at("d"): "B", at("c"): "once", at("e"): ""}
        found = chosen(layout, originals, people)
        assert [(s.where, s.person) for s in found[:2]] == [(at("b"), "B"), (at("d"), "B")]
        assert [(s.where, s.person) for s in found[2:]] == [
            (at("a"), None), (at("c"), "once"), (at("e"), None), (at("f"), None),
        ]  # fmt: skip
        first = found[0]
        assert (first.box, first.sigma) == (None, None)
        assert first.original == tmp_path / "originals" / "b.jpg"
        assert first.published == tmp_path / "set" / at("b")
        assert first.facemask == tmp_path / "set" / "train" / "facemask" / "b.png"

    def test_the_ledger_gives_boxes_and_sigmas(self, tmp_path: Path) -> None:
        dataset = good_dataset(tmp_path)
        layout = recognise(dataset.public)
        with Originals.of(layout, None, None) as originals:
            found = chosen(layout, originals, {})
            for subject, sample in zip(found, layout.samples, strict=True):
                known = originals.record(sample)
                assert known is not None
                main = known.faces[0]
                assert (subject.where, subject.box, subject.sigma) == (sample.name, main.box, main.sigma)

    def test_why_pictures_are_left_out_is_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        layout, originals = plain(tmp_path, "abcdefg")
        for name in "ab":
            (tmp_path / "originals" / f"{name}.jpg").unlink()
        faces = {"c": (face(50), face(49)), "d": (), "e": (face(50, sigma=7),)}
        monkeypatch.setattr(
            originals, "record", lambda sample: record(*faces[sample.name]) if sample.name in faces else None
        )
        why_not: list[str] = []
        found = chosen(layout, originals, {at(n): "A, B" if n == "f" else "A" for n in "abcdefg"}, why_not)
        assert why_not == [
            "1 picture with several people",
            "2 pictures without a main face",
            "2 pictures without an original",
        ]
        assert [(s.where, s.sigma) for s in found] == [(at("e"), 7), (at("g"), None)]

    @pytest.mark.parametrize("sign", [";", ",", "|"])
    def test_several_people_in_one_picture(self, tmp_path: Path, sign: str) -> None:
        layout, originals = plain(tmp_path, "ab")
        why_not: list[str] = []
        found = chosen(layout, originals, {at("a"): f"A{sign}B"}, why_not)
        assert [s.where for s in found] == [at("b")]
        assert why_not == ["1 picture with several people"]

    def test_what_should_not_be_blurred_is_not_looked_at(self, tmp_path: Path) -> None:
        layout, originals = plain(tmp_path, "ab")
        clear, bare = (sample.files for sample in layout.samples)
        samples = (
            Sample("", "a", clear, False),
            Sample("train", "b", {"image": bare["image"]}, True),
        )
        other = Layout(layout.kind, layout.root, samples, (), None)
        why_not: list[str] = []
        assert chosen(other, originals, {}, why_not) == []
        assert why_not == []

    def test_of_many_a_fixed_sample_is_drawn(self, tmp_path: Path) -> None:
        letters = "abcdefghijklmnopqrst"
        layout, originals = plain(tmp_path, letters)
        people = {at(letter): "AB"[i % 2] for i, letter in enumerate(letters[:12])}
        why_not: list[str] = []
        first, again, other = (
            chosen(layout, originals, people, why_not, probes=6, strangers=3, seed=seed) for seed in (1, 1, 2)
        )
        assert first == again != other
        assert why_not[:2] == ["6 of 12 pictures were drawn", "3 of 8 pictures were drawn"]
        assert len({s.where for s in first}) == 9
        assert all(s.person for s in first[:6])
        assert not any(s.person for s in first[6:])
        assert (
            chosen(layout, originals, people, probes=12, strangers=0)
            == chosen(layout, originals, people)[:12]
        )


def named(*people: str | None) -> list[Subject]:
    return [Subject(str(i), p, Path(), Path(), Path(), None, None) for i, p in enumerate(people)]


@pytest.mark.parametrize(
    ("people", "said"),
    [
        ((), "no picture with"),
        ((None, None), "has a label that says who it shows"),
        (("a", "a", "b", None), "fewer than two people have two pictures"),
        (("a", "b", "c"), "fewer than two people have two pictures"),
        (("a", "a", "b", "b"), None),
    ],
)
def test_too_few_to_look_for(people: tuple[str | None, ...], said: str | None) -> None:
    found = too_few(named(*people))
    assert found is None if said is None else found is not None and said in found
