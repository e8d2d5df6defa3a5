"""Running statistics: rows come in, old ones leave or fade, and nothing is summed twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.connectome.graph import Floats
from stream.connectome.statistics import Statistics, embed
from stream.errors import GraphError


@dataclass
class _Sums:
    """Weighted sums over rows: weights, their squares, values, products, bins with an event."""

    weight: float
    squares: float
    first: Floats
    second: Floats
    events: Floats

    @classmethod
    def zero(cls, units: int, variables: int) -> _Sums:
        return cls(0.0, 0.0, np.zeros(variables), np.zeros((variables, variables)), np.zeros(units))

    def add(self, rows: Floats, sign: int) -> None:
        """Add rows, or take them away again: exact for counts, which are whole numbers."""
        if not len(rows):
            return
        self.weight += sign * len(rows)
        self.squares += sign * len(rows)
        self.first += sign * rows.sum(axis=0)
        if sign > 0:
            self.second += rows.T @ rows
        else:
            self.second -= rows.T @ rows
        self.events += sign * np.count_nonzero(rows[:, : len(self.events)], axis=0)

    def minus(self, other: _Sums) -> _Sums:
        return _Sums(
            self.weight - other.weight, self.squares - other.squares, self.first - other.first,
            self.second - other.second, self.events - other.events,
        )  # fmt: skip

    def statistics(self, delay: int) -> Statistics:
        units = len(self.events)
        if self.weight <= 0:
            raise GraphError("no row of units has come in yet, so there is no graph.")
        mean = self.first / self.weight
        cov = self.second / self.weight
        cov -= np.outer(mean, mean)
        rows = float(self.weight**2 / max(self.squares, 1e-300))
        return Statistics(delay, rows, mean[:units], cov, self.events.copy())


class Sliding:
    """Statistics of the last `window` bins, and of the last quarter of them.

    Each row is added once and taken away once. Beside them runs a sum that is only added to; when
    it covers the window, it takes the place of the other: an exact rebuild every `window` bins,
    without a pause.

    Parameters
    ----------
    units
        How many.
    delay
        Largest delay in bins.
    window
        Bins, at least 4 * (delay + 1).
    """

    def __init__(self, units: int, delay: int, window: int) -> None:
        self.delay, self.window = delay, window
        self.recent = window // 4
        variables = units * (delay + 1)
        self._ring = np.zeros((window + delay, units), dtype=np.float32)
        # How many bins of the same stretch came before each; -1 for one that is not there.
        self._run = np.full(window + delay, -1, dtype=np.int64)
        self._count = 0
        self._since = 0
        self._all, self._last, self._fresh = (_Sums.zero(units, variables) for _ in range(3))
        self._next_run = 0

    def cut(self) -> None:
        """Say that what comes next does not follow on what came before."""
        self._next_run = 0

    def push(self, data: NDArray[Any]) -> None:
        """Add bins (n, units), all finite, each right after the one before."""
        done = 0
        while done < len(data):
            # No further than to where a sum has to change, and no row may leave unseen.
            step = min(len(data) - done, self.window - self._since, self.recent)
            self._push(data[done : done + step])
            done += step

    def _push(self, data: NDArray[Any]) -> None:
        size = len(self._ring)
        new = self._count + np.arange(len(data))
        self._all.add(self._rows(new - self.window), -1)
        self._ring[new % size] = data
        self._run[new % size] = self._next_run + np.arange(len(data))
        self._next_run += len(data)
        rows = self._rows(new)
        self._all.add(rows, 1)
        self._last.add(rows, 1)
        self._last.add(self._rows(new - self.recent), -1)
        self._fresh.add(rows, 1)
        self._count += len(data)
        self._since += len(data)
        if self._since == self.window:
            self._all, self._since = self._fresh, 0
            self._fresh = _Sums.zero(len(self._all.events), len(self._all.first))

    def _rows(self, numbers: NDArray[np.int64]) -> Floats:
        numbers = numbers[numbers >= 0]
        at = numbers % len(self._ring)
        return embed(self._ring, at[self._run[at] >= self.delay], self.delay)

    @property
    def filling(self) -> bool:
        """Whether fewer bins have come than the window holds."""
        return self._count < self.window

    @property
    def age(self) -> float:
        """How many bins ago the middle of the window was."""
        return min(self._count, self.window) / 2

    @property
    def shared(self) -> float:
        """Share of the variance of a difference, recent less before, that is common to both."""
        return 0.0

    def statistics(self) -> Statistics:
        """Return the statistics of the window.

        Raises
        ------
        GraphError
            Nothing has come in yet.
        """
        return self._all.statistics(self.delay)

    def recent_and_before(self) -> tuple[Statistics, Statistics]:
        """Return the statistics of the last quarter of the window, and of the rest of it.

        Raises
        ------
        GraphError
            One of them is empty yet.
        """
        rest = self._all.minus(self._last)
        return self._last.statistics(self.delay), rest.statistics(self.delay)


class Fading:
    """Statistics in which old rows count less and less; they keep no bins.

    A row that is k bins old weighs f^k. With f = (window - 1) / (window + 1) they are worth as many
    rows as a sliding window. The recent ones fade four times faster, and what came before is the
    difference between the two.

    Parameters
    ----------
    units
        How many.
    delay
        Largest delay in bins.
    window
        Bins that the statistics are to be worth.
    """

    def __init__(self, units: int, delay: int, window: int) -> None:
        self.delay, self.window = delay, window
        variables = units * (delay + 1)
        self._keep = tuple((w - 1) / (w + 1) for w in (window, max(window // 4, 2)))
        self._sums = tuple(_Sums.zero(units, variables) for _ in self._keep)
        # Sum of the products of the two weights of each row.
        self._both = 0.0
        self._count = 0
        self._tail = np.zeros((0, units))

    def cut(self) -> None:
        """Say that what comes next does not follow on what came before."""
        self._tail = self._tail[:0]

    def push(self, data: NDArray[Any]) -> None:
        """Add bins (n, units), all finite, each right after the one before."""
        if not len(data):
            return
        self._count += len(data)
        bins = np.concatenate([self._tail, data.astype(np.float64)])
        at = np.arange(max(self.delay, len(self._tail)), len(bins))
        rows = embed(bins, at, self.delay)
        powers = len(bins) - 1 - at
        units = bins.shape[1]
        for keep, sums in zip(self._keep, self._sums, strict=True):
            weight, faded = keep**powers, keep ** len(data)
            sums.weight = sums.weight * faded + weight.sum()
            sums.squares = sums.squares * faded**2 + (weight**2).sum()
            weighted = rows * weight[:, None]
            sums.first = sums.first * faded + weighted.sum(axis=0)
            sums.second = sums.second * faded + rows.T @ weighted
            sums.events = sums.events * faded + weight @ (rows[:, :units] != 0)
        product = self._keep[0] * self._keep[1]
        self._both = self._both * product ** len(data) + (product**powers).sum()
        self._tail = bins[len(bins) - min(self.delay, len(bins)) :]

    @property
    def filling(self) -> bool:
        """Whether fewer bins have come than the window is worth."""
        return self._count < self.window

    @property
    def age(self) -> float:
        """How many bins old a row is on average, by weight, once there are enough."""
        return (self.window - 1) / 2

    @property
    def shared(self) -> float:
        """Share of the variance of a difference, recent less before, that is common to both."""
        slow, fast = self._sums
        before = slow.weight - fast.weight
        squares = slow.squares + fast.squares - 2 * self._both
        apart = fast.squares / fast.weight**2 + squares / before**2
        return 2 * (self._both - fast.squares) / (fast.weight * before) / apart

    def statistics(self) -> Statistics:
        """Return the statistics.

        Raises
        ------
        GraphError
            Nothing has come in yet.
        """
        return self._sums[0].statistics(self.delay)

    def recent_and_before(self) -> tuple[Statistics, Statistics]:
        """Return the statistics of what is recent, and of what was before.

        Raises
        ------
        GraphError
            One of them is empty yet.
        """
        slow, fast = self._sums
        rest = slow.minus(fast)
        rest.squares = slow.squares + fast.squares - 2 * self._both
        return fast.statistics(self.delay), rest.statistics(self.delay)


Running = Sliding | Fading
"""Statistics that go on."""
