from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from p3m_data.errors import StorageError, UsageError
from p3m_data.review import serve as module
from p3m_data.review.security import HEADERS
from p3m_data.review.serve import ErrorFile, Jump, ReviewServer, bind, check_reviewers, find_browser
from tests.conftest import REPOSITORY
from tests.review import PATIENCE, RecordingDesk, page_of, running

SERVE = """
import sys
from pathlib import Path
from p3m_data.review.serve import serve
from tests.review import RecordingDesk

folder = Path(sys.argv[1])
desk = RecordingDesk(folder)
serve(desk, ["anna"], open_browser=len(sys.argv) > 2, say=lambda line: print(line, flush=True),
      private=folder / "private")
print("flushed", desk.count("flush"), flush=True)
"""


def raw(port: int, data: bytes, host: str = "127.0.0.1") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to `data`, sent as it is on a connection of its own."""
    with socket.create_connection((host, port), PATIENCE) as connection:
        connection.sendall(data)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Any]:
    """Starts `serve` in a process of its own: (process, origin, token)."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, **environment: str) -> tuple[subprocess.Popen[str], str, str]:
        serving = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(tmp_path), *words],
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(serving)
        assert serving.stdout is not None
        origin, _, token = serving.stdout.readline().strip().removeprefix("anna: ").partition("/open#")
        return serving, origin, token

    yield start
    for serving in started:
        serving.kill()
        serving.wait()
        for pipe in (serving.stdout, serving.stderr):
            assert pipe is not None
            pipe.close()


def test_it_listens_on_this_machine_alone_and_says_one_link_each(tmp_path: Path) -> None:
    with running(RecordingDesk(tmp_path), tmp_path, ("anna", "bert b")) as run:
        address, port = run.server._socket.getsockname()
        assert address == "127.0.0.1"
        links = [f"{name}: http://127.0.0.1:{port}/open#" for name in ("anna", "bert b")]
        assert [line.startswith(link) for line, link in zip(run.said, links, strict=True)] == [True, True]
        assert run.token("anna") != run.token("bert b")
        assert len(run.token("anna")) >= 43


def test_after_a_link_was_used_the_next_is_said(tmp_path: Path) -> None:
    with running(RecordingDesk(tmp_path), tmp_path) as run, run.client():
        assert len(run.said) == 2
        assert run.said[1].startswith("anna, for another browser: http://127.0.0.1:")
        with run.client() as second:
            assert second.get("/api/me").json()["reviewer"] == "anna"


def test_two_servers_have_two_cookies(tmp_path: Path) -> None:
    with (
        running(RecordingDesk(tmp_path), tmp_path / "a") as one,
        running(RecordingDesk(tmp_path), tmp_path / "b") as two,
        one.client() as client,
    ):
        # as a browser does, which knows no ports in cookies
        client.headers["Origin"] = two.origin
        client.post(two.origin + "/api/session", json={"token": two.token()})
        assert len(client.cookies) == 2
        assert client.get(one.origin + "/api/me").status_code == 200
        assert client.get(two.origin + "/api/me").status_code == 200


def test_ipv6_works(tmp_path: Path) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no ::1")
    with running(RecordingDesk(tmp_path), tmp_path, host="::1") as run, run.client() as client:
        assert run.origin == f"http://[::1]:{run.server.port}"
        assert client.get("/api/me").status_code == 200
        assert len(run.said) == 2


def test_beyond_this_machine_it_warns(tmp_path: Path) -> None:
    with running(RecordingDesk(tmp_path), tmp_path, host="0.0.0.0") as run:
        warning, link = run.said
        assert "unencrypted" in warning
        assert f"ssh -L {run.server.port}:127.0.0.1:{run.server.port}" in warning
        assert link.startswith(f"anna: http://127.0.0.1:{run.server.port}/open#")
        assert raw(run.server.port, b"GET /open HTTP/1.1\r\nHost: 0.0.0.0\r\n\r\n")[0] == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_on_this_machine_it_does_not(tmp_path: Path, host: str) -> None:
    if host == "127.0.0.2" and not sys.platform.startswith("linux"):
        pytest.skip("only Linux has the whole of 127.0.0.0/8")
    with running(RecordingDesk(tmp_path), tmp_path, host=host) as run, run.client() as client:
        assert [line.startswith("anna") for line in run.said] == [True, True]
        assert run.origin == f"http://{host}:{run.server.port}"
        assert client.get("/api/me").status_code == 200


def test_a_port_in_use_is_a_sentence_and_a_closed_one_is_free_again(tmp_path: Path) -> None:
    with running(RecordingDesk(tmp_path), tmp_path) as run, run.client() as client:
        assert client.get("/api/me").status_code == 200
        port = run.server.port
        with pytest.raises(UsageError, match=f"^port {port} is in use"):
            bind("127.0.0.1", port)
    # connections of the one before are still being forgotten by the system
    with running(RecordingDesk(tmp_path), tmp_path, port=port) as run:
        assert run.server.port == port


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "no-such-host.invalid", "", "x" * 300, "a..b", "127.0.0.1:80", " "]
)
def test_an_address_that_is_not_ours_is_a_sentence(host: str) -> None:
    with pytest.raises(UsageError, match="is not an address of this machine"):
        bind(host, 0)


def test_small_answers_do_not_wait_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_on: list[tuple[int, int]] = []

    class Spying(socket.socket):
        def setsockopt(self, level: int, option: int, value: Any) -> None:  # type: ignore[override]
            set_on.append((level, option))
            super().setsockopt(level, option, value)

    monkeypatch.setattr(socket, "socket", Spying)
    with running(RecordingDesk(tmp_path), tmp_path) as run:
        raw(run.server.port, b"GET /open HTTP/1.0\r\n\r\n")
    assert (socket.IPPROTO_TCP, socket.TCP_NODELAY) in set_on


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_a_port_that_is_none_is_a_sentence(port: int) -> None:
    with pytest.raises(UsageError, match=f"^{port} is no port"):
        bind("127.0.0.1", port)


def test_a_port_that_is_not_ours_to_take_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(13, "Permission denied", address)

    monkeypatch.setattr(module.socket, "socket", Refusing)
    with pytest.raises(UsageError, match="from 1024 on"):
        bind("127.0.0.1", 80)


@pytest.mark.parametrize("names", [[], [""], [" "], ["a\nb"], ["a\x1b[31m"], ["x" * 61], ["anna", "anna"]])
def test_a_name_that_cannot_be_a_reviewers(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        ReviewServer(RecordingDesk(tmp_path), names, say=print, private=tmp_path)  # type: ignore[arg-type]


def test_names_that_can() -> None:
    check_reviewers(["anna", "Łukasz Żak", "x" * 60])


REQUESTS = {
    b"GET /open HTTP/1.0\r\n\r\n": 421,
    b"GET /open HTTP/1.1\r\nHost: evil.example\r\n\r\n": 421,
    # HTTP/1.1 itself asks for exactly one Host
    b"GET /open HTTP/1.1\r\n\r\n": 400,
    b"GET /open HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n": 400,
    b"GET /open HTTP/1.1\r\nHost: HOST\r\nHost: evil.example\r\n\r\n": 400,
    b"GET http://evil.example/open HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n": 401,
    b"CONNECT HOST HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n": 405,
    b"GET /open\0 HTTP/1.1\r\nHost: HOST\r\n\r\n": 400,
    b"\x16\x03\x01\x02\x00\x01\x00": 400,
    b"GET / HTTP/1.1\r\nHost: HOST\r\nX: " + b"x" * 20_000: 400,
    b"POST /api/session HTTP/1.1\r\nHost: HOST\r\nOrigin: http://HOST\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n": 400,
}


@pytest.mark.parametrize(("request_", "status"), REQUESTS.items())
def test_no_request_is_odd_enough_for_an_answer_without_headers(
    tmp_path: Path, request_: bytes, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(RecordingDesk(tmp_path), tmp_path) as run:
        host = f"127.0.0.1:{run.server.port}".encode()
        answered, headers, body = raw(run.server.port, request_.replace(b"HOST", host))
        assert answered == status
        assert {name.lower(): value.lower() for name, value in HEADERS.items()}.items() <= headers.items()
        assert "server" not in headers
        assert b"error" in body
        # and the server is as it was
        with run.client() as client:
            assert client.get("/api/me").status_code == 200
    assert "".join(capfd.readouterr()) == ""
    assert not (run.private / module.ERRORS).exists()


def test_a_client_that_leaves_in_the_middle_is_nobodys_error(tmp_path: Path) -> None:
    with running(RecordingDesk(tmp_path), tmp_path) as run:
        host = f"127.0.0.1:{run.server.port}"
        head = f"POST /api/session HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        with socket.create_connection(("127.0.0.1", run.server.port), PATIENCE) as connection:
            connection.sendall(head.encode())
        with run.client() as client:
            assert client.get("/api/me").status_code == 200
    assert not (run.private / module.ERRORS).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_though_browsers_hold_connections(process: Any, tmp_path: Path, number: int) -> None:
    serving, origin, token = process()
    address = ("127.0.0.1", int(origin.rpartition(":")[2]))
    with contextlib.ExitStack() as stack:
        idle, half_head, half_body = (
            stack.enter_context(socket.create_connection(address, PATIENCE)) for _ in range(3)
        )
        client = stack.enter_context(page_of(origin))
        assert client.post("/api/session", json={"token": token}).status_code == 204
        half_head.sendall(b"GET / HTT")
        half_body.sendall(
            f"POST /api/session HTTP/1.1\r\nHost: {origin[7:]}\r\nOrigin: {origin}\r\n"
            "Content-Type: application/json\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        # the server has begun to wait for the rest
        assert half_body.recv(100).startswith(b"HTTP/1.1 100")
        serving.send_signal(number)
        # a process that waits for the connections would wait for as long as this test holds them
        out, err = serving.communicate(timeout=PATIENCE)
        assert idle.recv(1) == b""
    assert serving.returncode == 0
    assert out.splitlines()[-1] == "flushed 1"
    assert err == ""
    assert not (tmp_path / "private" / module.ERRORS).exists()


def test_the_end_waits_for_what_the_desk_is_doing(tmp_path: Path) -> None:
    desk = RecordingDesk(tmp_path)
    desk.gates["undo"] = threading.Event()
    with running(desk, tmp_path) as run, run.client() as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, "/api/undo", json={"number": 1})
        assert desk.wait_for("undo")
        run.server.stop()
        assert run.thread.is_alive()
        desk.gates["undo"].set()
        assert asked.result().status_code == 200
    assert [name for name, _, _ in desk.calls] == ["undo", "flush"]


def test_work_outlives_the_request_that_was_cut_off_but_not_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Strict(RecordingDesk):
        def flush(self) -> None:
            assert self.gates["undo"].is_set(), "the undo is still under way"

    monkeypatch.setattr(module, "GRACE_SECONDS", 0)
    desk = Strict(tmp_path)
    desk.gates["undo"] = threading.Event()
    with running(desk, tmp_path) as run, run.client() as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, "/api/undo", json={"number": 1})
        assert desk.wait_for("undo")
        run.server.stop()
        answer = asked.result()
        assert answer.status_code == 503
        assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
        assert run.thread.is_alive()
        desk.gates["undo"].set()


def test_at_its_end_it_brings_the_manifest_in_step(tmp_path: Path) -> None:
    desk = RecordingDesk(tmp_path)
    with running(desk, tmp_path):
        assert desk.count("flush") == 0
    assert desk.count("flush") == 1


def commands() -> str:
    """The command lines and environments of every process that can be looked at."""
    found = []
    for file in [*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")]:
        with contextlib.suppress(OSError):
            found.append(file.read_bytes().decode(errors="replace"))
    return "\n".join(found)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are not in /proc here")
def test_the_browser_is_opened_without_the_token_in_any_command_line(process: Any, tmp_path: Path) -> None:
    told, hold = tmp_path / "told", tmp_path / "hold"
    os.mkfifo(told)
    os.mkfifo(hold)
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\nexec 2> /dev/null\necho "$@" > "{told}"\nexec > /dev/null\nread line < "{hold}"\n'
    )
    browser.chmod(0o700)
    serving, origin, token = process("open", BROWSER=str(browser))
    # opening a pipe waits for the other side
    url = told.read_text().strip()
    try:
        running_now = commands()
    finally:
        hold.write_text("\n")
    assert str(browser) in running_now
    assert url in running_now
    assert token not in running_now
    page = Path(url.removeprefix("file://"))
    assert page.parent == tmp_path / "private"
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700
    assert f"url={origin}/open#{token}" in page.read_text()
    with page_of(origin) as client:
        assert client.post("/api/session", json={"token": token}).status_code == 204
    assert not page.exists()
    serving.send_signal(signal.SIGINT)
    serving.communicate(timeout=PATIENCE)
    assert serving.returncode == 0


def test_an_unused_page_is_gone_at_the_end(process: Any, tmp_path: Path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$@" > "{told}"\n')
    browser.chmod(0o700)
    serving, _, _ = process("open", BROWSER=str(browser))
    assert Path(told.read_text().strip().removeprefix("file://")).exists()
    serving.terminate()
    serving.communicate(timeout=PATIENCE)
    assert not (tmp_path / "private" / module.JUMP).exists()


def test_another_reviewers_link_leaves_the_page_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER", "true")
    with running(RecordingDesk(tmp_path), tmp_path, ("anna", "bert"), open_browser=True) as run:
        page = run.private / module.JUMP
        assert run.token("anna") in page.read_text()
        with run.client("bert"):
            assert page.exists()
        with run.client("anna"):
            assert not page.exists()


def test_without_a_desktop_no_browser_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in module.DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setattr(module.webbrowser, "get", lambda: pytest.fail("it looked for one"))
    assert find_browser() is None
    with running(RecordingDesk(tmp_path), tmp_path, open_browser=True) as run:
        assert len(run.said) == 1
        assert not (run.private / module.JUMP).exists()


def test_a_desktop_without_a_browser_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> object:
        raise module.webbrowser.Error("could not locate runnable browser")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(module.webbrowser, "get", none)
    assert find_browser() is None


def test_a_browser_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[BaseException] = []
    opened = threading.Event()

    class Failing:
        def open(self, url: str) -> bool:
            raise OSError(f"cannot open {url}")

    def report(self: ErrorFile, error: BaseException) -> None:  # noqa: ARG001
        errors.append(error)
        opened.set()

    monkeypatch.setattr(module, "find_browser", Failing)
    monkeypatch.setattr(ErrorFile, "append", report)
    with running(RecordingDesk(tmp_path), tmp_path, open_browser=True) as run:
        assert opened.wait(PATIENCE)
        with run.client() as client:
            assert client.get("/api/me").status_code == 200
    assert "cannot open file://" in str(errors[0])


def test_a_page_that_cannot_be_written_leaves_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Jump, link: str) -> Path:  # noqa: ARG001
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("BROWSER", "true")
    monkeypatch.setattr(Jump, "write", full)
    with running(RecordingDesk(tmp_path), tmp_path, open_browser=True) as run:
        assert "No space left" in run.said[-1]
        assert "open the link" in run.said[-1]
        run.said.pop()
        with run.client() as client:
            assert client.get("/api/me").status_code == 200


def test_a_private_folder_that_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        ReviewServer(RecordingDesk(tmp_path), ["anna"], say=print, private=tmp_path / "file")  # type: ignore[arg-type]


def test_the_page_that_leads_here_replaces_an_old_one_and_follows_no_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    page = tmp_path / "open.html"
    page.symlink_to(target)
    jump = Jump(page)
    assert jump.write("http://127.0.0.1:1/open#a") == page
    assert target.read_text() == "mine"
    assert not page.is_symlink()
    jump.write("http://127.0.0.1:1/open#b")
    assert "#b" in page.read_text()
    jump.remove()
    jump.remove()
    assert not page.exists()


def test_an_error_is_appended_for_its_owner_alone(tmp_path: Path) -> None:
    file = ErrorFile(tmp_path / "errors")
    for number in range(2):
        try:
            raise ValueError(f"odd {number} \udcff")
        except ValueError as error:
            file.append(error)
    text = (tmp_path / "errors").read_text()
    assert text.count("Traceback") == 2
    assert text.index("odd 0") < text.index("odd 1")
    assert stat.S_IMODE((tmp_path / "errors").stat().st_mode) == 0o600
    ErrorFile(tmp_path / "none" / "errors").append(ValueError("where to?"))


def test_answers_are_json_even_where_uvicorn_answers() -> None:
    assert set(json.loads(module.NOT_HTTP)) == {"error"}


def test_the_next_start_takes_the_same_port_if_it_is_free(tmp_path: Path) -> None:
    """A page that stayed open finds the server again, and so its strokes that were not saved."""
    desk = RecordingDesk(tmp_path)
    with running(desk, tmp_path, port=None) as first:
        known = first.server.port
        with running(desk, tmp_path, port=None) as beside:
            assert beside.server.port != known
    with running(desk, tmp_path / "elsewhere", port=None) as elsewhere:
        free = elsewhere.server.port
    (tmp_path / "private" / "review.port").write_text(str(free))
    with running(desk, tmp_path, port=None) as second:
        assert second.server.port == free
    (tmp_path / "private" / "review.port").write_text("not a port")
    with running(desk, tmp_path, port=None) as third:
        assert third.server.port
