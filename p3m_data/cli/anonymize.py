"""`p3mdata anonymize`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from p3m_data.stages.config import AnonymizeConfig

FOLDER = click.Path(path_type=Path)
PLACES = {
    "landmarks": ("detect", "landmarks"),
    "detectors": ("detect", "detectors"),
    "min_face": ("detect", "proposals", "min_face"),
    "method": ("blur", "method"),
    "strength": ("blur", "strength"),
    "container": ("container",),
    "accept_no_face": ("accept_no_face",),
}
"""Option -> where the configuration has it."""


@click.command(
    epilog="Example: p3mdata anonymize photos/ -o OUT --mattes mattes/   (look at OUT.private/report.html then)"
)
@click.argument("photos", type=FOLDER)
@click.option("-o", "--output", type=FOLDER, help="Public folder to make.  [default: PHOTOS.anonymized]")
@click.option("--mattes", type=FOLDER, help="Folder with the alpha mattes, named like the photos.")
@click.option("--work", type=FOLDER, help="Private folder for ledger and review.  [default: OUTPUT.private]")
@click.option(
    "--landmarks",
    type=click.Choice(["mediapipe", "face-alignment", "both"]),
    help="Who finds the landmarks; both: must agree.  [default: mediapipe]",
)
@click.option(
    "--detector",
    "detectors",
    type=click.Choice(["centerface", "blazeface", "yunet"]),
    multiple=True,
    help="Who proposes faces; may be repeated.  [default: centerface and blazeface]",
)
@click.option("--min-face", type=click.IntRange(8), help="Smallest face looked for, pixels.  [default: 16]")
@click.option(
    "--method",
    type=click.Choice(["hardened", "gaussian", "mosaic", "fill"]),
    help="What is done to faces.  [default: hardened]",
)
@click.option(
    "--strength",
    type=click.FloatRange(0.05, 2),
    help="Sigma as a share of the face's width.  [default: 0.15]",
)
@click.option(
    "--png",
    "container",
    flag_value="png",
    help="Write every picture lossless; without it a JPEG stays a JPEG.",
)
@click.option("--accept-no-face", is_flag=True, help="Publish pictures in which no face was found, unseen.")
@click.option("--config", "config_file", type=FOLDER, help="YAML file with all settings (see pipelines/).")
@click.option(
    "--weights", "weights_by_path", multiple=True, metavar="NAME=FILE", help="Use this weights file."
)
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: one for each CPU]")
@click.option(
    "--time-limit",
    type=click.IntRange(0, 1_000_000),
    default=600,
    metavar="SECONDS",
    help="A picture that takes longer, twice, has failed; 0: no limit.  [default: 600]",
)
@click.option("--retry-failed", is_flag=True, help="Try pictures again that failed in an earlier run.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def anonymize(
    photos: Path,
    output: Path | None,
    mattes: Path | None,
    work: Path | None,
    config_file: Path | None,
    weights_by_path: tuple[str, ...],
    workers: int | None,
    time_limit: int,
    retry_failed: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Blur every face in a folder of portraits.

    Faces in PHOTOS are found and blurred; hair and everything else that a matte is judged on stays as it
    is. What the machine is not sure of is not published but waits for a person. Run the same command again
    to go on where it was stopped.
    """
    from p3m_data.cli.progress import Meter, report
    from p3m_data.pipeline.dataset import Dataset
    from p3m_data.stages.run import anonymize_folder

    dataset = Dataset.at(output or _beside(photos), work)
    config = _config(config_file, settings)
    with Meter(quiet=as_json) as meter:
        anonymize_folder(
            photos,
            dataset,
            config,
            mattes=mattes,
            workers=workers or _cpus(),
            retry_failed=retry_failed,
            time_limit=time_limit or None,
            weights_by_path=_named_paths(weights_by_path),
            on_progress=meter.show,
            on_note=meter.note,
        )
    click.get_current_context().exit(report(dataset, config.blur, as_json=as_json))


def _config(file: Path | None, settings: dict[str, Any]) -> AnonymizeConfig:
    """The settings of `file`, overruled by those given on the command line."""
    from p3m_data.stages.config import AnonymizeConfig
    from p3m_data.storage.settings import read_settings

    config = read_settings(file, AnonymizeConfig) if file else AnonymizeConfig()
    values = config.model_dump()
    for name, value in settings.items():
        if value:
            *sections, key = PLACES[name]
            section = values
            for part in sections:
                section = section[part]
            section[key] = value
    return AnonymizeConfig.model_validate(values)


def _beside(photos: Path) -> Path:
    # the folder's own name, also for "." and "photos/"
    folder = photos.resolve()
    if not folder.name:
        raise click.UsageError(f"name an output folder for the photos in {folder} with -o")
    return folder.with_name(folder.name + ".anonymized")


def _named_paths(pairs: tuple[str, ...]) -> dict[str, Path]:
    for pair in pairs:
        if "=" not in pair:
            raise click.UsageError(f"--weights takes NAME=FILE, not {pair!r}")
    return {name: Path(file) for name, file in (pair.split("=", 1) for pair in pairs)}


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
