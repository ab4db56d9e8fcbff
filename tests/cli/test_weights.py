"""`p3mdata weights` on the registry that ships, with a cache and a folder made here; never the network."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p3m_data.cli.main import main
from p3m_data.storage import weights as storage


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("P3MDATA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("P3MDATA_CACHE", str(tmp_path))
    monkeypatch.setenv("P3MDATA_OFFLINE", "1")
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


@pytest.fixture(autouse=True)
def without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the packages that bring weights, so that nothing depends on which extras are installed."""
    brought = {
        source.package
        for entry in storage.registry().values()
        for source in entry.sources
        if isinstance(source, storage.FromPackage)
    }
    find = importlib.util.find_spec

    def hide(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in brought else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", hide)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["weights", *words])


def states() -> dict[str, str]:
    result = run("list", "--json")
    assert result.exit_code == 0
    return {row["name"]: row["state"] for row in json.loads(result.stdout)}


def small(
    monkeypatch: pytest.MonkeyPatch, *names: str, packages: dict[str, storage.FromPackage] | None = None
) -> None:
    """Replace the registry by files whose content is their name, and which nobody or a package offers."""
    entry = storage.registry()["yunet"]
    made = {
        name: entry.model_copy(
            update={
                "name": name,
                "file": name,
                "sha256": hashlib.sha256(name.encode()).hexdigest(),
                "bytes": len(name),
                "sources": ((packages or {}).get(name, storage.FromUrl(url=f"file:///no/such/{name}")),),
            }
        )
        for name in names
    }
    monkeypatch.setattr(storage, "registry", lambda: made)


def test_list_names_every_file_of_the_registry() -> None:
    result = run("list")
    assert result.exit_code == 0
    for entry in storage.registry().values():
        line = next(line for line in result.stdout.splitlines() if line.startswith(entry.name))
        assert entry.licence in line
        assert (entry.megabytes if entry.bytes else "unknown") in line
        assert entry.what in line
    assert result.stdout.count("missing") == len(storage.registry())


def test_list_as_json_says_all_that_the_registry_says() -> None:
    rows = json.loads(run("list", "--json").stdout)
    shipped = json.loads((Path(__file__).parents[2] / "manifests" / "weights.json").read_text())
    assert [{key: row[key] for key in shipped[0]} for row in rows] == shipped
    assert {(row["state"], row["where"]) for row in rows} == {("missing", "")}


def test_list_tells_where_files_are_and_writes_nothing(
    test_data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P3MDATA_WEIGHTS", str(test_data / "weights"))
    assert states() == {
        "face_landmarker": "found",
        "blazeface": "inside",
        "centerface": "missing",
        "yunet": "found",
        "fan": "missing",
        "dlib_cnn": "missing",
        "dlib_embedding": "missing",
        "dlib_five_points": "missing",
    }
    assert str(test_data / "weights" / "yunet_n_dynamic.onnx") in run("list").stdout
    assert list(cache.iterdir()) == []


def test_list_goes_on_after_a_wrong_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "centerface.onnx").write_bytes(b"wrong")
    monkeypatch.setenv("P3MDATA_WEIGHTS", str(tmp_path / "own"))
    assert states()["centerface"] == "wrong"
    assert "instead of 09189deaaf86…" in run("list").stdout


def test_get_prints_where_the_files_are(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, "one", "two")
    for name in ("one", "two"):
        (cache / name).write_text(name)
    assert run("get", "two").stdout == f"two  {cache / 'two'}\n"
    assert run("get", "--all").stdout == f"one  {cache / 'one'}\ntwo  {cache / 'two'}\n"


def test_get_goes_on_after_a_failure_and_says_every_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, "one", "two", "three")
    (cache / "two").write_text("two")
    result = run("get", "--all")
    assert result.exit_code == 2
    assert result.stdout == f"two  {cache / 'two'}\n"
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    for line, name in zip(lines, ("one", "three"), strict=True):
        assert line.startswith(f"p3mdata: {name} (sha256 ")
        assert "fetching is switched off" in line


NEEDS_EXTRA = storage.FromPackage(package="weights_donor", member="one", extra="audit")


def test_get_goes_on_without_an_extra(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, "one", "two", packages={"one": NEEDS_EXTRA})
    (cache / "two").write_text("two")
    result = run("get", "--all")
    assert result.exit_code == 2
    assert result.stdout == f"two  {cache / 'two'}\n"
    assert result.stderr == (
        'p3mdata: weights-donor is not installed; install it with: pip install "p3mdata[audit]"\n'
    )


def test_a_file_in_an_installed_package_is_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, "one", packages={"one": NEEDS_EXTRA})
    donor = tmp_path / "site" / "weights_donor"
    donor.mkdir(parents=True)
    (donor / "__init__.py").touch()
    (donor / "one").write_text("one")
    monkeypatch.syspath_prepend(tmp_path / "site")
    (row,) = json.loads(run("list", "--json").stdout)
    assert (row["state"], row["where"]) == ("found", str(donor / "one"))
    assert run("get", "--all").stdout == f"one  {donor / 'one'}\n"


@pytest.mark.parametrize("words", [(), ("yunet", "--all")])
def test_get_wants_names_or_all(words: tuple[str, ...]) -> None:
    result = run("get", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "p3mdata: name the weights to fetch, or give --all; see: p3mdata weights list\n"


def test_get_of_an_unknown_name() -> None:
    result = run("get", "nut")
    assert result.exit_code == 2
    assert "no weights named 'nut'; known are face_landmarker" in result.stderr


@pytest.mark.parametrize("words", [(), ("list",), ("get",)])
def test_help_has_an_example(words: tuple[str, ...]) -> None:
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert "Example:\n    p3mdata weights" in result.stdout
