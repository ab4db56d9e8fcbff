"""The commands of review on real datasets and the real desk; the server itself: tests/review."""

from __future__ import annotations

import gc
import io
import json
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from p3m_data.arrays import BoolArray
from p3m_data.cli.main import main
from p3m_data.cli.review import STATES, SUBCOMMANDS, ReviewGroup, printable, review
from p3m_data.cli.review_decide import WAIVABLE
from p3m_data.pipeline import queue
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.outcome import REASON_WORDS
from p3m_data.stages.review import Desk
from p3m_data.storage.mattes import encode_matte
from p3m_data.storage.weights import ensure
from p3m_data.types import Reason, Record, Status
from tests.runs import command, dataset, faceless, matte, p3mdata, portrait, records, save, tree

UNKNOWN = "p_00000000deadbeef"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset with a published portrait, a face without landmarks and a cup; the cup has a matte."""
    ensure(["face_landmarker", "blazeface", "centerface"])
    folder = tmp_path_factory.mktemp("review")
    save(folder / "photos" / "cup.png", faceless())
    save(folder / "photos" / "good.png", portrait())
    save(folder / "photos" / "hazy.png", cv2.GaussianBlur(portrait(28), (0, 0), 8))
    (folder / "mattes").mkdir()
    (folder / "mattes" / "cup.png").write_bytes(encode_matte(matte(160)))
    run = dataset(folder / "out")
    words = (
        "anonymize",
        folder / "photos",
        "-o",
        run.public,
        "--mattes",
        folder / "mattes",
        "--workers",
        "1",
    )
    assert p3mdata(*words).returncode == 1
    return run


@pytest.fixture
def out(made: Dataset, tmp_path: Path) -> Dataset:
    """A copy of `made` to decide about."""
    copy = Dataset.at(tmp_path / "out")
    shutil.copytree(made.public, copy.public)
    shutil.copytree(made.private, copy.private)
    return copy


def ids(out: Dataset) -> dict[str, str]:
    return {Path(source).stem: str(record.id) for source, record in records(out).items()}


def record_of(out: Dataset, stem: str) -> Record:
    return records(out)[f"{stem}.png"]


def collect() -> None:
    """Let networks of closed desks go here: while another desk's are loaded, MediaPipe's finalizers can deadlock."""
    gc.collect()


def run(*words: str | Path, typed: str = "") -> Result:
    result = CliRunner().invoke(main, ["review", *map(str, words)], input=typed)
    collect()
    assert "this is a bug" not in result.stderr, result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def suggestion(out: Dataset, name: str) -> BoolArray:
    with Desk.open(out) as desk:
        mask = desk.suggestion(name).copy()
    del desk
    collect()
    return mask


def facemask(out: Dataset, name: str) -> BoolArray:
    return np.asarray(Image.open(out.train / "facemask" / f"{name}.png")) > 0


def left_side(size: int, columns: int) -> BoolArray:
    mask = np.zeros((size, size), bool)
    mask[:, :columns] = True
    return mask


def png(file: Path, mask: BoolArray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(file)
    return file


def test_the_tables_tell_the_truth() -> None:
    assert isinstance(review, ReviewGroup)
    for name, lazy in SUBCOMMANDS.items():
        sub = review.get_command(click.Context(review), name)
        assert sub is not None
        assert sub.name == name
        assert (sub.help or "").strip().splitlines()[0] == lazy.help
    assert STATES == queue.STATES


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.stdout
    assert SUBCOMMANDS[name].help in result.stdout


def test_help_of_the_group_lists_every_command() -> None:
    text = run("--help").stdout
    for name, lazy in SUBCOMMANDS.items():
        assert f"{name}  " in text
        assert lazy.help in text


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from p3m_data.cli.main import main\n"
        "try: main(['review', 'accept', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('cv2', 'numpy', 'mediapipe', 'starlette') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "words", [[], ["list"], ["show", UNKNOWN], ["accept", UNKNOWN], ["export", "-o", "x"]]
)
def test_where_there_is_no_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == 2
    assert "is not a p3mdata dataset" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_list_has_a_line_for_each_open_picture(out: Dataset) -> None:
    name = ids(out)
    result = run("list", out.public)
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert set(lines) == {name["cup"], name["hazy"]}
    assert REASON_WORDS[Reason.NO_FACE] in lines[name["cup"]]
    assert REASON_WORDS[Reason.NO_LANDMARKS] in lines[name["hazy"]]
    assert all(line.split()[1] == "waiting" for line in lines.values())


def test_list_chooses_by_state_and_reason(out: Dataset) -> None:
    name = ids(out)
    items = json.loads(run("list", out.public, "--reason", Reason.NO_FACE, "--json").stdout)
    assert [item["id"] for item in items] == [name["cup"]]
    assert run("list", out.public, "--state", "skipped").stdout == ""
    assert json.loads(run("list", out.public, "--state", "decided", "--json").stdout) == []
    wrong = run("list", out.public, "--reason", "boredom")
    assert wrong.exit_code == 2
    assert "'boredom' is no reason" in wrong.stderr


def test_show_tells_what_the_ledger_holds(out: Dataset) -> None:
    found = record_of(out, "hazy")
    result = run("show", out.public, str(found.id))
    assert result.exit_code == 0
    assert f"{found.width} x {found.height}" in result.stdout
    assert found.detail in result.stdout
    assert f"{suggestion(out, str(found.id)).sum():,} pixels" in result.stdout
    detail = json.loads(run("show", out.public, str(found.id), "--json").stdout)
    assert (detail["id"], detail["state"], detail["width"]) == (found.id, "waiting", found.width)


def test_show_saves_into_a_private_folder(out: Dataset, tmp_path: Path) -> None:
    name = ids(out)["hazy"]
    look = tmp_path / "look"
    assert run("show", out.public, name, "--save", look).exit_code == 0
    assert stat.S_IMODE(look.stat().st_mode) == 0o700
    assert {"original", "suggestion"} <= {file.split(".")[1] for file in tree(look)}
    original = Image.open(look / f"{name}.original.jpg")
    source = cv2.GaussianBlur(portrait(28), (0, 0), 8).astype(int)
    assert np.abs(np.asarray(original).astype(int) - source).mean() < 3
    shown = np.asarray(Image.open(look / f"{name}.suggestion.png")) > 127
    assert np.array_equal(shown, suggestion(out, name))


@pytest.mark.parametrize("words", [["show", "ID", "--save"], ["export", "-o"]])
def test_faces_are_written_to_private_folders_only(out: Dataset, tmp_path: Path, words: list[str]) -> None:
    words = [ids(out)["hazy"] if word == "ID" else word for word in words]
    (tmp_path / "link").symlink_to(out.train, target_is_directory=True)
    (tmp_path / "open").mkdir(mode=0o755)
    before = tree(out.public)
    for folder, sentence in [
        (out.public, "inside the public folder"),
        (out.train / "look", "inside the public folder"),
        (tmp_path / "link" / "look", "inside the public folder"),
        (tmp_path / "open", "others can look into"),
    ]:
        result = run(words[0], out.public, *words[1:], folder)
        assert (result.exit_code, sentence in result.stderr) == (2, True), result.stderr
    assert tree(out.public) == before
    assert list((tmp_path / "open").iterdir()) == []


def test_a_picture_is_accepted_and_taken_back(out: Dataset) -> None:
    name = ids(out)["hazy"]
    before = tree(out.public)
    result = run("accept", out.public, name, *(word for check in WAIVABLE for word in ("--waive", check)))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{name}  published")
    assert record_of(out, "hazy").status is Status.ANONYMIZED
    assert np.array_equal(facemask(out, name), suggestion(out, name))
    decided = run("list", out.public, "--state", "decided").stdout
    assert decided.startswith(f"{name}  decided")
    assert run("undo", out.public, name).exit_code == 0
    assert record_of(out, "hazy").status is Status.NEEDS_REVIEW
    assert tree(out.public) == before
    again = run("undo", out.public, name)
    assert again.exit_code == 2
    assert "no decision about" in again.stderr


def test_no_face_exclude_and_skip(out: Dataset) -> None:
    name = ids(out)
    assert run("skip", out.public, name["cup"], "--note", "a cup?").exit_code == 0
    assert '"a cup?"' in run("list", out.public, "--state", "skipped").stdout
    assert run("no-face", out.public, name["cup"]).exit_code == 0
    found = record_of(out, "cup")
    assert (found.status, found.reason) == (Status.ANONYMIZED, Reason.CONFIRMED_NO_FACE)
    assert not facemask(out, name["cup"]).any()
    assert run("exclude", out.public, name["hazy"], "--note", "a child", "--reviewer", "anna").exit_code == 0
    assert record_of(out, "hazy").status is Status.EXCLUDED
    assert run("list", out.public).stdout == ""
    assert "anna" in run("show", out.public, name["hazy"]).stdout


def test_a_skipped_picture_can_be_put_back(out: Dataset) -> None:
    name = ids(out)["cup"]
    run("skip", out.public, name)
    assert run("undo", out.public, name).exit_code == 0
    assert run("list", out.public, "--state", "waiting", "--reason", Reason.NO_FACE).stdout.startswith(name)


def test_the_first_of_two_opinions_is_hidden_but_can_be_undone(out: Dataset) -> None:
    name = ids(out)["hazy"]
    with Desk.open(out, 100) as desk:
        assert desk.second_opinion == 100
    del desk
    collect()
    assert run("exclude", out.public, name, "--reviewer", "anna").stdout.startswith(f"{name}  second opinion")
    assert record_of(out, "hazy").status is Status.NEEDS_REVIEW
    shown = run("show", out.public, name, "--reviewer", "ben").stdout
    assert "exclude" not in shown
    assert "anna" not in shown
    assert run("undo", out.public, name, "--reviewer", "ben").exit_code == 2
    assert run("undo", out.public, name, "--reviewer", "anna").exit_code == 0
    assert " waiting " in run("show", out.public, name).stdout


def test_a_reviewer_without_a_name_is_refused(out: Dataset) -> None:
    result = run("exclude", out.public, ids(out)["cup"], "--reviewer", "")
    assert (result.exit_code, "name" in result.stderr) == (2, True)
    assert record_of(out, "cup").status is Status.NEEDS_REVIEW


def test_many_at_once_need_their_number(out: Dataset) -> None:
    words = ("exclude", out.public, "--all")
    for typed in ("", "y\n", "1\n"):
        refused = run(*words, typed=typed)
        assert refused.exit_code == 2
        assert "nothing was done" in refused.stderr
    assert {record.status for record in records(out).values()} == {Status.ANONYMIZED, Status.NEEDS_REVIEW}
    assert run(*words, "--reason", Reason.NO_FACE, "--yes").exit_code == 0
    assert record_of(out, "cup").status is Status.EXCLUDED
    done = run(*words, "--json", typed="1\n")
    assert done.exit_code == 0
    assert [outcome["outcome"] for outcome in json.loads(done.stdout)] == ["excluded"]
    assert record_of(out, "hazy").status is Status.EXCLUDED
    assert json.loads(run(*words, "--json").stdout) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "--all"),
        ([UNKNOWN, "--all"], "--all"),
        ([UNKNOWN, "--reason", "no_face_found"], "give --all"),
        ([UNKNOWN, "p_xyz"], "'p_xyz' is no id"),
    ],
)
def test_what_to_decide_about_must_be_said(out: Dataset, words: list[str], sentence: str) -> None:
    result = run("exclude", out.public, *words)
    assert (result.exit_code, sentence in result.stderr) == (2, True), result.stderr


def test_what_fails_is_told_and_the_rest_is_done(out: Dataset) -> None:
    name = ids(out)
    alone = run("exclude", out.public, UNKNOWN)
    assert (alone.exit_code, UNKNOWN in alone.stderr) == (2, True)
    result = run("exclude", out.public, UNKNOWN, name["cup"])
    assert result.exit_code == 3
    assert UNKNOWN in result.stderr
    assert result.stdout.startswith(f"{name['cup']}  excluded")
    assert record_of(out, "cup").status is Status.EXCLUDED


def test_a_picture_that_somebody_works_on_is_left_to_them(out: Dataset) -> None:
    name = ids(out)["cup"]
    with Desk.open(out) as desk:
        desk.next("anna", "a tab", want=name)
        assert "(anna works on it)" in run("list", out.public).stdout
        refused = run("exclude", out.public, name, "--reviewer", "ben")
        assert (refused.exit_code, "anna" in refused.stderr) == (2, True), refused.output
        assert record_of(out, "cup").status is Status.NEEDS_REVIEW
        desk.release("anna", "a tab", [name])
    assert run("exclude", out.public, name, "--reviewer", "ben").exit_code == 0


def test_a_mask_that_leaves_the_face_is_sent_back_until_that_is_waived(out: Dataset, tmp_path: Path) -> None:
    name = ids(out)["good"]
    mask = left_side(300, 9)
    file = png(tmp_path / f"{name}.png", mask)
    result = run("import-mask", out.public, file)
    assert result.exit_code == 1
    first, *findings = result.stdout.splitlines()
    assert first.startswith(f"{name}  sent back")
    assert any("--waive faces_left" in line for line in findings)
    assert not [path for path in tree(out.public) if name in path]
    assert "(faces_left)" in run("show", out.public, name).stdout
    named = [check for check in WAIVABLE if any(f"--waive {check} " in line for line in findings)]
    assert len(named) == len(findings)
    waived = run("import-mask", out.public, file, *(word for check in named for word in ("--waive", check)))
    assert waived.exit_code == 0, waived.output
    assert np.array_equal(facemask(out, name), mask)


@pytest.mark.parametrize("form", ["png", "coco", "labelme"])
def test_what_export_wrote_comes_back_unchanged(out: Dataset, tmp_path: Path, form: str) -> None:
    name = ids(out)
    folder = tmp_path / "drawing"
    result = run("export", out.public, "-o", folder, "--format", form, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["pictures"] == 2
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    expected = suggestion(out, name["hazy"])
    told = json.loads(run("import-mask", out.public, folder, "--dry-run", "--json").stdout)
    found = {entry["id"]: entry for entry in told}
    assert found[name["hazy"]]["area"] == expected.sum() > 0
    assert found[name["hazy"]]["outcome"] == "would_decide"
    assert found[name["cup"]]["outcome"] == "not_drawn"
    assert record_of(out, "hazy").status is Status.NEEDS_REVIEW
    run("import-mask", out.public, folder, *(word for check in WAIVABLE for word in ("--waive", check)))
    assert record_of(out, "hazy").status is Status.ANONYMIZED
    assert np.array_equal(facemask(out, name["hazy"]), expected)
    assert record_of(out, "cup").status is Status.NEEDS_REVIEW


def annotated_in_labelme(folder: Path, name: str) -> None:
    """What labelme makes of it when somebody draws a box: another version and the picture inside."""
    file = folder / f"{name}.json"
    document = json.loads(file.read_text())
    box = {"label": "face", "points": [[20.0, 30.0], [60.0, 90.0]], "shape_type": "rectangle", "flags": {}}
    document["shapes"].append(box)
    document |= {"version": "5.8.1", "imageData": "c2VjcmV0", "lineColor": [0, 255, 0, 128]}
    file.write_text(json.dumps(document, indent=2))


def annotated_in_cvat(folder: Path, name: str) -> None:
    """What a COCO tool may make of it: runs as numbers, other ids, a polygon beside."""
    file = folder / "annotations.json"
    document = json.loads(file.read_text())
    (image,) = (image for image in document["images"] if image["file_name"] == f"{name}.jpg")
    polygon = [20, 30, 60, 30, 60, 90, 20, 90]
    document["annotations"] = [
        {**annotation, "id": 70 + n, "segmentation": plain_runs(annotation["segmentation"])}
        for n, annotation in enumerate(document["annotations"])
    ]
    document["annotations"].append(
        {"id": 90, "image_id": image["id"], "segmentation": [polygon], "iscrowd": 0}
    )
    file.write_text(json.dumps(document))


def plain_runs(rle: dict[str, Any]) -> dict[str, Any]:
    from pycocotools.mask import decode

    column_by_column = decode({**rle, "counts": rle["counts"].encode()}).ravel(order="F")
    edges = np.flatnonzero(np.diff(column_by_column, prepend=0)).tolist()
    return {"size": rle["size"], "counts": np.diff([0, *edges, column_by_column.size]).tolist()}


@pytest.mark.filterwarnings("ignore:__array__")
@pytest.mark.parametrize(
    ("form", "annotate"), [("labelme", annotated_in_labelme), ("coco", annotated_in_cvat)]
)
def test_what_an_annotator_adds_is_united_with_the_suggestion(
    out: Dataset, tmp_path: Path, form: str, annotate: Any
) -> None:
    name = ids(out)
    folder = tmp_path / "drawing"
    run("export", out.public, "-o", folder, "--format", form)
    annotate(folder, name["hazy"])
    expected = suggestion(out, name["hazy"])
    expected[30:90, 20:60] = True
    run("import-mask", out.public, folder, *(word for check in WAIVABLE for word in ("--waive", check)))
    assert np.array_equal(facemask(out, name["hazy"]), expected)


def test_a_dry_run_counts_what_the_matte_protects(out: Dataset, tmp_path: Path) -> None:
    name = ids(out)["cup"]
    mask = left_side(160, 80)
    (told,) = json.loads(
        run("import-mask", out.public, png(tmp_path / f"{name}.png", mask), "--dry-run", "--json").stdout
    )
    with Desk.open(out) as desk:
        layer = desk.layer(name, "transition", 160, reviewer="x")
    transition = np.asarray(Image.open(io.BytesIO(layer))) > 127
    assert (told["area"], told["protected"]) == (mask.sum(), (mask & transition).sum())
    assert 0 < told["protected"] < told["area"]


def test_bad_files_are_sentences_and_the_others_go_on(out: Dataset, tmp_path: Path) -> None:
    name = ids(out)
    folder = tmp_path / "drawn"
    drawn = np.zeros((160, 160), bool)
    drawn[60:80, 80:100] = True
    png(folder / f"{name['cup']}.png", drawn)
    png(folder / f"{name['hazy']}.png", left_side(299, 40))
    png(folder / f"{UNKNOWN}.png", left_side(9, 4))
    png(folder / "holiday.png", left_side(9, 4))
    (folder / "broken.json").write_text('{"shapes": [], "imageData": "c2VjcmV0"')
    (folder / "readme.txt").write_text("not looked at")
    result = run("import-mask", out.public, folder)
    assert result.exit_code == 3
    assert result.stdout.splitlines()[0].startswith(f"{name['cup']}  published")
    told = result.stderr.splitlines()
    assert len(told) == 4
    for word in (
        "299 x 299 but its picture is 300 x 300",
        UNKNOWN,
        "holiday.png is not named",
        "broken.json is not",
    ):
        assert any(word in line for line in told), word
    assert "c2VjcmV0" not in result.output
    assert np.array_equal(facemask(out, name["cup"]), drawn)


def test_two_masks_for_one_picture_decide_nothing(out: Dataset, tmp_path: Path) -> None:
    name = ids(out)["cup"]
    one, other = (png(tmp_path / part / f"{name}.png", left_side(160, 40)) for part in "ab")
    result = run("import-mask", out.public, one, other, one)
    assert result.exit_code == 3
    assert result.stderr.count("one of 2 masks for the same picture") == 2
    assert record_of(out, "cup").status is Status.NEEDS_REVIEW


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        ("{}", [], "neither COCO"),
        ("{}", ["--format", "coco"], '"images"'),
        ("{}", ["--format", "labelme"], '"imageWidth"'),
        ("{}", ["--format", "png"], "is not a PNG file"),
        ("[" * 90_000, [], "is not a JSON file"),
        (None, [], "cannot be read"),
    ],
)
def test_one_bad_file(
    out: Dataset, tmp_path: Path, content: str | None, options: list[str], sentence: str
) -> None:
    file = tmp_path / f"{ids(out)['cup']}.json"
    if content is not None:
        file.write_text(content)
    result = run("import-mask", out.public, file, *options)
    assert (result.exit_code, sentence in result.stderr) == (3, True), result.stderr
    assert result.stdout == ""


def test_a_folder_without_masks(out: Dataset, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    result = run("import-mask", out.public, tmp_path / "none")
    assert (result.exit_code, "holds no masks" in result.stderr) == (2, True)


@pytest.mark.parametrize("form", ["png", "coco", "labelme"])
def test_export_with_pictures_goes_on_where_it_stopped(out: Dataset, tmp_path: Path, form: str) -> None:
    name, folder = ids(out), tmp_path / "drawing"
    words = ("export", out.public, "-o", folder, "--format", form, "--with-pictures")
    first = run(*words)
    assert first.exit_code == 0
    assert "show faces" in first.stderr
    whole = tree(folder)
    assert len([file for file in whole if file.endswith(".jpg")]) == 2
    for stem in ("cup", "hazy"):
        picture = Image.open(folder / f"{name[stem]}.jpg")
        found = record_of(out, stem)
        assert picture.size == (found.width, found.height)
        assert not picture.getexif()
        assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    (folder / f"{name['cup']}.jpg").unlink()
    assert run(*words).exit_code == 0
    assert tree(folder) == whole
    assert not any(
        str(source).encode() in data for source in ("cup.png", "hazy.png") for data in whole.values()
    )


@pytest.mark.parametrize("form", ["png", "coco", "labelme"])
def test_export_goes_on_after_a_picture_that_cannot_be_opened(
    out: Dataset, tmp_path: Path, form: str
) -> None:
    name, folder = ids(out)["hazy"], tmp_path / "drawing"
    result = run("export", out.public, UNKNOWN, name, "-o", folder, "--format", form, "--with-pictures")
    assert (result.exit_code, UNKNOWN in result.stderr) == (3, True)
    assert f"{name}.jpg" in tree(folder)
    (told,) = json.loads(run("import-mask", out.public, folder, "--dry-run", "--json").stdout)
    assert (told["id"], told["area"]) == (name, suggestion(out, name).sum())


def test_export_keeps_what_was_worked_on(out: Dataset, tmp_path: Path) -> None:
    name, folder = ids(out), tmp_path / "drawing"
    run("export", out.public, name["hazy"], "-o", folder)
    assert set(tree(folder)) == {f"{name['hazy']}.png"}
    png(folder / f"{name['hazy']}.png", left_side(300, 7))
    before = tree(folder)
    again = run("export", out.public, name["hazy"], "-o", folder)
    assert "1 were there already" in again.stdout
    assert tree(folder) == before
    assert run("export", out.public, "-o", folder, "--format", "coco").exit_code == 0
    (folder / "annotations.json").write_text("{}")
    refused = run("export", out.public, "-o", folder, "--format", "coco")
    assert (refused.exit_code, "holds other masks" in refused.stderr) == (2, True)
    assert (folder / "annotations.json").read_text() == "{}"


@pytest.fixture
def served(out: Dataset) -> Iterator[subprocess.Popen[str]]:
    """`p3mdata review OUT` of two reviewers, once both links are printed."""
    words = command(
        "review", out.public, "--no-browser", "--reviewer", "anna", "--reviewer", "ben", "--spot-check", "5"
    )
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def test_the_page_is_served_until_ctrl_c(served: subprocess.Popen[str]) -> None:
    assert served.stdout is not None
    lines: list[str] = []
    while not any("ben" in line for line in lines):
        lines.append(served.stdout.readline())
        assert lines[-1], served.communicate()[1]
    assert lines[0].startswith("Spot check: 1 picture drawn, none looked at yet")
    assert any("anna" in line and "http://127.0.0.1:" in line for line in lines)
    served.send_signal(signal.SIGINT)
    rest, errors = served.communicate()
    assert served.returncode == 1, errors
    assert "0 decided, 3 left" in rest
    assert "2 waiting" in rest
    assert "Traceback" not in errors


def test_a_dataset_that_is_named_like_a_command_can_be_served(tmp_path: Path) -> None:
    result = run("serve", tmp_path / "list")
    assert (result.exit_code, "is not a p3mdata dataset" in result.stderr) == (2, True)


def test_without_the_extra_the_page_says_what_to_install(
    out: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("p3m_data.review")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run(out.public)
    assert result.exit_code == 2
    assert 'pip install "p3mdata[review]"' in result.stderr


def test_nothing_of_a_note_reaches_the_terminal_raw() -> None:
    assert printable("a\x1b[31m\nb") == "a\\x1b[31m\\nb"
