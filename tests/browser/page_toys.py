"""A source of everything that the page shows, and a node that can be killed."""

import time
from collections.abc import Iterable, Mapping

import numpy as np

from stream.music.notes import events, note_off, note_on, notes_spec
from stream.node import Node, NodeSettings, Source, StreamSpec
from stream.packet import Packet

_PERIOD_S = 0.05
_UNITS = tuple(f"unit{i}" for i in range(24))
_ACTIONS = ("wave", "kick", "bend", "sit down", "stand up", "drop")
_SIZE = (90, 160)


class Every50Ms(Source[NodeSettings]):
    """A source that is due every 50 ms."""

    def start(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._number = 0

    def due_ns(self) -> int | None:
        return self._start_ns + self._number * int(_PERIOD_S * 1e9)


class Everything(Every50Ms):
    """Emits one packet of each kind every 50 ms, all of them moving."""

    use = "page_toys:Everything"

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        def spec(kind, shape, dtype="float32", names=(), unit="", **meta):
            return StreamSpec(kind, shape, dtype, names, unit, _PERIOD_S, meta)

        height, width = _SIZE
        seen = {"layout": "kinect-20", "height": height, "width": width}
        n = len(_UNITS)
        return {
            "": spec("spikes", (None, 2), "int64", _UNITS),
            "rates": spec("rates", (n,), names=_UNITS, unit="Hz"),
            "hand": spec("behaviour", (2,), names=("vel_x", "vel_y"), unit="mm/s"),
            "action": spec("action", (len(_ACTIONS),), names=_ACTIONS),
            "frame": spec("frame", (height, width, 3), "uint8", ("blue", "green", "red")),
            "joints": spec("keypoints", (20, 3), names=("x", "y", "visibility"), **seen),
            "body": spec("skeleton", (20, 3), names=("x", "y", "z"), unit="m", **seen),
            "notes": notes_spec(_PERIOD_S),
            "graph": spec("graph", (n, n, 3), names=_UNITS),
            "trigger": spec("trigger", (2,), "uint8", ("too fast", "left turn")),
        }

    def start(self, start_ns: int) -> None:
        super().start(start_ns)
        self._random = np.random.default_rng(0)

    def tick(self) -> Iterable[Packet]:
        at_ns = self._number * int(_PERIOD_S * 1e9)
        self._number += 1
        made = self._make(self._number)
        for (output, spec), data in zip(self.outputs({}).items(), made, strict=True):
            yield Packet(
                spec.kind, data, time.monotonic_ns(), at_ns, at_ns + int(_PERIOD_S * 1e9),
                output=output,
            )  # fmt: skip

    def _make(self, k: int) -> Iterable[np.ndarray]:
        random, n, at_ns = self._random, len(_UNITS), k * int(_PERIOD_S * 1e9)
        phase = 2 * np.pi * k * _PERIOD_S
        wave = 20 + 20 * np.sin(np.arange(n) / 4 + phase)
        fired = np.flatnonzero(random.random(n) < wave * _PERIOD_S)
        at = at_ns - np.sort(random.integers(0, int(_PERIOD_S * 1e9), len(fired)))[::-1]
        yield np.stack([at, random.permutation(fired)], 1).astype(np.int64)
        yield wave.astype(np.float32)
        yield np.float32([120 * np.sin(phase / 2), 80 * np.sin(phase)])
        p = np.exp(2 * np.sin(np.arange(len(_ACTIONS)) + phase / 3))
        yield (p / p.sum()).astype(np.float32)
        height, width = _SIZE
        frame = np.full((height, width, 3), 60, np.uint8)
        frame[:, (4 * k) % width :][:, :20] = (40, 180, 90)
        yield frame
        body = _POSE + 0.1 * np.sin(phase + np.arange(20))[:, None] * [1, 0.3, 0]
        pixels = np.stack([80 - 40 * body[:, 0], 45 - 40 * body[:, 1], np.ones(20)], 1)
        yield pixels.astype(np.float32)
        yield body.astype(np.float32)
        pitch = 60 + (k // 8) * 4 % 25
        step = {0: [note_on(pitch, 80)], 6: [note_off(pitch)]}.get(k % 8, [])
        yield events(step)
        graph = np.zeros((n, n, 3), np.float32)
        graph[..., 1] = np.roll(np.eye(n), 1 + k // 20 % 3, 1) - 0.5 * np.eye(n)
        graph[..., 0] = graph[..., 1] != 0
        yield graph
        yield np.uint8([k % 20 == 0, k % 33 < 2])


_POSE = np.zeros((20, 3))
_POSE[:4] = [[0, 0, 2], [0, 0.2, 2], [0, 0.6, 2], [0, 0.85, 2]]
for _first, _x in ((4, 0.25), (8, -0.25)):
    _POSE[_first : _first + 4] = [
        [_x * s, y, 2] for s, y in ((1, 0.5), (1.6, 0.3), (2, 0.1), (2.2, 0))
    ]
for _first, _x in ((12, 0.12), (16, -0.12)):
    _POSE[_first : _first + 4] = [[_x, y, 2] for y in (0, -0.45, -0.85, -0.9)]


class Raw(Every50Ms):
    """Emits twelve channels at 1 kHz, each with a saw tooth of its own height."""

    use = "page_toys:Raw"

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        names = tuple(f"el{i}" for i in range(12))
        meta = {"rate_hz": 1000}
        return {"": StreamSpec("samples", (None, 12), "float32", names, "uV", _PERIOD_S, meta)}

    def tick(self) -> Iterable[Packet]:
        at_ns = self._number * int(_PERIOD_S * 1e9)
        self._number += 1
        saw = np.arange(50)[:, None] / 25 - 1
        data = (saw * 100 * np.arange(1, 13)).astype(np.float32)
        yield Packet("samples", data, time.monotonic_ns(), at_ns, at_ns + int(_PERIOD_S * 1e9))


class Pulse(Every50Ms):
    """Emits rates that rise above 50 Hz twice a second."""

    use = "page_toys:Pulse"

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        return {"": StreamSpec("rates", (1,), "float32", ("cell",), "Hz", _PERIOD_S)}

    def tick(self) -> Iterable[Packet]:
        at_ns = self._number * int(_PERIOD_S * 1e9)
        self._number += 1
        data = np.float32([100 * (self._number % 10 < 3)])
        yield Packet("rates", data, time.monotonic_ns(), at_ns, at_ns + int(_PERIOD_S * 1e9))


class Victim(Node[NodeSettings]):
    """Passes rates on, in a process of its own."""

    use = "page_toys:Victim"
    accepts = frozenset({"rates"})

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        return {"": next(iter(inputs.values()))}

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        return (packet.derive("rates", packet.data),)
