"""Panels of what was decoded: behaviour, labels, and the rules that fire on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.node import Counters, StreamSpec
from stream.packet import Packet
from stream.page.panels.panel import HISTORY, Chunk, Panel, values_in

_MOST_ROWS = 8
_MOST_COLUMNS = 6


class Trajectory(Panel):
    """Behaviour: `rows` (float32, rows x columns) and `at` (float32, s before `t`)."""

    view = "trajectory"
    depth = HISTORY

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        self._columns = min(_MOST_COLUMNS, values_in(spec))
        self._rows: list[NDArray[np.float32]] = []
        self._times: list[int] = []

    def describe(self) -> dict[str, Any]:
        """Return also how many columns are shown."""
        return super().describe() | {"columns": self._columns}

    def gather(self, packet: Packet) -> None:
        """Keep the first columns."""
        self._rows.append(packet.data[: self._columns].astype(np.float32))
        self._times.append(packet.source_end_ns)

    def fold(self) -> Chunk:
        """Return some of the rows, evenly spread, and the newest."""
        assert self._newest is not None
        stride = -(-len(self._rows) // _MOST_ROWS)
        rows = np.array(self._rows[::-1][::stride][::-1])
        times = np.array(self._times[::-1][::stride][::-1])
        self._rows, self._times = [], []
        at = (self._newest.source_end_ns - times) / 1e9
        return {"rows": rows.tobytes(), "at": at.astype(np.float32).tobytes()}


class Label(Panel):
    """Probabilities of named classes (`p`, float32), and which one it is (`label`, `share`)."""

    view = "label"

    def gather(self, packet: Packet) -> None:
        """Keep the newest."""
        self._p = packet.data.astype(np.float32)
        self._meta = packet.meta

    def fold(self) -> Chunk:
        """Return the newest."""
        label, share = "", 0.0
        if np.isfinite(self._p).any():
            best = int(np.nanargmax(self._p))
            label, share = self.spec.names[best], float(self._p[best])
        said = self._meta.get("probability")
        return {
            "p": self._p.tobytes(),
            "label": str(self._meta.get("label", label)),
            "share": float(said) if isinstance(said, int | float) else share,
        }


class Triggers(Panel):
    """Rules: `on` (uint8) is 1 where one fired, or held, since the last chunk, `now` what holds,
    `count` how often one has begun. `t` is host time, since rules may look at several sources.
    """

    view = "triggers"
    depth = HISTORY
    event = True

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        self._on = np.zeros(len(spec.names), np.uint8)
        self._now = self._on.copy()
        self._count = np.zeros(len(spec.names), np.int64)

    def gather(self, packet: Packet) -> None:
        """Count what fires."""
        now = (packet.data > 0).astype(np.uint8)
        # A level is one for as long as it holds, a firing is one each time.
        self._count += now & ~self._now if packet.kind == "levels" else now
        self._on |= now
        self._now = now

    def fold(self) -> Chunk:
        """Return what fired."""
        assert self._newest is not None
        on = self._on.tobytes()
        self._on[:] = 0
        return {
            "t": self._newest.t_ns / 1e9, "on": on, "now": self._now.tobytes(),
            "count": self._count.tolist(),
        }  # fmt: skip
