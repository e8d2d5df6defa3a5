"""The append-only log that `record` writes while a run goes on, read past any damage.

A log is a row of records, each one packet as it lies on the wire (stream name, msgpack header,
raw payload; see `stream.packet`) behind a head of 22 bytes:

====== ==== ==========================================================
offset type content
====== ==== ==========================================================
0      4 s  marker F7 69 6E 76
4      u16  bytes of the stream name
6      u32  bytes of the header
10     u32  bytes of the payload
14     u32  CRC-32 of stream name, header and payload
18     u32  CRC-32 of the 18 bytes before
====== ==== ==========================================================

All little endian. `sent_ns` of the header is the host time at which the packet came to the
recorder. The first record has an empty stream name and the kind `record.start`, its payload is
JSON that says what the streams are; a run that ended in order leaves a last one, `record.end`.

A record that was written was handed to the operating system: killing the process loses none. Once
a second the file is forced to the disk, so that a power cut costs about a second. A kill or a full
disk may leave an unfinished record at the end; the reader leaves it out and counts it.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from stream.errors import RecordingError, WireError
from stream.node import StreamSpec
from stream.packet import (
    Packet,
    decode_header,
    to_packet,
)

LOG_FORMAT = 1
START = "record.start"
END = "record.end"
REFUSED = "record.refused"
MARKER = b"\xf7inv"
LENGTHS = struct.Struct("<4sHIII")
_HEAD = struct.Struct("<4sHIIII")
_HEAD_BYTES = _HEAD.size
_PROGRESS_PACKETS = 4096

Progress = Callable[[float], None]
"""Takes the share of a long piece of work that is done, 0 to 1."""


class Logged(msgspec.Struct, frozen=True):
    """One packet of a log.

    Attributes
    ----------
    stream
        Full name of the stream that it came on.
    packet
        The packet; its array lies in the mapped file and is read only.
    arrival_ns
        Host time (`time.monotonic_ns`) at which the recorder got it.
    refused
        Why the recorder did not keep the packet's data, which is then empty; "" for all that
        was kept.
    """

    stream: str
    packet: Packet
    arrival_ns: int
    refused: str = ""


class LogReader:
    """Iterates over the packets of a log, past any damage.

    Each iteration reads the file anew and sets the attributes below, which are complete when it
    has come to its end.

    Attributes
    ----------
    size, position
        Bytes of the file, and how many of them an iteration has passed.
    start
        What the recorder said at the start; empty when that record is damaged.
    streams
        The streams that it said it would record.
    end
        What it said when it closed in order; None for a run that was cut off.
    packets
        Packets that were read.
    lost_bytes
        Bytes that belong to no intact record, wherever they lie.
    torn_bytes
        Those of them at the end of the file: an unfinished record.
    damaged
        Stretches of lost bytes before the end.

    Raises
    ------
    RecordingError
        The file cannot be read, is empty, or holds no intact record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start: dict[str, Any] = {}
        self.streams: dict[str, StreamSpec] = {}
        self.end: dict[str, Any] | None = None
        self._names: dict[bytes, str] = {}
        self._reset()
        try:
            with path.open("rb") as file:
                self.size = os.fstat(file.fileno()).st_size
                if not self.size:
                    raise RecordingError(
                        f"{path} is empty: the run was cut off before it recorded anything."
                    )
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise RecordingError(
                f"{path} cannot be read: {getattr(error, 'strerror', None) or error}."
            ) from None
        self._view = memoryview(self._map)
        first = next(self._intact(), None)
        if first is None:
            raise RecordingError(f"{path} is no log of a recording: no intact record is in it.")
        self._note(first)

    def __iter__(self) -> Iterator[Logged]:
        """Yield the packets in the order in which they came."""
        self._reset()
        for record in self._intact():
            if record.stream:
                self.packets += 1
                yield record
            else:
                self._note(record)

    def _reset(self) -> None:
        self.packets = self.lost_bytes = self.torn_bytes = self.damaged = self.position = 0

    def _note(self, record: Logged) -> None:
        """Take over what the recorder says of itself; others' records without a stream say none."""
        text = record.packet.data.tobytes()
        with contextlib.suppress(msgspec.MsgspecError, RecursionError):
            if not record.stream and record.packet.kind == START:
                start = msgspec.json.decode(text, type=dict[str, Any])
                streams = msgspec.convert(start.pop("streams", {}), dict[str, StreamSpec])
                self.start, self.streams = start, streams
            elif not record.stream and record.packet.kind == END:
                self.end = msgspec.json.decode(text, type=dict[str, Any])

    def _intact(self) -> Iterator[Logged]:
        position = 0
        while position < self.size:
            length, record = self._record(position)
            if record is not None:
                self.position = position = position + length
                yield record
                continue
            # A sound head vouches for the length, so that the record is stepped over whole.
            following = self._next_head(position + (length or 1))
            self.lost_bytes += following - position
            if following == self.size:
                self.torn_bytes = following - position
            else:
                self.damaged += 1
            position = following

    def _next_head(self, position: int) -> int:
        while (found := self._map.find(MARKER, position)) >= 0:
            if self._head(found):
                return found
            position = found + 1
        return self.size

    def _head(self, position: int) -> tuple[int, int, int, int] | None:
        """Return where header and payload begin, where the record ends, and its CRC."""
        if position + _HEAD_BYTES > self.size:
            return None
        marker, stream, header, payload, crc, head_crc = _HEAD.unpack_from(self._view, position)
        lengths = self._view[position : position + LENGTHS.size]
        if marker != MARKER or zlib.crc32(lengths) != head_crc:
            return None
        header_at = position + _HEAD_BYTES + stream
        payload_at = header_at + header
        end = payload_at + payload
        return (header_at, payload_at, end, crc) if end <= self.size else None

    def _record(self, position: int) -> tuple[int, Logged | None]:
        """Return the length of what a head at `position` announces, 0 without one, and the record.

        The record is None where it is not intact.
        """
        head = self._head(position)
        if head is None:
            return 0, None
        header_at, payload_at, end, crc = head
        view, begin = self._view, position + _HEAD_BYTES
        if zlib.crc32(view[begin:end]) != crc:
            return end - position, None
        name = bytes(view[begin:header_at])
        try:
            if name not in self._names:
                self._names[name] = name.decode()
            read = decode_header(view[header_at:payload_at])
            packet = to_packet(read, view[payload_at:end])
        except (WireError, UnicodeDecodeError):
            return end - position, None
        refused = str(packet.meta.get(REFUSED, "")) if packet.meta else ""
        return end - position, Logged(self._names[name], packet, read.sent_ns, refused)


def read_log(path: str | Path) -> LogReader:
    """Open the log of a recording, that of a run in progress too.

    Examples
    --------
    >>> for item in read_log("session.nwb.log"):           # doctest: +SKIP
    ...     print(item.stream, item.packet.source_ns, item.packet.data)

    Raises
    ------
    RecordingError
        The file cannot be read, is empty, or holds no intact record.
    """
    return LogReader(Path(path))


def watched(reader: LogReader, progress: Progress, start: float, share: float) -> Iterator[Logged]:
    """Iterate over a log and tell `progress` now and then: `start` to `start + share`."""
    for number, item in enumerate(reader):
        if number % _PROGRESS_PACKETS == 0:
            progress(start + share * reader.position / reader.size)
        yield item


def is_being_written(path: Path) -> bool:
    """Say whether a running recorder still writes this log."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False
