"""Tests of spikes that need more than means and covariances: ranks, and a Poisson regression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stream.connectome.graph import Graph, false_discovery, normal_p, spread
from stream.connectome.statistics import Statistics, embed, rows_at

Floats = NDArray[np.float64]

_PENALTY = 0.01
_STEPS = 30
_REFIT_STEPS = 8


def ranked(data: ArrayLike) -> Floats:
    """Replace the values of each unit by their ranks, in equal steps from 0 to 1; ties share one.

    Any estimator of these is one by ranks: it does not mind how values are scaled or how far
    outliers lie, only their order. Of bins that hold a spike or none, ranks are the same again.
    """
    array = np.asarray(data, dtype=np.float64)
    columns = []
    for column in array.T:
        _, place, many = np.unique(column, return_inverse=True, return_counts=True)
        columns.append((np.cumsum(many) - (many + 1) / 2)[place] / max(len(column) - 1, 1))
    return np.stack(columns, axis=1)


def poisson_granger(
    counts: ArrayLike, delay: int = 1, alpha: float = 0.05, starts: Sequence[int] = ()
) -> Graph:
    """Return the graph by Poisson regression: the reference for the live method `counts`.

    The log rate of each unit is a sum over the spikes of all units in the `delay` bins before. An
    edge is tested by the deviance that leaving its unit out costs; the spikes of one unit at
    different delays count alike. Weight: the log factor of the rate.

    Parameters
    ----------
    counts
        (bins, units).
    delay
        How far back, in bins.
    alpha
        Rate of false discoveries among pairs.
    starts
        Bins at which another stretch of time begins.

    Raises
    ------
    GraphError
        The counts are no finite (bins, units), or too few.
    """
    array = np.asarray(counts, dtype=np.float64)
    units, left_out = Statistics.of(array, delay, starts=starts).usable()
    at = rows_at(len(array), delay, starts)
    n = len(units)
    rows = embed(array[:, units], at, delay)
    past = rows[:, n:].reshape(len(rows), delay, n).sum(axis=1)
    # Most bins have few spikes before them: equal rows are fitted as one.
    patterns, place, many = np.unique(past, axis=0, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    design = np.concatenate([np.ones((len(patterns), 1)), patterns], axis=1)
    z, weights = np.zeros((n, n)), np.zeros((n, n))
    for unit in range(n):
        counted = np.bincount(place, weights=rows[:, unit], minlength=len(patterns))
        spikes = counted.astype(np.float64)
        null = np.zeros(n + 1)
        null[0] = np.log(spikes.sum() / many.sum())
        full, best = _fit(design, many, spikes, null, _STEPS)
        weights[:, unit] = full[1:]
        for source in range(n):
            rest = np.delete(np.arange(n + 1), source + 1)
            _, less = _fit(design[:, rest], many, spikes, full[rest], _REFIT_STEPS)
            z[source, unit] = np.sqrt(max(2 * (best - less), 0.0))
    p = normal_p(z)
    edges = false_discovery(p, alpha)
    graph = Graph(edges, np.where(edges, weights, 0.0), p)
    return spread(graph, units, array.shape[1], left_out)


def _fit(
    design: Floats, many: NDArray[np.int64], spikes: Floats, start: Floats, steps: int
) -> tuple[Floats, float]:
    """Return the weights of a Poisson regression and its log-likelihood, by Newton's method."""
    penalty = np.full(len(start), _PENALTY)
    penalty[0] = 0.0
    w = start
    value = _likelihood(design, many, spikes, w, penalty)
    for _ in range(steps):
        expected = many * np.exp(design @ w)
        slope = design.T @ (spikes - expected) - penalty * w
        curve = (design * expected[:, None]).T @ design + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curve, slope)
        if slope @ step < 1e-4:
            break
        size = 1.0
        while size > 1e-3:
            tried = _likelihood(design, many, spikes, w + size * step, penalty)
            if tried > value:
                break
            size /= 2
        else:
            break
        w, value = w + size * step, tried
    return w, value


def _likelihood(
    design: Floats, many: NDArray[np.int64], spikes: Floats, w: Floats, penalty: Floats
) -> float:
    rate = np.minimum(design @ w, 50.0)
    return float(spikes @ rate - many @ np.exp(rate) - 0.5 * (penalty * w) @ w)
