"""Does the past of one unit improve the prediction of another, given the past of all?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream.connectome.estimator import Estimator
from stream.connectome.graph import Floats, Graph, chi2_p, false_discovery, fisher_z, normal_p
from stream.connectome.statistics import RIDGE, Statistics


@dataclass(frozen=True)
class Regression:
    """Every unit, predicted from the past of all units.

    Attributes
    ----------
    slopes
        float64 (delay * units, units): by how much the column's unit rises with the row's variable.
    errors
        float64, the same shape: their standard errors.
    partial
        float64, the same shape: partial correlation given all other variables.
    own
        float64 (delay * units,): variance of each past variable given the others.
    left
        float64 (units,): variance of each unit given the past.
    freedom
        Rows less variables.
    """

    slopes: Floats
    errors: Floats
    partial: Floats
    own: Floats
    left: Floats
    freedom: float


def regress(statistics: Statistics, what: str = "'granger'") -> Regression:
    """Fit every unit by the past of all, by least squares.

    Raises
    ------
    GraphError
        There are too few rows, or there is no past.
    """
    n = statistics.n_units
    variables = n * statistics.delay
    statistics.needs_rows(variables, what)
    past, now = statistics.cov[n:, n:], statistics.cov[n:, :n]
    scale = 1 / np.sqrt(np.maximum(np.diag(past), 1e-300))
    ridged = past * scale[:, None] * scale
    # Only keeps what copies another with a delay from ending it all: it then has large errors.
    ridged[np.diag_indices(variables)] += RIDGE
    inverse = np.linalg.inv(ridged) * scale[:, None] * scale
    slopes = inverse @ now
    left = np.diag(statistics.cov)[:n] - np.einsum("ij,ij->j", slopes, now)
    freedom = statistics.rows - variables - 1
    left = np.maximum(left, 1e-12 * np.diag(statistics.cov)[:n])
    errors = np.sqrt(np.outer(np.diag(inverse), left) / freedom)
    t = slopes / errors
    own = 1 / np.diag(inverse)
    return Regression(slopes, errors, t / np.sqrt(t**2 + freedom), own, left, freedom)


class Granger(Estimator):
    """Granger causality by one vector autoregression. Weight: sum of the slopes over the delays.

    Each slope is tested by Fisher's z of its partial correlation; the delays of a pair are tested
    together. A unit's effect on itself is included.
    """

    def among(self, statistics: Statistics) -> Graph:
        """Return the graph.

        Raises
        ------
        GraphError
            There are too few rows for so many units and delays.
        """
        fit = regress(statistics)
        shape = (statistics.delay, statistics.n_units, statistics.n_units)
        z = fisher_z(fit.partial, fit.freedom + 3, 0).reshape(shape)
        p = normal_p(z[0]) if len(z) == 1 else chi2_p((z**2).sum(axis=0), len(z))
        edges = false_discovery(p, self.alpha)
        return Graph(edges, np.where(edges, fit.slopes.reshape(shape).sum(axis=0), 0.0), p)


class CountGranger(Estimator):
    """Granger causality for spikes: are there more or fewer coincidences than there should be?

    For each pair, coincidences are spikes of one unit 1 to `delay` bins after a spike of the other.
    How many there would be without a connection follows from the regression of `Granger` without
    that pair; the deviance of a Poisson count with that mean is the test. Where few spikes fall
    together, Fisher's z has no say: it finds no inhibition, and too much excitation. Weight: spikes
    added or prevented by each spike. A unit's effect on itself is included.
    """

    def among(self, statistics: Statistics) -> Graph:
        """Return the graph.

        Raises
        ------
        GraphError
            There are too few rows for so many units and delays.
        """
        n, delay, rows, mean = (
            statistics.n_units, statistics.delay, statistics.rows, statistics.mean
        )  # fmt: skip
        fit = regress(statistics, "'counts'")
        together = rows * (statistics.cov[n:, :n] + np.outer(np.tile(mean, delay), mean))
        expected = together - rows * fit.own[:, None] * fit.slopes
        variance = rows * np.outer(fit.own, fit.left)
        found, expected, variance = (
            a.reshape(delay, n, n).sum(axis=0) for a in (together, expected, variance)
        )
        expected = np.maximum(expected, 1e-3)
        # Spikes one at a time have variance = mean; bins that hold several may have more.
        z = deviance_root(found, expected, np.maximum(variance / expected, 1e-3))
        p = normal_p(z)
        edges = false_discovery(p, self.alpha)
        slopes = fit.slopes.reshape(delay, n, n).sum(axis=0)
        return Graph(edges, np.where(edges, slopes, 0.0), p)


def deviance_root(found: Floats, expected: Floats, dispersion: Floats) -> Floats:
    """Return the signed root of the deviance of counts, about standard normal.

    Parameters
    ----------
    found, expected
        A count and its mean; one count is taken half a step nearer to it, since it is whole.
    dispersion
        Variance over mean, 1 for a Poisson count.
    """
    towards = np.sign(found - expected)
    step = np.minimum(dispersion, 1.0) / 2
    found = np.where(np.abs(found - expected) <= step, expected, found - step * towards)
    ratio = np.where(found > 0, found * np.log(np.maximum(found, 1e-300) / expected), 0.0)
    deviance = 2 * np.maximum(ratio - found + expected, 0.0) / dispersion
    return np.asarray(towards * np.sqrt(deviance))
