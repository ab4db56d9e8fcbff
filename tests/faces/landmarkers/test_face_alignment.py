"""The wiring of FAN; its trained weights cannot be had everywhere, so random ones stand in.

Needs the extra `face-alignment`; without it only what happens then is tested.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p3m_data.errors import MissingExtra, WeightsError
from p3m_data.faces.landmarkers import load_landmarker
from p3m_data.faces.landmarkers.face_alignment import FaceAlignmentLandmarker


def test_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    with pytest.raises(MissingExtra, match=r'pip install "p3mdata\[face-alignment\]"'):
        FaceAlignmentLandmarker(tmp_path / "fan.pth.tar")


def test_outline_is_that_of_the_mean_of_the_looks() -> None:
    landmarker = FaceAlignmentLandmarker.__new__(FaceAlignmentLandmarker)
    points = np.stack([np.arange(68.0), np.arange(68.0) ** 2], axis=1)
    outline = landmarker.outline([points - 1, points + 3])
    expected = [*range(17), *range(26, 16, -1)]
    assert outline == tuple((i + 1.0, i**2 + 1.0) for i in expected)


@pytest.fixture(scope="module")
def torch() -> Any:
    pytest.importorskip("face_alignment", reason="the extra face-alignment is not installed")
    return pytest.importorskip("torch", reason="torch is not installed (extra face-alignment)")


@pytest.fixture(scope="module")
def weights(torch: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from face_alignment.models import FAN

    torch.manual_seed(0)
    path: Path = tmp_path_factory.mktemp("fan") / "random.pth"
    torch.save(FAN(4).state_dict(), path)
    return path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("no_network")
def test_loads_from_the_file_alone(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch: Any
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    landmarker = load_landmarker("face-alignment", weights)
    crop = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
    (points,) = landmarker(crop)
    assert points.shape == (68, 2)
    assert points.dtype == np.float64
    assert np.isfinite(points).all()
    np.testing.assert_array_equal(points, landmarker(crop)[0])
    assert list(tmp_path.iterdir()) == []
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("place", [(160, 160), (80, 200), (250, 60), (40, 290)])
def test_points_come_back_in_pixels_of_the_crop(weights: Path, torch: Any, place: tuple[int, int]) -> None:
    landmarker = FaceAlignmentLandmarker(weights)

    class Brightest(torch.nn.Module):
        """Every heat map is the crop's own brightness."""

        def forward(self, crops: Any) -> list[Any]:
            return [torch.nn.functional.avg_pool2d(crops.mean(1, keepdim=True), 4).repeat(1, 68, 1, 1)]

    landmarker._aligner.face_alignment_net = Brightest()
    crop = np.zeros((320, 320, 3), np.uint8)
    x, y = place
    crop[y - 6 : y + 7, x - 6 : x + 7] = 255
    (points,) = landmarker(crop)
    # the dot is 13 pixels wide, and a heat map's cell is 656 / 64
    assert np.abs(points - place).max() <= 656 / 64


def damaged(weights: Path) -> dict[str, bytes]:
    whole = weights.read_bytes()
    return {
        "empty": b"",
        "text": b"abc" * 100,
        "truncated": whole[: len(whole) // 2],
        "zip": b"PK\x03\x04" + bytes(300),
    }


@pytest.mark.parametrize("what", ["empty", "text", "truncated", "zip"])
def test_foreign_file_is_one_sentence(what: str, weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(damaged(weights)[what])
    with pytest.raises(
        WeightsError, match=r"other\.pth does not hold the weights of FAN .* give the path of"
    ):
        FaceAlignmentLandmarker(path)


def test_weights_of_another_network_are_refused(torch: Any, tmp_path: Path) -> None:
    for number, foreign in enumerate([torch.nn.Linear(2, 2).state_dict(), [1, 2], {"state_dict": {}}]):
        path = tmp_path / f"{number}.pth"
        torch.save(foreign, path)
        with pytest.raises(WeightsError, match="does not hold the weights of FAN"):
            FaceAlignmentLandmarker(path)


def test_code_in_the_file_is_not_run(torch: Any, tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "was-run",)

    torch.save(Touch(), tmp_path / "evil.pth")
    with pytest.raises(WeightsError):
        FaceAlignmentLandmarker(tmp_path / "evil.pth")
    assert not (tmp_path / "was-run").exists()


@pytest.mark.usefixtures("torch")
def test_unreadable_path_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere cannot be read \(No such file"):
        FaceAlignmentLandmarker(tmp_path / "nowhere")
