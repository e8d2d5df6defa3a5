"""The lag of a camera, from what it sees and what MIDI tells."""

from __future__ import annotations

import numpy as np
import pytest
from piano_doubles import Camera, Key, grid, played

from stream.errors import RecordingError
from stream.music.collect.alignment import FILES_S, estimate_lag, key_motion
from stream.music.heard import Heard
from stream.music.keyboard import keys_in_view

PERIOD_S = 1 / 30


def seen(keys: list[Key], seconds: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Times and motion of what a camera sees whose frames do not come quite regularly."""
    random = np.random.default_rng(seed)
    camera = Camera(keys, seed)
    times_s = np.arange(0, seconds, PERIOD_S)
    times_s += random.uniform(-0.003, 0.003, len(times_s))
    motion = key_motion((camera.frame(float(at)) for at in times_s), grid())
    return np.round(times_s * 1e9).astype(np.int64), motion


def told(keys: list[Key], lag_s: float) -> list[Heard]:
    """The notes as MIDI tells of them, when the camera is later by that much."""
    return [
        Heard(
            key.pitch, 70, *(round((at - lag_s) * 1e9) for at in (key.down_s, key.up_s, key.up_s))
        )
        for key in keys
    ]


@pytest.mark.parametrize("travel_s", [0.0, 0.05])
@pytest.mark.parametrize("lag_s", [0.0, 0.0637, -0.31, 0.94])
def test_the_lag_is_found_within_a_third_of_a_frame(lag_s, travel_s):
    keys = played(60, 0.25, travel_s=travel_s)
    lag = estimate_lag(*seen(keys, 16), told(keys, lag_s))
    assert abs(lag.seconds - lag_s) < PERIOD_S / 3
    assert lag.uncertainty_s < 0.012
    assert lag.notes >= 50


def test_two_files_may_be_seconds_apart():
    keys = played(60, 0.25)
    lag = estimate_lag(*seen(keys, 16), told(keys, 7.2), FILES_S)
    assert abs(lag.seconds - 7.2) < PERIOD_S / 3


def test_notes_that_have_nothing_to_do_with_the_picture_are_refused():
    motion = seen(played(60, 0.25), 16)
    for seed in (1, 2, 3):
        with pytest.raises(RecordingError, match=r"cannot be told: .* give or take"):
            estimate_lag(*motion, told(played(60, 0.25, seed), 0.0))


def test_a_piano_that_nobody_plays_is_refused():
    motion = seen([], 8)
    with pytest.raises(RecordingError, match="cannot be told: "):
        estimate_lag(*motion, told(played(30, 0.25), 0.0))
    with pytest.raises(RecordingError, match="cannot be told from 0 notes"):
        estimate_lag(*motion, told([], 0.0))


def test_keys_out_of_view_have_no_part_in_it():
    keys = played(60, 0.25)
    cut = grid()
    cut[:, :20] = np.nan
    camera = Camera(keys)
    times_s = np.arange(0, 16, PERIOD_S)
    motion = key_motion((camera.frame(float(at)) for at in times_s), cut)
    assert (np.isfinite(motion).all(axis=0) == keys_in_view(cut)).all()
    lag = estimate_lag(np.round(times_s * 1e9).astype(np.int64), motion, told(keys, 0.05))
    assert abs(lag.seconds - 0.05) < PERIOD_S / 3
    assert lag.notes < 50
