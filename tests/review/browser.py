"""A person at the review page: what they press, drag and see."""

from __future__ import annotations

import re
from collections.abc import Sequence

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, expect

PATIENCE = 20_000
"""Milliseconds that a test waits for what should come at once before it fails."""

expect.set_options(timeout=PATIENCE)


class Reviewer:
    """One browser with the page; coordinates are the picture's, which must be shown whole."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        context.set_default_timeout(PATIENCE)
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        """Errors on the console and requests that leave the server; a test may clear what it provoked."""
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._requested)
        self.origin = ""
        self._sizes: dict[str, tuple[int, int]] = {}

    def open(self, link: str) -> None:
        self.origin = link.partition("/open")[0]
        self.page.goto(link)
        self.wait("ready", "empty")

    def check(self) -> None:
        assert not self.complaints, self.complaints

    # what is seen

    def wait(self, *states: str) -> None:
        expect(self.page.locator("body")).to_have_attribute("data-state", re.compile("|".join(states)))

    @property
    def shown(self) -> str:
        """The id of the picture in sight."""
        return self.page.evaluate("document.body.dataset.picture")

    def see(self, name: str) -> None:
        expect(self.page.locator("body")).to_have_attribute("data-picture", name)
        self.wait("ready")

    def saved(self) -> None:
        expect(self.page.locator("body")).to_have_attribute("data-saved", "yes")

    def says(self, testid: str, words: str | re.Pattern[str]) -> None:
        expect(self.page.get_by_test_id(testid)).to_contain_text(words)

    # what is done

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def go_to(self, name: str) -> None:
        """By the arrow key; every picture on the way stays undecided."""
        first = self.shown
        while self.shown != name:
            before = self.shown
            self.press("ArrowRight")
            expect(self.page.locator("body")).not_to_have_attribute("data-picture", before)
            self.wait("ready")
            assert self.shown != first, f"{name} is not in the queue"

    def drag(self, points: Sequence[tuple[float, float]], *, release: bool = True) -> None:
        mouse = self.page.mouse
        mouse.move(*self.at(points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.at(point), steps=4)
        if release:
            mouse.up()

    def click(self, *points: tuple[float, float]) -> None:
        for point in points:
            self.page.mouse.click(*self.at(point))

    def at(self, point: tuple[float, float]) -> tuple[float, float]:
        """Where on the screen a pixel of the picture is, when the picture fits the canvas."""
        box = self.page.get_by_test_id("canvas").bounding_box()
        if self.shown not in self._sizes:
            answer = "async (path) => await (await fetch(path)).json()"
            detail = self.page.evaluate(answer, f"/api/picture/{self.shown}")
            self._sizes[self.shown] = detail["width"], detail["height"]
        width, height = self._sizes[self.shown]
        assert box is not None
        scale = min(box["width"] / width, box["height"] / height)
        left = box["x"] + (box["width"] - width * scale) / 2
        top = box["y"] + (box["height"] - height * scale) / 2
        return left + (point[0] + 0.5) * scale, top + (point[1] + 0.5) * scale

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} {message.location.get('url')}")

    def _requested(self, request: Request) -> None:
        if not request.url.startswith(self.origin):
            self.complaints.append(f"a request to {request.url}")
