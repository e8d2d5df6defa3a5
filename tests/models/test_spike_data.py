"""Parts of a recording never mix, and follow the file's own split where it has one."""

import numpy as np
import pytest

from models.spikes.dataset import PARTS, prepare, whole
from stream.errors import ConfigError, RecordingError
from stream.spikes.recording import Recording, Series, Trials


def recording(trials=None, segments=(0.0,), bins=1000):
    rng = np.random.default_rng(0)
    times = np.arange(bins) * 0.05
    return Recording(
        name="session",
        units=("a", "b", "c"),
        start_s=0.0,
        stop_s=bins * 0.05,
        segment_starts_s=np.array(segments),
        counts=rng.poisson(1.0, (bins, 3)),
        width_s=0.05,
        behaviour={"hand_vel": Series(times, rng.normal(size=(bins, 2)), ("vx", "vy"), "m/s")},
        trials=trials,
    )


def test_parts_follow_one_another_in_time():
    data = prepare(recording(), 0.05, "hand_vel")
    assert np.all(np.diff(data.part) >= 0)
    assert np.bincount(data.part).tolist() == [680, 120, 200]
    assert data.select("test").behaviour.shape == (200, 2)


def test_parts_are_cut_between_trials():
    starts = np.arange(0, 50, 1.7)
    data = prepare(recording(Trials(starts, starts + 1.2)), 0.05)
    assert not {*data.select("train").trial} & {*data.select("validation").trial} - {-1}
    assert not {*data.select("validation").trial} & {*data.select("test").trial} - {-1}


def test_a_split_of_the_file_is_kept_and_validation_trials_are_spread_over_training_trials():
    starts = np.arange(0.0, 50.0)
    split = np.where(np.arange(50) % 5 == 1, "valid", "train")
    data = prepare(recording(Trials(starts, starts + 1, {"split": split})), 0.05)
    assert sorted({*data.select("test").trial}) == list(range(1, 50, 5))
    held = sorted({*data.select("validation").trial})
    assert len(held) == 6
    assert np.all(np.diff(held) > 5)
    assert np.all(split[held] == "train")


def test_a_part_that_was_cut_out_has_segments_of_its_own():
    starts = np.arange(0.0, 50.0)
    split = np.where(np.arange(50) % 5 == 1, "test", "train")
    data = prepare(recording(Trials(starts, starts + 1, {"split": split})), 0.05)
    assert len(set(data.select("test").segment)) == 10


def test_trials_that_a_file_gives_to_no_split_are_in_no_part():
    starts = np.arange(0.0, 50.0)
    split = np.array(["train", "train", "val", "none", "train"] * 10)
    data = prepare(recording(Trials(starts, starts + 1, {"split": split})), 0.05)
    parts = [set(data.select(part).trial) for part in PARTS]
    assert set.union(*parts) == set(np.flatnonzero(split != "none"))
    assert parts[PARTS.index("test")] == set(np.flatnonzero(split == "val"))


def test_the_whole_recording_is_one_part():
    data = whole(recording(segments=(0.0, 20.0)), 0.1, "hand_vel")
    assert len(data.select("test").counts) == 500
    assert data.columns == ("vx", "vy")
    assert len(set(data.segment)) == 2


def test_a_behaviour_or_a_split_that_is_unknown_is_named():
    with pytest.raises(ConfigError, match="it has: hand_vel"):
        prepare(recording(), 0.05, "gaze")
    starts = np.arange(0.0, 50.0)
    odd = np.array(["train", "holdout"] * 25)
    with pytest.raises(RecordingError, match="'holdout'"):
        prepare(recording(Trials(starts, starts + 1, {"split": odd})), 0.05)
