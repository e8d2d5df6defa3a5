"""The double of Open Ephys with a recording, and a node that listens to it in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from open_ephys_process import OpenEphysProcess, free_ports

from stream.node import Context

UNITS = 6


class Driven:
    """A source, driven as a worker drives it: asked when it is due, then called."""

    def __init__(self, node: Any, linked: frozenset[str] | None = None) -> None:
        self.node = node
        self.outputs = node.outputs({})
        node.open(Context("probe", {}, Path(), outputs=self.outputs, linked=linked))
        node.start(time.monotonic_ns())
        self.packets: list[Any] = []

    @property
    def notes(self) -> dict[str, Any]:
        return self.node.context.counters.notes

    @property
    def dropped(self) -> dict[str, int]:
        return self.node.context.counters.dropped

    def of(self, output: str) -> list[Any]:
        return [p for p in self.packets if p.output == output]

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline, (self.notes, self.dropped)
            if self.node.due_ns() <= time.monotonic_ns():
                self.packets += self.node.tick()
            else:
                time.sleep(0.001)

    def more(self, blocks: int = 5) -> None:
        """Go on until so many more packets of the first output came."""
        output = next(iter(self.outputs))
        have = len(self.of(output))
        self.until(lambda: len(self.of(output)) >= have + blocks)


@pytest.fixture(scope="session")
def session_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 2 s with six units of some 10 to 60 Hz, in bins of 1 ms."""
    rates_hz = 10.0 * np.arange(1, UNITS + 1)
    counts = np.random.default_rng(5).random((2000, UNITS)) < rates_hz / 1000
    path = tmp_path_factory.mktemp("open-ephys") / "session.npz"
    np.savez(path, counts=counts.astype(np.uint8), width_s=0.001)
    return path


@pytest.fixture(scope="session")
def double(session_file: Path) -> Iterator[Callable[..., OpenEphysProcess]]:
    """Return what starts a double; `port` is a free one unless given."""
    started: list[OpenEphysProcess] = []

    def start(recording: Path = session_file, **options: Any) -> OpenEphysProcess:
        process = OpenEphysProcess(recording, **{"port": free_ports(4), **options})
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()


@pytest.fixture(scope="session")
def gui(double: Callable[..., OpenEphysProcess]) -> OpenEphysProcess:
    """A GUI with both plugins; the Event Broadcaster is 4 ports above the ZMQ Interface."""
    first = free_ports(6)
    return double(port=first, events_port=first + 4)


@pytest.fixture(scope="session")
def raw_gui(double: Callable[..., OpenEphysProcess]) -> int:
    """Return the port of an Event Broadcaster that sends raw binary."""
    port = free_ports(1)
    double(only_events=True, events_port=port, raw=True)
    return port


@pytest.fixture
def driven() -> Iterator[Callable[..., Driven]]:
    """Return what drives a node until the test is over."""
    nodes: list[Any] = []

    def drive(node: Any, **options: Any) -> Driven:
        nodes.append(node)
        return Driven(node, **options)

    yield drive
    for node in nodes:
        node.close()
