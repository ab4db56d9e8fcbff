from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.errors import StorageError, UsageError
from p3m_data.storage import manifest
from p3m_data.storage.manifest import (
    SCHEMAS,
    canonical_json,
    manifest_row,
    read_manifest,
    write_manifest,
    write_schemas,
)
from p3m_data.types import Check, Face, ManifestRow, Provenance, Reason, Record, Status

PROVENANCE = Provenance(code_version="0.1.0", config_digest="c" * 16, models={"yunet": "1" * 64})
FACE = Face(
    box=(111.25, 222.5, 333.75, 444.125),
    score=0.98765,
    detectors=("yunet",),
    how="landmarks",
    outline=((123.0625, 234.5), (345.25, 456.75)),
    sigma=7.5,
)


def anonymized(name: str = "p_0123abcd", **rest: object) -> Record:
    files = {
        f"train/blurred_image/{name}.jpg": "a" * 64,
        f"train/facemask/{name}.png": "b" * 64,
        f"train/mask/{name}.png": "c" * 64,
    }
    made = {
        "source": "album/aunt mary.jpg",
        "matte": "mattes/aunt mary.png",
        "id": name,
        "status": Status.ANONYMIZED,
        "width": 640,
        "height": 480,
        "transition": "matte",
        "faces": (FACE,),
        "checks": (Check(name="transition_untouched", passed=True, value=0, limit=0),),
        "files": files,
        "provenance": PROVENANCE,
    }
    return Record.model_validate({**made, **rest})


def row(name: str) -> ManifestRow:
    return manifest_row(anonymized(name))


def test_a_row_tells_how_the_picture_was_made_public() -> None:
    assert manifest_row(anonymized(), "validation").model_dump() == {
        "id": "p_0123abcd",
        "split": "validation",
        "image": "train/blurred_image/p_0123abcd.jpg",
        "facemask": "train/facemask/p_0123abcd.png",
        "matte": "train/mask/p_0123abcd.png",
        "width": 640,
        "height": 480,
        "anonymized_by": "machine",
        "faces": ({"how": "landmarks", "sigma": 7.5},),
        "transition": "matte",
        "checks": (
            {"name": "transition_untouched", "passed": True, "value": 0, "limit": 0, "waived": False},
        ),
        "sha256": anonymized().files,
        "provenance": PROVENANCE.model_dump(),
    }


def test_a_picture_without_a_matte_or_a_face() -> None:
    made = anonymized()
    two = {path: digest for path, digest in made.files.items() if "/mask/" not in path}
    told = manifest_row(
        made.model_copy(update={"files": two, "faces": (), "reason": Reason.ACCEPTED_NO_FACE, "matte": None})
    )
    assert (told.matte, told.faces, told.anonymized_by) == (None, (), "operator")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            ({"status": status}, f"is {status} and has no place")
            for status in Status
            if status != "anonymized"
        ),
        ({"id": None}, "no place in the manifest"),
        ({"id": "aunt mary"}, "not named aunt mary"),
        ({"transition": None}, "does not say how it was made"),
        ({"provenance": None}, "does not say how it was made"),
        ({"files": {"train/facemask/p_0123abcd.png": "b"}}, "lacks its picture or its facemask"),
        ({"files": {"train/blurred_image/p_0123abcd.jpg": "b"}}, "lacks its picture or its facemask"),
        ({"files": {**anonymized().files, "train/fg/aunt mary.png": "b"}}, "is not named p_0123abcd"),
        ({"faces": (FACE, FACE.model_copy(update={"how": "none"}))}, "was not blurred"),
        ({"faces": (FACE.model_copy(update={"sigma": None}),)}, "was not blurred"),
    ],
)
def test_what_may_not_be_published_has_no_row(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        manifest_row(anonymized().model_copy(update=change))


def test_an_id_that_is_not_keyed_has_no_row() -> None:
    with pytest.raises(ValueError, match="p_"):
        manifest_row(anonymized("aunt_mary"))


# letters that occur in nothing that is meant to be public
private = st.text(alphabet="ÄÖQWXYZ☃", min_size=3)
coordinates = st.integers(10_000_000, 99_999_999).map(lambda number: number + 0.5)


@given(
    source=private,
    matte=private,
    detail=private,
    outline=st.lists(st.tuples(coordinates, coordinates), min_size=1).map(tuple),
    box=st.tuples(coordinates, coordinates, coordinates, coordinates),
)
def test_nothing_private_is_in_a_line(
    source: str,
    matte: str,
    detail: str,
    outline: tuple[tuple[float, float], ...],
    box: tuple[float, float, float, float],
) -> None:
    face = FACE.model_copy(update={"outline": outline, "box": box})
    made = anonymized(source=f"{source}.jpg", matte=f"{matte}.png", detail=detail, faces=(face,))
    line = canonical_json(manifest_row(made))
    told = json.dumps(json.loads(line), ensure_ascii=False)
    for secret in (source, matte, detail, *map(str, box), *(str(x) for point in outline for x in point)):
        assert secret not in line
        assert secret not in told


def test_only_the_known_fields_are_public() -> None:
    """A new field of a record or face is private until this list says otherwise."""
    told = manifest_row(anonymized()).model_dump()
    assert set(Record.model_fields) - set(told) == {"source", "status", "reason", "detail", "files"}
    assert set(told["faces"][0]) == {"how", "sigma"}
    assert set(told["provenance"]) == {"code_version", "config_digest", "models"}
    assert set(told["checks"][0]) == {"name", "passed", "value", "limit", "waived"}


names = st.sets(st.integers(0, 2**40).map(lambda number: f"p_{number:08x}"), max_size=30)


@settings(max_examples=40, deadline=None)
@given(found=names.flatmap(lambda found: st.permutations(sorted(found))), part=st.integers(1, 8))
def test_the_file_is_sorted_and_does_not_depend_on_the_order(
    tmp_path_factory: pytest.TempPathFactory, found: list[str], part: int
) -> None:
    path = tmp_path_factory.mktemp("manifest") / "manifest.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "SORTED_IN_MEMORY", part)
        write_manifest(map(row, found), path)
    assert list(read_manifest(path)) == [row(name) for name in sorted(found)]
    assert path.read_text("ascii") == "".join(f"{canonical_json(row(name))}\n" for name in sorted(found))
    assert [entry.name for entry in path.parent.iterdir()] == ["manifest.jsonl"]


def test_a_line_is_canonical_json() -> None:
    line = canonical_json(row("p_00000001"))
    assert line == json.dumps(json.loads(line), sort_keys=True, separators=(",", ":"))
    assert line.isascii()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_refused(number: float) -> None:
    check = Check(name="psnr", passed=True, value=number, limit=0)
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(check)


def breaking(rows: int, error: Exception) -> Iterator[ManifestRow]:
    for number in range(rows):
        yield row(f"p_{number:08x}")
    raise error


def test_an_id_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="p_00000001 comes twice"):
        write_manifest([row("p_00000001"), row("p_00000002"), row("p_00000001")], tmp_path / "manifest.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_the_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "manifest.jsonl"
    write_manifest([row("p_00000001")], path)
    before = path.read_bytes()
    with pytest.raises(KeyError):
        write_manifest(breaking(3, KeyError()), path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StorageError, match=r"Cannot write the manifest .*: No space left on device; make room"
    ):
        write_manifest([row("p_00000002")], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"Cannot write the manifest .*: No such file or directory"):
        write_manifest([row("p_00000001")], tmp_path / "gone" / "manifest.jsonl")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"\n", "EOF while parsing"),
        (b"not json\n", "Invalid JSON"),
        (b"\xff\xfe\n", "Invalid JSON"),
        (b"[]\n", "should be an object"),
        (b'{"id": "p_00000001"}\n', "split: Field required"),
        (canonical_json(row("p_00000001")).replace("640", '"wide"').encode(), "width: Input should be"),
        (
            canonical_json(row("p_00000001")).replace('"id"', '"source":"a.jpg","id"').encode(),
            "source: Extra",
        ),
        (canonical_json(row("p_00000001"))[:100].encode(), "EOF while parsing"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: bytes, what: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(canonical_json(row("p_00000000")).encode() + b"\n" + line)
    rows = read_manifest(path)
    assert next(rows) == row("p_00000000")
    with pytest.raises(UsageError, match=f"^Line 2 of {path} is not a manifest row .*{what}"):
        next(rows)


def test_a_manifest_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no manifest"):
        list(read_manifest(tmp_path / "manifest.jsonl"))
    with pytest.raises(StorageError, match="Is a directory"):
        list(read_manifest(tmp_path))


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_shipped_schemas_are_in_step(name: str, tmp_path: Path) -> None:
    write_schemas(tmp_path)
    shipped = (files("p3m_data.manifests") / name).read_text("utf-8")
    assert shipped == (tmp_path / name).read_text("utf-8"), "run: python -m p3m_data.storage.manifest"


def test_the_schemas_accept_what_is_written_and_nothing_else() -> None:
    """Judged by another library than the one that made them."""
    for name, model in (("record.schema.json", anonymized()), ("manifest.schema.json", row("p_00000001"))):
        schema = json.loads((files("p3m_data.manifests") / name).read_text("utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
        written = json.loads(canonical_json(model))
        jsonschema.validate(written, schema)
        for wrong in ({**written, "extra": 1}, {**written, "faces": [{}]}, {**written, "width": "wide"}):
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(wrong, schema)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
@pytest.mark.parametrize("key", ["value", "limit", "sigma"])
def test_a_number_that_is_not_finite_is_no_row(tmp_path: Path, number: str, key: str) -> None:
    made = anonymized(checks=(Check(name="x", passed=True, value=0.0, limit=0.0),))
    good = canonical_json(manifest_row(made))
    bad = re.sub(rf'"{key}":[0-9.]+', f'"{key}":{number}', good)
    assert bad != good
    (tmp_path / "m.jsonl").write_text(f"{good}\n{bad}\n")
    rows = read_manifest(tmp_path / "m.jsonl")
    next(rows)
    with pytest.raises(UsageError, match=r"Line 2 of .* is not a manifest row"):
        next(rows)


@given(st.text(min_size=1))
def test_a_key_of_any_characters_is_quoted_on_one_line(key: str) -> None:
    whole = json.loads(canonical_json(manifest_row(anonymized())))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.jsonl"
        path.write_text(json.dumps({**whole, "sha256": {key: 1}}))
        with pytest.raises(UsageError) as error:
            list(read_manifest(path))
    assert str(error.value).isprintable()
