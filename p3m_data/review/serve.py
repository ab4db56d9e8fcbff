"""Running the review server: its socket, its links, the browser that is opened, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import html
import ipaddress
import json
import logging
import os
import signal
import socket
import sys
import threading
import traceback
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from p3m_data.errors import StorageError, UsageError
from p3m_data.review.security import Sessions, Site, with_headers
from p3m_data.review.server import Work, make_app

if TYPE_CHECKING:
    from p3m_data.stages.review import Desk

LOOPBACK = "127.0.0.1"
WILDCARDS = {"0.0.0.0": LOOPBACK, "::": "::1"}
"""Addresses that mean every one of this machine -> the one that links name."""
ERRORS = "review-errors.log"
JUMP = "review-open.html"
PORT = "review.port"
LONGEST_REVIEWER = 60
SILENT = logging.CRITICAL + 1
GRACE_SECONDS = 1
DISPLAYS = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

NOT_HTTP = json.dumps({"error": "This is not a valid HTTP request."}).encode()
JUMP_PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0;url={link}">
<title>p3mdata review</title><p><a href="{link}">Open the review page</a></p>
"""


def serve(
    desk: Desk,
    reviewers: Sequence[str],
    *,
    host: str = LOOPBACK,
    port: int | None = None,
    open_browser: bool = True,
    say: Callable[[str], None],
    private: Path,
) -> None:
    """Serve the review page of `desk` until Ctrl-C or a signal to end.

    `say` is told one line with a link for each of `reviewers`, and another whenever a link was used (from
    any thread). `port` 0: any free one; None: the one of the last time, if it is free, so that a page that was
    open when the server ended finds it again. `private`: a folder of the private side, for the page that leads
    the browser here and for the details of unexpected errors. `UsageError` when the address is not of this
    machine, the port is in use, or a reviewer's name cannot be one; `StorageError` when `private` cannot be made.
    """
    server = ReviewServer(
        desk, reviewers, host=host, port=port, open_browser=open_browser, say=say, private=private
    )
    with _ended_by_signals(server):
        server.run()


class ReviewServer:
    """The server, bound and not yet running; `run` blocks until `stop`, which any thread may call."""

    def __init__(
        self,
        desk: Desk,
        reviewers: Sequence[str],
        *,
        host: str = LOOPBACK,
        port: int | None = 0,
        open_browser: bool = False,
        say: Callable[[str], None],
        private: Path,
        idle_seconds: float = 2.0,
    ) -> None:
        check_reviewers(reviewers)
        try:
            private.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{private} cannot be made or is no folder: {error.strerror}") from error
        self.ready = threading.Event()
        """Set once requests are answered."""
        self._desk = desk
        self._reviewers = tuple(reviewers)
        self._open_browser = open_browser
        self._say = say
        self._errors = ErrorFile(private / ERRORS)
        self._jump = Jump(private / JUMP)
        self._socket = bind(host, port) if port is not None else _bind_again(host, private / PORT)
        site = Site(self._socket.getsockname()[1], _in_url(WILDCARDS.get(host, host)))
        self.port = site.port
        with contextlib.suppress(OSError):  # the next start takes another port then
            (private / PORT).write_text(str(self.port))
        self.url = site.url
        self._sessions = Sessions()
        self._work = Work()
        report = self._errors.append
        app = make_app(
            desk, site, self._sessions, self._used, report, work=self._work, idle_seconds=idle_seconds
        )
        self._server = _Server(_configuration(app), self._started, report)

    def run(self) -> None:
        """Answer requests until `stop`; what a request began in the desk is finished before it returns."""
        with contextlib.ExitStack() as end:
            end.callback(self._desk.flush)
            end.callback(self._work.join)
            end.callback(self._socket.close)
            end.callback(self._jump.remove)
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End; called again, without waiting for answers that are under way."""
        self._server.force_exit = self._server.should_exit
        self._server.should_exit = True

    def _link(self, token: str) -> str:
        # browsers keep what follows # to themselves: it is in no request line and no Referer
        return f"{self.url}/open#{token}"

    def _started(self) -> None:
        if not ipaddress.ip_address(self._socket.getsockname()[0].partition("%")[0]).is_loopback:
            self._say(_warning(self.port))
        links = [self._link(self._sessions.token(reviewer)) for reviewer in self._reviewers]
        for reviewer, link in zip(self._reviewers, links, strict=True):
            self._say(f"{reviewer}: {link}")
        browser = find_browser() if self._open_browser else None
        if browser is not None:
            self._show(browser, links[0])
        self.ready.set()

    def _show(self, browser: webbrowser.BaseBrowser, link: str) -> None:
        try:
            page = self._jump.write(link)
        except OSError as error:
            self._say(f"The browser was not opened ({error.strerror}); open the link yourself.")
            return
        # some browsers return only when they are closed
        threading.Thread(target=self._open, args=(browser, page), daemon=True).start()

    def _open(self, browser: webbrowser.BaseBrowser, page: Path) -> None:
        try:
            browser.open(page.as_uri())
        except Exception as error:
            self._errors.append(error)

    def _used(self, reviewer: str, token: str) -> None:
        if reviewer == self._reviewers[0]:
            self._jump.remove()
        try:
            self._say(f"{reviewer}, for another browser: {self._link(token)}")
        except OSError as error:
            # the terminal may be gone; the reviewer whose link it was goes on all the same
            self._errors.append(error)


def check_reviewers(reviewers: Sequence[str]) -> None:
    """`UsageError` unless there are some, all different, each of 1 to 60 printable characters."""
    if not reviewers:
        raise UsageError("a review needs a reviewer; name one with --reviewer")
    for name in reviewers:
        if not name.strip() or not name.isprintable() or len(name) > LONGEST_REVIEWER:
            raise UsageError(
                f"{name!r} cannot be a reviewer's name; use 1 to {LONGEST_REVIEWER} printable characters"
            )
    if len(set(reviewers)) < len(reviewers):
        raise UsageError("two reviewers have the same name; give each another --reviewer")


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket of this machine; port 0 is any free one. `UsageError` when that cannot be."""
    if not 0 <= port <= 65535:
        raise UsageError(f"{port} is no port; choose one from 1024 to 65535, or 0 for any free one")
    foreign = f"{host!r} is not an address of this machine; leave --host out, or name one that is"
    if not host:
        raise UsageError(foreign)
    try:
        # some machines name ::1 first, and links would then differ from one to another
        name = LOOPBACK if host == "localhost" else host
        family, kind, protocol, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
        # asyncio sends small answers at once only where the protocol is named
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UsageError(foreign) from error
    try:
        if os.name == "posix":
            # a restart on the same port must not wait for old connections to be forgotten
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        raise UsageError(_why_not(error, foreign, port)) from error
    return listening


def _bind_again(host: str, known: Path) -> socket.socket:
    """A listening socket on the port in the file `known`, or on any free one."""
    try:
        return bind(host, int(known.read_text()))
    except (OSError, ValueError, UsageError):
        return bind(host, 0)


def _why_not(error: OSError, foreign: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; choose another --port, or leave it out for any free one"
    if error.errno == errno.EACCES:
        return f"port {port} is not for this account; choose a --port from 1024 on"
    return foreign


def _warning(port: int) -> str:
    return (
        "Warning: unblurred faces go over the network unencrypted, and whoever can listen there sees them. "
        f"Safer: run this without --host and with --port {port}, and have reviewers connect with "
        f"ssh -L {port}:{LOOPBACK}:{port} THIS-MACHINE"
    )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def find_browser() -> webbrowser.BaseBrowser | None:
    """The browser of this desktop; None where there is none, as on a machine that is reached by ssh."""
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in DISPLAYS):
        return None
    try:
        return webbrowser.get()
    except webbrowser.Error:
        return None


class Jump:
    """A page for its owner's eyes that leads to a link.

    A browser is opened on it, because every account of the machine may read the arguments of a process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, link: str) -> Path:
        """Make the page; its absolute path."""
        self.remove()
        made = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(made, "w", encoding="utf-8") as file:
            file.write(JUMP_PAGE.format(link=html.escape(link)))
        return self._path.resolve()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class ErrorFile:
    """A private file of tracebacks; any thread may append."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def append(self, error: BaseException) -> None:
        text = "".join(traceback.format_exception(error))
        # a full disk must not turn one error into another
        with self._lock, contextlib.suppress(OSError):
            made = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with open(made, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text + "\n")


def _configuration(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=_Protocol,
        ws="none",
        lifespan="off",
        # ids are private: no line about any request, not even about a broken one
        log_config=None,
        log_level=SILENT,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


class _Protocol(H11Protocol):
    """uvicorn's, whose own answer to what is not HTTP has our headers."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        if self.cycle is not None:
            # the application must not go on with half a request
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            length = str(len(NOT_HTTP)).encode()
            kind = [(b"content-type", b"application/json"), (b"content-length", length)]
            headers = with_headers([*kind, (b"connection", b"close")])
            head = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            for event in (head, h11.Data(data=NOT_HTTP), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn's, with signals left to `serve` and nothing written to the terminal."""

    def __init__(
        self,
        config: uvicorn.Config,
        started: Callable[[], None],
        report: Callable[[BaseException], None],
    ) -> None:
        super().__init__(config)
        self._on_started = started
        self._report = report

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._unhandled)
        await super().startup(sockets)
        self._on_started()

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG002
        self._report(context.get("exception") or RuntimeError(context["message"]))


@contextlib.contextmanager
def _ended_by_signals(server: ReviewServer) -> Iterator[None]:
    """Ctrl-C, a request to end and the loss of the terminal stop `server`, and `serve` returns as usual."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        server.stop()

    if threading.current_thread() is not threading.main_thread():
        # only the main thread gets signals
        yield
        return
    found = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    # nohup means what it says
    heard = [
        number for number in found if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN
    ]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: not set from Python, and so not to be set back from it
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
