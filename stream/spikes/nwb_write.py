"""Recordings written to NWB files, in one layout.

Spike times lie in the `units` table with a `unit_name` column; binned counts as the
TimeSeries `binned_spikes` (bins x units) in the processing module `ecephys`, with the names of the
units in the table `binned_units` beside it; true rates of simulated units as `true_rates` there;
behaviour as one TimeSeries a name in the module `behavior`, whose comments hold `columns=[x,y]`;
trials in the trials table; contiguous stretches in the time intervals `segments`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import RecordingError
from stream.files import check_pynwb, first_line
from stream.spikes.checks import check_recording, whole_counts
from stream.spikes.recording import Floats, Recording, Series, segment_bounds_ns
from stream.units import format_seconds

COUNTS = "binned_spikes"
COUNTED_UNITS = "binned_units"
TRUE_RATES = "true_rates"
SEGMENTS = "segments"
UNIT_NAME = "unit_name"
UNKNOWN_START = datetime(1970, 1, 1, tzinfo=UTC)

LICENCE = "Licence: "


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
    check_pynwb("Writing NWB files")
    try:
        content = _as_nwb(recording, session, notes, resolution_s)
    except Exception as error:  # hdmf and h5py raise many kinds
        raise RecordingError(
            f"{path} cannot be written as NWB ({first_line(error)}); if it is a name that NWB does"
            " not take, choose another."
        ) from error
    part = path.with_name(f".{path.name}.{os.getpid()}.part.nwb")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.getbuffer())
        part.replace(path)
    except OSError as error:
        raise RecordingError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _as_nwb(
    recording: Recording, session: Session, notes: Sequence[str], resolution_s: float | None
) -> io.BytesIO:
    """Return a file in memory, to be written to the disk as a whole: on a full one HDF5 crashes."""
    import h5py
    import pynwb

    nwbfile = _nwbfile(recording, session, notes)
    if recording.spike_times_s is not None:
        _add_units(nwbfile, recording, resolution_s)
    _add_signals(nwbfile, recording)
    _add_intervals(nwbfile, recording)
    content = io.BytesIO()
    with h5py.File(content, "w") as file, pynwb.NWBHDF5IO(file=file, mode="w") as nwb_io:
        nwb_io.write(nwbfile)
    return content


def _nwbfile(recording: Recording, session: Session, notes: Sequence[str]) -> Any:
    from pynwb import NWBFile
    from pynwb.file import Subject

    lines = list(notes)
    if session.start is None:
        lines.append("When the session began is not known: 1970-01-01 stands for that.")
    if recording.licence:
        lines.append(LICENCE + " ".join(recording.licence.split()))
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
        source_script_file_name="stream/spikes/nwb_write.py",
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


def _rate(times_s: Floats) -> float | None:
    """Return the rate of samples that are equally spaced within a nanosecond, else None."""
    n = len(times_s)
    if n < 2:
        return None
    nominal = float(np.round(times_s[1] - times_s[0], 9))
    if not (np.round(np.diff(times_s), 9) == nominal).all() or nominal <= 0:
        return None
    # The nominal step reads better (1000 Hz), but errors of rounding add up over many samples.
    drift = abs(times_s[0] + (n - 1) * nominal - times_s[-1])
    return 1 / (nominal if drift < 1e-10 else float(times_s[-1] - times_s[0]) / (n - 1))


def _time_series(name: str, series: Series, description: str) -> Any:
    from pynwb import TimeSeries

    rate = _rate(series.times_s)
    clock: dict[str, Any] = (
        {"timestamps": _packed(series.times_s)}
        if rate is None
        else {"starting_time": float(series.times_s[0]), "rate": rate}
    )
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
