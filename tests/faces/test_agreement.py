"""Private areas from landmarks against those that people annotated (300-W style, 68 points)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p3m_data.faces.detectors import Detector
from p3m_data.faces.landmarkers import Landmarker
from p3m_data.faces.landmarks import LandmarkConfig, locate
from p3m_data.faces.private_area import points68_outline, private_area
from p3m_data.faces.proposals import ProposalConfig, box_iou, propose

pytestmark = pytest.mark.portraits


@pytest.fixture(scope="module")
def agreement(
    portraits: Path, detectors: dict[str, Detector], landmarkers: dict[str, Landmarker]
) -> dict[str, float]:
    """IoU by face; 0 for one that was not found or is not trusted."""
    result = {}
    for annotated in sorted((portraits / "landmarks").glob("*.json")):
        (path,) = (portraits / "images").glob(f"{annotated.stem}.*")
        image = np.array(Image.open(path).convert("RGB"))
        proposals = propose(image, detectors, ProposalConfig())
        first = 1 if annotated.with_suffix(".pts").exists() else 0  # .pts files count pixels from 1
        for number, face in enumerate(json.loads(annotated.read_text())["faces"]):
            points = np.array(face["points"]) - first
            box = [*points.min(axis=0), *points.max(axis=0)]
            proposal = max(proposals, key=lambda p: box_iou(p.box, box))
            located = locate(image, proposal, landmarkers, LandmarkConfig())
            name = f"{annotated.stem} {number}"
            result[name] = 0.0
            if box_iou(proposal.box, box) > 0.2 and located.verdict == "trusted":
                theirs = private_area([points68_outline(points)], image.shape)
                ours = private_area([located.outline], image.shape)
                result[name] = float((ours & theirs).sum() / (ours | theirs).sum())
    print("\n".join(f"{iou:.3f}  {name}" for name, iou in sorted(result.items(), key=lambda r: r[1])))
    return result


def test_every_face_was_compared(agreement: dict[str, float]) -> None:
    assert len(agreement) == 28


def test_median(agreement: dict[str, float]) -> None:
    assert np.median(list(agreement.values())) >= 0.94


def test_worst(agreement: dict[str, float]) -> None:
    worst = min(agreement, key=agreement.__getitem__)
    assert agreement[worst] >= 0.85, worst
