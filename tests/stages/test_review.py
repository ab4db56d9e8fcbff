"""The desk: every verdict, undo, second opinions, spot checks; looked at from the files and the ledger."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p3m_data.arrays import BoolArray
from p3m_data.errors import (
    DraftChanged,
    PictureTaken,
    StorageError,
    UnknownPicture,
    UsageError,
)
from p3m_data.pipeline.dataset import Dataset
from p3m_data.stages import settle as settling
from p3m_data.stages.review import Desk
from p3m_data.storage.folders import write_atomic
from p3m_data.storage.images import decode
from p3m_data.storage.manifest import read_manifest
from p3m_data.types import ManifestRow, Reason, Record, Status
from tests.runs import faceless, p3mdata, portrait, records, tree

FACE = {"tool": "ellipse", "erase": False, "box": [95, 60, 200, 180]}
DAB = {"tool": "brush", "erase": False, "radius": 6, "points": [[20, 20], [40, 20]]}


def ids(out: Dataset) -> dict[str, str]:
    """Source -> id."""
    return {source: record.id for source, record in records(out).items() if record.id}


def manifest(out: Dataset) -> dict[str, ManifestRow]:
    return {row.id: row for row in read_manifest(out.manifest)}


def public(out: Dataset) -> dict[str, bytes]:
    """What is published, the manifest in step, without the report that only the command line writes."""
    return {path: data for path, data in tree(out.public).items() if not path.startswith("report")}


def facemask(out: Dataset, name: str) -> BoolArray:
    return decode((out.train / "facemask" / f"{name}.png").read_bytes())[..., 0] > 0


def picture(out: Dataset, record: Record) -> np.ndarray:
    (path,) = (path for path in record.files if "blurred_image" in path)
    return decode((out.public / path).read_bytes())


def draw(desk: Desk, name: str, *ops: dict[str, Any], reviewer: str = "anna") -> int:
    """Replaces the drawing of a reviewer; its version."""
    version = desk.draft(name, reviewer)["version"]
    return int(desk.save_draft(name, reviewer, "tab", version, 0, ops, len(ops))["version"])


def decide(desk: Desk, name: str, verdict: str, reviewer: str = "anna", **options: Any) -> dict[str, Any]:
    return desk.decide(name, reviewer, verdict, **options)


# verdicts


def test_confirmed_without_a_face(desk: Desk, out: Dataset) -> None:
    name = ids(out)["cup.png"]
    assert decide(desk, name, "no_face")["outcome"] == "published"
    desk.flush()
    record, row = records(out)["cup.png"], manifest(out)[name]
    assert (record.status, record.reason) == (Status.ANONYMIZED, Reason.CONFIRMED_NO_FACE)
    assert (row.anonymized_by, row.faces) == ("reviewer", ())
    assert not facemask(out, name).any()
    assert np.array_equal(picture(out, record), faceless())


def test_the_suggestion_accepted(desk: Desk, out: Dataset) -> None:
    name = ids(out)["blurred.png"]
    mask = desk.suggestion(name)
    assert mask.any()
    assert decide(desk, name, "accept", note="a statue")["outcome"] == "published"
    desk.flush()
    record = records(out)["blurred.png"]
    assert np.array_equal(facemask(out, name), mask)
    source, written = desk.picture(name), picture(out, record)
    assert np.array_equal(source[~mask], written[~mask])
    assert (source[mask] != written[mask]).any()
    assert [face.how for face in record.faces] == ["person"]
    assert manifest(out)[name].anonymized_by == "reviewer"
    assert b"statue" not in out.manifest.read_bytes()
    assert b"anna" not in b"".join(public(out).values())


def test_a_drawn_mask(desk: Desk, out: Dataset) -> None:
    name = ids(out)["cup.png"]
    saved = desk.save_draft(name, "anna", "tab", 0, 0, [FACE | {"box": [10, 60, 60, 110]}, DAB], 2)
    assert decide(desk, name, "mask", version=saved["version"])["outcome"] == "published"
    mask = facemask(out, name)
    assert saved["area"] == mask.sum()
    assert mask[85, 35]
    assert mask[20, 30]
    assert not mask[120, 120]
    written = picture(out, records(out)["cup.png"])
    assert np.array_equal(written[~mask], faceless()[~mask])
    assert len(records(out)["cup.png"].faces) == 2


def test_undone_strokes_do_not_count(desk: Desk, out: Dataset) -> None:
    name = ids(out)["cup.png"]
    version = desk.save_draft(name, "anna", "tab", 0, 0, [DAB, FACE], 1)["version"]
    decide(desk, name, "mask", version=version)
    assert not facemask(out, name)[100, 150]


def test_left_out(desk: Desk, out: Dataset) -> None:
    before = public(out)
    assert decide(desk, ids(out)["cup.png"], "exclude")["outcome"] == "excluded"
    desk.flush()
    assert public(out) == before
    record = records(out)["cup.png"]
    assert (record.status, record.reason) == (Status.EXCLUDED, Reason.EXCLUDED)


def test_skipped_with_a_note(desk: Desk) -> None:
    first = desk.next("anna", "tab", count=1)["items"][0]["id"]
    decide(desk, first, "skip", note="ask Ben")
    assert desk.overview("anna")["counts"] == {
        "waiting": 2,
        "skipped": 1,
        "second_opinion": 0,
        "disagreement": 0,
        "spot_check": 0,
        "decided": 0,
    }
    listed = desk.listing(None, None, 0, 60, "ben")["items"]
    assert (listed[-1]["id"], listed[-1]["note"]) == (first, "ask Ben")
    assert decide(desk, first, "exclude")["outcome"] == "excluded"


@pytest.mark.parametrize(
    ("verdict", "options", "said"),
    [
        ("accept", {}, "no suggestion"),
        ("mask", {"mask": np.zeros((160, 160), bool)}, "is empty"),
        ("mask", {"mask": np.ones((160, 161), bool)}, "does not fit"),
        ("publish", {}, "there are accept, mask, no_face, exclude, skip"),
        ("no_face", {"waive": ["size"]}, "check to let pass"),
        ("no_face", {"note": "x" * 2001}, "2000 characters"),
        ("no_face", {"reviewer": ""}, "1 to 60"),
        ("no_face", {"reviewer": "a\nb"}, "printable"),
    ],
)
def test_what_cannot_be_decided(
    desk: Desk, out: Dataset, verdict: str, options: dict[str, Any], said: str
) -> None:
    before = records(out)
    with pytest.raises(UsageError, match=said):
        decide(desk, ids(out)["cup.png"], verdict, **options)
    assert records(out) == before
    assert desk.decisions(10) == []


@pytest.mark.parametrize("name", ["p_0123456789abcdef", "../secret.key", "", "cup.png"])
def test_unknown_pictures(desk: Desk, name: str) -> None:
    for ask in (
        lambda: desk.detail(name, "anna"),
        lambda: desk.layer(name, "original", reviewer="anna"),
        lambda: desk.thumbnail(name),
        lambda: decide(desk, name, "no_face"),
        lambda: desk.next("anna", "tab", want=name),
        lambda: desk.save_draft(name, "anna", "tab", 0, 0, [DAB], 1),
    ):
        with pytest.raises(UnknownPicture):
            ask()


def test_a_source_that_changed_since(desk: Desk, out: Dataset, tmp_path: Path) -> None:
    """Another picture under the old name must not be published under the old id."""
    name = ids(out)["cup.png"]
    with out.ledger() as ledger:
        photos = Path(str(ledger.meta("photos")))
    moved = tmp_path / "photos"
    shutil.copytree(photos, moved)
    desk._job = desk._job.__class__(**{**desk._job.__dict__, "photos": moved})
    shutil.copy(moved / "face.png", moved / "cup.png")
    with pytest.raises(UsageError, match="changed"):
        decide(desk, name, "no_face")
    (moved / "cup.png").unlink()
    with pytest.raises(UsageError, match="cannot be opened"):
        decide(desk, name, "no_face")


# the verification has the last word


def test_a_mask_beside_the_face_is_sent_back(desk: Desk, out: Dataset) -> None:
    name, before = ids(out)["soft.png"], public(out)
    version = draw(desk, name, DAB)
    answer = decide(desk, name, "mask", version=version)
    assert answer["outcome"] == "sent_back"
    (finding,) = (f for f in answer["findings"] if f["check"] == "faces_left")
    assert finding["waivable"]
    x0, y0, x1, y1 = finding["boxes"][0]
    assert x0 < 150 < x1
    assert y0 < 120 < y1
    desk.flush()
    assert public(out) == before
    record = records(out)["soft.png"]
    assert (record.status, record.reason) == (Status.NEEDS_REVIEW, Reason.FACE_REMAINS)
    detail = desk.detail(name, "anna")
    assert detail["findings"] == answer["findings"]
    assert detail["draft"]["done"] == 1
    assert desk.layer(name, "result", reviewer="anna")[:2] == b"\xff\xd8"


def test_a_person_lets_it_pass(desk: Desk, out: Dataset) -> None:
    name = ids(out)["soft.png"]
    version = draw(desk, name, DAB)
    failed = {f["check"] for f in decide(desk, name, "mask", version=version)["findings"]}
    answer = decide(desk, name, "mask", version=version, waive=sorted(failed))
    assert answer["outcome"] == "published"
    desk.flush()
    checks = {check.name: check for check in manifest(out)[name].checks}
    assert not checks["faces_left"].passed
    assert checks["faces_left"].waived
    assert not checks["outside_identical"].waived


def test_protected_pixels_are_counted_clipped_and_only_touched_on_request(desk: Desk, out: Dataset) -> None:
    name = ids(out)["soft.png"]
    ops = [{"tool": "suggestion"}, FACE]
    saved = desk.save_draft(name, "anna", "tab", 0, 0, ops, 2)
    assert saved["protected"] > 1000
    answer = decide(desk, name, "mask", version=saved["version"])
    assert "transition_untouched" in {f["check"] for f in answer["findings"]}
    clipped = desk.save_draft(name, "anna", "tab", saved["version"], 2, [{"tool": "clip"}], 3)
    assert clipped["protected"] == 0
    assert saved["area"] - clipped["area"] == saved["protected"]
    answer = decide(desk, name, "mask", version=clipped["version"], waive=["faces_left", "detail_left"])
    assert answer["outcome"] == "published"
    mask, alpha = facemask(out, name), decode((out.train / "mask" / f"{name}.png").read_bytes())[..., 0]
    assert not (mask & (alpha > 10) & (alpha < 245)).any()
    redrawn = desk.save_draft(name, "anna", "tab", clipped["version"], 2, [], 2)
    every = ["faces_left", "detail_left", "transition_untouched"]
    assert decide(desk, name, "mask", version=redrawn["version"], waive=every)["outcome"] == "published"
    check = next(c for c in records(out)["soft.png"].checks if c.name == "transition_untouched")
    assert (check.passed, check.waived, check.value) == (False, True, saved["protected"])


def test_no_face_keeps_the_masks_that_the_machine_was_sure_of(desk: Desk, out: Dataset) -> None:
    """Somebody who says `nobody else` must not expose the faces that were masked already."""
    name = ids(out)["soft.png"]
    assert [face["how"] for face in desk.detail(name, "anna")["faces"]] == ["landmarks"]
    decide(desk, name, "no_face", waive=["faces_left", "detail_left"])
    assert np.array_equal(facemask(out, name), desk.suggestion(name))
    assert facemask(out, name).any()


# drawing


def test_a_drawing_outlives_the_desk(out: Dataset) -> None:
    name = ids(out)["cup.png"]
    with Desk.open(out) as desk:
        desk.save_draft(name, "anna", "tab", 0, 0, [DAB, FACE], 1)
    with Desk.open(out) as desk:
        draft = desk.detail(name, "anna")["draft"]
        assert (len(draft["ops"]), draft["done"], draft["version"]) == (2, 1, 1)
        assert desk.detail(name, "ben")["draft"]["ops"] == []


def test_two_windows_do_not_overwrite_each_other(desk: Desk, out: Dataset) -> None:
    name = ids(out)["cup.png"]
    desk.save_draft(name, "anna", "tab", 0, 0, [DAB], 1)
    with pytest.raises(DraftChanged) as caught:
        desk.save_draft(name, "anna", "other tab", 0, 0, [FACE], 1)
    assert caught.value.draft["done"] == 1
    with pytest.raises(DraftChanged):
        decide(desk, name, "mask", version=0)
    with pytest.raises(DraftChanged):
        desk.preview(name, "anna", 0)


@pytest.mark.parametrize(("keep", "done"), [(2, 1), (-1, 1), (1, 3), (0, -1)])
def test_drawings_that_do_not_add_up(desk: Desk, out: Dataset, keep: int, done: int) -> None:
    name = ids(out)["cup.png"]
    desk.save_draft(name, "anna", "tab", 0, 0, [DAB], 1)
    with pytest.raises(UsageError, match="strokes cannot keep"):
        desk.save_draft(name, "anna", "tab", 1, keep, [FACE], done)


def test_the_preview_is_the_blur(desk: Desk, out: Dataset) -> None:
    name = ids(out)["blurred.png"]
    version = draw(desk, name, {"tool": "suggestion"})
    preview = decode(desk.preview(name, "anna", version)).astype(int)
    decide(desk, name, "accept")
    published = picture(out, records(out)["blurred.png"]).astype(int)
    assert preview.shape == published.shape
    assert np.abs(preview - published).mean() < 2.5  # the preview is a JPEG


def test_landmarks_in_a_box(desk: Desk, out: Dataset) -> None:
    name = ids(out)["face.png"]
    known = np.array(records(out)["face.png"].faces[0].outline)
    low, high = known.min(axis=0) - 10, known.max(axis=0) + 10
    found = desk.landmarks(name, (*low, *high))
    assert np.abs(np.array(found["outline"]).mean(axis=0) - known.mean(axis=0)).max() < 8
    nothing = desk.landmarks(ids(out)["cup.png"], (0, 0, 60, 60))
    assert nothing["outline"] is None
    assert "draw by hand" in nothing["said"]
    with pytest.raises(UsageError, match="too small"):
        desk.landmarks(name, (5, 5, 6, 6))


# undo


@pytest.mark.parametrize(
    ("source", "verdict"),
    [
        ("cup.png", "no_face"),
        ("cup.png", "exclude"),
        ("cup.png", "skip"),
        ("blurred.png", "accept"),
        ("face.png", "accept"),
        ("face.png", "exclude"),
        ("face.jpg", "exclude"),
        ("face.png", "mask"),
    ],
)
def test_every_decision_can_be_undone(desk: Desk, out: Dataset, source: str, verdict: str) -> None:
    """Undone, the public side and the ledger are byte for byte what they were."""
    desk.flush()
    files, rows, name = public(out), records(out), ids(out)[source]
    options: dict[str, Any] = (
        {"version": draw(desk, name, {"tool": "suggestion"})} if verdict == "mask" else {}
    )
    answer = decide(desk, name, verdict, **options)
    assert answer["outcome"] != "sent_back"
    assert desk.undo(answer["number"], "anna")["id"] == name
    desk.flush()
    assert public(out) == files
    assert records(out) == rows
    assert desk.overview("anna")["counts"]["decided"] == 0
    with pytest.raises(UsageError, match="does not stand"):
        desk.undo(answer["number"], "anna")


def test_another_decision_replaces_the_first(desk: Desk, out: Dataset) -> None:
    name = ids(out)["cup.png"]
    first = decide(desk, name, "no_face")
    desk.flush()
    before = public(out)
    second = decide(desk, name, "exclude")
    desk.flush()
    assert name not in manifest(out)
    assert not any(name in path for path in public(out))
    with pytest.raises(UsageError, match="followed by another"):
        desk.undo(first["number"], "anna")
    desk.undo(second["number"], "anna")
    desk.flush()
    assert public(out) == before


# spot checks


def test_a_spot_check_that_finds_nothing_changes_nothing(desk: Desk, out: Dataset) -> None:
    files = public(out)
    assert desk.draw_spot_checks(5) == {
        "drawn": 2,
        "checked": 0,
        "misses": 0,
        "population": 2,
        "upper_bound": 1.0,
    }
    for item in desk.next("anna", "tab", state="spot_check", count=3)["items"]:
        assert decide(desk, item["id"], "accept")["outcome"] == "confirmed"
    desk.flush()
    assert public(out) == files
    spot = desk.overview("anna")["spot"]
    assert (spot["checked"], spot["misses"]) == (2, 0)
    assert spot["upper_bound"] == pytest.approx(1 - 0.05**0.5)
    assert desk.overview("anna")["mine_waiting"] == 3


def test_a_miss_is_taken_away_at_once(desk: Desk, out: Dataset) -> None:
    """Even when the corrected mask cannot be published, the wrong one no longer is."""
    desk.draw_spot_checks(2)
    name = ids(out)["face.png"]
    answer = decide(desk, name, "mask", version=draw(desk, name, DAB))
    assert answer["outcome"] == "sent_back"
    desk.flush()
    assert name not in manifest(out)
    assert not any(name in path for path in public(out))
    assert desk.overview("anna")["spot"]["misses"] == 1
    better = draw(desk, name, {"tool": "suggestion"}, DAB | {"points": [[150, 150]]})
    waive = ["transition_untouched"]
    assert decide(desk, name, "mask", version=better, waive=waive)["outcome"] == "published"
    spot = desk.overview("anna")["spot"]
    assert (spot["checked"], spot["misses"]) == (1, 1)


# two people


def test_two_people_get_different_pictures(desk: Desk) -> None:
    hers = {item["id"] for item in desk.next("anna", "a", count=2)["items"]}
    his = {item["id"] for item in desk.next("ben", "b", count=3)["items"]}
    assert (len(hers), len(his)) == (2, 1)
    assert not hers & his
    name = next(iter(hers))
    for attempt in (
        lambda: decide(desk, name, "exclude", reviewer="ben"),
        lambda: desk.next("ben", "b", want=name),
        lambda: desk.save_draft(name, "ben", "b", 0, 0, [DAB], 1),
    ):
        with pytest.raises(PictureTaken, match="anna works on"):
            attempt()
    desk.release("anna", "a", sorted(hers))
    assert decide(desk, name, "exclude", reviewer="ben")["outcome"] == "excluded"


@pytest.fixture
def both(out: Dataset) -> Any:
    with Desk.open(out, second_opinion=100) as made:
        yield made


def test_a_second_opinion_that_agrees(both: Desk, out: Dataset) -> None:
    name, before = ids(out)["cup.png"], public(out)
    assert decide(both, name, "no_face", "anna", note="sure")["outcome"] == "second_opinion"
    both.flush()
    assert public(out) == before
    assert name not in [item["id"] for item in both.next("anna", "a", count=9)["items"]]
    both.release("anna", "a", list(ids(out).values()))
    offered = both.next("ben", "b", state="second_opinion")["items"][0]
    assert (offered["id"], offered["verdict"], offered["by"]) == (name, None, None)
    told = json.dumps([both.detail(name, "ben") | {"note": ""}, both.decisions(5)])
    assert "no_face" not in told.replace("no_face_found", "")
    assert decide(both, name, "no_face", "ben")["outcome"] == "agreed"
    assert records(out)["cup.png"].status is Status.ANONYMIZED
    assert both.overview("ben")["second"] == {"decided_twice": 1, "disagreed": 0}


def test_a_disagreement_is_shown_and_settled(both: Desk, out: Dataset) -> None:
    name, before = ids(out)["blurred.png"], public(out)
    decide(both, name, "accept", "anna")
    assert decide(both, name, "exclude", "ben")["outcome"] == "disagreement"
    both.flush()
    assert public(out) == before
    detail = both.detail(name, "carla")
    assert detail["state"] == "disagreement"
    assert [(o["by"], o["verdict"]) for o in detail["opinions"]] == [("anna", "accept"), ("ben", "exclude")]
    mask = decode(both.layer(name, "opinion-1", reviewer="carla"))[..., 0] > 0
    assert np.array_equal(mask, both.suggestion(name))
    assert not decode(both.layer(name, "opinion-2", reviewer="carla")).any()
    settled = decide(both, name, "accept", "carla")
    assert settled["outcome"] == "published"
    assert both.overview("carla")["second"] == {"decided_twice": 1, "disagreed": 1}
    both.undo(settled["number"], "carla")
    both.flush()
    assert public(out) == before
    detail = both.detail(name, "carla")
    assert detail["state"] == "disagreement"
    assert [o["by"] for o in detail["opinions"]] == ["anna", "ben"]
    assert records(out)["blurred.png"].reason is Reason.NO_LANDMARKS


def test_masks_that_nearly_agree_are_the_same_opinion(both: Desk, out: Dataset) -> None:
    name = ids(out)["cup.png"]
    size = (160, 160)
    one, alike, other = (np.zeros(size, bool) for _ in range(3))
    one[20:80, 20:80] = alike[20:78, 22:80] = other[20:80, 60:140] = True
    assert decide(both, name, "mask", "anna", mask=one)["outcome"] == "second_opinion"
    assert decide(both, name, "mask", "ben", mask=other)["outcome"] == "disagreement"
    both.undo(both.decisions(1)[0]["number"], "ben")
    assert both.detail(name, "ben")["state"] == "second_opinion"
    assert decide(both, name, "mask", "ben", mask=alike)["outcome"] == "agreed"
    assert np.array_equal(facemask(out, name), one)


@pytest.mark.parametrize("share", [-1, 101, float("nan")])
def test_impossible_shares(out: Dataset, share: float) -> None:
    with pytest.raises(UsageError, match="0 to 100"):
        Desk.open(out, second_opinion=share)


def test_the_share_is_remembered(out: Dataset) -> None:
    with Desk.open(out, second_opinion=25) as desk:
        assert desk.second_opinion == 25
    with Desk.open(out) as desk:
        assert desk.second_opinion == 25


# whatever happens


class Killed(BaseException):
    """The process ends here."""


def killed(*_: object, **__: object) -> None:
    raise Killed


def abandon(desk: Desk) -> None:
    """Leave a desk as a kill does: nothing more is carried out or written."""
    desk._work.submit(desk._close_networks)
    desk._work.shutdown()
    desk._ledger.close()


@pytest.mark.parametrize("moment", ["stored", "withdrawn", "verified", "written", "sheet"])
@pytest.mark.parametrize(
    ("source", "verdict"), [("blurred.png", "accept"), ("face.png", "exclude"), ("cup.png", "no_face")]
)
def test_a_decision_cut_short_is_carried_out_later(
    out: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    verdict: str,
    moment: str,
) -> None:
    """Killed at any moment, what was decided holds after the next start, as if nothing had happened."""
    name = ids(out)[source]
    shutil.copytree(out.public, tmp_path / "calm")
    shutil.copytree(out.private, tmp_path / "calm.private")
    calm = Dataset.at(tmp_path / "calm")
    with Desk.open(calm) as desk:
        decide(desk, name, verdict)

    def after(function: Callable[..., Any]) -> Callable[..., Any]:
        def work(*args: Any, **options: Any) -> Any:
            function(*args, **options)
            raise Killed

        return work

    with monkeypatch.context() as patch:
        match moment:
            case "stored":
                patch.setattr(settling.Settler, "settle", killed)
            case "withdrawn":
                patch.setattr(settling.Settler, "_withdraw", after(settling.Settler._withdraw))
            case "verified":
                patch.setattr(settling, "blur_until_clean", after(settling.blur_until_clean))
            case "written":
                patch.setattr(settling, "publish", after(settling.publish))
            case "sheet":
                patch.setattr(settling, "write_sheet", killed)
        desk = Desk.open(out)
        if verdict == "exclude" and moment in ("verified", "written", "sheet"):
            decide(desk, name, verdict)
        else:
            with pytest.raises(Killed):
                decide(desk, name, verdict)
        abandon(desk)
    with Desk.open(out) as desk:
        desk.catch_up()
    assert public(out) == public(calm)
    assert records(out) == records(calm)


def test_a_full_disk_leaves_nothing_half_published(
    desk: Desk, out: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, before = ids(out)["cup.png"], public(out)

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("p3m_data.stages.candidate.folders.write_atomic", full)
        with pytest.raises(StorageError):
            decide(desk, name, "no_face")
    desk.flush()
    assert public(out) == before
    assert desk.catch_up() == 1
    assert records(out)["cup.png"].status is Status.ANONYMIZED


@pytest.mark.parametrize(("source", "verdict"), [("face.png", "exclude"), ("cup.png", "no_face")])
def test_what_a_person_said_outlives_another_run(
    waiting: Path, tmp_path: Path, source: str, verdict: str
) -> None:
    """The machine looks again at a file with a new date: it must not publish what a person left out."""
    for side in ("photos", "mattes"):
        shutil.copytree(waiting / side, tmp_path / side)
    out = Dataset.at(tmp_path / "out")
    run = ("anonymize", tmp_path / "photos", "--mattes", tmp_path / "mattes", "-o", out.public)
    assert p3mdata(*run).returncode == 1
    with Desk.open(out) as desk:
        decide(desk, ids(out)[source], verdict)
    files, rows = public(out), records(out)
    os.utime(tmp_path / "photos" / source, ns=(1, 1))
    again = p3mdata(*run)
    assert again.returncode == 1
    assert "carried out again" in again.stderr + again.stdout
    assert public(out) == files
    assert records(out) == rows


def test_lost_public_files_come_back(out: Dataset, waiting: Path) -> None:
    name = ids(out)["cup.png"]
    with Desk.open(out) as desk:
        decide(desk, name, "no_face")
    files = public(out)
    (out.train / "facemask" / f"{name}.png").unlink()
    p3mdata("anonymize", waiting / "photos", "--mattes", waiting / "mattes", "-o", out.public)
    assert public(out) == files


def test_portraits_of_the_fixture(out: Dataset, desk: Desk) -> None:
    """The other tests mean what they say."""
    assert np.array_equal(desk.picture(ids(out)["face.png"]), portrait())
    assert {s: r.reason for s, r in records(out).items()} == {
        "blurred.png": Reason.NO_LANDMARKS,
        "cup.png": Reason.NO_FACE,
        "face.jpg": None,
        "face.png": None,
        "soft.png": Reason.MASK_TOO_SMALL,
    }


def test_a_decision_is_about_bytes_whatever_file_holds_them(waiting: Path, tmp_path: Path) -> None:
    """The file is renamed, so that its copy of the same bytes takes its place."""
    for side in ("photos", "mattes"):
        shutil.copytree(waiting / side, tmp_path / side)
    photos, out = tmp_path / "photos", Dataset.at(tmp_path / "out")
    shutil.copy(photos / "cup.png", photos / "zz-copy.png")
    run = ("anonymize", photos, "--mattes", tmp_path / "mattes", "-o", out.public)
    p3mdata(*run)
    name = ids(out)["cup.png"]
    with Desk.open(out) as desk:
        number = decide(desk, name, "no_face")["number"]
    files = public(out)
    (photos / "cup.png").write_bytes((photos / "face.jpg").read_bytes() + b"\0")
    p3mdata(*run)
    rows = records(out)
    assert (rows["zz-copy.png"].id, rows["zz-copy.png"].reason) == (name, Reason.CONFIRMED_NO_FACE)
    assert {path: data for path, data in public(out).items() if name in path} == {
        path: data for path, data in files.items() if name in path
    }
    with Desk.open(out) as desk:
        desk.undo(number, "anna")
        assert desk.detail(name, "anna")["state"] == "waiting"


# what somebody objected to stays away


def objected(desk: Desk, out: Dataset) -> str:
    """A published picture whose correction is sent back: it waits now."""
    name = ids(out)["face.png"]
    answer = decide(desk, name, "mask", reviewer="ben", version=draw(desk, name, DAB, reviewer="ben"))
    assert answer["outcome"] == "sent_back"
    return name


def gone(out: Dataset, name: str) -> bool:
    return not list(out.public.rglob(f"*{name}*")) and name not in manifest(out)


def test_an_objection_outlives_a_restart(out: Dataset) -> None:
    with Desk.open(out) as desk:
        decide(desk, ids(out)["face.png"], "mask", mask=desk.suggestion(ids(out)["face.png"]))
        name = objected(desk, out)
    with Desk.open(out) as desk:
        assert desk.catch_up() == 0
    assert gone(out, name)
    assert records(out)["face.png"].status is Status.NEEDS_REVIEW


@pytest.mark.parametrize("what", ["a touched file", "a copy that sorts first"])
def test_an_objection_outlives_another_run(waiting: Path, tmp_path: Path, what: str) -> None:
    for side in ("photos", "mattes"):
        shutil.copytree(waiting / side, tmp_path / side)
    photos, mattes, out = tmp_path / "photos", tmp_path / "mattes", Dataset.at(tmp_path / "out")
    run = ("anonymize", photos, "--mattes", mattes, "-o", out.public)
    p3mdata(*run)
    with Desk.open(out) as desk:
        name = objected(desk, out)
    if what == "a touched file":
        os.utime(photos / "face.png", ns=(1, 1))
    else:
        shutil.copy(photos / "face.png", photos / "aaa.png")
        shutil.copy(mattes / "face.png", mattes / "aaa.png")
    p3mdata(*run)
    assert gone(out, name)


def test_a_copy_under_way_does_not_bring_back_what_was_excluded(
    waiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run took its list of decisions when it began; this one comes later."""
    from p3m_data.pipeline.decisions import Decisions
    from p3m_data.stages.config import AnonymizeConfig
    from p3m_data.stages.run import anonymize_folder

    for side in ("photos", "mattes", "out", "out.private"):
        shutil.copytree(waiting / side, tmp_path / side)
    out = Dataset.at(tmp_path / "out")
    with out.ledger() as ledger:
        photos, mattes = Path(str(ledger.meta("photos"))), Path(str(ledger.meta("mattes")))
    name = ids(out)["face.png"]
    with Desk.open(out) as desk:
        decide(desk, name, "exclude")
    with out.ledger(beside_a_run=True) as ledger, ledger.writing():
        ledger.execute("UPDATE picture SET status = 'pending', id = NULL WHERE id = ?", name)
    monkeypatch.setattr(Decisions, "effective", lambda _self: frozenset())
    anonymize_folder(photos, out, AnonymizeConfig(), mattes=mattes)
    assert gone(out, name)
    assert records(out)["face.png"].status is Status.EXCLUDED


def test_a_slower_decision_does_not_win_over_a_newer_one(
    out: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two desks: while the first blurs, somebody excludes the picture at the second."""
    name = ids(out)["blurred.png"]
    with Desk.open(out) as slow, Desk.open(out) as fast:
        fast.catch_up()
        real = settling.blur_until_clean

        def meanwhile(*args: Any, **options: Any) -> Any:
            monkeypatch.setattr(settling, "blur_until_clean", real)
            assert decide(fast, name, "exclude", reviewer="ben")["outcome"] == "excluded"
            return real(*args, **options)

        monkeypatch.setattr(settling, "blur_until_clean", meanwhile)
        assert decide(slow, name, "accept")["outcome"] == "overtaken"
    assert gone(out, name)
    assert records(out)["blurred.png"].status is Status.EXCLUDED


def test_undone_while_it_is_carried_out(out: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    name = ids(out)["blurred.png"]
    with Desk.open(out) as slow, Desk.open(out) as fast:
        fast.catch_up()
        real = settling.blur_until_clean

        def meanwhile(*args: Any, **options: Any) -> Any:
            monkeypatch.setattr(settling, "blur_until_clean", real)
            fast.undo(fast.decisions(1)[0]["number"], "anna")
            return real(*args, **options)

        monkeypatch.setattr(settling, "blur_until_clean", meanwhile)
        decide(slow, name, "accept")
    assert gone(out, name)
    assert records(out)["blurred.png"].status is Status.NEEDS_REVIEW


def test_undo_brings_back_what_held_before(desk: Desk, out: Dataset) -> None:
    """The machine published it, anna left it out, ben took it in: without ben it is left out."""
    name = ids(out)["face.png"]
    decide(desk, name, "exclude")
    answer = decide(desk, name, "accept", reviewer="ben")
    assert answer["outcome"] == "published"
    desk.undo(answer["number"], "ben")
    desk.flush()
    assert gone(out, name)
    assert records(out)["face.png"].status is Status.EXCLUDED


def test_undo_goes_down_step_by_step(desk: Desk, out: Dataset) -> None:
    """After each undo the public side and the ledger are what they were before that decision."""
    name = ids(out)["face.png"]
    states, numbers = [], []
    for reviewer, verdict in (
        ("anna", "exclude"),
        ("ben", "accept"),
        ("carla", "exclude"),
        ("anna", "no_face"),
    ):
        desk.flush()
        states.append((public(out), records(out)))
        numbers.append(decide(desk, name, verdict, reviewer=reviewer)["number"])
    for number, (files, rows) in zip(reversed(numbers), reversed(states), strict=True):
        desk.undo(number, "anna")
        desk.flush()
        assert public(out) == files
        assert records(out) == rows


def test_killed_in_undo(out: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    name = ids(out)["cup.png"]
    desk = Desk.open(out)
    number = decide(desk, name, "no_face")["number"]
    with monkeypatch.context() as patch:
        patch.setattr(settling.Settler, "_back_to_machine", killed)
        with pytest.raises(Killed):
            desk.undo(number, "anna")
    abandon(desk)
    with Desk.open(out) as desk:
        assert desk.catch_up() == 1
        assert desk.detail(name, "anna")["state"] == "waiting"
    assert gone(out, name)


def test_killed_between_the_row_and_the_files(out: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    name = ids(out)["face.png"]
    desk = Desk.open(out)
    with monkeypatch.context() as patch:
        patch.setattr(settling, "take_away", killed)
        with pytest.raises(Killed):
            decide(desk, name, "exclude")
    abandon(desk)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr(os, "rename", killed)
        patch.setattr(Path, "replace", killed)
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(Killed):
            write_atomic(out.train / "blurred_image" / f"{name}.png", b"a face")
    (leftover,) = (file for file in (out.train / "blurred_image").iterdir() if file.name.startswith("."))
    with Desk.open(out) as desk:
        desk.catch_up()
    assert gone(out, name)
    assert records(out)["face.png"].status is Status.EXCLUDED
    assert not leftover.exists()


def test_one_decision_that_cannot_be_carried_out_does_not_keep_others_from_it(
    waiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in ("photos", "mattes"):
        shutil.copytree(waiting / side, tmp_path / side)
    photos, out = tmp_path / "photos", Dataset.at(tmp_path / "out")
    p3mdata("anonymize", photos, "--mattes", tmp_path / "mattes", "-o", out.public)
    name = ids(out)
    desk = Desk.open(out)
    with monkeypatch.context() as patch:
        patch.setattr(settling.Settler, "_settle", lambda *_: settling.Result("none", ""))
        decide(desk, name["cup.png"], "no_face")
        decide(desk, name["face.png"], "exclude")
    desk.close()
    (photos / "cup.png").unlink()
    with Desk.open(out) as desk:
        assert desk.catch_up() == 1
        assert len(desk.troubles) == 1
        assert "cannot be opened any more" in desk.troubles[0]
    assert gone(out, name["face.png"])
    assert gone(out, name["cup.png"])
    with Desk.open(out) as desk:
        assert desk.catch_up() == 0


def test_undo_of_a_picture_whose_file_changed(waiting: Path, tmp_path: Path) -> None:
    """Nothing is published of what lies there now, under whatever id."""
    for side in ("photos", "mattes"):
        shutil.copytree(waiting / side, tmp_path / side)
    photos, out = tmp_path / "photos", Dataset.at(tmp_path / "out")
    p3mdata("anonymize", photos, "--mattes", tmp_path / "mattes", "-o", out.public)
    with Desk.open(out) as desk:
        name = ids(out)["face.jpg"]
        number = decide(desk, name, "exclude")["number"]
        before = set(public(out)) - {"manifest.jsonl"}
        (photos / "face.jpg").write_bytes((photos / "face.jpg").read_bytes() + b"\0")
        desk.undo(number, "anna")
    assert set(public(out)) - {"manifest.jsonl"} == before
    assert records(out)["face.jpg"].status is Status.NEEDS_REVIEW


def test_a_part_that_only_one_of_two_masked_is_a_disagreement(both: Desk, out: Dataset) -> None:
    """However small it is beside the rest: it may be a face that the other one did not see."""
    name = ids(out)["cup.png"]
    one = np.zeros((160, 160), bool)
    one[20:120, 20:120] = True
    more = one.copy()
    more[140:150, 140:150] = True
    decide(both, name, "mask", "anna", mask=one)
    assert decide(both, name, "mask", "ben", mask=more)["outcome"] == "disagreement"


def test_two_masks_that_agree_are_published_together(both: Desk, out: Dataset) -> None:
    name = ids(out)["cup.png"]
    one, other = np.zeros((160, 160), bool), np.zeros((160, 160), bool)
    one[20:120, 20:120] = other[22:122, 20:120] = True
    decide(both, name, "mask", "anna", mask=one)
    assert decide(both, name, "mask", "ben", mask=other)["outcome"] == "agreed"
    assert np.array_equal(facemask(out, name), one | other)


def test_what_one_lets_pass_the_other_must_let_pass_too(both: Desk, out: Dataset) -> None:
    name = ids(out)["soft.png"]
    mask = np.zeros((300, 300), bool)
    mask[280:290, 20:40] = True
    waive = ["faces_left", "detail_left", "transition_untouched"]
    assert decide(both, name, "mask", "anna", mask=mask, waive=waive)["outcome"] == "second_opinion"
    assert decide(both, name, "mask", "ben", mask=mask)["outcome"] == "sent_back"
    both.flush()
    assert gone(out, name)


def test_the_second_is_told_nothing_of_the_first(both: Desk, out: Dataset) -> None:
    name = ids(out)["soft.png"]
    machine = records(out)["soft.png"]
    decide(both, name, "mask", "anna", version=draw(both, name, DAB), note="I tried")
    decide(both, name, "no_face", "anna", note="a secret", waive=["faces_left", "detail_left"])
    told = json.dumps([both.detail(name, "ben"), both.decisions(9), both.listing(None, None, 0, 9, "ben")])
    for word in ("a secret", "I tried", "sent_back", '"no_face"', '"mask"'):
        assert word not in told
    assert both.detail(name, "ben")["reason"] == machine.reason


def test_the_secret_of_the_ids_is_never_made_anew(out: Dataset) -> None:
    out.key_path.unlink()
    with pytest.raises(UsageError, match="restore it from a backup"):
        Desk.open(out)
    assert not out.key_path.exists()
