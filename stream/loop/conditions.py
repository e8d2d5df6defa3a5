"""Conditions: when a value is beyond its threshold, and when it has changed by enough."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from stream.loop.values import Values


class Condition:
    """A threshold with hysteresis on values, or on how far they have risen in a window of time.

    Attributes
    ----------
    active
        Whether it holds: from a value above `on` to one not above `off`.
    """

    def __init__(self, on: float, off: float, sign: float, within_ns: int | None) -> None:
        """Make a condition; with a `sign` of -1 values hold below, or fall by, what is given."""
        self.active = False
        self._on, self._off, self._sign = on, off, sign
        self._window = None if within_ns is None else LeastOf(within_ns)

    def reset(self) -> None:
        """Forget the past."""
        self.active = False
        if self._window is not None:
            self._window.clear()

    def push(self, time_ns: int, values: Values) -> tuple[int, float] | None:
        """Take the values (n,) of a moment; NaN is skipped.

        Returns
        -------
        tuple of int and float, or None
            Which value is furthest beyond the threshold, and that value, or its change; None where
            none is finite, which leaves all as it was.
        """
        amounts = np.where(np.isfinite(values), self._sign * values, np.nan)
        if self._window is not None:
            amounts = amounts - self._window.push(time_ns, amounts)
        if np.isnan(amounts).all():
            return None
        at = int(np.nanargmax(amounts))
        amount = float(amounts[at])
        self.active = amount > (self._off if self.active else self._on)
        return at, amount if self._window is not None else self._sign * amount


class LeastOf:
    """The least of each value over a window of time, at the same small cost however long it is.

    What is old enough to leave soon stands in `front`, each row with the least from there on; what
    came since stands in `back`.
    """

    def __init__(self, span_ns: int) -> None:
        self._span_ns = span_ns
        self.clear()

    def clear(self) -> None:
        """Start from nothing."""
        self._front: list[tuple[int, Values]] = []
        self._back: deque[tuple[int, Values]] = deque()
        self._back_least: Values | None = None
        self._last_ns: int | None = None

    def push(self, time_ns: int, values: Values) -> Values:
        """Take the values (n,) of a moment and return the least (n,) of the window up to it.

        NaN is skipped. A time before the last one starts a new window.
        """
        if self._last_ns is not None and time_ns < self._last_ns:
            self.clear()
        self._last_ns = time_ns
        self._back.append((time_ns, values))
        least = self._back_least
        self._back_least = values if least is None else np.fmin(least, values)
        self._leave(time_ns - self._span_ns)
        if not self._front:
            return self._back_least
        front = self._front[-1][1]
        return front if self._back_least is None else np.fmin(front, self._back_least)

    def _leave(self, before_ns: int) -> None:
        while self._front and self._front[-1][0] < before_ns:
            self._front.pop()
        if self._front or self._back[0][0] >= before_ns:
            return
        while self._back and self._back[0][0] < before_ns:
            self._back.popleft()
        times = [time_ns for time_ns, _ in reversed(self._back)]
        rows: NDArray[np.float64] = np.array([values for _, values in reversed(self._back)])
        self._front = list(zip(times, np.fmin.accumulate(rows), strict=True))
        self._back.clear()
        self._back_least = None


class Gate:
    """Lets firings through: not too soon after the last one, and not too many in a time."""

    def __init__(self, refractory_ns: int, limit: tuple[int, int] | None) -> None:
        """Make a gate; `limit` is how many in how many ns."""
        self._refractory_ns = refractory_ns
        count, self._span_ns = limit or (1, 0)
        # The times of the last firings, as many as may lie in the span of the limit.
        self._fired_ns: deque[int] = deque(maxlen=count)

    def ask(self, now_ns: int) -> str:
        """Let a firing through and return nothing, or why not: `refractory` or `limit`."""
        fired_ns = self._fired_ns
        if fired_ns and now_ns - fired_ns[-1] < self._refractory_ns:
            return "refractory"
        if len(fired_ns) == fired_ns.maxlen and now_ns - fired_ns[0] < self._span_ns:
            return "limit"
        fired_ns.append(now_ns)
        return ""
