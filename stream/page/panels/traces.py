"""The panel of continuous channels: a handful of traces, by lowest and highest value a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.node import Counters, StreamSpec
from stream.packet import Packet
from stream.page.panels.panel import HISTORY, Chunk, Panel

MOST_CHANNELS = 8
"""How many channels are drawn at once."""

COLUMN_NS = 10_000_000
"""What one column of pixels covers: a thousand of them are the ten seconds that are seen."""


class Traces(Panel):
    """Continuous channels: of each column, `low` and `high` (float32, columns x channels).

    `channels` (uint16) says which channels these are, `at` (float32) how long before `t` each
    column begins, in s. One may come in parts, by chunks one after another; without samples there
    is none. While nobody looks samples are not touched, and a chunk has none of these.
    """

    view = "traces"
    depth = HISTORY
    event = True

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        self._channels = spec.shape[1] or 0
        self._rate_hz = float(spec.meta["rate_hz"])
        self._chosen = np.arange(min(MOST_CHANNELS, self._channels))
        self._since_ns = np.empty(0, np.int64)
        self._forget()

    def describe(self) -> dict[str, Any]:
        """Return also how many channels there are, how many are drawn, and their rate in Hz."""
        return super().describe() | {
            "channels": self._channels, "drawn": len(self._chosen), "rate": self._rate_hz,
        }  # fmt: skip

    def choose(self, channels: Sequence[int]) -> bool:
        """Draw these channels, by index, for everybody who looks; False when they cannot be drawn.

        They must be as many as before, and there.
        """
        fit = len(channels) == len(self._chosen) and all(0 <= c < self._channels for c in channels)
        if fit:
            self._chosen = np.array(channels)
            self._forget()
        return fit

    def gather(self, packet: Packet) -> None:
        """Copy the channels that are drawn, if anybody looks."""
        if not self.watched():
            self._forget()
            return
        rows = len(packet.data)
        if rows > len(self._since_ns):
            self._since_ns = np.rint(np.arange(rows) * (1e9 / self._rate_hz)).astype(np.int64)
        self._rows.append(packet.data[:, self._chosen])
        self._times.append(packet.source_ns + self._since_ns[:rows])

    def fold(self) -> Chunk:
        """Return lowest and highest values by column."""
        assert self._newest is not None
        if not any(map(len, self._times)):
            return {}
        rows, columns = np.concatenate(self._rows), np.concatenate(self._times) // COLUMN_NS
        self._forget()
        first = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
        at = (self._newest.source_end_ns - COLUMN_NS * columns[first]) / 1e9
        # What is not a number is no extreme, unless a column has nothing else.
        return {
            "channels": self._chosen.astype(np.uint16).tobytes(),
            "at": at.astype(np.float32).tobytes(),
            "low": np.fmin.reduceat(rows, first).astype(np.float32).tobytes(),
            "high": np.fmax.reduceat(rows, first).astype(np.float32).tobytes(),
        }

    def _forget(self) -> None:
        self._rows: list[NDArray[Any]] = []
        self._times: list[NDArray[np.int64]] = []
