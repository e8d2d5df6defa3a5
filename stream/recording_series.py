"""The series and tables of a recording's NWB file: one a stream, sized but still empty."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from stream.node import StreamSpec
from stream.recording_survey import RecordedStream, has_rows
from stream.units import format_hertz, format_seconds

_VOLTS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6}
# What the axes of a kind mean, where names of columns do not say it.
_AXES = {"graph": "axes: packet, from, to, (edge, weight, p-value; NaN where nothing was tested)"}


def model_of(spec: StreamSpec) -> Any:
    """Return what a stream says of the model that made it, None for all others."""
    return spec.meta.get("model")


def add_series(nwbfile: Any, container: Any, found: RecordedStream, name: str) -> None:
    """Add the series of a stream of numbers to `container`, which is a module or the file.

    Raw channels in volts become an ElectricalSeries with electrodes that are named like the
    channels, all else a TimeSeries.
    """
    from pynwb import TimeSeries
    from pynwb.ecephys import ElectricalSeries

    add = container.add_acquisition if container is nwbfile else container.add
    spec = found.spec
    rate_hz = found.rate_hz
    common: dict[str, Any] = {
        "name": name,
        "description": f"{_about(found)}. A time is the start of what a row covers.",
        "comments": f"columns=[{','.join(spec.names)}]" if spec.names else "no comments",
    }
    if rate_hz is None:
        common["timestamps"] = sized_array((found.rows,), np.float64)
    else:
        common |= {"starting_time": found.first_ns / 1e9, "rate": rate_hz}
    row = spec.shape[1:] if has_rows(spec) else spec.shape
    shape = (found.rows, *(size or 0 for size in row))
    # Packing channels at 30 kHz would take as long as recording them, and save a tenth to a third.
    data = sized_array(shape, _stored_dtype(spec), packed=spec.kind != "samples")
    if spec.kind == "samples" and len(shape) == 2 and spec.unit in _VOLTS:
        electrodes = _electrodes(nwbfile, found, name, shape[1])
        volts = _VOLTS[spec.unit]
        add(ElectricalSeries(data=data, electrodes=electrodes, conversion=volts, **common))
    else:
        unit = spec.unit or {"counts": "count", "rates": "Hz"}.get(spec.kind, "n.a.")
        add(TimeSeries(data=data, unit=unit, **common))


def _about(found: RecordedStream) -> str:
    words = [f"{found.spec.kind} of the stream '{found.name}'"]
    if found.spec.kind == "samples" and found.stated_hz:
        words.append(format_hertz(found.stated_hz))
    elif found.spec.period_s:
        words.append(f"one every {format_seconds(found.spec.period_s)}")
    if model := model_of(found.spec):
        words.append(f"by the model {json.dumps(model, default=str)}")
    if axes := _AXES.get(found.spec.kind):
        words.append(axes)
    return ", ".join(words)


def _electrodes(nwbfile: Any, found: RecordedStream, name: str, channels: int) -> Any:
    """Add an electrode for each channel; of where it lies, a stream says nothing."""
    device = nwbfile.create_device(name, description=f"Source of the stream '{found.name}'.")
    group = nwbfile.create_electrode_group(
        name, description=f"Channels of the stream '{found.name}'.", location="unknown",
        device=device,
    )  # fmt: skip
    if nwbfile.electrodes is None:
        nwbfile.add_electrode_column("channel_name", "Name of the channel in its stream.")
    first = len(nwbfile.electrodes)
    for channel in found.spec.names or [f"ch{i}" for i in range(channels)]:
        nwbfile.add_electrode(group=group, location="unknown", channel_name=channel)
    rows = list(range(first, first + channels))
    return nwbfile.create_electrode_table_region(rows, "Channels, in the order of the columns.")


def events_table(found: RecordedStream, name: str) -> Any:
    """Return the table of a stream of texts: when each came, and what it says."""
    import h5py
    from hdmf.common import ElementIdentifiers
    from pynwb import H5DataIO
    from pynwb.event import EventsTable, TimestampVectorData

    n = found.packets
    times = TimestampVectorData(
        name="timestamp",
        description="Time in s on the clock of the source.",
        data=sized_array((n,), np.float64),
    )
    texts = H5DataIO(shape=(n,), dtype=h5py.string_dtype())
    return EventsTable(
        name=name,
        description=f"{_about(found)}, by the time stamps of its source.",
        id=ElementIdentifiers(name="id", data=sized_array((n,), np.int64)),
        columns=[times, *vectors({"annotation": ("What the marker says.", texts)})],
    )


def sized_array(shape: tuple[int, ...], dtype: Any, packed: bool = True) -> Any:
    """Return an array that is written empty, for later to fill; packed, in chunks of 256 kB."""
    from pynwb import H5DataIO

    if not packed or not shape[0]:
        return H5DataIO(shape=shape, dtype=np.dtype(dtype))
    row_bytes = max(1, int(np.prod(shape[1:])) * np.dtype(dtype).itemsize)
    rows = max(1, min(shape[0], 2**18 // row_bytes))
    return H5DataIO(
        shape=shape, dtype=np.dtype(dtype), chunks=(rows, *shape[1:]),
        compression="gzip", compression_opts=1, shuffle=True,
    )  # fmt: skip


def vectors(columns: Mapping[str, tuple[str, Any]]) -> list[Any]:
    """Return the columns of a table, from name to description and content."""
    from pynwb.core import VectorData

    return [
        VectorData(name=name, description=description, data=data)
        for name, (description, data) in columns.items()
    ]


def _stored_dtype(spec: StreamSpec) -> np.dtype[Any]:
    """Return the type on disk: NWB knows neither half precision nor truth values in a series."""
    return np.dtype({"float16": "float32", "bool": "uint8"}.get(spec.dtype, spec.dtype))
