"""A good dataset to spoil, and inspections that run in the test's own process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from p3m_data.inspection import gallery, leaks, reidentify, residual, validate
from tests.inspection.planting import good_dataset


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a good dataset `out`."""
    folder = tmp_path_factory.mktemp("good")
    good_dataset(folder)
    return folder


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    """A copy of the good dataset; the originals stay where they are."""
    for name in ("out", "out.private"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path / "out"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is done in this process: no test needs a worker process of its own to find a fault."""

    def run(
        items: Iterator[object], setup: object, _workers: int, **_limits: float
    ) -> Iterator[tuple[object, object]]:
        work = setup()  # type: ignore[operator]
        for item in items:
            yield item, work(item)

    for module in (gallery, leaks, reidentify, residual, validate):
        monkeypatch.setattr(module, "run_local", run)
