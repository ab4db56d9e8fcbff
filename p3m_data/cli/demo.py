"""Sample photos for `make demo`: pictures that the scikit-image package carries, so nothing is downloaded."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIDEWAYS = 6  # EXIF: the camera was held upright, its sensor lay on the side
ORIENTATION = 0x0112


def write_photos(folder: Path) -> None:
    """A portrait as camera and scanner would leave it, and pictures in which nobody's face is seen."""
    from skimage import data

    folder.mkdir(parents=True, exist_ok=True)
    astronaut = Image.fromarray(data.astronaut())
    astronaut.save(folder / "astronaut.png")
    exif = Image.Exif()
    exif[ORIENTATION] = SIDEWAYS
    astronaut.rotate(90, expand=True).save(folder / "astronaut_phone.jpg", quality=92, exif=exif)
    astronaut.convert("L").save(folder / "astronaut_grey.jpg", quality=85)
    pair = np.hstack([data.astronaut()[:300, 60:360], data.astronaut()[:300, 360:59:-1]])
    Image.fromarray(pair).save(folder / "two_people.jpg", quality=95)
    Image.fromarray(data.camera()).save(folder / "man_with_camera.png")
    Image.fromarray(data.chelsea()).save(folder / "cat.png")
    Image.fromarray(data.coffee()).save(folder / "coffee.jpg", quality=90)


if __name__ == "__main__":
    write_photos(Path(sys.argv[1]))
