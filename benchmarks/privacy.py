"""What a blur of faces protects, and what it costs: re-identification and matting, by method and strength.

    python benchmarks/privacy.py [--photos DIR --mattes DIR --labels CSV] [--blurs hardened:0.15,gaussian:0.15,...]
                                 [--matting N] [--workers K]

Anonymizes the photos once; then, for each blur, blurs the same masks anew, encodes as a run would, and runs the
attacks of `p3mdata audit` on the result. The cost: closed-form matting (pymatting) on N pictures, scaled down,
before and after. Needs the extras `audit` and `benchmark`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from command import anonymized
from common import RESULTS, machine, machine_line, portraits, positive, table, write_results

from p3m_data.arrays import BoolArray, FloatArray, UInt8Array
from p3m_data.errors import P3MError, UsageError
from p3m_data.inspection.attacker import ALONE, ATTACKS, FILLED, WHOLE, Attacker
from p3m_data.inspection.gallery import Files, Gallery, find_files, look
from p3m_data.inspection.originals import Originals
from p3m_data.inspection.people import Subject, identities, subjects, too_few
from p3m_data.inspection.reidentify import BLURRED_GALLERY, DEFAULTS, measure
from p3m_data.pipeline.engines import WorkerLost, run_local
from p3m_data.stages.blur import BlurConfig, blur
from p3m_data.storage.images import Picture, decode, encode_picture, load_picture
from p3m_data.storage.layouts import recognise
from p3m_data.storage.masks import load_png_mask
from p3m_data.types import Face

BLURS = ("hardened:0.1", "hardened:0.15", "hardened:0.25", "gaussian:0.05", "gaussian:0.1", "gaussian:0.15",
         "gaussian:0.25", "mosaic:0.15", "fill:0.15")  # fmt: skip
MATTED_AT = 320  # pixels of the long side: closed-form matting takes seconds there
RESTORED = ("wiener", "wiener_estimated", "richardson_lucy")


@dataclass(frozen=True)
class Probe:
    """A picture to blur; picklable."""

    subject: Subject
    faces: tuple[Face, ...]


def again(probe: Probe, config: BlurConfig) -> tuple[Picture, UInt8Array, BoolArray, Face, bool]:
    """The picture, its published version under `config`, its mask, its main face with sigma, and if it is lossless."""
    subject = probe.subject
    picture = load_picture(subject.original.read_bytes(), subject.where)
    size = (picture.pixels.shape[1], picture.pixels.shape[0])
    mask = load_png_mask(subject.facemask.read_bytes(), subject.where, size)
    done = blur(picture.pixels, mask, probe.faces, config)
    data, suffix = encode_picture(picture, done.pixels, mask)
    main = next(face for face in done.faces if face.box == subject.box)
    return picture, decode(data), mask, main, suffix == ".png"


@dataclass(frozen=True)
class Attacked:
    """Loads a worker: a picture becomes embeddings of its attacked faces; picklable."""

    files: Files
    mean_face: FloatArray
    config: BlurConfig

    def __call__(self) -> Callable[[Probe], dict[str, FloatArray]]:
        cv2.setNumThreads(1)
        attacker = Attacker(self.files.embedding, self.files.five_points, self.mean_face)

        def attack(probe: Probe) -> dict[str, FloatArray]:
            picture, published, mask, main, lossless = again(probe, self.config)
            original = np.ascontiguousarray(picture.pixels)
            chips = attacker.attack(original, published, mask, main.box, main.sigma, lossless=lossless)
            return dict(zip(chips, attacker.embed(list(chips.values())).astype(np.float32), strict=True))

        return attack


def privacy(
    gallery: Gallery, probes: list[Probe], files: Files, config: BlurConfig, workers: int
) -> dict[str, Any]:
    found = {}
    for probe, seen in run_local(iter(probes), Attacked(files, gallery.mean_face, config), workers):
        if isinstance(seen, WorkerLost):
            raise P3MError(seen.detail)
        found[probe.subject.where] = seen
    rows = [found[probe.subject.where] for probe in probes]
    attempts = {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}
    figures, findings = measure(gallery.trial, gallery.embeddings, attempts)
    return {**figures, "findings": [finding.said for finding in findings]}


def matting_cost(probes: list[Probe], mattes: Path, config: BlurConfig) -> dict[str, float]:
    """Median over pictures of the SAD (in thousands) between the alphas found before and after, and of the
    difference of their SAD to the given matte."""
    warnings.simplefilter("ignore")
    from pymatting import estimate_alpha_cf

    apart, worse = [], []
    for probe in probes:
        picture, published, *_ = again(probe, config)
        alpha = cv2.imread(str(mattes / f"{probe.subject.original.stem}.png"), cv2.IMREAD_GRAYSCALE)
        scale = min(1.0, MATTED_AT / max(alpha.shape))
        small = [cv2.resize(a, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.float64) / 255
                 for a in (picture.pixels, published, alpha)]  # fmt: skip
        trimap = trimap_of(small[2])
        before, after = (estimate_alpha_cf(image, trimap) for image in small[:2])
        apart.append(float(np.abs(before - after).sum()) / 1000)
        worse.append(float(np.abs(after - small[2]).sum() - np.abs(before - small[2]).sum()) / 1000)
    return {
        "sad_between": round(statistics.median(apart), 4),
        "sad_between_worst": round(max(apart), 4),
        "sad_change": round(statistics.median(worse), 4),
        "pictures": len(apart),
    }


def trimap_of(alpha: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """0, 0.5 and 1: the soft part of `alpha` in [0, 1] and five pixels around it are unknown."""
    soft = ((alpha > 0.02) & (alpha < 0.98)).astype(np.uint8)
    unknown = cv2.dilate(soft, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))) > 0
    return np.where(unknown, 0.5, np.rint(alpha))


def parse_blur(text: str) -> BlurConfig:
    method, _, strength = text.partition(":")
    return BlurConfig.model_validate({"method": method, "strength": float(strength or 0.15)})


def percent(figures: dict[str, Any], view: str, attack: str, what: str = "rank_1") -> str:
    value, low, high = figures[view][attack][what]
    return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def worst(figures: dict[str, Any], view: str) -> str:
    """The attempt to undo the blur that is most often right."""
    return percent(figures, view, max(RESTORED, key=lambda name: figures[view][name]["rank_1"][0]))


def told(figures: dict[str, Any]) -> str:
    blurs = figures["blurs"]
    first = next(iter(blurs.values()))["privacy"]
    matted = next(iter(blurs.values())).get("matting", {}).get("pictures", 0)
    guess, guess_5 = (first["chance"][rank] for rank in ("rank_1", "rank_5"))
    head = (
        "blur",
        "face alone",
        "after the best deconvolution",
        "published pictures as gallery (control)",
        "with surroundings",
        "above control",
        "matting: SAD between alphas, median / worst",
    )
    areas = [
        [name.replace(":", " "), *(f"{one['privacy'][ALONE][a]['auc'][0]:.3f}" for a in (*ATTACKS, FILLED))]
        for name, one in blurs.items()
    ]
    return f"""# Privacy and matting cost by method and strength

`{figures["command"]}`

{machine_line(figures["machine"])}

{first["probes"]} blurred faces of {first["people"]} people are looked for among {first["gallery"]} unblurred photos,
never their own and no near-duplicate. Rank-1 rates in percent, with 95 % intervals (bootstrap over people).
Guessing gives {100 * guess[0]:.1f} ({100 * guess[1]:.1f} to {100 * guess[2]:.1f}), at rank 5 {100 * guess_5[0]:.1f};
unblurred faces give {100 * first["unblurred"]["rank_1"][0]:.1f}.

{table(head, [_row(name, one) for name, one in blurs.items()])}

AUC of the face alone, per attack (0.5 is guessing):

{table(["blur", *ATTACKS, "control"], areas)}

*Face alone*: an average face's surroundings around the masked area. *Control*: the mask in one colour, so that only
its shape and its average colour can help; with surroundings also hair, clothes and background, which are published on
purpose. *Matting*: closed-form alphas of the picture before and after the blur; 1 is 1000 pixels.
{matted} pictures with mattes, long side {MATTED_AT} pixels.
"""


def _row(name: str, one: dict[str, Any]) -> list[str]:
    seen, cost = one["privacy"], one.get("matting")
    control = 100 * seen[ALONE][f"{BLURRED_GALLERY}_{FILLED}"]["rank_1"][0]
    return [
        name.replace(":", " "),
        percent(seen, ALONE, "published"),
        worst(seen, ALONE),
        f"{percent(seen, ALONE, BLURRED_GALLERY)} ({control:.1f})",
        percent(seen, WHOLE, "published"),
        percent(seen, WHOLE, "published", "rank_1_above_control"),
        f"{cost['sad_between']:.3f} / {cost['sad_between_worst']:.3f}" if cost else "",
    ]


def plot(figures: dict[str, Any], file: Path) -> None:
    """Rank-1 of the face alone after the best deconvolution, and as published, against strength."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    blurs = figures["blurs"]
    guess = next(iter(blurs.values()))["privacy"]["chance"]["rank_1"]
    axes.axhspan(100 * guess[1], 100 * guess[2], color="0.88", label="guessing, 95 %")
    for number, method in enumerate(dict.fromkeys(name.split(":")[0] for name in blurs)):
        points = sorted(
            (float(n.split(":")[1]), one["privacy"][ALONE])
            for n, one in blurs.items()
            if n.startswith(method)
        )
        at = [strength for strength, _ in points]
        best = [100 * max(seen[name]["rank_1"][0] for name in RESTORED) for _, seen in points]
        plain = [100 * seen["published"]["rank_1"][0] for _, seen in points]
        axes.plot(at, best, "o-", color=f"C{number}", label=f"{method}, best deconvolution")
        axes.plot(at, plain, "x:", color=f"C{number}", label=f"{method}, as published")
    axes.set(xlabel="strength: sigma as a share of the face's width", ylabel="recognised at rank 1, %",
             title="The masked area alone, looked for among other photos", ylim=(0, None))  # fmt: skip
    axes.legend(fontsize=8)
    drawing.savefig(file, dpi=110, metadata={"Software": None})


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--mattes", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--blurs", default=",".join(BLURS))
    parser.add_argument("--matting", type=int, default=12, help="pictures whose matting cost is measured")
    parser.add_argument("--workers", type=positive, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    root = None if given.photos else portraits()
    photos, mattes, labels = given.photos or root / "images", given.mattes, given.labels
    if root is not None:
        mattes, labels = mattes or root / "mattes", labels or root / "SOURCES.csv"
    if labels is None:
        raise UsageError("name the people in the photos with --labels CSV (columns file and identity)")
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="p3mdata-privacy-") as place:
        layout = recognise(anonymized(photos, mattes, Path(place) / "out"))
        with Originals.of(layout, None, None) as originals:
            people = identities(labels, layout, originals)
            chosen = list(subjects(layout, originals, people, [], probes=DEFAULTS.probes,
                                   strangers=DEFAULTS.strangers, seed=DEFAULTS.seed))  # fmt: skip
            if (missing := too_few(chosen)) is not None:
                raise UsageError(missing)
            faces = {
                sample.name: record.faces for sample in layout.samples if (record := originals.record(sample))
            }
        files = find_files()
        gallery = look(chosen, files, given.workers)
        if gallery is None:
            raise UsageError("fewer than two people are in two photos")
        probes = [Probe(subject, faces[subject.where]) for subject in gallery.probes]
        matted = []
        if mattes is not None and given.matting:
            there = [Probe(subject, faces[subject.where]) for subject in gallery.subjects
                     if (mattes / f"{subject.original.stem}.png").is_file()]  # fmt: skip
            matted = there[:: max(1, len(there) // given.matting)][: given.matting]
        blurs: dict[str, Any] = {}
        for name in given.blurs.split(","):
            config = parse_blur(name)
            blurs[name] = {"privacy": privacy(gallery, probes, files, config, given.workers)}
            if matted:
                blurs[name]["matting"] = matting_cost(matted, mattes, config)
            print(f"{name} done", file=sys.stderr)
    options = [f"--blurs {given.blurs}"] if given.blurs != ",".join(BLURS) else []
    figures = {
        "command": " ".join(["python benchmarks/privacy.py", *options]),
        "machine": facts,
        "blurs": blurs,
    }
    write_results(given.results, "privacy", figures, told(figures))
    plot(figures, given.results / "privacy.png")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except P3MError as error:
        sys.exit(f"privacy.py: {error}")
