"""The promises of the design, on whole runs of the installed command with its worker processes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, JpegImagePlugin, PngImagePlugin

from p3m_data.arrays import UInt8Array
from p3m_data.pipeline.dataset import PUBLISHED_AT, Dataset
from p3m_data.stages.finish import finish
from p3m_data.storage.weights import ensure
from p3m_data.types import Reason, Record, Status
from tests.runs import KEY, command, dataset, faceless, matte, p3mdata, portrait, records, save, tree

MARKER = "Anna-Karenina"
"""Stands in every place of a source where a name, a comment or a maker's note may stand."""
GPS = (59.0, 56.0, 19.0)
TAKEN_NS = 1_234_567_890_123_456_789


class Run(NamedTuple):
    photos: Path
    mattes: Path
    made: Dataset
    records: dict[str, Record]

    def public(self, source: str, folder: str) -> Path:
        (path,) = (path for path in self.records[source].files if f"/{folder}/" in path)
        return self.made.public / path


def laden_jpeg() -> bytes:
    """A JPEG with everything a camera, a phone and a photo program put beside the pixels."""
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = exif[0x8298] = exif[0x010F] = MARKER
    exif.get_ifd(0x8769)[0x927C] = MARKER.encode()
    exif.get_ifd(0x8825).update({1: "N", 2: GPS, 3: "E", 4: GPS, 29: MARKER})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    out = io.BytesIO()
    Image.fromarray(portrait()).save(
        out,
        "JPEG",
        quality=80,
        subsampling="4:2:0",
        exif=exif,
        icc_profile=profile,
        xmp=f"<x:xmpmeta>{MARKER}</x:xmpmeta>".encode(),
        comment=MARKER.encode(),
    )
    data = out.getvalue()
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00" + MARKER.encode()
    segment = b"\xff\xed" + (len(iptc) + 2).to_bytes(2, "big") + iptc
    return data[:2] + segment + data[2:] + MARKER.encode() + b"trailer"


def laden_png() -> bytes:
    """A PNG with text in every kind of chunk, and a colour under a zero alpha."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", MARKER)
    text.add_text("Comment", MARKER, zip=True)
    text.add_itxt("XML:com.adobe.xmp", MARKER)
    exif = Image.Exif()
    exif[0x013B] = MARKER
    alpha = np.rint(matte() * 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.dstack([portrait(5), alpha])).save(out, "PNG", pnginfo=text, exif=exif)
    return out.getvalue() + MARKER.encode()


@pytest.fixture(scope="module", autouse=True)
def weights() -> None:
    ensure(["face_landmarker", "blazeface", "centerface"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An undisturbed run with one worker."""
    folder = tmp_path_factory.mktemp("undisturbed")
    photos, mattes = folder / f"{MARKER} private", folder / "mattes"
    (photos / f"{MARKER} family").mkdir(parents=True)
    (photos / f"{MARKER} family" / f"{MARKER}.jpg").write_bytes(laden_jpeg())
    (photos / f"{MARKER}.png").write_bytes(laden_png())
    save(photos / "grey.jpg", np.ascontiguousarray(portrait(10)[..., 1]), quality=70)
    save(photos / "full.jpg", portrait(15), quality=93, subsampling="4:4:4")
    save(photos / "half.jpg", portrait(20)[:301, :299], quality=88, subsampling="4:2:2", progressive=True)
    save(photos / "matted.png", portrait())
    save(mattes / "matted.png", np.rint(matte() * 255).astype(np.uint8), optimize=True)
    save(photos / "cup.png", faceless())
    save(photos / "twin.jpg", portrait(15), quality=93, subsampling="4:4:4")
    for file in photos.rglob("*.*"):
        os.utime(file, ns=(TAKEN_NS, TAKEN_NS))
    made = dataset(folder / "out")
    done = p3mdata("anonymize", photos, "-o", made.public, "--mattes", mattes, "--workers", "1")
    assert done.returncode == 1, done.stderr
    return Run(photos, mattes, made, records(made))


def words(run: Run, made: Dataset) -> tuple[str | Path, ...]:
    return ("anonymize", run.photos, "-o", made.public, "--mattes", run.mattes)


def read(file: Path) -> UInt8Array:
    with Image.open(file) as image:
        return np.asarray(image)


PUBLISHED = (
    "full.jpg",
    "grey.jpg",
    "half.jpg",
    "matted.png",
    f"{MARKER}.png",
    f"{MARKER} family/{MARKER}.jpg",
)


def test_only_what_was_verified_is_public(run: Run) -> None:
    assert {n for n, r in run.records.items() if r.status is Status.ANONYMIZED} == set(PUBLISHED)
    assert run.records["cup.png"].reason is Reason.NO_FACE
    named = {p: h for r in run.records.values() if r.status is Status.ANONYMIZED for p, h in r.files.items()}
    files = {p: hashlib.sha256(data).hexdigest() for p, data in tree(run.made.public).items()}
    assert files.items() >= named.items()
    assert files.keys() - named.keys() == {"manifest.jsonl", "report.html"}
    rows = [json.loads(line) for line in run.made.manifest.read_text().splitlines()]
    assert {path: digest for row in rows for path, digest in row["sha256"].items()} == named
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    for row in rows:
        assert row["faces"]
        assert all(check["passed"] for check in row["checks"])
        assert row["anonymized_by"] == "machine"


def test_the_same_bytes_are_published_once(run: Run) -> None:
    twin = run.records["twin.jpg"]
    assert (twin.status, twin.reason, twin.files) == (Status.DUPLICATE, Reason.SAME_BYTES, {})
    assert "full.jpg" in twin.detail


def test_nothing_of_the_sources_but_pixels_is_public(run: Run) -> None:
    secrets = [MARKER.encode(), MARKER.encode("utf-16-le"), MARKER.encode("utf-16-be"), KEY.encode()]
    secrets += [bytes.fromhex(KEY), str(run.photos).encode(), str(run.made.private).encode()]
    secrets += [b"undisturbed", b"1234567890", b"2009:02:13", b"2009-02-13"]
    secrets += [struct.pack(">II", int(GPS[2]), 1), struct.pack("<II", int(GPS[2]), 1)]
    for source in (*run.photos.rglob("*.*"), *run.mattes.iterdir()):
        secrets += [source.name.encode(), source.stem.encode() + b"."]
        for algorithm in ("sha256", "sha1", "md5"):
            digest = hashlib.new(algorithm, source.read_bytes())
            secrets += [digest.digest(), digest.hexdigest().encode(), digest.hexdigest()[:16].encode()]
    for path, content in tree(run.made.public).items():
        for secret in secrets:
            assert secret not in content, (path, secret)
            assert secret not in path.encode(), path


def test_the_sources_did_hold_what_must_not_be_public(run: Run) -> None:
    """Otherwise the test above would find nothing because there is nothing."""
    jpeg = (run.photos / PUBLISHED[-1]).read_bytes()
    assert jpeg.count(MARKER.encode()) >= 8
    assert struct.pack(">II", int(GPS[2]), 1) in jpeg or struct.pack("<II", int(GPS[2]), 1) in jpeg
    assert (run.photos / PUBLISHED[-2]).read_bytes().count(MARKER.encode()) >= 3
    with Image.open(io.BytesIO(jpeg)) as image:
        assert {"icc_profile", "exif", "xmp", "comment"} <= image.info.keys()


def jpeg_markers(data: bytes) -> list[int]:
    """The markers of a JPEG's header up to the first scan; the file must end with the end marker."""
    assert data[:2] == b"\xff\xd8"
    assert data[-2:] == b"\xff\xd9"
    assert data.count(b"\xff\xd9") == 1
    at, found = 2, []
    while found[-1:] != [0xDA]:
        assert data[at] == 0xFF
        found.append(data[at + 1])
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return found


def png_chunks(data: bytes) -> list[bytes]:
    """The kinds of a PNG's chunks; nothing may follow the last."""
    at, found = 8, []
    while at < len(data):
        found.append(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    assert at == len(data)
    return found


def test_public_pictures_hold_pixels_only(run: Run) -> None:
    start_of_frame, tables = 0xC0, {0xC4, 0xDB, 0xDD}
    for path, data in tree(run.made.public / "train").items():
        if path.endswith(".jpg"):
            assert set(jpeg_markers(data)) <= {0xE0, start_of_frame, 0xDA} | tables, path
            assert b"JFIF\x00" in data[:12]
        else:
            assert set(png_chunks(data)) <= {b"IHDR", b"IDAT", b"IEND"}, path


def test_the_manifest_tells_nothing_biometric(run: Run) -> None:
    for line in run.made.manifest.read_text().splitlines():
        row = json.loads(line)
        assert set(row) == {
            *("id", "split", "image", "facemask", "matte", "width", "height", "anonymized_by"),
            *("faces", "transition", "checks", "sha256", "provenance"),
        }
        assert all(set(face) == {"how", "sigma"} for face in row["faces"])
        assert set(row["provenance"]) == {"code_version", "config_digest", "models"}


def test_public_files_do_not_keep_the_time_of_their_sources(run: Run) -> None:
    pictures = [file for file in run.made.train.rglob("*") if file.is_file()]
    others = [file for file in run.made.public.rglob("*") if file not in pictures]
    assert {file.stat().st_mtime_ns for file in pictures} == {PUBLISHED_AT}
    assert PUBLISHED_AT != TAKEN_NS
    assert all(file.stat().st_mtime > TAKEN_NS / 1e9 + 1 for file in others)


def test_a_later_run_sets_the_time_of_older_files(run: Run, tmp_path: Path) -> None:
    for side in (run.made.public, run.made.private):
        shutil.copytree(side, tmp_path / side.name)
    copied = Dataset.at(tmp_path / run.made.public.name, tmp_path / run.made.private.name)
    pictures = [file for file in copied.train.rglob("*") if file.is_file()]
    for file in pictures:
        os.utime(file)
    with copied.ledger() as ledger:
        finish(ledger, copied, lambda _note: None)
    assert {file.stat().st_mtime_ns for file in pictures} == {PUBLISHED_AT}


def test_the_private_side_is_its_owners(run: Run) -> None:
    assert run.made.private.stat().st_mode & 0o077 == 0
    assert not run.made.private.is_relative_to(run.made.public)


def test_a_png_changes_inside_its_mask_only(run: Run) -> None:
    for name in ("matted.png", f"{MARKER}.png"):
        source = np.asarray(Image.open(run.photos / name))
        alpha = np.rint(matte() * 255) if name == "matted.png" else source[..., 3]
        picture = source[..., :3] if name == "matted.png" else source[..., :3] * (alpha > 0)[..., None]
        mask = read(run.public(name, "facemask"))
        changed = (read(run.public(name, "blurred_image")) != picture).any(axis=2)
        assert changed.any()
        assert not changed[mask == 0].any()
        soft = (alpha > 5) & (alpha < 250)
        assert not ((mask > 0) & soft).any()
        assert not (changed & soft).any()
        assert (read(run.public(name, "mask")) == alpha).all()


def tables(image: JpegImagePlugin.JpegImageFile) -> list[list[int]]:
    """The quantization table of each component."""
    return [image.quantization[number] for *_, number in image.layer]


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.endswith(".jpg")])
def test_a_jpeg_keeps_its_tables_and_its_pixels(run: Run, name: str) -> None:
    file = run.public(name, "blurred_image")
    with Image.open(run.photos / name) as before, Image.open(file) as after:
        assert isinstance(before, JpegImagePlugin.JpegImageFile)
        assert isinstance(after, JpegImagePlugin.JpegImageFile)
        assert (after.mode, after.size, after.format) == (before.mode, before.size, "JPEG")
        assert tables(after) == tables(before)
        assert JpegImagePlugin.get_sampling(after) == JpegImagePlugin.get_sampling(before)
        mask = read(run.public(name, "facemask"))
        away = cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, 5) > 23
        difference = np.abs(np.asarray(before, np.int16) - np.asarray(after, np.int16))
        assert difference[away].mean() <= 0.5
        assert difference[mask > 0].mean() > 2


def test_the_operators_word_is_told(run: Run, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(run.photos / "cup.png", photos)
    made = dataset(tmp_path / "out")
    done = p3mdata("anonymize", photos, "-o", made.public, "--accept-no-face", "--workers", "1")
    assert done.returncode == 0
    (line,) = made.manifest.read_text().splitlines()
    row = json.loads(line)
    assert (row["anonymized_by"], row["faces"]) == ("operator", [])
    assert (read(made.public / row["image"]) == faceless()).all()


def test_workers_and_order_do_not_show(run: Run, tmp_path: Path) -> None:
    """The same pictures under names that sort the other way round, in two workers."""
    photos, mattes = tmp_path / "photos", tmp_path / "mattes"
    photos.mkdir()
    mattes.mkdir()
    files = sorted(file for file in run.photos.rglob("*") if file.is_file())
    for number, file in enumerate(reversed(files)):
        shutil.copy(file, photos / f"{number}{file.suffix}")
        if (run.mattes / file.name).exists():
            shutil.copy(run.mattes / file.name, mattes / f"{number}.png")
    made = dataset(tmp_path / "out")
    done = p3mdata("anonymize", photos, "-o", made.public, "--mattes", mattes, "--workers", "2")
    assert done.returncode == 1, done.stderr
    assert tree(made.public) == tree(run.made.public)


def test_another_secret_gives_other_ids(run: Run, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(run.photos / "full.jpg", photos)
    made = Dataset.at(tmp_path / "out")
    assert p3mdata("anonymize", photos, "-o", made.public, "--workers", "1").returncode == 0
    (record,) = records(made).values()
    ids = {found.id for found in run.records.values()}
    assert record.id not in ids
    assert record.id is not None
    assert made.key_path.read_text() != KEY
    # the picture itself is the same one
    assert read(made.public / f"train/blurred_image/{record.id}.jpg").tobytes() == (
        read(run.public("full.jpg", "blurred_image")).tobytes()
    )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the driver and all its workers at once, as a power cut would."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def count(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*"))


def test_a_run_that_is_killed_again_and_again_ends_the_same(run: Run, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    made = dataset(tmp_path / "out")
    kills = 0
    for attempt in range(4):
        process = subprocess.Popen(
            command(*words(run, made), "--workers", "2"),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        before, files = time.monotonic(), count(tmp_path)
        # once while it starts, then while it writes
        until = 0.3 if attempt == 0 else 20
        while process.poll() is None and time.monotonic() - before < until and count(tmp_path) < files + 9:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.1))
        kills += process.poll() is None
        kill_group(process)
        check_half_done(made, run)
    assert kills >= 2
    done = p3mdata(*words(run, made), "--workers", "2")
    assert done.returncode == 1, done.stderr
    assert tree(made.public) == tree(run.made.public)


def check_half_done(made: Dataset, run: Run) -> None:
    """Whatever moment it was: every file that can be seen is whole, and it is one of the finished run."""
    whole = tree(run.made.public)
    for path, data in tree(made.public).items():
        if not Path(path).name.startswith(".") and path.startswith("train/"):
            assert data == whole[path]


HOOK = """
import os, sys

LOG = os.environ["P3MDATA_TEST_LOG"]
FORBIDDEN = {"torch", "matplotlib", "scipy", "skimage"}
AF_UNIX = 1

def log(*what):
    handle = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, (" ".join(map(str, what)) + "\\n").encode())
    os.close(handle)

def hook(event, arguments):
    if event == "import":
        for name in FORBIDDEN & sys.modules.keys():
            FORBIDDEN.discard(name)
            log("import", name)
    elif event == "socket.__new__" and arguments[1] in (-1, AF_UNIX):
        pass
    elif event.startswith("socket.") or event == "urllib.Request":
        log(event, *arguments[1:])
        os._exit(99)

log("process", os.getpid())
sys.addaudithook(hook)
"""


def watched(folder: Path) -> dict[str, str]:
    """Environment in which every Python process logs to `folder`/log what it must not do, and ends with 99."""
    (folder / "sitecustomize.py").write_text(HOOK)
    return {"PYTHONPATH": str(folder), "P3MDATA_TEST_LOG": str(folder / "log"), "P3MDATA_OFFLINE": ""}


def test_no_process_opens_a_socket_or_loads_what_the_core_must_not(run: Run, tmp_path: Path) -> None:
    made = dataset(tmp_path / "out")
    done = p3mdata(*words(run, made), "--workers", "2", **watched(tmp_path))
    assert done.returncode == 1, done.stderr
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) >= 3
    assert all(line.startswith("process ") for line in lines), lines
    assert tree(made.public) == tree(run.made.public)


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import socket; socket.socket()", "socket.__new__ "),
        ("import socket; socket.getaddrinfo('localhost', 80)", "socket.getaddrinfo"),
        ("import skimage.data, json; import csv", "import skimage"),
    ],
)
def test_the_watch_sees_what_it_is_for(tmp_path: Path, code: str, what: str) -> None:
    environment = {**os.environ, **watched(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert what in (tmp_path / "log").read_text()


@pytest.fixture
def strace() -> str:
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed: apt-get install strace")
    tried = subprocess.run([found, "-qq", "-e", "trace=none", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.decode().strip()}")
    return found


def test_no_library_opens_a_connection(run: Run, tmp_path: Path, strace: str) -> None:
    """What C and C++ do is seen only by the kernel."""
    made = dataset(tmp_path / "out")
    log = tmp_path / "log"
    done = subprocess.run(
        [
            strace,
            "-f",
            "-qq",
            "-e",
            "trace=%network",
            "-o",
            log,
            *command(*words(run, made), "--workers", "1"),
        ],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    calls = log.read_text()
    assert "AF_UNIX" in calls, "the pipes to the workers are sockets; without them strace saw nothing"
    assert "AF_INET" not in calls
    assert "AF_NETLINK" not in calls
    assert tree(made.public) == tree(run.made.public)
