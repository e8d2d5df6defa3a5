"""Association without direction: correlation, and correlation given all other units."""

from __future__ import annotations

import numpy as np

from stream.connectome.estimator import Estimator
from stream.connectome.graph import Floats, Graph, false_discovery, fisher_z, normal_p
from stream.connectome.statistics import Statistics, correlations, fitted


class Correlation(Estimator):
    """Correlation at no delay. Weight: the correlation; in both directions for each pair."""

    def among(self, statistics: Statistics) -> Graph:
        """Return the graph."""
        n = statistics.n_units
        r = correlations(statistics.cov[:n, :n])
        return _undirected(r, normal_p(fisher_z(r, statistics.rows, 0)), self.alpha)


class PartialCorrelation(Estimator):
    """Correlation at no delay, given all other units. Weight: the partial correlation.

    Each unit is first freed of its own past, as far back as the statistics reach: slow signals
    have fewer independent samples than bins, and agree by chance. Then the correlations are shrunk
    by as much as their number and that of the rows demand. In both directions for each pair.
    """

    def among(self, statistics: Statistics) -> Graph:
        """Return the graph.

        Raises
        ------
        GraphError
            There are too few rows for so many units.
        """
        n = statistics.n_units
        statistics.needs_rows(n, "'partial'")
        corr = correlations(without_own_past(statistics))
        r = partial_correlations(shrunk(corr, statistics.rows))
        return _undirected(r, normal_p(fisher_z(r, statistics.rows, n - 2)), self.alpha)


def without_own_past(statistics: Statistics) -> Floats:
    """Return covariances (units, units) of what each unit's own past does not predict."""
    n = statistics.n_units
    filters = np.zeros((n, len(statistics.cov)))
    filters[:, :n] = np.eye(n)
    units = np.arange(n)[:, None]
    past = units + n * np.arange(1, statistics.delay + 1)
    filters[units, past] = -fitted(statistics.cov, past, np.arange(n))
    return np.asarray(filters @ statistics.cov @ filters.T)


def shrunk(corr: Floats, rows: float) -> Floats:
    """Return correlations nearer to zero, by the share that is expected to err least.

    Schäfer & Strimmer, Stat. Appl. Genet. Mol. Biol. 4 (2005), with the variance of a correlation
    of normal variables.
    """
    off = corr[~np.eye(len(corr), dtype=bool)]
    size = (off**2).sum()
    share = min(1.0, float(((1 - off**2) ** 2).sum() / rows / size)) if size > 0 else 1.0
    smaller = (1 - share) * corr
    np.fill_diagonal(smaller, 1.0)
    return smaller


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
