"""The graph of a file of spikes in a real run, recorded."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import yaml
from pynwb import NWBHDF5IO

from stream.connectome.estimators import estimator
from stream.connectome.statistics import Statistics

PIPELINE = {
    "probe": {"use": "spikes.replay", "file": "switching.npz", "speed": "max"},
    "bins": {"use": "spikes.bin", "from": "probe", "width": "1 ms"},
    "graphs": {
        "use": "stream.connectome.connectome:Connectome", "from": "bins", "window": "2 s",
        "every": "100 ms",
    },
    "saved": {"use": "record", "from": ["bins", "graphs", "graphs.change"], "file": "live.nwb"},
    "view": {"use": "console", "from": ["graphs", "graphs.change"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("connectome")
    simulate = [sys.executable, "-m", "models.connectome.switching", "--out"]
    command = [*simulate, str(folder / "switching.npz"), "--units", "5", "--seconds", "8"]
    subprocess.run(command, check=True, timeout=60)
    pipeline = folder / "p.yaml"
    pipeline.write_text(yaml.safe_dump({"name": "connectome", "nodes": PIPELINE}))
    run = subprocess.run(
        [sys.executable, "-c", "from stream.commands import main; main()", "run", str(pipeline)],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return folder, run.stdout


def test_the_recorded_graphs_are_those_of_the_recorded_bins(recorded):
    folder, _ = recorded
    with NWBHDF5IO(str(folder / "live.nwb"), "r") as io:
        file = io.read()
        series = file.processing["connectivity"]["graphs"]
        graphs, names = np.array(series.data), series.comments
        assert "from, to, (edge, weight, p-value" in series.description
        counts = np.array(file.processing["ecephys"]["binned_spikes"].data)
        change = np.array(file.processing["behavior"]["change"].data)
    assert names == "columns=[unit00,unit01,unit02,unit03,unit04]"
    last = Statistics.of(counts[-2001:], 1)
    expected = estimator("counts", 0.05).estimate(last)
    np.testing.assert_array_equal(graphs[-1, ..., 0] > 0, expected.edges)
    np.testing.assert_allclose(graphs[-1, ..., 2], expected.p, rtol=1e-5)
    assert (change[-1, 1], change[-1, 2], change[-1, 3]) == (expected.edges.sum(), 2000, 1)


def test_the_console_says_how_large_and_how_old_the_graph_is(recorded):
    _, said = recorded
    assert "graphs: 5 units" in said
    assert "1.0 s old" in said
