"""The review server's HTTP: each route reads its request, asks the desk, and answers.

Nothing is decided here, no path of a request reaches the file system, and every body is checked before the
desk sees it. Errors are `{"error": sentence}`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from importlib.resources import files
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from p3m_data.errors import DatasetBusy, DraftChanged, P3MError, PictureTaken, UnknownPicture, UsageError
from p3m_data.pipeline.queue import LEASE_SECONDS
from p3m_data.review.bodies import (
    DRAFT_BODY,
    STATES,
    Decision,
    Draft,
    Exchange,
    Leases,
    Next,
    Region,
    Undo,
    choice,
    known_or_none,
    number,
    part,
)
from p3m_data.review.security import (
    INTERNAL,
    NOTHING_HERE,
    Guard,
    Refused,
    Session,
    Sessions,
    Site,
    known,
    read,
)
from p3m_data.types import Reason

if TYPE_CHECKING:
    from p3m_data.stages.review import Desk

P = ParamSpec("P")
T = TypeVar("T")

MOST_AT_ONCE = 3
"""Pictures worked on at a time: each may take 24 megapixels of memory several times over."""
LAYERS = {
    "original": "image/jpeg",
    "result": "image/jpeg",
    "private": "image/png",
    "transition": "image/png",
    "suggestion": "image/png",
    "matte": "image/png",
    "opinion-1": "image/png",
    "opinion-2": "image/png",
}
THUMBNAILS = ("picture", "result")
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
STATUSES: tuple[tuple[type[P3MError], int], ...] = (
    (UnknownPicture, 404),
    (PictureTaken, 409),
    (DraftChanged, 409),
    (UsageError, 400),
)
BUSY = "Another program keeps the dataset locked; try again in a moment."
CANNOT_GO_ON = "p3mdata cannot read or write a file that it needs; its private folder holds the details."


class Asset(NamedTuple):
    data: bytes
    media_type: str


def page_assets() -> dict[str, Asset]:
    """The files of the page: name -> its bytes, read once, so that a request finds these and nothing else."""
    found = (file for file in files("p3m_data.review").joinpath("page").iterdir() if file.is_file())
    suffixes = ((file, PurePosixPath(file.name).suffix) for file in found)
    return {
        file.name: Asset(file.read_bytes(), MEDIA_TYPES[suffix])
        for file, suffix in suffixes
        if suffix in MEDIA_TYPES
    }


class Work:
    """The desk's work in threads. Small calls always find one; of `heavy` ones few run at a time."""

    def __init__(self) -> None:
        self._heavy = asyncio.Semaphore(MOST_AT_ONCE)
        self._running = 0
        self._changed = threading.Condition()

    async def small(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await run_in_threadpool(self._counted, lambda: call(*args, **kwargs))

    async def heavy(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._heavy:
            return await self.small(call, *args, **kwargs)

    def join(self) -> None:
        """Wait for what is running: a thread goes on when the request that it is for is cut off."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running)

    def _counted(self, call: Callable[[], T]) -> T:
        with self._changed:
            self._running += 1
        try:
            return call()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()


class Idle:
    """Does `task` in a thread once nothing was decided for `seconds`; for the event loop's thread."""

    def __init__(
        self, work: Work, task: Callable[[], None], seconds: float, report: Callable[[BaseException], None]
    ) -> None:
        self._work = work
        self._do = task
        self._seconds = seconds
        self._report = report
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def decided(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._begin)

    def _begin(self) -> None:
        if self._task is not None and not self._task.done():
            # one at a time, and the last one after the last decision
            self.decided()
            return
        # the loop itself holds tasks weakly
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._work.small(self._do)
        except Exception as error:
            self._report(error)


def reviewer(request: Request) -> str:
    session: Session = request.state.session
    return session.reviewer


class Api:
    """The routes. `used(reviewer, token)` is told that a reviewer's link was used, and the token of the next."""

    def __init__(
        self,
        desk: Desk,
        site: Site,
        sessions: Sessions,
        used: Callable[[str, str], None],
        work: Work,
        idle: Idle,
    ) -> None:
        self._desk = desk
        self._site = site
        self._sessions = sessions
        self._used = used
        self._work = work
        self._idle = idle
        self._assets = page_assets()

    def routes(self) -> list[Route]:
        picture = "/api/picture/{id}"
        reads = {
            "/": self.page,
            "/open": self.open,
            "/static/{name}": self.static,
            "/api/me": self.me,
            "/api/overview": self.overview,
            "/api/list": self.list,
            "/api/decisions": self.decisions,
            picture: self.detail,
            picture + "/layer/{name}": self.layer,
            picture + "/thumbnail": self.thumbnail,
            picture + "/preview": self.preview,
        }
        writes = {
            "/api/session": self.session,
            "/api/next": self.next,
            "/api/renew": self.renew,
            "/api/release": self.release,
            "/api/undo": self.undo,
            picture + "/draft": self.draft,
            picture + "/landmarks": self.landmarks,
            picture + "/decide": self.decide,
        }
        return [
            *(Route(path, endpoint, methods=["GET"]) for path, endpoint in reads.items()),
            *(Route(path, endpoint, methods=["POST"]) for path, endpoint in writes.items()),
        ]

    async def page(self, request: Request) -> Response:  # noqa: ARG002
        return self._asset("index.html")

    async def open(self, request: Request) -> Response:  # noqa: ARG002
        return self._asset("open.html")

    async def static(self, request: Request) -> Response:
        return self._asset(request.path_params["name"])

    def _asset(self, name: str) -> Response:
        if name not in self._assets:
            raise Refused(404, NOTHING_HERE)
        return Response(self._assets[name].data, media_type=self._assets[name].media_type)

    async def session(self, request: Request) -> Response:
        body = await read(request, Exchange)
        name = self._sessions.redeem(body.token)
        if name is None:
            raise Refused(
                403, "This link was used before, or is an older one: open the newest in the terminal."
            )
        cookie = self._site.set_cookie(self._sessions.open(name))
        await self._work.small(self._used, name, self._sessions.token(name))
        return Response(status_code=204, headers={"Set-Cookie": cookie})

    async def me(self, request: Request) -> Response:
        session: Session = request.state.session
        return JSONResponse(
            {
                "reviewer": session.reviewer,
                "csrf": session.csrf,
                "dataset": self._desk.dataset.public.name,
                "holder_seconds": LEASE_SECONDS,
                "reasons": self._desk.words,
                "second_opinion": self._desk.second_opinion,
            }
        )

    async def overview(self, request: Request) -> Response:
        return JSONResponse(await self._work.small(self._desk.overview, reviewer(request)))

    async def list(self, request: Request) -> Response:
        state = choice(request, "state", STATES)
        reason = choice(request, "reason", tuple(Reason))
        offset = number(request, "offset", 0, 10**9, default=0)
        limit = number(request, "limit", 1, 500, default=60)
        found = await self._work.small(self._desk.listing, state, reason, offset, limit, reviewer(request))
        return JSONResponse(found)

    async def decisions(self, request: Request) -> Response:
        limit = number(request, "limit", 1, 500, default=30)
        return JSONResponse({"items": await self._work.small(self._desk.decisions, limit)})

    async def detail(self, request: Request) -> Response:
        name = known(request.path_params["id"])
        return JSONResponse(await self._work.small(self._desk.detail, name, reviewer(request)))

    async def layer(self, request: Request) -> Response:
        name, layer = known(request.path_params["id"]), request.path_params["name"]
        if layer not in LAYERS:
            raise Refused(404, NOTHING_HERE)
        size, box = number(request, "size", 1, 16384, default=2048), part(request)
        who = reviewer(request)
        data = await self._work.heavy(self._desk.layer, name, layer, size, box, reviewer=who)
        return Response(data, media_type=LAYERS[layer])

    async def thumbnail(self, request: Request) -> Response:
        name = known(request.path_params["id"])
        of = choice(request, "of", THUMBNAILS) or "picture"
        return Response(await self._work.heavy(self._desk.thumbnail, name, of), media_type="image/jpeg")

    async def preview(self, request: Request) -> Response:
        name = known(request.path_params["id"])
        version = number(request, "version", 0, 10**15)
        size, box = number(request, "size", 1, 16384, default=1600), part(request)
        data = await self._work.heavy(self._desk.preview, name, reviewer(request), version, size, box)
        return Response(data, media_type="image/jpeg")

    async def next(self, request: Request) -> Response:
        body = await read(request, Next)
        found = await self._work.small(
            self._desk.next,
            reviewer(request),
            body.holder,
            state=body.state,
            reason=body.reason,
            after=known_or_none(body.after),
            want=known_or_none(body.want),
            count=body.count,
        )
        return JSONResponse(found)

    async def renew(self, request: Request) -> Response:
        body = await read(request, Leases)
        await self._work.small(self._desk.renew, reviewer(request), body.holder, [*map(known, body.ids)])
        return Response(status_code=204)

    async def release(self, request: Request) -> Response:
        body = await read(request, Leases)
        await self._work.small(self._desk.release, reviewer(request), body.holder, [*map(known, body.ids)])
        return Response(status_code=204)

    async def draft(self, request: Request) -> Response:
        name = known(request.path_params["id"])
        body = await read(request, Draft, DRAFT_BODY)
        change = (body.version, body.keep, body.add, body.done)
        who = reviewer(request)
        saved = await self._work.small(self._desk.save_draft, name, who, body.holder, *change)
        return JSONResponse(saved)

    async def landmarks(self, request: Request) -> Response:
        name = known(request.path_params["id"])
        x0, y0, x1, y1 = (await read(request, Region)).box
        return JSONResponse(await self._work.heavy(self._desk.landmarks, name, (x0, y0, x1, y1)))

    async def decide(self, request: Request) -> Response:
        name = known(request.path_params["id"])
        body = await read(request, Decision)
        outcome = await self._work.small(
            self._desk.decide,
            name,
            reviewer(request),
            body.verdict,
            holder=body.holder,
            version=body.version,
            note=body.note or "",
            waive=tuple(body.waive),
        )
        self._idle.decided()
        return JSONResponse(outcome)

    async def undo(self, request: Request) -> Response:
        body = await read(request, Undo)
        undone = await self._work.small(self._desk.undo, body.number, reviewer(request))
        self._idle.decided()
        return JSONResponse(undone)


def make_app(
    desk: Desk,
    site: Site,
    sessions: Sessions,
    used: Callable[[str, str], None],
    report: Callable[[BaseException], None],
    *,
    work: Work,
    idle_seconds: float,
) -> ASGIApp:
    """The whole application, guarded.

    `report` gets every exception that no answer can tell; the desk's flush comes `idle_seconds` after the
    last decision.
    """

    async def told(request: Request, error: Exception) -> Response:  # noqa: ARG001
        assert isinstance(error, P3MError)
        if isinstance(error, DatasetBusy):
            report(error)
            return JSONResponse({"error": BUSY}, 503)
        for kind, status in STATUSES:
            if isinstance(error, kind):
                return _sentence(error, status)
        # its sentence names files of the private side
        report(error)
        return JSONResponse({"error": CANNOT_GO_ON}, 500)

    api = Api(desk, site, sessions, used, work, Idle(work, desk.flush, idle_seconds, report))
    app = Starlette(
        routes=api.routes(),
        exception_handlers={Refused: _refused, HTTPException: _http, P3MError: told, Exception: _internal},
    )
    # a redirect would answer for paths that are none of ours
    app.router.redirect_slashes = False
    return Guard(app, site, sessions, report)


def _sentence(error: P3MError, status: int) -> Response:
    # what was asked for is not repeated: unknown and impossible ids get the very same answer
    content: dict[str, Any] = {"error": NOTHING_HERE if status == 404 else str(error)}
    if isinstance(error, DraftChanged):
        # the page goes on from the drawing as it is
        content["draft"] = error.draft
    return JSONResponse(content, status)


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, Refused)
    return error.response()


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    wrong_method = error.status_code == 405
    sentence = f"{request.method} is not answered here." if wrong_method else NOTHING_HERE
    return JSONResponse({"error": sentence}, error.status_code, error.headers)


async def _internal(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return JSONResponse({"error": INTERNAL}, 500)
