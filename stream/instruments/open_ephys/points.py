"""Points in time that have come, spikes or edges, until nothing earlier can follow."""

from __future__ import annotations

import numpy as np

from stream.instruments.sample_clock import SampleClock
from stream.packet import Packet
from stream.spikes.packets import spike_packet

_LIMIT = 1_000_000


class Points:
    """Points with a sample number and an index, handed out in order of time.

    Attributes
    ----------
    known
        The sample before which everything has been handed out; None before the first.
    late
        Points that came although everything of their time had been handed out. They follow with
        the next ones, and whoever bins them decides.
    strange
        Points more than `reach` samples too early, or later than what has been sampled, and those
        beyond the million that may wait. They are thrown away.
    """

    def __init__(self, reach: int) -> None:
        self.known: int | None = None
        self.late = 0
        self.strange = 0
        self._reach = reach
        self._waiting: list[tuple[int, int]] = []

    def add(self, sample: int, index: int) -> None:
        """Take a point in."""
        if len(self._waiting) < _LIMIT:
            self._waiting.append((sample, index))
        else:
            self.strange += 1

    def begin(self, sample: int) -> None:
        """Begin anew: what is before `sample` is not part of it."""
        self.known = sample
        self._waiting = [point for point in self._waiting if point[0] >= sample]

    def pass_by(self, sample: int) -> None:
        """Skip up to `sample`, because of what is before it nothing more will come."""
        if self.known is not None:
            self.known = max(self.known, sample)

    def take(self, until: int, sampled: int) -> list[tuple[int, int]]:
        """Return what is earlier than `until`, in order; keep what is, up to `sampled`."""
        assert self.known is not None
        taken, kept = [], []
        for point in self._waiting:
            if not self.known - self._reach <= point[0] < sampled:
                self.strange += 1
            elif point[0] < until:
                self.late += point[0] < self.known
                taken.append(point)
            else:
                kept.append(point)
        self._waiting = kept
        self.known = max(self.known, until)
        taken.sort()
        return taken


def spikes_until(
    points: Points, until: int, sampled: int, clock: SampleClock, segment: int
) -> Packet:
    """Return the packet of spikes up to the sample `until`, with `t_ns` still to be set."""
    assert points.known is not None
    span_ns = clock.source_ns(points.known), clock.source_ns(max(points.known, until))
    taken = points.take(until, sampled)
    times_ns = np.array([clock.source_ns(sample) for sample, _ in taken], np.int64)
    units = np.array([unit for _, unit in taken], np.int32)
    return spike_packet(times_ns, units, span_ns, segment)


def edges_until(
    points: Points, until: int, sampled: int, clock: SampleClock, segment: int, *, lines: int
) -> list[Packet]:
    """Return a packet for every moment at which lines changed, and one up to `until` for the rest.

    Line *i* that goes up is a 1 at 2 *i*, one that goes down a 1 at 2 *i* + 1. `t_ns` is to be set.
    """
    assert points.known is not None
    start_ns, end_ns = clock.source_ns(points.known), clock.source_ns(max(points.known, until))
    moments: dict[int, list[int]] = {}
    for sample, index in points.take(until, sampled):
        moments.setdefault(sample, []).append(index)
    packets = []
    for sample, indices in moments.items():
        at_ns = clock.source_ns(sample)
        packets.append(_trigger(indices, lines, (at_ns, at_ns), segment))
    packets.append(_trigger([], lines, (start_ns, end_ns), segment))
    return packets


def _trigger(indices: list[int], lines: int, span_ns: tuple[int, int], segment: int) -> Packet:
    data = np.zeros(2 * lines, np.uint8)
    data[indices] = 1
    return Packet(
        kind="trigger", data=data, t_ns=0, source_ns=span_ns[0], source_end_ns=span_ns[1],
        segment=segment,
    )  # fmt: skip


def edge_names(lines: int) -> tuple[str, ...]:
    """Return the names along the axis of what `edges_until` makes; lines count from 1."""
    return tuple(f"line {line + 1} {way}" for line in range(lines) for way in ("up", "down"))
