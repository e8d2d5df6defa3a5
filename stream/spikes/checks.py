"""What every recording must fulfil, wherever it comes from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.errors import RecordingError
from stream.spikes.recording import Floats, Recording, Series, segment_bounds_ns
from stream.units import to_ns


def check_recording(recording: Recording, where: str) -> None:
    """Check that the parts of a recording fit together and that its values can be.

    Raises
    ------
    RecordingError
        They do not; the message begins with `where`.
    """
    if (recording.spike_times_s is None) == (recording.counts is None):
        raise RecordingError(f"{where} must hold either spike times or binned counts.")
    if not recording.units:
        raise RecordingError(f"{where} holds no units.")
    doubled = sorted({u for u in recording.units if recording.units.count(u) > 1})
    if doubled:
        raise RecordingError(
            f"{where}: several units are called {doubled[0]!r}; names must differ."
        )
    if recording.spike_times_s is not None:
        _check_times(recording, recording.spike_times_s, where)
    else:
        _check_counts(recording, where)
    starts = np.asarray(recording.segment_starts_s)
    if starts.ndim != 1 or not len(starts) or not (np.diff(starts) > 0).all():
        raise RecordingError(f"{where}: segment starts must ascend, and there must be one.")
    if abs(starts[0] - recording.start_s) > 1e-9 or starts[-1] >= recording.stop_s:
        raise RecordingError(
            f"{where}: segments must begin at the start of the recording, {recording.start_s:g} s,"
            f" and before its end, {recording.stop_s:g} s; the first begins at {starts[0]:g} s, the"
            f" last at {starts[-1]:g} s."
        )
    segment_bounds_ns(recording)
    signals = dict(recording.behaviour)
    if recording.true_rates is not None:
        signals["true_rates"] = recording.true_rates
    for name, series in signals.items():
        _check_series(series, f"{where}: {name}")


def whole_counts(counts: NDArray[np.generic], where: str) -> NDArray[np.generic]:
    """Return counts in the smallest unsigned type that holds them all.

    Raises
    ------
    RecordingError
        One is negative, NaN, infinite or not whole; the message begins with `where`.
    """
    if counts.dtype.kind not in "iufb":
        raise RecordingError(f"{where}: counts are of type {counts.dtype}, expected numbers.")
    numbers = counts.astype(np.float64)
    for wrong, what in (
        (~np.isfinite(numbers), "not finite"),
        (numbers < 0, "negative"),
        (numbers != np.floor(numbers), "not whole"),
    ):
        if wrong.any():
            _refuse_count(counts, wrong, what, where)
    return counts.astype(np.min_scalar_type(int(numbers.max(initial=0))))


def _check_times(recording: Recording, spike_times_s: tuple[Floats, ...], where: str) -> None:
    if len(spike_times_s) != len(recording.units):
        raise RecordingError(
            f"{where}: {len(recording.units)} names for {len(spike_times_s)} units."
        )
    for unit, times_s in zip(recording.units, spike_times_s, strict=True):
        if not np.isfinite(times_s).all():
            raise RecordingError(f"{where}: unit {unit} has a spike time that is no number.")
        back = np.flatnonzero(np.diff(times_s) < 0)
        if len(back):
            raise RecordingError(
                f"{where}: spike times of unit {unit} are not in order: after"
                f" {times_s[back[0]]:.6f} s comes {times_s[back[0] + 1]:.6f} s (spike"
                f" {back[0] + 1}). Sort them, or check that the column holds times."
            )


def _check_counts(recording: Recording, where: str) -> None:
    counts = recording.counts
    width_s = recording.width_s
    assert counts is not None
    if width_s is None or not np.isfinite(width_s) or to_ns(width_s) <= 0:
        raise RecordingError(f"{where}: the width of a bin must be above 0 s, found {width_s}.")
    if counts.ndim != 2 or counts.shape[1] != len(recording.units) or not len(counts):
        raise RecordingError(
            f"{where}: counts have shape {counts.shape}, expected (bins, {len(recording.units)}):"
            " one column a unit and at least one bin."
        )
    if counts.dtype.kind != "u":
        whole_counts(counts, where)


def _refuse_count(
    counts: NDArray[np.generic], wrong: NDArray[np.bool_], what: str, where: str
) -> None:
    row, column = np.argwhere(wrong)[0]
    raise RecordingError(
        f"{where}: {int(wrong.sum())} spike counts are {what}, the first in bin {row}, unit"
        f" {column}: {counts[row, column]}."
    )


def _check_series(series: Series, where: str) -> None:
    if series.values.ndim != 2 or series.values.shape != (len(series.times_s), len(series.columns)):
        raise RecordingError(
            f"{where}: values of shape {series.values.shape} for {len(series.times_s)} times and"
            f" {len(series.columns)} columns."
        )
    if not np.isfinite(series.times_s).all():
        raise RecordingError(f"{where}: a sample has a time that is no number.")
    back = np.flatnonzero(np.diff(series.times_s) <= 0)
    if len(back):
        raise RecordingError(
            f"{where}: the times of {len(back)} samples do not ascend, the first"
            f" {series.times_s[back[0] + 1]:.6f} s after {series.times_s[back[0]]:.6f} s (sample"
            f" {back[0] + 1})."
        )
