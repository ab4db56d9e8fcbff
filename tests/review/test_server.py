from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import p3m_data.review
from p3m_data.errors import (
    DatasetBusy,
    DraftChanged,
    PictureTaken,
    StorageError,
    UnknownPicture,
    UnreadableImage,
    UsageError,
    WorkerFailed,
)
from p3m_data.review.security import HEADERS
from p3m_data.review.server import BUSY, LAYERS, page_assets
from tests.review import ID, JPEG, PNG, READERS, RecordingDesk, Running, running
from tests.review.routes import HOLDER, PAGE, PICTURE, READS, STROKE, WRITES, sentence


@pytest.fixture(scope="module")
def module_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, RecordingDesk]]:
    folder = tmp_path_factory.mktemp("review")
    desk = RecordingDesk(folder)
    with running(desk, folder, ("anna", "bert"), idle_seconds=3600.0) as run:
        yield run, desk


@pytest.fixture
def run(module_run: tuple[Running, RecordingDesk]) -> Running:
    return module_run[0]


@pytest.fixture
def desk(module_run: tuple[Running, RecordingDesk]) -> RecordingDesk:
    desk = module_run[1]
    desk.calls.clear()
    desk.errors.clear()
    return desk


@pytest.fixture(scope="module")
def module_client(module_run: tuple[Running, RecordingDesk]) -> Iterator[httpx.Client]:
    with module_run[0].client() as client:
        yield client


@pytest.fixture
def client(module_client: httpx.Client, desk: RecordingDesk) -> httpx.Client:  # noqa: ARG001
    return module_client


def test_who_asks_is_the_reviewer_of_the_session(run: Running, client: httpx.Client) -> None:
    me = client.get("/api/me").json()
    assert me == {
        "reviewer": "anna",
        "csrf": me["csrf"],
        "dataset": "set",
        "holder_seconds": me["holder_seconds"],
        "reasons": {"no_face_found": "no face was found"},
        "second_opinion": 10.0,
    }
    assert me["holder_seconds"] > 0
    with run.client("bert") as other:
        theirs = other.get("/api/me").json()
    assert theirs["reviewer"] == "bert"
    assert theirs["csrf"] != me["csrf"]


LAYER_DEFAULTS = {"reviewer": "anna"}


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/api/overview", ("overview", ("anna",), {})),
        ("/api/list", ("listing", (None, None, 0, 60, "anna"), {})),
        (
            "/api/list?state=skipped&reason=no_face_found&offset=5&limit=7",
            ("listing", ("skipped", "no_face_found", 5, 7, "anna"), {}),
        ),
        ("/api/decisions", ("decisions", (30,), {})),
        ("/api/decisions?limit=3", ("decisions", (3,), {})),
        (PICTURE, ("detail", (ID, "anna"), {})),
        (f"{PICTURE}/layer/matte", ("layer", (ID, "matte", 2048, None), LAYER_DEFAULTS)),
        (
            f"{PICTURE}/layer/original?size=300&box=0,1,20,30",
            ("layer", (ID, "original", 300, (0, 1, 20, 30)), LAYER_DEFAULTS),
        ),
        (f"{PICTURE}/thumbnail", ("thumbnail", (ID, "picture"), {})),
        (f"{PICTURE}/thumbnail?of=result", ("thumbnail", (ID, "result"), {})),
        (f"{PICTURE}/preview?version=4", ("preview", (ID, "anna", 4, 1600, None), {})),
        (
            f"{PICTURE}/preview?version=4&size=9&box=1,2,3,4",
            ("preview", (ID, "anna", 4, 9, (1, 2, 3, 4)), {}),
        ),
    ],
)
def test_a_read_asks_the_desk_once(client: httpx.Client, desk: RecordingDesk, path: str, call: Any) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert desk.calls == [call]
    if answer.headers["content-type"] == "application/json":
        content = answer.json()
        assert content == {"items": []} or content["method"] == call[0]


@pytest.mark.parametrize(
    ("path", "body", "call"),
    [
        (
            "/api/next",
            {"holder": HOLDER},
            ("next", ("anna", HOLDER), dict.fromkeys(("state", "reason", "after", "want")) | {"count": 1}),
        ),
        (
            "/api/next",
            {"holder": "h", "state": "waiting", "reason": "unreadable", "after": ID, "want": ID, "count": 3},
            (
                "next",
                ("anna", "h"),
                {"state": "waiting", "reason": "unreadable", "after": ID, "want": ID, "count": 3},
            ),
        ),
        ("/api/renew", {"holder": "h", "ids": [ID]}, ("renew", ("anna", "h", [ID]), {})),
        ("/api/release", {"holder": "h", "ids": []}, ("release", ("anna", "h", []), {})),
        ("/api/undo", {"number": 7}, ("undo", (7, "anna"), {})),
        (
            f"{PICTURE}/draft",
            {"holder": "h", "version": 2, "keep": 1, "add": [STROKE, {"tool": "clip"}], "done": 3},
            ("save_draft", (ID, "anna", "h", 2, 1, [STROKE, {"tool": "clip"}], 3), {}),
        ),
        (
            f"{PICTURE}/landmarks",
            {"box": [-1, 2.5, 3, 4]},
            ("landmarks", (ID, (-1, 2.5, 3, 4)), {}),
        ),
        (
            f"{PICTURE}/decide",
            {"holder": "h", "verdict": "skip", "note": "zu klein ✓"},
            (
                "decide",
                (ID, "anna", "skip"),
                {"holder": "h", "version": None, "note": "zu klein ✓", "waive": ()},
            ),
        ),
        (
            f"{PICTURE}/decide",
            {"holder": "h", "verdict": "mask", "version": 5, "note": None, "waive": ["faces_left"]},
            (
                "decide",
                (ID, "anna", "mask"),
                {"holder": "h", "version": 5, "note": "", "waive": ("faces_left",)},
            ),
        ),
    ],
)
def test_a_write_asks_the_desk_once(
    client: httpx.Client, desk: RecordingDesk, path: str, body: dict[str, Any], call: Any
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == (204 if call[0] in ("renew", "release") else 200)
    assert desk.calls == [call]
    if answer.status_code == 200:
        assert answer.json()["method"] == call[0]


def test_pictures_come_as_pictures(client: httpx.Client) -> None:
    for name, kind in LAYERS.items():
        answer = client.get(f"{PICTURE}/layer/{name}")
        assert (answer.content, answer.headers["content-type"]) == (PNG, kind)
    for path in (f"{PICTURE}/thumbnail", f"{PICTURE}/preview?version=1"):
        answer = client.get(path)
        assert (answer.content, answer.headers["content-type"]) == (JPEG, "image/jpeg")


def test_without_a_session_there_is_nothing(run: Running, desk: RecordingDesk) -> None:
    with run.stranger() as stranger:
        for path in (*READS, "/static/none.js", "/api/none", "/favicon.ico"):
            sentence(stranger.get(path), 401)
        for path, body in WRITES.items():
            sentence(stranger.post(path, json=body), 401)
        page = stranger.get("/")
        assert page.status_code == 401
        assert "terminal" in page.text
    assert desk.calls == []


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize(
    "changed",
    [
        {"X-P3MDATA-CSRF": "wrong"},
        {"X-P3MDATA-CSRF": ""},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_forged_write_never_reaches_the_desk(
    client: httpx.Client, desk: RecordingDesk, path: str, changed: dict[str, str]
) -> None:
    sentence(client.post(path, json=WRITES[path], headers=changed), 403)
    assert desk.calls == []


@pytest.mark.parametrize("missing", ["Origin", "X-P3MDATA-CSRF"])
def test_a_write_without_its_proof_never_reaches_the_desk(
    client: httpx.Client, desk: RecordingDesk, missing: str
) -> None:
    for path, body in WRITES.items():
        request = client.build_request("POST", path, json=body)
        del request.headers[missing]
        sentence(client.send(request), 403)
    assert desk.calls == []


def test_reading_never_writes(client: httpx.Client, desk: RecordingDesk) -> None:
    for path in (*READS, *PAGE, *WRITES, "/api/session"):
        for method in ("GET", "HEAD"):
            answer = client.request(method, path)
            writes = path in WRITES or path == "/api/session"
            assert (answer.status_code == 405) is writes
            if writes:
                assert answer.headers["allow"] == "POST"
    assert {name for name, _, _ in desk.calls} == READERS


@pytest.mark.parametrize("path", [*READS, *PAGE])
def test_what_is_read_cannot_be_posted_to(client: httpx.Client, desk: RecordingDesk, path: str) -> None:
    answer = client.post(path, json={})
    sentence(answer, 405)
    assert sorted(answer.headers["allow"].split(", ")) == ["GET", "HEAD"]
    assert desk.calls == []


def test_no_other_site_is_ever_let_in_by_cors(client: httpx.Client) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-p3mdata-csrf"}
    for path in (*READS, *WRITES, *PAGE, "/api/session"):
        answer = client.options(path, headers=asked)
        sentence(answer, 405)
        assert "POST" in answer.headers["allow"]
        assert not any(name.startswith("access-control") for name in answer.headers)


BAD_IDS = (
    "p_0123456789ABCDEF",
    "p_0123",
    "p_0123456789abcdeg",
    "p_0123456789abcdef%0a",
    "p_0123456789abcdef%00",
    "..%2f..%2fsecret.key",
    "p_0123456789abcdef%2f..",
    "%2e%2e",
    "..%5c..",
    "p_%d9%a0%d9%a1%d9%a2%d9%a3%d9%a4%d9%a5%d9%a6%d9%a7",
    "%ff%fe",
    "x" * 3000,
)


@pytest.mark.parametrize("bad", BAD_IDS)
def test_an_impossible_id_gets_the_answer_of_an_unknown_one(
    client: httpx.Client, desk: RecordingDesk, bad: str
) -> None:
    desk.errors.update(dict.fromkeys((*READERS, "save_draft", "landmarks", "decide"), UnknownPicture(ID)))
    paths = ("", "/layer/original", "/thumbnail", "/preview?version=1")
    for path in paths:
        unknown = client.get(PICTURE + path)
        sentence(unknown, 404)
        answer = client.get(f"/api/picture/{bad}{path}")
        assert (answer.status_code, answer.content) == (404, unknown.content)
    asked = len(paths)
    for path, body in WRITES.items():
        if path.startswith(PICTURE):
            unknown = client.post(path, json=body)
            sentence(unknown, 404)
            answer = client.post(path.replace(ID, bad), json=body)
            assert (answer.status_code, answer.content) == (404, unknown.content)
            asked += 1
    # only the well-formed id was looked for
    assert len(desk.calls) == asked


@pytest.mark.parametrize("bad", ["", "p_0123", "../../secret.key", "p_0123456789abcdef\n", "\0"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/next", {"after": "BAD"}),
        ("/api/next", {"want": "BAD"}),
        ("/api/renew", {"ids": [ID, "BAD"]}),
        ("/api/release", {"ids": ["BAD"]}),
    ],
)
def test_an_impossible_id_in_a_body_is_unknown(
    client: httpx.Client, desk: RecordingDesk, bad: str, path: str, body: dict[str, Any]
) -> None:
    text = json.dumps({"holder": HOLDER, **body}).replace('"BAD"', json.dumps(bad))
    answer = client.post(path, content=text, headers={"Content-Type": "application/json"})
    sentence(answer, 404)
    assert desk.calls == []


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e/server.py",
        "/static/%2fetc%2fpasswd",
        "/static//etc/passwd",
        "/static/open.js%00.png",
        "/static/OPEN.JS",
        "/static/open.js/",
        "/static/",
        "/static",
        "/static/__init__.py",
        f"{PICTURE}/layer/..%2foriginal",
        f"{PICTURE}/layer/opinion-3",
        f"{PICTURE}/layer/original%0a",
        f"{PICTURE}/",
        "/api",
        "/api/",
        "//api/me",
        "/api//me",
        "/API/me",
        "/none",
    ],
)
def test_what_there_is_not_is_not_there(client: httpx.Client, desk: RecordingDesk, path: str) -> None:
    # as it stands: a client would tidy the path up
    request = client.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    sentence(client.send(request), 404)
    assert desk.calls == []


def test_the_page_is_the_packages_files_and_nothing_else(client: httpx.Client) -> None:
    folder = Path(p3m_data.review.__file__).parent / "page"
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assets = page_assets()
    assert {name: asset.data for name, asset in assets.items()} == files
    assert client.get("/").content == files["index.html"]
    assert client.get("/open").content == files["open.html"]
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    for name, data in files.items():
        answer = client.get(f"/static/{name}")
        assert answer.content == data
        assert answer.headers["content-type"].partition(";")[0] == kinds[Path(name).suffix]


def test_every_answer_has_the_headers(run: Running, client: httpx.Client, desk: RecordingDesk) -> None:
    desk.errors["detail"] = RuntimeError("x")
    desk.errors["thumbnail"] = PictureTaken("Bert works on it.")
    with run.stranger() as stranger:
        answers = [
            *(client.get(path) for path in (*READS, *PAGE, "/none")),
            *(client.post(path, json=body) for path, body in WRITES.items()),
            client.post("/api/undo", json=[]),
            client.post("/api/undo", content=b"x"),
            client.post("/api/me", json={}),
            client.options("/"),
            client.get("/", headers={"Host": "evil.example"}),
            *(stranger.get(path) for path in (*READS, *PAGE)),
        ]
    assert {a.status_code for a in answers} >= {200, 204, 400, 401, 404, 405, 409, 415, 421, 500}
    for answer in answers:
        assert {name: answer.headers.get_list(name) for name in HEADERS} == {
            name: [value] for name, value in HEADERS.items()
        }
        assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (UsageError("The note is too long."), 400, "The note is too long."),
        (PictureTaken("Bert works on it."), 409, "Bert works on it."),
        (DatasetBusy("ledger /home/anna/set.private/ledger.sqlite is locked"), 503, BUSY),
        (UnknownPicture("p_secret"), 404, None),
        (StorageError("/private/ledger: the disk is full."), 500, None),
        (WorkerFailed("/private: no worker."), 500, None),
        (UnreadableImage("/private/holiday.jpg is truncated."), 500, None),
        (RuntimeError("/private/ledger"), 500, None),
        (ValueError("/private/ledger"), 500, None),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "/private"), 500, None),
    ],
)
def test_an_error_of_the_desk_is_a_sentence_without_paths(
    client: httpx.Client, desk: RecordingDesk, error: Exception, status: int, told: str | None
) -> None:
    desk.errors.update(dict.fromkeys(("detail", "layer", "decide", "next"), error))
    for path in (PICTURE, f"{PICTURE}/layer/original"):
        said = sentence(client.get(path), status)
        assert said == told or (told is None and "private/" not in said and "secret" not in said)
    for path in (f"{PICTURE}/decide", "/api/next"):
        assert sentence(client.post(path, json=WRITES[path]), status) == said


def test_only_what_cannot_be_told_goes_to_the_private_file(
    run: Running, client: httpx.Client, desk: RecordingDesk
) -> None:
    file = run.private / "review-errors.log"
    before = file.read_text() if file.exists() else ""
    desk.errors["detail"] = UsageError("An ordinary mistake.")
    client.get(PICTURE)
    desk.errors["detail"] = LookupError("something odd")
    client.get(PICTURE)
    desk.errors["detail"] = StorageError("full: /the/disk.")
    client.get(PICTURE)
    new = file.read_text()[len(before) :]
    assert "LookupError: something odd" in new
    assert "full: /the/disk." in new
    assert "ordinary mistake" not in new
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_draft_that_was_changed_elsewhere_comes_with_the_answer(
    client: httpx.Client, desk: RecordingDesk
) -> None:
    draft = {"ops": [STROKE], "done": 1, "version": 4}
    error = DraftChanged(ID, draft)
    desk.errors.update(dict.fromkeys(("save_draft", "preview", "decide"), error))
    answers = [
        client.post(f"{PICTURE}/{what}", json=WRITES[f"{PICTURE}/{what}"]) for what in ("draft", "decide")
    ]
    answers.append(client.get(f"{PICTURE}/preview?version=1"))
    for answer in answers:
        assert answer.status_code == 409
        assert answer.json() == {"error": str(error), "draft": draft}


def test_a_token_opens_one_session_and_the_next_is_told(run: Running, desk: RecordingDesk) -> None:
    first = run.token("bert")
    with run.client("bert") as client:
        assert client.get("/api/me").json()["reviewer"] == "bert"
    second = run.token("bert")
    assert second != first
    with run.stranger() as stranger:
        for token in (first, "", "x", second + "x", "é"):
            assert "terminal" in sentence(stranger.post("/api/session", json={"token": token}), 403)
        assert stranger.get("/api/me").status_code == 401
    with run.client("bert") as client:
        assert client.get("/api/me").json()["reviewer"] == "bert"
    assert desk.calls == []


def test_of_many_at_once_one_gets_the_session(run: Running) -> None:
    token = run.token("bert")
    with run.stranger() as stranger, ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: stranger.post("/api/session", json={"token": token}).status_code, range(8))
        )
    assert sorted(answers) == [204, *[403] * 7]


def test_the_cookie_is_kept_from_scripts_and_other_sites(run: Running) -> None:
    with run.stranger() as stranger:
        answer = stranger.post("/api/session", json={"token": run.token("bert")})
    (line,) = answer.headers.get_list("set-cookie")
    head, *rest = line.split("; ")
    name, _, value = head.partition("=")
    assert name == f"p3mdata_{run.server.port}"
    assert len(value) >= 43
    assert set(rest) == {"Path=/", "HttpOnly", "SameSite=Strict"}


def test_small_requests_pass_by_slow_pictures(tmp_path: Path) -> None:
    desk = RecordingDesk(tmp_path)
    desk.gates["layer"] = threading.Event()
    with running(desk, tmp_path) as run, run.client() as client, ThreadPoolExecutor(50) as pool:
        slow = [pool.submit(client.get, f"{PICTURE}/layer/original") for _ in range(50)]
        assert desk.wait_for("layer")
        assert client.get("/api/overview").status_code == 200
        assert client.post(f"{PICTURE}/decide", json=WRITES[f"{PICTURE}/decide"]).status_code == 200
        assert 0 < desk.count("layer") < 10
        desk.gates["layer"].set()
        assert [each.result().status_code for each in slow] == [200] * 50


@pytest.mark.parametrize("path", [f"{PICTURE}/decide", "/api/undo"])
def test_the_manifest_is_brought_in_step_once_it_is_quiet(tmp_path: Path, path: str) -> None:
    desk = RecordingDesk(tmp_path)
    with running(desk, tmp_path, idle_seconds=0.0) as run, run.client() as client:
        assert client.get("/api/overview").status_code == 200
        assert desk.count("flush") == 0
        assert client.post(path, json=WRITES[path]).status_code == 200
        assert desk.wait_for("flush")
        assert desk.count("flush") == 1


def test_a_failing_flush_is_reported_and_the_review_goes_on(tmp_path: Path) -> None:
    desk = RecordingDesk(tmp_path)
    desk.errors["flush"] = StorageError("the disk is full")

    def review() -> None:
        with running(desk, tmp_path, idle_seconds=0.0) as run, run.client() as client:
            client.post("/api/undo", json={"number": 1})
            assert desk.wait_for("flush")
            assert client.get("/api/overview").status_code == 200

    with pytest.raises(StorageError, match="full"):
        review()
    # the last attempt, at the end, is the caller's to know of
    assert desk.count("flush") == 2
    assert "the disk is full" in (tmp_path / "private" / "review-errors.log").read_text()


def test_a_terminal_that_is_gone_locks_nobody_out(tmp_path: Path) -> None:
    with running(RecordingDesk(tmp_path), tmp_path) as run:
        token = run.token()

        def gone(_: str) -> None:
            raise BrokenPipeError

        run.server._say = gone
        with run.stranger() as stranger:
            assert stranger.post("/api/session", json={"token": token}).status_code == 204
            assert stranger.get("/api/me").status_code == 200


def test_nothing_of_a_request_is_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    desk = RecordingDesk(tmp_path)
    desk.errors["detail"] = RuntimeError("odd")
    with running(desk, tmp_path) as run, run.client() as client:
        for path in (*READS, *PAGE, "/none"):
            client.get(path)
        client.get("/", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    out = "".join(capfd.readouterr())
    ours = [
        record for record in caplog.records if not record.name.startswith(("httpx", "httpcore", "asyncio"))
    ]
    assert ours == []
    assert out == ""
