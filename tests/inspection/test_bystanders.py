"""People beside the subject, counted from made-up looks."""

from __future__ import annotations

from collections import Counter

import pytest

from p3m_data.inspection.bystanders import ABOUT, bystanders
from p3m_data.inspection.residual import Person, Seen

SUBJECT = Person("landmarks", None, 0.98)


def look(where: str, *people: Person, seconds: float = 1.0) -> Seen:
    taken = {"centerface": seconds} if seconds else {}
    return Seen(where, (), (), people, Counter(), frozenset(), taken)


def test_faces_beside_the_subject_are_counted_by_how_they_are_masked() -> None:
    found = bystanders(
        [
            look("a", SUBJECT),
            look("b", SUBJECT, Person("ellipse", None, 0.0), Person("landmarks", None, 0.4)),
            look("c", SUBJECT, Person("ellipse", None, 0.1)),
            look("d", Person("landmarks", None, None)),
            look("e", seconds=0),
        ]
    )
    assert found.figures["pictures_with_bystanders"] == pytest.approx(
        {"hits": 2, "of": 3, "low": 0.207655, "high": 0.938510}, abs=1e-5
    )
    assert found.figures["faces"] == 3
    assert found.figures["how"] == {"masked by an ellipse": 2, "masked by landmarks": 1}
    assert found.findings == []
    (looked,) = found.looked
    assert (looked.check, looked.at) == ("bystanders", 3)
    assert looked.why_not.startswith("1 pictures have no matte")
    assert ABOUT.keys() == {looked.check}


def test_unmasked_bystanders_and_places_that_may_be_some() -> None:
    found = bystanders(
        [
            look("a", SUBJECT, Person("unmasked", "fault", 0.2), Person("facemask", None, 0.0)),
            look("b", SUBJECT, Person("unmasked", "note", 0.0)),
            look("c", Person("unmasked", "fault", 0.9)),  # the subject's own
        ]
    )
    assert found.figures["places_to_look_at"] == 1
    assert found.figures["how"] == {"masked": 1, "not masked": 1}
    (finding,) = found.findings
    assert finding.level == "note"
    assert (finding.check, finding.where, finding.value) == ("bystanders", "", 0.5)
    assert "1 of 2" in finding.said


def test_nothing_was_looked_at() -> None:
    found = bystanders([])
    assert found.findings == []
    assert found.looked[0].at == 0
    assert found.figures["not_masked"] == {"hits": 0, "of": 0, "low": 0.0, "high": 1.0, "upper_bound": 1.0}
