"""Has the graph changed? The newest quarter of a window against the rest of it."""

from __future__ import annotations

import math

import numpy as np

from stream.connectome.granger import regress
from stream.connectome.sliding import Running
from stream.errors import GraphError


def change(running: Running) -> float:
    """Return by how much connections have changed within a window: about 0 while they have not.

    Every unit is fitted by the past of all, once over the newest quarter of the window and once
    over the rest. The squared differences of all slopes, each over its variance, are added up, and
    the sum is scaled so that it has mean 0 and standard deviation 1 while the data are stationary.

    Returns
    -------
    float
        The measure; NaN while there are too few rows.
    """
    try:
        recent, before = running.recent_and_before()
        units = np.intersect1d(recent.usable()[0], before.usable()[0])
        if not len(units):
            return math.nan
        new, old = (regress(s.restrict(units)) for s in (recent, before))
    except GraphError:
        return math.nan
    variance = (new.errors**2 + old.errors**2) * (1 - running.shared)
    squares = (new.slopes - old.slopes) ** 2 / variance
    return float((squares.sum() - squares.size) / math.sqrt(2 * squares.size))
