"""How often is a published face matched to other photos of its person? The arithmetic, on embeddings.

Probes are published faces, the gallery is unblurred photos: other photos of the same people, and of
strangers. A probe's own photo, and near-duplicates of it, are not in its gallery.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from p3m_data.arrays import BoolArray
from p3m_data.faces.embedding import Embeddings
from p3m_data.inspection.statistics import chance_interval, clustered_bootstrap, far_threshold, roc_auc

FAR = 1e-3
EXACT = 12  # people up to whom all their turns are tried
TURNS = 9999  # that are drawn for more
Numbers = npt.NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Measured:
    """A figure and its 95 % interval."""

    value: float
    interval: Interval

    @property
    def words(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} (95 % interval {low:.1%} to {high:.1%})"

    def as_json(self) -> list[JsonValue]:
        return [round(v, 4) for v in (self.value, *self.interval)]


@dataclass(frozen=True)
class Recognition:
    """What one attack achieves on all probes."""

    rank_1: Measured
    rank_5: Measured
    auc: Measured
    """How probably another photo of the person is nearer than a stranger's, averaged over the probes."""
    tar: Measured | None
    """True accept rate at `FAR`; None when there are too few impostor pairs to state it."""
    hits: Numbers
    """(P,) 1 where the nearest photo was the probe's person, for paired comparisons."""


@dataclass(frozen=True)
class Trial:
    """Who is looked for among whom: N pictures, each a probe and each in the others' galleries."""

    persons: tuple[str, ...]
    """N names; strangers have names of their own."""
    excluded: BoolArray
    """(N, N) bool: gallery entry j is not shown to probe i (its own photo and near-duplicates)."""

    @property
    def same(self) -> BoolArray:
        names = np.array(self.persons)
        return np.asarray((names[:, None] == names[None]) & ~self.excluded)

    @property
    def strangers(self) -> BoolArray:
        """(N, N) bool: photos of others that are shown."""
        return np.asarray(_different(self.persons) & ~self.excluded)

    @property
    def probes(self) -> npt.NDArray[np.intp]:
        """The pictures whose person has another photo."""
        return np.flatnonzero(self.same.any(axis=1))

    def among(self, chosen: npt.NDArray[np.intp]) -> Trial:
        """The trial in which only the `chosen` pictures are there."""
        return Trial(tuple(self.persons[i] for i in chosen), self.excluded[np.ix_(chosen, chosen)])

    @property
    def people(self) -> list[str]:
        """The person of each probe."""
        return [self.persons[i] for i in self.probes]


def chance(trial: Trial, rank: int, level: float = 0.95) -> Measured:
    """The rate at which somebody who cannot see the faces would be right by `rank`, and where it may fall."""
    same, shown = trial.same.sum(axis=1), (~trial.excluded).sum(axis=1)
    right = np.array([_drawn(int(shown[i]), int(same[i]), rank) for i in trial.probes])
    return Measured(float(right.mean()), chance_interval(right, level))


def _drawn(gallery: int, genuine: int, rank: int) -> float:
    """Probability that `rank` random draws of `gallery` photos hold one of the `genuine` ones."""
    missed = 1.0
    for drawn in range(rank):
        left = gallery - drawn
        missed *= max(0, left - genuine) / left if left else 1.0
    return 1 - missed


def recognise(trial: Trial, probes: Embeddings, gallery: Embeddings, *, plain: bool = False) -> Recognition:
    """Every probe against its gallery. Intervals: bootstrap over people.

    probes: (P, 128), in the order of `trial.probes`; gallery: (N, 128). Likenesses are centred for each gallery
    photo over all probes first: some photos are near to every blurred face, and an attacker would correct for
    that. `plain`: not so, as is best for unblurred faces.
    """
    rows = trial.probes
    same, hidden = trial.same[rows], trial.excluded[rows]
    likeness = -_distance(probes, gallery) if plain else centred(probes, gallery, hidden)
    order = np.argsort(np.where(hidden, np.inf, -likeness), axis=1, kind="stable")
    found = np.take_along_axis(same, order, axis=1)
    first, fifth = found[:, 0].astype(float), found[:, :5].any(axis=1).astype(float)
    strangers = trial.strangers[rows]
    genuine = [row[own] for row, own in zip(likeness, same, strict=True)]
    impostor = [row[others] for row, others in zip(likeness, strangers, strict=True)]
    people = trial.people
    areas = np.array([roc_auc(own, others) for own, others in zip(genuine, impostor, strict=True)])
    return Recognition(
        rank_1=_measured(first, people),
        rank_5=_measured(fifth, people),
        auc=_measured(areas, people),
        tar=_accepted(genuine, np.concatenate(impostor), people),
        hits=first,
    )


def _accepted(genuine: Sequence[Numbers], impostor: Numbers, people: Sequence[str]) -> Measured | None:
    """The share of a probe's own photos that are likelier than all but `FAR` of the strangers' are."""
    limit = far_threshold(impostor, FAR)
    if limit is None:
        return None
    return _measured(np.array([(own > limit).mean() for own in genuine]), people)


def compare(first: Recognition, second: Recognition, trial: Trial, level: float = 0.95) -> Measured:
    """By how much the rank-1 rate of `first` is above that of `second`, probe by probe."""
    return _measured(first.hits - second.hits, trial.people, level)


def luck(first: Recognition, second: Recognition, trial: Trial) -> float:
    """How probably `first` comes out so much better than `second`, or more, when neither is.

    Then each person's difference may as well have the other sign. Of few people a bootstrap would be too sure:
    what is alike in all of them has no spread. One-sided; never less than 1 / 2^people.
    """
    names, index = np.unique(np.array(trial.people), return_inverse=True)
    apart = np.bincount(index.ravel(), weights=first.hits - second.hits, minlength=len(names))
    apart = apart[apart != 0]
    if len(apart) <= EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(apart))))
        return float((signs @ apart >= apart.sum()).mean())
    signs = np.random.default_rng(0).choice((1.0, -1.0), (TURNS, len(apart)))
    return float((1 + (signs @ apart >= apart.sum()).sum()) / (1 + TURNS))


def interval(one: Recognition, trial: Trial, level: float) -> Interval:
    """The interval of its rank-1 rate with another level than 0.95."""
    return _measured(one.hits, trial.people, level).interval


def linked(trial: Trial, probes: Embeddings, gallery: Embeddings) -> Measured:
    """How often the photo that the published picture was made from is the nearest of all."""
    rows = trial.probes
    shown = np.zeros((len(rows), len(gallery)), bool)
    nearest = centred(probes, gallery, shown).argmax(axis=1)
    return _measured((nearest == rows).astype(float), trial.people)


def centred(probes: Embeddings, gallery: Embeddings, hidden: BoolArray) -> Numbers:
    """(P, G) likenesses: minus the distance, for each gallery photo with mean 0 over the probes it is shown to.

    Not divided by the spread: that of a person's own photos is large, so strangers' noise would win over them.
    """
    distance = _distance(probes, gallery)
    counts = np.maximum((~hidden).sum(axis=0), 1)
    mean = np.where(hidden, 0, distance).sum(axis=0) / counts
    return np.asarray(mean - distance)


def _distance(probes: Embeddings, gallery: Embeddings) -> Numbers:
    squares = (probes**2).sum(axis=1)[:, None] + (gallery**2).sum(axis=1)[None] - 2 * probes @ gallery.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


def _different(persons: Sequence[str]) -> BoolArray:
    names = np.array(persons)
    return np.asarray(names[:, None] != names[None])


def _measured(values: Numbers, people: Sequence[str], level: float = 0.95) -> Measured:
    return Measured(float(values.mean()), clustered_bootstrap(values, people, level=level))
