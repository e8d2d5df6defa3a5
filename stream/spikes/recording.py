"""A recording session in memory, and its bins: what replay streams and what training sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream.errors import RecordingError
from stream.units import format_seconds, to_ns

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """A signal sampled beside the spikes, such as hand velocity.

    Attributes
    ----------
    times_s
        (n,) ascending times on the clock of the recording.
    values
        (n, d).
    columns
        d names such as `vel_x`.
    unit
        Physical unit of the values.
    """

    times_s: Floats
    values: Floats
    columns: tuple[str, ...]
    unit: str = ""


@dataclass(frozen=True)
class Trials:
    """Trials: start and stop in seconds (n,), and further columns of n values by name."""

    start_s: Floats
    stop_s: Floats
    columns: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)


@dataclass(frozen=True)
class Recording:
    """One session: spike times or binned counts, and what was recorded beside them.

    Exactly one of `spike_times_s` and `counts` is set.

    Attributes
    ----------
    name
        Identifier of the session.
    units
        Names of the units, in order.
    start_s, stop_s
        The stretch of time that the session covers, half open.
    segment_starts_s
        Where contiguous stretches begin, ascending, the first at `start_s`. State does not carry
        over from one to the next.
    spike_times_s
        Per unit, ascending times in seconds.
    counts, width_s
        (bins, units) spike counts, and the width of a bin; bin k covers
        start_s + [k, k + 1) * width_s.
    behaviour
        Name (such as `hand_vel`) to series.
    true_rates
        Known firing rates of simulated units, Hz, columns are units.
    trials
        Trials, if there are any.
    """

    name: str
    units: tuple[str, ...]
    start_s: float
    stop_s: float
    segment_starts_s: Floats
    spike_times_s: tuple[Floats, ...] | None = None
    counts: NDArray[np.generic] | None = None
    width_s: float | None = None
    behaviour: Mapping[str, Series] = field(default_factory=dict)
    true_rates: Series | None = None
    trials: Trials | None = None
    sha256: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Binned:
    """A recording cut into bins, as the live path delivers them.

    Attributes
    ----------
    counts
        (bins, units) float32.
    width_s
        Width of a bin.
    starts_ns
        (bins,) left edges on the clock of the recording.
    segment
        (bins,) number of the segment that each bin belongs to.
    behaviour
        Name to (bins, d); the mean of the samples inside the bin, or the newest one before its
        end where none is inside; NaN before the first sample.
    columns
        Name to the d column names.
    """

    units: tuple[str, ...]
    counts: NDArray[np.float32]
    width_s: float
    starts_ns: NDArray[np.int64]
    segment: NDArray[np.int64]
    behaviour: Mapping[str, Floats]
    columns: Mapping[str, tuple[str, ...]]


def bin_edges_ns(start_ns: int, stop_ns: int, width_ns: int) -> NDArray[np.int64]:
    """Return the edges of the whole bins in one segment: start, start + width and so on.

    Bin k covers [edge k, edge k + 1). A remainder shorter than a bin at the end of a segment has
    no bin. The live path uses the same rule, so training sees the same bins.
    """
    n_bins = max(0, (stop_ns - start_ns) // width_ns)
    return start_ns + width_ns * np.arange(n_bins + 1, dtype=np.int64)


def bin_recording(recording: Recording, width_s: float) -> Binned:
    """Cut a recording into bins of `width_s` seconds.

    Counts that are binned already are summed when `width_s` is a whole multiple of their width.

    Raises
    ------
    RecordingError
        The recording's own bins do not fit into bins of this width, or no bin results.
    """
    width_ns = to_ns(width_s)
    bounds_ns = np.array(
        [to_ns(t) for t in (*recording.segment_starts_s, recording.stop_s)], dtype=np.int64
    )
    edges = [
        bin_edges_ns(int(a), int(b), width_ns)
        for a, b in zip(bounds_ns[:-1], bounds_ns[1:], strict=True)
    ]
    starts_ns = np.concatenate([e[:-1] for e in edges])
    segment = np.concatenate([np.full(len(e) - 1, i, np.int64) for i, e in enumerate(edges)])
    if not len(starts_ns):
        raise RecordingError(
            f"{recording.name}: no bin of {format_seconds(width_s)} fits into any segment of the"
            " recording; choose a smaller width."
        )
    counts = (
        _count_times(recording.spike_times_s, starts_ns, width_ns)
        if recording.spike_times_s is not None
        else _sum_counts(recording, edges, width_ns)
    )
    return Binned(
        units=recording.units,
        counts=counts,
        width_s=width_s,
        starts_ns=starts_ns,
        segment=segment,
        behaviour={
            name: mean_in_bins(series, starts_ns, width_ns)
            for name, series in recording.behaviour.items()
        },
        columns={name: series.columns for name, series in recording.behaviour.items()},
    )


def _count_times(
    spike_times_s: tuple[Floats, ...], starts_ns: NDArray[np.int64], width_ns: int
) -> NDArray[np.float32]:
    counts = np.empty((len(starts_ns), len(spike_times_s)), dtype=np.float32)
    for unit, times_s in enumerate(spike_times_s):
        times_ns = np.round(np.asarray(times_s) * 1e9).astype(np.int64)
        first = np.searchsorted(times_ns, starts_ns, side="left")
        last = np.searchsorted(times_ns, starts_ns + width_ns, side="left")
        counts[:, unit] = last - first
    return counts


def _sum_counts(
    recording: Recording, edges: list[NDArray[np.int64]], width_ns: int
) -> NDArray[np.float32]:
    assert recording.counts is not None and recording.width_s is not None
    own_ns = to_ns(recording.width_s)
    if width_ns % own_ns:
        raise RecordingError(
            f"{recording.name} holds counts in bins of {format_seconds(recording.width_s)}, which"
            f" cannot be cut into bins of {format_seconds(width_ns / 1e9)}; ask for a multiple of"
            f" {format_seconds(recording.width_s)}."
        )
    factor = width_ns // own_ns
    origin_ns = to_ns(recording.start_s)
    parts = []
    for e in edges:
        first = round((int(e[0]) - origin_ns) / own_ns)
        rows = recording.counts[first : first + (len(e) - 1) * factor]
        parts.append(rows.reshape(len(e) - 1, factor, -1).sum(axis=1, dtype=np.float32))
    return np.concatenate(parts)


def mean_in_bins(series: Series, starts_ns: NDArray[np.int64], width_ns: int) -> Floats:
    """Return the value of a signal for each bin, (bins, d); see `Binned.behaviour`."""
    times_ns = np.round(series.times_s * 1e9).astype(np.int64)
    first = np.searchsorted(times_ns, starts_ns, side="left")
    last = np.searchsorted(times_ns, starts_ns + width_ns, side="left")
    total = np.concatenate(
        [np.zeros((1, series.values.shape[1])), np.cumsum(series.values, axis=0)]
    )
    inside = (last - first)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (total[last] - total[first]) / inside
    held = series.values[np.maximum(last - 1, 0)].copy()
    held[last == 0] = np.nan
    # One sample inside is taken as it stands: the difference of sums would round it.
    return np.where(inside > 1, mean, held)
