"""Leaks to plant into a good dataset, each with the check that must find it.

The manifest's digests are made true again after each, and times stay as they were: whoever made the mistake
did not tamper with the dataset.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms

from p3m_data.pipeline.dataset import Dataset
from p3m_data.storage.folders import locate
from p3m_data.types import Source, Status
from tests.inspection.planting import Fault


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + kind + content + checksum


def after_header(data: bytes, extra: bytes) -> bytes:
    """The JPEG `data` with `extra` behind its JFIF segment."""
    return data[:20] + extra + data[20:]


def before_pixels(data: bytes, extra: bytes) -> bytes:
    """The PNG `data` with `extra` behind its first chunk."""
    return data[:33] + extra + data[33:]


def exif(**what: object) -> bytes:
    """An APP1 segment with the camera's model and, by name, `gps`, `maker_note` or `thumbnail`."""
    tags = Image.Exif()
    tags[ExifTags.Base.Model] = "Camera of Anna"
    if "gps" in what:
        tags[ExifTags.IFD.GPSInfo] = {1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)}
    if "maker_note" in what:
        tags[ExifTags.IFD.Exif] = {ExifTags.Base.MakerNote: b"serial number 0042"}
    content = tags.tobytes()
    if "thumbnail" in what:
        content = _with_thumbnail()
    return segment(0xE1, content)


def _with_thumbnail() -> bytes:
    """EXIF whose second directory holds a small JPEG."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 150, 120)).save(out, "JPEG")
    small = out.getvalue()
    first = struct.pack("<HHHII", 1, 0x0112, 3, 1, 1) + struct.pack("<I", 26)
    second = struct.pack("<HHHIIHHII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(small)) + bytes(4)
    return b"Exif\0\0" + b"II*\0\x08\0\0\0" + first + second + small


def _first(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


def _rewrite(folder: Path, file: Path, data: bytes) -> str:
    """Write `data`, at the file's own time, and its digest into the manifest; the file's public path."""
    facts = file.stat() if file.exists() else None
    file.write_bytes(data)
    if facts is not None:
        os.utime(file, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
    path = file.relative_to(folder).as_posix()
    digest = hashlib.sha256(data).hexdigest()

    def retell(row: dict[str, object]) -> None:
        digests = row["sha256"]
        assert isinstance(digests, dict)
        if path in digests:
            digests[path] = digest

    _each_row(folder, retell)
    return path


def _each_row(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    manifest = folder / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        change(row)
    lines = (json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n" for row in rows)
    manifest.write_text("".join(lines))


def _first_row(folder: Path, change: Callable[[dict[str, object]], object]) -> str:
    first = iter([True])
    _each_row(folder, lambda row: change(row) and None if next(first, False) else None)
    return "manifest.jsonl:1"


def _jpeg(change: Callable[[bytes], bytes]) -> Callable[[Path], str]:
    def plant(folder: Path) -> str:
        file = _first(folder, "train/blurred_image/*.jpg")
        return _rewrite(folder, file, change(file.read_bytes()))

    return plant


def _png(change: Callable[[bytes], bytes]) -> Callable[[Path], str]:
    def plant(folder: Path) -> str:
        file = _first(folder, "train/facemask/*.png")
        return _rewrite(folder, file, change(file.read_bytes()))

    return plant


def _colour_under_alpha(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        colours = np.asarray(image.convert("RGBA")).copy()
    colours[:4, :4] = (90, 60, 30, 0)
    out = io.BytesIO()
    Image.fromarray(colours).save(out, "PNG")
    return out.getvalue()


def _behind_the_pixels(data: bytes) -> bytes:
    """A PNG whose compressed stream goes on, in a chunk like any other."""
    at = data.index(b"IDAT") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    content = data[at + 8 : at + 8 + length]
    return data[:at] + chunk(b"IDAT", content + b"anna") + data[at + 12 + length :]


def source_of(folder: Path, name: str) -> tuple[Path, Source]:
    """The source of the picture with the id `name`, by the ledger beside the dataset."""
    with Dataset.at(folder).ledger() as ledger:
        source, photos = ledger.source(name), ledger.meta("photos")
    assert source is not None
    assert photos is not None
    return locate(Path(photos), source.path), source


def _source_name(folder: Path) -> str:
    file = _first(folder, "train/blurred_image/*.jpg")
    source, _ = source_of(folder, file.stem)
    named = file.with_name(f"{source.stem}.jpg")
    file.rename(named)
    return named.relative_to(folder).as_posix()


def _source_time(folder: Path) -> str:
    file = _first(folder, "train/blurred_image/*.jpg")
    _, source = source_of(folder, file.stem)
    os.utime(file, ns=(source.mtime_ns, source.mtime_ns))
    return file.relative_to(folder).as_posix()


def _times_in_order(folder: Path) -> str:
    with Dataset.at(folder).ledger() as ledger:
        ids = [record.id for record in ledger.records(Status.ANONYMIZED)]
    for number, name in enumerate(ids):
        for file in folder.glob(f"train/*/{name}.*"):
            os.utime(file, ns=(10**18 + number, 10**18 + number))
    return ""


def _source_digest(folder: Path) -> str:
    def tell(row: dict[str, object]) -> None:
        source, _ = source_of(folder, str(row["id"]))
        provenance = row["provenance"]
        assert isinstance(provenance, dict)
        provenance["models"]["source"] = hashlib.sha256(source.read_bytes()).hexdigest()

    return _first_row(folder, tell)


def _source_digest_for_public(folder: Path) -> str:
    def tell(row: dict[str, object]) -> None:
        source, _ = source_of(folder, str(row["id"]))
        digests = row["sha256"]
        assert isinstance(digests, dict)
        digests[row["image"]] = hashlib.sha256(source.read_bytes()).hexdigest()

    return _first_row(folder, tell)


def _in_the_report(text: str) -> Callable[[Path], str]:
    def plant(folder: Path) -> str:
        page = folder / "report.html"
        page.write_text(page.read_text().replace("</main>", f"<p>{text}</p></main>"))
        return "report.html"

    return plant


def _source_in_the_card(folder: Path) -> str:
    source, _ = source_of(folder, _first(folder, "train/blurred_image/*.jpg").stem)
    (folder / "README.md").write_text(f"# Portraits\n\nThe best one was made from {source.stem}.\n")
    return "README.md"


def _hidden_file(folder: Path) -> str:
    (folder / "train" / "._p_00").write_bytes(b"\0\5\x16\7")
    return "train/._p_00"


def _stray(name: str, content: bytes = b"x") -> Callable[[Path], str]:
    def plant(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return name

    return plant


def _empty_folder(folder: Path) -> str:
    (folder / "train" / "from_anna").mkdir()
    return "train/from_anna"


def _attribute(folder: Path) -> str:
    """`OSError` where the file system keeps no attributes."""
    file = _first(folder, "train/blurred_image/*.jpg")
    os.setxattr(file, "user.xdg.origin.url", b"https://example.org/anna.jpg")
    return file.relative_to(folder).as_posix()


def _link(folder: Path) -> str:
    file = _first(folder, "train/blurred_image/*.jpg")
    source, _ = source_of(folder, file.stem)
    file.unlink()
    file.symlink_to(source)
    return file.relative_to(folder).as_posix()


def _hard_link(folder: Path) -> str:
    file = _first(folder, "train/blurred_image/*.jpg")
    os.link(file, folder.parent / "another-name.jpg")
    return file.relative_to(folder).as_posix()


def _other_order(folder: Path) -> str:
    manifest = folder / "manifest.jsonl"
    first, second, *rest = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join([second, first, *rest]))
    return "manifest.jsonl:2"


_ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
_XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
_IPTC = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x09\x1c\x02\x50\0\x04Anna"

_BYTES: dict[str, Callable[[Path], str]] = {
    "EXIF": _jpeg(lambda data: after_header(data, exif())),
    "EXIF thumbnail": _jpeg(lambda data: after_header(data, exif(thumbnail=True))),
    "EXIF GPS": _jpeg(lambda data: after_header(data, exif(gps=True))),
    "EXIF maker note": _jpeg(lambda data: after_header(data, exif(maker_note=True))),
    "XMP": _jpeg(lambda data: after_header(data, segment(0xE1, _XMP))),
    "IPTC": _jpeg(lambda data: after_header(data, segment(0xED, _IPTC))),
    "ICC profile": _jpeg(lambda data: after_header(data, segment(0xE2, b"ICC_PROFILE\0\1\1" + _ICC))),
    "comment": _jpeg(lambda data: after_header(data, segment(0xFE, b"Anna at the sea"))),
    "unused quantization table": _jpeg(
        lambda data: after_header(data, segment(0xDB, b"\3" + bytes([7] * 64)))
    ),
    "bytes before EOI": _jpeg(lambda data: data[:-2] + b"anna" + data[-2:]),
    "bytes after EOI": _jpeg(lambda data: data + b"anna"),
    "second frame": _jpeg(lambda data: data + data),
    "PNG under .jpg": lambda folder: _rewrite(
        folder,
        _first(folder, "train/blurred_image/*.jpg"),
        _first(folder, "train/facemask/*.png").read_bytes(),
    ),
    "PNG tEXt": _png(lambda data: before_pixels(data, chunk(b"tEXt", b"Author\0Anna"))),
    "PNG zTXt": _png(
        lambda data: before_pixels(data, chunk(b"zTXt", b"Author\0\0" + zlib.compress(b"Anna")))
    ),
    "PNG iTXt": _png(lambda data: before_pixels(data, chunk(b"iTXt", b"Author\0\0\0\0\0Anna"))),
    "PNG eXIf": _png(lambda data: before_pixels(data, chunk(b"eXIf", exif()[10:]))),
    "PNG time": _png(lambda data: before_pixels(data, chunk(b"tIME", b"\x07\xe8\1\1\1\1\1"))),
    "bytes after IEND": _png(lambda data: data + b"anna"),
    "bytes behind the pixels": _png(_behind_the_pixels),
    "colour under alpha 0": _png(_colour_under_alpha),
}

FAULTS: Mapping[str, Fault] = {
    **{name: Fault(plant, "foreign_bytes") for name, plant in _BYTES.items()},
    "source name as file name": Fault(_source_name, "public_names"),
    "hidden file": Fault(_hidden_file, "public_names"),
    "landmarks beside a picture": Fault(_stray("train/blurred_image/p_00000000.npy"), "public_names"),
    "folder that tells": Fault(_empty_folder, "public_names"),
    "time of the source": Fault(_source_time, "file_times"),
    "times in the order of sources": Fault(_times_in_order, "file_times"),
    "symbolic link": Fault(_link, "file_kinds"),
    "hard link": Fault(_hard_link, "file_kinds"),
    "extended attribute": Fault(_attribute, "file_attributes"),
    "landmarks in the manifest": Fault(
        lambda folder: _first_row(folder, lambda row: row.update(landmarks=[[101.5, 88.25]] * 5)),
        "manifest_values",
    ),
    "source digest in the manifest": Fault(_source_digest, "manifest_values"),
    "source digest for the public one": Fault(_source_digest_for_public, "manifest_values"),
    "size of another picture": Fault(
        lambda folder: _first_row(folder, lambda row: row.update(width=4032)), "manifest_values"
    ),
    "rows in another order": Fault(_other_order, "manifest_values"),
    "absolute path in the report": Fault(_in_the_report("/home/anna/photos/sea.jpg"), "telling_text"),
    "path of a drive in the report": Fault(_in_the_report(r"C:\photos\sea.jpg"), "telling_text"),
    "hidden path in the report": Fault(_in_the_report("&#47;home%2Fanna/sea.jpg"), "telling_text"),
    "picture in the report": Fault(
        _in_the_report('<img src="data:image/png;base64,iVBORw0KGgo=">'), "telling_text"
    ),
    "page that calls elsewhere": Fault(
        _in_the_report('<img src="https://example.org/seen.gif">'), "telling_text"
    ),
    "place in the report": Fault(_in_the_report("52.52437, 13.41053"), "telling_text"),
    "digest in the report": Fault(_in_the_report(hashlib.md5(b"anna").hexdigest()), "telling_text"),
    "source name in the card": Fault(_source_in_the_card, "telling_text"),
    "sums of other files": Fault(_stray("SHA256SUMS", b"0" * 64 + b"  train/anna.jpg\n"), "telling_text"),
}
