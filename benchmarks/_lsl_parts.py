"""The ends of a Lab Streaming Layer stream: bare pylsl programs, and nodes of a pipeline.

Each sample carries when it was sent in its first three channels, so that what a receiver makes of
time stamps does not matter.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._pacing import wait_until
from stream.node import Context, Node, NodeSettings, Source, StreamSpec
from stream.packet import Packet
from stream.runtime.clock import sharpen_timers

_BITS = 20
_MASK = (1 << _BITS) - 1


def stamp(row: NDArray[np.float32], now_ns: int) -> None:
    """Write a time into a sample, in three pieces that float32 holds exactly."""
    row[0], row[1], row[2] = now_ns >> 2 * _BITS, now_ns >> _BITS & _MASK, now_ns & _MASK


def took_ns(rows: NDArray[np.float32], now_ns: int) -> list[int]:
    """Return how long ago each sample was sent."""
    pieces = rows[:, :3].astype(np.int64)
    sent_ns = (pieces[:, 0] << 2 * _BITS) + (pieces[:, 1] << _BITS) + pieces[:, 2]
    return list((now_ns - sent_ns).tolist())


class BeaconSettings(NodeSettings):
    channels: int
    rate_hz: float


class Beacon(Source[BeaconSettings]):
    """Makes samples at a steady rate, each with the time at which it was sent."""

    use = "benchmarks._lsl_parts:Beacon"
    Settings = BeaconSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        s = self.settings
        names = tuple(f"c{k}" for k in range(s.channels))
        return {"": StreamSpec("behaviour", (s.channels,), "float32", names, "", 1 / s.rate_hz)}

    def start(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._number = 0

    def due_ns(self) -> int:
        return self._start_ns + round(self._number * 1e9 / self.settings.rate_hz)

    def tick(self) -> Iterable[Packet]:
        data = np.zeros(self.settings.channels, np.float32)
        self._number += 1
        now_ns = time.monotonic_ns()
        stamp(data, now_ns)
        return [Packet("behaviour", data, now_ns, now_ns, now_ns)]


class Stopwatch(Node[NodeSettings]):
    """Notes how long each sample took to here, and what was missing."""

    use = "benchmarks._lsl_parts:Stopwatch"
    accepts = frozenset({"samples"})

    def open(self, context: Context) -> None:
        super().open(context)
        self._took_ns: list[int] = []
        self._missing = 0

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        self._took_ns += took_ns(packet.data, time.monotonic_ns())
        self._missing += packet.gap
        return ()

    def finish(self) -> Iterable[Packet]:
        self.context.counters.note("took_ns", self._took_ns)
        self.context.counters.note("missing", self._missing)
        return ()


class ReturnsSettings(NodeSettings):
    file: Path


class Returns(Node[ReturnsSettings]):
    """Writes a line for each segment: when it came, what is missing, and what is true.

    `clock_samples` is by how many samples the clock of the source went on over what is missing.
    """

    use = "benchmarks._lsl_parts:Returns"
    Settings = ReturnsSettings
    accepts = frozenset({"counts"})

    def open(self, context: Context) -> None:
        super().open(context)
        self._file = self.settings.file.open("w", encoding="utf-8", buffering=1)
        self._last = self._end_ns = 0
        self._segment: int | None = None
        self._period_ns = 1e9 * (next(iter(context.inputs.values())).period_s or 0.0)

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        number = int(packet.data[0])
        if packet.segment != self._segment:
            line = {
                "now_ns": time.monotonic_ns(), "gap": packet.gap,
                "missing": number - self._last - 1, "segment": packet.segment,
                "clock_samples": round((packet.source_ns - self._end_ns) / self._period_ns),
            }  # fmt: skip
            self._file.write(json.dumps(line) + "\n")
        self._last, self._segment = number, packet.segment
        self._end_ns = packet.source_end_ns
        return ()

    def close(self) -> None:
        self._file.close()


def send(name: str, channels: int, rate_hz: float) -> None:
    """Send with a bare outlet, paced as sources of the runtime are, until killed."""
    import pylsl

    sharpen_timers()
    info = pylsl.StreamInfo(name, "Bench", channels, rate_hz, "float32", f"bench-{name}")
    outlet = pylsl.StreamOutlet(info)
    _say("ready")
    row = np.zeros((1, channels), np.float32)
    start_ns, number = time.monotonic_ns(), 0
    while True:
        number += 1
        due_ns = start_ns + round(number * 1e9 / rate_hz)
        wait_until(due_ns)
        stamp(row[0], time.monotonic_ns())
        outlet.push_chunk(row)


def count(name: str, channels: int, rate_hz: float, base_ns: int) -> None:
    """Send the number of each sample, as many as are due since a moment, until killed."""
    import pylsl

    info = pylsl.StreamInfo(name, "Bench", channels, rate_hz, "float32", f"bench-{name}")
    number = int((time.monotonic_ns() - base_ns) / 1e9 * rate_hz) + 2
    outlet = pylsl.StreamOutlet(info)
    _say(str(time.monotonic_ns()))
    while True:
        due_ns = base_ns + round(number * 1e9 / rate_hz)
        if (remaining_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(remaining_ns / 1e9)
        outlet.push_sample([number] * channels, due_ns / 1e9)
        number += 1


def receive(name: str, seconds: float) -> None:
    """Receive with a bare inlet and write the durations, in ns, as JSON."""
    took: list[int] = []
    inlet = _inlet(name)
    _say("ready")
    end_ns = time.monotonic_ns() + round(seconds * 1e9)
    while time.monotonic_ns() < end_ns:
        rows, _ = inlet.pull_chunk(0.2, 1024, min_samples=1, as_numpy=True)
        took += took_ns(rows, time.monotonic_ns())
    _say(json.dumps(took))


def relay(name: str, onto: str) -> None:
    """Pass a stream on by a bare inlet and a bare outlet, until killed."""
    import pylsl

    inlet = _inlet(name)
    about = inlet.info()
    info = pylsl.StreamInfo(
        onto, "Bench", about.channel_count(), about.nominal_srate(), "float32", f"bench-{onto}"
    )
    outlet = pylsl.StreamOutlet(info)
    _say("ready")
    while True:
        rows, stamps_s = inlet.pull_chunk(0.2, 1024, min_samples=1, as_numpy=True)
        if len(rows):
            outlet.push_chunk(rows, float(stamps_s[-1]))


def run(path: str, folder: str) -> None:
    """Run a pipeline until it is interrupted."""
    from stream.pipeline import load_pipeline
    from stream.runtime.supervisor import run_plan

    plan = load_pipeline(Path(path))
    _say("ready")
    run_plan(plan, run_dir=Path(folder))


def _inlet(name: str) -> Any:
    import pylsl

    sharpen_timers()
    (info,) = pylsl.resolve_byprop("name", name, 1, 30)
    inlet = pylsl.StreamInlet(info, max_buflen=10)
    inlet.open_stream(10)
    inlet.flush()
    return inlet


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, what, *given = sys.argv
    part, types = {
        "send": (send, (str, int, float)),
        "count": (count, (str, int, float, int)),
        "receive": (receive, (str, float)),
        "relay": (relay, (str, str)),
        "run": (run, (str, str)),
    }[what]
    part(*(convert(value) for convert, value in zip(types, given, strict=True)))
