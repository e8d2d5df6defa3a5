"""The lag of a camera, from what is seen in its picture and what MIDI tells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from piano_doubles import Camera, Key, grid, played

from stream.errors import RecordingError
from stream.music.collect.alignment import FILES_S, estimate_lag, seen_onsets, strips_of
from stream.music.heard import Heard
from stream.music.keyboard import LOWEST_PITCH, keys_in_view

PERIOD_S = 1 / 30


def frames_ns(seconds: float, seed: int = 0) -> np.ndarray:
    """Times of frames that do not come quite regularly."""
    times_s = np.arange(0, seconds, PERIOD_S)
    times_s += np.random.default_rng(seed).uniform(-0.003, 0.003, len(times_s))
    return np.round(times_s * 1e9).astype(np.int64)


def seen(keys: list[Key], times_ns: np.ndarray, found: float = 0.6, wrong: float = 0.3):
    """What a network sees: some of the notes, in the frame or beside it, and others."""
    random = np.random.default_rng(1)
    onsets = []
    for key in keys:
        if random.random() < found:
            at = np.searchsorted(times_ns, key.down_s * 1e9) + random.choice([-1, 0, 0, 0, 1])
            # On average the network is half a frame early.
            onsets.append((times_ns[np.clip(at, 0, len(times_ns) - 1)] - 5e8 * PERIOD_S, key.pitch))
    pitches = [key.pitch for key in keys]
    for _ in range(round(wrong * len(keys))):
        onsets.append((random.choice(times_ns), random.choice(pitches)))
    return np.array(onsets, np.int64).reshape(-1, 2)


def told(keys: list[Key], lag_s: float) -> list[Heard]:
    """The notes as MIDI tells of them, when the camera is later by that much."""
    return [Heard(key.pitch, 70, round((key.down_s - lag_s) * 1e9)) for key in keys]


def two_hands(notes: int) -> list[Key]:
    """Chords of four keys, again and again the same few, as fast as people play."""
    random = np.random.default_rng(2)
    return [
        Key(int(pitch), 0.5 + 0.14 * beat, 0.6 + 0.14 * beat)
        for beat in range(notes // 4)
        for pitch in random.choice(np.r_[45:57:2, 64:76:2], 4, replace=False)
    ]


@given(st.floats(-0.95, 0.95))
@settings(max_examples=30)
def test_the_lag_is_found_though_much_is_missed_and_other_keys_are_seen(lag_s):
    keys, times_ns = played(80, 0.25), frames_ns(21)
    lag = estimate_lag(times_ns, seen(keys, times_ns), told(keys, lag_s))
    assert abs(lag.seconds - lag_s) < PERIOD_S / 3
    assert 0.008 < lag.uncertainty_s < 0.02
    assert 30 < lag.seen < lag.notes <= 80


@pytest.mark.parametrize("lag_s", [0.0, 0.14, -0.7])
def test_two_hands_in_dense_chords_are_enough(lag_s):
    keys, times_ns = two_hands(300), frames_ns(12)
    lag = estimate_lag(times_ns, seen(keys, times_ns), told(keys, lag_s))
    assert abs(lag.seconds - lag_s) < PERIOD_S / 3


def test_two_files_may_be_seconds_apart():
    keys, times_ns = played(80, 0.25), frames_ns(21)
    lag = estimate_lag(times_ns, seen(keys, times_ns), told(keys, 7.2), FILES_S)
    assert abs(lag.seconds - 7.2) < PERIOD_S / 3


def test_notes_that_have_nothing_to_do_with_the_picture_are_refused():
    times_ns = frames_ns(21)
    onsets = seen(played(80, 0.25), times_ns)
    for seed in (1, 2, 3):
        with pytest.raises(RecordingError, match=r"cannot be told: no more than \d+ of \d+ notes"):
            estimate_lag(times_ns, onsets, told(played(80, 0.25, seed), 0.0))


def test_one_key_at_equal_distances_is_refused_since_every_one_of_them_fits():
    keys, times_ns = [Key(60, 0.5 * n, 0.5 * n + 0.2) for n in range(1, 40)], frames_ns(21)
    with pytest.raises(RecordingError, match=r"cannot be told: .* and \d+ at another lag"):
        estimate_lag(times_ns, seen(keys, times_ns), told(keys, 0.1))


def test_a_piano_that_nobody_plays_and_a_recording_of_a_moment_are_refused():
    times_ns = frames_ns(8)
    nothing = np.zeros((0, 2), np.int64)
    with pytest.raises(RecordingError, match="no more than 0 of 30 notes"):
        estimate_lag(times_ns, nothing, told(played(30, 0.25), 0.0))
    with pytest.raises(RecordingError, match="no more than 0 of 0 notes"):
        estimate_lag(times_ns, nothing, [])
    with pytest.raises(RecordingError, match="has 12 frames, too few"):
        estimate_lag(times_ns[:12], nothing, told(played(30, 0.25), 0.0))


def test_keys_that_go_down_in_the_picture_are_seen_in_time_and_none_out_of_view():
    keys = played(16, 0.25, travel_s=0.05)
    camera, whole, cut = Camera(keys), grid(), grid()
    cut[:, :20] = np.nan
    times_ns = frames_ns(5)
    frames = [(time_ns, camera.frame(time_ns / 1e9)) for time_ns in times_ns.tolist()]
    onsets = seen_onsets(strips_of(frames, whole))
    at_s = {key.pitch: key.down_s for key in keys}
    right = [at for at, pitch in onsets if abs(at / 1e9 - at_s.get(int(pitch), 99)) < 0.1]
    assert len(right) > len(keys) / 2
    assert set(onsets[:, 0]) <= set(times_ns)
    in_view = keys_in_view(cut)
    assert all(in_view[pitch - LOWEST_PITCH] for pitch in seen_onsets(strips_of(frames, cut))[:, 1])
