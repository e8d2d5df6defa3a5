"""Recordings in NWB files: one layout that is written, and whatever others wrote that can be read.

The layout: spike times in the `units` table with a `unit_name` column; binned counts as the
TimeSeries `binned_spikes` (bins x units) in the processing module `ecephys`, with the names of the
units in the table `binned_units` beside it; true rates of simulated units as `true_rates` there;
behaviour as one TimeSeries a name in the module `behavior`, whose comments hold `columns=[x,y]`;
trials in the trials table; contiguous stretches in the time intervals `segments`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import MissingExtraError, RecordingError
from stream.spikes.checks import check_recording, whole_counts
from stream.spikes.recording import Floats, Recording, Series, Trials, segment_bounds_ns
from stream.units import format_seconds, to_ns

COUNTS = "binned_spikes"
COUNTED_UNITS = "binned_units"
TRUE_RATES = "true_rates"
SEGMENTS = "segments"
UNIT_NAME = "unit_name"
UNKNOWN_START = datetime(1970, 1, 1, tzinfo=UTC)

MAX_BYTES = 8 * 2**30
"""No single array larger than this is read."""

_TIME_COLUMNS = ("start_time", "stop_time")
_LICENCE = "Licence: "


@dataclass(frozen=True)
class Session:
    """What NWB wants to know about a session beside its data; the defaults say "not known".

    Attributes
    ----------
    description
        One sentence about the session.
    start
        When it began, with a time zone; None where it is not known.
    subject_id, species, sex, age
        Subject: species in Latin, sex M, F, O or U, age as an ISO 8601 duration or range of
        durations such as `P90D/P120D`.
    lab, institution, experimenter, publications, keywords
        As in NWB.
    """

    description: str = "Spike recording; its source says nothing more."
    start: datetime | None = None
    subject_id: str = "unknown"
    species: str = "Unknown species"
    sex: str = "U"
    age: str = "P0D/"
    lab: str | None = None
    institution: str | None = None
    experimenter: tuple[str, ...] = ()
    publications: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ("spikes",)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_recording(path: str | os.PathLike[str]) -> Recording:
    """Read a recording from an NWB file, or binned counts from an `.npz` file.

    Raises
    ------
    RecordingError
        The file is not there, is no recording, or holds values that cannot be.
    """
    path = Path(path)
    return load_npz(path) if path.suffix.lower() == ".npz" else read_recording(path)


def load_npz(path: str | os.PathLike[str]) -> Recording:
    """Read binned counts from an `.npz` file.

    It holds `counts` (bins, units) and `width_s`, and may hold `units` (names) and
    `segment_starts_s`.

    Raises
    ------
    RecordingError
        The file is not there, is not such a file, or holds values that cannot be.
    """
    path = Path(path)
    _check_there(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:  # numpy, zipfile and zlib each raise their own for a bad file
        raise RecordingError(f"{path} cannot be read as an .npz file: {error}.") from error
    missing = [key for key in ("counts", "width_s") if key not in arrays]
    if missing:
        raise RecordingError(
            f"{path} has no array {' and no '.join(map(repr, missing))}; it holds"
            f" {', '.join(sorted(arrays)) or 'nothing'}. Binned counts need 'counts' (bins, units)"
            " and 'width_s'."
        )
    counts = np.asarray(arrays["counts"])
    if counts.ndim != 2:
        raise RecordingError(f"{path}: 'counts' has shape {counts.shape}, expected (bins, units).")
    if arrays["width_s"].size != 1 or arrays["width_s"].dtype.kind not in "fiu":
        raise RecordingError(f"{path}: 'width_s' must be one number, the width of a bin in s.")
    width_s = float(arrays["width_s"].item())
    units = arrays.get("units")
    starts = arrays.get("segment_starts_s", np.zeros(1))
    recording = Recording(
        name=path.stem,
        units=tuple(
            str(u) for u in (range(counts.shape[1]) if units is None else np.atleast_1d(units))
        ),
        start_s=float(np.atleast_1d(starts)[0]) if np.size(starts) else 0.0,
        stop_s=float(np.atleast_1d(starts)[0]) + len(counts) * width_s if np.size(starts) else 0.0,
        segment_starts_s=np.atleast_1d(np.asarray(starts, dtype=np.float64)),
        counts=whole_counts(counts, str(path)),
        width_s=width_s,
        sha256=file_sha256(path),
    )
    check_recording(recording, str(path))
    return recording


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
    try:
        from pynwb import NWBHDF5IO
    except ImportError as error:
        raise MissingExtraError("Reading NWB files", "nwb") from error
    try:
        with NWBHDF5IO(str(path), mode="r", load_namespaces=True) as io:
            recording = _read(io.read(), path)
    except RecordingError:
        raise
    except Exception as error:  # hdmf and h5py raise many kinds for damaged files
        raise RecordingError(
            f"{path} cannot be read as an NWB file ({_first_line(error)}); it may be damaged."
        ) from error
    check_recording(recording, str(path))
    return recording


def _check_there(path: Path) -> None:
    if not path.exists():
        raise RecordingError(f"{path} is not there.")
    if not path.is_file():
        raise RecordingError(f"{path} is not a file.")
    if path.stat().st_size == 0:
        raise RecordingError(f"{path} is empty (0 bytes).")


def _check_hdf5(path: Path) -> None:
    _check_there(path)
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
    except OSError as error:
        raise RecordingError(
            f"{path} is an HDF5 file that is truncated or damaged ({_first_line(error)})."
        ) from error
    if not is_nwb:
        raise RecordingError(
            f"{path} is an HDF5 file but no NWB file (it states no nwb_version); `innervate import`"
            " turns it into one."
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


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
    """Whether a series is numbers over time: images, text and links to external files are not."""
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
        return np.stack([table["start_time"][:], table["stop_time"][:]], axis=1).astype(np.float64)
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
    return next((line[len(_LICENCE) :] for line in lines if line.startswith(_LICENCE)), "")


def write_recording(
    recording: Recording,
    path: str | os.PathLike[str],
    session: Session = Session(),
    resolution_s: float | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write a recording to an NWB file; the file appears only when it is complete.

    Parameters
    ----------
    recording, path
        What to write, and where. A file that is there is replaced.
    session
        What is known of the session and its subject.
    resolution_s
        Smallest time step of the clock of the spike times. None where it is not known: the
        smallest step between any two spikes is written.
    notes
        Further sentences for the notes of the file.

    Raises
    ------
    RecordingError
        The recording is not consistent, or the file cannot be written.
    MissingExtraError
        pynwb is not installed.
    """
    path = Path(path)
    check_recording(recording, recording.name)
    try:
        import pynwb
    except ImportError as error:
        raise MissingExtraError("Writing NWB files", "nwb") from error
    nwbfile = _nwbfile(recording, session, notes)
    if recording.spike_times_s is not None:
        _add_units(nwbfile, recording, resolution_s)
    _add_signals(nwbfile, recording)
    _add_intervals(nwbfile, recording)
    part = path.with_name(f".{path.name}.{os.getpid()}.part.nwb")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pynwb.NWBHDF5IO(str(part), mode="w") as io:
            io.write(nwbfile)
        part.replace(path)
    except OSError as error:
        raise RecordingError(f"{path} cannot be written: {_first_line(error)}.") from error
    finally:
        part.unlink(missing_ok=True)


def _nwbfile(recording: Recording, session: Session, notes: Sequence[str]) -> Any:
    from pynwb import NWBFile
    from pynwb.file import Subject

    lines = list(notes)
    if session.start is None:
        lines.append("When the session began is not known: 1970-01-01 stands for that.")
    if recording.licence:
        lines.append(_LICENCE + " ".join(recording.licence.split()))
    return NWBFile(
        session_description=session.description,
        identifier=recording.name or str(uuid.uuid4()),
        session_start_time=session.start or UNKNOWN_START,
        lab=session.lab,
        institution=session.institution,
        experimenter=session.experimenter or None,
        related_publications=session.publications or None,
        keywords=list(session.keywords) or None,
        notes="\n".join(lines) or None,
        source_script=f"innervate {importlib.metadata.version('innervate')}",
        source_script_file_name="stream/spikes/nwb.py",
        subject=Subject(
            subject_id=session.subject_id,
            species=session.species,
            sex=session.sex,
            age=session.age,
        ),
    )


def _packed(values: NDArray[np.generic]) -> Any:
    from pynwb import H5DataIO

    return H5DataIO(values, compression="gzip", compression_opts=4, shuffle=True)


def _add_units(nwbfile: Any, recording: Recording, resolution_s: float | None) -> None:
    from pynwb.misc import Units

    assert recording.spike_times_s is not None
    nwbfile.units = Units(
        name="units",
        description="Units of the recording.",
        resolution=resolution_s or _finest_step(recording.spike_times_s),
    )
    nwbfile.add_unit_column(UNIT_NAME, "Name of the unit.")
    for name in recording.unit_columns:
        nwbfile.add_unit_column(name, f"{name} of the unit.")
    intervals = (
        segment_bounds_ns(recording) / 1e9 if recording.segment_stops_s is not None else None
    )
    for i, (name, times_s) in enumerate(zip(recording.units, recording.spike_times_s, strict=True)):
        nwbfile.add_unit(
            spike_times=np.asarray(times_s, dtype=np.float64),
            unit_name=name,
            **({} if intervals is None else {"obs_intervals": intervals}),
            **{key: values[i] for key, values in recording.unit_columns.items()},
        )


def _finest_step(spike_times_s: tuple[Floats, ...]) -> float:
    steps = np.diff(np.unique(np.concatenate(spike_times_s)))
    return max(float(steps.min(initial=1.0)), 1e-9)


def _time_series(name: str, series: Series, description: str) -> Any:
    from pynwb import TimeSeries

    steps = np.round(np.diff(series.times_s), 9)
    n = len(series.times_s)
    clock: dict[str, Any] = {"timestamps": _packed(series.times_s)}
    if n > 1 and (steps == steps[0]).all():
        start_s, step_s = float(series.times_s[0]), float(steps[0])
        if np.abs(start_s + np.arange(n) * step_s - series.times_s).max() > 1e-6:
            step_s = float(series.times_s[-1] - start_s) / (n - 1)
        clock = {"starting_time": start_s, "rate": 1 / step_s}
    return TimeSeries(
        name=name,
        description=description,
        data=_packed(series.values),
        unit=series.unit or "n.a.",
        comments=f"columns=[{','.join(series.columns)}]",
        **clock,
    )


def _add_signals(nwbfile: Any, recording: Recording) -> None:
    from pynwb import TimeSeries

    if recording.counts is not None or recording.true_rates is not None:
        module = nwbfile.create_processing_module("ecephys", "Activity of the units over time.")
        if recording.counts is not None:
            assert recording.width_s is not None
            counts = TimeSeries(
                name=COUNTS,
                description=f"Spikes per bin of {format_seconds(recording.width_s)} (bins, units);"
                f" bins are half open and begin at their time. Units: see {COUNTED_UNITS}.",
                data=_packed(whole_counts(recording.counts, recording.name)),
                unit="count",
                starting_time=float(recording.start_s),
                rate=1 / recording.width_s,
            )
            module.add(counts)
            module.add(_unit_table(recording))
        if recording.true_rates is not None:
            module.add(
                _time_series(TRUE_RATES, recording.true_rates, "Known firing rates of the units.")
            )
    if recording.behaviour:
        module = nwbfile.create_processing_module("behavior", "Signals recorded beside the spikes.")
        for name, series in recording.behaviour.items():
            module.add(_time_series(name, series, f"{name}: {', '.join(series.columns)}."))


def _unit_table(recording: Recording) -> Any:
    from pynwb.core import DynamicTable, VectorData

    columns = {UNIT_NAME: np.array(recording.units), **recording.unit_columns}
    return DynamicTable(
        name=COUNTED_UNITS,
        description=f"Units, in the order of the columns of {COUNTS}.",
        columns=[
            VectorData(name=name, description=f"{name} of the unit.", data=_column(values))
            for name, values in columns.items()
        ],
    )


def _column(values: NDArray[np.generic]) -> Any:
    return [str(v) for v in values] if values.dtype.kind in "US" else np.asarray(values)


def _add_intervals(nwbfile: Any, recording: Recording) -> None:
    from pynwb.epoch import TimeIntervals

    segments = TimeIntervals(
        name=SEGMENTS,
        description="Contiguous stretches of the recording; nothing carries over between them.",
    )
    starts = recording.segment_starts_s
    stops = recording.segment_stops_s
    if stops is None:
        stops = np.append(starts[1:], recording.stop_s)
    for start_s, stop_s in zip(starts, stops, strict=True):
        segments.add_interval(start_time=float(start_s), stop_time=float(stop_s))
    nwbfile.add_time_intervals(segments)
    trials = recording.trials
    if trials is None:
        return
    for name in trials.columns:
        nwbfile.add_trial_column(name, f"{name} of the trial.")
    columns = {name: _column(values) for name, values in trials.columns.items()}
    for i, (start_s, stop_s) in enumerate(zip(trials.start_s, trials.stop_s, strict=True)):
        row = {name: values[i] for name, values in columns.items()}
        nwbfile.add_trial(start_time=float(start_s), stop_time=float(stop_s), **row)
