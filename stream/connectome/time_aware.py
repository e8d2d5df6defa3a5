"""The PC algorithm on units as they are (DPGM) and on units and their past (Neuro-PC, TPC).

Time-Aware PC: Biswas & Shlizerman, PLoS Comput. Biol. 18 (2022); Neuro-PC: the same, 2020,
arXiv:2011.03913. Written anew from the papers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.connectome.estimator import Estimator
from stream.connectome.graph import Bools, Floats, Graph, false_discovery, normal_p
from stream.connectome.orientation import orient
from stream.connectome.skeleton import idle, skeleton
from stream.connectome.statistics import Statistics, correlations, fitted

PRUNE = 0.1
"""Edges weaker than this part of the strongest one are dropped, as in the paper."""
_BLOCK = 32


@dataclass(frozen=True)
class PC(Estimator):
    """What every form of PC is told.

    Parameters
    ----------
    alpha
        Level of each test, and rate of false discoveries among pairs.
    alive
        Called every few milliseconds while it works.
    """

    alive: Callable[[], None] = idle

    def _among(self, statistics: Statistics, delay: int, targets: int) -> Graph:
        """Return the rolled graph; `targets` is how many variables to find the neighbours of."""
        # The largest sets have 3 members.
        statistics.needs_rows(3, "PC")
        n = statistics.n_units
        d = n * (delay + 1)
        cov = statistics.cov[:d, :d]
        slices = np.repeat(np.arange(delay + 1), n)
        found = skeleton(correlations(cov), statistics.rows, self.alpha, targets, self.alive)
        self.alive()
        arrows = orient(found, slices)
        self.alive()
        rolled_p = _rolled_p(found.z, slices, n)
        edges = _roll(arrows, n, np.logical_or) & false_discovery(rolled_p, self.alpha)
        arrows &= np.tile(edges, (delay + 1, delay + 1))
        effects = _effects(cov, arrows, slices, self.alive)
        many = np.maximum(_roll(arrows, n, np.add, dtype=np.int64), 1)
        weights = np.where(edges, _roll(effects, n, np.add) / many, 0.0)
        edges &= np.abs(weights) >= PRUNE * np.abs(weights).max(initial=0.0)
        limited = len(np.unique(found.limited % n))
        return Graph(edges, np.where(edges, weights, 0.0), rolled_p, limited=limited)


class StaticPC(PC):
    """PC on units at one time, a directed probabilistic graphical model: bins are independent.

    Weight: rise of the column's unit with the row's, its other parents held.
    """

    def among(self, statistics: Statistics) -> Graph:
        """Return the graph; an edge without a direction stands in both.

        Raises
        ------
        GraphError
            There are too few rows for any test.
        """
        return self._among(statistics, 0, statistics.n_units)


class TimeAwarePC(PC):
    """Time-Aware PC, for data that go on: as in the paper, with what stationarity allows.

    The neighbours of each unit now, among all units now and up to `delay` bins ago; edges point
    forward in time; the graph is rolled up into one of units, with edges within a bin and of units
    on themselves. Edges between past variables are the same as later ones, and are not looked for
    again: their own past is out of sight. Weight: effect of setting a unit on another one, with
    those of its parents held that are as early or earlier, mean over delays.
    """

    def among(self, statistics: Statistics) -> Graph:
        """Return the rolled graph.

        Raises
        ------
        GraphError
            There are too few rows for any test.
        """
        return self._among(statistics, statistics.delay, statistics.n_units)


class NeuroPC(PC):
    """PC on all units at all times of a row alike, then rolled: the earlier form of `TimeAwarePC`.

    It also takes the edges between past variables as it finds them, where common causes are out of
    sight, which brings false ones.
    """

    def among(self, statistics: Statistics) -> Graph:
        """Return the rolled graph.

        Raises
        ------
        GraphError
            There are too few rows for any test.
        """
        return self._among(statistics, statistics.delay, len(statistics.cov))


def _roll(unrolled: NDArray[Any], n: int, ufunc: np.ufunc, **how: Any) -> NDArray[Any]:
    """Fold (d, d) over the delays of rows and columns into (n, n)."""
    blocks = unrolled.reshape(len(unrolled) // n, n, -1, n)
    return np.asarray(ufunc.reduce(blocks, axis=(0, 2), **how))


def _rolled_p(z: Floats, slices: NDArray[np.int64], n: int) -> Floats:
    """Return the p-value of each pair of units: of its delays the smallest, by Bonferroni."""
    d = len(slices)
    tested = slices[:, None] >= slices
    tested[:, len(z) :] = False
    tested[np.diag_indices(d)] = False
    largest = np.zeros((d, d))
    largest[:, : len(z)] = z.T
    largest = _roll(np.where(tested, largest, 0.0), n, np.maximum)
    times = _roll(tested, n, np.add, dtype=np.int64)
    rolled = np.minimum(normal_p(largest) * times, 1.0)
    return np.where(times > 0, rolled, np.nan)


def _effects(
    cov: Floats, arrows: Bools, slices: NDArray[np.int64], alive: Callable[[], None]
) -> Floats:
    """Return by how much setting each parent moves each child, (d, d).

    The child's other parents that are as early as the parent or earlier are held: they close the
    ways by which what came before moves both, and lie on none that leads from the one to the other
    later on.
    """
    effects = np.zeros_like(cov)
    for back in np.unique(slices):
        children = np.flatnonzero(arrows[slices == back].any(axis=0))
        parents = arrows[:, children].T & (slices >= back)
        many = parents.sum(axis=1)
        # Children of about as many parents are fitted together.
        for block in np.split(np.argsort(many), np.arange(_BLOCK, len(many), _BLOCK)):
            if not len(block):
                continue
            alive()
            held = np.argsort(~parents[block], axis=1, kind="stable")[:, : many[block].max()]
            real = np.take_along_axis(parents[block], held, axis=1)
            slopes = fitted(cov, held, children[block], real)
            child, place = np.nonzero(real & (slices[held] == back))
            effects[held[child, place], children[block[child]]] = slopes[child, place]
    return effects
