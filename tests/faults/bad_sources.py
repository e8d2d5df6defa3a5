"""Sources that send what no sound source would. Workers import them by `bad_sources:Name`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from stream.node import NodeSettings, Source, StreamSpec
from stream.packet import Packet

MS = 1_000_000
NAMES = ("a", "b", "c")


class _Scripted(Source[NodeSettings]):
    """Sends one packet a tick from a script, as fast as it is asked."""

    def start(self, start_ns: int) -> None:
        self.at_ns = start_ns
        self.script = self.packets()

    def due_ns(self) -> int | None:
        return self.at_ns

    def tick(self) -> Iterable[Packet]:
        packet = next(self.script, None)
        if packet is None:
            self.finished = True
            return ()
        return (packet,)

    def packets(self) -> Iterator[Packet]:
        return iter(())


class _Spikes(_Scripted):
    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        return {"": StreamSpec("spikes", (None, 2), "int64", NAMES)}

    def packet(self, start_ms: int, rows: list[list[int]]) -> Packet:
        data = np.array(rows, np.int64).reshape(-1, 2)
        begin = start_ms * MS
        return Packet("spikes", data, self.at_ns, begin, begin + 10 * MS)


class ClockBackwards(_Spikes):
    """Its clock jumps back by ten seconds after half a second, once."""

    def packets(self) -> Iterator[Packet]:
        for start_ms in (*range(20_000, 20_500, 10), *range(10_500, 11_000, 10)):
            yield self.packet(start_ms, [[start_ms * MS + 1, 0]])


class OutOfOrder(_Spikes):
    """Every tenth packet holds a spike of 30 ms ago and one of a unit that does not exist."""

    def packets(self) -> Iterator[Packet]:
        for k, start_ms in enumerate(range(0, 1000, 10)):
            rows = [[start_ms * MS + 1, 1]]
            if k % 10 == 9:
                rows = [[(start_ms - 30) * MS, 2], *rows, [start_ms * MS + 2, 7]]
            yield self.packet(start_ms, rows)


class Counts(_Scripted):
    """Sound counts but for a NaN, a negative and an infinite one."""

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        return {"": StreamSpec("counts", (3,), "float32", NAMES, "count", 0.005)}

    def packets(self) -> Iterator[Packet]:
        for k in range(100):
            data = np.full(3, k % 3, np.float32)
            data[1] = {10: np.nan, 20: -1.0, 30: np.inf}.get(k, 1.0)
            yield Packet("counts", data, self.at_ns, k * 5 * MS, (k + 1) * 5 * MS)


class WrongShape(Counts):
    """Announces three units and then sends four."""

    def packets(self) -> Iterator[Packet]:
        yield Packet("counts", np.ones(3, np.float32), self.at_ns, 0, 5 * MS)
        yield Packet("counts", np.ones(4, np.float32), self.at_ns, 5 * MS, 10 * MS)


class Steady(Counts):
    """Sound counts, one packet a millisecond, until the run is ended."""

    def due_ns(self) -> int | None:
        return self.at_ns

    def tick(self) -> Iterable[Packet]:
        self.at_ns += MS
        return super().tick()

    def packets(self) -> Iterator[Packet]:
        k = 0
        while True:
            yield Packet("counts", np.ones(3, np.float32), self.at_ns, k * 5 * MS, (k + 1) * 5 * MS)
            k += 1


class SteadyMarkers(Steady):
    """Sound markers, one a millisecond, until the run is ended."""

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        return {"": StreamSpec("markers", (None,), "uint8")}

    def packets(self) -> Iterator[Packet]:
        k = 0
        while True:
            text = f"trial {k}"
            data = np.frombuffer(text.encode(), np.uint8)
            at_ns = k * 5 * MS
            yield Packet("markers", data, self.at_ns, at_ns, at_ns, meta={"label": text})
            k += 1
