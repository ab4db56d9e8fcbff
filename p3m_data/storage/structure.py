"""What a JPEG or PNG holds beside its pixels, by a whitelist: whatever is not needed to decode them is named.

The scans of a JPEG are decoded as far as Huffman codes go, and the stream of a PNG is inflated, so that bytes
behind the last pixel are seen also where they look like more of the same.
"""

from __future__ import annotations

from p3m_data.storage.jpeg_structure import Jpeg
from p3m_data.storage.parts import SIGNATURES, Part
from p3m_data.storage.png_structure import Png

SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


def foreign_parts(data: bytes, suffix: str) -> list[Part]:
    """Whatever a file named `*suffix` holds but 8-bit grey or colour pixels; empty when there is nothing else.

    Bytes that are neither JPEG nor PNG, or that cannot be followed to their end, are such a part, too.
    """
    kind = next((kind for kind, start in SIGNATURES.items() if data.startswith(start)), None)
    expected = SUFFIXES.get(suffix.lower())
    parts = []
    if kind is None or kind != expected:
        what = f"{kind or 'neither JPEG nor PNG'} data under the suffix {suffix or '(none)'}"
        parts.append(Part(what, 0, len(data)))
    if kind == "JPEG":
        parts += Jpeg(data).judge()
    elif kind == "PNG":
        parts += Png(data).judge()
    return parts
