"""The NWB file of a recording: every object in its place, large arrays sized but still empty."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from stream.node import StreamSpec
from stream.recording_content import RUN_MODULE, Sink, SpikesSink, sink_of
from stream.recording_series import add_series, events_table, model_of, sized_array, vectors
from stream.recording_survey import RecordedStream, Survey, is_text
from stream.spikes.nwb import COUNTED_UNITS, COUNTS, SEGMENTS, UNIT_NAME
from stream.spikes.nwb_write import LICENCE

RATES = "rates"


def series_places(specs: Mapping[str, StreamSpec]) -> dict[str, tuple[str, str]]:
    """Return, for each stream, its group or module in the file and its name, unlike all others.

    The only stream of counts is `binned_spikes` and the only rates of a model are `rates`, so that
    the file can be read like any other recording. Behaviour that was recorded keeps the name of
    its output (`probe.hand_vel` becomes `hand_vel`) if no other has the same; all else has the
    full name of its stream, `a.state` as `a_state`.
    """
    modules = {
        "counts": "ecephys", "rates": "ecephys", "behaviour": "behavior", "graph": "connectivity",
    }  # fmt: skip
    outputs = Counter((spec.kind, name.partition(".")[2]) for name, spec in specs.items())
    counts = [name for name, spec in specs.items() if spec.kind == "counts"]
    modelled = [name for name, spec in specs.items() if spec.kind == "rates" and model_of(spec)]
    rates = [name for name, spec in specs.items() if spec.kind == "rates"]
    places: dict[str, tuple[str, str]] = {}
    taken: set[str] = set()
    for stream, spec in specs.items():
        elsewhere = "units" if spec.kind == "spikes" else "events" if is_text(spec) else ""
        module = elsewhere or modules.get(spec.kind, "acquisition")
        _, _, output = stream.partition(".")
        if counts == [stream]:
            wish = COUNTS
        elif modelled == [stream] or (rates == [stream] and not output):
            wish = RATES
        else:
            own = spec.kind in modules and outputs[spec.kind, output] == 1 and not model_of(spec)
            wish = output if own else ""
        full = re.sub(r"[^A-Za-z0-9_-]", "_", stream)
        tries = (re.sub(r"[^A-Za-z0-9_-]", "_", wish), full, *(f"{full}_{i}" for i in range(99)))
        name = next(t for t in tries if t and t not in taken)
        taken.add(name)
        places[stream] = (module, name)
    return places


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
        path = f"{module}/{name}"
        if module == "units":
            continue
        if module == "events":
            nwbfile.add_events_table(events_table(found, name))
        elif module == "acquisition":
            add_series(nwbfile, nwbfile, found, name)
        else:
            if module not in nwbfile.processing:
                nwbfile.create_processing_module(module, modules[module])
            add_series(nwbfile, nwbfile.processing[module], found, name)
            path = f"processing/{path}"
        sinks.append(sink_of(found, path, name))
        if name == COUNTS:
            nwbfile.processing[module].add(_unit_names(found))
    spikes = [s for s in recorded.values() if s.spec.kind == "spikes"]
    if spikes:
        nwbfile.units = _units(spikes)
        start = 0
        for found in spikes:
            sinks.append(SpikesSink(found, start, places[found.name][1]))
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
            name="streams", description="What came on each stream.", columns=vectors(columns)
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
            columns=vectors({key: (about[key], drops[key]) for key in drops}),
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
    models = {
        json.dumps(m, default=str) for s in survey.streams.values() if (m := model_of(s.spec))
    }
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


def _unit_names(found: RecordedStream) -> Any:
    from pynwb.core import DynamicTable

    names = list(found.spec.names) or [str(i) for i in range(found.spec.shape[-1] or 0)]
    return DynamicTable(
        name=COUNTED_UNITS,
        description=f"Units, in the order of the columns of {COUNTS}.",
        columns=vectors({UNIT_NAME: ("Name of the unit.", names)}),
    )


def _units(streams: list[RecordedStream]) -> Any:
    from pynwb.core import VectorData, VectorIndex
    from pynwb.misc import Units

    per_unit = np.concatenate([s.spikes for s in streams])
    names = [n for s in streams for n in (s.spec.names or map(str, range(len(s.spikes))))]
    times = VectorData(
        name="spike_times",
        description="Spike times in s on the clock of the source.",
        data=sized_array((int(per_unit.sum()),), np.float64, packed=False),
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
            *vectors(columns),
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
        id=ElementIdentifiers(name="id", data=sized_array((n,), np.int64)),
        columns=vectors(
            {key: (text, sized_array((n,), np.int64)) for key, text in sink.about.items()}
        ),
    )
