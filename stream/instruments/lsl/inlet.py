"""`lsl.in`: a stream of Lab Streaming Layer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from stream.errors import ConfigError, InnervateError
from stream.instruments.lsl.liblsl import LslClock, load_pylsl
from stream.instruments.lsl.packing import OneByOne, Packing, SpikePacking, Told, WithRate
from stream.instruments.lsl.reader import Pulled, Reader
from stream.instruments.lsl.streams import Layout, Wanted, describe, find
from stream.node import Context, NodeSettings, Source, StreamSpec
from stream.packet import Packet
from stream.units import Seconds, format_hertz, to_ns

Kind = Literal["samples", "counts", "behaviour", "spikes", "markers"]

_PATIENCE_S = 0.002
_PATIENCE_ALONE_S = 0.005
_EARLY_NS = 150_000
_AWAY_NS = 20_000_000
_RELEASED_NS = 1_000_000
_TOLD_NS = 250_000_000
_STAMP_LIMIT_S = 9e9
_AHEAD_NS = 1_000_000
_WRONG_RATE = 0.01
_MEASURED_NS = 5_000_000_000


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
        told = Told(context.counters, f"{context.name}: the stream with {self._wanted()}")
        self._told, self._rate_hz = told, layout.rate_hz
        self._packing: Packing
        self._with_rate: WithRate | None = None
        self._spikes: SpikePacking | None = None
        kind = self._kind(layout)
        if kind == "spikes":
            codes = list(self._units(layout))
            self._packing = self._spikes = SpikePacking(codes, to_ns(self.settings.hold), told)
        elif layout.rate_hz:
            self._packing = self._with_rate = WithRate(kind, layout.rate_hz, told)
        else:
            self._packing = OneByOne(kind, told)
        self.wakes = self._reader.arrivals.fileno()
        self._started = False
        self._release_ns = self._tell_ns = 0
        self._overrun = 0
        self._ahead_ns = 0
        self._patience_s, self._rest_ns = _PATIENCE_ALONE_S, 0
        if not context.alone:
            # One period, however many samples came: who was late once would find several, and if
            # it took that for the time between two of them, it would be late ever after.
            self._patience_s = _PATIENCE_S
            self._rest_ns = max(0, round(1e9 / (layout.rate_hz or 1.0)) - _EARLY_NS)
        self._from_ns = 0
        self._measured: tuple[int, int] | None = None
        self._count = 0

    def start(self, start_ns: int) -> None:
        """Listen from now on."""
        self._started = True
        if self._spikes is not None:
            self._spikes.begin(start_ns)
        self._reader.start(threaded=self._with_rate is None)

    def due_ns(self) -> int | None:
        """Return when there is something to do.

        A stream with a rate is waited for in `tick`, which saves the way through another thread:
        all the time, or where others need this thread, from shortly before the next sample. One
        without a rate is due when something has come.
        """
        if not self._started:
            return None
        if self._with_rate is not None:
            now_ns = time.monotonic_ns()
            if self._reader.lost_ns is not None:
                return now_ns + _AWAY_NS
            return max(now_ns, self._from_ns)
        if self._reader.arrivals.waiting:
            return 0
        return min(self._release_ns, self._tell_ns) if self._spikes is not None else self._tell_ns

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
        now_ns = time.monotonic_ns()
        if now_ns >= self._tell_ns:
            # Before the wait, so that no sample waits for it.
            self._tell(now_ns)
            self._tell_ns = now_ns + _TOLD_NS
        packets: list[Packet] = []
        if self._with_rate is not None:
            if (pulled := self._reader.pull(self._patience_s)) is not None:
                self._from_ns = pulled.arrived_ns + self._rest_ns
                packets = self._read(pulled)
        else:
            for pulled in self._reader.arrivals.take():
                packets += self._read(pulled)
        if self._spikes is not None:
            now_ns = time.monotonic_ns()
            if self._reader.lost_ns is None:
                self._spikes.reconnect(self._reader.outages, self._reader.found_ns)
                packets += self._spikes.release(now_ns)
            self._release_ns = now_ns + _RELEASED_NS
        return packets

    def close(self) -> None:
        """Let go of the stream."""
        if hasattr(self, "_packing"):
            self._tell(time.monotonic_ns())
        if hasattr(self, "_reader"):
            self._reader.close()

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

    def _read(self, pulled: Pulled) -> list[Packet]:
        values, stamps_s = pulled.values, pulled.stamps_s
        if len(values) == 1 and self._with_rate is not None and abs(stamps_s[0]) < _STAMP_LIMIT_S:
            stamp_ns = self._clock.host_ns(float(stamps_s[0]))
            if packets := self._with_rate.follow(values, stamp_ns, pulled):
                self._measure(1, stamp_ns, pulled)
                return packets
        timed = np.abs(stamps_s) < _STAMP_LIMIT_S
        if not timed.all():
            self._told.refuse("timestamp", timed, "with a time stamp that is none")
            if self._with_rate is None:
                self._packing.gap += int((~timed).sum())
            values, stamps_s = values[timed], stamps_s[timed]
            if not len(values):
                return []
        stamps_ns = np.round(stamps_s * 1e9).astype(np.int64) + self._clock.offset_ns
        if self._spikes is not None:
            self._spikes.reconnect(pulled.connection, self._reader.found_ns)
        self._measure(len(stamps_ns), int(stamps_ns[-1]), pulled)
        return self._packing.take(values, stamps_ns, pulled)

    def _measure(self, count: int, stamp_ns: int, pulled: Pulled) -> None:
        """Follow the rate at which samples really come, and stamps that lie ahead."""
        self._ahead_ns = max(self._ahead_ns, stamp_ns - pulled.arrived_ns)
        if not self._rate_hz:
            return
        if self._measured is None or self._measured[0] != pulled.connection:
            self._measured, self._count = (pulled.connection, pulled.arrived_ns), 0
            return
        self._count += count
        elapsed_ns = pulled.arrived_ns - self._measured[1]
        if elapsed_ns < _MEASURED_NS:
            return
        measured_hz = self._count * 1e9 / elapsed_ns
        self._told.counters.note("measured_hz", round(measured_hz, 2))
        if abs(measured_hz / self._rate_hz - 1) > _WRONG_RATE:
            self._told.counters.note("stated_hz", self._rate_hz)
            stated = format_hertz(self._rate_hz)
            self._told.once("rate", f"brings {measured_hz:.4g} samples a second, not {stated}")
        self._measured, self._count = (pulled.connection, pulled.arrived_ns), 0

    def _tell(self, now_ns: int) -> None:
        counters, reader = self._told.counters, self._reader
        if more := reader.overrun - self._overrun:
            counters.drop("overrun", more)
            self._overrun += more
        counters.note("clock_correction_us", round(reader.correction_s * 1e6, 1))
        if self._ahead_ns > _AHEAD_NS:
            counters.note("stamps_ahead_ms", round(self._ahead_ns / 1e6, 3))
        if reader.outages:
            away_ns = 0 if reader.lost_ns is None else now_ns - reader.lost_ns
            counters.note("outages", reader.outages)
            counters.note("away_s", round(away_ns / 1e9, 1))
            counters.note("refused_returns", reader.refused)
        self._packing.tell()
