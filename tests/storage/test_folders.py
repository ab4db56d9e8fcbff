"""Scanning against os.walk and hand-made trees, matching mattes, writing files whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.errors import StorageError, UsageError
from p3m_data.storage import folders
from p3m_data.storage.folders import (
    PICTURE_SUFFIXES,
    check_writable,
    locate,
    remove_leftovers,
    scan,
    unused_mattes,
    write_atomic,
)


def plant(root: Path, *names: str) -> Path:
    """`root` with a small file of each name, folders made as needed."""
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode(errors="replace"))
    return root


def paths(*args: object, **kwargs: object) -> list[str]:
    return [source.path for source in scan(*args, **kwargs)]  # type: ignore[arg-type]


def mates(root: Path, mattes: Path) -> dict[str, str | None]:
    return {source.path: source.matte for source in scan(root, mattes)}


def test_sources_tell_size_and_time(tmp_path: Path) -> None:
    root = plant(tmp_path / "photos", "b.jpg", "sub/a.PNG")
    os.utime(root / "b.jpg", ns=(5, 1234567890123456789))
    first, second = scan(root)
    assert (first.path, first.size, first.mtime_ns, first.matte) == ("b.jpg", 5, 1234567890123456789, None)
    assert (second.path, second.size) == ("sub/a.PNG", len("sub/a.PNG"))


@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES))
def test_every_suffix_in_either_case(tmp_path: Path, suffix: str) -> None:
    root = plant(tmp_path / "photos", f"a{suffix}", f"b{suffix.upper()}")
    assert paths(root) == [f"a{suffix}", f"b{suffix.upper()}"]


def test_what_is_no_picture_and_what_is_hidden_is_left_out(tmp_path: Path) -> None:
    root = plant(
        tmp_path / ".photos",
        "a.jpg",
        "a.txt",
        "jpg",
        "noext",
        "b.jpg.bak",
        ".c.jpg",
        "._a.jpg",
        ".git/d.jpg",
        "x/.y/e.jpg",
    )
    assert paths(root) == ["a.jpg"]


NAMES = st.sampled_from(
    ["a", "a-b", "a.b", "A", "é", "z z", ".h", "a.jpg", "b.png", "c.txt", "d.JPEG", "a!.jpg"]
)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.lists(NAMES, min_size=1, max_size=4).map(tuple), max_size=15))
def test_finds_what_os_walk_finds_in_the_order_of_the_path(
    tmp_path_factory: pytest.TempPathFactory, trees: set[tuple[str, ...]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for parts in trees:
        try:
            plant(root, "/".join(parts))
        except OSError:
            continue  # a file where this one wants a folder, or the other way round
    expected = sorted(
        os.path.relpath(os.path.join(at, name), root)
        for at, _, names in os.walk(root)
        for name in names
        if os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES
        and not any(part.startswith(".") for part in os.path.relpath(os.path.join(at, name), root).split("/"))
    )
    if expected:
        assert paths(root) == expected
    else:
        with pytest.raises(UsageError):
            scan(root)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_any_name_is_storable_text_and_finds_its_file_again(
    tmp_path_factory: pytest.TempPathFactory, name: bytes
) -> None:
    root = tmp_path_factory.mktemp("names")
    raw = b"n" + name + b".jpg"
    with open(os.path.join(os.fsencode(root), raw), "wb") as file:
        file.write(b"picture")
    (source,) = scan(root)
    source.path.encode("utf-8")
    assert os.fsencode(locate(root, source.path).name) == raw
    assert locate(root, source.path).read_bytes() == b"picture"
    if raw.decode("utf-8", "ignore").encode() == raw and not any(
        0xEF80 <= ord(c) <= 0xEFFF for c in raw.decode()
    ):
        assert source.path == raw.decode()


def test_two_odd_names_never_become_one_text(tmp_path: Path) -> None:
    raws = [b"\xff.jpg", "\uefff.jpg".encode(), b"\xee\xbf.jpg", b"\\xff.jpg"]
    for raw in raws:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), raw))).write_bytes(raw)
    found = paths(tmp_path)
    assert len(set(found)) == 4
    assert {locate(tmp_path, path).read_bytes() for path in found} == set(raws)


def test_links_to_files_are_followed_and_dead_ones_are_told_by_loading(tmp_path: Path) -> None:
    root = plant(tmp_path / "photos", "a.jpg")
    target = plant(tmp_path / "elsewhere", "b.bin") / "b.bin"
    (root / "b.jpg").symlink_to(target)
    (root / "dead.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (root / "self.jpg").symlink_to(root / "self.jpg")
    found = {source.path: source.size for source in scan(root)}
    assert found == {"a.jpg": 5, "b.jpg": 5, "dead.jpg": 0, "self.jpg": 0}


def test_a_loop_of_links_is_no_error(tmp_path: Path) -> None:
    root = plant(tmp_path / "photos", "a/x.jpg", "b/y.jpg")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "cousin").symlink_to(root / "b")
    (root / "b" / "cousin").symlink_to(root / "a")
    (root / "above").symlink_to(tmp_path)
    (root / "round").symlink_to(root / "round")
    assert paths(root) == ["a/x.jpg", "b/y.jpg"]


def test_a_linked_folder_is_entered_once(tmp_path: Path) -> None:
    root = plant(tmp_path / "photos", "a.jpg")
    outside = plant(tmp_path / "outside", "x.jpg", "deep/y.jpg")
    (root / "one").symlink_to(outside)
    (root / "two").symlink_to(outside)
    assert paths(root) == ["a.jpg", "one/deep/y.jpg", "one/x.jpg"]


def test_a_link_shows_what_a_hidden_folder_holds(tmp_path: Path) -> None:
    root = plant(tmp_path / "photos", "a.jpg", ".store/b.jpg")
    (root / "store").symlink_to(root / ".store")
    assert paths(root) == ["a.jpg", "store/b.jpg"]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    plant(tmp_path / "photos", "a.jpg", "b/c.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    assert paths(tmp_path / "link") == ["a.jpg", "b/c.jpg"]


def test_output_inside_the_input_is_left_out_even_through_links(tmp_path: Path) -> None:
    root = plant(tmp_path / "photos", "a.jpg", "out/train/p.jpg", "out2/q.jpg")
    (root / "again").symlink_to(root / "out" / "train")
    (root / "p.jpg").symlink_to(root / "out" / "train" / "p.jpg")
    assert paths(root, exclude=[root / "out", root / "not-made-yet"]) == ["a.jpg", "out2/q.jpg"]


@pytest.mark.parametrize("inside", [".", "sub"])
def test_input_inside_what_is_left_out(tmp_path: Path, inside: str) -> None:
    plant(tmp_path / "all", "sub/a.jpg")
    with pytest.raises(UsageError, match="lies inside"):
        scan(tmp_path / "all" / inside, exclude=[tmp_path / "all"])


def test_pipes_are_no_pictures(tmp_path: Path) -> None:
    root = plant(tmp_path / "photos", "a.jpg")
    os.mkfifo(root / "pipe.jpg")
    (root / "link.jpg").symlink_to(root / "pipe.jpg")
    assert paths(root) == ["a.jpg"]


def test_very_deep_folders(tmp_path: Path) -> None:
    deep = "/".join(["d"] * 300) + "/a.jpg"
    plant(tmp_path / "p", deep)
    assert paths(tmp_path / "p") == [deep]


def test_each_unusable_folder_has_its_own_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    plant(tmp_path / "texts", "a.txt", "sub/b.md")
    says = {}
    for name in ("missing", "file", "empty", "texts"):
        with pytest.raises(UsageError) as caught:
            scan(tmp_path / name)
        says[name] = str(caught.value)
        assert str(tmp_path / name) in says[name]
    assert "does not exist" in says["missing"]
    assert "is a file" in says["file"]
    assert "is empty" in says["empty"]
    assert "no pictures" in says["texts"]


@pytest.mark.parametrize("locked", ["photos", "photos/sub"])
def test_an_unreadable_folder_is_named_before_the_first_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: str
) -> None:
    root = plant(tmp_path / "photos", "a.jpg", "sub/b.jpg")
    real = os.scandir

    def scandir(path: os.PathLike[str]) -> object:
        if Path(path) == tmp_path / locked:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(folders.os, "scandir", scandir)
    with pytest.raises(UsageError, match=f"{tmp_path / locked} cannot be read \\(Permission denied\\)"):
        scan(root)


def test_mattes_have_the_same_relative_path(tmp_path: Path) -> None:
    photos = plant(tmp_path / "photos", "a.jpg", "x/a.jpg", "x/y/b.JPG", "x.y.jpg", "lone.jpg")
    mattes = plant(
        tmp_path / "mattes", "a.png", "x/a.tif", "x/y/b.png", "x.y.png", "spare.png", "z/other.png", "n.txt"
    )
    found = mates(photos, mattes)
    assert found == {
        "a.jpg": "a.png",
        "lone.jpg": None,
        "x.y.jpg": "x.y.png",
        "x/a.jpg": "x/a.tif",
        "x/y/b.JPG": "x/y/b.png",
    }
    assert unused_mattes(mattes, [m for m in found.values() if m]) == ["spare.png", "z/other.png"]


def test_a_matte_tells_its_size_and_time(tmp_path: Path) -> None:
    photos = plant(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg")
    mattes = plant(tmp_path / "mattes", "a.png")
    os.utime(mattes / "a.png", ns=(5, 1234567890123456789))
    (mattes / "c.png").symlink_to("nowhere")
    facts = [(source.matte, source.matte_size, source.matte_mtime_ns) for source in scan(photos, mattes)]
    assert facts == [("a.png", 5, 1234567890123456789), (None, None, None), ("c.png", 0, 0)]


def test_mattes_at_the_top_serve_pictures_in_folders(tmp_path: Path) -> None:
    photos = plant(tmp_path / "photos", "x/a.jpg", "y/b.jpg", "c.jpg", "y/c.jpg")
    mattes = plant(tmp_path / "mattes", "a.png", "b.png", "c.png")
    assert mates(photos, mattes) == {
        "c.jpg": "c.png",
        "x/a.jpg": "a.png",
        "y/b.jpg": "b.png",
        "y/c.jpg": None,
    }


def test_a_matte_of_its_own_folder_goes_before_the_top(tmp_path: Path) -> None:
    photos = plant(tmp_path / "photos", "x/a.jpg")
    mattes = plant(tmp_path / "mattes", "a.png", "x/a.png")
    assert mates(photos, mattes) == {"x/a.jpg": "x/a.png"}


def test_one_matte_at_the_top_for_two_pictures_is_asked_about(tmp_path: Path) -> None:
    photos = plant(tmp_path / "photos", "x/a.jpg", "y/a.jpg")
    mattes = plant(tmp_path / "mattes", "a.png")
    with pytest.raises(UsageError, match=r"mattes/a\.png could be the matte of x/a\.jpg or of y/a\.jpg"):
        scan(photos, mattes)


@pytest.mark.parametrize("folder", ["", "x/"])
def test_two_mattes_for_one_picture_are_both_named(tmp_path: Path, folder: str) -> None:
    photos = plant(tmp_path / "photos", f"{folder}b.jpg")
    mattes = plant(tmp_path / "mattes", f"{folder}b.png", f"{folder}b.tif")
    with pytest.raises(UsageError, match=r"b\.png and .*b\.tif could both be the matte of .*b\.jpg"):
        scan(photos, mattes)


def test_pictures_that_share_a_stem_take_the_matte_of_exactly_their_name(tmp_path: Path) -> None:
    photos = plant(tmp_path / "photos", "a.jpg", "a.png", "b.jpg", "b.png")
    mattes = plant(tmp_path / "mattes", "a.png", "b.jpg", "b.png")
    assert mates(photos, mattes) == {"a.jpg": None, "a.png": "a.png", "b.jpg": "b.jpg", "b.png": "b.png"}


def test_pictures_that_share_a_stem_and_a_matte_of_another_name(tmp_path: Path) -> None:
    photos = plant(tmp_path / "photos", "a.jpg", "a.webp")
    mattes = plant(tmp_path / "mattes", "a.png")
    with pytest.raises(UsageError, match=r"mattes/a\.png could be the matte of a\.jpg or of a\.webp"):
        scan(photos, mattes)


def test_mattes_inside_the_photos_are_no_pictures(tmp_path: Path) -> None:
    photos = plant(tmp_path / "photos", "a.jpg", "mattes/a.png")
    assert mates(photos, photos / "mattes") == {"a.jpg": "a.png"}


def test_photos_inside_the_mattes(tmp_path: Path) -> None:
    mattes = plant(tmp_path / "data", "a.png", "b.png", "photos/a.jpg")
    assert mates(mattes / "photos", mattes) == {"a.jpg": "a.png"}
    assert unused_mattes(mattes, ["a.png"], exclude=[mattes / "photos"]) == ["b.png"]


def test_odd_names_find_their_mattes(tmp_path: Path) -> None:
    raw = os.fsdecode(b"\xff\n'\"")
    photos = plant(tmp_path / "photos", f"{raw}.jpg")
    mattes = plant(tmp_path / "mattes", f"{raw}.png")
    (source,) = scan(photos, mattes)
    assert source.matte is not None
    assert locate(mattes, source.matte) == mattes / f"{raw}.png"


@pytest.mark.parametrize(
    ("mattes", "says"),
    [
        ("missing", "does not exist"),
        ("photos", "both pictures and mattes"),
        ("other", "no file in"),
        ("file", "is a file"),
    ],
)
def test_unusable_mattes(tmp_path: Path, mattes: str, says: str) -> None:
    photos = plant(tmp_path / "photos", "a.jpg")
    plant(tmp_path / "other", "b.png")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=says):
        scan(photos, tmp_path / mattes)


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    write_atomic(target, b"one")
    write_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [target]
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(folders.os, step, fail)
    with pytest.raises(StorageError, match="full" if code == errno.ENOSPC else os.strerror(code)) as caught:
        write_atomic(target, b"new")
    assert str(target) in str(caught.value)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupted_write_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folders.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a.bin", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write_atomic(tmp_path / "no" / "a.bin", b"x")
    assert not (tmp_path / "no").exists()


def test_readers_see_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    contents = [bytes([n]) * 300_000 for n in (1, 2)]
    write_atomic(target, contents[0])
    done = threading.Event()
    seen = []

    def read() -> None:
        while not done.is_set():
            seen.append(target.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(30):
        write_atomic(target, contents[n % 2])
    done.set()
    reader.join()
    assert seen
    assert set(seen) <= set(contents)


def test_a_full_disk(tmp_path: Path) -> None:
    script = f"""
import subprocess
from pathlib import Path
from p3m_data.errors import StorageError
from p3m_data.storage.folders import check_writable, write_atomic
disk = Path({str(tmp_path)!r})
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", disk], check=True)
write_atomic(disk / "small", b"x" * 1000)
try:
    write_atomic(disk / "large", b"x" * 1_000_000)
except StorageError as error:
    assert "disk is full" in str(error) and "large" in str(error), error
    assert [file.name for file in disk.iterdir()] == ["small"]
    check_writable(disk)
    print("told")
"""
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("no tmpfs can be mounted here")
    assert done.stdout == "told\n", done.stderr


def test_check_writable_makes_the_folder_and_leaves_it_empty(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/sub"])
def test_check_writable_of_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="is a file or lies under one"):
        check_writable(tmp_path / name)


def as_a_user(tmp_path: Path, code: str) -> list[str]:
    """Lines that `code` prints, run by somebody who is not root."""
    # the imports come first: the interpreter's own folder may be root's alone
    drop = (
        "import os\n"
        "from pathlib import Path\n"
        "from p3m_data.errors import StorageError, UsageError\n"
        "from p3m_data.storage.folders import check_writable, scan, write_atomic\n"
        "if os.geteuid() == 0:\n"
        "    os.setuid(65534)\n"
    )
    if os.geteuid() == 0:
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", drop + code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_check_writable_of_a_read_only_folder(tmp_path: Path) -> None:
    folder = plant(tmp_path / "locked", "a.jpg")
    folder.chmod(0o555)
    code = f"""
folder = Path({str(folder)!r})
attempts = (check_writable, folder), (check_writable, folder / "new"), (write_atomic, folder / "b", b"")
for write, *args in attempts:
    try:
        write(*args)
    except StorageError as error:
        print(error)
"""
    says = as_a_user(tmp_path, code)
    folder.chmod(0o755)
    assert [line.split(" cannot be written (Permission denied)")[0] for line in says] == [
        str(folder),
        str(folder / "new"),
        str(folder / "b"),
    ]
    assert [file.name for file in folder.iterdir()] == ["a.jpg"]


@pytest.mark.parametrize("mode", [0o000, 0o444])
@pytest.mark.parametrize("locked", ["photos", "photos/x", "mattes", "mattes/x"])
def test_folders_that_may_not_be_read_are_named(tmp_path: Path, locked: str, mode: int) -> None:
    plant(tmp_path / "photos", "x/a.jpg", "x/y/b.jpg")
    plant(tmp_path / "mattes", "x/a.png", "x/y/b.png")
    (tmp_path / locked).chmod(mode)
    code = f"""
root = Path({str(tmp_path)!r})
try:
    print(list(scan(root / "photos", root / "mattes")))
except UsageError as error:
    print(error)
"""
    says = as_a_user(tmp_path, code)
    (tmp_path / locked).chmod(0o755)
    assert len(says) == 1
    assert says[0].startswith(str(tmp_path / locked))
    assert "cannot be read (Permission denied)" in says[0]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from p3m_data.storage import folders
folders.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
folders.write_atomic(Path({str(tmp_path)!r}) / "sub" / "a.jpg", b"picture")
"""
    plant(tmp_path, "sub/keep.jpg", "sub/.p3mdata-notes.tmp")
    subprocess.run([sys.executable, "-c", script], check=False)
    assert len(list((tmp_path / "sub").iterdir())) == 3
    assert remove_leftovers(tmp_path) == 1
    assert sorted(file.name for file in (tmp_path / "sub").iterdir()) == [".p3mdata-notes.tmp", "keep.jpg"]
