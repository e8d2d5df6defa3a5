"""Sources that emit prepared packets when their time has come."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, Field

from stream.node import Context, NodeSettings, Source
from stream.packet import Packet

LATE_NS = 1_000_000


def _speed(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "max" or (number and 0 < value < float("inf")):  # type: ignore[operator]
        return value
    raise ValueError(f"expected a number above 0 (1 is real time) or 'max', found {value!r}")


def _loop(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, int) and value >= 1):
        return value
    raise ValueError(f"expected true, false or a number of laps from 1, found {value!r}")


Loop = Annotated[
    bool | int,
    BeforeValidator(_loop),
    Field(description="true for ever, or how many times in all"),
]
"""The setting `loop` of what can be played again."""


def laps(loop: bool | int) -> Iterable[int]:
    """Return the numbers of the laps that a `Loop` asks for, from 0."""
    return itertools.count() if loop is True else range(int(loop) or 1)


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
    everything that is due follows in order and nothing is lost; packets more than 1 ms late are
    noted as `late_packets`, the worst as `worst_late_ms`.
    """

    batch: ClassVar[int] = 64
    """Packets that a tick hands over at speed `max`: few calls, and still time for all else."""

    def open(self, context: Context) -> None:
        """Start with no lateness on the books."""
        super().open(context)
        self._start_ns: int | None = None
        self._late_packets = 0
        self._worst_ns = 0
        context.counters.note("late_packets", 0)

    def pace(self, timeline: Iterable[Timed]) -> None:
        """Set what to emit, in the order of the times at which it is due."""
        self._timeline: Iterator[Timed] = iter(timeline)
        self._next: Timed | None = None
        self._prepare()

    def start(self, start_ns: int) -> None:
        """Put every deadline on the common start of the run."""
        self._start_ns = start_ns

    def due_ns(self) -> int | None:
        """Return when the next packet is due, and have it ready."""
        # Here rather than in `tick`, so that it adds nothing to the latency of the one before.
        self._prepare()
        if self._start_ns is None or self._next is None:
            return None
        if self.settings.speed == "max":
            return max(self._start_ns, time.monotonic_ns())
        return self._start_ns + round(self._next[0] / self.settings.speed)

    def tick(self) -> Iterable[Packet]:
        """Emit the next packet if it is due, at speed `max` the next few."""
        packets: list[Packet] = []
        paced = self.settings.speed != "max"
        for _ in range(1 if paced else self.batch):
            due_ns = self.due_ns()
            now_ns = time.monotonic_ns()
            if self._next is None or due_ns is None or due_ns > now_ns:
                break
            packet, self._next = self._next[1], None
            packet.t_ns = due_ns if paced else now_ns
            packets.append(packet)
            if paced and now_ns - due_ns > LATE_NS:
                self._note_lateness(now_ns - due_ns)
        return packets

    def _prepare(self) -> None:
        if self._next is None and not self.finished:
            self._next = next(self._timeline, None)
            self.finished = self._next is None

    def _note_lateness(self, late_ns: int) -> None:
        self._late_packets += 1
        self._worst_ns = max(self._worst_ns, late_ns)
        self.context.counters.note("late_packets", self._late_packets)
        self.context.counters.note("worst_late_ms", self._worst_ns / 1e6)
