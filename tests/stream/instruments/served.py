"""A source that is served as its worker would."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.instruments.live import LiveSource
from stream.node import Context
from stream.packet import Packet

_LONGEST_S = 20


class Served:
    """Opens a source and calls it when it asks for that, until enough has come.

    Attributes
    ----------
    packets
        Everything that it sent so far.
    """

    def __init__(self, source: LiveSource[Any, Any], folder: Path) -> None:
        self.source = source
        self.context = Context("probe", {}, folder)
        self.counters = self.context.counters
        self.packets: list[Packet] = []

    def open(self) -> Served:
        """Open and start it."""
        self.source.outputs({})
        self.source.open(self.context)
        self.source.start(time.monotonic_ns())
        return self

    def until(self, holds: Callable[[], bool]) -> Served:
        """Serve it until something holds."""
        end = time.monotonic() + _LONGEST_S
        while not holds():
            assert time.monotonic() < end, (self.counters.dropped, self.counters.notes)
            self.once()
        return self

    def once(self) -> None:
        """Wait a moment for something to come, and take it."""
        due_ns = self.source.due_ns()
        wait_s = 0.05 if due_ns is None else (due_ns - time.monotonic_ns()) / 1e9
        select.select([self.source.wakes], (), (), max(0.0, min(0.05, wait_s)))
        due_ns = self.source.due_ns()
        if due_ns is not None and due_ns <= time.monotonic_ns():
            self.packets += self.source.tick()
        self.source.tell()

    def dropped(self, reason: str, count: int = 1) -> Served:
        """Serve it until so many were dropped for a reason."""
        return self.until(lambda: self.counters.dropped.get(reason, 0) >= count)

    def seconds(self, seconds: float) -> Served:
        """Serve it until so much of the instrument's time has come."""
        return self.until(lambda: self.covered_s() >= seconds)

    def covered_s(self) -> float:
        """Return how much of the instrument's time the packets of the main output cover."""
        return sum(p.source_end_ns - p.source_ns for p in self.of("")) / 1e9

    def of(self, output: str) -> list[Packet]:
        """Return the packets of one output."""
        return [p for p in self.packets if p.output == output]

    def spikes(self, segment: int | None = None) -> NDArray[np.int64]:
        """Return the spikes (of one segment) as rows of time and unit."""
        chosen = [p.data for p in self.of("") if segment is None or p.segment == segment]
        return np.concatenate(chosen) if chosen else np.empty((0, 2), np.int64)
