"""A sink that checks what a lossless stream of bins promises: each bin once, in order, in time."""

from __future__ import annotations

import time
from collections.abc import Iterable

from stream.node import Context, Node, NodeSettings
from stream.packet import Packet


class Audit(Node[NodeSettings]):
    """Counts bins that are missing, doubled, incomplete, or here only after the next one ended."""

    use = "benchmarks._audit:Audit"
    accepts = frozenset({"counts", "rates"})

    def open(self, context: Context) -> None:
        super().open(context)
        self.found = {"bins": 0, "segments": 0, "lost": 0, "doubled": 0, "incomplete": 0, "late": 0}
        self._end_ns: int | None = None
        self._segment: int | None = None

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        now_ns = time.monotonic_ns()
        found, width_ns = self.found, packet.source_end_ns - packet.source_ns
        found["bins"] += 1
        found["incomplete"] += packet.gap > 0
        found["late"] += now_ns - packet.t_ns > width_ns
        if self._end_ns is not None:
            # Between segments up to a bin is left over, which belongs to none.
            bins = (packet.source_ns - self._end_ns) // width_ns
            if packet.segment == self._segment and bins == 0 and packet.source_ns != self._end_ns:
                found["lost"] += 1
            found["lost"] += max(0, bins)
            found["doubled"] += max(0, -bins)
        found["segments"] += packet.segment != self._segment
        self._segment, self._end_ns = packet.segment, packet.source_end_ns
        return ()

    def finish(self) -> Iterable[Packet]:
        self.context.counters.note("audit", self.found)
        return ()
