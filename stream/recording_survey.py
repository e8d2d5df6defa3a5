"""The first pass over the log of a recording: what is there, what is not, and where time ran on."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.node import StreamSpec
from stream.packet import Packet
from stream.recording_log import Logged, LogReader

_TOUCHING_NS = 1000
_AXES_LIMIT = 3
_UNITS_LIMIT = 2**20
_VARYING = ("spikes", "samples", "markers", "notes")
# Of a sample: what rounding to nanoseconds leaves, and no step of a clock hides behind.
_OFF_GRID = 0.01


def is_text(spec: StreamSpec) -> bool:
    """Say whether each packet holds a text, as UTF-8."""
    return spec.kind == "markers" and spec.shape == (None,) and spec.dtype == "uint8"


def has_rows(spec: StreamSpec) -> bool:
    """Say whether a packet holds any number of rows of its series, rather than being one."""
    if spec.kind == "spikes" or is_text(spec):
        return False
    return spec.shape[:1] == (None,) or (spec.kind == "samples" and len(spec.shape) == 2)


def _rate_hz(spec: StreamSpec) -> float | None:
    """Return the sampling rate that a stream of samples states in its `meta`."""
    rate: Any = spec.meta.get("rate_hz") if spec.kind == "samples" else None
    if not isinstance(rate, int | float) or not isfinite(rate) or rate <= 0:
        return None
    return float(rate)


def can_be_kept(spec: StreamSpec) -> bool:
    """Say whether the arrays of a stream have a place in an NWB file."""
    if spec.kind == "spikes":
        return True
    return len(spec.shape) <= _AXES_LIMIT and None not in spec.shape[1:]


@dataclass
class RecordedStream:
    """What the first pass learns of one stream.

    Attributes
    ----------
    name, spec
        Its full name, and what it carries.
    packets
        Packets that were recorded and can be kept.
    rows
        Rows of the series that they make; as many, but where `has_rows`.
    stated_hz
        Rows a second, where the stream says so.
    missing, gaps, refused
        Packets lost before the recorder by their numbers, missing further up, and not kept.
    first_ns
        Source time of the first row.
    spikes
        Number of spikes per unit, for a stream of spikes.
    stretches
        (start, stop, segment) in ns of each contiguous stretch of source time.
    """

    name: str
    spec: StreamSpec
    packets: int = 0
    rows: int = 0
    stated_hz: float | None = field(init=False)
    missing: int = 0
    gaps: int = 0
    refused: int = 0
    first_ns: int = 0
    spikes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    stretches: list[tuple[int, int, int]] = field(default_factory=list)
    last_seq: int = -1
    _last_ns: int = 0
    _step_ns: int = 0
    _even: bool = True
    _on_grid: bool = True
    _off_ns: float = 1.0

    def __post_init__(self) -> None:
        """See what the stream says of its rows."""
        self.stated_hz = 1.0 / self.spec.period_s if self.spec.period_s else None
        if has_rows(self.spec):
            self._even = False
            self.stated_hz = _rate_hz(self.spec)
            if self.stated_hz:
                self._off_ns = max(self._off_ns, _OFF_GRID * 1e9 / self.stated_hz)

    @property
    def rate_hz(self) -> float | None:
        """The sampling rate, or None where the rows are not equally spaced."""
        if self.stated_hz and self._on_grid:
            return self.stated_hz
        if self.packets > 1 and self._even and self._step_ns > 0:
            return 1e9 / self._step_ns
        return None

    def take(self, packet: Packet) -> None:
        """Follow one packet that is kept."""
        rows = len(packet.data) if has_rows(self.spec) else 1
        if rows and not self.rows:
            self.first_ns = packet.source_ns
        if self.packets == 0:
            pass
        elif self.packets == 1:
            self._step_ns = packet.source_ns - self._last_ns
        elif packet.source_ns - self._last_ns != self._step_ns:
            self._even = False
        if self._on_grid and rows:
            place_ns = self.rows / self.stated_hz * 1e9 if self.stated_hz else 0.0
            self._on_grid = abs(packet.source_ns - self.first_ns - place_ns) <= self._off_ns
        self._last_ns = packet.source_ns
        self.packets += 1
        self.rows += rows
        self._stretch(packet)
        if self.spec.kind == "spikes" and len(packet.data):
            units = packet.data[:, 1]
            top = int(units.max()) + 1
            if top > len(self.spikes) and not self.spec.names:
                self.spikes = np.pad(self.spikes, (0, top - len(self.spikes)))
            self.spikes += np.bincount(units, minlength=len(self.spikes))

    def _stretch(self, packet: Packet) -> None:
        start_ns, stop_ns = packet.source_ns, packet.source_end_ns
        sample = stop_ns == start_ns
        if sample:
            stop_ns += round((self.spec.period_s or 0.0) * 1e9)
        if self.stretches and self.stretches[-1][2] == packet.segment:
            began_ns, ended_ns, segment = self.stretches[-1]
            if sample or abs(start_ns - ended_ns) <= _TOUCHING_NS:
                self.stretches[-1] = (began_ns, max(stop_ns, ended_ns), segment)
                return
        self.stretches.append((start_ns, stop_ns, packet.segment))


class Survey:
    """Everything that must be known before the file can be laid out.

    `items` is what iterating over the reader gives.

    Attributes
    ----------
    streams
        Full stream name to what came on it.
    drops
        Every loss that the recorder knows of.
    start, end
        What the recorder said of the run, as in `LogReader`.
    size, lost_bytes, damaged
        Of the log, as in `LogReader`.
    first
        The first packet of all that can be kept; None when there is none.
    """

    def __init__(self, reader: LogReader, items: Iterable[Logged]) -> None:
        self.streams = {name: _stream(name, spec) for name, spec in reader.streams.items()}
        self.drops = Drops()
        self.first: Packet | None = None
        for item in items:
            if item.stream not in self.streams:
                self.streams[item.stream] = _stream(item.stream, _spec_of(item.packet))
            self._take(item)
        self.start, self.end = reader.start, reader.end
        self.size, self.lost_bytes, self.damaged = reader.size, reader.lost_bytes, reader.damaged

    @property
    def stretches(self) -> list[tuple[int, int, int]]:
        """Stretches of the stream that says best what was recorded: counts, else spikes."""
        order = {"counts": 0, "spikes": 1, "rates": 2, "samples": 3}
        there = [s for s in self.streams.values() if s.packets]
        lead = min(there, key=lambda s: order.get(s.spec.kind, 4), default=None)
        return sorted(lead.stretches) if lead else []

    def _take(self, item: Logged) -> None:
        stream, packet = self.streams[item.stream], item.packet
        skipped = packet.seq - stream.last_seq - 1
        if skipped > 0:
            stream.missing += skipped
            self.drops.add(item, "lost before the recorder", skipped)
        elif skipped < 0:
            self.drops.add(item, "numbering restarted", 0)
        stream.last_seq = packet.seq
        if packet.gap:
            stream.gaps += packet.gap
            self.drops.add(item, "missing further up", packet.gap)
        if reason := refusal(stream.spec, item):
            stream.refused += 1
            self.drops.add(item, f"refused: {reason}", 1)
        else:
            stream.take(packet)
            self.first = self.first or packet


def _stream(name: str, spec: StreamSpec) -> RecordedStream:
    return RecordedStream(name, spec, spikes=np.zeros(len(spec.names), np.int64))


def _spec_of(packet: Packet) -> StreamSpec:
    """Describe a stream by its first packet, where the log does not."""
    shape: tuple[int | None, ...] = packet.data.shape
    if packet.kind in _VARYING:
        shape = (None, *shape[1:])
    return StreamSpec(kind=packet.kind, shape=shape, dtype=packet.data.dtype.name)


def refusal(spec: StreamSpec, item: Logged) -> str:
    """Return why a packet of a log cannot go into the file, "" when it can."""
    if reason := item.refused or spec.misfit(item.packet):
        return reason
    if spec.kind != "spikes":
        return "" if can_be_kept(spec) else "wrong_shape"
    units = item.packet.data[:, 1]
    if len(units) and not 0 <= units.min() <= units.max() < (len(spec.names) or _UNITS_LIMIT):
        return "no_such_unit"
    return ""


class Drops:
    """Rows of the table `drops`, a few bytes each: a bad hour may have a million."""

    def __init__(self) -> None:
        self._texts: dict[str, int] = {}
        self._rows = array("q")

    def add(self, item: Logged, what: str, count: int) -> None:
        """Note that `count` packets are missing before this one, or that it is itself."""
        codes = [self._texts.setdefault(text, len(self._texts)) for text in (item.stream, what)]
        self._rows.extend((item.packet.source_ns, *codes, count))

    def columns(self) -> dict[str, Any]:
        """Return the columns of the table: time (s), stream, what, packets."""
        texts = list(self._texts)
        rows = np.asarray(self._rows, np.int64).reshape(-1, 4)
        return {
            "time": rows[:, 0] / 1e9,
            "stream": [texts[i] for i in rows[:, 1]],
            "what": [texts[i] for i in rows[:, 2]],
            "packets": rows[:, 3],
        }
