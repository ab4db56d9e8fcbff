"""A desk that only remembers what it was asked, a review server around it in a thread, and its clients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from p3m_data.pipeline.dataset import Dataset
from p3m_data.review.serve import ReviewServer

PATIENCE = 20
"""Seconds that a test waits for what should come at once before it fails."""

ID = "p_0123456789abcdef"
JPEG = b"\xff\xd8\xff\xe0 not a whole picture"
PNG = b"\x89PNG\r\n\x1a\n not a whole picture"
READERS = frozenset({"overview", "listing", "detail", "layer", "thumbnail", "preview", "decisions"})
ANSWERS: dict[str, Any] = {
    "layer": PNG,
    "thumbnail": JPEG,
    "preview": JPEG,
    "decisions": [],
    "renew": None,
    "release": None,
    "flush": None,
}


class RecordingDesk:
    """Stands for the desk where only HTTP is tested: every method answers with what it was called with.

    `errors`: method -> what it raises. `gates`: method -> an event that it waits for.
    """

    def __init__(self, folder: Path) -> None:
        self.words = {"no_face_found": "no face was found"}
        self.second_opinion = 10.0
        self.dataset = Dataset.at(folder / "set")
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.errors: dict[str, Exception] = {}
        self.gates: dict[str, threading.Event] = {}
        self.called = threading.Condition()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def method(*args: Any, **kwargs: Any) -> Any:
            with self.called:
                self.calls.append((name, args, kwargs))
                self.called.notify_all()
            if name in self.gates:
                assert self.gates[name].wait(PATIENCE)
            if name in self.errors:
                raise self.errors[name]
            return ANSWERS[name] if name in ANSWERS else {"method": name, "args": list(args), **kwargs}

        return method

    def count(self, name: str) -> int:
        return sum(called == name for called, _, _ in self.calls)

    def wait_for(self, name: str, times: int = 1) -> bool:
        with self.called:
            return self.called.wait_for(lambda: self.count(name) >= times, PATIENCE)


def page_of(origin: str) -> httpx.Client:
    """A client that says where it comes from, as a page of `origin` does, and asks no proxy."""
    return httpx.Client(
        base_url=origin, headers={"Origin": origin}, timeout=PATIENCE, trust_env=False, verify=False
    )


class Running:
    """A server in a thread of its own, and the lines that it said."""

    def __init__(
        self, desk: Any, folder: Path, reviewers: tuple[str, ...] = ("anna",), **options: Any
    ) -> None:
        self.said: list[str] = []
        self.private = folder / "private"
        self.server = ReviewServer(desk, reviewers, say=self.said.append, private=self.private, **options)
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.server.run()
        except BaseException as error:
            self.failure = error
            self.server.ready.set()

    @property
    def origin(self) -> str:
        return self.server.url

    def token(self, reviewer: str = "anna") -> str:
        """Of the newest link that `reviewer` was given."""
        return [line for line in self.said if line.startswith(reviewer)][-1].partition("#")[2]

    def stranger(self) -> httpx.Client:
        """A client without a session, from a page of the server."""
        return page_of(self.origin)

    @contextmanager
    def client(self, reviewer: str = "anna") -> Iterator[httpx.Client]:
        """A client with a session, that says all that the page says."""
        with self.stranger() as client:
            answer = client.post("/api/session", json={"token": self.token(reviewer)})
            assert answer.status_code == 204, answer.text
            client.headers["X-P3MDATA-CSRF"] = client.get("/api/me").json()["csrf"]
            yield client


@contextmanager
def running(desk: Any, folder: Path, *args: Any, **options: Any) -> Iterator[Running]:
    run = Running(desk, folder, *args, **options)
    run.thread.start()
    try:
        assert run.server.ready.wait(PATIENCE)
        yield run
    finally:
        run.server.stop()
        run.thread.join(PATIENCE)
        assert not run.thread.is_alive()
    if run.failure is not None:
        raise run.failure
