"""What is shipped: the wheel, an installation of it in a new environment, and the commented settings."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from p3m_data import __version__
from p3m_data.cli.main import COMMANDS
from p3m_data.stages.config import AnonymizeConfig
from p3m_data.storage.settings import read_settings
from p3m_data.storage.weights import registry
from tests.conftest import REPOSITORY

SETTINGS = REPOSITORY / "pipelines" / "anonymize.yaml"
SHIPPED = ("p3m_data", "manifests", "pipelines")


def test_the_commented_settings_are_all_settings_with_their_defaults() -> None:
    written = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    assert written == json.loads(AnonymizeConfig().model_dump_json())
    assert read_settings(SETTINGS, AnonymizeConfig).digest == AnonymizeConfig().digest


def test_every_setting_has_a_comment() -> None:
    for line in SETTINGS.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if not line.startswith("#") and value.strip():
            assert "  # " in value, key


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that nothing is left in the checkout; the build tools come from pip's index."""
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("wheel")
    for folder in SHIPPED:
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / file, copy)
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", out, copy]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_all_that_is_needed_and_no_more(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    places = {"p3m_data": "p3m_data", "manifests": "p3m_data/manifests", "pipelines": "p3m_data/pipelines"}
    expected = {
        f"{places[folder]}/{file.relative_to(REPOSITORY / folder)}"
        for folder in SHIPPED
        for file in (REPOSITORY / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert held == expected
    assert {"p3m_data/py.typed", "p3m_data/report/base.html", "p3m_data/pipelines/anonymize.yaml"} <= held
    assert {"p3m_data/review/page/index.html", "p3m_data/review/page/app.js"} <= held
    assert {"p3m_data/manifests/weights.json", "p3m_data/manifests/manifest.schema.json"} <= held


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_works_in_a_new_environment(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)

    def here(*words: str | Path) -> str:
        done = subprocess.run(
            [home / "bin" / words[0], *words[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    pip = ("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    here(*pip, "-c", REPOSITORY / "constraints.txt", wheel)
    assert here("p3mdata", "--version") == f"p3mdata, version {__version__}\n"
    printed = here("p3mdata", "--help")
    assert all(name in printed for name in COMMANDS)
    assert "Blur every face" in here("p3mdata", "anonymize", "--help")
    listed = json.loads(here("p3mdata", "weights", "list", "--json"))
    assert {row["name"] for row in listed} == set(registry())
    names = {
        row["name"].lower() for row in json.loads(here("python", "-m", "pip", "list", "--format", "json"))
    }
    assert "mediapipe" in names
    assert not names & {"torch", "opencv-python", "opencv-contrib-python", "scipy", "matplotlib", "starlette"}
    file = "files('p3m_data.pipelines').joinpath('anonymize.yaml')"
    read = f"from importlib.resources import files; print({file}.read_text())"
    assert here("python", "-c", read).strip() == SETTINGS.read_text(encoding="utf-8").strip()
