"""Our faces against a sixty-line prototype's, on the same pictures in one run.

    python benchmarks/prototype.py [--photos DIR] [--landmarks DIR] [--limit N] [--results DIR]

Each method sees each picture from its file to its private areas (decode, proposals, landmarks), in one
process with one thread a library; which one goes first changes from picture to picture.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from common import RESULTS, machine, machine_line, portraits, positive, table, write_results
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions, vision

from p3m_data.errors import P3MError
from p3m_data.faces.detectors import Detector, load_detector
from p3m_data.faces.landmarkers import LANDMARKERS, load_landmarker
from p3m_data.faces.landmarks import locate
from p3m_data.faces.private_area import BROW_UPPER, JAW, points68_outline, private_area
from p3m_data.faces.proposals import box_iou, propose
from p3m_data.stages.detect import DetectConfig
from p3m_data.storage import folders, weights
from p3m_data.storage.images import load_picture
from p3m_data.types import Box, Outline

LONG_SIDE = 640
SCORE = 0.5
"""YuNet's threshold. Of 0.5 to 0.9 it is the one with the figures that we were given: a face in 189 of 194
pictures, landmarks for 240 of 267 proposals."""
CROP = 1.8
SAME_FACE = 0.2
"""Least IoU of a proposal's box with the box around a face's annotated points."""


class Seen(NamedTuple):
    """One proposed face; without an outline where there are no trusted landmarks."""

    box: Box
    outline: Outline


Method = Callable[[Path], list[Seen]]


class Prototype:
    """YuNet at 640 pixels, FaceLandmarker on a 1.8 times larger crop: what one writes in an afternoon."""

    def __init__(self, yunet: Path, landmarker: Path) -> None:
        self.detector = cv2.FaceDetectorYN.create(str(yunet), "", (LONG_SIDE, LONG_SIDE), SCORE)
        base = BaseOptions(model_asset_path=str(landmarker))
        options = vision.FaceLandmarkerOptions(base_options=base)
        self.landmarker = vision.FaceLandmarker.create_from_options(options)

    def __call__(self, path: Path) -> list[Seen]:
        image = cv2.imread(str(path))
        if image is None:
            return []
        scale = min(1.0, LONG_SIDE / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale)
        self.detector.setInputSize((small.shape[1], small.shape[0]))
        faces = self.detector.detect(small)[1]
        return [self.face(image, face[:4] / scale) for face in ([] if faces is None else faces)]

    def face(self, image: npt.NDArray[Any], found: npt.NDArray[Any]) -> Seen:
        x, y, width, height = (float(v) for v in found)
        half = CROP * max(width, height) / 2
        middle = np.array([x + width / 2, y + height / 2])
        left, top = np.maximum(np.rint(middle - half), 0).astype(int)
        right, bottom = np.maximum(np.rint(middle + half), 0).astype(int)
        crop = np.ascontiguousarray(image[top:bottom, left:right, ::-1])
        seen = self.landmarker.detect(Image(image_format=ImageFormat.SRGB, data=crop)).face_landmarks
        outline: Outline = ()
        if seen:
            points = [seen[0][i] for i in (*JAW, *BROW_UPPER)]
            outline = tuple((p.x * crop.shape[1] + left, p.y * crop.shape[0] + top) for p in points)
        return Seen((x, y, x + width, y + height), outline)


class Ours:
    """Load, propose and locate as `p3mdata anonymize` does; weak proposals, which need no landmarks, left out."""

    def __init__(self, names: tuple[str, ...], files: Mapping[str, Path]) -> None:
        self.config = DetectConfig(detectors=names)
        self.detectors: dict[str, Detector] = {name: load_detector(name, files[name]) for name in names}
        self.landmarkers = {
            name: load_landmarker(name, files[LANDMARKERS[name][2]]) for name in self.config.landmarkers
        }

    def __call__(self, path: Path) -> list[Seen]:
        image = load_picture(path.read_bytes(), path.name).pixels
        seen = []
        for proposal in propose(image, self.detectors, self.config.proposals):
            if proposal.weak:
                continue
            located = locate(image, proposal, self.landmarkers, self.config.trust)
            seen.append(Seen(proposal.box, located.outline if located.verdict == "trusted" else ()))
        return seen


@dataclass
class Score:
    """What a method did with all pictures."""

    pictures: int = 0
    with_proposal: int = 0
    with_landmarks: int = 0
    proposals: int = 0
    landmarks: int = 0
    seconds: list[float] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)

    def add(self, seen: list[Seen], seconds: float) -> None:
        self.pictures += 1
        self.with_proposal += bool(seen)
        self.with_landmarks += any(face.outline for face in seen)
        self.proposals += len(seen)
        self.landmarks += sum(bool(face.outline) for face in seen)
        self.seconds.append(seconds)

    def figures(self) -> dict[str, Any]:
        return {
            "pictures": self.pictures,
            "pictures_with_a_proposal": self.with_proposal,
            "pictures_with_trusted_landmarks": self.with_landmarks,
            "proposals": self.proposals,
            "proposals_with_trusted_landmarks": self.landmarks,
            "ms_a_picture_mean": round(1000 * statistics.mean(self.seconds), 1),
            "ms_a_picture_median": round(1000 * statistics.median(self.seconds), 1),
            "annotated_faces": len(self.ious),
            "iou_median": round(statistics.median(self.ious), 3) if self.ious else None,
            "iou_worst": round(min(self.ious), 3) if self.ious else None,
        }


def annotated(folder: Path, stem: str) -> list[npt.NDArray[np.float64]]:
    """The (68, 2) points of each annotated face of a picture; none where it has no file."""
    file = folder / f"{stem}.json"
    if not file.is_file():
        return []
    first = 1 if file.with_suffix(".pts").exists() else 0  # .pts files count pixels from 1
    return [np.array(face["points"]) - first for face in json.loads(file.read_text())["faces"]]


def agreement(seen: list[Seen], points: npt.NDArray[np.float64]) -> float:
    """IoU of the annotated private area with that of the face found there; 0 when none was found."""
    box = (*points.min(axis=0), *points.max(axis=0))
    best = max(seen, key=lambda face: box_iou(face.box, box), default=None)
    if best is None or not best.outline or box_iou(best.box, box) <= SAME_FACE:
        return 0.0
    corner = np.ceil(np.concatenate([points, best.outline]).max(axis=0)).astype(int)
    shape = (int(corner[1]) + 1, int(corner[0]) + 1)
    ours, theirs = private_area([best.outline], shape), private_area([points68_outline(points)], shape)
    return float((ours & theirs).sum() / (ours | theirs).sum())


def compare(methods: Mapping[str, Method], photos: list[Path], landmarks: Path) -> dict[str, Score]:
    scores = {name: Score() for name in methods}
    order = list(methods)
    for method in methods.values():
        method(photos[0])  # the first call of a network prepares it
    for photo in photos:
        order.append(order.pop(0))
        for name in order:
            begin = time.perf_counter()
            seen = methods[name](photo)
            scores[name].add(seen, time.perf_counter() - begin)
            scores[name].ious += [agreement(seen, face) for face in annotated(landmarks, photo.stem)]
    return scores


ROWS: dict[str, Callable[[dict[str, Any]], object]] = {
    "pictures with a proposal": lambda f: f"{f['pictures_with_a_proposal']} of {f['pictures']}",
    "pictures with trusted landmarks": lambda f: f"{f['pictures_with_trusted_landmarks']} of {f['pictures']}",
    "proposals": lambda f: f["proposals"],
    "of these with trusted landmarks": lambda f: f["proposals_with_trusted_landmarks"],
    "ms a picture, mean": lambda f: f["ms_a_picture_mean"],
    "ms a picture, median": lambda f: f["ms_a_picture_median"],
    "IoU with annotated faces, median": lambda f: f["iou_median"],
    "IoU with annotated faces, worst": lambda f: f["iou_worst"],
}


def report(results: dict[str, Any]) -> str:
    methods = results["methods"]
    rows = [[words, *(show(figures) for figures in methods.values())] for words, show in ROWS.items()]
    faces = max(figures["annotated_faces"] for figures in methods.values())
    return "\n".join(
        [
            "# Faces: ours and a sixty-line prototype's",
            "",
            f"The prototype: YuNet at {LONG_SIDE} pixels (score of at least {SCORE}), FaceLandmarker on a {CROP} times",
            f"larger crop. One process, decode + proposals + landmarks. IoU over {faces} faces with 68 annotated",
            "points; a face that was not found counts 0. The prototype trusts every mesh; ours are trusted when",
            "looks from two crops agree.",
            "",
            table(["", *methods], rows),
            "",
            machine_line(results["machine"]),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="folder of pictures (default: the test portraits)")
    parser.add_argument("--landmarks", type=Path, help="folder of their 68 points, NAME.json")
    parser.add_argument("--limit", type=positive, help="only the first N pictures")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    given = parser.parse_args()
    photos = given.photos or portraits() / "images"
    landmarks = given.landmarks or photos.parent / "landmarks"
    paths = [folders.locate(photos, source.path) for source in folders.scan(photos)][: given.limit]
    cv2.setNumThreads(1)
    facts = machine()
    files = weights.ensure(["yunet", "blazeface", "centerface", "face_landmarker"])
    methods: dict[str, Method] = {
        "prototype": Prototype(files["yunet"], files["face_landmarker"]),
        "ours (centerface, blazeface)": Ours(("centerface", "blazeface"), files),
        "ours (yunet, blazeface)": Ours(("yunet", "blazeface"), files),
    }
    scores = compare(methods, paths, landmarks)
    results = {"machine": facts, "methods": {name: score.figures() for name, score in scores.items()}}
    write_results(given.results, "prototype", results, report(results))


if __name__ == "__main__":
    try:
        main()
    except P3MError as error:
        sys.exit(f"benchmarks/prototype.py: {error}")
