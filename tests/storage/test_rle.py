from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p3m_data.arrays import BoolArray
from p3m_data.errors import UsageError
from tests.storage import MASKS, coco, from_coco, size_of


def brute_counts(mask: BoolArray) -> list[int]:
    """COCO's runs by walking down one column after the other."""
    counts, value = [0], False
    for x in range(mask.shape[1]):
        for y in range(mask.shape[0]):
            if bool(mask[y, x]) != value:
                counts.append(0)
                value = not value
            counts[-1] += 1
    return counts


@given(MASKS)
def test_runs_in_plain_numbers(mask: BoolArray) -> None:
    rle = {"size": list(mask.shape), "counts": brute_counts(mask)}
    size = size_of(mask)
    document = coco(rle, width=size[0], height=size[1])
    assert np.array_equal(from_coco(document, size), mask)


@given(st.lists(st.integers(0, 2**17), min_size=1, max_size=9))
def test_long_runs_as_another_implementation_packs_them(counts: list[int]) -> None:
    from pycocotools.mask import frPyObjects

    counts[0] += 1
    total = sum(counts)
    packed = frPyObjects({"size": [1, total], "counts": counts}, 1, total)["counts"].decode()
    document = coco({"size": [1, total], "counts": packed}, width=total, height=1)
    expected = np.concatenate([np.full(count, n % 2, bool) for n, count in enumerate(counts)])
    assert np.array_equal(from_coco(document, (total, 1))[0], expected)


HUGE = 10**400
BAD_RUNS = {
    "runs of another size": (coco({"size": [7, 5], "counts": [35]}), "another size .* 7 x 5"),
    "runs too short": (coco({"size": [5, 7], "counts": [34]}), "does not fill"),
    "runs too long": (coco({"size": [5, 7], "counts": [30, 6]}), "does not fill"),
    "a run below 0": (coco({"size": [5, 7], "counts": [40, -5]}), "does not fill"),
    "a huge run": (coco({"size": [5, 7], "counts": [HUGE]}), "does not fill"),
    "runs whose sum wraps": (coco({"size": [5, 7], "counts": [2**62] * 4 + [35]}), "does not fill"),
    "a run that is no number": (coco({"size": [5, 7], "counts": ["35"]}), "does not fill"),
    "no runs": (coco({"size": [5, 7]}), "does not fill"),
    "packed runs, none": (coco({"size": [5, 7], "counts": ""}), "does not fill"),
    "packed runs, too short": (coco({"size": [5, 7], "counts": "1"}), "does not fill"),
    "packed runs, too long": (coco({"size": [5, 7], "counts": "oooooo0"}), "does not fill"),
    "packed runs, never ending": (coco({"size": [5, 7], "counts": "PPPP"}), "does not fill"),
    "packed runs, a number of 40 digits": (coco({"size": [5, 7], "counts": "P" * 40 + "1"}), "does not fill"),
    "packed runs, other characters": (coco({"size": [5, 7], "counts": "S\u00e91\x00"}), "does not fill"),
}


@pytest.mark.parametrize("which", BAD_RUNS)
def test_bad_runs_are_a_sentence(which: str) -> None:
    document, words = BAD_RUNS[which]
    with pytest.raises(UsageError, match=words) as caught:
        from_coco(document)
    assert str(caught.value).startswith("m.json ")
    assert len(str(caught.value)) < 600
