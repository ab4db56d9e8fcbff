"""Whether times of change tell the order of the sources, on shuffled and on ordered ones."""

from __future__ import annotations

import os

import numpy as np
import pytest

from p3m_data.inspection.file_times import check_times
from p3m_data.inspection.findings import Notes
from p3m_data.inspection.private_side import Private
from p3m_data.inspection.public_tree import Entry


def _entries(names: list[str], times: list[int]) -> list[Entry]:
    facts = [
        os.stat_result((0o100644, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0.0, float(t), 0.0, 0, t, 0)) for t in times
    ]
    return [Entry(f"{name}.jpg", fact) for name, fact in zip(names, facts, strict=True)]


@pytest.mark.parametrize("pictures", [12, 40, 400])
def test_chance_alone_is_no_order(pictures: int) -> None:
    rng = np.random.default_rng(pictures)
    names = [f"p_{number:08x}" for number in range(pictures)]
    known = Private(
        order={name: number for number, name in enumerate(names)},
        times={name: (int(rng.integers(2**40)),) for name in names},
        rows={},
        names=frozenset(),
        places=frozenset(),
    )

    def faults(times: list[int]) -> int:
        notes = Notes()
        check_times(_entries(names, times), known, notes)
        return sum(finding.level == "fault" for finding in notes.findings)

    shuffled = [rng.permutation(pictures).tolist() for _ in range(200)]
    assert sum(faults(times) for times in shuffled) <= 2
    # two workers, or a neighbour that takes longer, hide no order
    assert faults([number ^ 1 for number in range(pictures)]) == 1


def test_pictures_whose_sources_are_forgotten_have_no_order() -> None:
    names = [f"p_{number:08x}" for number in range(6)]
    known = Private(
        dict(zip(names, range(6), strict=True)), dict.fromkeys(names, ()), {}, frozenset(), frozenset()
    )
    notes = Notes()
    figures = check_times(_entries(names, list(range(6))), known, notes)
    assert figures == {"distinct": 6, "rank_correlation": 0.0}
    assert [(f.check, f.level) for f in notes.findings] == [("file_times", "note")]
