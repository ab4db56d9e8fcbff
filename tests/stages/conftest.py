"""The networks and the known face of tests/faces, and a small dataset that waits for a person."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from p3m_data.pipeline.dataset import Dataset
from p3m_data.stages.review import Desk
from tests.faces.conftest import astronaut, detectors, landmarkers, weights
from tests.runs import review_dataset

__all__ = ["astronaut", "detectors", "landmarkers", "weights"]


@pytest.fixture(scope="session")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos`, `mattes` and the dataset `out`; see `review_dataset`."""
    return review_dataset(tmp_path_factory.mktemp("waiting"))


@pytest.fixture
def out(waiting: Path, tmp_path: Path) -> Dataset:
    """A copy of that dataset, made from the same photos."""
    for side in ("out", "out.private"):
        shutil.copytree(waiting / side, tmp_path / side)
    return Dataset.at(tmp_path / "out")


@pytest.fixture
def desk(out: Dataset) -> Iterator[Desk]:
    with Desk.open(out) as made:
        yield made


@pytest.fixture(scope="session")
def nowhere() -> np.ndarray:
    """(300, 300) bool: a mask in a corner, where no face is."""
    mask = np.zeros((300, 300), bool)
    mask[:20, :20] = True
    return mask
