"""Writes a standard MIDI file while notes come in, so that it can be read whatever happens."""

from __future__ import annotations

import copy
import struct
from pathlib import Path

from stream.errors import RecordingError
from stream.music.held import Held, Message, to_bytes
from stream.units import to_ns

_TICKS_PER_BEAT = 960
_BEAT_NS = 500_000_000
_TEMPO = b"\x00\xff\x51\x03" + (_BEAT_NS // 1000).to_bytes(3, "big")
_END = b"\x00\xff\x2f\x00"
_LENGTH_AT = 18
_TRACK_AT = 22
_DAY_NS = to_ns(86400.0)


class MidiFile:
    """A .mid file with one track at 120 beats a minute, 0.52 ms a tick.

    Its times are those of the source. Only if they are no times of a clip or a run, but negative or
    beyond a day, does it begin with the first packet.

    Attributes
    ----------
    path
        The file.
    starts_s
        Where on the clock of the source it begins; None before the first packet.
    notes
        Keys pressed in it.
    silences
        How often notes were released because no packet had come for too long.
    """

    def __init__(self, path: Path, silence_s: float) -> None:
        """Begin the file.

        Raises
        ------
        RecordingError
            It cannot be written.
        """
        self.path = path
        self.starts_s: float | None = None
        self.notes = 0
        self.silences = 0
        self._silence_ns = to_ns(silence_s)
        self._held = Held()
        self._origin_ns = 0
        self._last_ns = 0
        self._tick = 0
        self._unsaved = bytearray(_TEMPO)
        self._end = _TRACK_AT
        # Bytes after `_end` that end the track for now.
        self._tail = 0
        header = struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, _TICKS_PER_BEAT, b"MTrk", 0)
        try:
            self._file = path.open("xb", buffering=0)
            self._put(0, header)
        except OSError as error:
            raise RecordingError(f"{path} cannot be written ({error}).") from None
        self.save()

    def play(self, source_ns: int, messages: list[Message]) -> None:
        """Write what happens at a time at the source; times never go back."""
        if self.starts_s is None:
            self._origin_ns = 0 if 0 <= source_ns < _DAY_NS else source_ns
            self._last_ns = source_ns
            self.starts_s = self._origin_ns / 1e9
        if source_ns - self._last_ns > self._silence_ns and self._held:
            self.silences += 1
            self._write(self._last_ns + self._silence_ns, self._held.release())
        self._last_ns = source_ns
        self._write(source_ns, messages)

    def save(self) -> None:
        """Put what is there on disk as a whole file, in which every note ends.

        Raises
        ------
        RecordingError
            The disk is full or fails.
        """
        if not self._unsaved:
            return
        tail = self._released() + _END
        data = bytes(self._unsaved) + tail
        try:
            # What ends the track is overwritten last: where the disk is full, it still stands.
            self._put(self._end + self._tail, data[self._tail :])
            self._put(self._end, data[: self._tail])
            self._put(_LENGTH_AT, struct.pack(">I", self._end - _TRACK_AT + len(data)))
            self._file.truncate(self._end + len(data))
        except OSError as error:
            raise RecordingError(f"{self.path} cannot be written any further ({error}).") from None
        self._end += len(self._unsaved)
        self._tail = len(tail)
        self._unsaved.clear()

    def _released(self) -> bytes:
        """Return what would end all notes with the last packet; they go on if more comes."""
        tick = max(self._tick_of(self._last_ns), self._tick)
        found, before = bytearray(), self._tick
        for message in copy.deepcopy(self._held).release():
            found += _variable(tick - before) + to_bytes(message)
            before = tick
        return bytes(found)

    def close(self) -> None:
        """Release what is still held, at the time of the last packet, and finish the file.

        Raises
        ------
        RecordingError
            The disk is full or fails.
        """
        self._write(self._last_ns, self._held.release())
        try:
            self.save()
        finally:
            self._file.close()

    def _put(self, at: int, data: bytes) -> None:
        self._file.seek(at)
        while data:
            data = data[self._file.write(data) :]

    def _tick_of(self, source_ns: int) -> int:
        return (source_ns - self._origin_ns) * _TICKS_PER_BEAT // _BEAT_NS

    def _write(self, source_ns: int, messages: list[Message]) -> None:
        tick = self._tick_of(source_ns)
        for message in messages:
            self._held.take(message)
            self.notes += message[0] & 0xF0 == 0x90 and message[2] > 0
            self._unsaved += _variable(tick - self._tick) + to_bytes(message)
            self._tick = tick


def _variable(number: int) -> bytes:
    """Return a number in groups of seven bits, all but the last marked."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F | 0x80)
    return bytes(reversed(groups))
