"""From samples of a stream to packets: with a rate, one by one, or spikes."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from itertools import compress, pairwise
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.instruments.lsl.irregular import Spikes
from stream.instruments.lsl.reader import Pulled
from stream.instruments.lsl.sampled import Samples, Stretch
from stream.node import Counters
from stream.packet import Packet
from stream.spikes.packets import spike_packet

Values = NDArray[Any]
Stamps = NDArray[np.int64]
Mask = NDArray[np.bool_]

_FOREIGN_NS = 10_000_000_000
_MARKER_BYTES = 4096

_log = logging.getLogger(__name__)


class Told:
    """Counts what is refused, and says each thing once.

    Parameters
    ----------
    counters
        Of the node.
    who
        How messages begin.
    """

    def __init__(self, counters: Counters, who: str) -> None:
        self.counters = counters
        self._who = who
        self._logged: set[str] = set()

    def refuse(self, reason: str, good: Mask, what: str) -> None:
        """Count the samples that are not good."""
        if good.all():
            return
        count = int((~good).sum())
        self.counters.drop(reason, count)
        self.once(reason, f"brought {count} samples {what}; such are dropped")

    def once(self, what: str, message: str) -> None:
        """Log a message, the first time that it is about `what`."""
        if what not in self._logged:
            self._logged.add(what)
            _log.warning("%s %s", self._who, message)


class Packing(ABC):
    """Makes packets of the samples of one stream.

    Parameters
    ----------
    kind
        Of the packets.
    told
        Where what is refused is counted.
    """

    def __init__(self, kind: str, told: Told) -> None:
        self.kind = kind
        self.told = told
        self.gap = 0
        """Samples missing so far before the next packet."""

    @abstractmethod
    def take(self, values: Values, stamps_ns: Stamps, pulled: Pulled) -> list[Packet]:
        """Return what samples lead to.

        `values` and `stamps_ns` (on `time.monotonic_ns`) are those of `pulled` with a time stamp.
        """

    @abstractmethod
    def tell(self) -> None:
        """Leave in the counters what there is to say."""


class WithRate(Packing):
    """Samples, counts and behaviour at a fixed rate."""

    def __init__(self, kind: str, rate_hz: float, told: Told) -> None:
        super().__init__(kind, told)
        self._samples = Samples(rate_hz)
        self._period_ns = 1e9 / rate_hz

    def follow(self, values: Values, stamp_ns: int, pulled: Pulled) -> list[Packet]:
        """Pack one sample without arrays of one element; nothing when `take` has to look at it."""
        values = _single(values)
        # A sum tells of every value that is not finite, and is rarely infinite itself otherwise.
        if not isfinite(values.sum()):
            return []
        s = self._samples.follow(stamp_ns, pulled.arrived_ns, pulled.connection)
        if s is None:
            return []
        gap, self.gap = self.gap, 0
        end_ns = s.source_ns
        if self.kind != "behaviour":
            end_ns += round(self._period_ns)
        data = values if self.kind == "samples" else values[0]
        return [Packet(self.kind, data, s.t_ns, s.source_ns, end_ns, segment=s.segment, gap=gap)]

    def take(self, values: Values, stamps_ns: Stamps, pulled: Pulled) -> list[Packet]:
        """Pack samples, with what is missing between them."""
        values = _single(values)
        finite = np.isfinite(values).all(1)
        self.told.refuse("not_finite", finite, "with values that are NaN, infinite or too large")
        packets = []
        for s in self._samples.take(stamps_ns, pulled.arrived_ns, pulled.connection):
            self.gap += s.missing
            for first, stop in _runs(finite[s.first : s.stop]):
                if not finite[s.first + first]:
                    self.gap += stop - first
                    continue
                rows = values[s.first + first : s.first + stop]
                packets += self._pack(rows, s, first, s.stop - s.first - stop)
        return packets

    def tell(self) -> None:
        """Note what is missing and how the source's clock runs."""
        samples, counters = self._samples, self.told.counters
        if samples.missing:
            counters.note("samples_missing", samples.missing)
        if samples.jumps:
            counters.note("clock_jumps", samples.jumps)
        if (drift_ppm := samples.clock.drift_ppm) is not None:
            counters.note("drift_ppm", round(drift_ppm, 2))
        counters.note("stamp_jitter_us", round(samples.jitter_ns / 1e3, 1))
        if samples.foreign:
            counters.note("foreign_clock", True)
            self.told.once("foreign", "has time stamps of another clock; arrival counts")

    def _pack(self, rows: Values, s: Stretch, before: int, after: int) -> list[Packet]:
        """Pack rows of a stretch, of which so many samples are before and after them."""
        kind, period_ns, segment = self.kind, self._period_ns, s.segment
        gap, self.gap = self.gap, 0
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


class OneByOne(Packing):
    """Markers, and behaviour without a rate."""

    def take(self, values: Values, stamps_ns: Stamps, pulled: Pulled) -> list[Packet]:
        """Pack each sample by itself. Every connection is a segment."""
        if self.kind == "markers":
            return self._markers(values, stamps_ns, pulled)
        values = _single(values)
        finite = np.isfinite(values).all(1)
        self.told.refuse("not_finite", finite, "with values that are NaN, infinite or too large")
        return self._pack(list(values), finite, stamps_ns, pulled)

    def _markers(self, values: Values, stamps_ns: Stamps, pulled: Pulled) -> list[Packet]:
        fits = np.array([sum(len(v) for v in row) <= _MARKER_BYTES for row in values])
        self.told.refuse("too_long", fits, f"of more than {_MARKER_BYTES} bytes")
        # Not every sender writes UTF-8; what it wrote stays recognisable.
        texts = ["\t".join(v.decode(errors="replace") for v in row) for row in values]
        data = [np.frombuffer(text.encode(), np.uint8) for text in texts]
        packets = self._pack(data, fits, stamps_ns, pulled)
        for packet, text in zip(packets, compress(texts, fits), strict=True):
            packet.meta = {"label": text}
        return packets

    def _pack(
        self, data: list[Values], good: Mask, stamps_ns: Stamps, pulled: Pulled
    ) -> list[Packet]:
        packets = []
        for array, fits, stamp_ns in zip(data, good.tolist(), stamps_ns.tolist(), strict=True):
            if not fits:
                self.gap += 1
                continue
            t_ns = min(stamp_ns, pulled.arrived_ns)
            if pulled.arrived_ns - t_ns > _FOREIGN_NS:
                t_ns = pulled.arrived_ns
                self.told.counters.note("foreign_clock", True)
            packets.append(
                Packet(
                    self.kind, array, t_ns, stamp_ns, stamp_ns, segment=pulled.connection,
                    gap=self.gap,
                )
            )  # fmt: skip
            self.gap = 0
        return packets

    def tell(self) -> None:
        """Say nothing: what comes at any time has no rate that it could miss."""


class SpikePacking(Packing):
    """Spikes, each a sample of one or two numbers.

    Parameters
    ----------
    codes
        What samples call the units, in their order: `CHANNEL-UNIT` or `CHANNEL`.
    hold_ns
        How long a spike may be on its way.
    """

    def __init__(self, codes: list[str], hold_ns: int, told: Told) -> None:
        super().__init__("spikes", told)
        self._index = {code: k for k, code in enumerate(codes)}
        self._spikes = Spikes(hold_ns)
        self._connection = 0
        self._late = 0

    def begin(self, from_ns: int) -> None:
        """Listen from a moment on."""
        self._spikes.begin(from_ns)

    def reconnect(self, connection: int, found_ns: int) -> None:
        """Begin a segment when the stream has been found again."""
        if connection != self._connection:
            self._connection = connection
            self._spikes.restart(found_ns)

    def take(self, values: Values, stamps_ns: Stamps, pulled: Pulled) -> list[Packet]:
        """Take spikes in; `release` gives them back."""
        names = ["-".join(f"{v:g}" for v in row) for row in values.tolist()]
        units = np.array([self._index.get(name, -1) for name in names], np.int64)
        known = units >= 0
        alien = names[int(units.argmin())]
        self.told.refuse("unit", known, f"of a unit that is not named, {alien}")
        if known.any():
            self._spikes.take(stamps_ns[known], units[known], pulled.arrived_ns)
        return []

    def release(self, now_ns: int) -> list[Packet]:
        """Return the spikes that are complete at `now_ns`, or that there were none."""
        packets = []
        for span in self._spikes.release(now_ns):
            packet = spike_packet(
                span.times_ns, span.units.astype(np.int32), (span.start_ns, span.end_ns),
                span.segment,
            )  # fmt: skip
            packet.t_ns, packet.gap = span.end_ns, span.gap
            packets.append(packet)
        return packets

    def tell(self) -> None:
        """Count what came too late."""
        if more := self._spikes.late - self._late:
            self.told.counters.drop("late", more)
            self._late += more
        if self._spikes.jumps:
            self.told.counters.note("clock_jumps", self._spikes.jumps)


def _single(values: Values) -> NDArray[np.float32]:
    if values.dtype == np.float32:
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _runs(good: Mask) -> list[tuple[int, int]]:
    """Return first and stop of each run of equal values."""
    if good.all():
        return [(0, len(good))]
    edges = [0, *(np.flatnonzero(np.diff(good)) + 1).tolist(), len(good)]
    return list(pairwise(edges))
