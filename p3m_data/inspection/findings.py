"""What `validate` and `audit` say about a dataset: findings, what was looked at, and figures.

A finding names public things only. What shows a face (crops) or a source stays beside it on the private side.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple

from pydantic import JsonValue

from p3m_data.types import Frozen

Level = Literal["fault", "note"]


class Finding(Frozen):
    """One thing that is wrong (`fault`), or that a person should know but that is no fault (`note`)."""

    check: str
    """Name of the check in the `ABOUT` of its module."""
    where: str
    """A public id, or a path relative to the dataset; empty when it concerns the whole dataset."""
    said: str
    """One sentence: what is there, and what should be."""
    level: Level = "fault"
    value: float | None = None
    limit: float | None = None
    crop: str | None = None
    """Name of the picture that shows it, in the private report's folder."""


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
    figures: dict[str, JsonValue] = {}
    """Measured figures by the check that gives them."""

    @property
    def faults(self) -> int:
        return sum(finding.level == "fault" for finding in self.findings)

    def counts(self, level: Level) -> Counter[str]:
        """Findings of `level` by check."""
        return Counter(finding.check for finding in self.findings if finding.level == level)
