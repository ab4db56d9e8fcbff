"""Who may talk to the review server and what it takes: hosts, origins, links, sessions, headers, bodies.

The pages show unblurred faces. Other accounts of the machine can reach a port on 127.0.0.1, and so can every
web page in the reviewer's own browser; what stands between them is here and nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Value = TypeVar("Value")
Model = TypeVar("Model", bound=BaseModel)

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
"""On every answer, whatever its status."""

READS = frozenset({"GET", "HEAD"})
WRITE = "POST"
CSRF_HEADER = "X-P3MDATA-CSRF"
EXCHANGE = "/api/session"
OPEN_TO_ALL = frozenset({"/open", "/static/open.js", "/static/style.css", "/static/icon.svg", EXCHANGE})
"""Paths that need no session: nothing of a dataset is behind them."""

NOTHING_HERE = "There is no such picture or page."
"""The one sentence of every 404: it tells nothing about what there is."""
SECRET_BYTES = 32
SMALL_BODY = 64 << 10
LONGEST_NUMBER = 15
"""Digits: whole numbers of that length are exact as 64-bit floats, too."""
ID = re.compile(r"p_[0-9a-f]{8,64}")
ASK_FOR_A_LINK = (
    "This browser has no session: open the newest link that p3mdata shows in its terminal. "
    "Each link works once."
)
INTERNAL = "Something went wrong inside p3mdata; whoever runs it finds the details in the private folder."
DOOR = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>p3mdata review</title>
<link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/static/style.css"></head>
<body><main><h1>This page needs a link</h1><p>{ASK_FOR_A_LINK}</p></main></body>
</html>
"""


class Refused(Exception):
    """A request that the application does not take; the answer's status, sentence and further headers."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers

    def response(self) -> Response:
        return JSONResponse({"error": str(self)}, self.status, self.headers)


@dataclass(frozen=True)
class Site:
    """Where the server is reached; `name` is the host that its links name, as it stands in a URL."""

    port: int
    name: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://{self.name}:{self.port}"

    @property
    def hosts(self) -> frozenset[str]:
        """The values of the header Host that are this server's, in lower case."""
        names = {"127.0.0.1", "localhost", "[::1]", self.name.lower()}
        # browsers leave the port out where it is the scheme's own
        return frozenset({f"{name}:{self.port}" for name in names} | (names if self.port == 80 else set()))

    @property
    def cookie(self) -> str:
        """Cookies know no ports: two servers on one machine need two names."""
        return f"p3mdata_{self.port}"

    def set_cookie(self, value: str) -> str:
        """The header that gives a browser its session.

        It is not `Secure`: the server speaks plain http, and not every browser keeps such a cookie then.
        """
        return f"{self.cookie}={value}; Path=/; HttpOnly; SameSite=Strict"


class Session(NamedTuple):
    reviewer: str
    csrf: str


class Sessions:
    """One-time tokens and the sessions they were exchanged for; of the secrets only digests are kept.

    For one thread, the event loop's: between the look at a token and its end nothing else runs.
    """

    def __init__(self) -> None:
        self._tokens: dict[str, bytes] = {}
        self._sessions: dict[bytes, Session] = {}

    def token(self, reviewer: str) -> str:
        """A new token for `reviewer`; the one before it, if it was not used, ends."""
        token = secrets.token_urlsafe(SECRET_BYTES)
        self._tokens[reviewer] = _digest(token)
        return token

    def redeem(self, token: str) -> str | None:
        """Whose token that is; it works no more. None for every other text."""
        given = _digest(token)
        reviewer = _matching(given, ((digest, name) for name, digest in self._tokens.items()))
        if reviewer is not None:
            del self._tokens[reviewer]
        return reviewer

    def open(self, reviewer: str) -> str:
        """The cookie value of a new session."""
        value = secrets.token_urlsafe(SECRET_BYTES)
        self._sessions[_digest(value)] = Session(reviewer, secrets.token_urlsafe(SECRET_BYTES))
        return value

    def find(self, value: str) -> Session | None:
        """The session whose cookie has `value`."""
        return _matching(_digest(value), self._sessions.items())


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _matching(given: bytes, known: Iterable[tuple[bytes, Value]]) -> Value | None:
    # every one is compared, so that the time tells nothing
    found = [value for digest, value in known if hmac.compare_digest(digest, given)]
    return found[0] if found else None


def check(site: Site, sessions: Sessions, method: str, path: str, headers: Headers) -> Session | None:
    """The session of a request that may go on; None where it has none and needs none. Raises `Refused`.

    The host comes first: a page of another name that was made to point here learns only that.
    """
    host = _host(site, headers)
    if method not in READS and method != WRITE:
        raise Refused(405, f"{method} is not answered here.", Allow="GET, HEAD, POST")
    if not path.isprintable():
        raise Refused(404, NOTHING_HERE)
    cookies = _cookies(headers, site.cookie)
    if method == WRITE:
        _check_origin(host, headers)
    elif cookies and path not in OPEN_TO_ALL:
        _check_fetch(headers)
    # a page on another port can set a cookie of our name beside ours; nobody can tell then whose it is
    session = sessions.find(cookies[0]) if len(cookies) == 1 else None
    if path in OPEN_TO_ALL:
        return session
    if session is None:
        raise Refused(401, ASK_FOR_A_LINK)
    if method == WRITE and not _is_one(headers.getlist(CSRF_HEADER), session.csrf):
        raise Refused(403, "This did not come from the review page; reload it and try again.")
    return session


def _host(site: Site, headers: Headers) -> str:
    found = [value.lower() for value in headers.getlist("host")]
    if len(found) != 1 or found[0] not in site.hosts:
        raise Refused(421, f"This server answers at {site.url} and under no other name.")
    return found[0]


def _check_origin(host: str, headers: Headers) -> None:
    """That a write comes from a page of this server, by what the browser says about its sender."""
    if not _is_one([origin.lower() for origin in headers.getlist("origin")], f"http://{host}"):
        raise Refused(403, "Writing is for the review page alone; this came from another place.")
    if headers.getlist("sec-fetch-site") not in ([], ["same-origin"]):
        raise Refused(403, "Writing is for the review page alone; this came from another site.")


def _check_fetch(headers: Headers) -> None:
    """That a read with a session comes from a page of this server, or from the reviewer's own hand."""
    site = headers.getlist("sec-fetch-site")
    typed = (
        site == ["none"]
        and headers.getlist("sec-fetch-mode") in ([], ["navigate"])
        and headers.getlist("sec-fetch-dest") in ([], ["document"])
    )
    if site not in ([], ["same-origin"]) and not typed:
        raise Refused(403, "Pictures are for the review page alone; another site asked for this.")


def _is_one(found: list[str], expected: str) -> bool:
    return len(found) == 1 and hmac.compare_digest(_digest(found[0]), _digest(expected))


def _cookies(headers: Headers, name: str) -> list[str]:
    pairs = (pair.partition("=") for line in headers.getlist("cookie") for pair in line.split(";"))
    return [value.strip() for key, _, value in pairs if key.strip() == name]


class Guard:
    """The outermost ASGI application: lets `app` see what `check` lets pass, its session in `state.session`.

    Every answer gets `HEADERS`. What `app` raises goes to `report` and never to the browser.
    """

    def __init__(
        self, app: ASGIApp, site: Site, sessions: Sessions, report: Callable[[BaseException], None]
    ) -> None:
        self._app = app
        self._site = site
        self._sessions = sessions
        self._report = report

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            await self._answer(scope, receive, _Sender(send))

    async def _answer(self, scope: Scope, receive: Receive, send: _Sender) -> None:
        headers = Headers(scope=scope)
        try:
            session = check(self._site, self._sessions, scope["method"], scope["path"], headers)
            scope.setdefault("state", {})["session"] = session
            await self._app(scope, receive, send)
        except Refused as refusal:
            at_the_door = refusal.status == 401 and scope["path"] == "/"
            response = door() if at_the_door else refusal.response()
            await response(scope, receive, send)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:
            if not send.started:
                await _error(503, "The review server is ending.")(scope, receive, send)
            raise
        except Exception as error:
            self._report(error)
            if not send.started:
                await _error(500, INTERNAL)(scope, receive, send)


class _Sender:
    """`send` with `HEADERS` on the answer, and whether one has `started`."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message = {**message, "headers": with_headers(message.get("headers", ()))}
        await self._send(message)


def with_headers(given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Raw ASGI headers with `HEADERS` in the place of those of the same name, and no Server."""
    ours = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
    dropped = {name for name, _ in ours} | {b"server"}
    return [pair for pair in given if pair[0].lower() not in dropped] + ours


def door() -> Response:
    """What a browser without a session sees in the place of the page."""
    return HTMLResponse(DOOR, 401)


def _error(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status)


def parse(data: bytes, model: type[Model]) -> Model:
    """The JSON object in `data` as `model`; `Refused` with 400 when it is anything else."""
    try:
        text = data.decode()
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_whole)
        if "\\u" in text:
            # half of a surrogate pair is no text: databases and answers choke on it later
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refused(400, "The request is not JSON with ordinary text and numbers.") from error
    if not isinstance(value, dict):
        raise Refused(400, "The request must be a JSON object.")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise Refused(400, f"The request cannot be used: {where}: {first['msg']}.") from error


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError("the number is too large")
    return number


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > LONGEST_NUMBER:
        raise ValueError("the number is too large")
    return int(text)


async def read(request: Request, model: type[Model], limit: int = SMALL_BODY) -> Model:
    """The request's body as `model`; `Refused` with 415, 413 as soon as it is over `limit` bytes, or 400."""
    kinds = request.headers.getlist("content-type")
    if len(kinds) != 1 or kinds[0].partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "The request must be JSON (Content-Type: application/json).")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise Refused(413, f"The request is over {limit >> 10} KiB.")
    return await run_in_threadpool(parse, bytes(data), model)


def known(text: str) -> str:
    """`text`, when it has the form of an id; else the same 404 as for an id that no picture has."""
    if not ID.fullmatch(text):
        raise Refused(404, NOTHING_HERE)
    return text
