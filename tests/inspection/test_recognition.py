"""The arithmetic of recognition against plain Python, scipy, and what must hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_data.arrays import BoolArray
from p3m_data.faces.embedding import Embeddings
from p3m_data.inspection.recognition import (
    EXACT,
    FAR,
    Measured,
    Recognition,
    Trial,
    centred,
    chance,
    compare,
    interval,
    linked,
    luck,
    recognise,
)

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def people(count: int, photos: int, strangers: int = 0) -> tuple[str, ...]:
    named = [f"person {i // photos}" for i in range(count * photos)]
    return (*named, *(f"stranger {i}" for i in range(strangers)))


def trial_of(persons: Sequence[str]) -> Trial:
    return Trial(tuple(persons), np.eye(len(persons), dtype=bool))


def faces(trial: Trial, spread: float, seed: int = 0) -> Embeddings:
    """(N, 128): one direction for each person, and as much noise as `spread` says."""
    random = np.random.default_rng(seed)
    centres = {person: random.normal(size=128) for person in dict.fromkeys(trial.persons)}
    return np.array([centres[p] for p in trial.persons]) + spread * random.normal(
        size=(len(trial.persons), 128)
    )


@st.composite
def trials(draw: st.DrawFn) -> tuple[Trial, np.random.Generator]:
    """Any persons, some pairs kept apart, where each probe has a stranger to be mistaken for."""
    persons = draw(st.lists(st.sampled_from("abcde"), min_size=4, max_size=14))
    persons += ["a", "a", "b", "b"]
    random = np.random.default_rng(draw(seeds))
    apart = random.random((len(persons), len(persons))) < draw(st.sampled_from([0.0, 0.2]))
    apart[-4:], apart[:, -4:] = False, False
    return Trial(tuple(persons), np.asarray(apart | apart.T | np.eye(len(persons), dtype=bool))), random


def brute(trial: Trial, probes: Embeddings, gallery: Embeddings, plain: bool) -> dict[str, float | None]:
    """Rank-1, rank-5, AUC and TAR with loops over lists."""
    shown = {
        i: [j for j in range(len(trial.persons)) if not trial.excluded[i, j]] for i in trial.probes.tolist()
    }
    distance = {
        (i, j): math.dist(probes[row], gallery[j])
        for row, i in enumerate(shown)
        for j in range(len(trial.persons))
    }
    middle = dict.fromkeys(range(len(trial.persons)), 0.0)
    if not plain:
        for j in middle:
            seen = [distance[i, j] for i in shown if j in shown[i]]
            middle[j] = sum(seen) / len(seen) if seen else 0.0
    like = {(i, j): middle[j] - distance[i, j] for i in shown for j in shown[i]}
    own = {i: [like[i, j] for j in js if trial.persons[j] == trial.persons[i]] for i, js in shown.items()}
    others = {i: [like[i, j] for j in js if trial.persons[j] != trial.persons[i]] for i, js in shown.items()}
    better = [sum(o > max(own[i]) for o in others[i]) for i in shown]
    areas = [
        sum((a > b) + (a == b) / 2 for a, b in itertools.product(own[i], others[i]))
        / (len(own[i]) * len(others[i]))
        for i in shown
    ]
    wrong = sorted(itertools.chain(*others.values()), reverse=True)
    tar = None
    if len(wrong) * FAR >= 1:
        limit = min(t for t in wrong if sum(w > t for w in wrong) <= FAR * len(wrong))
        tar = float(np.mean([np.mean([o > limit for o in own[i]]) for i in shown]))
    return {
        "rank_1": float(np.mean([b < 1 for b in better])),
        "rank_5": float(np.mean([b < 5 for b in better])),
        "auc": float(np.mean(areas)),
        "tar": tar,
    }


def values(one: Recognition) -> dict[str, float | None]:
    tar = None if one.tar is None else one.tar.value
    return {"rank_1": one.rank_1.value, "rank_5": one.rank_5.value, "auc": one.auc.value, "tar": tar}


@few
@given(trials(), st.booleans())
def test_rates_are_those_of_loops(given: tuple[Trial, np.random.Generator], plain: bool) -> None:
    trial, random = given
    gallery = random.normal(size=(len(trial.persons), 128))
    probes = gallery[trial.probes] + random.normal(size=(len(trial.probes), 128))
    found = recognise(trial, probes, gallery, plain=plain)
    assert values(found) == pytest.approx(brute(trial, probes, gallery, plain))
    for one in (found.rank_1, found.rank_5, found.auc):
        assert one.interval[0] - 1e-9 <= one.value <= one.interval[1] + 1e-9


@pytest.mark.parametrize("plain", [True, False])
def test_the_true_accept_rate_is_that_of_loops(plain: bool) -> None:
    trial = trial_of(people(9, 4, 6))
    gallery = faces(trial, 0.9)
    probes = faces(trial, 1.1, seed=1)[trial.probes] * 0.5 + gallery[trial.probes] * 0.5
    found, expected = recognise(trial, probes, gallery, plain=plain), brute(trial, probes, gallery, plain)
    assert found.tar is not None
    assert 0 < found.tar.value < 1
    assert values(found) == pytest.approx(expected)


def test_a_true_accept_rate_needs_a_thousand_strangers() -> None:
    trial = trial_of(people(3, 3))
    assert recognise(trial, faces(trial, 0.1)[trial.probes], faces(trial, 0.1)).tar is None


@few
@given(trials())
def test_the_order_of_pictures_does_not_matter(given: tuple[Trial, np.random.Generator]) -> None:
    trial, random = given
    gallery = random.normal(size=(len(trial.persons), 128))
    whole = gallery + random.normal(size=gallery.shape)
    turned = random.permutation(len(trial.persons))
    other = trial.among(turned)
    first = recognise(trial, whole[trial.probes], gallery)
    second = recognise(other, whole[turned][other.probes], gallery[turned])
    assert values(first) == pytest.approx(values(second))
    by_picture = dict(zip(trial.probes.tolist(), first.hits, strict=True))
    assert [by_picture[int(i)] for i in turned[other.probes]] == second.hits.tolist()


@few
@given(trials(), st.integers(1, 6))
def test_chance_is_the_hypergeometric(given: tuple[Trial, np.random.Generator], rank: int) -> None:
    trial, _ = given
    expected = []
    for i in trial.probes.tolist():
        shown = [j for j in range(len(trial.persons)) if not trial.excluded[i, j]]
        own = sum(trial.persons[j] == trial.persons[i] for j in shown)
        expected.append(scipy.stats.hypergeom.sf(0, len(shown), own, min(rank, len(shown))))
    found = chance(trial, rank)
    assert found.value == pytest.approx(np.mean(expected))
    assert found.interval[0] <= found.value <= found.interval[1]
    wider = chance(trial, rank, 0.999)
    assert wider.value == found.value
    assert wider.interval[0] <= found.interval[0] <= found.interval[1] <= wider.interval[1]


@pytest.mark.parametrize("rank", [1, 5])
def test_chance_is_what_blind_guesses_give(rank: int) -> None:
    trial = trial_of(people(3, 4, 10))
    random = np.random.default_rng(0)
    rates = []
    for _ in range(2000):
        hits = [
            trial.same[i][random.permutation(np.flatnonzero(~trial.excluded[i]))[:rank]].any()
            for i in trial.probes
        ]
        rates.append(np.mean(hits))
    found = chance(trial, rank)
    assert np.mean(rates) == pytest.approx(found.value, abs=4 * np.std(rates) / math.sqrt(len(rates)))
    low, high = found.interval
    assert np.mean([low <= rate <= high for rate in rates]) >= 0.95


def test_a_photo_that_is_not_shown_does_not_count() -> None:
    # 0 and 1 are one person far apart; 2 looks like 0 exactly and 3 is a near-duplicate of 1
    trial = trial_of(["a", "a", "b", "b"])
    gallery = np.zeros((4, 128))
    gallery[1, 0], gallery[2, 0], gallery[3, 0] = 9, 1, 9.1
    shown = recognise(trial, gallery, gallery, plain=True)
    assert shown.hits.tolist() == [0, 0, 0, 0]
    excluded: BoolArray = trial.excluded.copy()
    for i, j in ((0, 2), (1, 3)):
        excluded[i, j] = excluded[j, i] = True
    apart = Trial(trial.persons, excluded)
    hits = recognise(apart, gallery, gallery, plain=True).hits
    # 0 has 1 at 9 and 3 at 9.1; 1 has 2 at 8 and 0 at 9; 2 has 1 at 8 and 3 at 8.1; 3 has 2 at 8.1 and 0 at 9.1
    assert hits.tolist() == [1, 0, 0, 1]


@few
@given(seeds)
def test_what_is_hidden_cannot_change_anything(seed: int) -> None:
    random = np.random.default_rng(seed)
    probes, gallery = random.normal(size=(5, 128)), random.normal(size=(7, 128))
    hidden = random.random((5, 7)) < 0.3
    before = centred(probes, gallery, hidden)
    for j in range(7):
        shown = before[~hidden[:, j], j]
        assert shown.sum() == pytest.approx(0, abs=1e-9)
        # the differences between probes stay those of their distances
        distances = np.linalg.norm(probes[~hidden[:, j]] - gallery[j], axis=1)
        np.testing.assert_allclose(np.diff(shown), -np.diff(distances), atol=1e-9)


@pytest.mark.parametrize("plain", [True, False])
def test_perfect_embeddings_are_always_right(plain: bool) -> None:
    trial = trial_of(people(4, 3, 5))
    gallery = faces(trial, 0.0)
    found = recognise(trial, gallery[trial.probes], gallery, plain=plain)
    assert (found.rank_1.value, found.rank_5.value, found.auc.value) == (1, 1, 1)
    assert found.rank_1.interval == (1, 1)


def test_few_people_with_many_photos_are_found_among_many_strangers() -> None:
    # divided by their spread, strangers' likenesses would beat those of a person with a fifth of all photos
    trial = trial_of(people(5, 10, 400))
    gallery = faces(trial, 0.5)
    assert recognise(trial, gallery[trial.probes], gallery).rank_1.value == 1


def test_embeddings_of_nothing_give_what_guessing_gives() -> None:
    trial = trial_of(people(6, 4, 6))
    guessed = chance(trial, 1)
    random = np.random.default_rng(3)
    rates, areas = [], []
    for _ in range(20):
        gallery, probes = random.normal(size=(30, 128)), random.normal(size=(24, 128))
        found = recognise(trial, probes, gallery)
        rates.append(found.rank_1.value)
        areas.append(found.auc.value)
    low, high = guessed.interval
    assert sum(low <= rate <= high for rate in rates) >= 17
    assert np.mean(rates) == pytest.approx(guessed.value, abs=0.05)
    assert np.mean(areas) == pytest.approx(0.5, abs=0.02)


def test_a_photo_that_is_near_to_all_does_not_win() -> None:
    trial = trial_of(people(4, 3, 1))
    gallery = faces(trial, 0.2)
    blurred = 0.3 * gallery[trial.probes]
    gallery[-1] = 0  # every blurred face lies nearest to it
    assert recognise(trial, blurred, gallery, plain=True).rank_1.value == 0
    assert recognise(trial, blurred, gallery).rank_1.value == 1


def test_the_own_photo_is_linked() -> None:
    trial = trial_of(people(4, 2, 3))
    gallery = faces(trial, 0.6)
    assert linked(trial, 0.5 * gallery[trial.probes], gallery).value == 1
    swapped = trial.probes.reshape(-1, 2)[:, ::-1].ravel()
    assert linked(trial, 0.5 * gallery[swapped], gallery).value == 0
    half = np.where(np.arange(8) < 4, trial.probes, swapped)
    assert linked(trial, 0.5 * gallery[half], gallery).value == 0.5


def test_one_is_compared_with_another_probe_by_probe() -> None:
    trial = trial_of(people(12, 3))
    gallery = faces(trial, 0.5)
    good, poor = (recognise(trial, faces(trial, s, 0)[trial.probes], gallery) for s in (0.5, 30.0))
    above = compare(good, poor, trial)
    assert above.value == pytest.approx(good.rank_1.value - poor.rank_1.value)
    assert above.interval[0] > 0
    below = compare(poor, good, trial)
    assert below.value == -above.value
    assert below.interval == pytest.approx((-above.interval[1], -above.interval[0]), abs=0.02)
    assert compare(poor, poor, trial) == Measured(0, (0, 0))


def scored(hits: Sequence[float]) -> Recognition:
    nothing = Measured(0, (0, 0))
    return Recognition(nothing, nothing, nothing, None, np.array(hits, np.float64))


def test_an_interval_grows_with_its_level() -> None:
    trial = trial_of(people(12, 3))
    found = recognise(trial, faces(trial, 8.0, 2)[trial.probes], faces(trial, 0.5))
    assert 0 < found.rank_1.value < 1
    assert interval(found, trial, 0.95) == found.rank_1.interval
    half, most = interval(found, trial, 0.5), interval(found, trial, 0.999)
    assert most[0] < found.rank_1.interval[0] < half[0] < half[1] < found.rank_1.interval[1] < most[1]


@few
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=8))
def test_luck_counts_the_turns_of_people(counts: list[tuple[int, int]]) -> None:
    # of each person three probes, of which so many are right
    trial = trial_of(people(len(counts), 3))
    first, second = (
        scored([h for pair in counts for h in [1.0] * pair[side] + [0.0] * (3 - pair[side])])
        for side in (0, 1)
    )
    turned = [
        sum(b - a if turn else a - b for (a, b), turn in zip(counts, turns, strict=True))
        for turns in itertools.product((False, True), repeat=len(counts))
    ]
    seen = sum(a - b for a, b in counts)
    assert luck(first, second, trial) == pytest.approx(np.mean([t >= seen for t in turned]))


def test_luck_of_many_people_is_drawn() -> None:
    count = EXACT + 8
    trial = trial_of(people(count, 2))
    better = [1.0] * (2 * count)
    # of 20 people 14 or more of 20 tosses: the binomial tail
    some = [0.0 if person < 14 else 2.0 for person in range(count) for _ in range(2)]
    expected = scipy.stats.binom.sf(13, count, 0.5)
    assert luck(scored(better), scored(some), trial) == pytest.approx(expected, rel=0.15)
    assert luck(scored(better), scored([0.0] * (2 * count)), trial) < 0.001
    assert luck(scored(better), scored(better), trial) == 1


@few
@given(trials())
def test_among_leaves_out_all_others(given: tuple[Trial, np.random.Generator]) -> None:
    trial, random = given
    chosen = np.sort(random.choice(len(trial.persons), 4, replace=False))
    part = trial.among(chosen)
    assert part.persons == tuple(trial.persons[i] for i in chosen)
    for a, b in itertools.product(range(4), repeat=2):
        assert part.same[a, b] == trial.same[chosen[a], chosen[b]]
        assert part.strangers[a, b] == trial.strangers[chosen[a], chosen[b]]
        assert part.same[a, b] + part.strangers[a, b] + part.excluded[a, b] == 1
    assert part.probes.tolist() == [a for a in range(4) if any(part.same[a, b] for b in range(4))]
    assert part.people == [part.persons[i] for i in part.probes]


def test_a_figure_in_words_and_as_json() -> None:
    figure = Measured(0.12345, (0.1, 0.25678))
    assert figure.words == "12.3% (95 % interval 10.0% to 25.7%)"
    assert figure.as_json() == [0.1235, 0.1, 0.2568]
