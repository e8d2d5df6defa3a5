"""A sink that writes down when spikes and segments came."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from stream.node import Context, Node, NodeSettings
from stream.packet import Packet


class ArrivalsSettings(NodeSettings):
    """Where to write it."""

    file: Path


class Arrivals(Node[ArrivalsSettings]):
    """Writes an .npz: for each spike segment, time and moment; for each segment its first moment.

    `spikes` has rows of segment, time on the source's clock and `time.monotonic_ns`, `segments`
    rows of segment and `time.monotonic_ns`, `ages` how old a packet was by its `t_ns`.
    """

    use = "benchmarks._arrivals:Arrivals"
    Settings = ArrivalsSettings
    accepts = frozenset({"spikes"})

    def open(self, context: Context) -> None:
        super().open(context)
        self._spikes: list[np.ndarray] = []
        self._segments: list[tuple[int, int]] = []
        self._ages: list[int] = []

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        now_ns = time.monotonic_ns()
        self._ages.append(now_ns - packet.t_ns)
        if not self._segments or self._segments[-1][0] != packet.segment:
            self._segments.append((packet.segment, now_ns))
        if n := len(packet.data):
            rows = np.empty((n, 3), np.int64)
            rows[:, 0], rows[:, 1], rows[:, 2] = packet.segment, packet.data[:, 0], now_ns
            self._spikes.append(rows)
        return ()

    def finish(self) -> Iterable[Packet]:
        spikes = np.concatenate(self._spikes) if self._spikes else np.empty((0, 3), np.int64)
        segments = np.array(self._segments, np.int64).reshape(-1, 2)
        np.savez(self.settings.file, spikes=spikes, segments=segments, ages=np.array(self._ages))
        return ()
