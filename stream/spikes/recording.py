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
    segment_stops_s
        Where each stretch ends, when there are times between them that were not observed; else
        each lasts until the next begins. Ask `segment_bounds_ns` rather than these two.
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
    unit_columns
        Further columns of one value per unit, by name, such as `heldout`.
    sha256
        Of the file that it was read from.
    licence
        Terms of the data, as its publisher states them.
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
    segment_stops_s: Floats | None = None
    unit_columns: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
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
        Name to (bins, d), see `mean_in_bins`.
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


def segment_bounds_ns(recording: Recording) -> NDArray[np.int64]:
    """Return start and stop of every contiguous stretch, (segments, 2), half open, in nanoseconds.

    Stretches of binned counts begin and end on the grid of those bins, which has its origin at
    the start of the recording.

    Raises
    ------
    RecordingError
        A stretch of binned counts begins or ends inside a bin.
    """
    starts_s = np.asarray(recording.segment_starts_s, dtype=np.float64)
    stops_s = (
        np.append(starts_s[1:], recording.stop_s)
        if recording.segment_stops_s is None
        else np.asarray(recording.segment_stops_s, dtype=np.float64)
    )
    bounds_s = np.stack([starts_s, stops_s], axis=1)
    if recording.width_s is None:
        rounded: NDArray[np.int64] = np.round(bounds_s * 1e9).astype(np.int64)
        return rounded
    bins = (bounds_s - recording.start_s) / recording.width_s
    whole = np.round(bins)
    if len(bins) and np.max(np.abs(bins - whole)) > 1e-3:
        raise RecordingError(
            f"{recording.name}: a segment begins or ends inside a bin of"
            f" {format_seconds(recording.width_s)}; segments of binned counts must lie on the grid"
            f" of the bins, which starts at {recording.start_s:g} s."
        )
    bounds_ns: NDArray[np.int64] = whole.astype(np.int64) * to_ns(recording.width_s)
    return to_ns(recording.start_s) + bounds_ns


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
    if width_ns <= 0:
        raise RecordingError(f"A bin must be longer than 0 s, found {width_s:g} s.")
    bounds_ns = segment_bounds_ns(recording)
    edges = [bin_edges_ns(int(start), int(stop), width_ns) for start, stop in bounds_ns]
    n_bins = np.array([len(e) - 1 for e in edges])
    if not n_bins.sum():
        raise RecordingError(
            f"{recording.name}: no bin of {format_seconds(width_s)} fits into any segment of the"
            " recording; choose a smaller width."
        )
    starts_ns = np.concatenate([e[:-1] for e in edges])
    counts = (
        _count_times(recording.spike_times_s, starts_ns, width_ns)
        if recording.spike_times_s is not None
        else _sum_counts(recording, edges, width_ns)
    )
    since_ns = np.repeat(bounds_ns[:, 0], n_bins)
    return Binned(
        units=recording.units,
        counts=counts,
        width_s=width_s,
        starts_ns=starts_ns,
        segment=np.repeat(np.arange(len(edges)), n_bins),
        behaviour={
            name: mean_in_bins(series, starts_ns, width_ns, since_ns)
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
    assert recording.counts is not None
    assert recording.width_s is not None
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
        first = (int(e[0]) - origin_ns) // own_ns
        rows = recording.counts[first : first + (len(e) - 1) * factor]
        parts.append(rows.reshape(len(e) - 1, factor, rows.shape[1]).sum(axis=1, dtype=np.float32))
    return np.concatenate(parts)


def mean_in_bins(
    series: Series,
    starts_ns: NDArray[np.int64],
    width_ns: int,
    since_ns: NDArray[np.int64] | None = None,
) -> Floats:
    """Return the value of a signal for each bin, (bins, d).

    It is the mean of the samples inside the bin, NaN if one of them is NaN. Where no sample is
    inside, it is the newest one before the bin, or NaN if there is none, or none since
    `since_ns` (bins,), where the bin's segment began.
    """
    times_ns = np.round(np.asarray(series.times_s) * 1e9).astype(np.int64)
    n_samples, n_columns = series.values.shape
    if not n_samples:
        return np.full((len(starts_ns), n_columns), np.nan)
    first = np.searchsorted(times_ns, starts_ns, side="left")
    last = np.searchsorted(times_ns, starts_ns + width_ns, side="left")
    newest = np.maximum(last - 1, 0)
    values = np.array(series.values[newest], dtype=np.float64)
    missing = last == 0
    if since_ns is not None:
        missing |= times_ns[newest] < since_ns
    values[missing] = np.nan
    several = last - first > 1
    # reduceat sums [first, last) at even places and what lies between bins at odd ones; the
    # added row lets `last` be the number of samples.
    padded = np.concatenate([series.values, np.zeros((1, n_columns))])
    ends = np.stack([first[several], last[several]], axis=1)
    if len(ends):
        totals = np.add.reduceat(padded, ends.ravel(), axis=0)[::2]
        values[several] = totals / (ends[:, 1] - ends[:, 0])[:, None]
    return values
