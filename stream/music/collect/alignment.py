"""How much later a camera sees keys go down than MIDI tells of it, from the recording itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.errors import MissingExtraError, RecordingError
from stream.music.heard import Heard
from stream.music.keyboard import (
    BLACK_WIDTH_U,
    CENTRES_U,
    HIGHEST_PITCH,
    IS_BLACK,
    KEYS,
    LOWEST_PITCH,
    KeyGrid,
    keys_in_view,
)
from stream.music.piano.strip import (
    BLACK_ROWS,
    FRONT_ROWS,
    PX_PER_WHITE,
    STRIP_HEIGHT,
    STRIP_WIDTH,
    Rectifier,
)
from stream.units import to_ns
from stream.vision.frames import Frame

LIVE_S, FILES_S = 1.0, 10.0
"""How large the lag of a live recording, and between two files, may be."""

_STEP_S = 0.002
# A finger that comes down onto a key moves what is seen there for longer than the key does.
_TRAVELS_S = (0.002, 0.03, 0.06, 0.1, 0.14, 0.18, 0.22)
_SHORT_S = (0.03, 0.06)
_TOLERATED_S = 0.012
_LEAST_NOTES = 15
_LEAST_FRAMES = 30
_MOST_NOTES = 600
_DRAWS = 200
# In grey levels: less than that is what coding does to a picture that stands still.
_STILL = 0.5
_REFINED_S = 0.12
_NEAR_U = 4.5
_BLUES = np.array([0.114, 0.587, 0.299], np.float32)


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
    travel_s
        For how long keys move before they are down.
    notes
        From how many notes this comes.
    """

    seconds: float
    uncertainty_s: float
    travel_s: float
    notes: int


def key_motion(frames: Iterable[Frame], grid: KeyGrid) -> NDArray[np.float32]:
    """Return how much each key changes in each frame against the frame before, and its neighbours.

    Returns
    -------
    motion
        (frames, 88), 0 where it moves as the keys around it do; NaN for keys that are not in view.
        The first frame has zeros.
    """
    areas = _areas(grid)
    flat = Rectifier(grid)
    rows = []
    before: NDArray[np.float32] | None = None
    for frame in frames:
        strip = flat(frame).reshape(-1, 3).astype(np.float32) @ _BLUES
        rows.append(np.zeros(KEYS) if before is None else areas @ np.abs(strip - before))
        before = strip
    if not rows:
        return np.zeros((0, KEYS), np.float32)
    change = np.array(rows, np.float32)
    seen = keys_in_view(grid)
    # A logarithm, since a hand that passes changes a key far more than its going down does.
    still = np.median(change[1:], axis=0) if len(change) > 1 else change[0]
    loud = np.log1p(change / np.maximum(still, _STILL)) * seen
    apart = np.abs(CENTRES_U[:, None] - CENTRES_U)
    near = ((apart > 0) & (apart < _NEAR_U)) * seen
    around = loud @ (near / np.maximum(near.sum(axis=1, keepdims=True), 1)).T
    return np.where(seen, loud - around, np.nan).astype(np.float32)


def estimate_lag(
    frames_ns: NDArray[np.int64],
    motion: NDArray[np.float32],
    notes: Sequence[Heard],
    largest_s: float = LIVE_S,
) -> Lag:
    """Find the lag at which the keys that are played move most, as keys do that go down.

    A key that needs w seconds to go down moves during the w seconds before the onset that MIDI
    tells, in the light of this lag. Of all lags and w the pair is taken that explains most of how
    much keys change. Where that is to be looked for, onsets and releases tell together: with onsets
    alone, notes of equal length would look alike when shifted by it. The time itself comes from
    the onsets. The standard error comes from drawing the notes anew, with replacement.

    Parameters
    ----------
    frames_ns
        (n,) when frames were taken.
    motion
        (n, 88), as `key_motion` gives it.
    notes
        What was played, each with its release.
    largest_s
        How large the lag may be, earlier or later.

    Raises
    ------
    RecordingError
        It cannot be told well enough: the standard error is above 12 ms.
    """
    if len(frames_ns) < _LEAST_FRAMES:
        raise RecordingError(
            f"the recording has {len(frames_ns)} frames, too few for a training set."
        )
    usable = [
        note
        for note in notes
        if LOWEST_PITCH <= note.pitch <= HIGHEST_PITCH
        and np.isfinite(motion[-1, note.pitch - LOWEST_PITCH])
        and frames_ns[0] < note.on_ns < frames_ns[-1]
    ]
    usable = usable[:: -(-len(usable) // _MOST_NOTES) or 1]
    number = len(usable)
    if number < _LEAST_NOTES:
        raise RecordingError(
            f"the lag of the camera cannot be told from {number} notes of keys in view while"
            f" frames came; {_LEAST_NOTES} are the least. {_ADVICE}"
        )
    period_s = float(np.median(np.diff(frames_ns))) / 1e9
    reach_s = largest_s + max(_TRAVELS_S) + period_s
    keys = [note.pitch - LOWEST_PITCH for note in usable]
    presses = _around(frames_ns, motion, keys, [note.on_ns for note in usable], reach_s)
    releases = _around(frames_ns, motion, keys, [note.off_ns or 0 for note in usable], reach_s)
    random = np.random.default_rng(0)
    draws = random.multinomial(number, np.full(number, 1 / number), _DRAWS)
    weights = np.vstack([np.ones(number), draws]).astype(np.float32)
    lags_s = np.arange(-round(largest_s / _STEP_S), round(largest_s / _STEP_S) + 1) * _STEP_S
    everywhere = np.ones((1, len(lags_s)), bool)
    about, _ = _best(weights @ (presses + releases), period_s, lags_s, everywhere, _SHORT_S)
    near = np.abs(lags_s - about[:, None]) < _REFINED_S
    lags, travels = _best(weights @ presses, period_s, lags_s, near, _TRAVELS_S)
    uncertainty_s = float(np.hypot(np.std(lags[1:]), _STEP_S / np.sqrt(12)))
    if uncertainty_s > _TOLERATED_S:
        raise RecordingError(
            f"the lag of the camera cannot be told: {1e3 * lags[0]:.0f} ms, give or take"
            f" {1e3 * uncertainty_s:.0f} ms, from {number} notes; at most"
            f" {1e3 * _TOLERATED_S:.0f} ms may be left open. {_ADVICE}"
        )
    return Lag(float(lags[0]), uncertainty_s, float(travels[0]), number)


_ADVICE = (
    "Record again with the whole keyboard in view and well lit, and begin with half a minute of"
    " single notes all over it; or do the picture and the MIDI not belong together?"
)


def _areas(grid: KeyGrid) -> NDArray[np.float32]:
    """Return (88, pixels of the strip) weights that give the mean over each key."""
    u = (np.arange(STRIP_WIDTH) + 0.5) / PX_PER_WHITE
    half = np.where(IS_BLACK, BLACK_WIDTH_U / 2, 0.5)[:, None]
    across = np.abs(u - CENTRES_U[:, None]) < half
    row = np.arange(STRIP_HEIGHT)
    # Whites move where no black is beside them.
    front = (row >= BLACK_ROWS) & (row < BLACK_ROWS + FRONT_ROWS)
    down = np.where(IS_BLACK[:, None], row < BLACK_ROWS, front)
    areas = (down[:, :, None] & across[:, None, :]).reshape(KEYS, -1)
    return np.asarray(areas / areas.sum(axis=1, keepdims=True), np.float32)


def _around(
    frames_ns: NDArray[np.int64],
    motion: NDArray[np.float32],
    keys: Sequence[int],
    times_ns: Sequence[int],
    reach_s: float,
) -> NDArray[np.float32]:
    """Return the motion of keys around these times: (2, times, steps).

    First sums over frames, less the mean of all, then the numbers of frames; the middle step is
    the time itself.
    """
    steps = 2 * round(reach_s / _STEP_S) + 1
    sums, counts = np.zeros((2, len(keys), steps), np.float32)
    reach_ns = to_ns(reach_s)
    for row, (key, time_ns) in enumerate(zip(keys, times_ns, strict=True)):
        first, last = np.searchsorted(frames_ns, (time_ns - reach_ns, time_ns + reach_ns))
        first = max(first, 1)  # of the first frame nothing is known
        since = (frames_ns[first:last] - time_ns + reach_ns) / to_ns(_STEP_S)
        places = np.minimum(np.round(since).astype(int), steps - 1)
        np.add.at(sums[row], places, motion[first:last, key])
        np.add.at(counts[row], places, 1)
    sums -= counts * (sums.sum() / max(float(counts.sum()), 1.0))
    return np.stack([sums, counts])


def _best(
    around: NDArray[np.float32],
    period_s: float,
    lags_s: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    travels_s: Sequence[float],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for each row the lag and the travel that explain most, of those that are allowed."""
    try:
        from scipy.signal import fftconvolve
    except ImportError as error:
        raise MissingExtraError("innervate collect", "vision") from error
    sums, counts = around
    total = counts.sum(axis=1, keepdims=True)
    first = (sums.shape[1] - len(lags_s)) // 2
    best = np.full(len(sums), -np.inf)
    lags, travels = np.zeros(len(sums)), np.zeros(len(sums))
    for travel_s in travels_s:
        shape = _motion_shape(travel_s, period_s)
        common, mean, square = (
            fftconvolve(of, weights[None, ::-1], "same", axes=1)[:, first : first + len(lags_s)]
            for of, weights in ((sums, shape), (counts, shape), (counts, shape**2))
        )
        spread = np.maximum(square - mean**2 / total, 1e-6)
        explained = np.where((common > 0) & allowed, common**2 / spread, 0.0)
        at = explained.argmax(axis=1)
        better = explained.max(axis=1) > best
        best = np.where(better, explained.max(axis=1), best)
        lags = np.where(better, lags_s[at], lags)
        travels = np.where(better, travel_s, travels)
    return lags, travels


def _motion_shape(travel_s: float, period_s: float) -> NDArray[np.float32]:
    """Return the change that frames show of a key, by their time after it is down, in steps.

    A frame shows what happened since the one before; 1 is the most. The middle is when it is down.
    """
    size = round((max(_TRAVELS_S) + period_s) / _STEP_S) + 1
    time_s = np.arange(-size, size + 1) * _STEP_S
    moved = np.clip((time_s + travel_s) / travel_s, 0, 1)
    moved_before = np.clip((time_s - period_s + travel_s) / travel_s, 0, 1)
    shape = moved - moved_before
    return np.asarray(shape / shape.max(), np.float32)
