"""The contact sheets, read back with a strict parser: what they say, what they must never say, and their links."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p3m_data.errors import StorageError, UsageError
from p3m_data.faces.obfuscation import METHODS
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.ledger import Ledger
from p3m_data.pipeline.outcome import REASON_WORDS
from p3m_data.report import contact
from p3m_data.report.contact import page_name, write_private_report, write_public_report
from p3m_data.report.words import CHECK_WORDS, HOW_WORDS, METHOD_WORDS
from p3m_data.stages.blur import BlurConfig
from p3m_data.stages.verify import VerifyConfig, verify
from p3m_data.storage.folders import locate, scan
from p3m_data.storage.manifest import manifest_row, write_manifest
from p3m_data.types import Check, Face, Provenance, Reason, Record, Source, Status

VOID = {"meta", "img", "br", "hr", "link"}
MADE = Provenance(code_version="0.1", config_digest="c0ffee", models={"yunet": "ab" * 32})
FACE = Face(
    box=(10.25, 20.5, 30.75, 44.125),
    score=0.875,
    detectors=("yunet", "blazeface"),
    how="landmarks",
    outline=((11.37, 21.62), (29.41, 21.73), (20.58, 43.94)),
    sigma=12.34,
)
CHECK = Check(name="detail_left", passed=True, value=1.25, limit=2.5)


class Page(HTMLParser):
    """An HTML page whose tags must be balanced; its links, ids, words and what would load or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.meta: dict[str, str] = {}
        self.lang = ""
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        assert len(found) == len(attributes), "an attribute twice"
        self.tags.add(tag)
        self.attributes |= set(found)
        self.lang = found.get("lang") or self.lang
        self.links += [link for name in ("href", "src") if (link := found.get(name)) is not None]
        self.ids += [found["id"] or ""] if "id" in found else []
        if tag == "img":
            self.images.append(found)
        if tag == "meta":
            self.meta[found.get("http-equiv") or found.get("name") or "charset"] = found.get("content") or ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words += data


def read(folder: Path) -> list[Page]:
    """The pages of a report in order, as linked from its first page."""
    pages = []
    name: str | None = "report.html"
    while name is not None:
        text = (folder / name).read_text("utf-8")
        pages.append(Page(text))
        following = re.search(r'<a href="([^"]+)" rel="next">', text)
        name = following.group(1) if following else None
    return pages


def words(page: Page) -> str:
    return " ".join(page.words.split())


def targets(folder: Path, pages: Iterable[Page]) -> set[Path]:
    """Every file that the pages link to; each exists, is named relatively, and holds the linked part."""
    found = set()
    for page in pages:
        for link in page.links:
            parts = urlsplit(link)
            assert not parts.scheme
            assert not parts.netloc
            assert not parts.query
            assert link.isascii()
            file = Path(
                str(folder), *Path(str(unquote_to_bytes(parts.path), "utf-8", "surrogateescape")).parts
            )
            assert file.is_file(), link
            if parts.fragment:
                assert parts.fragment in Page(file.read_text("utf-8")).ids
            found.add(file.resolve())
    return found


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    dataset = Dataset.at(tmp_path / "out")
    dataset.create()
    return dataset


def name_of(number: int) -> str:
    return f"p_{number:08x}"


def published(dataset: Dataset, source: str, number: int, **changes: object) -> Record:
    """An anonymized picture whose files are there."""
    name = name_of(number)
    files = [
        f"train/{folder}/{name}.{end}" for folder, end in (("blurred_image", "jpg"), ("facemask", "png"))
    ]
    for path in [*files, f"../{dataset.private.name}/sheets/{name}.jpg"]:
        (dataset.public / path).write_bytes(b"x")
    values: dict[str, object] = {
        "source": source,
        "id": name,
        "status": Status.ANONYMIZED,
        "width": 640,
        "height": 480,
        "transition": "estimated",
        "faces": (FACE,),
        "checks": (CHECK,),
        "files": {path: "f" * 64 for path in files},
        "provenance": MADE,
    }
    return Record.model_validate(values | changes)


def waiting(dataset: Dataset, source: str, number: int) -> Record:
    face = FACE.model_copy(update={"how": "none", "sigma": None})
    changes = {"status": Status.NEEDS_REVIEW, "reason": Reason.NO_LANDMARKS, "faces": (face,), "files": {}}
    return published(dataset, source, number, **changes, detail="a face at (20, 32) has no landmarks")


def failed(source: str) -> Record:
    return Record(
        source=source, status=Status.FAILED, reason=Reason.UNREADABLE, detail=f"{source} is not an image"
    )


def private_pages(dataset: Dataset, records: Iterable[Record], photos: Path | None = None) -> list[Page]:
    records = list(records)
    with Ledger(dataset.ledger_path, create=True) as ledger:
        ledger.add(Source(path=record.source, size=1, mtime_ns=1) for record in records)
        for record in records:
            ledger.commit(record)
        if photos is not None:
            ledger.set_meta("photos", str(photos))
        assert write_private_report(dataset, ledger) == dataset.private / "report.html"
    return read(dataset.private)


def public_pages(dataset: Dataset, records: Iterable[Record], blur: BlurConfig | None = None) -> list[Page]:
    write_manifest((manifest_row(record) for record in records), dataset.manifest)
    assert write_public_report(dataset, blur) == dataset.public / "report.html"
    return read(dataset.public)


def test_the_private_page_tells_everything(dataset: Dataset) -> None:
    records = [
        published(dataset, "a.jpg", 1),
        waiting(dataset, "b.jpg", 2),
        failed("c.jpg"),
        published(dataset, "d.jpg", 1),
    ]
    (page,) = private_pages(dataset, records)
    told = words(page)
    for expected in (
        "4 pictures",
        "1 anonymized and published",
        REASON_WORDS[Reason.NO_LANDMARKS],
        REASON_WORDS[Reason.UNREADABLE],
        "c.jpg is not an image.",
        "a face at (20, 32) has no landmarks.",
        "The same bytes as a.jpg.",
        "640 × 480",
        "0.88",
        "yunet, blazeface",
        "12.3 pixels",
        HOW_WORDS["landmarks"],
        HOW_WORDS["none"],
        CHECK_WORDS["detail_left"],
        "1.25",
        "p3mdata 0.1, configuration c0ffee",
        "ab" * 32,
        "Decide about the 1 waiting picture",
    ):
        assert expected in told
    assert told.index("b.jpg") < told.index("c.jpg is") < told.index("a.jpg 640")
    assert targets(dataset.private, [page]) >= {
        (dataset.sheets / f"{name_of(1)}.jpg").resolve(),
        (dataset.sheets / f"{name_of(2)}.jpg").resolve(),
        (dataset.train / "blurred_image" / f"{name_of(1)}.jpg").resolve(),
    }


def test_the_public_page_tells_how_a_picture_came_there(dataset: Dataset) -> None:
    ellipse = FACE.model_copy(update={"how": "ellipse", "sigma": 3.21})
    unseen = {"faces": (), "reason": Reason.ACCEPTED_NO_FACE}
    records = [
        published(dataset, "a", 1, faces=(FACE, FACE, ellipse)),
        published(dataset, "b", 2, transition="matte"),
        published(dataset, "c", 3, **unseen),
    ]
    (page,) = public_pages(dataset, records, BlurConfig())
    told = words(page)
    for expected in (
        "3 pictures",
        "1 picture came here without a mask",
        "1 came with a matte",
        "for the other 2",
        f"3 faces {HOW_WORDS['landmarks']}",
        f"1 face {HOW_WORDS['ellipse']}",
        f"2 faces {HOW_WORDS['landmarks']}, 1 face {HOW_WORDS['ellipse']}",
        "between 3.2 and 12.3 pixels",
        METHOD_WORDS["hardened"],
        "at least 15 %",
        name_of(1),
        "640 × 480",
        "1 of 1 checks passed",
        "1.25 found, limit 2.5",
        "no face found, published by the operator's decision",
        "p3mdata 0.1, configuration c0ffee",
    ):
        assert expected in told
    assert all(image["loading"] == "lazy" and image["alt"] for image in page.images)
    assert len(page.images) == 3
    assert len(targets(dataset.public, [page])) == 6


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=TEXT, detail=TEXT, corner=st.floats(0, 1e4), score=st.floats(0.001, 0.9))
def test_nothing_private_is_on_the_public_page(
    dataset: Dataset, name: str, detail: str, corner: float, score: float
) -> None:
    outline = tuple((corner + 0.12345 + i, corner + 0.54321 + i) for i in range(3))
    face = FACE.model_copy(
        update={"outline": outline, "box": (corner, 1.0, corner + 7.77, 9.0), "score": score}
    )
    private = {"matte": f"secret-matte-{name}", "detail": f"secret-detail-{detail}", "faces": (face,)}
    public_pages(dataset, [published(dataset, f"secret-folder/{name}", 1, **private)])
    told = (dataset.public / "report.html").read_text("utf-8")
    (dataset.public / "report.html").unlink()
    public_pages(dataset, [published(dataset, "another", 1)])
    # the page is the same whatever the private things are, so it can tell nothing of them
    assert told == (dataset.public / "report.html").read_text("utf-8")
    assert "secret" not in told
    assert dataset.private.name not in told
    assert str(dataset.public.parent) not in told


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>.jpg",
        "\"'onerror='x'.jpg",
        "a\nb\tc.jpg",
        "50%.jpg",
        "a?b#c&amp;d.jpg",
        "javascript:x.jpg",
        "{{ 7*7 }}{% raw %}.jpg",
        "größe 日本.jpg",
        "‮gpj.exe.jpg",
        " lead and trail .jpg",
        "--><!--.jpg",
        "a\\b.jpg",
    ],
)
def test_odd_names_are_shown_and_linked_but_never_run(dataset: Dataset, tmp_path: Path, name: str) -> None:
    photos = tmp_path / "pho tos#1"
    file = locate(photos, name.replace("/", "\N{DIVISION SLASH}"))
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    (source,) = scan(photos)
    records = [waiting(dataset, source.path, 1), failed("x" + source.path)]
    (page,) = private_pages(dataset, records, photos)
    assert "script" not in page.tags
    assert not [name for name in page.attributes if name.startswith("on")]
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in source.path)
    assert " ".join(shown.split()) in words(page)
    assert file.resolve() in targets(dataset.private, [page])


def test_a_name_that_is_not_text_is_linked(dataset: Dataset, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    file = locate(photos, "caf\uefe9.jpg")
    assert bytes(file).endswith(b"caf\xe9.jpg")
    file.write_bytes(b"x")
    (source,) = scan(photos)
    (page,) = private_pages(dataset, [waiting(dataset, source.path, 1)], photos)
    assert file.resolve() in targets(dataset.private, [page])


def test_a_link_to_a_file_that_went_away_is_left_out(dataset: Dataset, tmp_path: Path) -> None:
    record = waiting(dataset, "gone.jpg", 1)
    (dataset.sheets / f"{name_of(1)}.jpg").unlink()
    (page,) = private_pages(dataset, [record], tmp_path / "moved")
    assert "gone.jpg" in words(page)
    assert not page.images
    targets(dataset.private, [page])


@pytest.mark.parametrize("side", ["private", "public"])
def test_the_page_loads_nothing_from_elsewhere(dataset: Dataset, side: str) -> None:
    records = [published(dataset, "a", 1)]
    (page,) = private_pages(dataset, records) if side == "private" else public_pages(dataset, records)
    folder = dataset.private if side == "private" else dataset.public
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "form", "base", "video", "audio"}
    text = (folder / "report.html").read_text("utf-8")
    assert not re.search(r"https?:|url\(|@import|//\w", text)
    rules = dict(rule.strip().split(" ", 1) for rule in page.meta["Content-Security-Policy"].split(";"))
    assert rules["default-src"] == "'none'"
    assert "script-src" not in rules
    assert set(rules["img-src"].split()) <= {"'self'", "file:"}
    assert page.lang == "en"
    assert "width=device-width" in page.meta["viewport"]
    assert text.startswith("<!DOCTYPE html>")
    assert len(page.ids) == len(set(page.ids))


def test_many_pictures_make_pages(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact, "PER_PAGE", 10)
    records = [published(dataset, f"{n:03}.jpg", n) for n in range(41)]
    records += [waiting(dataset, f"w{n}.jpg", 100 + n) for n in range(12)]
    for folder, pages, total in (
        (dataset.private, private_pages(dataset, records), 53),
        (dataset.public, public_pages(dataset, records[:41]), 41),
    ):
        assert [len(page.images) for page in pages] == [10] * (total // 10) + [total % 10]
        found = targets(folder, pages)
        for number in range(1, len(pages) + 1):
            assert folder / page_name(number) in found
        assert f"Page 2 of {len(pages)}" in words(pages[1])
        shown = [image["src"] for page in pages for image in page.images]
        assert len(set(shown)) == total
    first = words(read(dataset.private)[0])
    assert "12 waiting for a person" in first


def test_a_shorter_report_removes_the_pages_that_are_too_many(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact, "PER_PAGE", 2)
    others = ["report-2024.html", "report-.html", "report-x.html", "other.html"]
    for other in others:
        (dataset.public / other).write_text("mine")
    records = [published(dataset, str(n), n) for n in range(9)]
    assert len(public_pages(dataset, records)) == 5
    assert len(public_pages(dataset, records[:3])) == 2
    assert len(public_pages(dataset, [])) == 1
    left = {file.name for file in dataset.public.glob("*.html")}
    assert left == {"report.html", *others}
    assert all((dataset.public / other).read_text() == "mine" for other in others)


def test_nothing_there_yet(dataset: Dataset) -> None:
    (private,) = private_pages(dataset, [])
    assert "No picture has been worked on yet." in words(private)
    (public,) = public_pages(dataset, [])
    assert "No picture has been published yet." in words(public)
    for folder, page in ((dataset.private, private), (dataset.public, public)):
        targets(folder, [page])


def test_pending_pictures_are_counted(dataset: Dataset) -> None:
    with Ledger(dataset.ledger_path, create=True) as ledger:
        ledger.add([Source(path="later.jpg", size=1, mtime_ns=1)])
        write_private_report(dataset, ledger)
    (page,) = read(dataset.private)
    assert "1 still to be done" in words(page)
    assert "later.jpg" not in words(page)


def test_the_same_data_gives_the_same_bytes(dataset: Dataset) -> None:
    records = [published(dataset, "a", 1), waiting(dataset, "b", 2)]
    private_pages(dataset, records)
    first = (dataset.private / "report.html").read_bytes()
    private_pages(dataset, reversed(records))
    assert (dataset.private / "report.html").read_bytes() == first
    public_pages(dataset, records[:1])
    assert not list(dataset.public.glob(".p3mdata-*"))


def test_errors_are_sentences(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match=r"manifest\.jsonl"):
        write_public_report(dataset)
    (dataset.public / "report.html").mkdir()
    with pytest.raises(StorageError, match=r"report\.html"):
        public_pages(dataset, [])


def test_every_method_has_words() -> None:
    assert set(METHOD_WORDS) == set(METHODS)


@pytest.mark.parametrize("lossless", [True, False])
def test_every_check_that_verify_makes_has_words(lossless: bool) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    area = np.zeros((64, 64), bool)
    made = [
        *verify(image, image, area, area, (), {}, VerifyConfig(), lossless=lossless),
        *verify(image, image[1:], area, area, (), {}, VerifyConfig(), lossless=lossless),
    ]
    assert {check.name for check in made} <= set(CHECK_WORDS)


def test_the_public_page_tells_what_people_decided(tmp_path: Path) -> None:
    made = Dataset.at(tmp_path / "out")
    made.create()
    files = {f"train/blurred_image/p_{n:016}.png": "0" for n in range(2)}
    check = Check(name="faces_left", passed=False, value=1, limit=0, waived=True)
    decided = [
        Record(
            source=f"{n}.png",
            id=f"p_{n:016}",
            status=Status.ANONYMIZED,
            reason=reason,
            width=9,
            height=9,
            transition="estimated",
            checks=checks,
            files={image: "0", image.replace("blurred_image", "facemask"): "0"},
            provenance=Provenance(code_version="1", config_digest="c", models={}),
        )
        for n, (image, reason, checks) in enumerate(
            zip(files, (Reason.REVIEWED, Reason.CONFIRMED_NO_FACE), ((check,), ()), strict=True)
        )
    ]
    write_manifest(map(manifest_row, decided), made.manifest)
    page = " ".join(write_public_report(made).read_text().split())
    assert '<span class="count">2</span> pictures came here after a person looked' in page
    assert "In 1 of them the person let something pass" in page
    assert page.count("no identifiable face, as a reviewer saw") == 2
    assert "1.0 faces found in the finished picture that are not masked" in page
    assert "operator" not in page
