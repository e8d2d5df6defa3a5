"""`spikes.detect`: threshold crossings of continuous channels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from stream.errors import ConfigError
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.spikes.detector import BLOCK_S, Detection, Detector
from stream.spikes.noise import LEARN_S
from stream.spikes.packets import spike_packet
from stream.spikes.reference import FEWEST_FOR_MEAN, Kind
from stream.spikes.selection import select_units
from stream.units import Hertz, Seconds, format_hertz, to_ns

JUMP_S = 0.0005
"""A step of the source clock above this, and half of a packet, is a gap; below, it is jitter."""
HIGH_HZ = 6000.0
ARTEFACT_UV = 1500.0
_NEAR_NYQUIST = 0.45
_NOTE_S = 1.0
# Look-ahead of at most 2 ms, two blocks to search, one that is not full.
_REACH_BLOCKS = 8
_CLOCK_LIMIT_NS = 2**62


def _finite_and_not_0(value: float) -> float:
    if not math.isfinite(value) or not value:
        raise ValueError(f"expected a number below 0 (troughs) or above 0 (peaks), found {value}")
    return value


Threshold = Annotated[float, AfterValidator(_finite_and_not_0)]


class DetectSettings(NodeSettings):
    """Settings of `spikes.detect`."""

    threshold: Threshold = Field(
        -4.5, description="times the noise of each channel; below 0 for troughs, above 0 for peaks"
    )
    threshold_uv: Threshold | None = Field(
        None, description="in place of that, one threshold in uV for all channels"
    )
    channels: tuple[str, ...] | None = Field(
        None, description="names of the channels to use, in this order; all by default"
    )
    low: Hertz = Field(300.0, gt=0, description="lower edge of the band")
    high: Hertz | None = Field(
        None,
        gt=0,
        description="upper edge; by default 6 kHz, or .45 of the rate where that is less",
    )
    look_ahead: Seconds = Field(
        0.0005, ge=0, le=0.002, description="of the filter: keeps troughs deep; 0 for none"
    )
    reference: Literal["auto", "mean", "median", "none"] = Field(
        "auto",
        description="what is subtracted from all channels, made of the good ones;"
        f" `auto` is the mean from {FEWEST_FOR_MEAN} channels on, else none",
    )
    dead_time: Seconds = Field(
        0.001, ge=BLOCK_S, le=0.1, description="least time between two events of a channel"
    )
    artefact_share: float = Field(
        0.3, gt=0, le=1, description="an artefact is beyond threshold on more of the channels"
    )
    artefact_uv: float | None = Field(
        None, gt=0, description=f"or larger than this in the band; {ARTEFACT_UV:g} by default"
    )
    blank: Seconds = Field(
        0.002, ge=0, le=1, description="nothing counts so long after an artefact"
    )


class SpikesDetect(Node[DetectSettings]):
    """Find spikes in raw channels: band-pass, common reference, thresholds, one event a crossing.

    Units are the channels. Packets are those of `spikes.replay`, one for every packet of samples
    that brings the search further. The page docs/detect.md says how thresholds follow the noise,
    what artefacts are, and what becomes of gaps.
    """

    use = "spikes.detect"
    summary = "threshold crossings of raw channels: filter, reference, thresholds, artefacts"
    Settings = DetectSettings
    accepts = frozenset({"samples"})

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream of spikes.

        Raises
        ------
        ConfigError
            A channel is not in the input, the band does not fit its rate, or a setting is in uV
            and the samples are not.
        """
        ((stream, spec),) = inputs.items()
        chosen = self._chosen(stream, spec)
        self._detection(stream, spec, len(chosen))
        return {"": StreamSpec("spikes", (None, 2), "int64", tuple(spec.names[i] for i in chosen))}

    def _chosen(self, stream: str, spec: StreamSpec) -> NDArray[np.int64]:
        if not spec.names:
            raise ConfigError(
                f"'{stream}' does not name its channels, so their spikes have no names."
            )
        return select_units(spec.names, self.settings.channels, f"'{stream}'", "channel")

    def _detection(self, stream: str, spec: StreamSpec, channels: int) -> Detection:
        s = self.settings
        rate_hz = _rate_hz(stream, spec)
        high_hz = min(HIGH_HZ, _NEAR_NYQUIST * rate_hz) if s.high is None else s.high
        if not s.low < high_hz < rate_hz / 2:
            raise ConfigError(
                f"low, high: {format_hertz(s.low)} to {format_hertz(high_hz)} is no band of"
                f" '{stream}', which has {format_hertz(rate_hz)}: both must be below half of that,"
                " and low the lower one."
            )
        micro = spec.unit == "uV"
        for key in ("threshold_uv", "artefact_uv"):
            if getattr(s, key) is not None and not micro:
                raise ConfigError(
                    f"{key}: the samples of '{stream}' are in"
                    f" {spec.unit or 'a unit that it does not name'}, not in uV; leave it out."
                )
        reference: Kind
        if s.reference == "auto":
            reference = "mean" if channels >= FEWEST_FOR_MEAN else "none"
        else:
            reference = s.reference
        if channels == 1 and reference != "none":
            raise ConfigError(
                f"reference: of one channel nothing is left when its own {reference} is"
                " subtracted; choose none."
            )
        return Detection(
            threshold=s.threshold,
            fixed=s.threshold_uv,
            low_hz=s.low,
            high_hz=high_hz,
            ahead_s=s.look_ahead,
            reference=reference,
            dead_s=s.dead_time,
            blank_s=s.blank,
            share=s.artefact_share,
            limit=(s.artefact_uv or ARTEFACT_UV) if micro else math.inf,
            clipped=_range(spec),
        )

    def open(self, context: Context) -> None:
        """Build the filter."""
        super().open(context)
        ((stream, spec),) = context.inputs.items()
        chosen = self._chosen(stream, spec)
        how = self._detection(stream, spec, len(chosen))
        self._n_in = len(spec.names)
        self._pick = None if np.array_equal(chosen, np.arange(self._n_in)) else chosen
        self._names = [spec.names[i] for i in chosen]
        self._rate_hz = _rate_hz(stream, spec)
        self._detector = Detector(self._rate_hz, len(chosen), how)
        self._clock = _Clock()
        self._segment: int | None = None
        self._number = self._offset = 0
        self._seq: int | None = None
        # Packets for which there was or will be no answer, and whether the next one continues.
        self._gap = 0
        self._broken = True
        self._sent = False
        # Up to which sample, and time, spikes have been returned.
        self._upto = 0
        self._upto_ns: int | None = None
        self._noted = 0
        self._events = self._samples = self._unsearched = self._breaks = 0
        self._span_ns = 0
        context.counters.note("band_hz", [how.low_hz, how.high_hz])
        context.counters.note("reference", how.reference)
        if how.fixed is None:
            context.counters.note("thresholds_after_s", LEARN_S)

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Take samples and return the spikes that are certain now."""
        lost = packet.gap
        if self._seq is not None:
            lost += max(0, packet.seq - self._seq - 1)
        self._seq = packet.seq
        self._gap += lost
        self._broken |= lost > 0
        reason = self._refusal(packet)
        if reason:
            self.context.counters.drop(reason)
            self._broken = True
            self._gap += 1
            return ()
        self._place(packet)
        detector = self._detector
        if self._broken:
            self._restart()
        if not len(packet.data):
            return ()
        samples = packet.data if self._pick is None else packet.data[:, self._pick]
        last, end_ns = detector.fed + len(samples), packet.source_end_ns
        if end_ns == packet.source_ns:
            end_ns += round(len(samples) / self._rate_hz * 1e9)
        self._clock.add(detector.fed, packet.source_ns, last, end_ns)
        dropped = detector.artefacts, detector.not_finite, detector.saturated
        events = detector.feed(samples)
        self._count(dropped, len(events.samples), packet)
        if detector.begun is None:
            self._gap += 1
            # The search will begin within the last few blocks.
            self._clock.forget(detector.fed - _REACH_BLOCKS * detector.rows)
            return ()
        if self._upto_ns is None:
            self._upto_ns = self._clock.at(detector.begun)
        elif detector.searched == self._upto:
            return ()
        # Jitter may move what was promised already; times stay within what is left.
        end_ns = max(self._clock.at(detector.searched), self._upto_ns)
        times_ns = np.maximum(self._clock.ns(events.samples), self._upto_ns)
        spikes = spike_packet(
            times_ns, events.channels.astype(np.int32), (self._upto_ns, end_ns), self._number
        )
        spikes.t_ns = packet.t_ns
        # Before the first packet, nothing is missing: the stream has not begun.
        spikes.gap, self._gap = self._gap if self._sent else 0, 0
        self._sent = True
        self._upto, self._upto_ns = detector.searched, end_ns
        self._clock.forget(detector.searched)
        return (spikes,)

    def finish(self) -> Iterable[Packet]:
        """Note what was found, and what was too near to the end to be searched."""
        self._leave()
        self._note()
        return ()

    def _refusal(self, packet: Packet) -> str:
        """Return why a packet cannot be read at all, or nothing."""
        data = packet.data
        if packet.kind != "samples":
            return "kind"
        if data.ndim != 2 or data.shape[1] != self._n_in or data.dtype != np.float32:
            return "shape"
        span_ns = packet.source_end_ns - packet.source_ns
        longest_ns = 2 * len(data) / self._rate_hz * 1e9 + 1e6
        if abs(packet.source_ns) > _CLOCK_LIMIT_NS or not 0 <= span_ns <= longest_ns:
            return "span"
        return ""

    def _place(self, packet: Packet) -> None:
        """Find out whether a packet continues the last one, and number its segment."""
        if self._segment is None:
            self._segment = self._number = packet.segment
            return
        away_ns = packet.source_ns - self._clock.end_ns
        jump_ns = max(to_ns(JUMP_S), (packet.source_end_ns - packet.source_ns) // 2)
        back = packet.segment == self._segment and away_ns < -jump_ns
        if packet.segment != self._segment or back:
            # Numbers only rise: one that comes again would look like the same segment downstream.
            self._offset = max(self._offset, self._number + 1 - packet.segment)
            self._segment = packet.segment
            self._broken = True
        elif away_ns > jump_ns:
            self._broken = True
            self._gap = max(self._gap, 1)
        if back:
            self._gap = max(self._gap, 1)
        self._number = packet.segment + self._offset

    def _restart(self) -> None:
        if self._clock.started:
            self._breaks += 1
            self._leave()
        self._detector.restart()
        self._clock.restart()
        self._upto_ns = None
        self._broken = False

    def _leave(self) -> None:
        """Count the samples of a stretch that were not searched: at its start and its end."""
        detector = self._detector
        searched = 0 if detector.begun is None else detector.searched - detector.begun
        self._unsearched += detector.fed - searched

    def _count(self, dropped: tuple[int, int, int], events: int, packet: Packet) -> None:
        detector, counters = self._detector, self.context.counters
        now = detector.artefacts, detector.not_finite, detector.saturated
        for reason, before, after in zip(_DROPPED, dropped, now, strict=True):
            if after > before:
                counters.drop(reason, after - before)
        self._events += events
        self._samples += len(packet.data)
        self._span_ns += packet.source_end_ns - packet.source_ns
        if self._samples - self._noted >= _NOTE_S * self._rate_hz:
            self._noted = self._samples
            self._note()

    def _note(self) -> None:
        detector, note = self._detector, self.context.counters.note
        note("events", self._events)
        if detector.noise.known:
            low, middle, high = np.percentile(detector.noise.sigma, (5, 50, 95)).round(2).tolist()
            note("noise_p5_p50_p95", [low, middle, high])
        flat = np.flatnonzero(detector.flat_s)
        if len(flat):
            note("flat_s", {self._names[i]: round(float(detector.flat_s[i]), 3) for i in flat})
        outside = np.flatnonzero(~detector.good)
        note("not_in_reference", [self._names[i] for i in outside])
        note("breaks", self._breaks)
        note("unsearched_s", round(self._unsearched / self._rate_hz, 4))
        if self._span_ns:
            note("rate_hz", round(self._samples / self._span_ns * 1e9, 3))


_DROPPED = ("artefact", "not_finite", "saturated")


class _Clock:
    """When each of the latest samples was taken: what packets said, and lines between."""

    def __init__(self) -> None:
        self.end_ns = 0
        self.restart()

    def restart(self) -> None:
        self._at: list[tuple[int, int]] = []

    @property
    def started(self) -> bool:
        return bool(self._at)

    def add(self, first: int, start_ns: int, last: int, end_ns: int) -> None:
        """Learn that a packet of the samples [first, last) covered [start_ns, end_ns)."""
        if self._at:
            # Where the next packet begins is better known than where the last one was to end.
            # Jitter must not turn time back.
            self._at.pop()
            start_ns = max(start_ns, self._at[-1][1])
        self.end_ns = max(start_ns, end_ns)
        self._at += [(first, start_ns), (last, self.end_ns)]

    def forget(self, before: int) -> None:
        """Nobody will ask for samples before this one any more."""
        while len(self._at) > 2 and self._at[1][0] <= before:
            self._at.pop(0)

    def at(self, sample: int) -> int:
        """Return when a sample was taken, by its number."""
        return int(self.ns(np.array([sample]))[0])

    def ns(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return when samples were taken, by their numbers."""
        origin, origin_ns = self._at[0]
        known = np.array(self._at) - (origin, origin_ns)
        away_ns = np.rint(np.interp(samples - origin, known[:, 0], known[:, 1]))
        return away_ns.astype(np.int64) + origin_ns


def _rate_hz(stream: str, spec: StreamSpec) -> float:
    rate: Any = spec.meta.get("rate_hz")
    if not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise ConfigError(f"'{stream}' does not say how many samples it has a second.")
    return float(rate)


def _range(spec: StreamSpec) -> float:
    limit = spec.meta.get("range")
    return float(limit) if isinstance(limit, int | float) and limit > 0 else math.inf
