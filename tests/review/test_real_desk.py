"""The server at a real desk with real pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from p3m_data.pipeline.outcome import REASON_WORDS
from p3m_data.review.server import LAYERS
from p3m_data.stages.review import Desk
from tests.review import ID, Running, running
from tests.review.routes import HOLDER, PICTURE, READS, WRITES, sentence
from tests.runs import dataset, faceless, p3mdata, portrait, save


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Desk]]:
    """A server at a real desk, at which a cup of coffee waits; the astronaut is published."""
    folder = tmp_path_factory.mktemp("real")
    save(folder / "photos" / "portrait.png", portrait())
    save(folder / "photos" / "cup.png", faceless())
    made = dataset(folder / "out")
    assert p3mdata("anonymize", folder / "photos", "-o", made.public, "--workers", "1").returncode == 1
    with Desk.open(made) as desk, running(desk, made.private, ("anna", "bert"), idle_seconds=0.0) as run:
        yield run, desk


def size_of(answer: httpx.Response, mode: str) -> tuple[int, int]:
    """Width and height of the picture that came, whose Content-Type is its format's."""
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as image:
        assert answer.headers["content-type"] == Image.MIME[image.format or ""]
        assert image.mode == mode
        image.load()
        return image.size


def test_a_review_from_the_link_to_the_manifest(real: tuple[Running, Desk]) -> None:
    run, desk = real
    with run.client() as client:
        me = client.get("/api/me").json()
        assert me["dataset"] == "out"
        assert me["reasons"] == {reason.value: words for reason, words in REASON_WORDS.items()}
        assert client.get("/api/overview").json()["counts"]["waiting"] == 1
        (item,) = client.get("/api/list?state=waiting&reason=no_face_found").json()["items"]
        taken = client.post("/api/next", json={"holder": HOLDER, "count": 3}).json()
        assert [each["id"] for each in taken["items"]] == [item["id"]]
        picture = f"/api/picture/{item['id']}"
        detail = client.get(picture).json()
        assert (detail["width"], detail["height"]) == (160, 160)
        assert client.post("/api/renew", json={"holder": HOLDER, "ids": [item["id"]]}).status_code == 204

        look_at_layers(client, picture)
        draw(client, picture, detail["draft"]["version"])

        with run.client("bert") as other:
            wanted = {"holder": "other", "want": item["id"]}
            assert "anna" in other.post("/api/next", json=wanted).json()["error"]
            assert other.post("/api/next", json=wanted).status_code == 409

        decided = client.post(f"{picture}/decide", json={"holder": HOLDER, "verdict": "no_face"}).json()
        assert decided["outcome"] == "published"
        desk.flush()
        assert item["id"] in desk.dataset.manifest.read_text()
        assert client.get("/api/decisions").json()["items"][0]["number"] == decided["number"]
        assert size_of(client.get(f"{picture}/thumbnail?of=result"), "RGB") == (160, 160)

        undone = client.post("/api/undo", json={"number": decided["number"]})
        assert undone.json()["id"] == item["id"]
        desk.flush()
        assert item["id"] not in desk.dataset.manifest.read_text()
        assert client.get("/api/overview").json()["counts"]["waiting"] == 1


def look_at_layers(client: httpx.Client, picture: str) -> None:
    for name, kind in LAYERS.items():
        answer = client.get(f"{picture}/layer/{name}")
        if name in ("original", "private", "transition", "suggestion"):
            assert size_of(answer, "RGB" if kind == "image/jpeg" else "L") == (160, 160)
        else:
            sentence(answer, 404)
    assert size_of(client.get(f"{picture}/layer/original?size=80"), "RGB") == (80, 80)
    assert size_of(client.get(f"{picture}/layer/original?box=10,20,50,120"), "RGB") == (40, 100)
    assert size_of(client.get(f"{picture}/thumbnail"), "RGB") == (160, 160)
    assert client.get(f"{picture}/layer/original?box=200,200,300,300").status_code == 400


def draw(client: httpx.Client, picture: str, version: int) -> None:
    box = {"tool": "polygon", "points": [[10, 10], [29, 10], [29, 29], [10, 29]]}
    first = {"holder": HOLDER, "version": version, "keep": 0, "add": [box], "done": 1}
    saved = client.post(f"{picture}/draft", json=first).json()
    assert saved["area"] == 19 * 19  # centres on the upper and left border are in, on the others not
    late = client.post(f"{picture}/draft", json=first)
    assert late.status_code == 409
    assert late.json()["draft"]["version"] == saved["version"]
    assert late.json()["draft"]["done"] == 1
    now = f"{picture}/preview?version={saved['version']}"
    assert size_of(client.get(now), "RGB") == (160, 160)
    assert client.get(f"{picture}/preview?version={saved['version'] + 1}").status_code == 409
    for bad in ({"tool": "laser"}, {"tool": "brush", "radius": 1e9, "points": [[1, 1]]}, {"tool": []}):
        change = {**first, "version": saved["version"], "keep": 1, "add": [bad], "done": 2}
        sentence(client.post(f"{picture}/draft", json=change), 400)
    looked = client.post(f"{picture}/landmarks", json={"box": [10, 10, 90, 90]}).json()
    assert looked["outline"] is None
    assert looked["said"]


def test_a_picture_that_the_dataset_does_not_have(real: tuple[Running, Desk]) -> None:
    run, _ = real
    with run.client() as client:
        bodies = {path: body for path, body in WRITES.items() if path.startswith(PICTURE)}
        # version 0 is that of a drawing which was never begun
        reads = (path.replace("version=1", "version=0") for path in READS if path.startswith(PICTURE))
        answers = [client.get(path) for path in reads]
        answers += [client.post(path, json=body) for path, body in bodies.items()]
        answers.append(client.get("/api/picture/p_x"))
        for answer in answers:
            sentence(answer, 404)
        assert len({answer.content for answer in answers}) == 1
        sentence(client.post("/api/undo", json={"number": 10**6}), 400)
        assert client.post("/api/release", json={"holder": "x", "ids": [ID]}).status_code == 204
        assert client.post("/api/next", json={"holder": "x", "want": ID}).status_code == 404


def test_nothing_odd_happened_at_the_real_desk(real: tuple[Running, Desk]) -> None:
    run, _ = real
    assert not (run.private / "review-errors.log").exists()
