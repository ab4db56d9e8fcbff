"""What the program's own terms mean, for readers of a report who have never seen it."""

from __future__ import annotations

from p3m_data.faces.obfuscation import Method

CHECK_WORDS: dict[str, str] = {
    "size": "numbers in the finished picture, as many as in the source",
    "transition_untouched": "pixels of hair and other fine edges that are masked",
    "outside_identical": "pixels outside the mask that changed",
    "outside_mean": "mean change away from the mask, in brightness levels of 255",
    "outside_changed": "share of pixels away from the mask that changed visibly",
    "detail_left": "facial detail left inside a mask, in brightness levels of 255",
    "faces_left": "faces found in the finished picture that are not masked",
}
"""What the value of each check of the stage `verify` counts."""

HOW_WORDS: dict[str, str] = {
    "landmarks": "masked along cheeks and brows",
    "ellipse": "masked by an ellipse",
    "person": "masked by a reviewer",
    "none": "not masked",
}

METHOD_WORDS: dict[Method, str] = {
    "hardened": "averaged over cells twice as wide as the blur's strength, then blurred; "
    "what the cells threw away cannot be computed back",
    "gaussian": "a plain Gaussian blur, which can partly be undone by computation",
    "mosaic": "averaged over cells twice as wide as the blur's strength (a mosaic)",
    "fill": "filled with one colour",
}
