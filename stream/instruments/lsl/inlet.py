"""`lsl.in`: a stream of Lab Streaming Layer."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress, pairwise
from math import isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from stream.errors import ConfigError, InnervateError
from stream.instruments.lsl.irregular import Spikes
from stream.instruments.lsl.library import LslClock, load_pylsl
from stream.instruments.lsl.reader import Pulled, Reader
from stream.instruments.lsl.sampled import Samples, Stretch
from stream.instruments.lsl.streams import Layout, Wanted, describe, find
from stream.node import Context, NodeSettings, Source, StreamSpec
from stream.packet import Packet
from stream.spikes.packets import spike_packet
from stream.units import Seconds, format_hertz, to_ns

Kind = Literal["samples", "counts", "behaviour", "spikes", "markers"]

_PATIENCE_S = 0.002
_WATCHED_NS = 300_000
_AWAY_NS = 20_000_000
_STAMP_LIMIT_S = 9e9
_SPIKES_NS = 1_000_000
_TOLD_NS = 250_000_000
_FOREIGN_NS = 10_000_000_000
_MARKER_BYTES = 4096
_WRONG_RATE = 0.01
_MEASURED_NS = 5_000_000_000

_log = logging.getLogger(__name__)


class LslInSettings(NodeSettings):
    """Settings of `lsl.in`."""

    name: str | None = Field(None, description="name of the stream")
    type: str | None = Field(None, description="its content type, such as EEG or Markers")
    source_id: str | None = Field(None, description="its source_id, when names do not tell")
    kind: Kind | None = Field(
        None,
        description="what it carries: samples, counts, behaviour, spikes or markers; by default"
        " samples where it has a rate, markers where it is text, spikes where it is one or two"
        " integers without a rate",
    )
    units: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="spikes: the units that there are, CHANNEL-UNIT such as 12-1, or CHANNEL where"
        " the stream has one column; by default those that its description lists",
    )
    hold: Seconds = Field(
        0.01, gt=0, le=1,
        description="spikes: how long one may be on its way; later ones are dropped",
    )  # fmt: skip

    @model_validator(mode="after")
    def _some(self) -> LslInSettings:
        if self.name is None and self.type is None and self.source_id is None:
            raise ValueError("set name, type or source_id, so that it is not chance which it is")
        return self


class LslIn(Source[LslInSettings]):
    """Sends what a stream of Lab Streaming Layer brings, from the newest sample on.

    Time stamps are corrected for the sender's clock by LSL's own measurements and mapped to
    this host's; a packet's `t_ns` is when its newest sample was taken, jitter removed. `source_ns`
    of a stream with a rate counts samples, missing ones too, at the stated rate. A stream that is
    lost is found again when it is back: its next packet begins a segment, and says in `gap` how
    many samples are missing.
    """

    use = "lsl.in"
    summary = "a stream of Lab Streaming Layer: samples, counts, behaviour, spikes or markers"
    Settings = LslInSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Look for the stream and return what it carries.

        Raises
        ------
        ConfigError
            There is no such stream, or several, or it does not carry what is asked for.
        MissingExtraError
            pylsl is not installed.
        """
        pylsl = load_pylsl()
        info = find(pylsl, self._wanted(), settle=True)
        layout = describe(pylsl.StreamInlet(info, recover=False))
        about: dict[str, Any] = {
            "lsl": {
                "name": info.name(), "type": info.type(), "source_id": info.source_id(),
                "host": info.hostname(),
            }
        }  # fmt: skip
        kind = self._kind(layout)
        if kind == "markers":
            return {"": StreamSpec("markers", (None,), "uint8", meta=about)}
        if kind == "spikes":
            names = tuple(self._units(layout).values())
            return {"": StreamSpec("spikes", (None, 2), "int64", names, meta=about)}
        shape: tuple[int | None, ...] = (layout.channels,)
        period_s = 1 / layout.rate_hz if layout.rate_hz else None
        unit = layout.unit
        if kind == "samples":
            shape, about = (None, layout.channels), {**about, "rate_hz": layout.rate_hz}
        elif kind == "counts":
            unit = "count"
        return {"": StreamSpec(kind, shape, "float32", layout.labels, unit, period_s, about)}

    def open(self, context: Context) -> None:
        """Connect to the stream."""
        super().open(context)
        pylsl = load_pylsl()
        self._clock = LslClock(pylsl.local_clock)
        # That there is but one was seen when the pipeline was checked.
        info = find(pylsl, self._wanted(), settle=False)
        self._reader = Reader(pylsl, info, self._clock)
        layout = self._reader.layout
        assert layout is not None
        self._layout = layout
        self._kind_of = self._kind(layout)
        self._samples = Samples(layout.rate_hz) if layout.rate_hz else None
        self._spikes: Spikes | None = None
        if self._kind_of == "spikes":
            self._spikes = Spikes(to_ns(self.settings.hold))
            self._index = {code: k for k, code in enumerate(self._units(layout))}
        self.wakes = self._reader.arrivals.fileno()
        self._connection = 0
        self._segment = 0
        self._gap = 0
        self._overrun = self._late = 0
        self._started = False
        self._release_ns = self._told_ns = 0
        self._ahead_ns = 0
        self._expected_ns = self._arrived_ns = 0
        self._period_ns = self._interval_ns = 1e9 / (layout.rate_hz or 1.0)
        self._first: tuple[int, int] | None = None
        self._count = 0
        self._logged: set[str] = set()

    def start(self, start_ns: int) -> None:
        """Listen from now on."""
        self._started = True
        if self._spikes is not None:
            self._spikes.begin(start_ns)
        self._reader.start(threaded=self._samples is None)

    def due_ns(self) -> int | None:
        """Return when there is something to do.

        A stream with a rate is waited for from shortly before it should bring something, which
        saves the way through another thread; one without when something has come.
        """
        if not self._started:
            return None
        if self._samples is not None:
            if self._reader.lost_ns is not None:
                return time.monotonic_ns() + _AWAY_NS
            return self._expected_ns
        if self._reader.arrivals.waiting:
            return 0
        return min(self._release_ns, self._told_ns) if self._spikes is not None else self._told_ns

    def tick(self) -> Iterable[Packet]:
        """Send what has come.

        Raises
        ------
        InnervateError
            liblsl has failed in a way that is no loss of the stream.
        """
        if (failure := self._reader.failure) is not None:
            raise InnervateError(
                f"reading the LSL stream with {self._wanted()} failed"
                f" ({type(failure).__name__}: {failure})."
            ) from failure
        packets: list[Packet] = []
        if self._samples is not None:
            if (pulled := self._reader.pull(_PATIENCE_S)) is not None:
                packets = self._one(self._samples, pulled) or self._read(pulled)
                self._expect(pulled.arrived_ns)
        else:
            for pulled in self._reader.arrivals.take():
                packets += self._read(pulled)
        now_ns = time.monotonic_ns()
        if self._spikes is not None:
            if self._reader.lost_ns is None:
                self._reconnect(self._reader.outages)
                packets += self._released(now_ns)
            self._release_ns = now_ns + _SPIKES_NS
        if now_ns >= self._told_ns:
            self._tell(now_ns)
            self._told_ns = now_ns + _TOLD_NS
        return packets

    def close(self) -> None:
        """Let go of the stream."""
        if hasattr(self, "_reader"):
            self._reader.close()
            self._tell(time.monotonic_ns())

    def _expect(self, arrived_ns: int) -> None:
        interval_ns = arrived_ns - self._arrived_ns
        self._arrived_ns = arrived_ns
        # After an outage it is none; a hiccup should not count for more than it is.
        self._interval_ns += 0.1 * (min(interval_ns, 2 * self._interval_ns) - self._interval_ns)
        early_ns = min(_WATCHED_NS, self._interval_ns / 2)
        self._expected_ns = arrived_ns + round(self._interval_ns - early_ns)

    # What the stream is

    def _wanted(self) -> Wanted:
        return Wanted(self.settings.name, self.settings.type, self.settings.source_id)

    def _kind(self, layout: Layout) -> Kind:
        kind = self.settings.kind
        integer, text = layout.format.startswith("int"), layout.format == "string"
        if kind is None:
            if text:
                kind = "markers"
            elif layout.rate_hz:
                kind = "samples"
            elif integer and layout.channels <= 2:
                kind = "spikes"
            else:
                raise ConfigError(
                    f"kind: the stream with {self._wanted()} has {layout}, which may be anything;"
                    " set kind to behaviour, counts, spikes or markers."
                )
        fits = {
            "markers": text,
            "samples": bool(layout.rate_hz) and not text,
            "counts": bool(layout.rate_hz) and not text,
            "behaviour": not text,
            "spikes": not text and not layout.rate_hz and layout.channels <= 2,
        }
        if not fits[kind]:
            raise ConfigError(
                f"kind: the stream with {self._wanted()} has {layout}, which cannot be {kind}."
            )
        return kind

    def _units(self, layout: Layout) -> dict[str, str]:
        """Return the units that there are: what samples call them to their names."""
        if self.settings.units is not None:
            units = [(name, name) for name in self.settings.units]
        else:
            units = list(layout.units)
        if not units or len({c for c, _ in units}) + len({n for _, n in units}) < 2 * len(units):
            found = "lists some units twice" if units else "lists no units"
            raise ConfigError(
                f"units: the stream with {self._wanted()} {found}; name those that there are, such"
                " as [1-0, 1-1, 2-1] (channel-unit)."
            )
        return dict(units)

    # What it brings

    def _one(self, samples: Samples, pulled: Pulled) -> list[Packet]:
        """Pack a single sample that follows on the one before, without arrays of one element."""
        values = pulled.values
        stamp_s = float(pulled.stamps_s[0])
        if len(values) > 1 or not abs(stamp_s) < _STAMP_LIMIT_S:
            return []
        if values.dtype != np.float32:
            values = values.astype(np.float32)
        # A sum tells of every value that is not finite, and is one itself only then or very rarely.
        if not isfinite(values.sum()):
            return []
        stamp_ns = round(stamp_s * 1e9) + self._clock.offset_ns
        s = samples.follow(stamp_ns, pulled.arrived_ns, pulled.connection)
        if s is None:
            return []
        self._measure(1, stamp_ns, pulled.arrived_ns)
        kind, gap, self._gap = self._kind_of, self._gap, 0
        end_ns = s.source_ns if kind == "behaviour" else s.source_ns + round(self._period_ns)
        data = values if kind == "samples" else values[0]
        return [Packet(kind, data, s.t_ns, s.source_ns, end_ns, segment=s.segment, gap=gap)]

    def _read(self, pulled: Pulled) -> list[Packet]:
        self._reconnect(pulled.connection)
        values, stamps_s = pulled.values, pulled.stamps_s
        timed = np.abs(stamps_s) < _STAMP_LIMIT_S
        if not timed.all():
            self._gap += 0 if self._samples else int((~timed).sum())
            self._refuse("timestamp", timed, "with a time stamp that is none")
            values, stamps_s = values[timed], stamps_s[timed]
            if not len(values):
                return []
        stamps_ns = np.round(stamps_s * 1e9).astype(np.int64) + self._clock.offset_ns
        self._measure(len(stamps_ns), int(stamps_ns[-1]), pulled.arrived_ns)
        if self._kind_of == "markers":
            return self._markers(values, stamps_ns, pulled.arrived_ns)
        if self._spikes is not None:
            self._take_spikes(values, stamps_ns, pulled.arrived_ns)
            return []
        values = values.astype(np.float32, copy=False)
        finite = np.isfinite(values).all(1)
        self._refuse("not_finite", finite, "with values that are NaN, infinite or beyond float32")
        if self._samples is not None:
            return self._sampled(self._samples, values, finite, stamps_ns, pulled)
        return self._singles("behaviour", list(values), finite, stamps_ns, pulled.arrived_ns)

    def _sampled(
        self,
        samples: Samples,
        values: NDArray[np.float32],
        finite: NDArray[np.bool_],
        stamps_ns: NDArray[np.int64],
        pulled: Pulled,
    ) -> list[Packet]:
        packets = []
        for s in samples.take(stamps_ns, pulled.arrived_ns, pulled.connection):
            self._gap += s.missing
            for first, stop in _runs(finite[s.first : s.stop]):
                if not finite[s.first + first]:
                    self._gap += stop - first
                    continue
                rows = values[s.first + first : s.first + stop]
                packets += self._packed(rows, s, first, s.stop - s.first - stop)
        return packets

    def _packed(
        self, rows: NDArray[np.float32], s: Stretch, before: int, after: int
    ) -> list[Packet]:
        """Pack rows of a stretch, of which so many samples are before and after them."""
        kind, period_ns, segment = self._kind_of, self._period_ns, s.segment
        gap, self._gap = self._gap, 0
        edges = np.round((before + np.arange(len(rows) + 1)) * period_ns).astype(np.int64)
        edges += s.source_ns
        if kind == "samples":
            t_ns = s.t_ns - round(after * period_ns)
            a, b = int(edges[0]), int(edges[-1])
            return [Packet(kind, rows, t_ns, a, b, segment=segment, gap=gap)]
        packets = []
        for k, row in enumerate(rows):
            t_ns = s.t_ns - round((after + len(rows) - 1 - k) * period_ns)
            a = int(edges[k])
            b = int(edges[k + 1]) if kind == "counts" else a
            packets.append(Packet(kind, row, t_ns, a, b, segment=segment, gap=0 if k else gap))
        return packets

    def _take_spikes(
        self, values: NDArray[Any], stamps_ns: NDArray[np.int64], arrived_ns: int
    ) -> None:
        assert self._spikes is not None
        names = ["-".join(f"{v:g}" for v in row) for row in values.tolist()]
        units = np.array([self._index.get(name, -1) for name in names], np.int64)
        self._refuse(
            "unit", units >= 0, f"of unit {names[int(units.argmin())]}, which is not named"
        )
        known = units >= 0
        if known.any():
            self._spikes.take(stamps_ns[known], units[known], arrived_ns)

    def _released(self, now_ns: int) -> list[Packet]:
        assert self._spikes is not None
        packets = []
        for span in self._spikes.release(now_ns):
            packet = spike_packet(
                span.times_ns, span.units.astype(np.int32), (span.start_ns, span.end_ns),
                span.segment,
            )  # fmt: skip
            packet.t_ns, packet.gap = span.end_ns, span.gap
            packets.append(packet)
        return packets

    def _markers(
        self, values: NDArray[Any], stamps_ns: NDArray[np.int64], arrived_ns: int
    ) -> list[Packet]:
        fits = np.array([sum(len(v) for v in row) <= _MARKER_BYTES for row in values])
        self._refuse("too_long", fits, f"of more than {_MARKER_BYTES} bytes")
        # Not every sender writes UTF-8; what it wrote stays recognisable.
        texts = ["\t".join(v.decode(errors="replace") for v in row) for row in values]
        data = [np.frombuffer(text.encode(), np.uint8) for text in texts]
        packets = self._singles("markers", data, fits, stamps_ns, arrived_ns)
        for packet, text in zip(packets, compress(texts, fits), strict=True):
            packet.meta = {"label": text}
        return packets

    def _singles(
        self,
        kind: str,
        data: Sequence[NDArray[Any]],
        good: NDArray[np.bool_],
        stamps_ns: NDArray[np.int64],
        arrived_ns: int,
    ) -> list[Packet]:
        """Pack samples of a stream without a rate, one by one."""
        packets = []
        for array, fits, stamp_ns in zip(data, good.tolist(), stamps_ns.tolist(), strict=True):
            if not fits:
                self._gap += 1
                continue
            t_ns = min(stamp_ns, arrived_ns)
            if arrived_ns - t_ns > _FOREIGN_NS:
                t_ns = arrived_ns
            packets.append(
                Packet(kind, array, t_ns, stamp_ns, stamp_ns, segment=self._segment, gap=self._gap)
            )
            self._gap = 0
        return packets

    def _reconnect(self, connection: int) -> None:
        if connection == self._connection:
            return
        self._connection = connection
        self._segment += 1
        if self._spikes is not None:
            self._spikes.restart(self._reader.found_ns)

    # What there is to say

    def _refuse(self, reason: str, good: NDArray[np.bool_], what: str) -> None:
        """Count the samples that are not good."""
        if good.all():
            return
        count = int((~good).sum())
        self.context.counters.drop(reason, count)
        self._say_once(reason, f"brought {count} samples {what}; such are dropped")

    def _say_once(self, what: str, message: str) -> None:
        if what not in self._logged:
            self._logged.add(what)
            _log.warning("%s: the stream with %s %s", self.context.name, self._wanted(), message)

    def _measure(self, count: int, stamp_ns: int, arrived_ns: int) -> None:
        self._ahead_ns = max(self._ahead_ns, stamp_ns - arrived_ns)
        if not self._layout.rate_hz:
            return
        if self._first is None or self._first[0] != self._connection:
            self._first, self._count = (self._connection, arrived_ns), 0
        self._count += count
        elapsed_ns = arrived_ns - self._first[1]
        if elapsed_ns < _MEASURED_NS:
            return
        measured_hz = self._count * 1e9 / elapsed_ns
        self.context.counters.note("measured_hz", round(measured_hz, 2))
        if abs(measured_hz / self._layout.rate_hz - 1) > _WRONG_RATE:
            stated = format_hertz(self._layout.rate_hz)
            self.context.counters.note("stated_hz", self._layout.rate_hz)
            self._say_once("rate", f"brings {measured_hz:.4g} samples a second, not {stated}")
        self._first, self._count = (self._connection, arrived_ns), 0

    def _tell(self, now_ns: int) -> None:
        counters, reader = self.context.counters, self._reader
        if more := reader.overrun - self._overrun:
            counters.drop("overrun", more)
            self._overrun += more
        counters.note("clock_correction_us", round(reader.correction_s * 1e6, 1))
        if self._ahead_ns > _SPIKES_NS:
            counters.note("stamps_ahead_ms", round(self._ahead_ns / 1e6, 3))
        if reader.outages:
            away_ns = 0 if reader.lost_ns is None else now_ns - reader.lost_ns
            counters.note("outages", reader.outages)
            counters.note("away_s", round(away_ns / 1e9, 1))
            counters.note("refused_returns", reader.refused)
        jumps = 0
        if self._samples is not None:
            jumps = self._samples.jumps
            if self._samples.missing:
                counters.note("samples_missing", self._samples.missing)
            if (drift_ppm := self._samples.clock.drift_ppm) is not None:
                counters.note("drift_ppm", round(drift_ppm, 2))
            counters.note("stamp_jitter_us", round(self._samples.jitter_ns / 1e3, 1))
            if self._samples.foreign:
                counters.note("foreign_clock", True)
                self._say_once("foreign", "has time stamps of another clock; arrival counts")
        elif self._spikes is not None:
            jumps = self._spikes.jumps
            if more := self._spikes.late - self._late:
                counters.drop("late", more)
                self._late += more
        if jumps:
            counters.note("clock_jumps", jumps)


def _runs(good: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first and stop of each run of equal values."""
    if good.all():
        return [(0, len(good))]
    edges = [0, *(np.flatnonzero(np.diff(good)) + 1).tolist(), len(good)]
    return list(pairwise(edges))
