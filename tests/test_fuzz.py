"""The harnesses of fuzz/ without the fuzzer: what they are fed here is the same every time."""

from __future__ import annotations

import logging
import os
import resource
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from fuzz import pictures, texts
from fuzz.__main__ import MAX_RISE_MB, NAMES, main
from fuzz.contract import Broken, documented, must, silent
from fuzz.targets import CORPUS, TARGETS, Target, corpus, mutated, try_one
from p3m_data.errors import P3MError, StorageError, UsageError
from p3m_data.storage import images

FILES = [(name, path) for name in TARGETS for path in corpus(name)]
MUTANTS = 8


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def loud(data: bytes) -> None:
    os.write(2, data)


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_taken_as_documented(name: str) -> None:
    for seed in TARGETS[name].seeds():
        try_one(TARGETS[name], seed)


@pytest.mark.parametrize(("name", "path"), FILES, ids=[f"{name}/{path.name}" for name, path in FILES])
def test_what_once_broke_a_loader_does_so_no_more(name: str, path: Path) -> None:
    before = peak()
    try_one(TARGETS[name], path.read_bytes())
    assert peak() - before < MAX_RISE_MB


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_seeds_are_taken_as_documented(name: str) -> None:
    target = TARGETS[name]
    for number, seed in enumerate(target.seeds()):
        for attempt in range(MUTANTS):
            try_one(target, mutated(target, seed, 100 * number + attempt, 1 + attempt % 3))


@pytest.mark.parametrize("name", TARGETS)
def test_a_mutator_changes_most_inputs_and_always_the_same_way(name: str) -> None:
    target = TARGETS[name]
    seed = max(target.seeds(), key=len)
    outcomes = [mutated(target, seed, number) for number in range(50)]
    assert outcomes == [mutated(target, seed, number) for number in range(50)]
    assert len({*outcomes} - {seed}) > 25


@pytest.mark.parametrize("name", ["images", "jpeg", "mattes"])
def test_many_damaged_pictures_still_load(name: str) -> None:
    """Were all of them refused at the door, nothing behind it would be tried."""
    target, opened = TARGETS[name], 0
    for number, seed in enumerate(target.seeds()):
        opened += pictures._upright_size(mutated(target, seed, number)) is not None
    assert opened > len(target.seeds()) // 4


def test_the_corpus_is_small_and_belongs_to_targets() -> None:
    assert tuple(TARGETS) == NAMES
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)
    for name in TARGETS:
        assert len(corpus(name)) <= 20
        assert all(path.stat().st_size <= 2048 for path in corpus(name))


@pytest.mark.parametrize(
    "speak",
    [
        lambda _: print("x"),
        lambda _: print("x", file=sys.stderr),
        lambda _: loud(b"x"),
        lambda _: warnings.warn("x", stacklevel=1),
        lambda _: logging.getLogger("nobody.listens").warning("x"),
    ],
    ids=["stdout", "stderr", "descriptor", "warning", "logging"],
)
def test_a_loader_that_speaks_is_found_out(speak: object, monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest listens to everything that is logged
    monkeypatch.setattr(logging.getLogger("nobody"), "propagate", False)
    with pytest.raises(Broken, match=r"writes to|warns"):
        try_one(Target(speak, tuple, mutated, 10), b"")  # type: ignore[arg-type]


def test_what_is_written_outside_the_block_is_not_swallowed(capfd: pytest.CaptureFixture[str]) -> None:
    with silent():
        pass
    loud(b"heard")
    assert capfd.readouterr().err == "heard"


@pytest.mark.parametrize(
    "error", [StorageError("x"), UsageError("a\nb"), UsageError(""), UsageError("x" * 5000)]
)
def test_only_documented_errors_of_one_line_pass(error: P3MError) -> None:
    with pytest.raises(Broken), documented(UsageError):
        raise error


def test_other_exceptions_go_through() -> None:
    with documented(UsageError):
        raise UsageError("a sentence")
    with pytest.raises(KeyError), documented(UsageError):
        raise KeyError("x")


def test_an_encoder_that_leaves_the_source_inside_the_mask_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def kept(picture: images.Picture, _result: object, _mask: object, _container: str) -> tuple[bytes, str]:
        return images.encode_png(picture.pixels), ".png"

    monkeypatch.setattr(pictures, "encode_picture", kept)
    with pytest.raises(Broken, match="inside the mask"):
        pictures.check_image(pictures.image_seeds()[0])


def test_an_encoder_that_changes_the_rest_or_adds_metadata_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def everywhere(_picture: object, result: np.ndarray, _mask: object, _container: str) -> tuple[bytes, str]:
        return images.encode_png(result), ".png"

    monkeypatch.setattr(pictures, "encode_picture", everywhere)
    with pytest.raises(Broken, match="outside the mask"):
        pictures.check_image(pictures.image_seeds()[0])
    for seed in (pictures.jpeg_seeds()[9], pictures.jpeg_seeds()[10], pictures.jpeg_seeds()[0] + b"x"):
        with pytest.raises(Broken):
            pictures._no_metadata_in_jpeg(seed)
    with pytest.raises(Broken):
        pictures._no_metadata_in_png(pictures.image_seeds()[8])


def test_a_finding_is_kept_once_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(data: bytes) -> None:
        must(not data, "bytes")

    monkeypatch.setitem(TARGETS, "jpeg", TARGETS["jpeg"]._replace(check=fails))
    monkeypatch.setattr("fuzz.__main__.FINDINGS", tmp_path / "findings")
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    assert main(["jpeg", "--once", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    found = sorted((tmp_path / "findings" / "jpeg").iterdir())
    assert [path.suffix for path in found] == ["", ".txt"]
    assert found[0].read_bytes() == b"a"
    assert "Broken: bytes" in found[1].read_text()
    assert "2 files, 2 faults" in capsys.readouterr().out
    assert main(["nothing"]) == 2


def test_mutants_of_text_still_parse_now_and_then() -> None:
    read = 0
    for number in range(200):
        with documented(UsageError):
            texts.parse_annotations(mutated(TARGETS["masks"], texts.mask_seeds()[1], number), "x.json")
            read += 1
    assert read > 50
