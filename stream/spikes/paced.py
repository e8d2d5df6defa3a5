"""Sources that emit prepared packets when their time has come."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from stream.node import Context, NodeSettings, Source
from stream.packet import Packet

LATE_NS = 1_000_000
# A tick hands over at most this many packets, so that the node's process can also see to the rest.
_BATCH = 256


def _speed(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "max" or (number and 0 < value < float("inf")):  # type: ignore[operator]
        return value
    raise ValueError(f"expected a number above 0 (1 is real time) or 'max', found {value!r}")


class PacedSettings(NodeSettings):
    """Settings of every paced source."""

    speed: Annotated[float | Literal["max"], BeforeValidator(_speed)] = Field(
        1.0, description="times real time; `max` is as fast as the receivers take it"
    )


Timed = tuple[int, Packet]
"""When a packet is due, in ns after the start at speed 1, and the packet."""

P = TypeVar("P", bound=PacedSettings)


class PacedSource(Source[P]):
    """A source whose packets are prepared, each with the time after the start when it is due.

    What exists e ns after the start is due at start + e / speed. It carries that deadline as
    `t_ns`, so that the source's own lateness counts as latency; at speed `max`, where nothing is
    due at any time, it carries the time at which it was handed over. After a late wake-up
    everything that is due follows in order and nothing is lost; wake-ups later than 1 ms are noted
    as `late_ticks`, the worst as `worst_late_ms`.
    """

    def open(self, context: Context) -> None:
        """Start with no lateness on the books."""
        super().open(context)
        self._start_ns: int | None = None
        self._late_ticks = 0
        self._worst_ns = 0
        context.counters.note("late_ticks", 0)

    def pace(self, timeline: Iterable[Timed]) -> None:
        """Set what to emit, in the order of the times at which it is due."""
        self._timeline: Iterator[Timed] = iter(timeline)
        self._advance()

    def start(self, start_ns: int) -> None:
        """Put every deadline on the common start of the run."""
        self._start_ns = start_ns

    def due_ns(self) -> int | None:
        """Return when the next packet is due."""
        if self._start_ns is None or self._next is None:
            return None
        if self.settings.speed == "max":
            return self._start_ns
        return self._start_ns + round(self._next[0] / self.settings.speed)

    def tick(self) -> Iterable[Packet]:
        """Emit what is due."""
        due_ns = self.due_ns()
        paced = self.settings.speed != "max"
        if due_ns is not None and paced:
            self._note_lateness(time.monotonic_ns() - due_ns)
        for _ in range(_BATCH):
            now_ns = time.monotonic_ns()
            if self._next is None or due_ns is None or due_ns > now_ns:
                return
            packet = self._next[1]
            packet.t_ns = due_ns if paced else now_ns
            try:
                yield packet
            finally:
                # The next one is made after this one has gone, and so adds nothing to its latency.
                self._advance()
            due_ns = self.due_ns()

    def _advance(self) -> None:
        self._next = next(self._timeline, None)
        self.finished = self._next is None

    def _note_lateness(self, late_ns: int) -> None:
        if late_ns <= LATE_NS:
            return
        self._late_ticks += 1
        self._worst_ns = max(self._worst_ns, late_ns)
        self.context.counters.note("late_ticks", self._late_ticks)
        self.context.counters.note("worst_late_ms", self._worst_ns / 1e6)


def spike_packet(
    times_ns: NDArray[np.int64], units: NDArray[np.int32], span_ns: tuple[int, int], segment: int
) -> Packet:
    """Make a `spikes` packet of spikes sorted by time; `t_ns` is left to `PacedSource`."""
    data = np.empty((len(times_ns), 2), dtype=np.int64)
    data[:, 0] = times_ns
    data[:, 1] = units
    return Packet(
        kind="spikes", data=data, t_ns=0, source_ns=span_ns[0], source_end_ns=span_ns[1],
        segment=segment,
    )  # fmt: skip
