"""The command as a user meets it: options, bad input, full and read-only disks, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from p3m_data.cli.anonymize import PLACES, _config, anonymize
from p3m_data.cli.main import COMMANDS, main
from p3m_data.pipeline.dataset import Dataset
from p3m_data.stages.config import AnonymizeConfig
from p3m_data.storage.mattes import encode_matte
from p3m_data.storage.weights import ensure
from p3m_data.types import Reason, Status
from tests.runs import bomb, command, dataset, faceless, matte, p3mdata, portrait, records, save, tree


@pytest.fixture(scope="module", autouse=True)
def weights() -> None:
    ensure(["face_landmarker", "blazeface", "centerface"])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return save(tmp_path / "photos" / "a.png", portrait()).parent


def refused(*words: str | Path, **environment: str) -> tuple[int, str]:
    """Exit code and the one line on stderr of a command that must not get as far as starting workers."""
    result = CliRunner().invoke(main, ["anonymize", *map(str, words)], env=environment)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("p3mdata: ")
    assert "this is a bug" not in line
    return result.exit_code, line


@pytest.fixture(scope="module")
def bad_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, subprocess.CompletedProcess[str]]:
    """One run over good and bad pictures."""
    folder = tmp_path_factory.mktemp("bad")
    photos, mattes = folder / "photos", folder / "mattes"
    save(photos / "good.png", portrait())
    save(photos / "copy.png", portrait())
    save(photos / "deep" / "er" / "good.jpg", portrait(10))
    save(photos / "wide.png", portrait(20))
    save(photos / "cup.png", faceless())
    mattes.mkdir()
    (mattes / "wide.png").write_bytes(encode_matte(matte(200)))
    (photos / "nothing.jpg").touch()
    (photos / "cut.jpg").write_bytes((photos / "deep" / "er" / "good.jpg").read_bytes()[:3000])
    (photos / "text.jpg").write_text("Dear diary,\n" * 100)
    (photos / "bomb.png").write_bytes(bomb())
    (photos / "loop.jpg").symlink_to("loop.jpg")
    (photos / "again").symlink_to(photos, target_is_directory=True)
    (photos / "deep" / "up").symlink_to("..", target_is_directory=True)
    (photos / "notes.txt").write_text("not a picture's suffix")
    os.mkfifo(photos / "pipe.jpg")
    (photos / os.fsdecode(b"na\xefve\n\x1b[31m.jpg")).write_bytes(b"x")
    made = dataset(folder / "out")
    done = p3mdata("anonymize", photos, "-o", made.public, "--mattes", mattes, "--workers", "2")
    return made, done


BadRun = tuple[Dataset, "subprocess.CompletedProcess[str]"]


def test_bad_pictures_are_rows_and_the_rest_is_done(bad_run: BadRun) -> None:
    found = {name: (record.status, record.reason) for name, record in records(bad_run[0]).items()}
    (odd_name,) = (name for name in found if name.startswith("na"))
    unreadable = (Status.FAILED, Reason.UNREADABLE)
    assert found == {
        "copy.png": (Status.ANONYMIZED, None),
        "good.png": (Status.DUPLICATE, Reason.SAME_BYTES),
        "deep/er/good.jpg": (Status.ANONYMIZED, None),
        "cup.png": (Status.NEEDS_REVIEW, Reason.NO_FACE),
        "wide.png": (Status.FAILED, Reason.MATTE_MISMATCH),
        "bomb.png": (Status.FAILED, Reason.TOO_LARGE),
        **dict.fromkeys(["nothing.jpg", "cut.jpg", "text.jpg", "loop.jpg", odd_name], unreadable),
    }


def test_each_bad_picture_has_a_sentence(bad_run: BadRun) -> None:
    for name, record in records(bad_run[0]).items():
        if record.status is Status.FAILED:
            assert name in record.detail, record.detail
            assert len(record.detail) < 300


def test_the_summary_of_a_run_with_failures(bad_run: BadRun) -> None:
    made, done = bad_run
    assert done.returncode == 3
    assert "Traceback" not in done.stderr + done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "11 pictures"
    assert "   2 anonymized and published" in lines
    assert "   7 failed, not published" in lines
    assert lines[-1].endswith(str(made.private / "report.html"))
    assert (made.private / "report.html").is_file()


def test_only_whole_files_are_public(bad_run: BadRun) -> None:
    made, _ = bad_run
    files = tree(made.public)
    named = {path for record in records(made).values() for path in record.files}
    assert set(files) == named | {"manifest.jsonl", "report.html"}
    assert not [name for name in tree(made.private) if name.endswith((".tmp", ".partial"))]


def test_the_same_command_again_changes_nothing(bad_run: BadRun) -> None:
    made, first = bad_run
    before = tree(made.public)
    parent = made.public.parent
    words = ("anonymize", parent / "photos", "-o", made.public, "--mattes", parent / "mattes")
    again = CliRunner().invoke(main, [*map(str, words), "--json"])
    assert again.exit_code == first.returncode == 3
    facts = json.loads(again.stdout)
    assert facts["counts"] == {
        "pending": 0,
        "anonymized": 2,
        "needs_review": 1,
        "excluded": 0,
        "failed": 7,
        "duplicate": 1,
    }
    assert facts["reasons"]["failed/matte_mismatch"] == 1
    assert facts["dataset"] == str(made.public)
    assert again.stderr == ""
    assert tree(made.public) == before


def test_waiting_pictures_are_exit_1_and_nothing_left_is_0(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cup = save(photos / "cup.png", faceless())
    assert p3mdata("anonymize", photos, "-o", out, "--workers", "1").returncode == 1
    cup.unlink()
    shutil.rmtree(out)
    shutil.rmtree(tmp_path / "out.private")
    assert p3mdata("anonymize", photos, "-o", out, "--workers", "1").returncode == 0


@pytest.mark.parametrize(
    ("folder", "word"), [("gone", "does not exist"), ("empty", "is empty"), ("plain", "holds no pictures")]
)
def test_a_folder_without_pictures(tmp_path: Path, folder: str, word: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "notes.txt").touch()
    code, line = refused(tmp_path / folder, "-o", tmp_path / "out")
    assert code == 2
    assert word in line
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.private").exists()


def test_folders_that_do_not_fit_together(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cases = {
        "where the result goes": (photos, "-o", tmp_path),
        "must not lie inside each other": (photos, "-o", out, "--work", out / "work"),
        "is a file": (photos / "a.png", "-o", out),
        "no file in": (photos, "-o", out, "--mattes", save(tmp_path / "m" / "b.png", portrait()).parent),
        "holds both pictures and mattes": (photos, "-o", out, "--mattes", photos),
        "name a folder in it": (photos, "-o", "/"),
    }
    for word, words in cases.items():
        code, line = refused(*words)
        assert (code, word in line) == (2, True), line
    assert not out.exists()


@pytest.mark.parametrize("under", ["file", "file/out", "/proc/p3mdata/out"])
def test_an_output_that_cannot_be_made(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, under: str
) -> None:
    if under.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    code, line = refused(photos, "-o", under)
    assert code == 3
    assert under.rpartition("/")[2] in line
    assert Path("file").read_text() == "mine"


CONFIGS = {
    "blur: {strenth: 1}": "blur.strenth",
    "blur: {strength: 9}": "blur.strength",
    "blur: {strength: .nan}": "blur.strength",
    "blur: {method: magic}": "blur.method",
    "verify: {detail: .inf}": "verify.detail",
    "detect: {detectors: [sonar]}": "unknown detector sonar",
    "detect: {detectors: []}": "detect.detectors",
    "mask: ~": "mask",
    "a: [": "not valid YAML",
    "- 1": "top level",
    "0": "top level",
    "text": "top level",
    "\x00": "not valid YAML",
}


@pytest.mark.parametrize("text", CONFIGS)
def test_a_wrong_configuration_names_the_key(photos: Path, tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    code, line = refused(photos, "-o", tmp_path / "out", "--config", file)
    assert code == 2
    assert str(file) in line
    assert CONFIGS[text] in line
    assert not (tmp_path / "out").exists()


def test_a_configuration_that_cannot_be_read(photos: Path, tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "gone.yaml"):
        code, line = refused(photos, "--config", file)
        assert (code, f"{file} cannot be read" in line) == (2, True)
    (tmp_path / "latin.yaml").write_bytes(b"# \xff\n")
    code, line = refused(photos, "--config", tmp_path / "latin.yaml")
    assert (code, "not valid YAML" in line) == (2, True)


def test_weights_that_are_not_here(photos: Path, tmp_path: Path) -> None:
    nowhere = {"P3MDATA_OFFLINE": "1", "P3MDATA_CACHE": str(tmp_path), "P3MDATA_WEIGHTS": ""}
    code, line = refused(photos, "--detector", "yunet", **nowhere)
    assert code == 2
    assert "yunet_n_dynamic.onnx" in line
    assert "put it into" in line
    code, line = refused(photos, "--weights", "centerface=gone.onnx", **nowhere)
    assert (code, "gone.onnx" in line) == (2, True)
    code, line = refused(photos, "--weights", "centreface=gone.onnx", **nowhere)
    assert (code, "centreface is no network of this run" in line) == (2, True)
    assert not photos.with_name("photos.anonymized").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["/"],
        ["PHOTOS", "--weights", "centerface"],
        ["PHOTOS", "--strength", "3"],
        ["PHOTOS", "--min-face", "1"],
        ["PHOTOS", "--workers", "0"],
        ["PHOTOS", "--detector", "sonar"],
        [],
    ],
)
def test_wrong_options_are_told_with_the_usage(photos: Path, words: list[str]) -> None:
    filled = [word.replace("PHOTOS", str(photos)) for word in words]
    result = CliRunner().invoke(main, ["anonymize", *filled])
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_options_overrule_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("blur: {method: mosaic, strength: 0.5}\ncontainer: png\nmax_pixels: 7\n")
    config = _config(
        file, {"strength": 0.3, "min_face": 40, "detectors": ("yunet", "yunet"), "container": None}
    )
    assert (config.blur.method, config.blur.strength) == ("mosaic", 0.3)
    assert (config.container, config.max_pixels, config.accept_no_face) == ("png", 7, False)
    assert config.detect.proposals.min_face == 40
    assert config.detect.detectors == ("yunet",)
    assert _config(None, {}) == _config(None, {"detectors": (), "accept_no_face": False})


def test_every_setting_of_the_command_has_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("p3m_data.cli.anonymize._config", lambda _file, settings: seen.update(settings))
    CliRunner().invoke(anonymize, [str(tmp_path)])
    assert set(seen) == set(PLACES)
    config = _config(
        None,
        {
            "landmarks": "both",
            "detectors": ("yunet",),
            "min_face": 20,
            "method": "fill",
            "strength": 1.0,
            "container": "png",
            "accept_no_face": True,
        },
    )
    for name, value in {
        "landmarks": "both",
        "min_face": 20,
        "container": "png",
        "accept_no_face": True,
    }.items():
        at: Any = config
        for key in PLACES[name]:
            at = getattr(at, key)
        assert at == value


@pytest.mark.parametrize(
    ("words", "limit"), [((), 600), (("--time-limit", "0"), None), (("--time-limit", "7"), 7)]
)
def test_the_time_limit_is_none_of_the_settings(
    photos: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], limit: int | None
) -> None:
    seen: list[tuple[Any, Any]] = []

    def stop(_photos: Path, _made: Dataset, config: Any, **options: Any) -> None:
        seen.append((options["time_limit"], config.digest))
        raise click.Abort

    monkeypatch.setattr("p3m_data.stages.run.anonymize_folder", stop)
    CliRunner().invoke(main, ["anonymize", str(photos), *words])
    assert seen == [(limit, AnonymizeConfig().digest)]


@pytest.mark.parametrize("limit", ["-1", "soon", "nan", "inf", "9" * 30])
def test_a_time_limit_that_is_none(photos: Path, limit: str) -> None:
    result = CliRunner().invoke(main, ["anonymize", str(photos), "--time-limit", limit])
    assert result.exit_code == 2


def test_the_output_lies_beside_the_photos(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    seen: list[Path] = []

    def stop(_photos: Path, made: Dataset, *_: Any, **__: Any) -> None:
        seen.append(made.public)
        raise click.Abort

    monkeypatch.setattr("p3m_data.stages.run.anonymize_folder", stop)
    for name in (".", f"{photos}/", str(photos), "../photos"):
        CliRunner().invoke(main, ["anonymize", name])
    assert seen == [photos.with_name("photos.anonymized")] * 4


def test_the_help_begins_with_the_line_of_the_table() -> None:
    assert (anonymize.help or "").splitlines()[0] == COMMANDS["anonymize"].help
    printed = CliRunner().invoke(main, ["anonymize", "--help"]).stdout
    assert "Example:" in printed
    assert all(parameter.opts[0] in printed for parameter in anonymize.params if parameter.opts[0][0] == "-")


def test_the_same_output_with_other_settings_or_folders(bad_run: BadRun, tmp_path: Path) -> None:
    made, _ = bad_run
    parent = made.public.parent
    before = tree(made.public)
    same: tuple[str | Path, ...] = ("-o", made.public, "--mattes", parent / "mattes")
    code, line = refused(parent / "photos", *same, "--strength", "0.5", "--accept-no-face")
    assert (code, "blur.strength: 0.15 then, 0.5 now" in line) == (2, True)
    assert "accept_no_face: False then, True now" in line
    others = save(tmp_path / "others" / "wide.png", portrait(20)).parent
    code, line = refused(others, *same)
    assert (code, f"not of {others}" in line) == (2, True)
    code, line = refused(parent / "photos", "-o", made.public)
    assert (code, "not of no folder" in line) == (2, True)
    code, line = refused(parent / "photos", "-o", made.public, "--mattes", others)
    assert (code, f"not of {others}" in line) == (2, True)
    code, line = refused(parent / "photos", *same, "--work", tmp_path / "work")
    assert (code, "holds files already" in line) == (2, True)
    assert tree(made.public) == before


def test_two_runs_at_once(photos: Path, tmp_path: Path) -> None:
    out = dataset(tmp_path / "out")
    words = ("anonymize", photos, "-o", out.public, "--workers", "1")
    first = subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        lock = out.private / "ledger.sqlite.lock"
        deadline = time.monotonic() + 30
        while not (lock.is_file() and lock.read_text()) and time.monotonic() < deadline:
            time.sleep(0.01)
        code, line = refused(*words[1:])
        assert first.poll() is None
        assert (code, f"(process {first.pid})" in line) == (2, True)
    finally:
        assert first.communicate(timeout=60)[0]
    assert first.returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder of 400 kB; skips where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Five photos, and the public side of a run over them that had room."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for number in range(5):
        save(folder / "photos" / f"{number}.png", portrait(5 * number))
    made = dataset(folder / "out")
    assert p3mdata("anonymize", folder / "photos", "-o", made.public, "--workers", "1").returncode == 0
    return folder / "photos", tree(made.public)


@pytest.mark.parametrize("full", ["public", "private", "both"])
def test_a_full_disk_ends_the_run_and_room_lets_it_finish(
    undisturbed: tuple[Path, dict[str, bytes]], disk: Path, tmp_path: Path, full: str
) -> None:
    photos, whole = undisturbed
    public = (tmp_path if full == "private" else disk) / "out"
    private = (tmp_path if full == "public" else disk) / "work"
    dataset(public, private)
    words = ("anonymize", photos, "-o", public, "--work", private, "--workers", "1")
    filler = disk / "filler"
    if full == "private":
        filler.write_bytes(bytes(200_000))
    done = p3mdata(*words)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("p3mdata: ")
    assert "full" in line
    assert {
        path: data for path, data in tree(public).items() if path != "report.html"
    }.items() <= whole.items()
    filler.unlink(missing_ok=True)
    remount(disk, "size=50m")
    assert p3mdata(*words).returncode == 0
    assert tree(public) == whole


def test_a_read_only_disk(photos: Path, disk: Path, tmp_path: Path) -> None:
    remount(disk, "ro")
    code, line = refused(photos, "-o", disk / "out")
    assert (code, "Read-only" in line) == (3, True)
    code, line = refused(photos, "-o", disk / "out", "--work", tmp_path / "work")
    assert (code, "Read-only" in line) == (3, True)
    assert not list(disk.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_picture_without_the_right_to_read_it(photos: Path, tmp_path: Path) -> None:
    save(photos / "secret.png", portrait(9)).chmod(0)
    assert p3mdata("anonymize", photos, "-o", tmp_path / "out", "--workers", "1").returncode == 3
    assert "Permission denied" in records(Dataset.at(tmp_path / "out"))["secret.png"].detail
