"""The networks and the known face of tests/faces."""

from tests.faces.conftest import astronaut, detectors, landmarkers, weights

__all__ = ["astronaut", "detectors", "landmarkers", "weights"]
