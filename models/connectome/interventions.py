"""What would happen if a unit were silenced or driven, by a graph: a prediction to test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.connectome.graph import Graph
from stream.connectome.statistics import Statistics, fitted
from stream.errors import GraphError

Floats = NDArray[np.float64]


def intervene(statistics: Statistics, graph: Graph, unit: int, value: float) -> Floats:
    """Predict the mean of every unit while one is held at a value, whatever comes in.

    Each unit is fitted by the past of its parents in the graph; the means solve the equations that
    are left when the unit's own one is replaced by the value. That is right for linear effects
    between recorded units, and a first approximation else.

    Parameters
    ----------
    statistics
        Of the data without intervention, with a delay of at least 1.
    graph
        Their graph.
    unit
        Which unit: 0 as `value` silences spikes.
    value
        In the units of the data: spikes a bin.

    Returns
    -------
    float64 (units,)
        Means while the unit is held.

    Raises
    ------
    GraphError
        There is no past, no such unit, or the fitted network would grow without end.
    """
    n = statistics.n_units
    if not statistics.delay or not 0 <= unit < n:
        raise GraphError(
            f"unit {unit} of {n} at a delay of {statistics.delay} bins cannot be held: give a unit"
            " of the graph, and statistics with a delay of 1 or more."
        )
    slopes = parents_slopes(statistics, graph)
    if np.abs(np.linalg.eigvals(slopes)).max() >= 1:
        raise GraphError("the fitted network grows without end, so nothing can be predicted.")
    held = slopes.copy()
    held[:, unit] = 0.0
    constant = statistics.mean - statistics.mean @ slopes
    constant[unit] = value
    return np.asarray(np.linalg.solve(np.eye(n) - held.T, constant))


def parents_slopes(statistics: Statistics, graph: Graph) -> Floats:
    """Fit every unit by the past of its parents; return slopes (from, to), summed over delays."""
    n = statistics.n_units
    slopes = np.zeros((n, n))
    for unit in range(n):
        parents = np.flatnonzero(graph.edges[:, unit])
        if not len(parents):
            continue
        past = (n * np.arange(1, statistics.delay + 1)[:, None] + parents).ravel()
        found = fitted(statistics.cov, past[None], np.array([unit]))
        slopes[parents, unit] = found.reshape(statistics.delay, -1).sum(axis=0)
    return slopes
