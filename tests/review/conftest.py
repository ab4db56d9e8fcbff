"""A real browser in front of a real desk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from p3m_data.stages.review import Desk
from tests.review import Running, running
from tests.review.browser import Reviewer
from tests.stages.conftest import desk, out, waiting

__all__ = ["desk", "out", "waiting"]

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

Sit = Callable[..., Reviewer]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; without one the test skips, in CI it fails.

    For one module only: while Playwright runs, no other test can have an event loop in this thread.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        message = "no Chromium is installed: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def server(desk: Desk, tmp_path: Path) -> Iterator[Running]:
    with running(desk, tmp_path, ("anna", "ben")) as run:
        yield run


@pytest.fixture
def sit(chromium: Browser) -> Iterator[Sit]:
    """Opens a link in a browser of its own; whatever the page complains about fails the test in the end."""
    with ExitStack() as stack:

        def down(link: str, **options: object) -> Reviewer:
            context = chromium.new_context(**{"viewport": {"width": 1280, "height": 720}} | options)  # type: ignore[arg-type]
            stack.callback(context.close)
            reviewer = Reviewer(context)
            stack.callback(reviewer.check)
            reviewer.open(link)
            return reviewer

        yield down


@pytest.fixture
def anna(sit: Sit, server: Running) -> Reviewer:
    """Somebody in front of the page, with the first picture in sight."""
    return sit(f"{server.origin}/open#{server.token('anna')}")
