"""Panels of what neurons do: spikes, rates, and who drives whom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.node import Counters, StreamSpec
from stream.packet import Packet
from stream.page.panels.panel import HISTORY, Chunk, Panel, values_in

_MOST_EVENTS = 2048


class Raster(Panel):
    """Spikes, or the bins in which there were any: `at` (float32, s before `t`) and `unit`."""

    view = "raster"
    depth = HISTORY
    event = True

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        self._times: list[NDArray[np.int64]] = []
        self._units: list[NDArray[np.uint16]] = []
        self._spikes = 0
        self._begin_ns: int | None = None
        self._kept = 0
        self._hidden = 0

    def gather(self, packet: Packet) -> None:
        """Keep times and units."""
        if self._begin_ns is None:
            self._begin_ns = packet.source_ns
        if packet.kind == "spikes":
            times, units = packet.data[:, 0], packet.data[:, 1]
            self._spikes += len(packet.data)
        else:
            units = np.flatnonzero(packet.data > 0)
            times = np.full(len(units), (packet.source_ns + packet.source_end_ns) // 2)
            self._spikes += int(packet.data[units].sum())
        room = _MOST_EVENTS - self._kept
        if len(units) > room:
            self._hidden += len(units) - room
            self.counters.note("spikes_not_drawn", self._hidden)
            times, units = times[:room], units[:room]
        if len(units):
            self._kept += len(units)
            self._times.append(times.astype(np.int64))
            self._units.append(units.astype(np.uint16))

    def fold(self) -> Chunk:
        """Return the spikes, and their number a second."""
        assert self._newest is not None
        assert self._begin_ns is not None
        end_ns = self._newest.source_end_ns
        times = np.concatenate(self._times) if self._times else np.empty(0, np.int64)
        units = np.concatenate(self._units) if self._units else np.empty(0, np.uint16)
        covered_s = (end_ns - self._begin_ns) / 1e9
        chunk = {
            "at": ((end_ns - times) / 1e9).astype(np.float32).tobytes(),
            "unit": units.tobytes(),
            "hz": self._spikes / covered_s if covered_s > 0 else 0.0,
        }
        self._times, self._units = [], []
        self._spikes, self._kept, self._begin_ns = 0, 0, None
        return chunk


class Heat(Panel):
    """Rates: `rates` is the mean of each unit since the last chunk (float32, Hz)."""

    view = "heat"
    depth = HISTORY

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        self._total = np.zeros(values_in(spec))

    def gather(self, packet: Packet) -> None:
        """Add to the sum."""
        self._total += packet.data

    def fold(self) -> Chunk:
        """Return the mean."""
        mean = (self._total / self._packets).astype(np.float32)
        self._total[:] = 0
        return {"rates": mean.tobytes()}


class Matrix(Panel):
    """The newest graph: `weights` (int8, from x to, 127 is `top`; 0 where there is no edge)."""

    view = "matrix"

    def gather(self, packet: Packet) -> None:
        """Keep the newest."""
        self._graph = packet.data.astype(np.float32)
        self._meta = packet.meta

    def fold(self) -> Chunk:
        """Return it in 255 steps."""
        edges = self._graph[..., 0] > 0
        weights = np.where(edges, np.nan_to_num(self._graph[..., 1], posinf=0.0, neginf=0.0), 0.0)
        top = float(np.abs(weights).max(initial=0.0))
        steps = np.rint(127 * weights / top) if top else weights
        # However weak, an edge is seen.
        steps = np.where(edges & (steps == 0), np.where(weights < 0, -1, 1), steps)
        facts = {k: v for k, v in self._meta.items() if isinstance(v, int | float)}
        return {
            "weights": steps.astype(np.int8).tobytes(), "top": top, "edges": int(edges.sum()),
            "facts": facts,
        }  # fmt: skip
