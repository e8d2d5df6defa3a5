"""Training sets for the piano: a video, when its frames were taken, and what was played.

`docs/collect.md` describes the files of a set.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from stream.errors import MissingExtraError, RecordingError
from stream.files import check_there, first_line
from stream.music.heard import Heard, Listener
from stream.music.keyboard import KeyGrid, no_grid
from stream.music.notes import CONTROL, SUSTAIN, are_events
from stream.units import to_ns
from stream.vision.frames import Frame
from stream.vision.video_file import VideoFile

FORMAT = 1
CARD, FRAMES, EVENTS, GRID, MIDI = (
    "card.yaml", "frames.csv", "events.csv", "keyboard.npz", "notes.mid"
)  # fmt: skip
FRAMES_HEAD, EVENTS_HEAD = "t_ns", "t_ns,status,number,value"

_TICKS, _TEMPO = 960, 500_000


@dataclass(frozen=True)
class Raw:
    """What was recorded, as it came.

    Attributes
    ----------
    frames_ns
        (n,) int64, when each frame of the video was taken.
    events_ns, events
        (m,) int64 and (m, 3) uint8: when each channel message came, and the message. On the same
        clock as the frames, but the camera may be late.
    """

    frames_ns: NDArray[np.int64]
    events_ns: NDArray[np.int64]
    events: NDArray[np.uint8]

    def notes(self) -> list[Heard]:
        """Return the notes; those that are never released last to the end."""
        listener = Listener()
        for time_ns, event in zip(self.events_ns.tolist(), self.events, strict=True):
            listener.add(event[None], time_ns)
        last = [times[-1] for times in (self.frames_ns, self.events_ns) if len(times)]
        listener.end(int(max(last, default=0)))
        return listener.notes


@dataclass(frozen=True)
class Collection:
    """A finished set. All times are those of the frames, from the first one on.

    Attributes
    ----------
    folder, video
        Where it is, and its video.
    frames_ns
        (n,) int64, when each frame was taken, in ns; rising, not at a fixed rate.
    pitch, velocity
        (m,) uint8, of each note, in the order of onsets.
    onset_ns, offset_ns
        (m,) int64, when its key went down and when it came up again, as the camera saw it. Notes
        from before the first frame have times below 0.
    sustain_ns, sustain
        (k,) int64 and uint8, when the pedal was moved, and where to, 0 to 127; from 64 on it holds.
    grid
        Where the keys are in every frame.
    lag_s, lag_uncertainty_s
        By how much the camera was later than MIDI, which is taken out of all times here, and the
        standard error of that.
    card
        What else is known of it.
    """

    folder: Path
    video: Path
    frames_ns: NDArray[np.int64]
    pitch: NDArray[np.uint8]
    velocity: NDArray[np.uint8]
    onset_ns: NDArray[np.int64]
    offset_ns: NDArray[np.int64]
    sustain_ns: NDArray[np.int64]
    sustain: NDArray[np.uint8]
    grid: KeyGrid
    lag_s: float
    lag_uncertainty_s: float
    card: dict[str, Any]

    def frames(self) -> Iterator[tuple[int, Frame]]:
        """Yield each frame with its time.

        Raises
        ------
        RecordingError
            The video holds fewer frames than there are times.
        """
        read = 0
        for time_ns, (_, frame) in zip(
            self.frames_ns.tolist(), VideoFile(self.video).frames(), strict=False
        ):
            read += 1
            yield time_ns, frame
        if read < len(self.frames_ns):
            raise RecordingError(
                f"{self.video} holds {read} of {len(self.frames_ns)} frames; copy the set again."
            )


def load_collection(folder: Path) -> Collection:
    """Read a set.

    Raises
    ------
    RecordingError
        It is none, is not finished, or has been damaged.
    MissingExtraError
        OpenCV is not installed.
    """
    if not folder.is_dir():
        raise RecordingError(f"{folder} is no folder; a set is what `innervate collect` makes.")
    if not (folder / CARD).exists():
        raise RecordingError(
            f"{folder} is no finished set: it has no {CARD}; `innervate collect {folder} --finish`"
            " makes one of what was recorded there."
        )
    try:
        card = yaml.safe_load((folder / CARD).read_text())
        if card["format"] != FORMAT:
            raise RecordingError(
                f"{folder} is of format {card['format']}, this version reads {FORMAT}."
            )
        lag_s, uncertainty_s = float(card["lag"]["seconds"]), float(card["lag"]["uncertainty_s"])
        video, frames = folder / str(card["video"]), int(card["frames"])
        if not (math.isfinite(lag_s) and frames > 0):
            raise ValueError(f"a lag of {lag_s} s and {frames} frames make no set")
    except (yaml.YAMLError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise RecordingError(f"{folder / CARD} cannot be read: {first_line(error)}.") from None
    raw = read_raw(folder)
    if frames > len(raw.frames_ns):
        raise RecordingError(f"{folder / FRAMES} has fewer than the {frames} frames of the card.")
    notes = raw.notes()
    origin_ns = int(raw.frames_ns[0]) - to_ns(lag_s)
    pedal = ((raw.events[:, 0] & 0xF0) == CONTROL) & (raw.events[:, 1] == SUSTAIN)
    check_there(video)
    return Collection(
        folder, video, raw.frames_ns[:frames] - raw.frames_ns[0],
        np.array([note.pitch for note in notes], np.uint8),
        np.array([note.velocity for note in notes], np.uint8),
        np.array([note.on_ns - origin_ns for note in notes], np.int64),
        np.array([(note.off_ns or 0) - origin_ns for note in notes], np.int64),
        raw.events_ns[pedal] - origin_ns, raw.events[pedal, 2],
        load_grid(folder / GRID), lag_s, uncertainty_s, card,
    )  # fmt: skip


def read_raw(folder: Path) -> Raw:
    """Read what was recorded, also of a recording that was killed.

    Raises
    ------
    RecordingError
        It is not there, or cannot be understood.
    """
    frames = _read_table(folder / FRAMES, FRAMES_HEAD)[:, 0]
    table = _read_table(folder / EVENTS, EVENTS_HEAD)
    events = table[:, 1:].astype(np.uint8)
    if (events != table[:, 1:]).any() or not are_events(events):
        raise RecordingError(f"{folder / EVENTS} holds something else than channel messages.")
    for name, times in ((FRAMES, frames), (EVENTS, table[:, 0])):
        if (np.diff(times) < 0).any():
            raise RecordingError(f"{folder / name}: the times do not rise.")
    return Raw(frames, table[:, 0], events)


def load_grid(path: Path) -> KeyGrid:
    """Read a grid from a `keyboard.npz`.

    Raises
    ------
    RecordingError
        There is none in it.
    """
    check_there(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            grid: KeyGrid = np.asarray(file["grid"], np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise RecordingError(f"{path} holds no grid of keys: {first_line(error)}.") from None
    if grid.shape != no_grid().shape:
        raise RecordingError(f"{path} holds a grid of shape {list(grid.shape)}, not [3, 53, 2].")
    return grid


def write_grid(folder: Path, grid: KeyGrid) -> None:
    """Write where the keys are in the frames of a set."""
    np.savez(folder / GRID, grid=grid)


def write_card(folder: Path, raw: Raw, card: dict[str, Any]) -> None:
    """Write what a finished set has beyond its recording: a MIDI file, and the card.

    Raises
    ------
    MissingExtraError
        mido is not installed.
    """
    _write_midi(folder / MIDI, raw, to_ns(float(card["lag"]["seconds"])))
    # The card says that all else is there.
    draft = folder / f".{CARD}"
    draft.write_text(yaml.safe_dump({"format": FORMAT, **card}, sort_keys=False))
    os.replace(draft, folder / CARD)


def read_midi(path: Path) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return the times in ns and the channel messages of a MIDI file.

    Raises
    ------
    RecordingError
        It cannot be read, or has no notes.
    MissingExtraError
        mido is not installed.
    """
    mido = load_mido()
    check_there(path)
    times, events, time_s = [], [], 0.0
    try:
        for message in mido.MidiFile(path):
            time_s += message.time
            data = [] if message.is_meta else message.bytes()
            if data and data[0] < 0xF0:
                times.append(to_ns(time_s))
                events.append([*data, 0][:3])
    # What a damaged file does to mido is not documented.
    except (OSError, EOFError, ValueError, IndexError, KeyError, TypeError) as error:
        raise RecordingError(f"{path} cannot be read as MIDI: {first_line(error)}.") from None
    if not any(status & 0xF0 == 0x90 and value for status, _, value in events):
        raise RecordingError(f"{path} has no notes.")
    return np.array(times, np.int64), np.array(events, np.uint8)


def _write_midi(path: Path, raw: Raw, lag_ns: int) -> None:
    mido = load_mido()
    track = mido.MidiTrack()
    before = 0
    for time_ns, event in zip(raw.events_ns.tolist(), raw.events.tolist(), strict=True):
        since_ns = time_ns + lag_ns - int(raw.frames_ns[0])
        if since_ns < 0:
            continue
        tick = round(since_ns / 1e3 / _TEMPO * _TICKS)
        length = 2 if event[0] & 0xE0 == 0xC0 else 3
        track.append(mido.Message.from_bytes(event[:length], time=tick - before))
        before = tick
    file = mido.MidiFile(ticks_per_beat=_TICKS)
    file.tracks.append(track)
    file.save(path)


def _read_table(path: Path, head: str) -> NDArray[np.int64]:
    check_there(path)
    text = path.read_text(errors="replace")
    lines = text.splitlines()
    if not lines or lines[0] != head:
        raise RecordingError(f"{path} does not begin with '{head}'.")
    if not text.endswith("\n"):
        lines.pop()  # a killed recording stopped in the middle of it
    columns = head.count(",") + 1
    try:
        rows = [[int(cell) for cell in line.split(",")] for line in lines[1:]]
        return np.array(rows, np.int64).reshape(-1, columns)
    except (ValueError, OverflowError):
        raise RecordingError(f"{path} has a line that is not '{head}' in whole numbers.") from None


def load_mido() -> Any:
    """Return the module `mido`.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        import mido
    except ImportError as error:
        raise MissingExtraError("innervate collect", "audio") from error
    return mido
