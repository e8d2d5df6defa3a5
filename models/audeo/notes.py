"""Notes as evaluation sees them, and the files they are read from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.errors import MissingExtraError, RecordingError
from stream.files import check_there, first_line
from stream.music.keyboard import HIGHEST_PITCH, KEYS, LOWEST_PITCH

_PERCUSSION = 9
_EDGE_FRAMES = 1e-6


@dataclass(frozen=True)
class Note:
    """One note.

    Attributes
    ----------
    pitch
        MIDI pitch, 21 (A0) to 108 (C8).
    onset_s, offset_s
        When the key is down and when it is up again, in seconds from the beginning of the clip.
    velocity
        1 to 127; 64 where it is not known.
    """

    pitch: int
    onset_s: float
    offset_s: float
    velocity: int = 64


Notes = tuple[Note, ...]
"""Notes in the order of their onsets."""


@dataclass(frozen=True)
class Truth:
    """What was really played.

    Attributes
    ----------
    notes
        What a system has to find.
    unsure
        What may or may not have been played: finding it is neither right nor wrong.
    span_s
        Which part of the clip was looked at, None for all of it.
    """

    notes: Notes
    unsure: Notes = ()
    span_s: tuple[float, float] | None = None


class _MarkedNote(msgspec.Struct):
    pitch: int
    onset_frame: int
    release_frame: int | None = None
    sure: bool = True


class _MarkedClip(msgspec.Struct):
    rate_hz: float
    frames: tuple[int, int]
    notes: list[_MarkedNote]


def read_truth(path: Path) -> Truth:
    """Read a truth: MIDI, or JSON of what somebody saw in each frame of a video.

    The JSON is `{"rate_hz": 30, "frames": [first, last], "notes": [{"pitch": 60, "onset_frame": 3,
    "release_frame": 9, "sure": true}, ...]}`; frame f is at f / rate_hz seconds, and first and
    last are the frames that were looked at. A note whose release was not seen has none, and is
    taken to last a frame.

    Raises
    ------
    RecordingError
        It cannot be read, or says something else.
    MissingExtraError
        MIDI cannot be read here.
    """
    if path.suffix != ".json":
        return Truth(read_midi(path))
    check_there(path)
    try:
        clip = msgspec.json.decode(path.read_bytes(), type=_MarkedClip)
    except msgspec.MsgspecError as error:
        raise RecordingError(
            f"{path} is no truth of notes: {first_line(error)}; it holds rate_hz, frames and notes."
        ) from None
    if not (np.isfinite(clip.rate_hz) and clip.rate_hz > 0):
        raise RecordingError(f"{path} has {clip.rate_hz} frames a second; more than 0 are needed.")
    sure: list[Note] = []
    unsure: list[Note] = []
    for number, note in enumerate(clip.notes):
        released = note.onset_frame + 1 if note.release_frame is None else note.release_frame
        if released <= note.onset_frame:
            raise RecordingError(
                f"{path}: note {number} (from 0) is released in frame {released}, which"
                f" is not after its onset in frame {note.onset_frame}."
            )
        _check_pitch(path, note.pitch)
        times = note.onset_frame / clip.rate_hz, released / clip.rate_hz
        (sure if note.sure else unsure).append(Note(note.pitch, *times))
    first, last = clip.frames
    span = first / clip.rate_hz, (last + 1) / clip.rate_hz
    return Truth(in_order(sure), in_order(unsure), span)


def read_midi(path: Path) -> Notes:
    """Read the notes of a Standard MIDI File, as the sink `midi` writes it.

    A key that is pressed again while it is down ends its first note; one that is never released
    sounds to the end of the file. Channel 10 is percussion and is left out.

    Raises
    ------
    RecordingError
        It is no MIDI file, or holds notes that no piano has.
    MissingExtraError
        mido is not installed.
    """
    check_there(path)
    try:
        import mido
    except ImportError as error:
        raise MissingExtraError("reading MIDI files", "train") from error
    notes: list[Note] = []
    down: dict[tuple[int, int], Note] = {}
    now = 0.0
    try:
        for message in mido.MidiFile(path):
            now += message.time
            if message.type not in ("note_on", "note_off") or message.channel == _PERCUSSION:
                continue
            key = message.channel, message.note
            if key in down:
                notes.append(replace(down.pop(key), offset_s=now))
            if message.type == "note_on" and message.velocity:
                _check_pitch(path, message.note)
                down[key] = Note(message.note, now, now, message.velocity)
    except (OSError, EOFError, ValueError, TypeError, LookupError) as error:
        raise RecordingError(
            f"{path} is no MIDI file that can be read: {first_line(error)}."
        ) from (error)
    notes += [replace(note, offset_s=now) for note in down.values()]
    return in_order(notes)


def _check_pitch(path: Path, pitch: int) -> None:
    if not LOWEST_PITCH <= pitch <= HIGHEST_PITCH:
        raise RecordingError(
            f"{path} has a note of pitch {pitch}; a piano has {LOWEST_PITCH} to {HIGHEST_PITCH}."
        )


def write_midi(notes: Sequence[Note], path: Path) -> None:
    """Write notes to a Standard MIDI File of one track, to 1/960 s.

    Raises
    ------
    MissingExtraError
        mido is not installed.
    """
    try:
        import mido
    except ImportError as error:
        raise MissingExtraError("writing MIDI files", "train") from error
    ticks_per_s = 960
    events = [(n.onset_s, 1, n.pitch, n.velocity) for n in notes]
    events += [(n.offset_s, 0, n.pitch, 0) for n in notes]
    track = mido.MidiTrack()
    before = 0
    for at, _, pitch, velocity in sorted(events):
        tick = round(at * ticks_per_s)
        track.append(mido.Message("note_on", note=pitch, velocity=velocity, time=tick - before))
        before = tick
    # Without a tempo a file is played at 120 quarters a minute.
    mido.MidiFile(tracks=[track], ticks_per_beat=ticks_per_s // 2).save(path)


def in_order(notes: Iterable[Note]) -> Notes:
    """Return notes in the order of their onsets, those of one moment by pitch."""
    return tuple(sorted(notes, key=lambda note: (note.onset_s, note.pitch)))


def shifted(notes: Sequence[Note], by_s: float) -> Notes:
    """Return notes moved in time, later by so many seconds."""
    return tuple(replace(n, onset_s=n.onset_s + by_s, offset_s=n.offset_s + by_s) for n in notes)


def piano_roll(
    notes: Sequence[Note], rate_hz: float, span_s: tuple[float, float]
) -> NDArray[np.bool_]:
    """Return which keys are down in each frame of a span of time, (frames, 88).

    Frame t is at the span's beginning + t / rate_hz. A key is down from the first frame at or
    after its onset until the last before its offset, and in one frame at least.
    """
    start, end = span_s
    roll = np.zeros((max(_frame(end - start, rate_hz), 0), KEYS), bool)
    for note in notes:
        first = _frame(note.onset_s - start, rate_hz)
        last = max(_frame(note.offset_s - start, rate_hz), first + 1)
        roll[max(first, 0) : max(last, 0), note.pitch - LOWEST_PITCH] = True
    return roll


def _frame(at_s: float, rate_hz: float) -> int:
    return int(np.ceil(at_s * rate_hz - _EDGE_FRAMES))
