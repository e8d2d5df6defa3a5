"""Recordings read from NWB files: the layout of this project, and what others wrote.

The layout is told in `stream.spikes.nwb_write`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import MissingExtraError, RecordingError
from stream.files import MAX_BYTES, check_pynwb, check_there, file_sha256, first_line
from stream.spikes.checks import check_recording, whole_counts
from stream.spikes.npz import load_npz
from stream.spikes.nwb_write import (
    COUNTED_UNITS,
    COUNTS,
    LICENCE,
    SEGMENTS,
    TRUE_RATES,
    UNIT_NAME,
    Session,
    write_recording,
)
from stream.spikes.recording import Floats, Recording, Series, Trials
from stream.units import to_ns

__all__ = [
    "COUNTED_UNITS",
    "COUNTS",
    "SEGMENTS",
    "TRUE_RATES",
    "UNIT_NAME",
    "Session",
    "file_sha256",
    "load_npz",
    "load_recording",
    "read_recording",
    "write_recording",
]

_TIME_COLUMNS = ("start_time", "stop_time")


def load_recording(path: str | os.PathLike[str]) -> Recording:
    """Read a recording from an NWB file, or binned counts from an `.npz` file.

    Raises
    ------
    RecordingError
        The file is not there, is no recording, or holds values that cannot be.
    """
    path = Path(path)
    return load_npz(path) if path.suffix.lower() == ".npz" else read_recording(path)


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """Read a recording from an NWB file, written by this project or by anybody else.

    Of files of others it takes spike times from the units table (names from `unit_name`, else the
    ids); every numeric TimeSeries or SpatialSeries of one or two dimensions in any processing
    module, and inside Position, BehavioralTimeSeries and their like; trial columns of one value a
    trial. Unless the file says what the segments are, they are the stretches in which the units
    were observed (`obs_intervals`), or else the whole session is one.

    Raises
    ------
    RecordingError
        The file is not there, empty, truncated, not HDF5, not NWB, or has neither spike times nor
        binned counts; or counts are negative or NaN, or spike times are not in order.
    MissingExtraError
        pynwb is not installed.
    """
    path = Path(path)
    _check_hdf5(path)
    check_pynwb("Reading NWB files")
    from pynwb import NWBHDF5IO

    try:
        with NWBHDF5IO(str(path), mode="r", load_namespaces=True) as io:
            recording = _read(io.read(), path)
    except RecordingError:
        raise
    except Exception as error:  # hdmf and h5py raise many kinds for damaged files
        raise RecordingError(
            f"{path} cannot be read as an NWB file ({first_line(error)}); it may be damaged."
        ) from error
    check_recording(recording, str(path))
    return recording


def _check_hdf5(path: Path) -> None:
    check_there(path)
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("Reading NWB files", "nwb") from error
    if not h5py.is_hdf5(path):
        raise RecordingError(
            f"{path} is no HDF5 file, so no NWB file; `innervate import` turns other formats into"
            " NWB."
        )
    try:
        with h5py.File(path, "r") as file:
            is_nwb = "nwb_version" in file.attrs
    except Exception as error:  # h5py raises many kinds for damaged files
        raise RecordingError(
            f"{path} is an HDF5 file that is truncated or damaged ({first_line(error)})."
        ) from error
    if not is_nwb:
        raise RecordingError(
            f"{path} is an HDF5 file but no NWB file (it states no nwb_version); `innervate import`"
            " turns it into one."
        )


def _read(nwbfile: Any, path: Path) -> Recording:
    modules = nwbfile.processing
    counts_series = modules["ecephys"].data_interfaces.get(COUNTS) if "ecephys" in modules else None
    units = nwbfile.units
    has_times = units is not None and "spike_times" in units.colnames
    if counts_series is None and not has_times:
        raise RecordingError(
            f"{path} is an NWB file without spikes: it has neither spike times in a units table nor"
            f" binned counts ('{COUNTS}' in the processing module 'ecephys')."
        )
    behaviour: dict[str, Series] = {}
    true_rates: Series | None = None
    for series in _all_series(modules):
        if series is counts_series:
            continue
        if series.name == TRUE_RATES:
            true_rates = _series(series, path)
        elif _is_signal(series):
            name = series.name
            if name in behaviour:
                name = f"{series.parent.name}.{name}"
            behaviour[name] = _series(series, path)
    trials = _trials(nwbfile.trials)
    common: dict[str, Any] = {
        "name": nwbfile.identifier,
        "behaviour": behaviour,
        "true_rates": true_rates,
        "trials": trials,
        "sha256": file_sha256(path),
        "licence": _licence(nwbfile.notes),
    }
    if counts_series is not None:
        table = modules["ecephys"].data_interfaces.get(COUNTED_UNITS, units)
        counts = whole_counts(_array(counts_series.data, f"{path}: {COUNTS}"), f"{path}: {COUNTS}")
        if counts.ndim != 2:
            raise RecordingError(f"{path}: {COUNTS} has shape {counts.shape}, not (bins, units).")
        start_s, width_s, places = _grid(counts_series, path)
        if places is not None:
            counts = _on_grid(counts, places, f"{path}: {COUNTS}")
        bounds = _segments(nwbfile, None)
        if bounds is None:
            bounds = start_s + width_s * _runs(np.arange(len(counts)) if places is None else places)
        return Recording(
            units=_unit_names(table, counts.shape[1]),
            unit_columns=_columns(table),
            start_s=start_s,
            stop_s=start_s + len(counts) * width_s,
            counts=counts,
            width_s=width_s,
            **_segment_fields(bounds),
            **common,
        )
    times = _spike_times(units, path)
    bounds = _segments(nwbfile, units)
    if bounds is None:
        bounds = _extent(times, behaviour, trials, path)
    return Recording(
        units=_unit_names(units, len(times)),
        unit_columns=_columns(units),
        start_s=float(bounds[0, 0]),
        stop_s=float(bounds[-1, 1]),
        spike_times_s=times,
        **_segment_fields(bounds),
        **common,
    )


def _all_series(modules: Any) -> Iterator[Any]:
    from pynwb import TimeSeries
    from pynwb.core import MultiContainerInterface

    for module in modules.values():
        for interface in module.data_interfaces.values():
            if isinstance(interface, TimeSeries):
                yield interface
            elif isinstance(interface, MultiContainerInterface):
                yield from (c for c in interface.children if isinstance(c, TimeSeries))


def _is_signal(series: Any) -> bool:
    """Whether a series is a signal: raw voltages, images and text have types of their own."""
    if series.neurodata_type not in ("TimeSeries", "SpatialSeries"):
        return False
    shape = getattr(series.data, "shape", None)
    dtype = getattr(series.data, "dtype", None)
    return (
        shape is not None
        and dtype is not None
        and len(shape) in (1, 2)
        and shape[0] > 0
        and np.dtype(dtype).kind in "fiub"
    )


def _array(data: Any, where: str) -> NDArray[np.generic]:
    size = int(np.prod(data.shape)) * np.dtype(data.dtype).itemsize
    if size > MAX_BYTES:
        raise RecordingError(
            f"{where} takes {size / 2**30:.1f} GiB, more than the {MAX_BYTES / 2**30:.0f} GiB that"
            " are read; cut the recording into shorter files."
        )
    return np.asarray(data[()])


def _times_s(series: Any, where: str) -> Floats:
    if series.timestamps is not None:
        return _array(series.timestamps, where).astype(np.float64)
    start_s = series.starting_time or 0.0
    return np.asarray(start_s + np.arange(series.data.shape[0]) / series.rate, dtype=np.float64)


def _series(series: Any, path: Path) -> Series:
    where = f"{path}: {series.name}"
    values = _array(series.data, where).astype(np.float64)
    values = values.reshape(len(values), -1)
    if series.conversion != 1 or series.offset:
        values = values * series.conversion + series.offset
    # The convention of the Neural Latents Benchmark's files.
    stated = re.search(r"columns=\[(.*)\]", series.comments or "")
    columns = tuple(c.strip() for c in stated.group(1).split(",")) if stated else ()
    if len(columns) != values.shape[1]:
        columns = (
            ("x", "y", "z")[: values.shape[1]]
            if 1 < values.shape[1] <= 3
            else tuple(str(i) for i in range(values.shape[1]))
        )
    unit = "" if series.unit in (None, "n.a.") else str(series.unit)
    return Series(times_s=_times_s(series, where), values=values, columns=columns, unit=unit)


def _grid(series: Any, path: Path) -> tuple[float, float, NDArray[np.int64] | None]:
    """Start and width in seconds of the bins of a series of counts, and their places on the grid.

    The places are None where every bin is there.
    """
    if series.rate is not None:
        width_ns = to_ns(1 / series.rate) if series.rate > 0 else 0
        return float(series.starting_time or 0.0), width_ns / 1e9, None
    times_s = _times_s(series, f"{path}: {COUNTS}")
    steps = np.diff(times_s)
    if not len(steps) or not steps.min() > 0:
        raise RecordingError(f"{path}: the times of the bins of {COUNTS} do not ascend.")
    width_s = to_ns(float(np.median(steps[steps < 1.5 * steps.min()]))) / 1e9
    exact = (times_s - times_s[0]) / width_s
    places = np.round(exact).astype(np.int64)
    if np.abs(exact - places).max() > 1e-2:
        raise RecordingError(f"{path}: the bins of {COUNTS} are not on one grid.")
    return float(times_s[0]), width_s, None if (np.diff(places) == 1).all() else places


def _runs(places: NDArray[np.int64]) -> Floats:
    """Return the first place of each run of consecutive places, and the one after its last."""
    if not len(places):
        return np.zeros((1, 2))
    after = np.flatnonzero(np.diff(places) > 1) + 1
    return np.array([[run[0], run[-1] + 1] for run in np.split(places, after)], np.float64)


def _on_grid(
    counts: NDArray[np.generic], places: NDArray[np.int64], where: str
) -> NDArray[np.generic]:
    """Leave room, filled with zeros, for bins that were not recorded: segments leave them out."""
    size = (int(places[-1]) + 1) * counts.shape[1] * counts.dtype.itemsize
    if size > MAX_BYTES:
        raise RecordingError(
            f"{where} has holes of hours between its bins; cut the recording into shorter files."
        )
    full = np.zeros((int(places[-1]) + 1, counts.shape[1]), counts.dtype)
    full[places] = counts
    return full


def _unit_names(table: Any, n_units: int) -> tuple[str, ...]:
    if table is None:
        return tuple(str(i) for i in range(n_units))
    if UNIT_NAME in table.colnames:
        return tuple(str(name) for name in table[UNIT_NAME][:])
    return tuple(str(i) for i in table.id[:])


def _columns(table: Any) -> dict[str, NDArray[np.generic]]:
    """Return the columns of a table that hold one value a row, without names and times."""
    found = {}
    for name in table.colnames if table is not None else ():
        column = table[name]
        data = getattr(column, "data", None)
        ragged = type(column).__name__ in ("VectorIndex", "DynamicTableRegion")
        if name in (UNIT_NAME, *_TIME_COLUMNS) or ragged or data is None:
            continue
        values = np.asarray(data[:])
        if values.ndim != 1:
            continue
        if values.dtype.kind == "O":
            if not all(isinstance(v, str | bytes) for v in values):
                continue
            values = np.array(
                [v.decode() if isinstance(v, bytes) else v for v in values], dtype=str
            )
        found[name] = values
    return found


def _trials(table: Any) -> Trials | None:
    if table is None or not len(table):
        return None
    return Trials(
        start_s=np.asarray(table["start_time"][:], dtype=np.float64),
        stop_s=np.asarray(table["stop_time"][:], dtype=np.float64),
        columns=_columns(table),
    )


def _spike_times(units: Any, path: Path) -> tuple[Floats, ...]:
    # Ragged: all times in one array, and per unit the place in it where its times end.
    index = units["spike_times"]
    flat = _array(index.target.data, f"{path}: spike_times").astype(np.float64)
    ends = np.asarray(index.data[:], dtype=np.int64)
    return tuple(np.split(flat, ends[:-1])) if len(ends) else ()


def _segments(nwbfile: Any, units: Any) -> Floats | None:
    if SEGMENTS in (nwbfile.intervals or {}):
        table = nwbfile.intervals[SEGMENTS]
        columns = [np.asarray(table[name][:], np.float64) for name in ("start_time", "stop_time")]
        return np.stack(columns, axis=1)
    if units is None or "obs_intervals" not in units.colnames:
        return None
    intervals = np.asarray(units["obs_intervals"].target.data[:], dtype=np.float64)
    if not len(intervals):
        return None
    return _merged(intervals)


def _merged(intervals: Floats) -> Floats:
    """Return the union of intervals; those that touch within a microsecond are one."""
    ordered = intervals[np.argsort(intervals[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ordered[:, 1])
    first = np.append(True, ordered[1:, 0] > reach[:-1] + 1e-6)
    last = np.append(first[1:], True)
    return np.stack([ordered[first, 0], reach[last]], axis=1)


def _extent(
    times: tuple[Floats, ...], behaviour: dict[str, Series], trials: Trials | None, path: Path
) -> Floats:
    """Return the stretch from the first to the last thing that the file holds, as one segment."""
    known = [t for t in times if len(t)] + [s.times_s for s in behaviour.values()]
    if trials is not None:
        known += [trials.start_s, trials.stop_s]
    if not known:
        raise RecordingError(f"{path} holds units but not a single spike.")
    start_s = min(float(np.nanmin(t)) for t in known)
    # Half open: the last spike must lie before the end.
    stop_s = max(float(np.nanmax(t)) for t in known) + 1e-9
    return np.array([[start_s, stop_s]])


def _segment_fields(bounds: Floats) -> dict[str, Any]:
    gaps = np.abs(bounds[1:, 0] - bounds[:-1, 1]) > 1e-6
    return {
        "segment_starts_s": bounds[:, 0],
        "segment_stops_s": bounds[:, 1] if gaps.any() else None,
    }


def _licence(notes: str | None) -> str:
    lines = (notes or "").splitlines()
    return next((line[len(LICENCE) :] for line in lines if line.startswith(LICENCE)), "")
