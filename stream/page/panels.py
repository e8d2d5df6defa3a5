"""What the page shows of a stream: packets are gathered here and handed over 30 times a second."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stream.node import Counters, StreamSpec
from stream.packet import Packet
from stream.vision.layouts import LAYOUTS

Chunk = dict[str, Any]
"""What came of a stream since the last one, as msgpack can hold it; see `Panel.take`."""

HISTORY = 300
_MOST_EVENTS = 2048
_MOST_ROWS = 8
_MOST_COLUMNS = 6


class Panel(ABC):
    """Gathers the packets of one stream.

    Attributes
    ----------
    view
        What draws it in the page.
    depth
        How many of the newest chunks a page that opens, or was too slow, still gets: 1 where a
        chunk is all there is to know.
    event
        Whether each packet matters, so that a link should keep some rather than only the newest.
    """

    view: ClassVar[str]
    depth: ClassVar[int] = 1
    event: ClassVar[bool] = False

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        self.name = name
        self.spec = spec
        self.counters = counters
        self._packets = 0
        self._missed = 0
        self._seq: int | None = None
        self._newest: Packet | None = None
        self._age_ns = 0

    def describe(self) -> dict[str, Any]:
        """Return what the page knows of the stream before its first packet."""
        return {
            "name": self.name, "view": self.view, "kind": self.spec.kind,
            "names": self.spec.names, "unit": self.spec.unit, "period": self.spec.period_s,
            "depth": self.depth,
        }  # fmt: skip

    def add(self, packet: Packet) -> None:
        """Take one packet; its memory is not used any more once this returns."""
        self._packets += 1
        if self._seq is not None:
            self._missed += max(0, packet.seq - self._seq - 1)
        self._seq = packet.seq
        self._age_ns = time.monotonic_ns() - packet.t_ns
        self._newest = packet
        self.gather(packet)

    def take(self) -> Chunk | None:
        """Return what came since the last call, None if nothing.

        Every chunk has `t`, the time of its end on the clock of the source in s; `age`, the
        newest packet's from acquisition to here in ms; `n`, the number of packets; and `missed`,
        how many did not come, where each matters. Arrays are bytes, little endian.
        """
        if self._newest is None:
            return None
        chunk = {
            "t": self._newest.source_end_ns / 1e9, "age": self._age_ns / 1e6, "n": self._packets,
            "missed": self._missed if self.event else 0, **self.fold(),
        }  # fmt: skip
        self._packets, self._missed, self._newest = 0, 0, None
        return chunk

    @abstractmethod
    def gather(self, packet: Packet) -> None:
        """Keep what is to be shown of a packet."""

    @abstractmethod
    def fold(self) -> Chunk:
        """Return what was gathered, and forget it."""


def _length(spec: StreamSpec) -> int:
    """Return how many values each packet of a stream with one axis has."""
    return spec.shape[0] or 0


class Raster(Panel):
    """Spikes, or the bins in which there were any: `at` (float32, s before `t`) and `unit`."""

    view = "raster"
    depth = HISTORY
    event = True

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        self._times: list[NDArray[np.int64]] = []
        self._units: list[NDArray[np.uint16]] = []
        self._spikes = 0
        self._begin_ns: int | None = None
        self._kept = 0
        self._hidden = 0

    def gather(self, packet: Packet) -> None:
        """Keep times and units."""
        if self._begin_ns is None:
            self._begin_ns = packet.source_ns
        if packet.kind == "spikes":
            times, units = packet.data[:, 0], packet.data[:, 1]
            self._spikes += len(packet.data)
        else:
            units = np.flatnonzero(packet.data > 0)
            times = np.full(len(units), (packet.source_ns + packet.source_end_ns) // 2)
            self._spikes += int(packet.data[units].sum())
        room = _MOST_EVENTS - self._kept
        if len(units) > room:
            self._hidden += len(units) - room
            self.counters.note("spikes_not_drawn", self._hidden)
            times, units = times[:room], units[:room]
        if len(units):
            self._kept += len(units)
            self._times.append(times.astype(np.int64))
            self._units.append(units.astype(np.uint16))

    def fold(self) -> Chunk:
        """Return the spikes, and their number a second."""
        assert self._newest is not None
        assert self._begin_ns is not None
        end_ns = self._newest.source_end_ns
        times = np.concatenate(self._times) if self._times else np.empty(0, np.int64)
        units = np.concatenate(self._units) if self._units else np.empty(0, np.uint16)
        covered_s = (end_ns - self._begin_ns) / 1e9
        chunk = {
            "at": ((end_ns - times) / 1e9).astype(np.float32).tobytes(),
            "unit": units.tobytes(),
            "hz": self._spikes / covered_s if covered_s > 0 else 0.0,
        }
        self._times, self._units = [], []
        self._spikes, self._kept, self._begin_ns = 0, 0, None
        return chunk


class Heat(Panel):
    """Rates: `rates` is the mean of each unit since the last chunk (float32, Hz)."""

    view = "heat"
    depth = HISTORY

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        self._total = np.zeros(_length(spec))

    def gather(self, packet: Packet) -> None:
        """Add to the sum."""
        self._total += packet.data

    def fold(self) -> Chunk:
        """Return the mean."""
        mean = (self._total / self._packets).astype(np.float32)
        self._total[:] = 0
        return {"rates": mean.tobytes()}


class Trajectory(Panel):
    """Behaviour: `rows` (float32, rows x columns) and `at` (float32, s before `t`)."""

    view = "trajectory"
    depth = HISTORY

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        self._columns = min(_MOST_COLUMNS, _length(spec))
        self._rows: list[NDArray[np.float32]] = []
        self._times: list[int] = []

    def describe(self) -> dict[str, Any]:
        """Return also how many columns are shown."""
        return super().describe() | {"columns": self._columns}

    def gather(self, packet: Packet) -> None:
        """Keep the first columns."""
        self._rows.append(packet.data[: self._columns].astype(np.float32))
        self._times.append(packet.source_end_ns)

    def fold(self) -> Chunk:
        """Return some of the rows, evenly spread, and the newest."""
        assert self._newest is not None
        stride = -(-len(self._rows) // _MOST_ROWS)
        rows = np.array(self._rows[::-1][::stride][::-1])
        times = np.array(self._times[::-1][::stride][::-1])
        self._rows, self._times = [], []
        at = (self._newest.source_end_ns - times) / 1e9
        return {"rows": rows.tobytes(), "at": at.astype(np.float32).tobytes()}


class Label(Panel):
    """Probabilities of named classes (`p`, float32), and which one it is (`label`, `share`)."""

    view = "label"

    def gather(self, packet: Packet) -> None:
        """Keep the newest."""
        self._p = packet.data.astype(np.float32)
        self._meta = packet.meta

    def fold(self) -> Chunk:
        """Return the newest."""
        label, share = "", 0.0
        if np.isfinite(self._p).any():
            best = int(np.nanargmax(self._p))
            label, share = self.spec.names[best], float(self._p[best])
        said = self._meta.get("probability")
        return {
            "p": self._p.tobytes(),
            "label": str(self._meta.get("label", label)),
            "share": float(said) if isinstance(said, int | float) else share,
        }


class Skeleton(Panel):
    """The newest joints: `joints` (float32, joints x 3, those of both hands one after another)."""

    view = "skeleton"

    def describe(self) -> dict[str, Any]:
        """Return also the bones, as pairs of joints, and the size of the frames."""
        found = LAYOUTS[str(self.spec.meta["layout"])]
        sides = [
            1 if joint.startswith("left_") else 2 if joint.startswith("right_") else 0
            for joint in found.joints
        ]
        size = (self.spec.meta.get("width", 0), self.spec.meta.get("height", 0))
        return super().describe() | {"bones": found.edges.tolist(), "sides": sides, "size": size}

    def gather(self, packet: Packet) -> None:
        """Keep the newest."""
        self._joints = packet.data.reshape(-1, 3).astype(np.float32)

    def fold(self) -> Chunk:
        """Return the newest."""
        return {"joints": self._joints.tobytes()}


class Video(Panel):
    """The newest frame, made smaller, as a JPEG (`jpeg`), a few times a second."""

    view = "video"
    EVERY_NS: ClassVar[int] = 125_000_000
    WIDTH: ClassVar[int] = 480

    watched: Callable[[], bool] = staticmethod(lambda: True)
    """Whether anybody looks: otherwise no frame is touched."""

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        self._due_ns = 0
        self._frame: NDArray[np.uint8] | None = None

    def gather(self, packet: Packet) -> None:
        """Copy a smaller frame, when one is due."""
        from stream.vision.opencv import load_cv2

        now_ns = time.monotonic_ns()
        if now_ns < self._due_ns or not self.watched():
            return
        self._due_ns = now_ns + self.EVERY_NS
        height, width = packet.data.shape[:2]
        scale = min(1.0, self.WIDTH / width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        cv2 = load_cv2("The node 'page'")
        # The memory of the frame goes back to whoever sent it.
        small = packet.data.copy() if scale == 1 else cv2.resize(packet.data, size, interpolation=3)
        self._frame = small

    def fold(self) -> Chunk:
        """Return the frame, if there is one; whoever sends it makes it a JPEG."""
        frame, self._frame = self._frame, None
        return {} if frame is None else {"jpeg": frame}


class Roll(Panel):
    """Notes of the last seconds: `notes` (float32: pitch, velocity, s ago of on, off, end)."""

    view = "roll"
    event = True
    SHOWN_S: ClassVar[float] = 8.0
    MOST: ClassVar[int] = 1000

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        from stream.music.heard import Listener

        self._new, self._listener = Listener, Listener()
        self._segment: int | None = None
        self._time_ns = 0

    def gather(self, packet: Packet) -> None:
        """Follow the messages."""
        from stream.music.notes import are_events

        if packet.source_ns < self._time_ns:
            self._listener = self._new()
        elif packet.segment != self._segment:
            self._listener.end(packet.source_ns)
        self._segment, self._time_ns = packet.segment, packet.source_ns
        if are_events(packet.data):
            self._listener.add(packet.data, packet.source_ns)
        else:
            self.counters.drop("no_midi_messages")
        self._listener.forget(packet.source_ns - int(self.SHOWN_S * 1e9))

    def fold(self) -> Chunk:
        """Return every note of the last seconds; what has not ended, ends now."""
        now = self._time_ns
        notes = self._listener.notes[-self.MOST :]
        rows = [
            (n.pitch, n.velocity, *((now - at) / 1e9 if at is not None else 0.0 for at in
             (n.on_ns, n.off_ns, n.end_ns)))
            for n in notes
        ]  # fmt: skip
        return {"notes": np.array(rows, np.float32).tobytes(), "seconds": self.SHOWN_S}


class Matrix(Panel):
    """The newest graph: `weights` (int8, from x to, 127 is `top`; 0 where there is no edge)."""

    view = "matrix"

    def gather(self, packet: Packet) -> None:
        """Keep the newest."""
        self._graph = packet.data.astype(np.float32)
        self._meta = packet.meta

    def fold(self) -> Chunk:
        """Return it in 255 steps."""
        edges = self._graph[..., 0] > 0
        weights = np.where(edges, np.nan_to_num(self._graph[..., 1], posinf=0.0, neginf=0.0), 0.0)
        top = float(np.abs(weights).max(initial=0.0))
        steps = np.rint(127 * weights / top) if top else weights
        # However weak, an edge is seen.
        steps = np.where(edges & (steps == 0), np.where(weights < 0, -1, 1), steps)
        facts = {k: v for k, v in self._meta.items() if isinstance(v, int | float)}
        return {
            "weights": steps.astype(np.int8).tobytes(), "top": top, "edges": int(edges.sum()),
            "facts": facts,
        }  # fmt: skip


class Triggers(Panel):
    """Rules: `on` (uint8) is 1 where one fired, or held, since the last chunk, `now` what holds,
    `count` how often one has begun. `t` is host time, since rules may look at several sources.
    """

    view = "triggers"
    depth = HISTORY
    event = True

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        self._on = np.zeros(len(spec.names), np.uint8)
        self._now = self._on.copy()
        self._count = np.zeros(len(spec.names), np.int64)

    def gather(self, packet: Packet) -> None:
        """Count what fires."""
        now = (packet.data > 0).astype(np.uint8)
        # A level is one for as long as it holds, a firing is one each time.
        self._count += now & ~self._now if packet.kind == "levels" else now
        self._on |= now
        self._now = now

    def fold(self) -> Chunk:
        """Return what fired."""
        assert self._newest is not None
        on = self._on.tobytes()
        self._on[:] = 0
        return {
            "t": self._newest.t_ns / 1e9, "on": on, "now": self._now.tobytes(),
            "count": self._count.tolist(),
        }  # fmt: skip


_BY_KIND: dict[str, type[Panel]] = {
    "spikes": Raster, "counts": Raster, "rates": Heat, "behaviour": Trajectory, "labels": Label,
    "action": Label, "probabilities": Label, "skeleton": Skeleton, "keypoints": Skeleton,
    "frame": Video, "notes": Roll, "graph": Matrix, "trigger": Triggers, "levels": Triggers,
}  # fmt: skip
KINDS = tuple(_BY_KIND)
"""Kinds of streams that the page shows."""
_AXES = {"spikes": 2, "notes": 2, "frame": 3, "graph": 3, "skeleton": (2, 3), "keypoints": (2, 3)}
_NAMED = ("labels", "action", "probabilities", "trigger", "levels")
_VARYING = ("spikes", "notes")


def panel_class(spec: StreamSpec) -> type[Panel] | None:
    """Return what shows a stream, None when nothing does."""
    cls, axes = _BY_KIND.get(spec.kind), _AXES.get(spec.kind, 1)
    if cls is None or len(spec.shape) not in (axes if isinstance(axes, tuple) else (axes,)):
        return None
    if None in spec.shape and spec.kind not in _VARYING:
        return None
    if cls is Skeleton and (spec.shape[-1] != 3 or str(spec.meta.get("layout", "")) not in LAYOUTS):
        return None
    if spec.kind in _NAMED and len(spec.names) != spec.shape[0]:
        return None
    return cls
