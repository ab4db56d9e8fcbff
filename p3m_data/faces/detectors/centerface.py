"""CenterFace: anchor-free detector with landmarks (Xu et al., arXiv 1911.03599), run by OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from p3m_data.arrays import UInt8Array
from p3m_data.faces.detectors import SCORE, Detections, no_detections

STRIDE = 4  # the heat map has one cell for 4 x 4 pixels
MULTIPLE = 32  # the network wants sides that divide by 32
OVERLAP = 0.3  # of two boxes with more IoU than this the lower score goes
FLOOR = 0.15  # scores below are noise and never returned


class CenterFace:
    accept = 0.45
    support = 0.35
    hint = 0.25
    whole_only = False

    def __init__(self, weights: Path) -> None:
        self._net = cv2.dnn.readNetFromONNX(str(weights))
        self._outputs = self._net.getUnconnectedOutLayersNames()

    def __call__(self, image: UInt8Array) -> Detections:
        height, width = image.shape[:2]
        padded_size = (-(-width // MULTIPLE) * MULTIPLE, -(-height // MULTIPLE) * MULTIPLE)
        padded = np.zeros((padded_size[1], padded_size[0], 3), np.uint8)
        padded[:height, :width] = image
        self._net.setInput(cv2.dnn.blobFromImage(padded))
        heat, scale, offset, points = (out[0] for out in self._net.forward(self._outputs))

        rows, cols = np.nonzero(heat[0] > FLOOR)
        if not rows.size:
            return no_detections()
        cell = (slice(None), rows, cols)
        h, w = np.exp(scale[cell]) * STRIDE
        y0 = (rows + offset[cell][0] + 0.5) * STRIDE - h / 2
        x0 = (cols + offset[cell][1] + 0.5) * STRIDE - w / 2
        found = np.empty((rows.size, 15))
        found[:, :4] = np.stack([x0, y0, x0 + w, y0 + h], axis=1)
        found[:, 4:14:2] = x0[:, None] + points[cell][1::2].T * w[:, None]
        found[:, 5:14:2] = y0[:, None] + points[cell][0::2].T * h[:, None]
        found[:, SCORE] = heat[0, rows, cols]
        boxes = np.stack([x0, y0, w, h], axis=1)
        keep = cv2.dnn.NMSBoxes(boxes.tolist(), found[:, SCORE].tolist(), FLOOR, OVERLAP)
        kept: Detections = found[np.asarray(keep, int).ravel()]
        return kept
