"""No recurrent model is written whose state amplifies what it should forget."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from exporters import stability
from exporters.commands.stability import stability as stability_command
from exporters.export import Description, export_baseline, export_network
from models.spikes.baselines.kalman import Kalman
from models.spikes.baselines.wiener import Wiener
from models.spikes.gru import GRU, GRUConfig
from models.stndt.streaming import StreamingConfig, StreamingSTNDT
from stream.commands.inspect import inspect
from stream.errors import ModelError
from stream.model_file import read_contract
from stream.stability.measuring import Effort

UNITS = tuple(f"u{i}" for i in range(6))
ABOUT = Description(name="small", version="1", inputs=UNITS, outputs=UNITS, width_s=0.02)
COUNTS = np.random.default_rng(0).poisson(0.5, (400, 6)).astype(np.float32)


@pytest.fixture(autouse=True)
def _thoroughly(_stability_measured_in_short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stability, "EFFORT", Effort(sequences=2, steps=100, warm_up=40))


def gru(gain: float) -> GRU:
    torch.manual_seed(0)
    network = GRU(GRUConfig(n_in=6, n_out=6, hidden=16)).eval()
    with torch.no_grad():
        network.gru.weight_hh_l0.mul_(gain)
    return network


def test_a_stable_gru_is_written_with_its_exponent_and_its_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    export_network(gru(1.0), ABOUT, COUNTS, path)
    found = read_contract(path).stability
    assert found is not None
    assert found.stable
    assert found.largest_exponent < -0.05
    assert found.period_s == 0.02
    inspect(path)
    shown = capsys.readouterr().out
    assert "pass" in shown
    assert "nats a step" in shown
    assert "fades by e in" in shown


def test_a_chaotic_gru_is_refused_and_written_only_when_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ModelError, match=r"small is unstable: .* nothing was written"):
        export_network(gru(12.0), ABOUT, COUNTS, path)
    assert not path.exists()
    export_network(gru(12.0), ABOUT, COUNTS, path, allow_unstable=True)
    found = read_contract(path).stability
    assert found is not None
    assert not found.stable
    assert found.allowed
    assert found.largest_exponent > 0.01
    inspect(path)
    assert "FAIL" in capsys.readouterr().out


def test_a_streaming_stndt_says_after_how_many_bins_it_forgets(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = StreamingSTNDT(
        StreamingConfig(
            n_in=6, n_out=6, window=9, course=5, layers=2, heads=2, head_width=2, hidden=8
        )
    ).eval()
    with torch.no_grad():
        network.head.weight.normal_()
    found = export_network(network, ABOUT, COUNTS, tmp_path / "m.onnx").stability
    assert found is not None
    # Two rings of keys and one of courses; one of W bins, the newest included, remembers W - 1.
    assert found.window_steps == 2 * (9 - 1) + (5 - 1)
    assert found.clocks == ("slot", "course_slot")
    # The averages of spikes: the slowest has a time constant of 10 bins.
    assert found.largest_exponent == pytest.approx(-0.1, abs=1e-3)
    assert found.spread < 1e-4


def test_baselines_say_how_they_forget(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    about = Description(
        name="small", version="1", inputs=UNITS, outputs=UNITS, width_s=0.02,
        columns=("x", "y"), behaviour_unit="m/s",
    )  # fmt: skip
    mean = random.random(6)
    lags = Wiener(mean, random.standard_normal((4, 6, 2)), random.standard_normal(2))
    found = export_baseline(lags, about, COUNTS, tmp_path / "wiener.onnx").stability
    assert found is not None
    assert (found.window_steps, found.largest_exponent) == (3, None)
    transition = np.array([[0.8, 0.1], [0, 0.7]])
    filtered = Kalman(
        random.standard_normal(2), mean, transition, random.standard_normal((2, 6)), np.arange(2)
    )
    found = export_baseline(filtered, about, COUNTS, tmp_path / "kalman.onnx").stability
    assert found is not None
    assert found.largest_exponent == pytest.approx(np.log(0.8), abs=1e-3)


def test_the_command_writes_figures_into_a_file_and_changes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    export_network(gru(1.0), ABOUT, COUNTS, path)
    before = read_contract(path)
    content = path.read_bytes()
    monkeypatch.setattr("exporters.commands.stability.real_inputs", lambda *_: COUNTS)
    stability_command(path)
    assert path.read_bytes() == content
    monkeypatch.setattr(stability, "EFFORT", Effort(sequences=2, steps=30, warm_up=10))
    stability_command(path, write=True, json_file=tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text())["steps"] == 30
    after = read_contract(path)
    assert after.stability is not None
    assert after.stability.steps == 30
    assert (after.scores, after.parity, after.version) == (
        before.scores, before.parity, before.version,
    )  # fmt: skip


def test_the_command_ends_with_1_for_an_unstable_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    export_network(gru(12.0), ABOUT, COUNTS, path, allow_unstable=True)
    monkeypatch.setattr("exporters.commands.stability.real_inputs", lambda *_: COUNTS)
    with pytest.raises(typer.Exit) as ended:
        stability_command(path)
    assert ended.value.exit_code == 1
