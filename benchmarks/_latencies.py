"""A sink that writes down when each packet arrived and how old it was."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable

import numpy as np

from stream.node import Context, Node, NodeSettings
from stream.packet import Packet

FILE = "latencies.npy"


class Latencies(Node[NodeSettings]):
    """Leaves `latencies.npy` in the folder of the run: int64 (packets, 2), time and age in ns."""

    use = "benchmarks._latencies:Latencies"
    accepts = frozenset({"*"})

    def open(self, context: Context) -> None:
        super().open(context)
        self.seen = array("q")

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        now_ns = time.monotonic_ns()
        self.seen.extend((now_ns, now_ns - packet.t_ns))
        return ()

    def close(self) -> None:
        np.save(self.context.run_dir / FILE, np.array(self.seen, np.int64).reshape(-1, 2))
