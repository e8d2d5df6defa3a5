"""The mappings that come with the project fit the recordings that they are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pynwb
import pytest
import scipy.io
from nwbinspector import Importance, inspect_nwbfile

from stream.spikes.importing import import_files, list_variables
from stream.spikes.mapping import load_mapping
from stream.spikes.nwb import read_recording, write_recording
from stream.spikes.recording import Recording, bin_recording

CONFIGS = Path(__file__).parents[3] / "configs" / "import"
REAL = {
    "m1_contdata95": ("m1_contdata95", ["contdata95.mat"], 95, 31413, 1456, None),
    "m1_miller_centerout": ("m1_miller_centerout", ["center_out_data.mat"], 84, 22263, 286, 286),
    "mc_maze_trials": (
        "mc_maze_trials", ["trial_748_data.csv", "trial_1356_data.csv"], 182, 6802, 2, 2,
    ),
    "hippocampus_linear_track": (
        "hippocampus_linear_track",
        ["linear-track_spikes.mat", "linear-track_trajectory.videoPositionTracking"],
        31, 28829, 1, None,
    ),
    "placecell_kramer_eden": ("placecell_kramer_eden", ["spikes-1.mat"], 1, 220, 1, None),
    "synthetic_lorenz": ("synthetic_lorenz", ["lfads_lorenz.h5"], 60, 80000, 800, 800),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(REAL))
def test_a_shipped_mapping_is_valid_and_says_how_to_use_it(name):
    assert load_mapping(CONFIGS / f"{name}.yaml").name == name
    assert f"--map configs/import/{name}.yaml" in (CONFIGS / f"{name}.yaml").read_text()


def test_every_shipped_mapping_is_tested():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(REAL)


@pytest.mark.parametrize("name", sorted(REAL))
def test_a_real_recording_becomes_an_nwb_file_that_the_validators_accept(
    name, shared_data, tmp_path
):
    folder, files, n_units, n, n_segments, n_trials = REAL[name]
    paths = [shared_data / "spikes" / folder / file for file in files]
    imported = import_files(paths, load_mapping(CONFIGS / f"{name}.yaml"))
    path = tmp_path / "x.nwb"
    write_recording(imported.recording, path, imported.session, imported.resolution_s)
    found = read_recording(path)
    assert len(found.units) == n_units
    spikes = sum(len(t) for t in found.spike_times_s) if found.spike_times_s else len(found.counts)
    assert spikes == n
    assert len(found.segment_starts_s) == n_segments
    assert (found.trials is None) == (n_trials is None)
    if found.trials is not None:
        assert len(found.trials.start_s) == n_trials
    assert pynwb.validate(path=str(path)) == []
    worst = [
        message.message
        for message in inspect_nwbfile(nwbfile_path=path)
        if message.importance.value >= Importance.BEST_PRACTICE_VIOLATION.value
    ]
    assert worst == []


def real(name: str, shared_data: Path) -> Recording:
    folder, files, *_ = REAL[name]
    paths = [shared_data / "spikes" / folder / file for file in files]
    return import_files(paths, load_mapping(CONFIGS / f"{name}.yaml")).recording


def test_contdata95_is_what_the_file_holds(shared_data):
    found = real("m1_contdata95", shared_data)
    content = scipy.io.loadmat(shared_data / "spikes/m1_contdata95/contdata95.mat")
    binned = bin_recording(found, 0.05)
    assert np.array_equal(binned.counts, content["Y"])
    assert np.allclose(binned.behaviour["hand_vel"], content["X"][:, 2:], atol=0)
    firsts = np.flatnonzero(np.diff(binned.segment, prepend=-1))
    assert (content["X"][firsts, 2:] == 0).all()
    assert set(np.diff(firsts)) <= set(range(19, 30))


def test_miller_trials_lie_where_the_file_says(shared_data):
    found = real("m1_miller_centerout", shared_data)
    path = shared_data / "spikes/m1_miller_centerout/center_out_data.mat"
    trials = scipy.io.loadmat(path)["trial_data"][0]
    binned = bin_recording(found, 0.05)
    assert np.array_equal(binned.counts, np.concatenate(list(trials["M1_spikes"])))
    assert np.array_equal(binned.behaviour["hand_vel"], np.concatenate(list(trials["vel"])))
    speed = np.linalg.norm(binned.behaviour["hand_vel"], axis=1)
    first = np.searchsorted(binned.segment, np.arange(286))
    for i in (0, 100, 285):
        start = first[i] + int(trials["idx_trial_start"][i][0, 0]) - 1
        assert found.trials.start_s[i] == pytest.approx(start * 0.05)
        peak = round(found.trials.columns["peak_speed_time"][i] / 0.05)
        move = round(found.trials.columns["movement_on_time"][i] / 0.05)
        end = round(found.trials.stop_s[i] / 0.05)
        assert abs(move + np.argmax(speed[move:end]) - peak) <= 1
    assert len(np.unique(found.trials.columns["target_direction"])) == 8


def test_lorenz_trials_of_a_condition_share_their_true_rates(shared_data):
    found = real("synthetic_lorenz", shared_data)
    rates = found.true_rates.values.reshape(800, 100, 60)
    conditions = found.trials.columns["condition"]
    assert found.trials.columns["split"].tolist() == ["train"] * 640 + ["valid"] * 160
    for condition in (0, 7, 19):
        same = rates[conditions == condition]
        assert len(same) == 40
        assert np.array_equal(same, np.broadcast_to(same[0], same.shape))
    assert found.counts.mean(axis=0) / 0.01 == pytest.approx(rates.mean((0, 1)), rel=0.2, abs=0.1)


def test_hippocampus_positions_lie_on_the_clock_of_the_spikes(shared_data):
    found = real("hippocampus_linear_track", shared_data)
    track = found.behaviour["position"]
    assert track.times_s[0] == pytest.approx(4397.0317, abs=1e-4)
    assert 1 / np.median(np.diff(track.times_s)) == pytest.approx(60, rel=0.01)
    assert (found.start_s, found.stop_s) == (4396.9975, 6365.2707)


def test_the_variables_of_a_file_are_listed(shared_data):
    lines = list_variables(shared_data / "spikes/m1_miller_centerout/center_out_data.mat")
    assert "trial_data{*}.M1_spikes: 91 x 84 uint8" in lines
