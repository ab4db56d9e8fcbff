from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from p3m_data.pipeline.queue import STATES as QUEUE_STATES
from p3m_data.review.bodies import STATES
from tests.review import ID, RecordingDesk, running
from tests.review.routes import PICTURE, WRITES, sentence


@pytest.fixture(scope="module")
def module_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, RecordingDesk]]:
    folder = tmp_path_factory.mktemp("bodies")
    desk = RecordingDesk(folder)
    with running(desk, folder, idle_seconds=3600.0) as run, run.client() as client:
        yield client, desk


@pytest.fixture
def desk(module_run: tuple[httpx.Client, RecordingDesk]) -> RecordingDesk:
    desk = module_run[1]
    desk.calls.clear()
    return desk


@pytest.fixture
def client(module_run: tuple[httpx.Client, RecordingDesk]) -> httpx.Client:
    return module_run[0]


def test_the_states_are_those_of_the_queue() -> None:
    assert STATES == QUEUE_STATES


NO_HOLDERS = (None, 1, "", "a b", "x" * 101, "é", "a\n")


@pytest.mark.parametrize(
    ("path", "change"),
    [
        *((path, {"extra": 1}) for path in WRITES),
        *((path, {"holder": value}) for path in WRITES if "holder" in WRITES[path] for value in NO_HOLDERS),
        ("/api/next", {"count": 0}),
        ("/api/next", {"count": 21}),
        ("/api/next", {"count": "1"}),
        ("/api/next", {"count": True}),
        ("/api/next", {"count": 1.5}),
        ("/api/next", {"state": "all"}),
        ("/api/next", {"reason": "x"}),
        ("/api/next", {"reason": ["unreadable"]}),
        ("/api/renew", {"ids": None}),
        ("/api/renew", {"ids": ID}),
        ("/api/renew", {"ids": [ID] * 101}),
        ("/api/undo", {"number": -1}),
        ("/api/undo", {"number": "3"}),
        ("/api/undo", {"number": 10**15}),
        (f"{PICTURE}/draft", {"version": None}),
        (f"{PICTURE}/draft", {"version": -1}),
        (f"{PICTURE}/draft", {"keep": -1}),
        (f"{PICTURE}/draft", {"add": {}}),
        (f"{PICTURE}/draft", {"add": ["brush"]}),
        (f"{PICTURE}/draft", {"add": [{"tool": "clip"}] * 2001}),
        (f"{PICTURE}/landmarks", {"box": [1, 2, 3]}),
        (f"{PICTURE}/landmarks", {"box": [1, 2, 3, 4, 5]}),
        (f"{PICTURE}/landmarks", {"box": [1, 2, 3, "4"]}),
        (f"{PICTURE}/landmarks", {"box": [1, 2, 3, 1e6]}),
        (f"{PICTURE}/decide", {"verdict": "publish"}),
        (f"{PICTURE}/decide", {"verdict": None}),
        (f"{PICTURE}/decide", {"note": 3}),
        (f"{PICTURE}/decide", {"note": "x" * 2001}),
        (f"{PICTURE}/decide", {"waive": "faces_left"}),
        (f"{PICTURE}/decide", {"waive": [1]}),
    ],
)
def test_a_body_of_the_wrong_form_is_refused_with_a_sentence(
    client: httpx.Client, desk: RecordingDesk, path: str, change: dict[str, Any]
) -> None:
    sentence(client.post(path, json={**WRITES[path], **change}), 400)
    assert desk.calls == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"number": NaN}', b'{"number": 1e999}', b"\xff"])
@pytest.mark.parametrize("path", WRITES)
def test_what_is_no_json_object_is_refused(
    client: httpx.Client, desk: RecordingDesk, path: str, body: bytes
) -> None:
    sentence(client.post(path, content=body, headers={"Content-Type": "application/json"}), 400)
    assert desk.calls == []


@pytest.mark.parametrize(
    "kind",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp"],
)
def test_forms_of_other_sites_are_not_json(
    client: httpx.Client, desk: RecordingDesk, kind: str | None
) -> None:
    for path, body in WRITES.items():
        headers = {} if kind is None else {"Content-Type": kind}
        sentence(client.post(path, content=json.dumps(body), headers=headers), 415)
    assert desk.calls == []


def test_json_may_name_its_charset(client: httpx.Client) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post("/api/undo", content=b'{"number": 1}', headers=headers).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "list?state=all",
        "list?reason=x",
        "list?offset=-1",
        "list?offset=x",
        "list?limit=0",
        "list?limit=501",
        "list?limit=1e2",
        "list?limit=%D9%A1",
        "list?limit=" + "9" * 5000,
        "decisions?limit=",
        f"picture/{ID}/layer/original?size=0",
        f"picture/{ID}/layer/original?size=16385",
        f"picture/{ID}/layer/original?box=1,2,3",
        f"picture/{ID}/layer/original?box=3,2,1,4",
        f"picture/{ID}/layer/original?box=1,2,3,2",
        f"picture/{ID}/layer/original?box=1.5,2,3,4",
        f"picture/{ID}/layer/original?box=-1,2,3,4",
        f"picture/{ID}/layer/original?box=1,2,3,4%0a",
        f"picture/{ID}/preview",
        f"picture/{ID}/preview?version=-1",
        f"picture/{ID}/preview?version=NaN",
        f"picture/{ID}/thumbnail?of=original",
    ],
)
def test_a_query_of_the_wrong_form_is_refused(client: httpx.Client, desk: RecordingDesk, query: str) -> None:
    sentence(client.get(f"/api/{query}"), 400)
    assert desk.calls == []


def filled(path: str, size: int) -> bytes:
    """A body for `path` that is `size` bytes long and right but for that."""
    body = json.dumps(WRITES[path]).encode()
    return body[:-1] + b" " * (size - len(body)) + body[-1:]


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_have_a_limit(client: httpx.Client, desk: RecordingDesk, path: str, chunked: bool) -> None:
    limit = (1 << 20) if path.endswith("/draft") else (64 << 10)
    headers = {"Content-Type": "application/json"}
    for size, good in ((limit, True), (limit + 1, False), (limit * 3, False)):
        body = filled(path, size)
        pieces = (body[at : at + 10_000] for at in range(0, size, 10_000))
        desk.calls.clear()
        answer = client.post(path, content=pieces if chunked else body, headers=headers)
        if good:
            assert answer.status_code in (200, 204)
        else:
            sentence(answer, 413)
            assert desk.calls == []


def test_an_endless_body_is_refused_before_it_ends(client: httpx.Client) -> None:
    answered = threading.Event()

    def endless() -> Iterator[bytes]:
        # more than the limit by far, and nothing waits for its end
        for _ in range(1000):
            if answered.is_set():
                return
            yield b" " * 10_000

    answer = client.post("/api/undo", content=endless(), headers={"Content-Type": "application/json"})
    answered.set()
    sentence(answer, 413)
