"""Writes the log of a recording, whose records `stream.recording_log` describes and reads."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from stream.errors import RecordingError
from stream.files import free_space
from stream.node import StreamSpec
from stream.packet import HEADER_LIMIT_BYTES, PAYLOAD_LIMIT_BYTES, Packet, encode
from stream.recording_log import END, LENGTHS, LOG_FORMAT, MARKER, REFUSED, START

_CRC = struct.Struct("<I")
_SYNC_PERIOD_S = 1.0


class LogWriter:
    """Appends packets to a new log.

    `bytes` and `packets` say how much it holds; `failed` that the disk took no more.

    Parameters
    ----------
    path
        The log; it must not exist.
    streams
        The streams that are recorded.
    about
        What else a reader should know, JSON values only.

    Raises
    ------
    RecordingError
        The file exists or cannot be created.
    """

    def __init__(
        self, path: Path, streams: Mapping[str, StreamSpec], about: Mapping[str, Any]
    ) -> None:
        self.path = path
        self.bytes = 0
        self.packets = 0
        self.failed = False
        self._sync_error: OSError | None = None
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise RecordingError(
                f"{path} exists: an earlier run was cut off before it closed its recording. Make"
                f" an NWB file of it with `innervate recover {path}`, or move it away."
            ) from None
        except OSError as error:
            raise RecordingError(f"{path} cannot be created: {error.strerror}.") from None
        # Tells `recover` that the run still goes on; the system drops it when the process dies.
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            self._write_json(START, {"format": LOG_FORMAT, "streams": dict(streams), **about})
        except RecordingError as error:
            os.close(self._fd)
            path.unlink()
            raise RecordingError(f"{path} cannot be begun: {error}") from None
        self._stop = threading.Event()
        self._syncer = threading.Thread(target=self._sync, name="record-sync", daemon=True)
        self._syncer.start()

    def write(self, stream: str, packet: Packet, arrival_ns: int) -> None:
        """Append one packet. When this returns, killing the process does not lose it.

        Raises
        ------
        RecordingError
            The disk is full or fails. The log ends with the packet before this one.
        """
        self._append(encode(stream, packet, arrival_ns))
        self.packets += 1

    def write_refused(self, stream: str, packet: Packet, arrival_ns: int, reason: str) -> None:
        """Note that a packet came which is not kept; raises as `write` does."""
        nothing = Packet(
            kind=packet.kind, data=np.empty(0, np.uint8), t_ns=packet.t_ns,
            source_ns=packet.source_ns, source_end_ns=packet.source_end_ns,
            segment=packet.segment, gap=packet.gap, seq=packet.seq, meta={REFUSED: reason},
        )  # fmt: skip
        self._append(encode(stream, nothing, arrival_ns))

    def close(self, end: Mapping[str, Any]) -> None:
        """Append what there is to say at the end, force all to the disk and close.

        Raises
        ------
        RecordingError
            The disk is full or fails; the log is closed all the same.
        """
        try:
            self._write_json(END, end)
            os.fsync(self._fd)
        except OSError as error:
            raise self._failure(error) from None
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file as it stands, after a failure."""
        self._stop.set()
        self._syncer.join()
        os.close(self._fd)

    def _write_json(self, kind: str, content: Mapping[str, Any]) -> None:
        text = np.frombuffer(msgspec.json.encode(content), np.uint8)
        self._append(
            encode("", Packet(kind=kind, data=text, t_ns=0, source_ns=0, source_end_ns=0), 0)
        )

    def _append(self, frames: list[bytes | memoryview]) -> None:
        if self._sync_error:
            raise self._failure(self._sync_error)
        stream, header, payload = frames
        if len(header) > HEADER_LIMIT_BYTES or len(payload) > PAYLOAD_LIMIT_BYTES:
            raise RecordingError(
                f"{self.path}: a packet with a header of {len(header)} bytes and a payload of"
                f" {len(payload)} came, the limits are {HEADER_LIMIT_BYTES} and"
                f" {PAYLOAD_LIMIT_BYTES}."
            )
        crc = zlib.crc32(payload, zlib.crc32(header, zlib.crc32(stream)))
        lengths = LENGTHS.pack(MARKER, len(stream), len(header), len(payload), crc)
        pieces = [lengths, _CRC.pack(zlib.crc32(lengths)), *frames]
        size = sum(map(len, pieces))
        try:
            written = os.writev(self._fd, pieces)
            if written < size:
                rest = memoryview(b"".join(pieces))[written:]
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.bytes)
                os.lseek(self._fd, self.bytes, os.SEEK_SET)
            raise self._failure(error) from None
        self.bytes += size

    def _sync(self) -> None:
        synced = 0
        while not self._stop.wait(_SYNC_PERIOD_S):
            if self.bytes == synced:
                continue
            synced = self.bytes
            try:
                os.fsync(self._fd)
            except OSError as error:
                self._sync_error = error
                return

    def _failure(self, error: OSError) -> RecordingError:
        self.failed = True
        return RecordingError(
            f"recording to {self.path} stopped: {error.strerror} ({free_space(self.path)}). What"
            f" was recorded up to then is safe in {self.path}. Make room, then turn it into an NWB"
            f" file with `innervate recover {self.path}`."
        )
