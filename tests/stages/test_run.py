"""The run over a folder, its pictures done in this process by the real networks (workers: tests/pipeline)."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p3m_data.errors import ConfigChanged, DatasetBusy, P3MError, StorageError, UsageError, WeightsError
from p3m_data.faces.detectors import Detector
from p3m_data.faces.landmarkers import Landmarker
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.engines import TimedOut, WorkerLost
from p3m_data.pipeline.ledger import Ledger
from p3m_data.stages import run as stage
from p3m_data.stages.anonymize import Anonymizer, Job, Outcome
from p3m_data.stages.blur import BlurConfig
from p3m_data.stages.config import AnonymizeConfig
from p3m_data.stages.detect import DetectConfig, Models
from p3m_data.stages.run import Progress, anonymize_folder
from p3m_data.storage.manifest import read_manifest
from p3m_data.storage.mattes import encode_matte
from p3m_data.types import Reason, Source, Status
from tests.runs import dataset, faceless, matte, portrait, records, save, tree


class Engine:
    """Stands in for `run_local`: does the sources here, one after the other, and can fail on the way."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self.done: list[str] = []
        """What was done since this was emptied."""
        self.breaks: dict[str, BaseException] = {}
        """Source -> what is raised in its place."""
        self.loses: set[str] = set()
        """Sources that two workers die over."""
        self.hangs: set[str] = set()
        """Sources that take too long, twice."""
        self.time_limit: float | None = None

    def __call__(
        self, sources: Iterable[Source], job: Job, workers: int, *, time_limit: float | None
    ) -> Iterator[tuple[Source, Outcome | WorkerLost]]:
        assert workers == 1
        self.time_limit = time_limit
        work = Anonymizer(job, self.models)
        for source in sources:
            if source.path in self.breaks:
                raise self.breaks[source.path]
            self.done.append(source.path)
            if source.path in self.loses:
                yield source, WorkerLost("it is gone.")
            elif source.path in self.hangs:
                yield source, TimedOut("it is gone.")
            else:
                yield source, work(source)


@pytest.fixture
def engine(
    monkeypatch: pytest.MonkeyPatch, detectors: dict[str, Detector], landmarkers: dict[str, Landmarker]
) -> Engine:
    made = Engine(Models(detectors, landmarkers))
    monkeypatch.setattr(stage, "run_local", made)
    return made


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """`a.png` and `b.jpg` can be published, `c.png` shows nobody."""
    folder = tmp_path / "photos"
    save(folder / "a.png", portrait())
    save(folder / "b.jpg", portrait(10), quality=85)
    save(folder / "c.png", faceless())
    return folder


@pytest.fixture
def mattes(tmp_path: Path) -> Path:
    folder = tmp_path / "mattes"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode_matte(matte()))
    (folder / "stranger.png").write_bytes(encode_matte(matte()))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Dataset:
    return dataset(tmp_path / "out")


@pytest.fixture
def run(engine: Engine, photos: Path, out: Dataset) -> Callable[..., list[str]]:
    """Runs over `photos` into `out`; returns the notes. `engine.done` then says what was done."""

    def go(config: AnonymizeConfig | None = None, **options: Any) -> list[str]:
        notes: list[str] = []
        engine.done.clear()
        anonymize_folder(photos, out, config or AnonymizeConfig(), on_note=notes.append, **options)
        return notes

    return go


Run = Callable[..., list[str]]


def statuses(out: Dataset) -> dict[str, Status]:
    return {name: record.status for name, record in records(out).items()}


def published(out: Dataset) -> set[str]:
    """Paths of pictures, facemasks and mattes on the public side."""
    return {path for path in tree(out.public) if path.startswith("train/")}


def named(out: Dataset) -> set[str]:
    """Paths that the manifest names."""
    return {path for row in read_manifest(out.manifest) for path in row.sha256}


def test_a_folder_is_done_once(run: Run, engine: Engine, out: Dataset) -> None:
    assert run() == []
    assert engine.done == ["a.png", "b.jpg", "c.png"]
    assert statuses(out) == {
        "a.png": Status.ANONYMIZED,
        "b.jpg": Status.ANONYMIZED,
        "c.png": Status.NEEDS_REVIEW,
    }
    assert published(out) == named(out)
    assert len(published(out)) == 4
    before = tree(out.public)
    assert run() == []
    assert engine.done == []
    assert tree(out.public) == before


def test_a_new_picture_is_done_alone(run: Run, engine: Engine, photos: Path, out: Dataset) -> None:
    run()
    save(photos / "sub" / "d.png", portrait(20))
    assert run() == []
    assert engine.done == ["sub/d.png"]
    assert len(named(out)) == 6


def test_a_changed_picture_replaces_its_old_files(
    run: Run, engine: Engine, photos: Path, out: Dataset
) -> None:
    run()
    old = records(out)["a.png"]
    save(photos / "a.png", portrait(25))
    notes = run()
    assert "1 pictures changed" in notes[0]
    assert "2 files" in notes[1]
    assert engine.done == ["a.png"]
    assert records(out)["a.png"].id != old.id
    assert not published(out) & set(old.files)
    assert published(out) == named(out)
    assert len(list((out.private / "orphans").iterdir())) == 2


def test_a_picture_that_may_no_longer_be_published_goes(run: Run, photos: Path, out: Dataset) -> None:
    run()
    old = records(out)["a.png"]
    save(photos / "a.png", faceless()[:150])
    run()
    assert statuses(out)["a.png"] is Status.NEEDS_REVIEW
    assert not published(out) & set(old.files)
    assert old.id not in out.manifest.read_text()


def test_a_touched_picture_is_done_again_with_the_same_result(
    run: Run, engine: Engine, photos: Path, out: Dataset
) -> None:
    run()
    before = tree(out.public)
    os.utime(photos / "a.png", ns=(1, 1))
    run()
    assert engine.done == ["a.png"]
    assert tree(out.public) == before
    assert not (out.private / "orphans").exists()


def test_mattes_are_paired_and_the_rest_is_told(run: Run, engine: Engine, mattes: Path, out: Dataset) -> None:
    notes = run(mattes=mattes)
    assert notes == ["2 of 3 pictures have no matte", "1 mattes have no picture"]
    assert [row.matte is not None for row in read_manifest(out.manifest)].count(True) == 1
    (mattes / "a.png").write_bytes(encode_matte(matte() * 0.999))
    run(mattes=mattes)
    assert engine.done == ["a.png"]


def test_the_same_bytes_are_published_once(run: Run, engine: Engine, photos: Path, out: Dataset) -> None:
    shutil.copy(photos / "a.png", photos / "z.png")
    run()
    found = records(out)
    assert (found["z.png"].status, found["z.png"].reason) == (Status.DUPLICATE, Reason.SAME_BYTES)
    assert len(published(out)) == 4
    # the original goes: the other one takes its place
    save(photos / "a.png", portrait(25))
    run()
    assert set(engine.done) == {"a.png", "z.png"}
    assert statuses(out)["z.png"] is Status.ANONYMIZED
    assert len(published(out)) == 6
    assert published(out) == named(out)


def test_a_copy_that_sorts_first_takes_over(run: Run, photos: Path, out: Dataset) -> None:
    run()
    before = tree(out.public)
    shutil.copy(photos / "a.png", photos / "0.png")
    run()
    assert statuses(out)["0.png"] is Status.ANONYMIZED
    assert statuses(out)["a.png"] is Status.DUPLICATE
    assert tree(out.public) == before


def test_what_was_removed_by_hand_is_made_again(run: Run, engine: Engine, out: Dataset) -> None:
    run()
    before = tree(out.public)
    for path in records(out)["b.jpg"].files:
        (out.public / path).unlink()
        notes = run()
        assert engine.done == ["b.jpg"]
        assert "1 published pictures" in notes[0]
        assert tree(out.public) == before


def test_strays_are_moved_aside(run: Run, out: Dataset) -> None:
    run()
    before = tree(out.public)
    strays = [out.train / folder / "p_0000000000000000.png" for folder in ("blurred_image", "facemask")]
    for number, stray in enumerate(strays):
        stray.write_text(str(number))
    leftover = out.train / "mask" / f".p3mdata-{16 * '0'}.tmp"
    leftover.touch()
    (note,) = run()
    assert note.startswith("2 files that belong to no picture")
    assert tree(out.public) == before
    assert not leftover.exists()
    assert {file.read_text() for file in (out.private / "orphans").iterdir()} == {"0", "1"}


def test_strays_that_cannot_be_moved_are_one_sentence(run: Run, out: Dataset) -> None:
    run()
    (out.train / "mask" / "stray.png").touch()
    (out.private / "orphans").write_text("a file")
    with pytest.raises(StorageError, match="orphans"):
        run()


def test_a_lost_worker_is_a_row_and_can_be_tried_again(run: Run, engine: Engine, out: Dataset) -> None:
    engine.loses = {"b.jpg"}
    run()
    record = records(out)["b.jpg"]
    assert (record.status, record.reason) == (Status.FAILED, Reason.WORKER_LOST)
    assert statuses(out)["a.png"] is Status.ANONYMIZED
    engine.loses = set()
    run()
    assert engine.done == []
    run(retry_failed=True)
    assert engine.done == ["b.jpg"]
    assert statuses(out)["b.jpg"] is Status.ANONYMIZED


def test_a_picture_that_takes_too_long_is_a_row_and_can_be_given_more_time(
    run: Run, engine: Engine, out: Dataset
) -> None:
    engine.hangs = {"b.jpg"}
    run(time_limit=2.5)
    assert engine.time_limit == 2.5
    record = records(out)["b.jpg"]
    assert (record.status, record.reason) == (Status.FAILED, Reason.TIMED_OUT)
    assert "2.5 seconds" in record.detail
    assert "--time-limit" in record.detail
    engine.hangs = set()
    run(retry_failed=True)
    assert engine.done == ["b.jpg"]
    assert engine.time_limit is None
    assert set(statuses(out).values()) == {Status.ANONYMIZED, Status.NEEDS_REVIEW}


def test_what_a_killed_worker_left_half_written_goes(run: Run, out: Dataset) -> None:
    """A worker that dies in the middle of this run, not of an earlier one."""

    def leave(_progress: Progress, _record: Any) -> None:
        for folder in (out.train / "facemask", out.sheets):
            (folder / f".p3mdata-{'0' * 16}.tmp").write_bytes(b"half")

    assert run(on_progress=leave) == []
    assert [path for path in (*tree(out.public), *tree(out.private)) if "tmp" in path] == []


@pytest.mark.parametrize(
    ("broken", "error"),
    [("a.png", StorageError("full")), ("b.jpg", KeyboardInterrupt()), ("c.png", StorageError("full"))],
)
def test_a_run_that_breaks_off_goes_on_to_the_same_result(
    run: Run, engine: Engine, photos: Path, tmp_path: Path, out: Dataset, broken: str, error: BaseException
) -> None:
    engine.breaks = {broken: error}
    with pytest.raises(type(error)):
        run()
    assert not out.manifest.exists()
    broken_off = list(engine.done)
    engine.breaks = {}
    run()
    assert broken_off + engine.done == ["a.png", "b.jpg", "c.png"]
    undisturbed = dataset(tmp_path / "undisturbed")
    anonymize_folder(photos, undisturbed, AnonymizeConfig())
    assert tree(out.public) == tree(undisturbed.public)


def test_the_order_of_the_sources_does_not_show(
    run: Run, engine: Engine, photos: Path, tmp_path: Path, out: Dataset
) -> None:
    assert engine.done == []
    run()
    names = [file.name for file in sorted(photos.iterdir())]
    for number, order in enumerate(itertools.permutations(range(len(names)))):
        if number == 3:
            break
        folder = tmp_path / f"renamed {number}"
        folder.mkdir()
        for place, name in zip(order, names, strict=True):
            shutil.copy(photos / name, folder / f"{place}{Path(name).suffix}")
        other = dataset(tmp_path / f"out {number}")
        anonymize_folder(folder, other, AnonymizeConfig())
        assert tree(other.public) == tree(out.public)


def test_progress_counts_every_picture(run: Run) -> None:
    seen: list[tuple[int, int, str | None]] = []
    seconds: list[float] = []

    def show(progress: Progress, record: Any) -> None:
        seen.append((progress.done, progress.total, record and record.source))
        seconds.append(sum(progress.seconds.values()))

    run(on_progress=show)
    assert seen == [(0, 3, None), (1, 3, "a.png"), (2, 3, "b.jpg"), (3, 3, "c.png")]
    assert seconds == sorted(seconds)
    assert seconds[-1] > 0


def test_other_settings_are_named(run: Run, engine: Engine, out: Dataset) -> None:
    run()
    before = tree(out.public)
    with pytest.raises(ConfigChanged) as told:
        run(AnonymizeConfig(blur=BlurConfig(strength=0.3), accept_no_face=True))
    assert "accept_no_face: False then, True now" in str(told.value)
    assert "blur.strength: 0.15 then, 0.3 now" in str(told.value)
    assert "detect" not in str(told.value)
    assert engine.done == []
    assert tree(out.public) == before


def test_other_folders_are_named(run: Run, photos: Path, mattes: Path, out: Dataset, tmp_path: Path) -> None:
    run()
    others = tmp_path / "others"
    save(others / "x.png", portrait(3))
    with pytest.raises(ConfigChanged, match="the mattes of no folder, not of"):
        run(mattes=mattes)
    with pytest.raises(ConfigChanged, match=f"the pictures of {photos}, not of {others}"):
        anonymize_folder(others, out, AnonymizeConfig())


def test_the_secret_must_stay(run: Run, out: Dataset) -> None:
    run()
    before = tree(out.public)
    key = out.key_path.read_text()
    out.key_path.unlink()
    with pytest.raises(UsageError, match="is gone; restore it"):
        run()
    assert not out.key_path.exists()
    out.key_path.write_text(64 * "0")
    with pytest.raises(ConfigChanged, match="restore that one"):
        run()
    for damaged in ("", "zz", "00", "é"):
        out.key_path.write_text(damaged)
        with pytest.raises(UsageError, match="damaged"):
            run()
    out.key_path.write_text(key)
    run()
    assert tree(out.public) == before


def test_a_secret_is_made_once_for_its_owner_only(
    engine: Engine, photos: Path, tmp_path: Path, out: Dataset
) -> None:
    fresh = [Dataset.at(tmp_path / name) for name in ("one", "two")]
    for made in fresh:
        anonymize_folder(photos, made, AnonymizeConfig())
        assert made.key_path.stat().st_mode & 0o077 == 0
        assert made.private.stat().st_mode & 0o077 == 0
    assert engine.done
    ids = [{record.id for record in records(made).values()} for made in fresh]
    assert not ids[0] & ids[1]
    assert fresh[0].key() == fresh[0].key() != fresh[1].key()
    assert out.key() not in (made.key() for made in fresh)


@pytest.mark.parametrize("file", ["manifest.jsonl", "train/facemask/mine.png", "train/blurred_image/x.jpg"])
def test_a_folder_of_somebody_else_is_left_alone(run: Run, engine: Engine, out: Dataset, file: str) -> None:
    (out.public / file).parent.mkdir(parents=True)
    (out.public / file).write_text("mine")
    with pytest.raises(UsageError, match="holds files already"):
        run()
    assert tree(out.public) == {file: b"mine"}
    assert engine.done == []


def test_the_work_folder_of_another_dataset_makes_its_files_anew(
    run: Run, engine: Engine, photos: Path, tmp_path: Path, out: Dataset
) -> None:
    run()
    other = Dataset.at(tmp_path / "other", out.private)
    engine.done.clear()
    anonymize_folder(photos, other, AnonymizeConfig())
    assert engine.done == ["a.png", "b.jpg"]
    assert tree(other.public) == {p: d for p, d in tree(out.public).items() if p != "report.html"}


def test_sides_do_not_mix(engine: Engine, photos: Path, mattes: Path, tmp_path: Path) -> None:
    inside = Dataset.at(photos / "out")
    anonymize_folder(photos, inside, AnonymizeConfig())
    assert engine.done == ["a.png", "b.jpg", "c.png"]
    engine.done.clear()
    anonymize_folder(photos, inside, AnonymizeConfig())
    assert engine.done == []
    for out in (
        Dataset.at(tmp_path),
        Dataset.at(photos),
        Dataset.at(tmp_path / "public", photos),
        Dataset.at(tmp_path / "public", mattes),
    ):
        with pytest.raises(UsageError, match="where the result goes"):
            anonymize_folder(photos, out, AnonymizeConfig(), mattes=mattes)
    assert not (tmp_path / "public").exists()


def test_a_second_run_waits_its_turn(run: Run, engine: Engine, out: Dataset) -> None:
    run()
    before = tree(out.public)
    with Ledger(out.ledger_path, create=True), pytest.raises(DatasetBusy, match=str(os.getpid())):
        run()
    assert engine.done == []
    assert tree(out.public) == before


@pytest.mark.parametrize(
    ("config", "by_path", "error", "word"),
    [
        (DetectConfig(), {"yunet": "w"}, UsageError, "yunet is no network of this run"),
        (DetectConfig(), {"nonsense": "w"}, UsageError, "nonsense"),
        (DetectConfig(), {"blazeface": "w"}, WeightsError, "w has sha256"),
        (DetectConfig(), {"blazeface": "gone"}, WeightsError, "gone is not a file"),
        (DetectConfig(landmarks="both"), {"fan": "gone"}, WeightsError, "gone is not a file"),
        (DetectConfig(detectors=("yunet",)), {}, WeightsError, "yunet_n_dynamic.onnx .* put it into"),
    ],
)
def test_weights_are_settled_before_anything_is_written(
    run: Run,
    out: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: DetectConfig,
    by_path: dict[str, str],
    error: type[P3MError],
    word: str,
) -> None:
    monkeypatch.setenv("P3MDATA_OFFLINE", "1")
    monkeypatch.delenv("P3MDATA_WEIGHTS", raising=False)
    monkeypatch.setenv("P3MDATA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "w").write_text("weights of something else")
    with pytest.raises(error, match=word):
        run(
            AnonymizeConfig(detect=config),
            weights_by_path={name: tmp_path / file for name, file in by_path.items()},
        )
    assert not out.public.exists()


def test_weights_of_a_file_are_named_by_their_digest(
    run: Run, engine: Engine, out: Dataset, weights: dict[str, Path], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.onnx"
    shutil.copy(weights["centerface"], mine)
    run(weights_by_path={"centerface": mine})
    assert engine.done
    row = json.loads(out.manifest.read_text().splitlines()[0])
    assert set(row["provenance"]["models"]) == {"centerface", "blazeface", "face_landmarker"}
    assert "mine" not in out.manifest.read_text()
