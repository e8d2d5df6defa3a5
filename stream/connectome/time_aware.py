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

from stream.connectome.graph import Bools, Floats, Graph, false_discovery, normal_p, spread
from stream.connectome.orientation import orient
from stream.connectome.skeleton import idle, skeleton
from stream.connectome.statistics import Statistics, correlations, fitted

PRUNE = 0.1
"""Edges weaker than this part of the strongest one are dropped, as in the paper."""


@dataclass(frozen=True)
class _PC:
    """What every form of PC is told.

    Parameters
    ----------
    alpha
        Level of each test, and rate of false discoveries among pairs.
    alive
        Called every few milliseconds while it works.
    """

    alpha: float = 0.05
    alive: Callable[[], None] = idle


class StaticPC(_PC):
    """PC on units at one time, a directed probabilistic graphical model: bins are independent.

    Weight: rise of the column's unit with the row's, its other parents held.
    """

    def estimate(self, statistics: Statistics) -> Graph:
        """Return the graph; an edge without a direction stands in both.

        Raises
        ------
        GraphError
            There are too few rows for any test.
        """
        return _estimate(statistics, self, 0, "now")


class TimeAwarePC(_PC):
    """Time-Aware PC, for data that go on: as in the paper, with what stationarity allows.

    The neighbours of each unit now, among all units now and up to `delay` bins ago; edges point
    forward in time; the graph is rolled up into one of units, with edges within a bin and of units
    on themselves. Edges between past variables are the same as later ones, and are not looked for
    again: their own past is out of sight. Weight: effect of setting a unit on another one, with
    those of its parents held that are as early or earlier, mean over delays.
    """

    def estimate(self, statistics: Statistics) -> Graph:
        """Return the rolled graph.

        Raises
        ------
        GraphError
            There are too few rows for any test.
        """
        return _estimate(statistics, self, statistics.delay, "now")


class NeuroPC(_PC):
    """PC on all units at all times of a row alike, then rolled: the earlier form of `TimeAwarePC`.

    It also takes the edges between past variables as it finds them, where common causes are out of
    sight, which brings false ones.
    """

    def estimate(self, statistics: Statistics) -> Graph:
        """Return the rolled graph.

        Raises
        ------
        GraphError
            There are too few rows for any test.
        """
        return _estimate(statistics, self, statistics.delay, "always")


def _estimate(statistics: Statistics, settings: _PC, delay: int, when: str) -> Graph:
    units, left_out = statistics.usable()
    # The largest sets have 3 members.
    statistics.needs_rows(3, "PC")
    n = len(units)
    d = n * (delay + 1)
    chosen = statistics.restrict(units)
    cov = chosen.cov[:d, :d]
    slices = np.repeat(np.arange(delay + 1), n)
    found = skeleton(
        correlations(cov), chosen.rows, settings.alpha, n if when == "now" else d, settings.alive
    )
    settings.alive()
    arrows = orient(found, slices)
    settings.alive()
    rolled_p = _rolled_p(found.z, slices, n)
    edges = _roll(arrows, n, np.logical_or) & false_discovery(rolled_p, settings.alpha)
    arrows &= np.tile(edges, (delay + 1, delay + 1))
    effects = _effects(cov, arrows, slices, settings.alive)
    many = np.maximum(_roll(arrows, n, np.add, dtype=np.int64), 1)
    weights = np.where(edges, _roll(effects, n, np.add) / many, 0.0)
    edges &= np.abs(weights) >= PRUNE * np.abs(weights).max(initial=0.0)
    weights = np.where(edges, weights, 0.0)
    return spread(Graph(edges, weights, rolled_p), units, statistics.n_units, left_out)


def _roll(unrolled: NDArray[Any], n: int, ufunc: np.ufunc, **how: Any) -> NDArray[Any]:
    """Fold (d, d) over the delays of rows and columns into (n, n)."""
    blocks = unrolled.reshape(len(unrolled) // n, n, -1, n)
    return np.asarray(ufunc.reduce(blocks, axis=(0, 2), **how))


def _rolled_p(z: Floats, slices: NDArray[np.int64], n: int) -> Floats:
    """Return the p-value of each pair of units: of its delays the smallest, by Bonferroni."""
    d = len(slices)
    p = np.ones((d, d))
    p[:, : len(z)] = normal_p(z).T
    tested = slices[:, None] >= slices
    tested[:, len(z) :] = False
    tested[np.diag_indices(d)] = False
    p[~tested] = 1.0
    times = _roll(tested, n, np.add, dtype=np.int64)
    rolled = np.minimum(_roll(p, n, np.minimum) * times, 1.0)
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
    for child in np.flatnonzero(arrows.any(axis=0)):
        alive()
        parents = np.flatnonzero(arrows[:, child])
        for back in np.unique(slices[parents]):
            held = parents[slices[parents] >= back]
            slopes = fitted(cov, held, child)
            here = slices[held] == back
            effects[held[here], child] = slopes[here]
    return effects
