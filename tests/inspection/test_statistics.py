"""Against scipy, brute force, and what the definitions promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from p3m_data.inspection.statistics import (
    chance_interval,
    clustered_bootstrap,
    far_threshold,
    rank_correlation,
    rate,
    roc_auc,
    tar_at_far,
    upper_bound,
)

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30)


@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_rate_is_scipys_wilson_interval(hits: int, more: int, level: float) -> None:
    found = rate(hits, hits + more, level)
    if hits + more == 0:
        assert (found.low, found.high, found.share) == (0, 1, None)
        return
    expected = scipy.stats.binomtest(hits, hits + more).proportion_ci(level, method="wilson")
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)
    assert found.low <= hits / (hits + more) <= found.high


@pytest.mark.parametrize(("hits", "of"), [(-1, 3), (4, 3)])
def test_what_is_no_share(hits: int, of: int) -> None:
    with pytest.raises(ValueError, match="is no share"):
        rate(hits, of)


def test_a_rate_in_words_and_as_a_figure() -> None:
    assert rate(3, 12).words == "3 of 12 (25.0%, 95 % interval 8.9% to 53.2%)"
    assert rate(0, 0).words == "0 of 0"
    assert rate(3, 12).figure() == {"hits": 3, "of": 12, "low": 0.088942, "high": 0.532305}


@given(st.integers(0, 60), st.integers(1, 60))
def test_upper_bound_is_scipys(hits: int, more: int) -> None:
    expected = scipy.stats.beta.ppf(0.95, hits + 1, more)
    assert upper_bound(hits, hits + more) == pytest.approx(expected, abs=1e-6)


@given(scores, scores)
def test_auc_is_the_share_of_pairs(genuine: list[float], impostor: list[float]) -> None:
    pairs = list(itertools.product(genuine, impostor))
    expected = sum((g > i) + (g == i) / 2 for g, i in pairs) / len(pairs)
    assert roc_auc(genuine, impostor) == pytest.approx(expected)
    assert roc_auc(impostor, genuine) == pytest.approx(1 - expected)


@pytest.mark.parametrize("wrong", [[], [float("nan")], [[1.0]]])
def test_scores_that_cannot_be_compared(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="finite genuine scores"):
        roc_auc(wrong, [1.0])
    with pytest.raises(ValueError, match="finite impostor scores"):
        tar_at_far([1.0], wrong, 0.1)


@given(scores, scores, st.sampled_from([0.01, 0.1, 1 / 3, 0.5, 1.0]))
def test_tar_at_far_by_trying_every_threshold(
    genuine: list[float], impostor: list[float], far: float
) -> None:
    def accepted(values: list[float], threshold: float) -> float:
        return sum(v > threshold for v in values) / len(values)

    found = tar_at_far(genuine, impostor, far)
    if far * len(impostor) < 1 - 1e-9:
        assert found is None
        return
    tried = [-math.inf, *impostor]
    allowed = [t for t in tried if accepted(impostor, t) <= far + 1e-9]
    assert found == max(accepted(genuine, t) for t in allowed)
    threshold = far_threshold(impostor, far)
    assert threshold is not None
    assert accepted(impostor, threshold) <= far + 1e-9


def test_too_few_impostors_state_no_rate() -> None:
    assert tar_at_far([1.0, 2.0], np.zeros(999), 0.001) is None
    assert tar_at_far([1.0, 2.0], np.zeros(1000), 0.001) == 1.0
    with pytest.raises(ValueError, match="false acceptance rate"):
        tar_at_far([1.0], [0.0], 0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.sampled_from([0.5, 0.8, 0.95]))
def test_chance_interval_by_all_outcomes(p: list[float], level: float) -> None:
    distribution = np.zeros(len(p) + 1)
    for outcome in itertools.product([0, 1], repeat=len(p)):
        distribution[sum(outcome)] += math.prod(
            chance if hit else 1 - chance for hit, chance in zip(outcome, p, strict=True)
        )
    low, high = (round(end * len(p)) for end in chance_interval(p, level))
    tail = (1 - level) / 2
    assert 0 <= low <= high <= len(p)
    # what is cut off is no more than half of the rest, and one more would be
    assert distribution[:low].sum() <= tail + 1e-9
    assert distribution[: low + 1].sum() >= tail - 1e-9
    assert distribution[high + 1 :].sum() <= tail + 1e-9
    assert distribution[high:].sum() >= tail - 1e-9


def test_chance_interval_is_scipys_for_equal_chances() -> None:
    low, high = chance_interval(np.full(1000, 0.03))
    assert (low * 1000, high * 1000) == pytest.approx(scipy.stats.binom.interval(0.95, 1000, 0.03))
    assert chance_interval([0.0, 1.0, 1.0]) == pytest.approx((2 / 3, 2 / 3))


@pytest.mark.parametrize("wrong", [[], [1.5], [-0.1], [float("nan")]])
def test_chances_that_are_none(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="one probability"):
        chance_interval(wrong)


def test_bootstrap_of_single_values_is_scipys() -> None:
    values = np.random.default_rng(1).normal(size=200)
    found = clustered_bootstrap(values, range(200), draws=4000, seed=3)
    other = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=4)
    width = found[1] - found[0]
    assert found[0] == pytest.approx(other.confidence_interval.low, abs=width / 10)
    assert found[1] == pytest.approx(other.confidence_interval.high, abs=width / 10)


def test_bootstrap_of_groups_is_wider_where_members_are_alike() -> None:
    random = np.random.default_rng(2)
    groups = np.repeat(np.arange(30), 10).tolist()
    values = np.repeat(random.normal(size=30), 10)
    clustered = clustered_bootstrap(values, groups, seed=5)
    naive = clustered_bootstrap(values, range(300), seed=5)
    assert clustered[1] - clustered[0] > 2 * (naive[1] - naive[0])
    # thirty copies tell as much as the thirty
    single = clustered_bootstrap(values[::10], range(30), seed=5)
    assert clustered == pytest.approx(single)


def test_bootstrap_is_repeatable_and_takes_any_statistic() -> None:
    values, groups = [1.0, 5.0, 2.0, 8.0, 3.0], ["a", "b", "a", "c", "b"]
    first = clustered_bootstrap(values, groups, seed=7)
    assert first == clustered_bootstrap(values, groups, seed=7)
    assert first == pytest.approx(clustered_bootstrap(values, groups, lambda v: sum(v) / len(v), seed=7))
    noise = np.random.default_rng(9).normal(size=50)
    assert clustered_bootstrap(noise, range(50), seed=7) != clustered_bootstrap(noise, range(50), seed=8)
    low, high = clustered_bootstrap(values, groups, np.median)
    assert 1 <= low <= high <= 8
    assert clustered_bootstrap([2.0, 4.0], ["a", "a"]) == (3.0, 3.0)


@pytest.mark.parametrize(("values", "groups"), [([], []), ([1.0], []), ([[1.0]], ["a"])])
def test_nothing_to_draw(values: list[float], groups: list[str]) -> None:
    with pytest.raises(ValueError, match="cannot be drawn"):
        clustered_bootstrap(values, groups)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_is_a_probability(level: float) -> None:
    for call in (lambda: rate(1, 2, level), lambda: chance_interval([0.5], level)):
        with pytest.raises(ValueError, match="confidence level"):
            call()
    with pytest.raises(ValueError, match="confidence level"):
        clustered_bootstrap([1.0], ["a"], level=level)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=30))
def test_rank_correlation_is_scipys(pairs: list[tuple[int, int]]) -> None:
    a, b = (list(column) for column in zip(*pairs, strict=True))
    found = rank_correlation(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(scipy.stats.spearmanr(a, b).statistic)


def test_rank_correlation_of_nothing_and_of_large_numbers() -> None:
    assert rank_correlation([], []) == 0
    assert rank_correlation([10**18, 10**18 + 1, 10**18 + 2], ["c", "b", "a"]) == pytest.approx(-1)
