"""Packets of several streams in the order of their times at the source."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from stream.music.held import Message
from stream.units import to_ns

_HOLD_NS = to_ns(1.0)

Moment = tuple[int, list[Message]]
"""A time at the source in ns, and the messages that happen then, maybe none."""


class Timeline:
    """Merges streams. One that falls silent holds the others back for a second, not longer.

    Attributes
    ----------
    clock_jumps
        How often the clock of a source went back; what followed was put after what was before.
    out_of_order
        Packets that came after others of later times had been handed out; they count as of then.
    """

    def __init__(self, streams: Iterable[str]) -> None:
        self.clock_jumps = 0
        self.out_of_order = 0
        self._newest: dict[str, int | None] = dict.fromkeys(streams)
        self._shifts = dict.fromkeys(self._newest, 0)
        self._waiting: list[tuple[int, int, list[Message]]] = []
        self._number = 0
        self._reached_ns: int | None = None

    def add(self, stream: str, source_ns: int, messages: list[Message]) -> Iterator[Moment]:
        """Take what happens at a time, and return all that has become ready, in order."""
        time_ns = source_ns + self._shifts[stream]
        if (reached_ns := self._reached_ns) is not None and time_ns < reached_ns:
            if reached_ns - time_ns > _HOLD_NS:
                self._shifts[stream] += reached_ns - time_ns
                self.clock_jumps += 1
            else:
                self.out_of_order += 1
            time_ns = reached_ns
        self._newest[stream] = max(time_ns, self._newest[stream] or time_ns)
        heapq.heappush(self._waiting, (time_ns, self._number, messages))
        self._number += 1
        times = [time for time in self._newest.values() if time is not None]
        end_ns = max(times) - _HOLD_NS
        if len(times) == len(self._newest):
            end_ns = max(end_ns, min(times))
        return self._until(end_ns)

    def rest(self) -> Iterator[Moment]:
        """Return what still waits, in order."""
        return self._until(None)

    def _until(self, end_ns: int | None) -> Iterator[Moment]:
        while self._waiting and (end_ns is None or self._waiting[0][0] <= end_ns):
            time_ns, _, messages = heapq.heappop(self._waiting)
            self._reached_ns = time_ns
            yield time_ns, messages
