"""A recording played by mne-lsl, through a real run, back onto LSL and into an inlet of mne-lsl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stream.pipeline import load_pipeline
from stream.runtime.supervisor import run_plan

HERE = Path(__file__).parent
MNE = HERE.parents[2] / "peers" / "lsl_mne.py"
PIPELINE = """\
name: through
nodes:
  eeg: {use: "stream.instruments.lsl.inlet:LslIn", name: player, type: eeg, group: through}
  events: {use: "stream.instruments.lsl.inlet:LslIn", name: player-annotations, group: through}
  out: {use: "stream.instruments.lsl.outlet:LslOut", from: eeg, group: through}
  kept: {use: "keeper:Keeper", from: [eeg, events], file: kept.json}
"""
RATE, CHANNELS = 200.0, 6


def mne(what: str, **settings) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(MNE), what, json.dumps(settings)], stdout=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def through(tmp_path_factory):
    """The report of a run, what came out of it onto LSL, and what was kept inside."""
    pytest.importorskip("mne_lsl")
    folder = tmp_path_factory.mktemp("through")
    (folder / "through.yaml").write_text(PIPELINE)
    player = mne("play", name="player", rate=RATE, channels=CHANNELS, seconds=60)
    view = mne("view", name="through.eeg", samples=300)
    assert player.stdout.readline() == "ready\n"
    with pytest.MonkeyPatch.context() as patch:
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        patch.setenv("PYTHONPATH", path)
        patch.syspath_prepend(str(HERE))
        report = run_plan(
            load_pipeline(folder / "through.yaml"), duration_s=4.0, run_dir=folder / "run"
        )
    player.kill()
    assert view.stdout.readline() == "ready\n"
    seen = json.loads(view.stdout.read())
    return report, seen, json.loads((folder / "kept.json").read_text())


def test_every_sample_of_the_player_comes_out_again_once_with_its_time(through):
    report, seen, kept = through
    assert report.exit == 0
    values = np.array(seen["values"])
    assert np.array_equal(np.diff(values[:, 0]), np.ones(len(values) - 1))
    assert np.array_equal(values, values[:, :1] + 1000 * np.arange(CHANNELS))
    assert seen["names"] == [f"E{c + 1}" for c in range(CHANNELS)]
    assert (seen["rate"], seen["units"]) == (RATE, ["microvolts"] * CHANNELS)
    # The player plays chunks of 5 and stamps them as their last sample will have been taken.
    steps = np.diff(seen["stamps"])
    assert abs(steps.mean() - 1 / RATE) < 1e-4
    assert all(gap == 0 for _, gap, _, _ in kept["eeg"])
    assert report.nodes["eeg"]["dropped"] == report.nodes["out"]["dropped"] == {}


def test_annotations_of_the_player_come_as_markers(through):
    _, _, kept = through
    labels = [label for _, _, _, label in kept["events"]]
    assert 3 <= len(labels) <= 5
    first = float(labels[0].removeprefix("event "))
    assert labels == [f"event {first + k:g}" for k in range(len(labels))]
    times_ns = np.array([t for t, *_ in kept["events"]])
    assert np.abs(np.diff(times_ns) / 1e9 - 1).max() < 0.1


def test_the_report_tells_how_late_samples_are_and_what_clock_they_have(through):
    report, _, _ = through
    assert report.end_to_end["eeg->out"]["packets"] > 50
    notes = report.nodes["eeg"]["notes"]
    assert notes["clock_correction_us"] == 0
    assert report.nodes["out"]["notes"]["streams"] == {"eeg": "through.eeg"}
