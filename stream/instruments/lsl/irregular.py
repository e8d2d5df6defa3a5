"""Spikes one by one: up to when all of them have come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_FOREIGN_NS = 10_000_000_000
_SPAN_NS = 500_000_000


@dataclass(frozen=True)
class Span:
    """Spikes between two moments, all there are, sorted by time.

    Attributes
    ----------
    times_ns, units
        On the clock of the source, and which unit it was.
    start_ns, end_ns
        What is covered, half open.
    segment, gap
        As in a packet.
    """

    times_ns: Ints
    units: Ints
    start_ns: int
    end_ns: int
    segment: int
    gap: int


class Spikes:
    """Holds spikes back until nothing earlier can follow.

    That is so when a later one has come, since a sender sends in order; and when none has come for
    `hold_ns`. What comes later than that is dropped as `late`.

    Attributes
    ----------
    late, jumps
        Spikes dropped; how often the clock of the source has jumped.
    """

    def __init__(self, hold_ns: int) -> None:
        self.late = 0
        self.jumps = 0
        self._hold_ns = hold_ns
        self._times: list[Ints] = []
        self._units: list[Ints] = []
        self._done: list[Span] = []
        self._begin_ns = self._known_ns = self._newest_ns = 0
        self._offset_ns = 0
        self._segment = 0
        self._gap = 0

    def begin(self, from_ns: int) -> None:
        """Listen from a moment on: what is stamped earlier belongs to something else."""
        self._begin_ns = self._known_ns = self._newest_ns = from_ns

    def restart(self, from_ns: int) -> None:
        """Go on after an outage, which is a segment of its own: who knows what was missed."""
        if self._times:
            self._done.append(self._cut(max(self._newest_ns, self._known_ns) + 1))
        self._segment += 1
        self._gap = 1
        self._times, self._units = [], []
        self.begin(from_ns)

    def take(self, times_ns: Ints, units: Ints, arrived_ns: int) -> None:
        """Take spikes as they come, with their time stamps on `time.monotonic_ns`."""
        if abs(int(times_ns[-1]) - self._offset_ns - arrived_ns) > _FOREIGN_NS:
            # Another clock than LSL's, or one that was set: it is followed from here on.
            self._offset_ns = int(times_ns[-1]) - arrived_ns
            self.jumps += 1
            self.restart(arrived_ns)
        shifted_ns = times_ns - self._offset_ns
        good = shifted_ns >= self._known_ns
        if not good.all():
            if late := int((~good & (shifted_ns >= self._begin_ns)).sum()):
                self.late += late
                self._gap = max(self._gap, 1)
            shifted_ns, units = shifted_ns[good], units[good]
        if len(shifted_ns):
            self._newest_ns = max(self._newest_ns, int(shifted_ns.max()))
            self._times.append(shifted_ns)
            self._units.append(units)

    def release(self, now_ns: int) -> list[Span]:
        """Return what is complete at `now_ns`; a span in which nothing fired is empty."""
        done, self._done = self._done, []
        # A stamp that lies ahead tells nothing about the time until then.
        end_ns = max(now_ns - self._hold_ns, min(self._newest_ns, now_ns))
        while end_ns > self._known_ns:
            done.append(self._cut(min(end_ns, self._known_ns + _SPAN_NS)))
        return done

    def _cut(self, end_ns: int) -> Span:
        times_ns = units = np.empty(0, np.int64)
        if self._times:
            times_ns, units = np.concatenate(self._times), np.concatenate(self._units)
            order = np.argsort(times_ns, kind="stable")
            times_ns, units = times_ns[order], units[order]
            ready = int(times_ns.searchsorted(end_ns))
            whole = ready == len(times_ns)
            self._times = [] if whole else [times_ns[ready:]]
            self._units = [] if whole else [units[ready:]]
            times_ns, units = times_ns[:ready], units[:ready]
        span = Span(times_ns, units, self._known_ns, end_ns, self._segment, self._gap)
        self._known_ns, self._gap = end_ns, 0
        return span
