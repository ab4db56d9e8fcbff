from __future__ import annotations

from pathlib import Path

import pytest

from p3m_data.errors import UsageError
from p3m_data.inspection.originals import Originals
from p3m_data.pipeline.ledger import Ledger
from p3m_data.storage.layouts import recognise
from tests.inspection.planting import good_dataset
from tests.runs import KEY
from tests.storage.test_layouts import touch


def test_the_ledger_leads_to_the_sources(tmp_path: Path) -> None:
    dataset = good_dataset(tmp_path)
    layout = recognise(dataset.public)
    with Ledger(dataset.ledger_path) as ledger:
        wanted = {record.id: tmp_path / "photos" / record.source for record in ledger.records()}
    with Originals.of(layout, None, None) as originals:
        assert {sample.name: originals.path(sample) for sample in layout.samples} == wanted
        assert all(record and record.faces for record in map(originals.record, layout.samples))
        assert originals.key == bytes.fromhex(KEY)
        assert originals.mattes == tmp_path / "mattes"
        assert originals.why_not == ""


def test_photos_that_moved_are_named(tmp_path: Path) -> None:
    dataset = good_dataset(tmp_path)
    layout = recognise(dataset.public)
    moved = (tmp_path / "photos").rename(tmp_path / "moved")
    with Originals.of(layout, None, None) as originals:
        assert originals.path(layout.samples[0]) is None
        assert "--originals" in originals.why_not
    with Originals.of(layout, moved, dataset.private) as originals:
        found = originals.path(layout.samples[0])
        assert found is not None
        assert found.parent == moved
        found.unlink()
        assert originals.path(layout.samples[0]) is None


def test_a_named_private_folder_must_hold_a_ledger(tmp_path: Path) -> None:
    root = touch(tmp_path, "set/images/a.jpg", "set/masks/a.png") / "set"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no ledger"):
        Originals.of(recognise(root), None, tmp_path / "empty")


def test_no_secret_is_made_by_looking(tmp_path: Path) -> None:
    dataset = good_dataset(tmp_path)
    with Ledger(dataset.ledger_path) as ledger:
        ledger.execute("SELECT 1")
    dataset.key_path.unlink()
    with Originals.of(recognise(dataset.public), None, None) as originals:
        assert originals.key is None
    assert not dataset.key_path.exists()


class TestWithoutALedger:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return touch(tmp_path, "set/images/a.jpg", "set/images/b.jpg", "set/masks/a.png") / "set"

    def test_equal_names_are_taken(self, root: Path, tmp_path: Path) -> None:
        folder = touch(tmp_path / "o", "deep/a.png", "c.png", "c.jpg", "b.txt")
        layout = recognise(root)
        originals = Originals.of(layout, folder, None)
        assert [originals.path(sample) for sample in layout.samples] == [folder / "deep" / "a.png", None]
        assert [originals.record(sample) for sample in layout.samples] == [None, None]

    def test_two_of_one_name_are_refused(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="could both be"):
            Originals.of(recognise(root), touch(tmp_path / "o", "a.png", "x/a.jpg"), None)

    def test_a_folder_without_any_is_refused(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="is named like"):
            Originals.of(recognise(root), touch(tmp_path / "o", "z.png"), None)
        with pytest.raises(UsageError, match="is no folder"):
            Originals.of(recognise(root), tmp_path / "missing", None)

    def test_none_is_said(self, root: Path) -> None:
        layout = recognise(root)
        originals = Originals.of(layout, None, None)
        assert originals.why_not
        assert originals.path(layout.samples[0]) is None
