"""Association without direction: correlation, and correlation given all other units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream.connectome.graph import Floats, Graph, false_discovery, fisher_z, normal_p, spread
from stream.connectome.statistics import Statistics, correlations


@dataclass(frozen=True)
class Correlation:
    """Correlation at no delay. Weight: the correlation.

    Parameters
    ----------
    alpha
        Rate of false discoveries among pairs.
    """

    alpha: float = 0.05

    def estimate(self, statistics: Statistics) -> Graph:
        """Return the graph, in both directions for each pair."""
        units, left_out = statistics.usable()
        n = len(units)
        r = correlations(statistics.cov[np.ix_(units, units)])
        graph = _undirected(r, normal_p(fisher_z(r, statistics.rows, 0)), self.alpha)
        return spread(graph, units, statistics.n_units, left_out) if n else graph


@dataclass(frozen=True)
class PartialCorrelation:
    """Correlation at no delay, given all other units. Weight: the partial correlation.

    Parameters
    ----------
    alpha
        Rate of false discoveries among pairs.
    """

    alpha: float = 0.05

    def estimate(self, statistics: Statistics) -> Graph:
        """Return the graph, in both directions for each pair.

        Raises
        ------
        GraphError
            There are too few rows for so many units.
        """
        units, left_out = statistics.usable()
        statistics.needs_rows(len(units), "'partial'")
        r = partial_correlations(correlations(statistics.cov[np.ix_(units, units)]))
        p = normal_p(fisher_z(r, statistics.rows, len(units) - 2))
        return spread(_undirected(r, p, self.alpha), units, statistics.n_units, left_out)


def partial_correlations(corr: Floats) -> Floats:
    """Return the correlation of each pair given all others."""
    precision = np.linalg.inv(corr)
    scale = 1 / np.sqrt(np.diag(precision))
    r = -precision * scale[:, None] * scale
    np.fill_diagonal(r, 1.0)
    return np.asarray(r)


def _undirected(r: Floats, p: Floats, alpha: float) -> Graph:
    once = np.where(np.tri(len(p), k=-1, dtype=bool), p, np.nan)
    edges = false_discovery(once, alpha)
    edges |= edges.T
    p = p.copy()
    np.fill_diagonal(p, np.nan)
    return Graph(edges, np.where(edges, r, 0.0), p)
