"""Which edges stay when only part of the data is looked at: the bootstrap of Time-Aware PC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stream.connectome.estimator import Estimator
from stream.connectome.graph import Graph
from stream.connectome.statistics import Statistics
from stream.errors import GraphError


@dataclass(frozen=True)
class Stable:
    """A graph of edges that stayed, and how often each edge was there.

    Attributes
    ----------
    graph
        Edges found at least as often as asked; the weight is the mean over the times when it was
        there, and p the median.
    frequency
        float64 (units, units), 0 to 1.
    """

    graph: Graph
    frequency: NDArray[np.float64]


def stable(
    data: ArrayLike,
    estimator: Estimator,
    *,
    delay: int = 1,
    stretch: int,
    times: int = 25,
    cut_off: float = 0.25,
    seed: int = 0,
    starts: Sequence[int] = (),
) -> Stable:
    """Estimate a graph from each of many stretches of the data, and keep the edges that stay.

    Step 6 of Time-Aware PC. Stretches lie anywhere and may overlap.

    Parameters
    ----------
    data
        (bins, units).
    estimator
        Which graph.
    delay
        Largest delay in bins.
    stretch
        Bins of each.
    times
        How many stretches.
    cut_off
        Share of the stretches in which an edge has to be found.
    seed
        Of where they lie.
    starts
        Bins at which another stretch of time begins.

    Raises
    ------
    GraphError
        The data are shorter than a stretch, or no data at all.
    """
    array = np.asarray(data)
    if array.ndim != 2 or len(array) < stretch or times < 1:
        raise GraphError(
            f"data of shape {array.shape} came in; {times} stretches of {stretch} bins need (bins,"
            " units) of at least that length."
        )
    random = np.random.default_rng(seed)
    graphs = []
    for begin in random.integers(len(array) - stretch + 1, size=times):
        inside = [s - int(begin) for s in starts if begin < s < begin + stretch]
        part = array[begin : begin + stretch]
        graphs.append(estimator.estimate(Statistics.of(part, delay, starts=inside)))
    edges = np.stack([g.edges for g in graphs])
    frequency = edges.mean(axis=0)
    kept = (frequency > 0) & (frequency >= cut_off)
    weights = np.stack([g.weights for g in graphs]).sum(axis=0) / np.maximum(edges.sum(axis=0), 1)
    tested = np.stack([g.p for g in graphs])
    p = np.median(np.where(np.isnan(tested), 1.0, tested), axis=0)
    p[np.isnan(tested).all(axis=0)] = np.nan
    always = set.intersection(*(set(g.left_out) for g in graphs))
    left_out = {unit: graphs[0].left_out[unit] for unit in sorted(always)}
    return Stable(Graph(kept, np.where(kept, weights, 0.0), p, left_out), frequency)
