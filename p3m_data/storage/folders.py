"""Finding the pictures of a folder and their mattes, and writing files that appear whole or not at all.

The paths of a `Source` are text that every database, JSON file and terminal takes: a byte of a file name that
is not UTF-8 travels as one character of a private range, and `locate` turns the text back into the file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from p3m_data.errors import StorageError, UsageError
from p3m_data.types import Source

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".tga"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".heic", ".heif"}
)

_TEMPORARY = re.compile(r"\.p3mdata-[0-9a-f]{16}\.tmp")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_CANNOT_SYNC_FOLDERS = {errno.EINVAL, errno.ENOTSUP}
# Python decodes a stray byte 0xNN of a file name to U+DCNN, which neither SQLite nor JSON takes
_STRAY, _PRIVATE = 0xDC00, 0xEF00


def scan(root: Path, mattes: Path | None = None, exclude: Sequence[Path] = ()) -> Iterator[Source]:
    """Every picture under `root`, in the order of its path, with its matte from the folder `mattes`.

    Hidden files and folders, whatever lies under `exclude`, the folder `mattes` and files whose suffix is no
    picture's are left out. Links are followed, but no folder is entered twice. A file that cannot be looked
    at is a source of 0 bytes, so that loading it says why.

    A picture's matte has the same relative path but for the suffix; when its folder has none, the same stem
    at the top of `mattes`. Where several pictures share a stem, each takes the matte of exactly its name.

    The whole tree is looked through before the first source comes. Raises `UsageError` for a folder that is
    missing, unreadable, empty or without pictures, and for a matte that cannot be told to be whose.
    """
    _check_folder(root, "pictures")
    left_out = {os.path.realpath(folder) for folder in exclude}
    for folder in left_out:
        if _is_within(os.path.realpath(root), folder):
            raise UsageError(
                f"{root} lies inside {folder}, which is left out; name another folder of pictures or output"
            )
    if mattes is not None:
        _check_folder(mattes, "mattes")
        if mattes.samefile(root):
            raise UsageError(
                f"{root} holds both pictures and mattes; move the mattes to a folder of their own"
            )
        if not _is_within(os.path.realpath(root), os.path.realpath(mattes)):
            left_out.add(os.path.realpath(mattes))
    _check_contents(root, mattes, left_out)
    return (_source(root, path, mattes, matte) for path, matte in _pairs(root, mattes, left_out))


def unused_mattes(mattes: Path, used: Iterable[str], exclude: Sequence[Path] = ()) -> list[str]:
    """Paths, relative to the folder `mattes`, of the mattes not in `used` (the `.matte` of the sources)."""
    known = set(used)
    left_out = {os.path.realpath(folder) for folder in exclude}
    return [path for path in _walk(mattes, left_out) if path not in known]


def other_files(root: Path, exclude: Sequence[Path] = ()) -> int:
    """How many files under `root` `scan` passes over because their suffix is no picture's; hidden ones do not count."""
    left_out = {os.path.realpath(folder) for folder in exclude}
    count = 0
    for at, folders, names in os.walk(root):
        folders[:] = [
            f for f in folders if not f.startswith(".") and os.path.realpath(Path(at, f)) not in left_out
        ]
        suffixes = (posixpath.splitext(name)[1].lower() for name in names if not name.startswith("."))
        count += sum(suffix not in PICTURE_SUFFIXES for suffix in suffixes)
    return count


def locate(root: Path, path: str) -> Path:
    """The file that a source's `path` (or `matte`) names under `root`."""
    stray = "".join(chr(ord(c) - _PRIVATE + _STRAY) if _is_private(c) else c for c in path)
    return root / os.fsdecode(os.fsencode(stray))


def write_atomic(path: Path, data: bytes, *, time_ns: int | None = None) -> None:
    """Write `data` to `path` so that the file is there whole or not at all, also after a power cut.

    `time_ns`: its time of change, where the true one must not be told.

    Raises `StorageError` when the disk is full or the folder cannot be written; no temporary file stays then.
    """
    temporary = path.parent / f".p3mdata-{secrets.token_hex(8)}.tmp"
    try:
        try:
            _write_synced(temporary, data)
            if time_ns is not None:
                os.utime(temporary, ns=(time_ns, time_ns))
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise _storage_error(path, error) from error


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files that a killed process left anywhere under `folder`; how many there were.

    Only for the one process that writes to `folder`: another one's unfinished files would be removed, too.
    """
    found = [
        Path(at) / name for at, _, names in os.walk(folder) for name in names if _TEMPORARY.fullmatch(name)
    ]
    for file in found:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise _storage_error(file, error) from error
    return len(found)


def check_writable(folder: Path) -> None:
    """Make sure that files can be written to `folder`, which is made if need be; `StorageError` otherwise."""
    try:
        _make(folder)
        probe = folder / f".p3mdata-{secrets.token_hex(8)}.tmp"
        try:
            _write_synced(probe, b"p3mdata")
        finally:
            probe.unlink(missing_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(f"{folder} is a file or lies under one; name a folder to write to") from error
    except OSError as error:
        raise _storage_error(folder, error) from error


def _make(folder: Path) -> None:
    """Make `folder` and its parents so that they are there after a power cut, too."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        _make(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def _check_folder(folder: Path, what: str) -> None:
    try:
        is_folder = folder.is_dir()
        exists = is_folder or folder.exists()
    except OSError as error:
        raise _unreadable(folder, error) from error
    if not exists:
        raise UsageError(f"{folder} does not exist; name the folder that holds the {what}")
    if not is_folder:
        raise UsageError(f"{folder} is a file; name the folder that holds the {what}")


def _check_contents(root: Path, mattes: Path | None, left_out: set[str]) -> None:
    pictures = matched = 0
    for _, matte in _pairs(root, mattes, left_out):
        pictures += 1
        matched += matte is not None
    if not pictures and not _list(root):
        raise UsageError(f"{root} is empty; name the folder that holds the pictures")
    if not pictures:
        raise UsageError(
            f"{root} holds no pictures (files that end in {_known_suffixes()}); name another folder"
        )
    if mattes is not None and not matched:
        raise UsageError(
            f"no file in {mattes} is named like a picture in {root}; name the folder of their mattes"
        )


def _known_suffixes() -> str:
    return " ".join(sorted(PICTURE_SUFFIXES))


def _pairs(root: Path, mattes: Path | None, left_out: set[str]) -> Iterator[tuple[str, str | None]]:
    mates = None if mattes is None else _Mates(root, mattes)
    for path in _walk(root, left_out):
        yield path, None if mates is None else mates.of(path)


def _source(root: Path, path: str, mattes: Path | None, matte: str | None) -> Source:
    size, mtime_ns = _facts(locate(root, path))
    if mattes is None or matte is None:
        return Source(path=path, size=size, mtime_ns=mtime_ns)
    matte_size, matte_mtime_ns = _facts(locate(mattes, matte))
    return Source(
        path=path,
        size=size,
        mtime_ns=mtime_ns,
        matte=matte,
        matte_size=matte_size,
        matte_mtime_ns=matte_mtime_ns,
    )


def _facts(file: Path) -> tuple[int, int]:
    """Bytes and time of change in ns; both 0 where the file cannot be looked at."""
    try:
        facts = file.stat()
    except OSError:
        return 0, 0
    return facts.st_size, facts.st_mtime_ns


def _walk(root: Path, left_out: set[str]) -> Iterator[str]:
    """Paths of the pictures under `root`, in order; remembers what is beside the way to the current one."""
    top = os.path.realpath(root)
    entered: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        path = pending.pop()
        if path and not path.endswith("/"):
            yield path
            continue
        folder = locate(root, path)
        if (identity := _identity(folder)) in entered:
            continue
        entered.add(identity)
        inside = (path + child for child in _children(folder, top, left_out))
        pending.extend(sorted(inside, reverse=True))


def _identity(folder: Path) -> tuple[int, int]:
    try:
        facts = folder.stat()
    except OSError as error:
        raise _unreadable(folder, error) from error
    return facts.st_dev, facts.st_ino


def _children(folder: Path, top: str, left_out: set[str]) -> Iterator[str]:
    """Names of the pictures in `folder`, and of the folders to enter with a slash behind them."""
    real_folder = os.path.realpath(folder)
    for entry in _list(folder):
        linked = entry.is_symlink()
        real = os.path.realpath(entry.path) if linked else os.path.join(real_folder, entry.name)
        if real in left_out or (linked and any(_is_within(real, other) for other in left_out)):
            continue
        if _is_folder(entry):
            if not (linked and _comes_by_itself(real, top)):
                yield _as_text(entry.name) + "/"
        elif _is_picture(entry):
            yield _as_text(entry.name)


def _comes_by_itself(real: str, top: str) -> bool:
    """Whether the walk from `top` reaches the folder `real` without a link; with one it may be a loop."""
    return _is_within(real, top) and "/." not in real[len(top.rstrip("/")) :]


def _list(folder: Path) -> list[os.DirEntry[str]]:
    """What is in `folder`, hidden things left out."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be read ({error.strerror}); allow reading it or move it away"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_picture(entry: os.DirEntry[str]) -> bool:
    """By its suffix; dead links count (loading says so), pipes and devices do not (reading could hang)."""
    if posixpath.splitext(entry.name)[1].lower() not in PICTURE_SUFFIXES:
        return False
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _is_private(character: str) -> bool:
    return _PRIVATE + 0x80 <= ord(character) <= _PRIVATE + 0xFF


def _as_text(name: str) -> str:
    """`name` as the system gives it, as text that can be stored; `locate` is the inverse."""
    if name.isascii():
        return name
    return "".join(_as_private(c) if _is_private(c) or 0xD800 <= ord(c) <= 0xDFFF else c for c in name)


def _as_private(character: str) -> str:
    return "".join(chr(_PRIVATE + byte) for byte in os.fsencode(character))


class _Mates:
    """Whose matte is whose; keeps only what concerns the folders on the way to the current picture."""

    def __init__(self, root: Path, mattes: Path) -> None:
        self._root = root
        self._mattes = mattes
        self._by_folder: dict[str, dict[str, str | None]] = {}
        owned = {_stem(path) for path in _pictures_in(root, "")}
        self._spare = {
            stem: found for stem, found in _by_stem(_pictures_in(mattes, "")).items() if stem not in owned
        }
        self._owner: dict[str, str] = {}

    def of(self, picture: str) -> str | None:
        """The matte of `picture`; both are texts relative to their roots."""
        folder = picture[: picture.rfind("/") + 1]
        if folder not in self._by_folder:
            self._by_folder = {f: pairs for f, pairs in self._by_folder.items() if folder.startswith(f)}
            self._by_folder[folder] = self._match(folder)
        pairs = self._by_folder[folder]
        return pairs[picture] if picture in pairs else self._at_the_top(picture)

    def _match(self, folder: str) -> dict[str, str | None]:
        pictures = _by_stem(_pictures_in(self._root, folder))
        pairs: dict[str, str | None] = {}
        for stem, candidates in _by_stem(_pictures_in(self._mattes, folder)).items():
            same = pictures.get(stem, [])
            if len(same) == 1:
                pairs[same[0]] = self._only(candidates, same[0])
            elif same:
                pairs |= dict.fromkeys(same) | {matte: matte for matte in candidates if matte in same}
                if stranger := next((matte for matte in candidates if matte not in same), None):
                    raise self._whose(stranger, same[0], same[1])
        return pairs

    def _at_the_top(self, picture: str) -> str | None:
        candidates = self._spare.get(_stem(posixpath.basename(picture)))
        if not candidates:
            return None
        matte = self._only(candidates, picture)
        owner = self._owner.setdefault(matte, picture)
        if owner != picture:
            raise self._whose(matte, owner, picture)
        return matte

    def _only(self, candidates: list[str], picture: str) -> str:
        if len(candidates) > 1:
            first, second = (locate(self._mattes, matte) for matte in candidates[:2])
            raise UsageError(
                f"{first} and {second} could both be the matte of {picture}; move one of them away"
            )
        return candidates[0]

    def _whose(self, matte: str, first: str, second: str) -> UsageError:
        file = locate(self._mattes, matte)
        return UsageError(
            f"{file} could be the matte of {first} or of {second}; rename one picture and its matte"
        )


def _pictures_in(root: Path, folder: str) -> list[str]:
    """Texts of the pictures right in `folder`, sorted; none where there is no such folder."""
    at = locate(root, folder)
    try:
        at.stat()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(at, error) from error
    entries = [entry for entry in _list(at) if not _is_folder(entry) and _is_picture(entry)]
    return sorted(folder + _as_text(entry.name) for entry in entries)


def _by_stem(paths: Iterable[str]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        found[_stem(path)].append(path)
    return dict(found)


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0]


def _write_synced(path: Path, data: bytes) -> None:
    # not tempfile: its files are readable by their owner only, whatever the umask
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where its file system can."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDERS:
            raise
    finally:
        os.close(handle)


def _unreadable(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"{folder} cannot be read ({error.strerror}); allow reading it or move it away")


def _storage_error(path: Path, error: OSError) -> StorageError:
    if error.errno in _FULL:
        return StorageError(f"{path} was not written, the disk is full; free some space and run it again")
    return StorageError(f"{path} cannot be written ({error.strerror}); allow it or name another folder")
