"""What fills the laid-out NWB file of a recording: the packets of each stream, in blocks."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stream.packet import Packet
from stream.recording_log import Logged
from stream.recording_survey import RecordedStream, has_rows, is_text, refusal

Integers = NDArray[np.int64]

RUN_MODULE = "run"
_FLUSH_BYTES = 8 * 2**20
_FLUSH_PACKETS = 4096
_VERIFY_BYTES = 8 * 2**20
_VERIFY_TEXTS = 256
COLUMNS = {
    "seq": "Number of the packet in its stream; a jump means loss on the way to the recorder.",
    "source_ns": "Start of what the packet covers on the clock of the source, in ns.",
    "source_end_ns": "End of it, half open; equal to the start for a single sample.",
    "t_ns": "Host time (monotonic clock) at which its newest sample was acquired, in ns.",
    "latency_ns": "From then to its arrival at the recorder, in ns.",
    "gap": "Packets known to be missing just before it, because they could not be made.",
    "segment": "Number of the stretch of contiguous time that it belongs to.",
}


class Dataset:
    """Fills one array of the file front to back and knows how to check it afterwards."""

    def __init__(self, path: str, start: int = 0) -> None:
        self.path = path
        self.start = self.at = start
        self.crc = 0
        self._open: Any = None

    def append(self, file: Any, values: NDArray[Any]) -> None:
        """Write the next rows."""
        if self._open is None:
            # Closing it would compress the chunk that is being filled, again and again.
            self._open = file[self.path]
        dataset = self._open
        values = np.ascontiguousarray(values, dataset.dtype)
        dataset[self.at : self.at + len(values)] = values
        self.at += len(values)
        self.crc = self._crc(values, self.crc)

    def verify(self, file: Any) -> None:
        """Read it back, and raise OSError when it is not what was written."""
        dataset = file[self.path]
        rows = self._rows_at_once(dataset)
        crc = 0
        for at in range(self.start, self.at, rows):
            values = np.ascontiguousarray(dataset[at : min(at + rows, self.at)])
            crc = self._crc(values, crc)
        if crc != self.crc:
            raise OSError(f"{self.path} did not read back as it was written")

    def _crc(self, values: NDArray[Any], crc: int) -> int:
        return zlib.crc32(values.reshape(-1).view(np.uint8).data, crc)

    def _rows_at_once(self, dataset: Any) -> int:
        row_bytes = int(np.prod(dataset.shape[1:])) * int(dataset.dtype.itemsize)
        return max(1, _VERIFY_BYTES // max(1, row_bytes))


class Texts(Dataset):
    """Fills an array of texts of any length: UTF-8 bytes, as h5py gives them back."""

    def _crc(self, values: NDArray[Any], crc: int) -> int:
        # Each is closed by what no text here contains, so that no end can move.
        return zlib.crc32(b"".join(text + b"\0" for text in values), crc)

    def _rows_at_once(self, dataset: Any) -> int:
        return _VERIFY_TEXTS


class Sink(ABC):
    """Gathers the packets of one stream and writes them in blocks.

    `about` names the columns of the table of its packets, beside their number.
    """

    about: ClassVar[Mapping[str, str]] = COLUMNS

    def __init__(self, found: RecordedStream, label: str) -> None:
        self.found = found
        self.label = label
        table = f"processing/{RUN_MODULE}/packets_{label}"
        self.columns = {key: Dataset(f"{table}/{key}") for key in ("id", *self.about)}
        self.waiting: list[Logged] = []
        self.bytes = 0

    def take(self, file: Any, item: Logged) -> None:
        """Take one packet of the stream, unless it cannot be kept."""
        if self.found.refused and refusal(self.found.spec, item):
            return
        self.waiting.append(item)
        self.bytes += item.packet.data.nbytes
        if self.bytes >= _FLUSH_BYTES or len(self.waiting) >= _FLUSH_PACKETS:
            self.flush(file)

    def flush(self, file: Any) -> None:
        """Write what has gathered."""
        if not self.waiting:
            return
        packets = [item.packet for item in self.waiting]
        n, first = len(packets), self.columns["id"].at
        t_ns = np.fromiter((p.t_ns for p in packets), np.int64, n)
        values = {
            "id": np.arange(first, first + n),
            "seq": np.fromiter((p.seq for p in packets), np.int64, n),
            "source_ns": np.fromiter((p.source_ns for p in packets), np.int64, n),
            "source_end_ns": np.fromiter((p.source_end_ns for p in packets), np.int64, n),
            "t_ns": t_ns,
            "latency_ns": np.fromiter((i.arrival_ns for i in self.waiting), np.int64, n) - t_ns,
            "gap": np.fromiter((p.gap for p in packets), np.int64, n),
            "segment": np.fromiter((p.segment for p in packets), np.int64, n),
        }
        for name, column in values.items():
            self.columns[name].append(file, column)
        self.write(file, packets, values["source_ns"])
        self.waiting.clear()
        self.bytes = 0

    @abstractmethod
    def write(self, file: Any, packets: list[Packet], times_ns: Integers) -> None:
        """Write the arrays of these packets, which are of the source times `times_ns`."""

    def finish(self, file: Any) -> None:
        """Write the rest."""
        self.flush(file)

    def datasets(self) -> Iterable[Dataset]:
        """Return every array that it fills."""
        return self.columns.values()


class SeriesSink(Sink):
    """Writes packets of one shape as the rows of a series."""

    def __init__(self, found: RecordedStream, path: str, label: str) -> None:
        super().__init__(found, label)
        self.data = Dataset(f"{path}/data")
        self.times = Dataset(f"{path}/timestamps") if found.rate_hz is None else None

    def write(self, file: Any, packets: list[Packet], times_ns: Integers) -> None:
        """Write one row a packet."""
        self.data.append(file, np.stack([p.data for p in packets]))
        if self.times:
            self.times.append(file, times_ns / 1e9)

    def datasets(self) -> Iterable[Dataset]:
        """Return every array that it fills."""
        return (*self.columns.values(), self.data, *([self.times] if self.times else []))


class MarkersSink(Sink):
    """Writes packets that hold a text each as the rows of a table of events."""

    def __init__(self, found: RecordedStream, path: str, label: str) -> None:
        super().__init__(found, label)
        self.ids = Dataset(f"{path}/id")
        self.times = Dataset(f"{path}/timestamp")
        self.texts = Texts(f"{path}/annotation")

    def write(self, file: Any, packets: list[Packet], times_ns: Integers) -> None:
        """Write one event a packet."""
        self.ids.append(file, np.arange(self.ids.at, self.ids.at + len(packets)))
        self.times.append(file, times_ns / 1e9)
        texts = np.empty(len(packets), object)
        texts[:] = [_text(p.data) for p in packets]
        self.texts.append(file, texts)

    def datasets(self) -> Iterable[Dataset]:
        """Return every array that it fills."""
        return (*self.columns.values(), self.ids, self.times, self.texts)


def _text(data: NDArray[np.uint8]) -> bytes:
    """Return what can stand in HDF5: bytes that are no text, and NUL, are written as `\\xNN`."""
    return data.tobytes().decode(errors="backslashreplace").replace("\0", "\\x00").encode()


class RowsSink(SeriesSink):
    """Writes packets of any number of rows one behind the other into a series."""

    about: ClassVar[Mapping[str, str]] = {**COLUMNS, "rows": "Rows of the series that it holds."}

    def write(self, file: Any, packets: list[Packet], times_ns: Integers) -> None:
        """Write the rows of each packet."""
        rows = np.fromiter((len(p.data) for p in packets), np.int64, len(packets))
        self.columns["rows"].append(file, rows)
        self.data.append(file, np.concatenate([p.data for p in packets]))
        if self.times:
            self.times.append(file, np.concatenate([self._times_s(p) for p in packets]))

    def _times_s(self, packet: Packet) -> NDArray[np.float64]:
        """Return when each row was; only samples lie one behind the other in time."""
        rows, step_ns = len(packet.data), 0.0
        if self.found.stated_hz:
            step_ns = 1e9 / self.found.stated_hz
        elif packet.kind == "samples" and rows:
            step_ns = (packet.source_end_ns - packet.source_ns) / rows
        within_ns = np.rint(np.arange(rows) * step_ns).astype(np.int64)
        times_s: NDArray[np.float64] = (packet.source_ns + within_ns) / 1e9
        return times_s


def sink_of(found: RecordedStream, path: str, label: str) -> Sink:
    """Return what fills the series or the table at `path` with a stream other than of spikes."""
    if is_text(found.spec):
        return MarkersSink(found, path, label)
    return (RowsSink if has_rows(found.spec) else SeriesSink)(found, path, label)


class SpikesSink(Sink):
    """Writes the spikes of each unit to its own place in the ragged column `spike_times`."""

    def __init__(self, found: RecordedStream, start: int, label: str) -> None:
        super().__init__(found, label)
        starts = start + np.concatenate([[0], np.cumsum(found.spikes)[:-1]]).astype(np.int64)
        self.units = [Dataset("units/spike_times", int(at)) for at in starts]
        self.newest_ns = np.full(len(starts), np.iinfo(np.int64).min)
        self.unsorted: set[int] = set()

    def write(self, file: Any, packets: list[Packet], times_ns: Integers) -> None:
        """Write the spikes of each unit behind those that it has already."""
        spikes = np.concatenate([p.data for p in packets])
        if not len(spikes):
            return
        spikes = spikes[np.argsort(spikes[:, 1], kind="stable")]
        units, firsts = np.unique(spikes[:, 1], return_index=True)
        for unit, spikes_ns in zip(units, np.split(spikes[:, 0], firsts[1:]), strict=True):
            if spikes_ns[0] < self.newest_ns[unit] or (np.diff(spikes_ns) < 0).any():
                self.unsorted.add(int(unit))
            self.newest_ns[unit] = spikes_ns[-1]
            self.units[unit].append(file, spikes_ns / 1e9)

    def finish(self, file: Any) -> None:
        """Write the rest, and sort what did not come in order."""
        super().finish(file)
        for unit in self.unsorted:
            place = self.units[unit]
            times_s = np.sort(file[place.path][place.start : place.at])
            place.at, place.crc = place.start, 0
            place.append(file, times_s)

    def datasets(self) -> Iterable[Dataset]:
        """Return every array that it fills."""
        return (*self.columns.values(), *self.units)
