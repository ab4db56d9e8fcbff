from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from p3m_data.inspection import listing
from p3m_data.inspection.listing import FEW, Sums, index_manifest, order_findings
from p3m_data.storage.layouts import recognise
from tests.inspection.planting import good_dataset
from tests.storage.test_layouts import touch


def drawn(count: int, seed: int = 0) -> list[str]:
    return [f"p_{number:016x}" for number in np.random.default_rng(seed).integers(0, 2**63, count).tolist()]


def sources(
    names: list[str], path: Callable[[int], str], time: Callable[[int], int]
) -> list[tuple[str, str, int]]:
    return [(name, path(index), time(index)) for index, name in enumerate(names)]


@pytest.mark.parametrize("seed", range(20))
def test_drawn_ids_tell_no_order(seed: int) -> None:
    names = drawn(300, seed)
    assert order_findings(names, sources(names, "{:04d}".format, int)) == []


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("count", [FEW, 200])
def test_ids_in_the_order_of_names_or_times_are_found(count: int, backwards: bool) -> None:
    names = sorted(drawn(count), reverse=backwards)
    by_name = order_findings(names, sources(names, "{:04d}".format, lambda _: 7))
    by_time = order_findings(names, sources(names, lambda _: "same", int))
    assert [("names" in f.said, "times" in f.said) for f in (*by_name, *by_time)] == [
        (True, False),
        (False, True),
    ]


def test_too_few_in_order_may_be_an_accident() -> None:
    names = sorted(drawn(FEW - 1))
    assert order_findings(names, sources(names, "{:04d}".format, int)) == []


def test_an_order_with_some_out_of_it_is_found() -> None:
    names = sorted(drawn(200))
    names[:40] = names[39::-1]
    assert len(order_findings(names, sources(names, "{:04d}".format, lambda _: 7))) == 1


def test_ids_that_are_counted_are_found() -> None:
    assert len(order_findings([f"p_{17 * number + 5:08x}" for number in range(12)], [])) == 1
    assert order_findings([f"p_{17 * number + 5:08x}" for number in range(2)], []) == []


def test_rows_are_found_again_where_the_index_says(tmp_path: Path) -> None:
    manifest = good_dataset(tmp_path).manifest
    rows, findings = index_manifest(manifest)
    data = manifest.read_bytes()
    assert findings == []
    assert len(rows) == 10
    assert all(name.encode() in data[begin : begin + length] for name, (begin, length) in rows.items())
    assert b"".join(data[begin : begin + length] for begin, length in rows.values()) == data


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "images/../../outside"])
def test_a_list_that_leads_outside_is_not_followed(path: str, tmp_path: Path) -> None:
    touch(tmp_path, "outside", "set/images/a.jpg", "set/masks/a.png")
    root = tmp_path / "set"
    empty = hashlib.sha256(b"").hexdigest()
    (root / "SHA256SUMS").write_text(f"{empty}  {path}\n{empty} *./images/a.jpg\n")
    sums = Sums.read(recognise(root))
    assert sums is not None
    assert list(sums.compare({"images/a.jpg": hashlib.sha256(b"").digest()})) == []
    (finding,) = sums.rest()
    assert "outside the dataset" in finding.said


def test_a_listed_file_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "mattes").mkdir()
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(b'x').hexdigest()}  README.md\n")

    def refuse(_file: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    sums = Sums.read(recognise(tmp_path))
    assert sums is not None
    monkeypatch.setattr(listing, "_sha256", refuse)
    assert [(f.where, f.said) for f in sums.rest()] == [
        ("README.md", "It cannot be read (Permission denied).")
    ]
