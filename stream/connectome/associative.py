"""Association without direction: correlation, and correlation given all other units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream.connectome.graph import Floats, Graph, false_discovery, fisher_z, normal_p, spread
from stream.connectome.statistics import Statistics, correlations, fitted


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
        r = correlations(statistics.cov[np.ix_(units, units)])
        graph = _undirected(r, normal_p(fisher_z(r, statistics.rows, 0)), self.alpha)
        return spread(graph, units, statistics.n_units, left_out)


@dataclass(frozen=True)
class PartialCorrelation:
    """Correlation at no delay, given all other units. Weight: the partial correlation.

    Each unit is first freed of its own past, as far back as the statistics reach: slow signals
    have fewer independent samples than bins, and agree by chance. Then the correlations are shrunk
    by as much as their number and that of the rows demand.

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
        corr = correlations(without_own_past(statistics.restrict(units)))
        r = partial_correlations(shrunk(corr, statistics.rows))
        p = normal_p(fisher_z(r, statistics.rows, len(units) - 2))
        return spread(_undirected(r, p, self.alpha), units, statistics.n_units, left_out)


def without_own_past(statistics: Statistics) -> Floats:
    """Return covariances (units, units) of what each unit's own past does not predict."""
    n = statistics.n_units
    filters = np.zeros((n, len(statistics.cov)))
    filters[:, :n] = np.eye(n)
    for unit in range(n if statistics.delay else 0):
        past = np.arange(unit + n, len(statistics.cov), n)
        filters[unit, past] = -fitted(statistics.cov, past, unit)
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
