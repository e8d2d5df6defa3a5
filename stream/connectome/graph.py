"""What an estimator returns, and the arithmetic of p-values that all of them share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CAVEAT = "functional, conditional on the recorded units"
"""What every graph is: units that were not recorded may stand behind its edges."""


@dataclass(frozen=True)
class Graph:
    """A graph of units. Row = from, column = to; undirected edges stand in both directions.

    Attributes
    ----------
    edges
        bool (units, units): where there is an edge.
    weights
        float64 (units, units): its strength, 0 without an edge. Each estimator says what of.
    p
        float64 (units, units): p-value, corrected for the delays that were looked at, not yet for
        the number of pairs; NaN where nothing was tested.
    left_out
        Index of a unit that was not tested to the reason: `constant`, `silent`, `duplicate`,
        `collinear`.
    limited
        How many units had so many neighbours that only sets of the strongest were tried.
    """

    edges: Bools
    weights: Floats
    p: Floats
    left_out: Mapping[int, str] = field(default_factory=dict)
    limited: int = 0


_erfc = np.frompyfunc(math.erfc, 1, 1)


def normal_p(z: Floats) -> Floats:
    """Return the two-sided p-value of a standard normal z, exact in the tails."""
    return np.asarray(_erfc(np.abs(z) / math.sqrt(2.0)), dtype=np.float64)


def normal_z(p: float) -> float:
    """Return the |z| whose two-sided p-value is p, by bisection."""
    low, high = 0.0, 40.0
    for _ in range(100):
        middle = (low + high) / 2
        if math.erfc(middle / math.sqrt(2.0)) > p:
            low = middle
        else:
            high = middle
    return high


def chi2_p(x: Floats, freedom: int) -> Floats:
    """Return the upper tail of chi-squared with a whole number of degrees of freedom.

    By the recurrence Q(k + 2) = Q(k) + (x/2)^(k/2) exp(-x/2) / Gamma(k/2 + 1).
    """
    half = np.maximum(x, 0.0) / 2
    if freedom % 2:
        tail, k = normal_p(np.sqrt(2 * half)), 1
    else:
        tail, k = np.exp(-half), 2
    while k < freedom:
        with np.errstate(divide="ignore"):
            term = np.exp(k / 2 * np.log(half) - half - math.lgamma(k / 2 + 1))
        tail, k = tail + term, k + 2
    return np.asarray(np.minimum(tail, 1.0))


def fisher_z(r: Floats, rows: float, given: int) -> Floats:
    """Return Fisher's z of partial correlations, standard normal where there is no dependence.

    Parameters
    ----------
    r
        Partial correlations.
    rows
        Independent rows that they come from.
    given
        Variables that are held fixed.
    """
    limit = 1 - 1e-12
    z = np.arctanh(np.clip(r, -limit, limit)) * math.sqrt(max(rows - given - 3, 0.0))
    return np.asarray(z)


def false_discovery(p: Floats, rate: float) -> Bools:
    """Say which hypotheses to reject so that `rate` of the rejections are false on average.

    Benjamini and Hochberg, J. R. Stat. Soc. B 57 (1995). NaN is not tested and not counted.
    """
    tested = np.isfinite(p)
    ordered = np.sort(p[tested])
    passed = np.flatnonzero(ordered <= rate * np.arange(1, len(ordered) + 1) / max(len(ordered), 1))
    if not len(passed):
        return np.zeros(p.shape, dtype=bool)
    return np.asarray(tested & (np.nan_to_num(p, nan=2.0) <= ordered[passed[-1]]))


def spread(
    graph: Graph, units: NDArray[np.int64], n_units: int, left_out: Mapping[int, str]
) -> Graph:
    """Put a graph of some units into its place among all of them."""
    if len(units) == n_units:
        return graph
    place = np.ix_(units, units)
    edges = np.zeros((n_units, n_units), dtype=bool)
    weights = np.zeros((n_units, n_units))
    p = np.full((n_units, n_units), np.nan)
    edges[place], weights[place], p[place] = graph.edges, graph.weights, graph.p
    return Graph(edges, weights, p, dict(left_out), graph.limited)
