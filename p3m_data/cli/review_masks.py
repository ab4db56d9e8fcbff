"""`p3mdata review import-mask | export`: masks that are drawn with another tool."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from p3m_data.cli.review import (
    FAILED,
    FOLDER,
    acting,
    filters,
    is_id,
    on_behalf,
    open_desk,
    printable,
    private_folder,
    queued,
    split,
)
from p3m_data.cli.review_decide import carry_out, note_option, waive_option

if TYPE_CHECKING:
    from p3m_data.arrays import BoolArray
    from p3m_data.errors import UsageError
    from p3m_data.stages.review import Desk
    from p3m_data.storage.masks import Size

FORMATS = ("png", "coco", "labelme")
SUFFIXES = {"png": ".png", "coco": ".json", "labelme": ".json"}
COCO_FILE = "annotations.json"
WHOLE = 1_000_000
"""Longer than any picture's side: layers are never enlarged."""


class Found(NamedTuple):
    """A mask that a file holds."""

    label: str
    """The file, and in COCO the picture's name in it."""
    id: str
    read: Callable[[Size], BoolArray]
    """The (H, W) mask for the picture's size; `UsageError` when it is malformed or does not fit."""


@click.command("import-mask")
@click.argument("words", nargs=-1, metavar="[DATASET] FILE...", required=True)
@click.option("--format", "form", type=click.Choice(FORMATS), help="Of the files.  [default: as they look]")
@click.option("--dry-run", is_flag=True, help="Only tell what would be decided.")
@note_option
@waive_option
@on_behalf
def import_mask(
    words: tuple[str, ...],
    form: str | None,
    dry_run: bool,
    note: str,
    waive: tuple[str, ...],
    work: Path | None,
    reviewer: str | None,
    as_json: bool,
) -> None:
    """Decide with masks from another tool.

    FILE is a PNG, a COCO or a labelme JSON file, or a folder of them; a folder that comes before other words is
    the dataset. A PNG or labelme file belongs to the picture whose id is its name, and so does a picture's
    name in COCO. All shapes of a picture are united. A mask without a pixel decides nothing. The exit code
    is 0 when all was decided, 1 when something was sent back or not drawn, and 3 when a file was bad.

    \b
    Example:
      p3mdata review import-mask OUT drawn/ --dry-run
      p3mdata review import-mask OUT drawn/p_2624821b194c6c57.png
      p3mdata review import-mask OUT annotations.json --format coco
    """
    dataset, places = _dataset_first([Path(word) for word in words])
    who = acting(reviewer)
    found, problems = _collect(places, form)

    def act(label: str) -> dict[str, Any]:
        if label in problems:
            raise problems[label]
        return _import(desk, found[label], who, dry_run=dry_run, note=note, waive=waive)

    with open_desk(dataset, work) as desk:
        code = carry_out([*problems, *found], act, as_json=as_json, key="file")
    click.get_current_context().exit(code)


def _dataset_first(paths: list[Path]) -> tuple[Path, list[Path]]:
    if len(paths) > 1 and paths[0].is_dir():
        return paths[0], paths[1:]
    return Path(), paths


def _collect(places: Sequence[Path], form: str | None) -> tuple[dict[str, Found], dict[str, UsageError]]:
    """The masks in all files, and what is wrong with files and masks, each by its label."""
    from p3m_data.errors import UsageError

    found: dict[str, Found] = {}
    problems: dict[str, UsageError] = {}
    for file in dict.fromkeys(_files(places, form)):
        try:
            found |= {mask.label: mask for mask in _masks_in(file, form)}
        except UsageError as error:
            problems[str(file)] = error
    times = Counter(mask.id for mask in found.values())
    for mask in found.values():
        if not is_id(mask.id):
            problems[mask.label] = UsageError(
                f"{mask.label} is not named like a picture; give it the id as its name (p_ and 16 hex digits)"
            )
        elif times[mask.id] > 1:
            problems[mask.label] = UsageError(
                f"{mask.label} is one of {times[mask.id]} masks for the same picture; leave the others out"
            )
    return {label: mask for label, mask in found.items() if label not in problems}, problems


def _files(places: Sequence[Path], form: str | None) -> Iterator[Path]:
    """The files that are named, and those in named folders that end like one of a format."""
    from p3m_data.errors import UsageError

    suffixes = {SUFFIXES[form]} if form else set(SUFFIXES.values())
    for place in places:
        if not place.is_dir():
            yield place
            continue
        inside = [
            file
            for file in sorted(place.rglob("*"))
            if file.suffix.lower() in suffixes
            and not any(p.startswith(".") for p in file.relative_to(place).parts)
        ]
        if not inside:
            raise UsageError(f"{place} holds no masks (files that end in {' or '.join(sorted(suffixes))})")
        yield from inside


def _masks_in(file: Path, form: str | None) -> Iterator[Found]:
    """The masks of one file; `UsageError` when it is malformed."""
    from p3m_data.storage import annotations, coco, labelme, masks

    name, data = str(file), masks.read_file(file)
    if form == "png" or (form is None and file.suffix.lower() == ".png"):
        yield Found(name, file.stem, partial(masks.load_png_mask, data, name))
        return
    document = annotations.parse_annotations(data, name)
    if (form or annotations.json_format(document, name)) == "labelme":
        yield Found(name, file.stem, partial(labelme.labelme_mask, document, name))
        return
    for stem, image in coco.coco_images(document, name).items():
        label = f"{name}: {stem}"
        yield Found(label, stem, partial(coco.coco_mask, image, label))


def _import(
    desk: Desk, found: Found, reviewer: str, *, dry_run: bool, note: str, waive: tuple[str, ...]
) -> dict[str, Any]:
    detail = desk.detail(found.id, reviewer)
    size = detail["width"], detail["height"]
    mask = found.read(size)
    facts: dict[str, Any] = {"id": found.id, "file": found.label, "area": int(mask.sum())}
    if not facts["area"]:
        said = "nothing is drawn; where no face can be seen, do: p3mdata review no-face"
        return {**facts, "outcome": "not_drawn", "said": said, "findings": []}
    if dry_run:
        facts["protected"] = int((mask & _transition(desk, found.id, size, reviewer)).sum())
        said = f"{facts['area']:,} pixels masked, {facts['protected']:,} of them in the transition area"
        return {**facts, "outcome": "would_decide", "said": said, "findings": []}
    return {**facts, **desk.decide(found.id, reviewer, "mask", mask=mask, note=note, waive=waive)}


def _transition(desk: Desk, name: str, size: Size, reviewer: str) -> BoolArray:
    from p3m_data.storage.masks import load_png_mask

    return load_png_mask(desk.layer(name, "transition", max(size), reviewer=reviewer), name, size)


@click.command()
@click.argument("words", nargs=-1, metavar="[DATASET] [ID]...")
@click.option("-o", "--output", type=FOLDER, required=True, help="Private folder to write to.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="png", show_default=True, help="Of the masks."
)
@click.option("--with-pictures", is_flag=True, help="Write the unblurred pictures, too.")
@filters
@on_behalf
def export(
    words: tuple[str, ...],
    output: Path,
    form: str,
    with_pictures: bool,
    state: str | None,
    reason: str | None,
    work: Path | None,
    reviewer: str | None,
    as_json: bool,
) -> None:
    """Write the suggested masks for another tool.

    Of the pictures that are named, else of all that wait (or of --state and --reason). --with-pictures adds
    the pictures themselves, upright and without metadata. They show faces, so they leave the private side
    only when that is asked for. A file that is there already is kept: it may have been worked on. What was
    drawn comes back with p3mdata review import-mask. The exit code is 3 when a picture could not be opened.

    \b
    Example:
      p3mdata review export OUT -o ~/drawing --format labelme --with-pictures
      p3mdata review export OUT p_2624821b194c6c57 -o ~/drawing
    """
    dataset, ids = split(words)
    if ids and (state or reason):
        raise click.UsageError("name pictures by their ids, or choose with --state and --reason")
    who = acting(reviewer)
    with open_desk(dataset, work) as desk:
        real = private_folder(output, desk.dataset)
        if not ids:
            ids = [item["id"] for item in queued(desk, who, state or "waiting", reason)]
        writer = Writer(desk, real, who)
        if form == "coco":
            writer.coco(ids, with_pictures=with_pictures)
        else:
            writer.one_by_one(ids, form, with_pictures=with_pictures)
    facts = {
        "folder": str(real),
        "format": form,
        "pictures": len(ids),
        "written": writer.written,
        "kept": writer.kept,
        "failed": writer.failed,
    }
    if with_pictures and ids:
        click.echo(f"p3mdata: the pictures in {output} show faces; remove them when you are done", err=True)
    click.echo(json.dumps(facts, indent=2) if as_json else _summary(facts))
    click.get_current_context().exit(FAILED if writer.failed else 0)


def _summary(facts: dict[str, Any]) -> str:
    kept = f"; {facts['kept']} were there already and are as they were" if facts["kept"] else ""
    return f"{facts['written']} files for {facts['pictures']} pictures written to {facts['folder']}{kept}"


class Writer:
    """Writes what `desk` suggests to `folder`; counts the files."""

    def __init__(self, desk: Desk, folder: Path, reviewer: str) -> None:
        self._desk = desk
        self._folder = folder
        self._reviewer = reviewer
        self.written = self.kept = self.failed = 0

    def one_by_one(self, names: Sequence[str], form: str, *, with_pictures: bool) -> None:
        """A PNG or a labelme file for each picture."""
        from p3m_data.errors import UsageError

        for name in names:
            try:
                self._write(f"{name}{SUFFIXES[form]}", partial(self._mask_file, name, form))
                if with_pictures:
                    self._write_picture(name)
            except UsageError as error:
                self._tell(error)

    def coco(self, names: Sequence[str], *, with_pictures: bool) -> None:
        """One file for all pictures, written last."""
        from p3m_data.errors import UsageError
        from p3m_data.storage.annotations import json_bytes
        from p3m_data.storage.coco import coco_document

        def pairs() -> Iterator[tuple[str, BoolArray]]:
            for name in names:
                try:
                    mask = self._desk.suggestion(name)
                    if with_pictures:
                        self._write_picture(name)
                except UsageError as error:
                    self._tell(error)
                else:
                    yield f"{name}.jpg", mask

        file = self._folder / COCO_FILE
        data = json_bytes(coco_document(pairs()))
        if file.exists() and file.read_bytes() != data:
            raise UsageError(f"{file} holds other masks and is kept; name a new folder")
        self._write(COCO_FILE, lambda: data)

    def _tell(self, error: UsageError) -> None:
        self.failed += 1
        click.echo(f"p3mdata: {printable(error)}", err=True)

    def _mask_file(self, name: str, form: str) -> bytes:
        from p3m_data.storage.annotations import json_bytes
        from p3m_data.storage.labelme import labelme_document
        from p3m_data.storage.masks import encode_png_mask

        mask = self._desk.suggestion(name)
        return encode_png_mask(mask) if form == "png" else json_bytes(labelme_document(f"{name}.jpg", mask))

    def _write_picture(self, name: str) -> None:
        # not PNG: import-mask would take a PNG of that name for a mask
        self._write(f"{name}.jpg", lambda: self._desk.layer(name, "original", WHOLE, reviewer=self._reviewer))

    def _write(self, file: str, make: Callable[[], bytes]) -> None:
        from p3m_data.storage.folders import write_atomic

        if (self._folder / file).exists():
            self.kept += 1
            return
        write_atomic(self._folder / file, make())
        self.written += 1
