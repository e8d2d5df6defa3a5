"""A source for loops that run in real processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from stream.node import NodeSettings, Source, StreamSpec
from stream.packet import Packet

PERIOD_NS = 10_000_000


class WaveSettings(NodeSettings):
    count: int = 100
    turns_at: tuple[int, ...] = ()
    hole_after: int = -1
    hole_ns: int = 0


class Wave(Source[WaveSettings]):
    """Rates of two units, 0 Hz at first and then 100 Hz in turns, maybe with a hole in time."""

    use = "toy_loop:Wave"
    Settings = WaveSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        return {"": StreamSpec("rates", (2,), "float32", ("u1", "u2"), "Hz", PERIOD_NS / 1e9)}

    def start(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.number = 0
        self.high = False

    def due_ns(self) -> int | None:
        s = self.settings
        hole_ns = s.hole_ns if 0 <= s.hole_after < self.number else 0
        return self.start_ns + self.number * PERIOD_NS + hole_ns

    def tick(self) -> Iterable[Packet]:
        t_ns, at_ns = self.due_ns(), self.number * PERIOD_NS
        self.high ^= self.number in self.settings.turns_at
        self.number += 1
        self.finished = self.number >= self.settings.count
        data = np.full(2, 100.0 * self.high, np.float32)
        return [Packet("rates", data, t_ns, at_ns, at_ns + PERIOD_NS)]
