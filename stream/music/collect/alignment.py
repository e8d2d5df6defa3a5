"""How much later a camera sees keys go down than MIDI tells of it, from the recording itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.errors import RecordingError
from stream.inference import StreamingSession
from stream.music.heard import Heard
from stream.music.keyboard import LOWEST_PITCH, KeyGrid
from stream.music.piano.note_tracking import NoteTracker
from stream.music.piano.piano_notes import BEGIN, END
from stream.music.piano.strip import Rectifier, middle_of, side_of, with_side
from stream.units import to_ns
from stream.vision.frames import Frame

LIVE_S, FILES_S = 1.0, 10.0
"""How large the lag of a live recording, and between two files, may be."""

NETWORK = Path(__file__).parents[3] / "models" / "zoo" / "piano.onnx"
"""What looks for the keys that go down."""

_LEAST_FRAMES = 30
_LEAST_NOTES = 15
# In frames: an onset is seen in this one or the next, or a little before.
_TOGETHER = 1.5
_NEAR = 2.0
# So many times more notes must be seen at a lag than at any other: music repeats itself.
_SURER = 1.5
_APART_S = 0.1
# By how much looks of keyboards, and how hands move on them, shift what the network sees: standard
# deviation over renderings.
_LOOKS_S = 0.01


@dataclass(frozen=True)
class Lag:
    """How late the frames are.

    Attributes
    ----------
    seconds
        A key that goes down in a frame of time t was told of by MIDI at t - seconds. Below zero if
        the frames are earlier.
    uncertainty_s
        Its standard error.
    seen, notes
        How many notes were seen at that lag, of how many.
    """

    seconds: float
    uncertainty_s: float
    seen: int
    notes: int


def strips_of(
    frames: Iterable[tuple[int, Frame]], grid: KeyGrid
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the strip of keys of each frame, with its time in ns.

    Raises
    ------
    MissingExtraError
        OpenCV is not installed.
    """
    flat = Rectifier(grid)
    side: NDArray[np.uint8] | None = None
    for time_ns, frame in frames:
        if side is None:
            side = side_of(middle_of(grid, *frame.shape[:2]))
        yield time_ns, with_side(flat(frame), side)


def seen_onsets(strips: Iterable[tuple[int, NDArray[np.uint8]]]) -> NDArray[np.int64]:
    """Return which keys the shipped network sees go down, as `piano.notes` makes notes of it.

    Parameters
    ----------
    strips
        As `strips_of` gives them.

    Returns
    -------
    onsets
        (n, 2): time of the frame in ns, and pitch.

    Raises
    ------
    ModelError
        The network cannot be loaded.
    """
    session = StreamingSession(NETWORK, "cpu")
    tracker = NoteTracker(session.contract.threshold or BEGIN, END)
    onsets = [
        (time_ns, change.key + LOWEST_PITCH)
        for time_ns, strip in strips
        for change in tracker.push(time_ns, *session.step({"strip": strip})["keys"])
        if change.velocity is not None
    ]
    return np.array(onsets, np.int64).reshape(-1, 2)


def estimate_lag(
    frames_ns: NDArray[np.int64],
    onsets: NDArray[np.int64],
    notes: Sequence[Heard],
    largest_s: float = LIVE_S,
) -> Lag:
    """Find the lag at which most notes are seen.

    How much later is each onset that was seen than each note of the same key? Where these
    differences lie closest together is the lag, to the median of those nearby.

    Parameters
    ----------
    frames_ns
        (n,) when frames were taken.
    onsets
        (m, 2), as `seen_onsets` gives them.
    notes
        What was played.
    largest_s
        How large the lag may be, earlier or later.

    Raises
    ------
    RecordingError
        Too few notes are seen, or almost as many at another lag.
    """
    if len(frames_ns) < _LEAST_FRAMES:
        raise RecordingError(
            f"the recording has {len(frames_ns)} frames, too few for a training set."
        )
    period_s = float(np.median(np.diff(frames_ns))) / 1e9
    reach_ns = to_ns(largest_s)
    pitch = np.array([note.pitch for note in notes], np.int64)
    on_ns = np.array([note.on_ns for note in notes], np.int64)
    filmed = (on_ns > frames_ns[0] - reach_ns) & (on_ns < frames_ns[-1] + reach_ns)
    late_s = _differences(onsets, pitch[filmed], on_ns[filmed], largest_s)
    about_s, seen = _densest(late_s, _TOGETHER * period_s)
    apart = np.abs(late_s - about_s) > _APART_S
    _, elsewhere = _densest(late_s[apart], _TOGETHER * period_s)
    of = f"{seen} of {filmed.sum()} notes"
    if seen < _LEAST_NOTES:
        raise RecordingError(
            f"the lag of the camera cannot be told: no more than {of} are seen at one lag,"
            f" {_LEAST_NOTES} are the least. {_ADVICE}"
        )
    if seen < _SURER * elsewhere:
        raise RecordingError(
            f"the lag of the camera cannot be told: {of} are seen {1e3 * about_s:.0f} ms after"
            f" MIDI tells of them, and {elsewhere} at another lag. {_ADVICE}"
        )
    near = late_s[np.abs(late_s - about_s) < _NEAR * period_s]
    # Of a median, for a normal distribution.
    error_s = np.sqrt(np.pi / 2) * float(np.std(near)) / np.sqrt(len(near))
    return Lag(float(np.median(near)), float(np.hypot(error_s, _LOOKS_S)), seen, int(filmed.sum()))


_ADVICE = (
    "Record again with the whole keyboard in view and well lit, and begin with half a minute of"
    " single notes all over it; or do the picture and the MIDI not belong together?"
)


def _differences(
    onsets: NDArray[np.int64],
    pitch: NDArray[np.int64],
    on_ns: NDArray[np.int64],
    largest_s: float,
) -> NDArray[np.float64]:
    """Return by how much onsets are later than notes of their key, in s, in rising order."""
    late_ns = [
        (onsets[onsets[:, 1] == key, 0][:, None] - on_ns[pitch == key]).ravel()
        for key in np.unique(pitch)
    ]
    late_s = np.sort(np.concatenate([np.zeros(0, np.int64), *late_ns])) / 1e9
    return np.asarray(late_s[np.abs(late_s) <= largest_s], np.float64)


def _densest(values: NDArray[np.float64], width: float) -> tuple[float, int]:
    """Return the median of most values within a width, and how many these are."""
    if not len(values):
        return 0.0, 0
    counts = np.searchsorted(values, values + width, side="right") - np.arange(len(values))
    first = int(counts.argmax())
    return float(np.median(values[first : first + counts[first]])), int(counts[first])
