"""Has the graph changed? The newest quarter of a window against the rest of it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np

from stream.connectome.granger import regress
from stream.connectome.skeleton import idle
from stream.connectome.sliding import Running
from stream.errors import GraphError

_PER_WINDOW = 16
_WINDOWS = 8
# Half a window is left out, so that a change is not measured against itself, and half a window is
# the least to measure against.
_NEWEST = _LEAST = _PER_WINDOW // 2


def difference(running: Running, alive: Callable[[], None] = idle) -> float:
    """Return by how much connections differ within a window: about 0 where they do not.

    Every unit is fitted by the past of all, once over the newest quarter of the window and once
    over the rest. The squared differences of all slopes, each over its variance, are added up, and
    the sum is scaled so that it has mean 0 and standard deviation 1 for linear, stationary data.

    Parameters
    ----------
    running
        The statistics.
    alive
        Called now and then meanwhile.

    Returns
    -------
    float
        The measure; NaN while there are too few rows.
    """
    try:
        recent, before = running.recent_and_before()
        alive()
        units = np.intersect1d(recent.usable()[0], before.usable()[0])
        if not len(units):
            return math.nan
        new = regress(recent.restrict(units))
        alive()
        old = regress(before.restrict(units))
    except GraphError:
        return math.nan
    variance = (new.errors**2 + old.errors**2) * (1 - running.shared)
    squares = (new.slopes - old.slopes) ** 2 / variance
    return float((squares.sum() - squares.size) / math.sqrt(2 * squares.size))


class Change:
    """The difference within the window, measured against what it used to be.

    Spikes are neither linear nor quite stationary, so their difference is always a little above
    what would be expected. What is usual is the median of up to 8 windows, and its spread (by the
    median absolute deviation, at least 1) is the unit.

    Parameters
    ----------
    running
        The statistics.
    alive
        Called now and then while it is computed.
    """

    def __init__(self, running: Running, alive: Callable[[], None] = idle) -> None:
        self._running, self._alive = running, alive
        self._past: deque[float] = deque(maxlen=_PER_WINDOW * _WINDOWS)
        self._bins = 0

    def after(self, bins: int) -> float:
        """Return the measure after so many more bins; NaN in the first two windows or 16 calls."""
        self._bins += bins
        found = difference(self._running, self._alive)
        if not math.isfinite(found) or self._running.filling:
            return math.nan
        if self._bins >= self._running.window / _PER_WINDOW:
            self._bins = 0
            self._past.append(found)
        usual = np.array(self._past)[:-_NEWEST]
        if len(usual) < _LEAST:
            return math.nan
        middle = np.median(usual)
        spread = 1.4826 * np.median(np.abs(usual - middle))
        return float((found - middle) / max(spread, 1.0))
