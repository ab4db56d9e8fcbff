"""Cut-outs that show what a finding is about, for the private report."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np

from p3m_data.arrays import UInt8Array
from p3m_data.inspection.findings import Crop
from p3m_data.storage.sentences import path_text
from p3m_data.types import Box

SHOWN = 320  # pixels of a crop's side
LONGEST = 180  # bytes of a path in a crop's name; file systems take 255 in all


def cut_out(image: UInt8Array, box: Box, name: str) -> Crop:
    """The place around `box` in `image` ((H, W, 3) uint8 RGB), with the box drawn, as JPEG."""
    x0, y0, x1, y1 = box
    middle, side = np.array([x0 + x1, y0 + y1]) / 2, max(x1 - x0, y1 - y0) * 1.25
    left, top = np.maximum(np.floor(middle - side), 0).astype(int)
    right, bottom = np.ceil(middle + side).astype(int)
    cut = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    factor = SHOWN / max(cut.shape[:2])
    shown = cv2.cvtColor(cv2.resize(cut, None, fx=factor, fy=factor), cv2.COLOR_RGB2BGR)
    corners = np.round((np.array(box).reshape(2, 2) - [left, top]) * factor).astype(int).tolist()
    cv2.rectangle(shown, corners[0], corners[1], (0, 0, 255), 2)
    return Crop(name, cv2.imencode(".jpg", shown)[1].tobytes())


def crop_name(where: str, number: int) -> str:
    """The file name of crop `number` (0 or more) of the picture that findings call `where`."""
    name = path_text(where).replace("/", "_").replace("\\", "_")
    if len(name.encode()) > LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        name = f"{name.encode()[:LONGEST].decode(errors='ignore')}_{digest}"
    return f"residual_{name}_{number}.jpg"
