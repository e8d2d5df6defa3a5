"""The two ends of a hop: as nodes of a pipeline, and as bare pyzmq programs."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Iterable, Mapping

import numpy as np
import zmq

from benchmarks._pacing import wait_until
from stream.node import Context, Node, NodeSettings, Source, StreamSpec
from stream.packet import Packet
from stream.runtime.clock import sharpen_timers


class BeaconSettings(NodeSettings):
    nbytes: int
    rate_hz: float
    count: int


class Beacon(Source[BeaconSettings]):
    """Sends arrays of one size at a steady rate, each with the time at which it was sent."""

    use = "benchmarks._hop_parts:Beacon"
    Settings = BeaconSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        return {"": StreamSpec("bytes", (self.settings.nbytes,), "uint8")}

    def open(self, context: Context) -> None:
        super().open(context)
        self._data = np.ones(self.settings.nbytes, np.uint8)
        self._number = 0

    def start(self, start_ns: int) -> None:
        self._start_ns = start_ns

    def due_ns(self) -> int:
        return self._start_ns + round(self._number * 1e9 / self.settings.rate_hz)

    def tick(self) -> Iterable[Packet]:
        self._number += 1
        self.finished = self._number >= self.settings.count
        return [Packet("bytes", self._data, time.monotonic_ns(), 0, 0)]


class Stopwatch(Node[NodeSettings]):
    """Notes how long each array took from its source to here."""

    use = "benchmarks._hop_parts:Stopwatch"
    accepts = frozenset({"bytes"})

    def open(self, context: Context) -> None:
        super().open(context)
        self._took_ns: list[int] = []

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        self._took_ns.append(time.monotonic_ns() - packet.t_ns)
        return ()

    def finish(self) -> Iterable[Packet]:
        self.context.counters.note("took_ns", self._took_ns)
        return ()


_STAMP = struct.Struct("<q")


def send(address: str, nbytes: int, rate_hz: float, count: int) -> None:
    """Send with a bare PUSH socket, paced as sources of the runtime are."""
    sharpen_timers()
    data = bytearray(nbytes)
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(address)
        start_ns = time.monotonic_ns() + 50_000_000
        for number in range(count):
            due_ns = start_ns + round(number * 1e9 / rate_hz)
            wait_until(due_ns)
            _STAMP.pack_into(data, 0, time.monotonic_ns())
            socket.send(data)


def receive(address: str, count: int) -> None:
    """Receive with a bare PULL socket and write the durations, in ns, as JSON."""
    sharpen_timers()
    took_ns = []
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.bind(address)
        sys.stdout.write("bound\n")
        sys.stdout.flush()
        for _ in range(count):
            message = socket.recv()
            took_ns.append(time.monotonic_ns() - _STAMP.unpack_from(message)[0])
    json.dump(took_ns, sys.stdout)


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
    else:
        receive(sys.argv[2], int(sys.argv[3]))
