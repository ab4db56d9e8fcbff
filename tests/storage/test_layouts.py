from __future__ import annotations

import os
from pathlib import Path

import pytest

from p3m_data.errors import UsageError
from p3m_data.storage.layouts import Layout, Sample, recognise


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def told(layout: Layout) -> dict[tuple[str, str], set[str]]:
    return {(sample.split, sample.name): set(sample.files) for sample in layout.samples}


RELEASE_2021 = (
    "train/blurred_image/p_1.jpg",
    "train/mask/p_1.png",
    "V/P3M-500-P/blurred_image/p_2.jpg",
    "V/P3M-500-P/mask/p_2.png",
    "V/P3M-500-P/trimap/p_2.png",
    "V/P3M-500-NP/original_image/p_3.jpg",
    "V/P3M-500-NP/mask/p_3.png",
    "V/P3M-500-NP/trimap/p_3.png",
)


@pytest.mark.parametrize("above", ["validation/", ""])
def test_the_release_of_2021(above: str, tmp_path: Path) -> None:
    layout = recognise(touch(tmp_path, *(path.replace("V/", above) for path in RELEASE_2021)))
    assert layout.kind == "P3M-10k 2021"
    assert told(layout) == {
        ("train", "p_1"): {"image", "matte"},
        ("P3M-500-P", "p_2"): {"image", "matte", "trimap"},
        ("P3M-500-NP", "p_3"): {"image", "matte", "trimap"},
    }
    assert {sample.split: sample.blurred for sample in layout.samples} == {
        "train": True,
        "P3M-500-P": True,
        "P3M-500-NP": False,
    }
    assert layout.strays == layout.lone == layout.doubles == layout.casings == ()
    assert layout.manifest is None


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ("train/facemask", "validation/P3M-500-P/facemask"),
        ("facemask/train", "facemask/P3M-500-P"),
        ("facemask/train/facemask", "facemask/validation/P3M-500-P/facemask"),
    ],
)
def test_facemasks_of_an_archive_of_their_own(train: str, validation: str, tmp_path: Path) -> None:
    touch(tmp_path, *(path.replace("V/", "validation/") for path in RELEASE_2021))
    layout = recognise(touch(tmp_path, f"{train}/p_1.png", f"{validation}/p_2.png"))
    masks = {sample.name: sample.files.get("facemask") for sample in layout.samples}
    assert masks == {"p_1": f"{train}/p_1.png", "p_2": f"{validation}/p_2.png", "p_3": None}
    assert layout.strays == ()


def test_the_release_of_2024(tmp_path: Path) -> None:
    folders = {"blurred_image": "jpg", "mask": "png", "fg_blurred": "png", "bg": "jpg", "facemask": "png"}
    layout = recognise(
        touch(tmp_path, *(f"train/{folder}/p_1.{suffix}" for folder, suffix in folders.items()))
    )
    assert layout.kind == "P3M-10k 2024"
    assert told(layout) == {("train", "p_1"): {"image", "matte", "foreground", "background", "facemask"}}


@pytest.mark.parametrize("folder", ["mattes", "alphas", "masks"])
def test_plain_folders(folder: str, tmp_path: Path) -> None:
    layout = recognise(touch(tmp_path, "images/a.jpg", "images/b.png", f"{folder}/a.png", "trimaps/a.png"))
    assert layout.kind == "pairs"
    assert layout.samples == (
        Sample(
            "", "a", {"image": "images/a.jpg", "matte": f"{folder}/a.png", "trimap": "trimaps/a.png"}, False
        ),
        Sample("", "b", {"image": "images/b.png"}, False),
    )


def test_a_manifest_makes_it_ours_and_names_what_may_lie_there(tmp_path: Path) -> None:
    known = ("manifest.jsonl", "README.md", "croissant.json", "SHA256SUMS", "report.html", "report-2.html")
    strays = ("train/.hidden", "train/mask/x.txt", "train/mask/deep/y.png", "old/a.png", "notes.md")
    layout = recognise(touch(tmp_path, "train/blurred_image/p_1.jpg", "train/mask/p_1.png", *known, *strays))
    assert layout.kind == "p3mdata"
    assert layout.manifest == tmp_path / "manifest.jsonl"
    assert set(layout.strays) == set(strays)


def test_an_empty_folder_too_many_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/blurred_image/p_1.jpg", "train/mask/p_1.png")
    (tmp_path / "train" / "alice").mkdir()
    assert recognise(tmp_path).strays == ("train/alice/",)


def test_mates_without_a_picture_double_stems_and_case(tmp_path: Path) -> None:
    layout = recognise(
        touch(
            tmp_path,
            *("images/a.jpg", "images/a.png", "images/B.jpg", "images/c.jpg"),
            *("masks/a.png", "masks/b.png", "masks/d.png"),
        )
    )
    assert layout.doubles == (("images/a.jpg", "images/a.png"),)
    assert layout.casings == (("images/B.jpg", "masks/b.png"),)
    assert [tuple(lone) for lone in layout.lone] == [("matte", "masks/d.png")]
    assert told(layout) == {
        ("", "a"): {"image", "matte"},
        ("", "B"): {"image", "matte"},
        ("", "c"): {"image"},
    }


def test_names_that_differ_in_case_only_are_two_pictures(tmp_path: Path) -> None:
    layout = recognise(touch(tmp_path, "images/a.png", "images/A.png", "masks/a.png", "masks/A.png"))
    assert {s.name: s.files["matte"] for s in layout.samples} == {"a": "masks/a.png", "A": "masks/A.png"}
    assert layout.casings == ()


def test_every_file_is_counted_once(tmp_path: Path) -> None:
    """Whatever lies in a dataset is in a sample, lone, double, stray or known: nothing is passed over."""
    paths = [path.replace("V/", "validation/") for path in RELEASE_2021]
    paths += [
        "train/mask/p_9.png",
        "train/mask/p_1.jpg",
        "train/x",
        "x/y/z.png",
        "validation/z.png",
        "README.md",
    ]
    layout = recognise(touch(tmp_path, *paths))
    counted = [path for sample in layout.samples for path in sample.files.values()]
    counted += [*layout.strays, *(lone.path for lone in layout.lone), *(other for _, other in layout.doubles)]
    assert sorted([*counted, "README.md"]) == sorted(paths)


@pytest.mark.parametrize(
    "paths",
    [(), ("a.jpg",), ("train/mask/a.png",), ("images/a.jpg",), ("mattes/a.png",), ("images", "masks")],
)
def test_what_is_no_dataset_is_refused_with_what_was_looked_for(
    paths: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"manifest\.jsonl.*P3M-500-NP.*images/"):
        recognise(touch(tmp_path, *paths))


def test_a_file_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        recognise(touch(tmp_path, "a") / "a")
    with pytest.raises(UsageError, match="no folder"):
        recognise(tmp_path / "missing")


def test_a_linked_split_is_a_split(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "blurred_image/p_1.jpg", "mask/p_1.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train").symlink_to(tmp_path / "elsewhere")
    layout = recognise(tmp_path / "set")
    assert len(layout.samples) == 1
    assert layout.strays == ()


def test_what_is_no_file_is_a_stray_and_is_not_waited_for(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "masks/a.png")
    os.mkfifo(tmp_path / "images" / "pipe.jpg")
    (tmp_path / "masks" / "dead.png").symlink_to(tmp_path / "nowhere.png")
    layout = recognise(tmp_path)
    assert layout.strays == ("images/pipe.jpg", "masks/dead.png")
    assert told(layout) == {("", "a"): {"image", "matte"}}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("README.md", True),
        ("README.txt", True),
        ("LICENSE", True),
        ("LICENCE.txt", True),
        ("CITATION.cff", True),
        ("report.html", True),
        ("report-12.html", True),
        ("report-anna.html", False),
        ("notes.txt", False),
        (".README.md", False),
    ],
)
def test_what_a_dataset_may_hold_beside_its_pictures(tmp_path: Path, name: str, known: bool) -> None:
    for folder in ("images", "mattes"):
        (tmp_path / folder).mkdir()
    (tmp_path / name).write_text("x")
    assert recognise(tmp_path).strays == (() if known else (name,))
    (tmp_path / name).rename(tmp_path / "images" / name)
    assert recognise(tmp_path).strays == (f"images/{name}",)
