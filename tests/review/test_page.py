"""The page in Chromium, used as a person uses it; afterwards the files and the ledger are looked at."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from p3m_data.arrays import BoolArray
from p3m_data.pipeline.dataset import Dataset
from p3m_data.stages.review import Desk
from p3m_data.storage.images import decode
from p3m_data.storage.manifest import read_manifest
from p3m_data.types import Reason, Status
from tests.review import Running
from tests.review.browser import Reviewer
from tests.review.conftest import Sit
from tests.runs import command, faceless, records

pytestmark = pytest.mark.slow


def ids(out: Dataset) -> dict[str, str]:
    return {source: record.id for source, record in records(out).items() if record.id}


def facemask(out: Dataset, name: str) -> BoolArray:
    return decode((out.train / "facemask" / f"{name}.png").read_bytes())[..., 0] > 0


def draft(desk: Desk, name: str, reviewer: str = "anna") -> list[dict[str, Any]]:
    """The strokes that count."""
    found = desk.draft(name, reviewer)
    return list(found["ops"][: found["done"]])


def tools(desk: Desk, name: str) -> list[str]:
    return [op["tool"] for op in draft(desk, name)]


def link(server: Running, reviewer: str) -> str:
    return f"{server.origin}/open#{server.token(reviewer)}"


def decided(anna: Reviewer) -> None:
    """Waits for the outcome of a decision to be told."""
    expect(anna.page.get_by_test_id("toasts").locator("> *").first).to_be_visible()


# opening


def test_a_link_opens_once(anna: Reviewer, sit: Sit, server: Running, desk: Desk) -> None:
    assert "#p_" in anna.page.url
    assert anna.shown == desk.listing(None, None, 0, 1, "anna")["items"][0]["id"]
    anna.says("reviewer", "anna")
    used = server.said[0].partition(": ")[2]
    stranger = anna.context.browser.new_page()  # type: ignore[union-attr]
    stranger.goto(used)
    expect(stranger.locator("body")).to_contain_text("link")
    assert stranger.context.cookies() == []
    stranger.goto(server.origin)
    expect(stranger.locator("body")).not_to_contain_text("Accept")
    stranger.close()
    (cookie,) = anna.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert sit(link(server, "anna")).shown != anna.shown


# drawing


def test_brush_undo_redo(anna: Reviewer, desk: Desk, out: Dataset) -> None:
    name = ids(out)["cup.png"]
    anna.go_to(name)
    anna.press("b")
    anna.drag([(30, 30), (90, 30)])
    anna.drag([(30, 90), (90, 90)])
    anna.saved()
    assert tools(desk, name) == ["brush", "brush"]
    first = draft(desk, name)[0]
    assert np.allclose(first["points"][0], [30, 30], atol=1)
    assert np.allclose(first["points"][-1], [90, 30], atol=1)
    anna.press("Control+z")
    anna.saved()
    assert tools(desk, name) == ["brush"]
    anna.press("Control+Shift+z")
    anna.saved()
    assert tools(desk, name) == ["brush", "brush"]
    anna.press("e")
    anna.drag([(30, 90), (90, 90)])
    anna.saved()
    assert draft(desk, name)[-1]["erase"]


def test_what_is_drawn_is_what_is_masked(anna: Reviewer, desk: Desk, out: Dataset) -> None:
    """The mask on the screen and the one that is written agree, up to the border."""
    name = ids(out)["cup.png"]
    anna.go_to(name)
    anna.press("p")
    anna.click((20, 20), (70, 20), (70, 60))
    anna.press("Enter", "o")
    anna.drag([(90, 90), (140, 130)])
    anna.press("b")
    anna.drag([(20, 120), (60, 140)])
    anna.saved()
    assert tools(desk, name) == ["polygon", "ellipse", "brush"]
    shown = anna.page.evaluate(
        """() => {
            const canvas = document.querySelector('[data-canvas="mask"]');
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const rows = [];
            for (let i = 3; i < pixels.data.length; i += 4) rows.push(pixels.data[i] > 127 ? 1 : 0);
            return [canvas.width, canvas.height, rows];
        }"""
    )
    width, height, values = shown
    screen = np.array(values, bool).reshape(height, width)
    anna.press("m")
    decided(anna)
    mask = facemask(out, name)
    scale = min(width / 160, height / 160)
    left, top = (width - 160 * scale) / 2, (height - 160 * scale) / 2
    rows, columns = (np.arange(160)[:, None] + 0.5) * scale + top, (np.arange(160)[None] + 0.5) * scale + left
    sampled = screen[rows.astype(int), columns.astype(int)]
    border = mask ^ _eroded(mask) | _eroded(~mask) ^ ~mask
    assert sampled.sum() > 1000
    assert not ((sampled != mask) & ~border).any()


def _eroded(area: BoolArray) -> BoolArray:
    import cv2

    return cv2.erode(area.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)


def test_a_reload_in_mid_stroke_loses_that_stroke_at_most(anna: Reviewer, desk: Desk, out: Dataset) -> None:
    name = ids(out)["cup.png"]
    anna.go_to(name)
    anna.drag([(30, 30), (90, 30)])
    anna.saved()
    anna.drag([(30, 90), (90, 90)], release=False)
    anna.page.reload()
    anna.see(name)
    assert len(draft(desk, name)) in (1, 2)
    anna.drag([(30, 120), (90, 120)])
    anna.saved()
    assert len(draft(desk, name)) in (2, 3)


def test_a_tab_that_is_closed_loses_nothing(
    anna: Reviewer, sit: Sit, server: Running, desk: Desk, out: Dataset
) -> None:
    name = ids(out)["cup.png"]
    anna.go_to(name)
    anna.drag([(30, 30), (90, 30)])
    anna.saved()
    anna.page.close()
    again = sit(link(server, "anna"))
    again.go_to(name)
    assert tools(desk, name) == ["brush"]
    again.press("m")
    decided(again)
    assert facemask(out, name)[30, 60]


def test_drawing_starts_from_the_suggestion_unless_told(anna: Reviewer, desk: Desk, out: Dataset) -> None:
    name = ids(out)["blurred.png"]
    anna.go_to(name)
    anna.drag([(20, 20), (40, 20)])
    anna.saved()
    assert tools(desk, name) == ["suggestion", "brush"]
    anna.press("Control+z", "Control+z")
    anna.saved()
    anna.page.get_by_test_id("start-empty").check()
    anna.drag([(20, 20), (40, 20)])
    anna.saved()
    assert tools(desk, name) == ["brush"]


def test_landmarks_in_a_dragged_box(anna: Reviewer, desk: Desk, out: Dataset) -> None:
    name = ids(out)["soft.png"]
    anna.go_to(name)
    anna.page.get_by_test_id("start-empty").check()
    anna.press("l")
    anna.drag([(85, 40), (215, 190)])
    _until(lambda: tools(desk, name) == ["polygon"], anna)
    middle = np.array(draft(desk, name)[0]["points"]).mean(axis=0)
    assert np.abs(middle - [150, 118]).max() < 25


def test_the_keyboard_alone_draws(anna: Reviewer, desk: Desk, out: Dataset) -> None:
    name = ids(out)["cup.png"]
    anna.go_to(name)
    anna.press("b")
    anna.page.get_by_test_id("canvas").focus()
    anna.press("ArrowDown", "Enter", *["ArrowDown"] * 10, "Enter")
    anna.saved()
    assert tools(desk, name) == ["brush"]


# decisions


def test_accept_no_face_exclude_and_skip(anna: Reviewer, desk: Desk, out: Dataset) -> None:
    name = ids(out)
    anna.go_to(name["blurred.png"])
    anna.press("a")
    decided(anna)
    assert anna.shown != name["blurred.png"]
    anna.go_to(name["cup.png"])
    anna.press("n")
    anna.go_to(name["soft.png"])
    anna.press("s")
    note = anna.page.get_by_test_id("note")
    expect(note).to_be_focused()
    note.fill("ask <b>Ben</b>")
    note.press("Enter")
    anna.says("progress", re.compile("2"))
    expect(anna.page.get_by_test_id("toasts")).to_contain_text(re.compile("skip", re.IGNORECASE))
    _until(lambda: desk.overview("anna")["counts"]["skipped"] == 1, anna)
    desk.flush()
    rows = records(out)
    assert rows["blurred.png"].status is Status.ANONYMIZED
    assert (rows["cup.png"].status, rows["cup.png"].reason) == (
        Status.ANONYMIZED,
        Reason.CONFIRMED_NO_FACE,
    )
    assert np.array_equal(
        decode((out.train / "blurred_image" / f"{name['cup.png']}.png").read_bytes()), faceless()
    )
    assert rows["soft.png"].status is Status.NEEDS_REVIEW
    assert desk.listing("skipped", None, 0, 9, "anna")["items"][0]["note"] == "ask <b>Ben</b>"
    assert len(list(read_manifest(out.manifest))) == 4


def test_the_last_decision_is_undone_by_a_key(anna: Reviewer, desk: Desk, out: Dataset) -> None:
    before = records(out)
    name = ids(out)["cup.png"]
    anna.go_to(name)
    anna.press("x")
    _until(lambda: desk.overview("anna")["counts"]["decided"] == 1, anna)
    anna.press("u")
    anna.see(name)
    _until(lambda: desk.overview("anna")["counts"]["decided"] == 0, anna)
    assert records(out) == before


def test_going_on_decides_nothing(anna: Reviewer, desk: Desk, out: Dataset) -> None:
    before = records(out)
    seen = {anna.shown}
    for _ in range(5):
        now = anna.shown
        anna.press("ArrowRight")
        expect(anna.page.locator("body")).not_to_have_attribute("data-picture", now)
        anna.wait("ready")
        seen.add(anna.shown)
    for _ in range(3):
        anna.press("ArrowLeft")
    assert len(seen) == 3
    assert records(out) == before
    assert desk.decisions(9) == []


def test_what_cannot_apply_is_out_of_reach(anna: Reviewer, desk: Desk, out: Dataset) -> None:
    anna.go_to(ids(out)["cup.png"])
    for action in ("accept", "mask"):
        button = anna.page.get_by_test_id(action)
        expect(button).to_be_disabled()
        assert button.get_attribute("title")
    anna.press("a", "m")
    anna.drag([(30, 30), (90, 30)])
    expect(anna.page.get_by_test_id("mask")).to_be_enabled()
    expect(anna.page.get_by_test_id("noFace")).to_be_disabled()
    anna.press("n")
    anna.saved()
    assert desk.decisions(9) == []


def test_no_key_decides_while_somebody_types(anna: Reviewer, desk: Desk) -> None:
    anna.page.get_by_test_id("note").focus()
    anna.page.keyboard.type("an mask next xu")
    assert desk.decisions(9) == []


def test_what_the_verification_refuses_comes_back(anna: Reviewer, out: Dataset) -> None:
    name = ids(out)["soft.png"]
    anna.go_to(name)
    anna.page.get_by_test_id("start-empty").check()
    anna.drag([(20, 280), (40, 280)])
    anna.press("m")
    if anna.page.get_by_test_id("confirm").is_visible():
        anna.press("Enter")
    toast = anna.page.get_by_test_id("toasts")
    expect(toast).to_contain_text("not masked")
    assert records(out)["soft.png"].status is Status.NEEDS_REVIEW
    toast.get_by_role("button", name="Show").click()
    anna.see(name)
    findings = anna.page.get_by_test_id("findings")
    expect(findings).to_be_visible()
    findings.get_by_role("button", name=re.compile("pass", re.IGNORECASE)).click()
    _until(lambda: records(out)["soft.png"].status is Status.ANONYMIZED, anna)
    check = next(c for c in records(out)["soft.png"].checks if c.name == "faces_left")
    assert (check.passed, check.waived) == (False, True)


def test_protected_pixels_are_asked_about(anna: Reviewer, desk: Desk, out: Dataset) -> None:
    name = ids(out)["soft.png"]
    anna.go_to(name)
    anna.page.get_by_test_id("start-empty").check()
    anna.press("o")
    anna.drag([(95, 60), (205, 180)])
    anna.saved()
    expect(anna.page.get_by_test_id("protected")).to_be_visible()
    anna.press("m")
    expect(anna.page.get_by_test_id("confirm")).to_be_visible()
    assert desk.decisions(9) == []
    anna.press("Escape", "c")
    anna.saved()
    expect(anna.page.get_by_test_id("protected")).to_be_hidden()
    assert tools(desk, name) == ["ellipse", "clip"]


def test_many_at_once(anna: Reviewer, desk: Desk, out: Dataset) -> None:
    anna.press("t")
    cells = anna.page.get_by_test_id("cells").get_by_role("option")
    expect(cells).to_have_count(3)
    loaded = "[...document.querySelectorAll('#cells img')].every((i) => i.complete && i.naturalWidth > 0)"
    _until(lambda: anna.page.evaluate(loaded), anna)
    order = [item["id"] for item in desk.listing(None, None, 0, 9, "anna")["items"]]
    cells.nth(order.index(ids(out)["cup.png"])).click()
    anna.page.get_by_test_id("bulk-no-face").click()
    confirm = anna.page.get_by_test_id("grid-confirm")
    expect(confirm).to_contain_text("1")
    assert desk.decisions(9) == []
    confirm.get_by_role("button").first.click()
    _until(lambda: desk.overview("anna")["counts"]["decided"] == 1, anna)
    assert records(out)["cup.png"].reason is Reason.CONFIRMED_NO_FACE


# two people


def test_two_browsers_at_once(anna: Reviewer, sit: Sit, server: Running, desk: Desk) -> None:
    """The first has the picture and the two that come next; who comes later gets none of them."""
    ben = sit(link(server, "ben"))
    ben.wait("empty")
    first = anna.shown
    anna.press("x")
    _until(lambda: desk.overview("anna")["counts"]["decided"] == 1, anna)
    anna.page.close()
    # what her page gives back on its way out may come after he asks again
    _until(lambda: not any(item["taken_by"] for item in desk.listing(None, None, 0, 60, "ben")["items"]), ben)
    ben.page.reload()
    ben.wait("ready")
    assert ben.shown != first


def test_a_second_opinion_and_a_disagreement(out: Dataset, tmp_path: Path, sit: Sit) -> None:
    from tests.review import running

    name = ids(out)["cup.png"]
    with Desk.open(out, second_opinion=100) as desk, running(desk, tmp_path, ("anna", "ben")) as server:
        anna = sit(link(server, "anna"))
        anna.go_to(name)
        anna.press("n")
        _until(lambda: desk.overview("anna")["counts"]["second_opinion"] == 1, anna)
        anna.page.close()
        ben = sit(link(server, "ben"))
        ben.go_to(name)
        expect(ben.page.locator("body")).not_to_contain_text("anna")
        ben.press("x")
        _until(lambda: desk.overview("ben")["counts"]["disagreement"] == 1, ben)
        ben.page.reload()
        ben.wait("ready")
        ben.go_to(name)
        opinions = ben.page.get_by_test_id("opinions")
        expect(opinions).to_contain_text("anna")
        expect(opinions).to_contain_text("ben")
        ben.press("x")
        _until(lambda: desk.overview("ben")["counts"]["decided"] == 1, ben)
    assert records(out)["cup.png"].status is Status.EXCLUDED


def test_a_spot_check(out: Dataset, tmp_path: Path, sit: Sit) -> None:
    from tests.review import running

    with Desk.open(out) as desk:
        desk.draw_spot_checks(2)
        with running(desk, tmp_path) as server:
            anna = sit(link(server, "anna"))
            for source, key in (("face.png", "a"), ("face.jpg", "x")):
                anna.go_to(ids(out)[source])
                expect(anna.page.locator("body")).to_contain_text("every face")
                anna.press(key)
                _until(lambda: desk.overview("anna")["counts"]["decided"] >= 1, anna)
            _until(lambda: desk.overview("anna")["spot"]["checked"] == 2, anna)
            anna.page.reload()
            anna.wait("ready")
            anna.says("spot", "1")
    name = ids(out)["face.jpg"]
    assert not (out.train / "blurred_image" / f"{name}.jpg").exists()


# the server


def serve(out: Dataset, port: int) -> tuple[subprocess.Popen[str], str]:
    """`p3mdata review` in a process of its own, and its link."""
    words = command("review", out.public, "--no-browser", "--reviewer", "anna", "--port", str(port))
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://\S+", line):
            return process, found.group()
    raise AssertionError(process.stderr.read() if process.stderr else "")


def test_the_server_is_killed_and_started_again(out: Dataset, sit: Sit) -> None:
    name = ids(out)["cup.png"]
    process, first = serve(out, 0)
    port = int(first.rpartition(":")[2].partition("/")[0])
    try:
        anna = sit(first)
        anna.go_to(name)
        anna.drag([(30, 30), (90, 30)])
        anna.saved()
        process.send_signal(signal.SIGKILL)
        process.wait()
        anna.drag([(30, 90), (90, 90)])
        anna.wait("away")
        expect(anna.page.get_by_test_id("banner")).to_be_visible()
        process, second = serve(out, port)
        other = anna.context.new_page()
        other.goto(second)
        expect(other.locator("body")).to_have_attribute("data-state", re.compile("ready|empty"))
        other.close()
        anna.saved()
        anna.wait("ready")
        assert anna.shown == name
        anna.press("m")
        decided(anna)
        process.send_signal(signal.SIGTERM)
        said, complaints = process.communicate(timeout=20)
        assert process.returncode == 1, complaints
        assert "2 waiting" in said
        anna.complaints.clear()  # the lost connection
    finally:
        process.kill()
        process.communicate()
    mask = facemask(out, name)
    assert mask[30, 60]
    assert mask[90, 60]
    assert name in [row.id for row in read_manifest(out.manifest)]


# for everybody


@pytest.mark.parametrize("size", [(1280, 720), (3840, 2160)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen(sit: Sit, server: Running, size: tuple[int, int], scheme: str) -> None:
    anna = sit(link(server, "anna"), viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    overflow = anna.page.evaluate(
        "[document.documentElement.scrollWidth - innerWidth, document.documentElement.scrollHeight - innerHeight]"
    )
    assert max(overflow) <= 0
    for button in anna.page.locator("main button:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= size[0]
        assert box["y"] + box["height"] <= size[1]
    background, text = anna.page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    dark, light = (_brightness(colour) for colour in (background, text))
    assert (dark < light) == (scheme == "dark")
    assert abs(dark - light) > 120


def _brightness(colour: str) -> float:
    return float(np.mean([float(v) for v in re.findall(r"[\d.]+", colour)[:3]]))


def test_every_control_is_reached_by_tab_and_seen(anna: Reviewer) -> None:
    wanted = anna.page.evaluate(
        """() => [...document.querySelectorAll('button, select, input, textarea, canvas[tabindex]')]
            .filter((e) => e.checkVisibility() && !e.disabled).map((e) => e.dataset.testid || e.id || e.textContent)"""
    )
    assert len(wanted) > 25
    reached: dict[str, bool] = {}
    for _ in range(3 * len(wanted)):
        anna.press("Tab")
        name, outlined = anna.page.evaluate(
            """() => {
                const e = document.activeElement;
                const s = getComputedStyle(e);
                const ring = (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== 'none';
                return [e.dataset.testid || e.id || e.textContent, ring];
            }"""
        )
        reached[name] = outlined
    missing = set(wanted) - reached.keys()
    assert not missing
    assert all(reached[name] for name in wanted), [n for n in wanted if not reached[n]]


def test_the_keys_are_explained(anna: Reviewer) -> None:
    anna.press("?")
    dialog = anna.page.locator("dialog#help")
    expect(dialog).to_be_visible()
    for words in ("Accept the suggestion", "without deciding", "Eraser"):
        expect(dialog).to_contain_text(words)
    anna.press("x")
    anna.press("Escape")
    expect(dialog).to_be_hidden()


def test_names_and_notes_are_never_markup(out: Dataset, tmp_path: Path, sit: Sit) -> None:
    from tests.review import running

    evil = "<img src=x onerror=alert(1)>"
    name = ids(out)["cup.png"]
    with Desk.open(out) as desk, running(desk, tmp_path, (evil, "ben")) as server:
        desk.decide(name, "ben", "skip", note=evil)
        anna = sit(link(server, evil))
        anna.says("reviewer", evil)
        anna.go_to(name)
        assert anna.page.locator("img[src='x']").count() == 0


def test_the_page_knows_no_path(anna: Reviewer, out: Dataset) -> None:
    """Neither the photos' names nor where anything lies reaches the browser."""
    seen = []
    for path in ("/api/me", "/api/overview", "/api/list", "/api/decisions", f"/api/picture/{anna.shown}"):
        seen.append(anna.page.evaluate("async (path) => await (await fetch(path)).text()", path))
    text = json.dumps(seen)
    for secret in (*records(out), str(out.private), str(out.public.parent)):
        assert secret not in text


def _until(condition: Any, anna: Reviewer) -> None:
    """Waits for what the page's requests bring about."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        anna.page.wait_for_timeout(20)
