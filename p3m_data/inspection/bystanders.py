"""Bystanders: faces that lie where the matte says that the subject is not, and how they were masked.

Fed with what `residual` saw, so that nothing is detected twice; unmasked bystanders are findings there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from p3m_data.inspection.findings import About, Finding, Looked
from p3m_data.inspection.residual import Person, Seen, is_beside
from p3m_data.inspection.statistics import rate, upper_bound

ABOUT: Mapping[str, About] = {
    "bystanders": About(
        "People beside the subject",
        "How many pictures show the face of somebody beside the subject, that is one over which the matte is "
        "below one half on average, how these faces were masked, and how many of them are not.",
        "That these are all: bystanders whom no detector sees are in no figure, and bystanders whom the matte "
        "takes for the subject count as the subject.",
    ),
}

NAMES = {
    "landmarks": "masked by landmarks",
    "ellipse": "masked by an ellipse",
    "person": "masked by a person",
    "facemask": "masked",
    "unmasked": "not masked",
}


class Bystanders(NamedTuple):
    findings: list[Finding]
    looked: list[Looked]
    figures: dict[str, JsonValue]


def bystanders(seen: Sequence[Seen]) -> Bystanders:
    """What `seen` tells of people beside the subject. A note for each picture in which one may be unmasked is
    `residual`'s; here is one more, for the whole dataset, when bystanders were found unmasked.
    """
    looked = [one for one in seen if one.seconds]
    with_matte = [one for one in looked if any(person.alpha is not None for person in one.people)]
    beside = {one.where: [p for p in one.people if is_bystander(p)] for one in with_matte}
    certain = {where: [p for p in people if p.level != "note"] for where, people in beside.items()}
    faces = [person for people in certain.values() for person in people]
    exposed = [person for person in faces if person.how == "unmasked"]
    how = Counter(NAMES[person.how] for person in faces)
    figures: dict[str, JsonValue] = {
        "pictures_with_bystanders": dict(rate(sum(map(bool, certain.values())), len(with_matte)).figure()),
        "faces": len(faces),
        "how": dict(sorted(how.items())),
        "not_masked": {
            **rate(len(exposed), len(faces)).figure(),
            "upper_bound": round(upper_bound(len(exposed), len(faces)), 6),
        },
        "places_to_look_at": sum(len(beside[where]) - len(certain[where]) for where in beside),
    }
    findings = []
    if exposed:
        share = rate(len(exposed), len(faces))
        findings.append(
            Finding(
                check="bystanders",
                where="",
                said=f"bystanders are not masked: {share.words} of their faces",
                level="note",
                value=share.share,
                limit=0.0,
            )
        )
    without = len(looked) - len(with_matte)
    why_not = f"{without} pictures have no matte, or no face in them" if without else ""
    return Bystanders(findings, [Looked(check="bystanders", at=len(with_matte), why_not=why_not)], figures)


def is_bystander(person: Person) -> bool:
    return is_beside(person.alpha)
