"""All checks of `validate` and `audit` in the order in which they are told, and words for their figures."""

from __future__ import annotations

from collections.abc import Mapping

from p3m_data.inspection import audit, validate
from p3m_data.inspection.attacker import ALONE, ATTACKS, FILLED, WHOLE
from p3m_data.inspection.findings import About
from p3m_data.inspection.reidentify import BLURRED_GALLERY, BLURRED_WORDS

ABOUT: Mapping[str, Mapping[str, About]] = {"validate": validate.ABOUT, "audit": audit.ABOUT}

NAMED_BY_LABELS = ("groups",)
"""Checks whose figures bear names that somebody else gave: they are shown as they are."""

RECOGNITION_WORDS: Mapping[str, str] = {
    **ATTACKS,
    FILLED: "control: the mask in one colour",
    BLURRED_GALLERY: f"looked for {BLURRED_WORDS}",
    f"{BLURRED_GALLERY}_{FILLED}": "control of that",
    WHOLE: "Face with hair, forehead and background",
    ALONE: "Masked area alone",
    "probes": "blurred faces that were looked for",
    "people": "people whom they show",
    "gallery": "unblurred photos among which they were looked for",
    "chance": "What guessing gives",
    "unblurred": "The same with unblurred faces",
    "rank_1": "right at the first try",
    "rank_5": "right within five tries",
    "auc": "more like the person than like a stranger (guessing: 50 %)",
    "tar_at_far_0.001": "found, when 1 stranger in 1000 may be taken for the person "
    "(–: too few photos to tell)",
    "rank_1_above_control": "first try, above the control",
    "very_same_photo": "Led to the very photo that it was made from",
}

FIGURE_WORDS: Mapping[str, Mapping[str, str]] = {
    "dataset_empty": {"all": "pictures"},
    "matte_values": {
        "all": "all mattes",
        "mattes": "mattes",
        "background": "share of pixels that are background (0)",
        "soft": "share of pixels in between, such as hair",
        "opaque": "share of pixels that are the subject (255)",
        "hard": "mattes with nothing in between",
        "distinct_values": "different values in a matte",
        "histogram_16": "share of pixels in 16 equal steps from 0 to 255",
    },
    "residual_face": {
        "pictures_with_a_fault": "pictures with a fault",
        "detectors": "detector",
        "centerface": "CenterFace",
        "blazeface": "BlazeFace",
        "yunet": "YuNet",
        "dlib_hog": "dlib HOG",
        "dlib_cnn": "dlib CNN",
        "pictures_whose_masked_face_is_still_a_head": "pictures whose blurred face it still sees as a head "
        "(a head stays a head: this is no fault)",
        "seconds_a_picture": "seconds a picture",
        "detections_by_view": "what it saw, by how it was shown the picture",
        "masked": "on a mask",
        "unmasked": "elsewhere (mostly errors of the detector)",
        "x0.5": "at half size",
        "x1": "as it is",
        "x2": "at double size",
        "small": "at 640 pixels",
        **{f"turned {degrees}": f"turned by {degrees}°" for degrees in (30, 90, 180, 270, 330)},
    },
    "bystanders": {
        "pictures_with_bystanders": "pictures that show people beside the subject",
        "faces": "their faces",
        "how": "how these faces were masked",
        "not_masked": "of these not masked",
        "places_to_look_at": "places that a person should look at",
    },
    "groups": {
        "with_labels": "pictures with labels",
        "small": "fewer than 10, so not compared",
        "face_found": "a face and its landmarks were found",
        "waited_for_review": "waited for a person",
        "unmasked_face": "an unmasked face was found",
    },
    "reidentification": RECOGNITION_WORDS,
    "surroundings": RECOGNITION_WORDS,
    "foreign_bytes": {
        "files_with_foreign_parts": "files with something that is no pixel",
        "kinds": "what that is",
    },
    "file_times": {
        "distinct": "different times of change",
        "rank_correlation": "how far their order follows that of the sources (0: not at all, 1: it does)",
    },
}
"""Check -> what the names of its figures mean."""
