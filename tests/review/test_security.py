from __future__ import annotations

import asyncio
import hmac
import json
import pickle
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from p3m_data.review import security
from p3m_data.review.security import (
    HEADERS,
    OPEN_TO_ALL,
    Guard,
    Refused,
    Session,
    Sessions,
    Site,
    check,
    known,
    parse,
)

SITE = Site(4321)
HOST = "127.0.0.1:4321"

SESSIONS = Sessions()
COOKIE = SESSIONS.open("anna")
SESSION = SESSIONS.find(COOKIE)
assert SESSION is not None
OTHER = SESSIONS.open("bert")

GOOD = {
    "host": HOST,
    "cookie": f"p3mdata_4321={COOKIE}",
    "origin": f"http://{HOST}",
    "x-p3mdata-csrf": SESSION.csrf,
}
"""What the page's own writes come with."""


def headers(*extra: tuple[str, str], **changed: str | None) -> Headers:
    """`GOOD`, changed (None: without it) and with `extra` lines."""
    merged = {**GOOD, **{name.replace("_", "-"): value for name, value in changed.items()}}
    pairs = [*((name, value) for name, value in merged.items() if value is not None), *extra]
    return Headers(raw=[(name.encode(), value.encode("latin-1")) for name, value in pairs])


def passes(method: str, path: str, found: Headers, site: Site = SITE) -> Session | None:
    return check(site, SESSIONS, method, path, found)


def status(method: str, path: str, found: Headers, site: Site = SITE) -> int:
    with pytest.raises(Refused) as refused:
        passes(method, path, found, site)
    return refused.value.status


def test_the_page_itself_may_read_and_write() -> None:
    assert passes("GET", "/api/me", headers(origin=None, x_p3mdata_csrf=None)) == SESSION
    assert passes("HEAD", "/api/me", headers(sec_fetch_site="same-origin")) == SESSION
    assert passes("POST", "/api/next", headers()) == SESSION
    assert passes("POST", "/api/next", headers(sec_fetch_site="same-origin")) == SESSION


@pytest.mark.parametrize("host", [HOST, "localhost:4321", "LOCALHOST:4321", "[::1]:4321"])
def test_each_of_our_names_is_an_origin_of_its_own(host: str) -> None:
    assert passes("POST", "/api/next", headers(host=host, origin=f"http://{host.lower()}")) == SESSION
    for other in {HOST, "localhost:4321", "[::1]:4321"} - {host.lower()}:
        assert status("POST", "/api/next", headers(host=host, origin=f"http://{other}")) == 403


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "evil.example:4321",
        "127.0.0.1",
        "127.0.0.1:4322",
        "127.0.0.1:43210",
        "127.0.0.1.evil.example:4321",
        "localhost.:4321",
        "user@127.0.0.1:4321",
        "127.0.0.1:4321, evil.example",
        "0.0.0.0:4321",
        "[::]:4321",
        "127.1:4321",
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/open"), ("POST", "/api/session"), ("OPTIONS", "/x")])
def test_a_foreign_host_is_refused_before_anything_else(host: str | None, method: str, path: str) -> None:
    assert status(method, path, headers(host=host, cookie=None, origin="null")) == 421


def test_two_hosts_are_refused_even_when_both_are_ours() -> None:
    assert status("GET", "/api/me", headers(("host", HOST))) == 421
    assert status("GET", "/api/me", headers(("host", "evil.example"))) == 421


def test_a_named_host_is_answered_and_no_other() -> None:
    site = Site(4321, "Lab-PC.local")
    host = "lab-pc.local:4321"
    assert passes("POST", "/api/next", headers(host=host, origin=f"http://{host}"), site) == SESSION
    assert status("GET", "/api/me", headers(host="lab-pc2.local:4321"), site) == 421


def test_on_port_80_browsers_leave_the_port_out() -> None:
    site = Site(80)
    assert {"127.0.0.1", "127.0.0.1:80", "[::1]"} <= site.hosts
    assert "127.0.0.1" not in SITE.hosts


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "",
        "http://evil.example",
        "https://127.0.0.1:4321",
        "http://127.0.0.1",
        f"http://{HOST}/",
    ],
)
@pytest.mark.parametrize("path", ["/api/next", "/api/session"])
def test_a_write_needs_our_origin(origin: str | None, path: str) -> None:
    assert status("POST", path, headers(origin=origin)) == 403


def test_a_write_needs_one_origin() -> None:
    assert status("POST", "/api/session", headers(("origin", f"http://{HOST}"))) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", "", "same-origin, cross-site"])
@pytest.mark.parametrize("path", ["/api/next", "/api/session"])
def test_a_write_that_the_browser_says_is_from_elsewhere_is_refused(site: str, path: str) -> None:
    assert status("POST", path, headers(sec_fetch_site=site)) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", ""])
def test_a_read_with_a_session_from_elsewhere_is_refused(site: str) -> None:
    found = headers(sec_fetch_site=site, sec_fetch_mode="navigate", sec_fetch_dest="document")
    assert status("GET", "/", found) == 403
    assert status("GET", "/api/me", headers(sec_fetch_site=site)) == 403


def test_an_address_typed_by_hand_is_answered_and_nothing_else_without_a_site() -> None:
    typed = {"sec_fetch_site": "none", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert passes("GET", "/", headers(**typed)) == SESSION
    assert status("GET", "/", headers(**{**typed, "sec_fetch_dest": "iframe"})) == 403
    assert status("GET", "/", headers(**{**typed, "sec_fetch_mode": "no-cors"})) == 403


def test_a_link_from_a_file_reaches_the_page_that_opens_a_session() -> None:
    found = headers(sec_fetch_site="cross-site", sec_fetch_mode="navigate", sec_fetch_dest="document")
    assert passes("GET", "/open", found) == SESSION


@pytest.mark.parametrize(
    "cookie",
    [
        None,
        "",
        "p3mdata_4321",
        "p3mdata_4321=",
        f"p3mdata_4322={COOKIE}",
        f"P3MDATA_4321={COOKIE}",
        f"p3mdata_4321={COOKIE}x",
        f"p3mdata_4321={COOKIE[:-1]}",
        f"p3mdata_4321={COOKIE}; p3mdata_4321={OTHER}",
        f"p3mdata_4321={COOKIE}; p3mdata_4321={COOKIE}",
        "p3mdata_4321=\xff\xfe",
    ],
)
def test_without_one_session_nothing_is_shown(cookie: str | None) -> None:
    assert status("GET", "/api/me", headers(cookie=cookie)) == 401
    assert status("GET", "/static/app.js", headers(cookie=cookie)) == 401
    assert status("POST", "/api/next", headers(cookie=cookie)) == 401
    for path in OPEN_TO_ALL:
        assert passes("GET", path, headers(cookie=cookie)) is None


def test_cookies_of_other_servers_do_not_matter() -> None:
    crowd = f"p3mdata_80=x; p3mdata_4321={COOKIE}; _xsrf=2|3=4"
    assert passes("GET", "/api/me", headers(cookie=crowd)) == SESSION


@pytest.mark.parametrize("csrf", [None, "", SESSION.csrf + "x", SESSION.csrf.swapcase(), COOKIE])
def test_a_write_needs_the_csrf_value_of_its_session(csrf: str | None) -> None:
    assert status("POST", "/api/next", headers(x_p3mdata_csrf=csrf)) == 403
    other = SESSIONS.find(OTHER)
    assert other is not None
    assert status("POST", "/api/next", headers(x_p3mdata_csrf=other.csrf)) == 403
    assert status("POST", "/api/next", headers(("x-p3mdata-csrf", SESSION.csrf))) == 403


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "get", ""])
def test_other_methods_are_refused_with_what_is_allowed(method: str) -> None:
    for path in ("/", "/open", "/api/next"):
        with pytest.raises(Refused) as refused:
            passes(method, path, headers())
        assert refused.value.status == 405
        assert refused.value.headers == {"Allow": "GET, HEAD, POST"}


@pytest.mark.parametrize("path", ["/api/\0", "/open\n", "/api/me\r\n", "/\x7f"])
def test_control_characters_in_a_path_are_nothing(path: str) -> None:
    assert status("GET", path, headers()) == 404


line = st.sampled_from(
    [*GOOD.items(), ("host", "evil.example"), ("origin", "null"), ("cookie", f"p3mdata_4321={OTHER}")]
    + [("sec-fetch-site", site) for site in ("same-origin", "cross-site", "none")]
    + [("x-p3mdata-csrf", "wrong")]
)


@given(found=st.lists(line, max_size=7), path=st.sampled_from(["/api/next", "/api/undo", "/api/session"]))
def test_a_write_passes_only_when_every_condition_holds(found: list[tuple[str, str]], path: str) -> None:
    given_of: dict[str, list[str]] = {}
    for name, value in found:
        given_of.setdefault(name, []).append(value)
    from_here = (
        given_of.get("host") == [HOST]
        and given_of.get("origin") == [f"http://{HOST}"]
        and given_of.get("sec-fetch-site", ["same-origin"]) == ["same-origin"]
    )
    mine = given_of.get("cookie") == [GOOD["cookie"]]
    with_session = mine and given_of.get("x-p3mdata-csrf") == [GOOD["x-p3mdata-csrf"]]
    raw = Headers(raw=[(name.encode(), value.encode()) for name, value in found])
    try:
        passes("POST", path, raw)
    except Refused:
        assert not (from_here and (with_session or path == "/api/session"))
    else:
        assert from_here
        assert with_session or path == "/api/session"


def test_a_token_works_once_and_only_the_newest() -> None:
    sessions = Sessions()
    first = sessions.token("anna")
    second = sessions.token("anna")
    other = sessions.token("bert")
    assert len({first, second, other}) == 3
    assert min(map(len, (first, second, other))) >= 43
    assert sessions.redeem(first) is None
    assert sessions.redeem("") is None
    assert sessions.redeem("\ud800") is None
    assert sessions.redeem(second) == "anna"
    assert sessions.redeem(second) is None
    assert sessions.redeem(other) == "bert"


def test_a_session_is_another_secret_and_its_own() -> None:
    sessions = Sessions()
    one, two = sessions.open("anna"), sessions.open("anna")
    found = [sessions.find(value) for value in (one, two)]
    assert [each and each.reviewer for each in found] == ["anna", "anna"]
    secrets = {one, two, *(each.csrf for each in found if each)}
    assert len(secrets) == 4
    assert min(map(len, secrets)) >= 43
    assert sessions.find(one[:-1]) is None


def test_tokens_and_cookies_are_not_kept() -> None:
    sessions = Sessions()
    token, value = sessions.token("anna"), sessions.open("anna")
    kept = pickle.dumps(vars(sessions))
    assert b"anna" in kept
    assert token.encode() not in kept
    assert value.encode() not in kept


def test_every_secret_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return hmac.compare_digest(a, b)

    sessions = Sessions()
    tokens = [sessions.token(name) for name in "abc"]

    class Spy:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(security, "hmac", Spy)
    assert sessions.redeem("wrong") is None
    assert len(compared) == 3
    assert sessions.redeem(tokens[0]) == "a"
    assert len(compared) == 6
    assert all(len(a) == len(b) == 32 for a, b in compared)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("p_0123456789abcdef", True),
        ("p_01234567", True),
        ("p_0123456", False),
        ("p_0123456789ABCDEF", False),
        ("p_0123456789abcdef\n", False),
        ("xp_0123456789abcdef", False),
        ("p_0123456789abcdeg", False),
        ("p_" + "0" * 65, False),
        ("p_٠١٢٣٤٥٦٧", False),
        ("../p_0123456789abcdef", False),
        ("", False),
    ],
)
def test_an_id_is_exactly_an_id(text: str, good: bool) -> None:
    if good:
        assert known(text) == text
    else:
        with pytest.raises(Refused) as refused:
            known(text)
        assert refused.value.status == 404


class Sample(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    whole: int = 0
    point: float = 0.0
    text: str = ""
    more: list[dict[str, Any]] = []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"{}"',
        b"1",
        b"\xff\xfe{}",
        b'{"whole": "1"}',
        b'{"whole": 1.0}',
        b'{"whole": true}',
        b'{"whole": null}',
        b'{"point": NaN}',
        b'{"point": Infinity}',
        b'{"point": 1e999}',
        b'{"more": [{"x": NaN}]}',
        b'{"more": [{"x": -Infinity}]}',
        b'{"more": [{"x": 1e400}]}',
        b'{"whole": ' + b"9" * 16 + b"}",
        b'{"whole": ' + b"9" * 5000 + b"}",
        b'{"more": [{"x": -' + b"9" * 400 + b"}]}",
        b'{"text": "\\ud800"}',
        b'{"more": [{"\\udfff": 1}]}',
        b'{"text": 1}',
        b'{"more": {}}',
        b'{"more": [1]}',
        b'{"other": 1}',
        b'{"more": ' + b"[" * 30000 + b"}",
    ],
)
def test_a_body_that_is_not_as_it_must_be_gets_a_sentence(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        parse(body, Sample)
    assert refused.value.status == 400
    assert str(refused.value).startswith("The request ")
    assert str(refused.value).endswith(".")
    json.dumps(str(refused.value), ensure_ascii=False).encode()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**14), 10**14) | st.floats(-1e9, 1e9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


@given(values=st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_an_ordinary_object_arrives_as_it_was_sent(values: dict[str, Any]) -> None:
    for ascii_only in (True, False):
        body = json.dumps(values, ensure_ascii=ascii_only).encode()
        assert parse(body, Anything).model_extra == values


@given(body=st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode()))
def test_no_body_at_all_is_an_error_of_another_kind(body: bytes) -> None:
    with suppress(Refused):
        parse(body, Sample)


def answer(app: Any, scope: dict[str, Any], report: list[BaseException]) -> list[Message]:
    """What a guard around `app` sends."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Guard(app, SITE, SESSIONS, report.append)(scope, receive, send))
    return sent


def scope(found: Headers, method: str = "GET", path: str = "/api/me") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": found.raw}


def sent_headers(message: Message) -> dict[str, str]:
    pairs = [(name.decode(), value.decode()) for name, value in message["headers"]]
    found = dict(pairs)
    assert len(found) == len(pairs)
    return found


async def fails(*_: Any) -> None:
    raise RuntimeError("secret path")


async def fails_late(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("secret path")


async def careless(scope: Scope, receive: Receive, send: Send) -> None:
    names = {name: "*" for name in ("Server", "cache-control", "Content-Security-Policy")}
    await Response("x", 418, names)(scope, receive, send)


async def without_headers(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize("app", [fails, fails_late, careless, without_headers])
@pytest.mark.parametrize("found", [headers(), headers(host="evil"), headers(cookie=None)])
@pytest.mark.parametrize("path", ["/", "/api/me"])
def test_every_answer_has_the_headers_once(app: Any, found: Headers, path: str) -> None:
    start = answer(app, scope(found, path=path), [])[0]
    told = sent_headers(start)
    for name, value in HEADERS.items():
        assert told[name.lower()] == value
    assert "server" not in {name.lower() for name in told}
    assert not any(name.lower().startswith("access-control") for name in told)


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    parts = HEADERS["Content-Security-Policy"].split("; ")
    assert parts[0] == "default-src 'self'"
    assert set(parts[1:]) == {
        f"{what} 'none'" for what in ("base-uri", "form-action", "frame-ancestors", "object-src")
    }


def test_what_the_application_raises_is_reported_and_not_told() -> None:
    report: list[BaseException] = []
    start, body = answer(fails, scope(headers()), report)
    assert start["status"] == 500
    assert set(json.loads(body["body"])) == {"error"}
    assert b"secret" not in body["body"]
    assert [str(error) for error in report] == ["secret path"]


def test_after_the_answer_began_an_error_is_only_reported() -> None:
    report: list[BaseException] = []
    sent = answer(fails_late, scope(headers()), report)
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert len(report) == 1


def test_a_refusal_is_no_error_of_the_program() -> None:
    report: list[BaseException] = []
    start, body = answer(fails, scope(headers(cookie=None)), report)
    assert start["status"] == 401
    assert set(json.loads(body["body"])) == {"error"}
    assert report == []


def test_the_page_without_a_session_is_a_page() -> None:
    start, body = answer(fails, scope(headers(cookie=None), path="/"), [])
    assert start["status"] == 401
    assert sent_headers(start)["content-type"].startswith("text/html")
    assert b"<script" not in body["body"]
    assert b"style=" not in body["body"]
    assert b"terminal" in body["body"]


def test_a_request_cut_off_at_the_end_is_told_so() -> None:
    async def cancelled(*_: Any) -> None:
        raise asyncio.CancelledError

    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        with pytest.raises(asyncio.CancelledError):
            await Guard(cancelled, SITE, SESSIONS, lambda _: None)(scope(headers()), receive, send)

    asyncio.run(run())
    assert sent[0]["status"] == 503
    assert sent_headers(sent[0])["cache-control"] == "no-store"


def test_a_websocket_is_closed_unseen() -> None:
    assert answer(fails, {"type": "websocket", "path": "/", "headers": headers().raw}, []) == [
        {"type": "websocket.close", "code": 1008}
    ]


def test_the_cookie_is_for_this_server_alone() -> None:
    parts = SITE.set_cookie("value").split("; ")
    assert parts[0] == "p3mdata_4321=value"
    assert set(parts[1:]) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert Site(1).cookie != Site(2).cookie
