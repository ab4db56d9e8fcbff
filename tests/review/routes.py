"""Every route with a request that it answers, and the one form of an error."""

from __future__ import annotations

from typing import Any

import httpx

from tests.review import ID

HOLDER = "a" * 20
PICTURE = f"/api/picture/{ID}"
STROKE = {"tool": "brush", "erase": False, "radius": 12.5, "points": [[1, 2.5]]}

READS = (
    "/api/me",
    "/api/overview",
    "/api/list",
    "/api/decisions",
    PICTURE,
    f"{PICTURE}/layer/original",
    f"{PICTURE}/thumbnail",
    f"{PICTURE}/preview?version=1",
)
PAGE = ("/", "/open", "/static/open.js")
WRITES: dict[str, dict[str, Any]] = {
    "/api/next": {"holder": HOLDER},
    "/api/renew": {"holder": HOLDER, "ids": [ID]},
    "/api/release": {"holder": HOLDER, "ids": []},
    "/api/undo": {"number": 3},
    f"{PICTURE}/draft": {"holder": HOLDER, "version": 0, "keep": 0, "add": [STROKE], "done": 1},
    f"{PICTURE}/landmarks": {"box": [0, 1.5, 20, 30]},
    f"{PICTURE}/decide": {"holder": HOLDER, "verdict": "accept"},
}
"""Every route that writes, with a body that it takes."""


def sentence(answer: httpx.Response, status: int) -> str:
    """The error that `answer` tells, and nothing else."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    content = answer.json()
    assert list(content) == ["error"]
    assert content["error"]
    return str(content["error"])
