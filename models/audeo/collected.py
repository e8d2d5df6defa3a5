"""Sets of `innervate collect` as clips that a network can learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.audeo.dataset import CLIP_S, Stored
from stream.errors import RecordingError
from stream.music.collect.collection import Collection, load_collection
from stream.music.keyboard import whites_in_view
from stream.music.piano.strip import PX_PER_WHITE, Rectifier
from stream.units import to_ns

_CLIP_NS = to_ns(CLIP_S)
_FEWEST_FRAMES = 20
# What a MIDI keyboard does not tell: for how long a key goes down and comes up.
_TRAVEL_S, _RISE_S = 0.05, 0.06


def collected_clips(folder: Path) -> list[Stored]:
    """Cut a set into clips of three seconds.

    Raises
    ------
    RecordingError
        The set cannot be read, or is too short for a clip.
    """
    found = load_collection(folder)
    rectify = Rectifier(found.grid)
    whites = np.flatnonzero(whites_in_view(found.grid))
    columns = slice(whites[0] * PX_PER_WHITE, (whites[-1] + 1) * PX_PER_WHITE)
    clips: list[Stored] = []
    strips: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = []
    times_ns: list[int] = []

    def finish() -> None:
        if len(strips) >= _FEWEST_FRAMES:
            times = np.array(times_ns)
            clips.append(
                Stored(
                    np.stack(strips), (times - times[0]) / 1e9, _presses(found, times),
                    int(whites[0]), _px_per_white(found), float(whites.mean()),
                )
            )  # fmt: skip
        strips.clear()
        times_ns.clear()

    for time_ns, frame in found.frames():
        if times_ns and time_ns - times_ns[0] >= _CLIP_NS:
            finish()
        strips.append(rectify(frame)[:, columns].copy())
        times_ns.append(time_ns)
    finish()
    if not clips:
        raise RecordingError(
            f"{folder} has {len(found.frames_ns)} frames, too few to learn from; record a minute or"
            " more."
        )
    return clips


def _presses(
    found: Collection, times_ns: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    begin, end = times_ns[0], times_ns[-1]
    here = (found.offset_ns > begin) & (found.onset_ns < end)
    rows = np.zeros((int(here.sum()), 7))
    rows[:, 0] = found.pitch[here]
    rows[:, 1] = (found.onset_ns[here] - begin) / 1e9
    rows[:, 2] = (found.offset_ns[here] - begin) / 1e9
    rows[:, 3] = found.velocity[here]
    rows[:, 5], rows[:, 6] = _TRAVEL_S, _RISE_S
    return rows


def _px_per_white(found: Collection) -> float:
    front = found.grid[-1, :, 0]
    return float(np.nanmedian(np.abs(np.diff(front))))
