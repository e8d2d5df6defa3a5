"""An ear of another make: which notes are in a sound, to judge the music that a system makes.

Basic Pitch (Bittner et al., ICASSP 2022) knows nothing of pictures or of this project. Onsets and
notes are told from what it gives out by the rule of that paper, without its second pass for notes
that have no onset.
"""

from __future__ import annotations

import warnings
from itertools import pairwise
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.audeo.notes import Note, Notes, in_order
from stream.errors import MissingExtraError, ModelError, RecordingError
from stream.files import check_there, first_line
from stream.inference import open_session
from stream.music.basic_pitch import find_model
from stream.music.keyboard import KEYS, LOWEST_PITCH

RATE_HZ = 22050
"""Samples a second that the model takes."""
HOP = 256
"""Samples from one frame of its output to the next."""

_WINDOW = 43844
# Frames near the ends of a window see only half of what they need.
_EDGE = 15
_KEPT = 142

_SILENT_FRAMES = 11
_SHORTEST_FRAMES = 5
_INPUT = "serving_default_input_2:0"
_OUTPUTS = ("StatefulPartitionedCall:2", "StatefulPartitionedCall:1")

Samples = NDArray[np.float32]
"""Mono sound (samples,), -1 to 1."""


class Ear:
    """Hears notes in sound.

    Parameters
    ----------
    model
        The model file; without one, what `innervate fetch basic-pitch` brought.
    onset
        How likely a note has to begin. The default is for synthesised pianos, whose overtones
        otherwise count as notes; transcriptions of recordings have 0.5.
    sounding
        Below which likelihood a note is over; transcriptions of recordings have 0.3.

    Raises
    ------
    ModelError
        The model is not there, or is another one.
    """

    def __init__(
        self, model: Path | None = None, *, onset: float = 0.6, sounding: float = 0.5
    ) -> None:
        self._onset, self._sounding = onset, sounding
        path = find_model(model)
        try:
            self._session, _ = open_session(path.read_bytes(), "cpu", 1)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None

    def likelihoods(self, samples: Samples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return how likely each key is struck, and how likely it sounds, in each frame.

        Windows follow each other by a whole number of frames, so that frame f is at f * 256 / 22050
        seconds wherever it lies. (Basic Pitch itself keeps 142 frames of windows that are 141.27
        frames apart, and its times drift by half a per cent if that is not undone.)

        Parameters
        ----------
        samples
            Sound at 22,050 samples a second.

        Returns
        -------
        onsets, notes
            (frames, 88) each, 0 to 1; one frame for each 256 samples.
        """
        frames = -(-len(samples) // HOP)
        windows = max(-(-frames // _KEPT), 1)
        padded = np.zeros(_WINDOW + (windows - 1) * _KEPT * HOP, np.float32)
        padded[_EDGE * HOP : _EDGE * HOP + len(samples)] = samples
        parts: list[list[NDArray[np.float32]]] = [[], []]
        for window in range(windows):
            begin = window * _KEPT * HOP
            given = padded[begin : begin + _WINDOW].reshape(1, _WINDOW, 1)
            for part, found in zip(
                parts, self._session.run(_OUTPUTS, {_INPUT: given}), strict=True
            ):
                part.append(found[0, _EDGE : _EDGE + _KEPT])
        onsets, notes = (np.concatenate(part)[:frames] for part in parts)
        return onsets, notes

    def hear(self, samples: Samples, rate_hz: int) -> Notes:
        """Return the notes of a sound, in seconds from its beginning.

        A note begins where its onset is likeliest, and ends where it has been too unlikely for 11
        frames (128 ms), or with the next onset of its key. What lasts less than 5 frames (58 ms) is
        none. Ends are where the sound dies away, not where a key is released.

        Raises
        ------
        MissingExtraError
            scipy is not installed.
        """
        onsets, notes = self.likelihoods(resampled(samples, rate_hz))
        return _decoded(onsets, notes, self._onset, self._sounding)

    def hear_file(self, path: Path) -> Notes:
        """Return the notes of a WAV file.

        Raises
        ------
        RecordingError
            It cannot be read.
        MissingExtraError
            scipy is not installed.
        """
        return self.hear(*read_wav(path))


def _decoded(
    onsets: NDArray[np.float32], notes: NDArray[np.float32], onset: float, sounding: float
) -> Notes:
    from scipy.signal import find_peaks

    frame_s = HOP / RATE_HZ
    found = []
    for key in range(KEYS):
        struck, _ = find_peaks(onsets[:, key], height=onset, distance=_SHORTEST_FRAMES)
        quiet = notes[:, key] < sounding
        for begin, following in pairwise([*struck, len(onsets)]):
            end = _end(quiet[begin + 1 : following]) + begin + 1
            if end - begin >= _SHORTEST_FRAMES:
                found.append(Note(LOWEST_PITCH + key, float(begin * frame_s), float(end * frame_s)))
    return in_order(found)


def _end(quiet: NDArray[np.bool_]) -> int:
    """Return where silence begins that lasts, or that lasts to the end."""
    run = 0
    for frame, still in enumerate(quiet):
        run = run + 1 if still else 0
        if run == _SILENT_FRAMES:
            return frame + 1 - run
    return len(quiet) - run


def resampled(samples: Samples, rate_hz: int) -> Samples:
    """Return sound at the 22,050 samples a second that the model takes.

    Raises
    ------
    MissingExtraError
        scipy is not installed.
    """
    try:
        from scipy.signal import resample_poly
    except ImportError as error:
        raise MissingExtraError("hearing notes in a sound", "train") from error
    common = gcd(RATE_HZ, rate_hz)
    return np.asarray(resample_poly(samples, RATE_HZ // common, rate_hz // common), np.float32)


def read_wav(path: Path) -> tuple[Samples, int]:
    """Read a WAV file; channels are averaged.

    Returns
    -------
    samples
        Mono, -1 to 1.
    rate_hz
        Samples a second.

    Raises
    ------
    RecordingError
        It is no WAV file, or holds no sound.
    MissingExtraError
        scipy is not installed.
    """
    check_there(path)
    try:
        from scipy.io import wavfile
    except ImportError as error:
        raise MissingExtraError("reading WAV files", "train") from error
    try:
        with warnings.catch_warnings():
            # Of chunks that are not sound.
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            rate_hz, stored = wavfile.read(path)
    except Exception as error:  # scipy raises whatever its reading of odd bytes runs into.
        raise RecordingError(
            f"{path} is no WAV file that can be read: {first_line(error)}; `ffmpeg -i FILE out.wav`"
            " makes one of most others."
        ) from error
    if not len(stored):
        raise RecordingError(f"{path} holds no sound.")
    return _as_floats(stored).reshape(len(stored), -1).mean(1), int(rate_hz)


def _as_floats(stored: NDArray[Any]) -> Samples:
    if stored.dtype == np.uint8:
        return (stored.astype(np.float32) - 128) / 128
    if stored.dtype.kind == "i":
        return stored.astype(np.float32) / float(-int(np.iinfo(stored.dtype).min))
    return stored.astype(np.float32)
