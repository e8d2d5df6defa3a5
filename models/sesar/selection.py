"""Which sequences to label next: the rules of SESAR and its rivals, on latent vectors.

A rule sees latents (sequences, d) of unit length, the probabilities (sequences, classes) that the
classifier of the round before gives (None before the first), and which sequences have a label. It
returns the indices of those to label next, all without a label and none twice.

Sources: SESAR, arXiv 2012.01740; its maintained code, OpenLabCluster; AL-SAR, IEEE TNNLS 2024;
core-set, Sener and Savarese, ICLR 2018; typical samples, Hacohen et al., ICML 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NEIGHBOURS = 20
_TYPICAL_BELOW = 120


@dataclass(frozen=True)
class Round:
    """What is known when labels are asked for.

    Attributes
    ----------
    latents
        (sequences, d) of unit length.
    probabilities
        (members, sequences, classes): the classifier, then others of a committee; None before any.
    labelled
        (sequences,) bool.
    count
        How many to choose.
    seed
        Of k-means and of random choices.
    """

    latents: Floats
    probabilities: Floats | None
    labelled: NDArray[np.bool_]
    count: int
    seed: int

    @property
    def open(self) -> Ints:
        """Indices without a label."""
        return np.flatnonzero(~self.labelled)


def uniform(r: Round) -> Ints:
    """Choose at random."""
    return np.random.default_rng(r.seed).choice(r.open, r.count, replace=False)


def top(r: Round) -> Ints:
    """Choose what lies nearest to the centre of each of as many clusters (cluster certainty)."""
    return _one_per_cluster(r, lambda members, distance: distance.argmin())


def random_in_cluster(r: Round) -> Ints:
    """Choose at random in each of as many clusters."""
    random = np.random.default_rng(r.seed)
    return _one_per_cluster(r, lambda members, distance: random.integers(len(members)))


def margin_in_cluster(r: Round) -> Ints:
    """Choose in each cluster what the classifier is least sure of (SESAR's MI).

    The first round has no classifier and chooses as `top`.
    """
    if r.probabilities is None:
        return top(r)
    margins = _margins(r.probabilities[0])
    return _one_per_cluster(r, lambda members, distance: margins[members].argmin())


def margin(r: Round) -> Ints:
    """Choose what the classifier is least sure of; at random before the first."""
    if r.probabilities is None:
        return uniform(r)
    chosen: Ints = r.open[
        np.argsort(_margins(r.probabilities[0])[r.open], kind="stable")[: r.count]
    ]
    return chosen


def committee(r: Round) -> Ints:
    """Choose where members of a committee differ most (Jensen-Shannon divergence)."""
    if r.probabilities is None:
        return uniform(r)
    p = np.clip(r.probabilities, 1e-12, 1.0)
    mean = p.mean(0)
    divergence = (p * np.log(p)).sum(-1).mean(0) - (mean * np.log(mean)).sum(-1)
    chosen: Ints = r.open[np.argsort(-divergence[r.open], kind="stable")[: r.count]]
    return chosen


def core_set(r: Round) -> Ints:
    """Choose, one by one, what lies farthest from all that is labelled or chosen."""
    x = r.latents
    chosen: list[int] = []
    if r.labelled.any():
        nearest = np.min(1 - x @ x[r.labelled].T, axis=1)
    else:
        chosen = [int(uniform(Round(x, None, r.labelled, 1, r.seed))[0])]
        nearest = 1 - x @ x[chosen[0]]
    while len(chosen) < r.count:
        nearest[r.labelled] = -np.inf
        nearest[chosen] = -np.inf
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, 1 - x @ x[chosen[-1]])
    return np.array(chosen, np.int64)


def typical(r: Round) -> Ints:
    """Choose what has the closest neighbours, in the largest clusters without a label."""
    n = len(r.latents)
    known = int(r.labelled.sum())
    cluster = _clusters(r.latents, min(known + r.count, n), r.seed)[0]
    likeness = np.sort(r.latents @ r.latents.T, axis=1)[:, ::-1]
    density = likeness[:, 1 : _NEIGHBOURS + 1].mean(1)
    size = np.bincount(cluster)
    covered = np.bincount(cluster, weights=r.labelled, minlength=len(size)) > 0
    chosen: list[int] = []
    for c in sorted(range(len(size)), key=lambda c: (covered[c], -size[c])):
        members = np.flatnonzero((cluster == c) & ~r.labelled)
        if len(members) and len(chosen) < r.count:
            chosen.append(int(members[density[members].argmax()]))
    rest = np.setdiff1d(r.open, chosen)
    more = rest[np.argsort(-density[rest], kind="stable")[: r.count - len(chosen)]]
    return np.concatenate([np.array(chosen, np.int64), more])


def typical_then_margin(r: Round) -> Ints:
    """Choose as `typical` until there are some labels, then as `margin_in_cluster`."""
    early = r.labelled.sum() + r.count < _TYPICAL_BELOW
    return typical(r) if early else margin_in_cluster(r)


RULES: dict[str, Callable[[Round], Ints]] = {
    "uniform": uniform,
    "top": top,
    "random in cluster": random_in_cluster,
    "MI": margin_in_cluster,
    "margin": margin,
    "committee": committee,
    "core-set": core_set,
    "typical": typical,
    "typical, then MI": typical_then_margin,
}
"""Every rule by the name that tables show."""


def _margins(probabilities: Floats) -> Floats:
    """Return how far the likeliest class is ahead, (sequences,)."""
    two = np.sort(probabilities, axis=-1)[:, -2:]
    return two[:, 1] - two[:, 0]


def _clusters(x: Floats, k: int, seed: int) -> tuple[Ints, Floats]:
    """Return the cluster of each row, and how far it lies from that cluster's centre."""
    means = KMeans(k, n_init=3, max_iter=500, random_state=seed).fit(x)
    distance = np.linalg.norm(x - means.cluster_centers_[means.labels_], axis=1)
    return means.labels_.astype(np.int64), distance


def _one_per_cluster(r: Round, pick: Callable[[Ints, Floats], np.integer[Any] | int]) -> Ints:
    """Make as many clusters of what has no label as there are to choose, and pick in each."""
    cluster, distance = _clusters(r.latents[r.open], r.count, r.seed)
    chosen = []
    for c in range(r.count):
        inside = np.flatnonzero(cluster == c)
        chosen.append(r.open[inside[pick(r.open[inside], distance[inside])]])
    return np.array(chosen, np.int64)
