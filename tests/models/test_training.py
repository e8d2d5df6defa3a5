"""The training loop, the folder that it leaves, and `innervate train`."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.commands.train_rates import train
from models.spikes.dataset import draw_held_out
from models.spikes.recipe import Recipe, train_system
from models.spikes.trained import load_trained, save_trained
from models.spikes.training import Progress, TrainingSettings
from stream.errors import ConfigError, ModelError, RecordingError
from stream.spikes.nwb import load_recording, write_recording
from stream.spikes.recording import Recording
from stream.spikes.simulation import simulate_recording

SHORT = TrainingSettings(updates=40, batch=4, bins=40, check_every=10, warm_up=5)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("session") / "reaches.nwb"
    write_recording(simulate_recording("reaches", 12, 60.0, seed=0, mean_rate_hz=20.0), path)
    return path


def recipe(system: str = "stndt", **more) -> Recipe:
    settings = {"training": SHORT, "behaviour": "hand_vel"} | more
    return Recipe(system=system, width_s=0.02, **settings)


@pytest.mark.parametrize("system", ["stndt", "gru"])
def test_training_lowers_the_loss_on_data_that_it_does_not_see(system, session, tmp_path):
    seen: list[Progress] = []

    def watch(stage: str, progress: Progress) -> None:
        if stage == "when to stop":
            seen.append(progress)

    settings = replace(SHORT, updates=120)
    train_system(session, recipe(system, training=settings), tmp_path / "run", on_progress=watch)
    assert seen[-1].best_loss < seen[0].validation_loss


def test_the_same_seed_gives_the_same_network_and_another_one_another(session, tmp_path):
    weights = []
    for number, seed in enumerate((3, 3, 4)):
        settings = replace(SHORT, updates=10, seed=seed)
        trained = train_system(session, recipe(training=settings), tmp_path / str(number))
        weights.append(torch.cat([p.flatten() for p in trained.network.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(session, tmp_path):
    whole = train_system(session, recipe(), tmp_path / "whole")

    class StoppedError(Exception):
        pass

    def stop(stage: str, progress: Progress) -> None:
        if progress.update == 20:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_system(session, recipe(), tmp_path / "run", on_progress=stop)
    with pytest.raises(ModelError):
        load_trained(tmp_path / "run")
    resumed = train_system(session, recipe(), tmp_path / "run", resume=True)
    for a, b in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_weights_of_a_network_that_mixes_in_every_layer_are_refused(session, tmp_path):
    made = train_system(
        session,
        recipe(training=replace(SHORT, updates=2), network={"layers": 2}),
        tmp_path / "made",
    )
    first, later = made.network.layers
    later.space_query = first.space_query
    save_trained(tmp_path / "old", made)
    with pytest.raises(ModelError, match="of another version's network"):
        load_trained(tmp_path / "old")


def test_a_folder_is_never_overwritten_nor_resumed_with_other_settings(session, tmp_path):
    train_system(session, recipe(training=replace(SHORT, updates=10)), tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a trained network already"):
        train_system(session, recipe(), tmp_path / "run")
    with pytest.raises(ConfigError, match="no training to go on with"):
        train_system(session, recipe(), tmp_path / "other", resume=True)


def test_a_setting_that_does_not_fit_the_recording_leaves_the_folder_free(session, tmp_path):
    with pytest.raises(ConfigError, match="no behaviour named 'gaze'"):
        train_system(session, recipe(behaviour="gaze"), tmp_path / "run")
    train_system(session, recipe(training=replace(SHORT, updates=10)), tmp_path / "run")


def test_behaviour_that_is_never_known_is_refused_before_training(session, tmp_path):
    recording = load_recording(session)
    series = recording.behaviour["hand_vel"]
    unknown = replace(series, values=np.full_like(series.values, np.nan))
    path = tmp_path / "unknown.nwb"
    write_recording(replace(recording, behaviour={"hand_vel": unknown}), path)
    with pytest.raises(RecordingError, match="'hand_vel' is not known in a single bin"):
        train_system(path, recipe(), tmp_path / "run")


def test_units_that_are_held_out_are_told_and_never_fed(session, tmp_path):
    units = load_recording(session).units
    held_out = draw_held_out(units, 0)
    trained = train_system(
        session, recipe(held_out=held_out, training=replace(SHORT, updates=10)), tmp_path / "run"
    )
    assert set(trained.card.inputs) == set(units) - set(held_out)
    assert trained.card.outputs == units
    assert "co_bps" in trained.card.scores


def test_with_look_ahead_a_network_learns_what_later_bins_say_of_a_bin(tmp_path):
    lag, bins, width_s = 3, 3000, 0.02
    rng = np.random.default_rng(0)
    early = rng.poisson(0.6, bins)
    counts = np.stack([np.roll(early, lag), rng.poisson(0.6, bins), early], axis=1)
    recording = Recording(
        name="echo",
        units=("late", "noise", "early"),
        width_s=width_s,
        start_s=0.0,
        stop_s=bins * width_s,
        segment_starts_s=np.zeros(1),
        counts=counts.astype(np.uint16),
    )
    path = tmp_path / "echo.nwb"
    write_recording(recording, path)
    found = {}
    for look_ahead in (0, lag):
        settings = replace(SHORT, updates=150, weight_decay=0.0, learning_rate=5e-3)
        network = {"look_ahead": look_ahead, "window": 8, "layers": 1, "dropout": 0.0}
        asked = recipe(behaviour="", held_out=("early",), training=settings, network=network)
        trained = train_system(path, asked, tmp_path / f"run-{look_ahead}")
        found[look_ahead] = trained.card.scores["co_bps"]
    assert found[0] < 0.1
    assert found[lag] > 0.5


def innervate(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("innervate")), *args],
        capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip


def test_the_command_trains_and_leaves_a_folder_that_says_what_it_is(session, tmp_path):
    done = innervate(
        "train", "stndt", "--data", str(session), "--behaviour", "hand_vel", "--bin-width", "20 ms",
        "--updates", "10", "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["width_s"] == 0.02
    assert card["trained_on"]["sha256"] == load_recording(session).sha256
    assert np.isfinite(load_trained(tmp_path / "run").card.scores["behaviour_r2"])


@pytest.mark.parametrize(
    ("system", "options", "says"),
    [
        ("transformer", {}, "there is stndt and gru"),
        ("stndt", {"behaviour": "gaze"}, "no behaviour named 'gaze'"),
        ("gru", {"window": 10}, "--window is a setting of stndt"),
        ("stndt", {"bin_width": "20"}, "--bin-width"),
        ("stndt", {"spatial": "magic"}, "no mixing 'magic'"),
        ("stndt", {"held_out": "nowhere.json:0"}, "--held-out"),
    ],
)
def test_a_wrong_option_is_one_sentence(session, tmp_path, system, options, says):
    with pytest.raises(ConfigError, match=says):
        train(system, data=session, out=tmp_path / "x", **options)
