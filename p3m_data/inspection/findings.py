"""What `validate` and `audit` say about a dataset: findings, what was looked at, and figures.

A finding names public things only. What shows a face (crops) or a source stays beside it on the private side.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, JsonValue

from p3m_data.storage.sentences import path_text
from p3m_data.types import Frozen

TIME_LIMIT = 600.0
"""Seconds for one picture, after which a worker is taken to hang."""

Level = Literal["fault", "note"]
Words = Annotated[str, AfterValidator(path_text)]
"""May name a file, whose name may be any bytes."""
OnProgress = Callable[[int, int], None]
"""Is told how many are done, of how many."""


def unheard(_done: int, _total: int) -> None:
    """Progress that nobody asked for."""


class Finding(Frozen):
    """One thing that is wrong (`fault`), or that a person should know but that is no fault (`note`)."""

    check: str
    """Name of the check in the `ABOUT` of its module."""
    where: Words
    """A public id, or a path relative to the dataset; empty when it concerns the whole dataset."""
    said: Words
    """One sentence: what is there, and what should be."""
    level: Level = "fault"
    value: float | None = None
    limit: float | None = None
    crop: str | None = None
    """Name of the picture that shows it, in the private report's folder."""


class Notes:
    """The findings of a part while it looks."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def say(
        self,
        check: str,
        where: str,
        said: str,
        level: Level = "fault",
        value: float | None = None,
        limit: float | None = None,
    ) -> None:
        self.findings.append(
            Finding(check=check, where=where, said=said, level=level, value=value, limit=limit)
        )


class Looked(Frozen):
    """That a check was made, and at how many things; or why not."""

    check: str
    at: int = 0
    why_not: str = ""
    """A sentence when it was not made, or not everywhere; empty when it was."""


class About(NamedTuple):
    """What a check is, for somebody who has to sign it off."""

    title: str
    proves: str
    does_not_prove: str


class Crop(NamedTuple):
    """A cut-out that shows a finding; private."""

    name: str
    jpeg: bytes


class Inspection(Frozen):
    """All that one run of `validate` or `audit` found; its JSON is what a script reads."""

    command: Literal["validate", "audit"]
    layout: str
    pictures: int
    code_version: str
    looked: tuple[Looked, ...]
    findings: tuple[Finding, ...]
    figures: dict[str, JsonValue] = Field(default_factory=dict)
    """Measured figures by the check that gives them."""

    @property
    def faults(self) -> int:
        return sum(finding.level == "fault" for finding in self.findings)

    @property
    def notes(self) -> int:
        return len(self.findings) - self.faults

    def to_json(self) -> str:
        """With the number of faults and notes first, for a script that needs no more."""
        counts = {"faults": self.faults, "notes": self.notes}
        return json.dumps(counts | self.model_dump(mode="json"), indent=2) + "\n"

    def counts(self, level: Level) -> Counter[str]:
        """Findings of `level` by check."""
        return Counter(finding.check for finding in self.findings if finding.level == level)
