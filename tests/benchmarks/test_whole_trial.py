"""The benchmark of the whole-trial STNDT trains, teaches and reports on a small simulation."""

import json

import numpy as np

from benchmarks import _courses, whole_trial
from stream.spikes.nwb import write_recording
from stream.spikes.recording import Recording, Series, Trials


def test_rows_hold_the_published_network_and_those_that_were_taught(tmp_path, monkeypatch):
    monkeypatch.setattr(_courses, "CHOICES", {"groups": (2, 4), "rank": (2,), "smooth": (10.0,)})
    rng = np.random.default_rng(0)
    trials, bins, units = 40, 20, 4
    phase = 6 * rng.random((trials, 1))
    drive = np.sin(np.linspace(0, 6, bins) + phase).reshape(-1, 1) * np.ones(units)
    rates = 30 * np.exp(drive)
    starts = np.arange(trials) * bins * 0.02
    recording = Recording(
        name="waves",
        units=("a", "b", "c", "d"),
        start_s=0.0,
        stop_s=trials * bins * 0.02,
        segment_starts_s=starts,
        counts=rng.poisson(rates * 0.02),
        width_s=0.02,
        true_rates=Series(np.arange(trials * bins) * 0.02, rates, ("a", "b", "c", "d"), "Hz"),
        trials=Trials(
            starts,
            starts + bins * 0.02,
            {"split": np.where(np.arange(trials) % 5, "train", "test")},
        ),
    )
    write_recording(recording, tmp_path / "waves.nwb")
    result = whole_trial.run(
        data=tmp_path / "waves.nwb", json_path=tmp_path / "t.json", share=0.002
    )
    assert [row["network"] for row in result["rows"]] == [
        "published",
        "published, taught by the courses",
        "gru, causal, taught by the courses",
        "stndt, causal, taught by the courses",
    ]
    assert result["courses"]["groups"] in _courses.CHOICES["groups"]
    assert result["conditions"]["bins"] == bins
    assert all(np.isfinite(row["oracle_fraction"]) for row in result["rows"])
    assert json.loads((tmp_path / "t.json").read_text())["rows"] == result["rows"]
