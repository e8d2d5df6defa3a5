"""`spikes.replay`: a recording sent as if it happened now."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Collection, Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stream.errors import ConfigError
from stream.node import Context, StreamSpec
from stream.paced import Loop, PacedSettings, PacedSource, Timed, laps
from stream.packet import Packet
from stream.spikes.packets import spike_packet
from stream.spikes.recording import Floats, Recording, Series, segment_bounds_ns
from stream.spikes.selection import select_units
from stream.units import Seconds, format_seconds, to_ns

CHUNK_S = 0.001
MAX_BEHAVIOUR_HZ = 1000.0


class ReplaySettings(PacedSettings):
    """Settings of `spikes.replay`."""

    file: Path = Field(description="recording: NWB, or NumPy .npz with binned counts")
    loop: Loop = False
    start: Seconds | None = Field(
        None, description="begin here on the clock of the recording; its beginning by default"
    )
    stop: Seconds | None = Field(
        None, description="end here on the clock of the recording; its end by default"
    )
    chunk: Annotated[Seconds, Field(ge=1e-5, le=1)] | None = Field(
        None, description="what one packet of spikes covers; 1 ms by default"
    )
    units: tuple[str, ...] | None = Field(
        None, description="names of the units to send, in this order; all by default"
    )


class SpikesReplay(PacedSource[ReplaySettings]):
    """Stream a recording: its spikes or counts, behaviour and true rates.

    The main output is `spikes` for a recording of spike times, else `counts`. Each behaviour series
    is an output of its own name, known rates are the output `true_rates`.
    """

    use = "spikes.replay"
    summary = "a recording sent as if it happened now, in real time or at any speed"
    Settings = ReplaySettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the streams that the recording holds.

        Raises
        ------
        ConfigError
            A unit or the stretch is not in the recording, or `chunk` is given for binned counts.
        RecordingError
            The file cannot be read.
        """
        recording = self._load()
        about = {"recording": recording.name, "sha256": recording.sha256}
        names, n = recording.units, len(recording.units)
        if recording.counts is None:
            specs = {"": StreamSpec("spikes", (None, 2), "int64", names, meta=about)}
        else:
            if self.settings.chunk is not None:
                assert recording.width_s is not None
                raise ConfigError(
                    f"chunk: {self.settings.file} holds counts in bins of"
                    f" {format_seconds(recording.width_s)}, which are sent one by one; leave"
                    " 'chunk' out."
                )
            specs = {
                "": StreamSpec(
                    "counts", (n,), recording.counts.dtype.name, names, "count",
                    recording.width_s, about,
                )
            }  # fmt: skip
        signals = _signals(recording, _Stretches(recording))
        for name, series in recording.behaviour.items():
            specs[name] = StreamSpec(
                "behaviour", (len(series.columns),), "float32", series.columns, series.unit,
                signals[name].period_s,
            )  # fmt: skip
        if recording.true_rates is not None:
            specs["true_rates"] = StreamSpec(
                "rates", (n,), "float32", names, "Hz", signals["true_rates"].period_s
            )
        return specs

    def open(self, context: Context) -> None:
        """Read the recording and lay it out in arrays."""
        super().open(context)
        recording = self._load()
        for name, signal in _signals(recording, _Stretches(recording)).items():
            if signal.every > 1:
                context.counters.note(f"{name}_thinned_by", signal.every)
        self.pace(
            play(recording, self.settings.chunk or CHUNK_S, self.settings.loop, context.linked)
        )

    def _load(self) -> Recording:
        from stream.spikes.nwb import load_recording

        s = self.settings
        recording = load_recording(s.file)
        if s.start is not None or s.stop is not None:
            recording = cut(recording, s.start, s.stop)
        if s.units is not None:
            recording = take_units(recording, s.units, str(s.file))
        return recording


def cut(recording: Recording, start_s: float | None, stop_s: float | None) -> Recording:
    """Return the stretch [start_s, stop_s) of a recording, on the recording's own clock.

    A segment begins at the start of the stretch, and the grid of bins with it. Of binned counts,
    the stretch keeps the bins that lie in it whole. None stands for the recording's own end.

    Raises
    ------
    ConfigError
        The stretch reaches beyond the recording, or nothing was recorded in it.
    """
    start = recording.start_s if start_s is None else start_s
    stop = recording.stop_s if stop_s is None else stop_s
    stretch = f"start, stop: {start:g} s to {stop:g} s"
    if start < recording.start_s or stop > recording.stop_s or start >= stop:
        raise ConfigError(
            f"{stretch} is no stretch of {recording.name}, which covers {recording.start_s:g} s to"
            f" {recording.stop_s:g} s."
        )
    bounds = segment_bounds_ns(recording)
    origin_s, step_s = 0.0, 1e-9
    first, last = to_ns(start), to_ns(stop)
    if recording.width_s is not None:
        bounds = (bounds - to_ns(recording.start_s)) // to_ns(recording.width_s)
        origin_s, step_s = recording.start_s, recording.width_s
        # A millionth of a bin absorbs what floating point does to an edge.
        first = math.ceil((start - origin_s) / step_s - 1e-6)
        last = math.floor((stop - origin_s) / step_s + 1e-6)
    bounds = np.clip(bounds, first, max(first, last))
    bounds = bounds[bounds[:, 0] < bounds[:, 1]]
    if not len(bounds):
        raise ConfigError(f"{stretch} of {recording.name} holds nothing that was recorded.")
    bounds_s: Floats = np.asarray(origin_s + bounds * step_s, dtype=np.float64)
    return dataclasses.replace(
        recording,
        start_s=float(bounds_s[0, 0]),
        stop_s=float(bounds_s[-1, 1]),
        segment_starts_s=bounds_s[:, 0],
        segment_stops_s=bounds_s[:, 1],
        counts=None if recording.counts is None else recording.counts[bounds[0, 0] : bounds[-1, 1]],
    )


def take_units(recording: Recording, names: tuple[str, ...], where: str) -> Recording:
    """Return a recording with these of its units only, in this order.

    Raises
    ------
    ConfigError
        A name is not there; `where` says in the message where it was looked for.
    """
    chosen = select_units(recording.units, names, where)
    times, counts, rates = recording.spike_times_s, recording.counts, recording.true_rates
    return dataclasses.replace(
        recording,
        units=names,
        spike_times_s=None if times is None else tuple(times[i] for i in chosen),
        counts=None if counts is None else counts[:, chosen],
        true_rates=None
        if rates is None
        else dataclasses.replace(rates, values=rates.values[:, chosen], columns=names),
        unit_columns={name: v[chosen] for name, v in recording.unit_columns.items()},
    )


def play(
    recording: Recording,
    chunk_s: float = CHUNK_S,
    loop: bool | int = False,
    outputs: Collection[str] | None = None,
) -> Iterator[Timed]:
    """Yield everything in a recording as packets, in the order in which it existed.

    Spikes come in chunks counted from the start of each segment; the last chunk of a segment ends
    with it. Counts come bin by bin, behaviour sample by sample (at most 1000 a second, evenly
    thinned above that), and known rates that are sampled regularly with the span for which they
    hold. Time between segments that was not observed is skipped. In every further lap the clock
    goes on and the segments are new ones. Beside the main one, only what `outputs`
    names is made; None for all.
    """
    stretches = _Stretches(recording)
    main = (
        _Spikes(recording, stretches, to_ns(chunk_s))
        if recording.spike_times_s is not None
        else _Counts(recording, stretches)
    )
    signals = _signals(recording, stretches).items()
    tracks = (main, *(s for name, s in signals if outputs is None or name in outputs))
    for lap in laps(loop):
        yield from heapq.merge(*(track.play(lap) for track in tracks), key=itemgetter(0))


class _Stretches:
    """The segments of a recording, and how its clock maps to a replay without what lies between.

    What happens at t in segment i of lap k happens t - skipped[i] + k * observed after the start,
    and t + k * length on the clock that the packets carry.
    """

    def __init__(self, recording: Recording) -> None:
        self.bounds_ns = segment_bounds_ns(recording)
        lengths = self.bounds_ns[:, 1] - self.bounds_ns[:, 0]
        self.skipped_ns = self.bounds_ns[:, 0] - (np.cumsum(lengths) - lengths)
        self.observed_ns = int(lengths.sum())
        self.length_ns = int(self.bounds_ns[-1, 1] - self.bounds_ns[0, 0])

    def lap(self, lap: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield for each segment its number, begin, end, and what to add for clock and due time."""
        shift_ns = lap * self.length_ns
        for i, (begin_ns, end_ns) in enumerate(self.bounds_ns.tolist()):
            wait_ns = lap * self.observed_ns - int(self.skipped_ns[i])
            yield lap * len(self.bounds_ns) + i, begin_ns, end_ns, shift_ns, wait_ns


class _Spikes:
    def __init__(self, recording: Recording, stretches: _Stretches, chunk_ns: int) -> None:
        assert recording.spike_times_s is not None
        per_unit = [np.round(t * 1e9).astype(np.int64) for t in recording.spike_times_s]
        times_ns = np.concatenate(per_unit)
        units = np.repeat(np.arange(len(per_unit), dtype=np.int32), [len(t) for t in per_unit])
        order = np.argsort(times_ns, kind="stable")
        self.times_ns = times_ns[order]
        self.units = units[order]
        self.stretches = stretches
        self.chunk_ns = chunk_ns

    def play(self, lap: int) -> Iterator[Timed]:
        for segment, begin_ns, end_ns, shift_ns, wait_ns in self.stretches.lap(lap):
            first = int(self.times_ns.searchsorted(begin_ns))
            for a in range(begin_ns, end_ns, self.chunk_ns):
                b = min(a + self.chunk_ns, end_ns)
                last = int(self.times_ns.searchsorted(b))
                times_ns = self.times_ns[first:last] + shift_ns
                span_ns = (a + shift_ns, b + shift_ns)
                yield b + wait_ns, spike_packet(times_ns, self.units[first:last], span_ns, segment)
                first = last


class _Counts:
    def __init__(self, recording: Recording, stretches: _Stretches) -> None:
        assert recording.counts is not None
        assert recording.width_s is not None
        self.counts = np.ascontiguousarray(recording.counts)
        self.width_ns = to_ns(recording.width_s)
        self.origin_ns = to_ns(recording.start_s)
        self.stretches = stretches

    def play(self, lap: int) -> Iterator[Timed]:
        for segment, begin_ns, end_ns, shift_ns, wait_ns in self.stretches.lap(lap):
            for a in range(begin_ns, end_ns, self.width_ns):
                row = self.counts[(a - self.origin_ns) // self.width_ns]
                b = a + self.width_ns
                yield (
                    b + wait_ns,
                    Packet("counts", row, 0, a + shift_ns, b + shift_ns, segment=segment),
                )


class _Signal:
    """A series beside the spikes, as it is sent.

    `every`: that each is every n-th sample of the series. `period_s`: the interval between samples
    of one segment, None when it varies by more than a hundredth.
    """

    def __init__(self, output: str, kind: str, series: Series, stretches: _Stretches) -> None:
        times_ns = np.round(series.times_s * 1e9).astype(np.int64)
        bounds_ns = stretches.bounds_ns
        segment = np.searchsorted(bounds_ns[:, 0], times_ns, side="right") - 1
        inside = (segment >= 0) & (times_ns < bounds_ns[segment, 1])
        period_ns, _ = _period_ns(times_ns, segment)
        # A thousandth above the limit is the jitter of a 1 kHz clock.
        self.every = max(1, math.ceil(0.999e9 / MAX_BEHAVIOUR_HZ / period_ns)) if period_ns else 1
        chosen = np.flatnonzero(inside)[:: self.every]
        self.times_ns, self.segment = times_ns[chosen], segment[chosen]
        self.values = series.values[chosen].astype(np.float32)
        period_ns, regular = _period_ns(self.times_ns, self.segment)
        self.period_s = period_ns / 1e9 if regular else None
        self.ends_ns = self.times_ns
        if kind == "rates" and regular:
            self.ends_ns = np.minimum(self.times_ns + period_ns, bounds_ns[self.segment, 1])
        self.output = output
        self.kind = kind
        self.stretches = stretches

    def play(self, lap: int) -> Iterator[Timed]:
        edges = np.searchsorted(self.segment, np.arange(len(self.stretches.bounds_ns) + 1))
        for i, (segment, _, _, shift_ns, wait_ns) in enumerate(self.stretches.lap(lap)):
            for k in range(int(edges[i]), int(edges[i + 1])):
                a, b = int(self.times_ns[k]), int(self.ends_ns[k])
                yield b + wait_ns, Packet(
                    self.kind, self.values[k], 0, a + shift_ns, b + shift_ns, segment=segment,
                    output=self.output,
                )  # fmt: skip


def _period_ns(times_ns: NDArray[np.int64], segment: NDArray[np.int64]) -> tuple[int, bool]:
    """Return the usual interval between samples of one segment, and whether it is kept."""
    steps_ns = np.diff(times_ns)[np.diff(segment) == 0]
    if not len(steps_ns):
        return 0, False
    period_ns = round(float(np.median(steps_ns)))
    return period_ns, bool((np.abs(steps_ns - period_ns) <= period_ns / 100).all())


def _signals(recording: Recording, stretches: _Stretches) -> dict[str, _Signal]:
    signals = {
        name: _Signal(name, "behaviour", series, stretches)
        for name, series in recording.behaviour.items()
    }
    if recording.true_rates is not None:
        signals["true_rates"] = _Signal("true_rates", "rates", recording.true_rates, stretches)
    return signals
