"""How quick the review page is: opening a long queue, going on, painting on a large picture; in Chromium.

    python benchmarks/review.py [--photos DIR] [--waiting N] [--shown N] [--megapixels M] [--repeat K]

Every picture of the queue is a file with its own bytes: the first are real portraits, the rest small. Nothing
is stubbed: a desk, its server in another process, and the page in Debian's Chromium without a GPU.

- opening: from the click on a link to the first picture painted, sign-in included
- next: from the key press to the frame that shows the next picture, as the page itself measures it; the next
  key comes `--pause` seconds later, a quick reviewer's pace, and once with no pause at all
- painting: the time between two frames while a stroke is drawn, and the longest task in the browser
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import itertools
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import RESULTS, machine, machine_line, portraits, positive, table, write_results
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

from p3m_data.errors import P3MError, UsageError
from p3m_data.pipeline.dataset import Dataset
from p3m_data.pipeline.ledger import Ledger
from p3m_data.stages.config import AnonymizeConfig
from p3m_data.storage.folders import scan
from p3m_data.types import Face, Provenance, Reason, Record, Status

PATIENCE = 120_000
UNMEASURED = 5.0  # seconds; what is not measured by then is told on stderr and missing in the last column
STROKES = 8
MOVES = 120


def main() -> None:
    arguments = parse(sys.argv[1:])
    program = shutil.which("chromium")
    if program is None:
        raise UsageError("there is no Chromium; install it with: apt-get install chromium")
    photos = arguments.photos or portraits() / "images"
    facts = machine()
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        dataset = make_queue(Path(folder), photos, arguments.waiting, arguments.shown, arguments.megapixels)
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        for number in range(arguments.repeat):
            print(f"round {number + 1} of {arguments.repeat}", file=sys.stderr, flush=True)
            rounds.append(one_round(browser, dataset, arguments.shown, arguments.pause))
        version = browser.version
        browser.close()
    figures = {"rounds": rounds, "machine": facts, "chromium": version, **vars(arguments), "photos": None}
    write_results(RESULTS, "review", figures, told(rounds, arguments, facts, version))


def make_queue(folder: Path, photos: Path, waiting: int, shown: int, megapixels: int) -> Dataset:
    """A dataset whose pictures all wait: real ones, of which the second has `megapixels`, and small ones."""
    files = folder / "photos"
    files.mkdir()
    real = sorted(file for file in photos.iterdir() if file.suffix == ".jpg")[:shown]
    if len(real) < shown:
        raise UsageError(f"{photos} holds {len(real)} JPEG files, not {shown}; use a lower --shown")
    side = round((megapixels * 1e6 / 1.5) ** 0.5)
    first = cv2.imread(str(real[0]))
    cv2.imwrite(str(files / "1-000z.jpg"), cv2.resize(first, (round(side * 1.5), side)))
    for number, file in enumerate(real):
        shutil.copy(file, files / f"1-{number:03}.jpg")
    random = np.random.default_rng(1)
    for number in range(waiting - shown - 1):
        cv2.imwrite(str(files / f"2-{number:06}.png"), random.integers(0, 255, (48, 48, 3), np.uint8))
    dataset = Dataset.at(folder / "dataset")
    dataset.create()
    key, config = dataset.key(), AnonymizeConfig()
    made = Provenance(code_version="benchmark", config_digest=config.digest, models={})
    with Ledger(dataset.ledger_path, create=True) as ledger:
        ledger.set_meta("config", config.model_dump_json())
        ledger.set_meta("photos", str(files))
        ledger.set_meta("mattes", "")
        ledger.add(scan(files))
        with ledger.writing():
            for source in list(ledger.pending()):
                ledger.commit(record_of(files / source.path, source.path, key, made))
    return dataset


def record_of(file: Path, name: str, key: bytes, made: Provenance) -> Record:
    data = file.read_bytes()
    content = hashlib.sha256(data).digest() + hashlib.sha256(b"").digest()
    height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    box = (width * 0.3, height * 0.2, width * 0.7, height * 0.7)
    ring = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    outline = np.stack(
        [np.cos(ring) * width * 0.2 + width / 2, np.sin(ring) * height * 0.25 + height * 0.45], 1
    )
    face = Face(box=box, score=0.5, detectors=("benchmark",), how="none", outline=tuple(map(tuple, outline)))
    return Record(
        source=name,
        id="p_" + hmac.new(key, content, "sha256").hexdigest()[:16],
        status=Status.NEEDS_REVIEW,
        reason=Reason.NO_LANDMARKS,
        detail="a face has no landmarks",
        width=width,
        height=height,
        transition="estimated",
        faces=(face,),
        provenance=made,
    )


def one_round(browser: Browser, dataset: Dataset, shown: int, pause: float) -> dict[str, Any]:
    with dataset.ledger(beside_a_run=True) as ledger, ledger.writing():
        # what an earlier round left: pictures that its browser held, and its strokes
        ledger.execute("DELETE FROM lease")
        ledger.execute("DELETE FROM draft")
    with served(dataset) as link:
        context = browser.new_context(viewport={"width": 1280, "height": 720})
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        began = time.perf_counter()
        page.goto(link)
        # not wait_for_selector, which looks ever more rarely
        while state(page) != "ready":
            page.wait_for_timeout(5)
        opening = time.perf_counter() - began
        steps(page, 1, pause)
        painting = paint(page)
        calm = steps(page, shown // 2, pause)
        hasty = steps(page, shown - shown // 2 - 2, 0.0)
        context.close()
    return {"opening_s": opening, "next_ms": calm, "next_hasty_ms": hasty, "painting": painting}


def state(page: Page) -> str | None:
    try:
        return str(page.evaluate("document.body?.dataset.state"))
    except Error:
        return None  # between the page of the link and the review page


@contextmanager
def served(dataset: Dataset) -> Iterator[str]:
    program = Path(sysconfig.get_path("scripts")) / "p3mdata"
    words = [program, "review", dataset.public, "--no-browser", "--reviewer", "benchmark"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        link = next(
            (found.group() for line in process.stdout if (found := re.search(r"http://\S+", line))), ""
        )
        if not link:
            raise P3MError("the review server did not start")
        yield link
    finally:
        process.terminate()
        process.communicate()


def steps(page: Page, count: int, pause: float) -> list[float]:
    """Milliseconds that the page measured for each of `count` steps to the next picture."""
    page.evaluate("performance.clearMeasures('next')")
    measured = 0
    for number in range(count):
        before = page.evaluate("document.body.dataset.picture")
        page.keyboard.press("ArrowRight")
        expect(page.locator("body")).not_to_have_attribute("data-picture", before, timeout=PATIENCE)
        # not wait_for_function, which the page's security policy forbids
        end = time.monotonic() + UNMEASURED
        while page.evaluate("performance.getEntriesByName('next', 'measure').length") <= measured:
            if time.monotonic() > end:
                print(f"step {number} came without a measurement", file=sys.stderr, flush=True)
                break
            page.wait_for_timeout(5)
        measured = page.evaluate("performance.getEntriesByName('next', 'measure').length")
        if pause:
            page.wait_for_timeout(1000 * pause)
    found = page.evaluate("performance.getEntriesByName('next', 'measure').map((m) => m.duration)")
    return [float(value) for value in found]


def paint(page: Page) -> dict[str, Any]:
    """Strokes across the first picture: what the browser's frames and tasks took."""
    page.evaluate(
        """() => {
            window.frames_ = []; window.tasks_ = []; window.painting_ = true;
            new PerformanceObserver((list) => tasks_.push(...list.getEntries().map((e) => e.duration)))
                .observe({ entryTypes: ["longtask"] });
            let last = null;
            const frame = (now) => {
                if (last !== null) frames_.push(now - last);
                last = now;
                if (painting_) requestAnimationFrame(frame);
            };
            requestAnimationFrame(frame);
        }"""
    )
    box = page.get_by_test_id("canvas").bounding_box()
    assert box is not None
    page.keyboard.press("b")
    for stroke in range(STROKES):
        y = box["y"] + box["height"] * (0.2 + 0.6 * stroke / STROKES)
        page.mouse.move(box["x"] + box["width"] * 0.25, y)
        page.mouse.down()
        for move in range(MOVES):
            part = move / MOVES
            page.mouse.move(box["x"] + box["width"] * (0.25 + 0.5 * part), y + 20 * np.sin(12 * part))
        page.mouse.up()
    page.evaluate("painting_ = false")
    page.wait_for_selector("body[data-saved=yes]")
    frames, tasks = page.evaluate("[frames_, tasks_]")
    return {"frames_ms": frames, "longest_task_ms": max(tasks, default=0.0)}


def told(
    rounds: Sequence[dict[str, Any]], arguments: argparse.Namespace, facts: dict[str, Any], version: str
) -> str:
    def median(values: Sequence[float]) -> str:
        return f"{statistics.median(values):.3g}"

    def high(values: Sequence[float]) -> str:
        return f"{np.quantile(values, 0.95):.3g}"

    opening = [r["opening_s"] for r in rounds]
    rows = []
    for words, key in (("next, at a reviewer's pace", "next_ms"), ("next, key after key", "next_hasty_ms")):
        values = list(itertools.chain.from_iterable(r[key] for r in rounds))
        rows.append((f"{words}, ms", median(values), high(values), len(values)))
    frames = list(itertools.chain.from_iterable(r["painting"]["frames_ms"] for r in rounds))
    tasks = [r["painting"]["longest_task_ms"] for r in rounds]
    rows.insert(
        0, (f"opening a queue of {arguments.waiting:,}, s", median(opening), high(opening), len(opening))
    )
    rows.append(
        (
            f"frame while painting on {arguments.megapixels} megapixels, ms",
            median(frames),
            high(frames),
            len(frames),
        )
    )
    rows.append(("longest task while painting, ms", median(tasks), high(tasks), len(tasks)))
    return "\n".join(
        [
            "# The review page",
            "",
            f"`python benchmarks/review.py --waiting {arguments.waiting} --shown {arguments.shown} "
            f"--megapixels {arguments.megapixels} --pause {arguments.pause:g} --repeat {arguments.repeat}`",
            "",
            table(["", "median", "95th percentile", "measured"], rows),
            "",
            f"Chromium {version} without a GPU, 1280 x 720, on the same cores as the server. {machine_line(facts)}",
            "",
        ]
    )


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="folder of JPEG portraits; default: the test portraits")
    parser.add_argument("--waiting", type=positive, default=10_000, help="pictures in the queue")
    parser.add_argument("--shown", type=positive, default=60, help="real pictures at its start")
    parser.add_argument("--megapixels", type=positive, default=24, help="of the picture that is painted on")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between steps")
    parser.add_argument("--repeat", type=positive, default=3, help="rounds")
    return parser.parse_args(words)


if __name__ == "__main__":
    try:
        main()
    except P3MError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
