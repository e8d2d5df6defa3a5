"""Small nodes that the runtime's tests run in real processes.

Where they sleep they play nodes that are slow or hang; nothing waits for anything by it.
"""

import json
import os
import resource
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from stream.errors import ConfigError
from stream.node import Context, Node, NodeSettings, Source, StreamSpec
from stream.packet import Packet


class TickerSettings(NodeSettings):
    count: int = 100
    period_ns: int = 1_000_000
    shape: tuple[int, ...] = (4,)
    dtype: str = "float32"
    kind: str = "counts"
    asap: bool = False
    bad_due_at: int = -1


class Ticker(Source[TickerSettings]):
    """Emits arrays filled with their own number, on absolute deadlines."""

    use = "toy.ticker"
    Settings = TickerSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        s = self.settings
        return {"": StreamSpec(s.kind, s.shape, s.dtype, period_s=s.period_ns / 1e9)}

    def start(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.number = 0
        self.context.counters.note("alone", self.context.alone)

    def due_ns(self) -> int | None:
        if self.number == self.settings.bad_due_at:
            raise RuntimeError("no more to read")
        if self.settings.asap:
            return time.monotonic_ns()
        return self.start_ns + self.number * self.settings.period_ns

    def tick(self) -> Iterable[Packet]:
        s = self.settings
        t_ns = self.due_ns()
        data = np.full(s.shape, self.number % 251, s.dtype)
        at_ns = self.number * s.period_ns
        self.number += 1
        self.finished = self.number >= s.count
        return [Packet(s.kind, data, t_ns, at_ns, at_ns + s.period_ns)]


class EchoSettings(NodeSettings):
    delay_s: float = 0.0
    fail_at: int = -1
    die_at: int = -1
    hang_at: int = -1
    spin_at: int = -1
    slow_open_s: float = 0.0
    bad_open: str = ""
    wrong_shape_at: int = -1


class Echo(Node[EchoSettings]):
    """Passes packets on; fails, dies or hangs when told to."""

    use = "toy.echo"
    Settings = EchoSettings
    accepts = frozenset({"*"})

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        return {"": next(iter(inputs.values()))}

    def open(self, context: Context) -> None:
        super().open(context)
        self.number = 0
        time.sleep(self.settings.slow_open_s)
        if self.settings.bad_open == "config":
            raise ConfigError("the file is missing.")
        if self.settings.bad_open:
            raise RuntimeError("broken")

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        s, number = self.settings, self.number
        self.number += 1
        if number == s.fail_at:
            raise ValueError("seven is not a number")
        if number == s.die_at:
            os.kill(os.getpid(), 9)
        if number == s.hang_at:
            time.sleep(1000)
        while number == s.spin_at:
            pass
        time.sleep(s.delay_s)
        if number == s.wrong_shape_at:
            return [packet.derive(packet.kind, np.zeros(3, "f8"))]
        return [packet.derive(packet.kind, packet.data)]


class SinkSettings(NodeSettings):
    file: Path
    delay_s: float = 0.0
    first_delay_s: float = 0.0
    hold: int = 0
    close_s: float = 0.0


class Sink(Node[SinkSettings]):
    """Writes what it got, and how it ended, to a JSON file."""

    use = "toy.sink"
    Settings = SinkSettings
    accepts = frozenset({"*"})
    max_inputs = None

    def open(self, context: Context) -> None:
        super().open(context)
        self.got: dict[str, list[int]] = {name: [] for name in context.inputs}
        self.wrong = 0
        self.held: list[tuple[Packet, object]] = []
        self.ended = False

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        if not any(self.got.values()):
            time.sleep(self.settings.first_delay_s)
        value = packet.data.flat[0] if packet.data.size else 0
        if self.settings.hold:
            self.held.append((packet, value))
            for old, first in self.held[: -self.settings.hold]:
                self.wrong += bool((old.data != first).any())
            del self.held[: -self.settings.hold]
        self.wrong += bool((packet.data != value).any())
        time.sleep(self.settings.delay_s)
        self.wrong += bool((packet.data != value).any())
        self.got[stream].append(packet.seq)
        return ()

    def finish(self) -> Iterable[Packet]:
        self.ended = True
        return ()

    def close(self) -> None:
        time.sleep(self.settings.close_s)
        text = {"got": self.got, "ended": self.ended, "wrong": int(self.wrong)}
        self.settings.file.write_text(json.dumps(text))


class Patient(Node[NodeSettings]):
    """Has no hurry from its first packet on; notes by how much its process then ranks lower."""

    use = "toy.patient"
    accepts = frozenset({"*"})

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        before = os.nice(0)
        self.context.give_way()
        self.context.give_way()
        if packet.seq == 0:
            self.context.counters.note("lower", os.nice(0) - before)
        return ()


class Gatherer(Node[NodeSettings]):
    """Notes how often its process went to sleep while packets came."""

    use = "toy.gatherer"
    accepts = frozenset({"*"})
    delivery = "latest"
    gathers = True

    def open(self, context: Context) -> None:
        super().open(context)
        self.slept: list[int] = []

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        self.slept.append(resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw)
        return ()

    def finish(self) -> Iterable[Packet]:
        self.context.counters.note("slept", self.slept[-1] - self.slept[0])
        self.context.counters.note("policy", os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)
        return ()
