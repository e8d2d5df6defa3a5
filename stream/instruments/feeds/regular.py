"""Segments, gaps and host times of what is not spikes: one after the other, each with its time."""

from __future__ import annotations

import logging

from stream.instruments.sample_clock import SampleClock
from stream.instruments.spike_flow import JUMP_S
from stream.node import Counters

_log = logging.getLogger(__name__)


class RegularFlow:
    """Follows the clock of a sender through its messages.

    A clock that jumps by more than a second, in either direction, begins a segment, as `lost` does.

    Attributes
    ----------
    segment, gap
        Of the next packet; reading `gap` by `take_gap` clears it.
    """

    def __init__(self, clock: SampleClock, counters: Counters) -> None:
        self.clock = clock
        self.segment = 0
        self._gap = 0
        self._counters = counters
        self._next: int | None = None
        self._ever = False

    def hear(self, first: int, end: int, arrived_ns: int) -> int | None:
        """Learn of data from `first` to before `end`; return how many ticks are missing before.

        Returns
        -------
        int or None
            None when it lies before what was there already, and is to be refused.
        """
        jump = round(JUMP_S * self.clock.rate_hz)
        if self._next is not None:
            early_ns = -self.clock.away_ns(end, arrived_ns)
            if first < self._next - jump or early_ns > JUMP_S * 1e9:
                self._counters.count("clock_jumps")
                if self._counters.notes["clock_jumps"] == 1:
                    _log.warning("the clock of the sender jumped to %d: a new segment", first)
                self.lost()
            elif first < self._next:
                return None
        missing = 0 if self._next is None else first - self._next
        if self._next is None:
            self.segment += self._ever
            self._ever = True
            self.clock.restart()
        self.clock.observe(end, arrived_ns)
        self._next = end
        return missing

    def lost(self, gap: int = 0) -> None:
        """Note that the sender was lost: what comes next is a new segment."""
        self._next = None
        self._gap += gap

    def missed(self, count: int) -> None:
        """Note that so many messages did not arrive."""
        self._gap += count

    def take_gap(self) -> int:
        """Return how many are missing before the next packet."""
        gap, self._gap = self._gap, 0
        return gap
