"""How sure a figure is: intervals of rates, a bootstrap over groups, and the curves of recognition.

Scores are likenesses: the higher, the more alike. All functions are pure; the bootstrap takes a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from math import sqrt
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from p3m_data.pipeline.decisions import miss_rate_bound

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
Values = Sequence[str] | Sequence[int]


class Rate(NamedTuple):
    """A share, and the interval that holds the true one with a confidence of 95 %."""

    hits: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        """None of nothing."""
        return self.hits / self.of if self.of else None

    @property
    def words(self) -> str:
        if not self.of:
            return "0 of 0"
        return f"{self.hits} of {self.of} ({self.hits / self.of:.1%}, 95 % interval {self.low:.1%} to {self.high:.1%})"

    def figure(self) -> dict[str, int | float]:
        """As it stands in a JSON report."""
        return {"hits": self.hits, "of": self.of, "low": round(self.low, 6), "high": round(self.high, 6)}


def rate(hits: int, of: int, level: float = 0.95) -> Rate:
    """A share with its Wilson interval (Wilson, JASA 1927); of nothing it is (0, 1).

    `ValueError` unless 0 <= hits <= of and `level` lies in (0, 1).
    """
    if not 0 <= hits <= of:
        raise ValueError(f"{hits} of {of} is no share")
    _check_level(level)
    if not of:
        return Rate(hits, of, 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    # at its ends the formula leaves a rounding error behind
    low = 0.0 if hits == 0 else max(middle - half, 0.0)
    high = 1.0 if hits == of else min(middle + half, 1.0)
    return Rate(hits, of, low, high)


def upper_bound(hits: int, of: int) -> float:
    """The one-sided 95 % upper bound of a rate (Clopper and Pearson); for "none was found" in particular."""
    return miss_rate_bound(hits, of)


def clustered_bootstrap(
    values: npt.ArrayLike,
    groups: Sequence[Hashable],
    statistic: Callable[[Any], Any] = np.mean,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """The percentile interval of `statistic` of `values` (N,) when whole groups are drawn, with replacement.

    Pictures of one person are alike; to draw them one by one would make the interval too narrow. The result
    is the same for the same arguments. With a single group both ends are the statistic itself, which says
    nothing about its spread. `ValueError` for no values and for `groups` of another length.
    """
    _check_level(level)
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size or len(groups) != array.size or draws < 1:
        raise ValueError(f"{array.shape} values in {len(groups)} groups cannot be drawn {draws} times")
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    clusters = [array[indices] for indices in members.values()]
    sums = np.array([cluster.sum() for cluster in clusters])
    sizes = np.array([cluster.size for cluster in clusters])
    random = np.random.default_rng(seed)
    found = np.empty(draws)
    for draw in range(draws):
        chosen = random.integers(0, len(clusters), len(clusters))
        if statistic is np.mean:  # without copying all values again and again
            found[draw] = sums[chosen].sum() / sizes[chosen].sum()
        else:
            found[draw] = statistic(np.concatenate([clusters[i] for i in chosen]))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def roc_auc(genuine: npt.ArrayLike, impostor: npt.ArrayLike) -> float:
    """The chance that a genuine pair is more alike than an impostor pair; ties count half.

    genuine: (N,), impostor: (M,) likenesses, finite. 0.5 is guessing. `ValueError` when one is empty.
    """
    same, other = _scores(genuine, "genuine"), np.sort(_scores(impostor, "impostor"))
    below = np.searchsorted(other, same, "left").sum(dtype=np.int64)
    not_above = np.searchsorted(other, same, "right").sum(dtype=np.int64)
    return float((below + not_above) / (2 * same.size * other.size))


def far_threshold(impostor: npt.ArrayLike, far: float) -> float | None:
    """Pairs with a likeness above this are accepted at a false acceptance rate of at most `far`, in (0, 1].

    None when the impostors are too few to state that rate: not even one of them may be accepted.
    """
    if not 0 < far <= 1:
        raise ValueError(f"a false acceptance rate lies in (0, 1], not {far}")
    other = np.sort(_scores(impostor, "impostor"))[::-1]
    allowed = int(np.floor(far * other.size + 1e-9))
    if allowed < 1:
        return None
    return float(other[allowed]) if allowed < other.size else float("-inf")


def tar_at_far(genuine: npt.ArrayLike, impostor: npt.ArrayLike, far: float) -> float | None:
    """The share of genuine pairs accepted at `far_threshold`; None when the impostors are too few for it.

    Ties are refused, so the rate at which impostors are accepted is never above `far`.
    """
    same = _scores(genuine, "genuine")
    threshold = far_threshold(impostor, far)
    return None if threshold is None else float((same > threshold).mean())


def chance_interval(p: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Where the share of hits lies with probability `level` when probe i is a hit by chance with p[i].

    p: (N,) in [0, 1], for rank-k the share of the gallery that counts as a hit. The number of hits is
    Poisson-binomial; its distribution is computed exactly, by convolution. Each end cuts off at most half of
    what is left over. `ValueError` for no probes.
    """
    _check_level(level)
    chances = np.asarray(p, np.float64)
    if chances.ndim != 1 or not chances.size or not ((chances >= 0) & (chances <= 1)).all():
        raise ValueError("expected one probability in [0, 1] for each probe")
    hits = np.zeros(chances.size + 1)
    hits[0] = 1.0
    for done, chance in enumerate(chances, start=1):
        hits[1 : done + 1] = hits[1 : done + 1] * (1 - chance) + hits[:done] * chance
        hits[0] *= 1 - chance
    # summed from its own end, so that neither tail drowns in the other's rounding
    left, right = np.cumsum(hits), np.cumsum(hits[::-1])[::-1]
    tail = (1 - level) / 2
    low = int(np.argmax(left > tail))
    high = int(hits.size - 1 - np.argmax(right[::-1] > tail))
    return low / chances.size, high / chances.size


def rank_correlation(a: Values, b: Values) -> float:
    """Spearman's rank correlation of two sequences of one length, -1 to 1; 0 where all values of one are equal."""
    first, second = _ranks(a), _ranks(b)
    spread = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / spread if spread > 0 else 0.0


def _ranks(values: Values) -> Floats:
    """Ranks about their mean; equal values share one."""
    _, inverse, counts = np.unique(np.array(values, object), return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(middle[inverse] - (len(values) + 1) / 2, np.float64)


def _scores(values: npt.ArrayLike, what: str) -> Floats:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"expected one or more finite {what} scores")
    return array


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies in (0, 1), not {level}")
