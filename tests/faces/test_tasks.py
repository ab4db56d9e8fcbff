"""MediaPipe's tasks in reference cycles, which exceptions make; in a process that may hang."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

IN_A_CYCLE = """
import gc, sys
from pathlib import Path
from {module} import {name}
cycle = [{name}(Path(sys.argv[1]))]
cycle.append(cycle)
del cycle
gc.collect()
print("collected")
"""


@pytest.mark.parametrize(
    ("module", "name", "file"),
    [
        ("p3m_data.faces.landmarkers.mediapipe", "MediaPipeLandmarker", "face_landmarker"),
        ("p3m_data.faces.detectors.blazeface", "BlazeFace", "blazeface"),
    ],
)
def test_a_cycle_is_collected(module: str, name: str, file: str, weights: dict[str, Path]) -> None:
    code = IN_A_CYCLE.format(module=module, name=name)
    done = subprocess.run(
        [sys.executable, "-c", code, str(weights[file])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "collected\n"
