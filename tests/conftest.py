"""Shared fixtures. Real pictures are read from `P3MDATA_TEST_DATA` (default: `shared` beside the checkout)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder that holds `portraits/` and `odd/`; without it the test skips, in CI it fails."""
    root = Path(os.environ.get("P3MDATA_TEST_DATA", REPOSITORY.parent / "shared"))
    if not (root / "portraits" / "images").is_dir():
        message = "the test pictures are not here: set P3MDATA_TEST_DATA to the folder that holds portraits/ and odd/"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return root


@pytest.fixture(scope="session")
def portraits(test_data: Path) -> Path:
    return test_data / "portraits"


@pytest.fixture(scope="session")
def odd(test_data: Path) -> Path:
    """Folder of odd, malformed and malicious pictures; `SOURCES.csv` says what each of them is."""
    return test_data / "odd"
