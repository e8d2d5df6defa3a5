"""The NWB file of a recording: every object in its place, large arrays sized but still empty."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from stream.node import StreamSpec
from stream.recording_content import COLUMNS, RUN_MODULE, SeriesSink, Sink, SpikesSink
from stream.recording_survey import RecordedStream, Survey
from stream.spikes.nwb import COUNTED_UNITS, COUNTS, SEGMENTS, UNIT_NAME
from stream.spikes.nwb_write import LICENCE
from stream.units import format_seconds

RATES = "rates"


def series_places(specs: Mapping[str, StreamSpec]) -> dict[str, tuple[str, str]]:
    """Return, for each stream but those of spikes, its processing module and its name there.

    The only stream of counts is `binned_spikes` and the only rates of a model are `rates`, so that
    the file can be read like any other recording. Behaviour that was recorded keeps the name of
    its output (`probe.hand_vel` becomes `hand_vel`); all else has the full name of its stream.
    """
    kinds = {
        "counts": "ecephys", "rates": "ecephys", "behaviour": "behavior", "graph": "connectivity",
    }  # fmt: skip
    counts = [name for name, spec in specs.items() if spec.kind == "counts"]
    modelled = [name for name, spec in specs.items() if spec.kind == "rates" and _model(spec)]
    rates = [name for name, spec in specs.items() if spec.kind == "rates"]
    places: dict[str, tuple[str, str]] = {}
    taken: set[tuple[str, str]] = set()
    for stream, spec in specs.items():
        if spec.kind == "spikes":
            continue
        module = kinds.get(spec.kind, "acquisition")
        _, _, output = stream.partition(".")
        if counts == [stream]:
            wish = COUNTS
        elif modelled == [stream] or (rates == [stream] and not output):
            wish = RATES
        else:
            wish = "" if _model(spec) else output
        full = re.sub(r"[^A-Za-z0-9_-]", "_", stream)
        tries = (re.sub(r"[^A-Za-z0-9_-]", "_", wish), full, *(f"{full}_{i}" for i in range(99)))
        name = next(t for t in tries if t and (module, t) not in taken)
        taken.add((module, name))
        places[stream] = (module, name)
    return places


def _model(spec: StreamSpec) -> Any:
    return spec.meta.get("model")


def write_skeleton(survey: Survey, part: Path) -> list[Sink]:
    """Write a file in which every large array has its size but no content yet."""
    from pynwb import NWBHDF5IO

    nwbfile = _nwbfile(survey)
    run = nwbfile.create_processing_module(
        RUN_MODULE, "How the packets of the live run got to the recorder, and what was lost."
    )
    modules = {
        "ecephys": "Activity of the units over time.",
        "behavior": "Behaviour, recorded and decoded.",
        "connectivity": "Graphs of units: row = from, column = to; edge, weight, p-value.",
    }
    recorded = {name: s for name, s in survey.streams.items() if s.packets}
    places = series_places({name: s.spec for name, s in recorded.items()})
    sinks: list[Sink] = []
    for stream, (module, name) in places.items():
        found = recorded[stream]
        if module == "acquisition":
            nwbfile.add_acquisition(_time_series(found, name))
            sinks.append(SeriesSink(found, f"acquisition/{name}", name))
        else:
            if module not in nwbfile.processing:
                nwbfile.create_processing_module(module, modules[module])
            nwbfile.processing[module].add(_time_series(found, name))
            sinks.append(SeriesSink(found, f"processing/{module}/{name}", name))
        if name == COUNTS:
            nwbfile.processing[module].add(_unit_names(found))
    spikes = [s for s in recorded.values() if s.spec.kind == "spikes"]
    if spikes:
        nwbfile.units = _units(spikes)
        start = 0
        for found in spikes:
            name = re.sub(r"[^A-Za-z0-9_-]", "_", found.name)
            sinks.append(SpikesSink(found, start, name))
            start += int(found.spikes.sum())
    for sink in sinks:
        run.add(_packet_table(sink))
    for table in _loss_tables(survey):
        run.add(table)
    with NWBHDF5IO(str(part), mode="w") as io:
        io.write(nwbfile)
    return sinks


def _loss_tables(survey: Survey) -> Iterator[Any]:
    from pynwb.core import DynamicTable

    rows = survey.streams.values()
    if rows:
        columns = {
            "stream": ("Full name of the stream.", [s.name for s in rows]),
            "kind": ("What it carries.", [s.spec.kind for s in rows]),
            "packets": ("Packets recorded.", [s.packets for s in rows]),
            "lost": ("Lost before the recorder, by their numbers.", [s.missing for s in rows]),
            "gaps": ("Missing further up: they could not be made.", [s.gaps for s in rows]),
            "refused": ("Came but could not be kept.", [s.refused for s in rows]),
        }
        yield DynamicTable(
            name="streams", description="What came on each stream.", columns=_vectors(columns)
        )
    drops = survey.drops.columns()
    if drops["stream"]:
        about = {
            "time": "Time of the packet after the loss, in s on the clock of the source.",
            "stream": "Stream that lacks the packets.",
            "what": "How they were lost.",
            "packets": "How many; 0 where that is not known.",
        }
        yield DynamicTable(
            name="drops",
            description="Every loss that the recorder knows of.",
            columns=_vectors({key: (about[key], drops[key]) for key in drops}),
        )


def _nwbfile(survey: Survey) -> Any:
    from pynwb import NWBFile
    from pynwb.epoch import TimeIntervals
    from pynwb.file import Subject

    start = survey.start
    pipeline = str(start.get("pipeline", "a pipeline"))
    started = _when(start.get("started"))
    versions = start.get("versions")
    version = versions.get("innervate", "unknown") if isinstance(versions, dict) else "unknown"
    nwbfile = NWBFile(
        session_description=f"Live run of the pipeline '{pipeline}'.",
        identifier=_identifier(pipeline, started),
        session_start_time=started or datetime.fromtimestamp(0, UTC),
        timestamps_reference_time=_source_zero(survey, started),
        was_generated_by=[["innervate", str(version)]],
        experiment_description="Streams recorded by `innervate run`. Times are in seconds on the"
        " clock of the source; the tables packets_* of the processing module 'run' map them to the"
        " monotonic clock of the host.",
        data_collection=json.dumps(_about(survey), indent=1),
        notes="\n".join(_notes(survey, started)) or None,
        keywords=["spikes", "real time", "closed loop"],
        subject=Subject(
            description="The recorder was not told.",
            subject_id="unknown", species="Unknown species", sex="U", age="P0D/"
        ),
    )  # fmt: skip
    if survey.stretches:
        segments = TimeIntervals(
            name=SEGMENTS,
            description="Contiguous stretches of the recording; nothing carries over between them.",
        )
        segments.add_column("segment", "Number of the segment in the run.")
        for start_ns, stop_ns, number in survey.stretches:
            segments.add_interval(
                start_time=start_ns / 1e9, stop_time=stop_ns / 1e9, segment=number
            )
        nwbfile.add_time_intervals(segments)
    return nwbfile


def _identifier(pipeline: str, started: datetime | None) -> str:
    """Return a name that tells people what it is, and is like no other."""
    when = f"{started:%Y%m%d-%H%M%S}-" if started else ""
    return f"{pipeline}-{when}{uuid.uuid4().hex[:8]}"


def _when(text: object) -> datetime | None:
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _source_zero(survey: Survey, started: datetime | None) -> datetime | None:
    """Return when the source's clock stood at zero, by the first packet, or None."""
    started_ns = survey.start.get("started_monotonic_ns")
    if started is None or survey.first is None or not isinstance(started_ns, int):
        return None
    since_ns = survey.first.t_ns - started_ns - survey.first.source_end_ns
    try:
        return started + timedelta(microseconds=since_ns // 1000)
    except OverflowError:
        return None


def _about(survey: Survey) -> dict[str, Any]:
    """Return what stands as JSON in `data_collection`."""
    streams = {
        name: {
            "kind": s.spec.kind, "unit": s.spec.unit, "period_s": s.spec.period_s,
            "names": s.spec.names, "meta": dict(s.spec.meta), "packets": s.packets,
        }
        for name, s in survey.streams.items()
    }  # fmt: skip
    log = {"lost_bytes": survey.lost_bytes, "damaged": survey.damaged, "end": survey.end}
    return {**survey.start, "streams": streams, "log": log}


def _notes(survey: Survey, started: datetime | None) -> Iterator[str]:
    if licence := " ".join(str(survey.start.get("licence") or "").split()):
        yield LICENCE + licence
    models = {json.dumps(m, default=str) for s in survey.streams.values() if (m := _model(s.spec))}
    yield from (f"Model: {model}" for model in sorted(models))
    if started is None:
        yield "When the run began is not known: 1970-01-01 stands for that."
    if survey.end is None:
        yield "The run was cut off; this file was made of what it had recorded."
    if survey.lost_bytes:
        yield f"{survey.lost_bytes} bytes of the log were damaged or unfinished and are not here."
    empty = [name for name, s in survey.streams.items() if not s.packets]
    if empty:
        yield f"Nothing came on: {', '.join(empty)}."


def _array(shape: tuple[int, ...], dtype: Any, packed: bool = True) -> Any:
    from pynwb import H5DataIO

    if not packed:
        return H5DataIO(shape=shape, dtype=np.dtype(dtype))
    row_bytes = max(1, int(np.prod(shape[1:])) * np.dtype(dtype).itemsize)
    rows = max(1, min(shape[0], 2**18 // row_bytes))
    return H5DataIO(
        shape=shape, dtype=np.dtype(dtype), chunks=(rows, *shape[1:]),
        compression="gzip", compression_opts=1, shuffle=True,
    )  # fmt: skip


def _vectors(columns: Mapping[str, tuple[str, Any]]) -> list[Any]:
    from pynwb.core import VectorData

    return [
        VectorData(name=name, description=description, data=data)
        for name, (description, data) in columns.items()
    ]


def _stored_dtype(spec: StreamSpec) -> np.dtype[Any]:
    """Return the type on disk: NWB knows neither half precision nor truth values in a series."""
    return np.dtype({"float16": "float32", "bool": "uint8"}.get(spec.dtype, spec.dtype))


def _time_series(found: RecordedStream, name: str) -> Any:
    from pynwb import TimeSeries

    spec = found.spec
    shape = tuple(size or 0 for size in spec.shape)
    rate_hz = found.rate_hz
    clock: dict[str, Any] = (
        {"timestamps": _array((found.packets,), np.float64)}
        if rate_hz is None
        else {"starting_time": found.first_ns / 1e9, "rate": rate_hz}
    )
    model = _model(spec)
    words = [f"{spec.kind} of the stream '{found.name}'"]
    if spec.period_s:
        words.append(f"one every {format_seconds(spec.period_s)}")
    if model:
        words.append(f"by the model {json.dumps(model, default=str)}")
    return TimeSeries(
        name=name,
        description=", ".join(words) + ". A time is the start of what a row covers.",
        data=_array((found.packets, *shape), _stored_dtype(spec)),
        unit=spec.unit or {"counts": "count", "rates": "Hz"}.get(spec.kind, "n.a."),
        comments=f"columns=[{','.join(spec.names)}]" if spec.names else "no comments",
        **clock,
    )


def _unit_names(found: RecordedStream) -> Any:
    from pynwb.core import DynamicTable

    names = list(found.spec.names) or [str(i) for i in range(found.spec.shape[-1] or 0)]
    return DynamicTable(
        name=COUNTED_UNITS,
        description=f"Units, in the order of the columns of {COUNTS}.",
        columns=_vectors({UNIT_NAME: ("Name of the unit.", names)}),
    )


def _units(streams: list[RecordedStream]) -> Any:
    from pynwb.core import VectorData, VectorIndex
    from pynwb.misc import Units

    per_unit = np.concatenate([s.spikes for s in streams])
    names = [n for s in streams for n in (s.spec.names or map(str, range(len(s.spikes))))]
    times = VectorData(
        name="spike_times",
        description="Spike times in s on the clock of the source.",
        data=_array((int(per_unit.sum()),), np.float64, packed=False),
    )
    ends = np.cumsum(per_unit).astype(np.uint64)
    columns = {UNIT_NAME: ("Name of the unit.", names)}
    if len(streams) > 1:
        came = [s.name for s in streams for _ in s.spikes]
        columns["stream"] = ("Stream that its spikes came on.", came)
    return Units(
        name="units",
        description="Units of the streams of spikes.",
        resolution=1e-9,
        id=list(range(len(names))),
        columns=[
            *_vectors(columns),
            times,
            VectorIndex(name="spike_times_index", data=ends, target=times),
        ],
    )


def _packet_table(sink: Sink) -> Any:
    from hdmf.common import ElementIdentifiers
    from pynwb.core import DynamicTable

    n = sink.found.packets
    return DynamicTable(
        name=f"packets_{sink.label}",
        description=f"Packets of the stream '{sink.found.name}', one row each, in the order of"
        " their arrival.",
        id=ElementIdentifiers(name="id", data=_array((n,), np.int64)),
        columns=_vectors({key: (text, _array((n,), np.int64)) for key, text in COLUMNS.items()}),
    )
