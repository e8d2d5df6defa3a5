"""What `innervate bench loop` puts around a trigger: a source that crosses, and receivers."""

from __future__ import annotations

import os
import pty
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Mapping

import numpy as np

from stream.node import NodeSettings, Source, StreamSpec
from stream.packet import Packet

UNITS = 182


class CrossingsSettings(NodeSettings):
    period_ns: int = 5_000_000


class Crossings(Source[CrossingsSettings]):
    """Rates on absolute deadlines, of which one unit is above 50 Hz in every other packet."""

    use = "benchmarks._loop_parts:Crossings"
    Settings = CrossingsSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        names = tuple(f"u{n}" for n in range(UNITS))
        period_s = self.settings.period_ns / 1e9
        return {"": StreamSpec("rates", (UNITS,), "float32", names, "Hz", period_s)}

    def start(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.number = 0
        self.random = np.random.default_rng(0)

    def due_ns(self) -> int | None:
        return self.start_ns + self.number * self.settings.period_ns

    def tick(self) -> Iterable[Packet]:
        t_ns, at_ns = self.due_ns(), self.number * self.settings.period_ns
        data = self.random.uniform(0, 40, UNITS).astype(np.float32)
        data[7] = 100 * (self.number % 2)
        self.number += 1
        return [Packet("rates", data, t_ns, at_ns, at_ns + self.settings.period_ns)]


class Arrivals:
    """A UDP port and a pseudoterminal, and when what came there did."""

    def __init__(self) -> None:
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self.udp_port = self._udp.getsockname()[1]
        self._master, self._slave = pty.openpty()
        self.serial_port = os.ttyname(self._slave)
        self.udp_ns: list[int] = []
        self.sent_us: list[float] = []
        self.serial_ns: list[int] = []
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    def _receive(self) -> None:
        while not self._leave.is_set():
            ready = select.select([self._udp, self._master], (), (), 0.05)[0]
            now_ns = time.monotonic_ns()
            if self._udp in ready and (data := self._udp.recv(4096)).startswith(b"/go\0"):
                self.udp_ns.append(now_ns)
                # A rule's message ends with the age of its data in ms, when it was made.
                self.sent_us.append(struct.unpack(">f", data[-4:])[0] * 1e3)
            if self._master in ready:
                self.serial_ns += [now_ns] * os.read(self._master, 4096).count(b"F")

    def close(self) -> None:
        """Take no more."""
        self._leave.set()
        self._thread.join()
        self._udp.close()
        os.close(self._master)
        os.close(self._slave)
