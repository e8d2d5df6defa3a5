"""From a recording to a live baseline with the commands that networks take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from innervate_command import innervate

from exporters.commands.export import export
from models.commands.train_baseline import train
from models.spikes.baselines.fitting import RATES
from models.spikes.baselines.storing import BASELINES
from models.spikes.evaluation import evaluate
from models.spikes.rate_models import load_model
from models.spikes.trained import load_trained
from models.trained_folder import WEIGHTS
from stream.errors import ConfigError, ModelError, RecordingError
from stream.model_file import read_contract
from stream.spikes.nwb import load_recording, write_recording
from stream.spikes.simulation import simulate_recording


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "reaches.nwb"
    write_recording(simulate_recording("reaches", 10, 60.0, seed=0, mean_rate_hz=20.0), path)
    return path


@pytest.fixture(scope="module")
def held_out(session: Path) -> str:
    recording = load_recording(session)
    draws = session.with_name("draws.json")
    draws.write_text(json.dumps({recording.name: [recording.units[2:5]]}))
    return f"{draws}:0"


@pytest.mark.parametrize("system", BASELINES)
def test_a_baseline_is_trained_exported_and_steps_live_as_it_was_fitted(
    system: str, session: Path, held_out: str, tmp_path: Path
) -> None:
    decodes = system not in RATES
    train(
        system, data=session, out=tmp_path / "fit", held_out="" if decodes else held_out,
        behaviour="hand_vel" if decodes else "",
    )  # fmt: skip
    export(tmp_path / "fit", out=tmp_path / "m.onnx")
    recording = load_recording(session)
    (whole,) = evaluate(load_model(tmp_path / "fit"), recording).rows
    (stepped,) = evaluate(load_model(tmp_path / "m.onnx"), recording).rows
    figures = {name for name in whole if name != "model"}
    assert figures >= {
        "smoothing": {"one_step_bps"}, "glm": {"co_bps", "one_step_bps"},
    }.get(system, {"behaviour_r2"})  # fmt: skip
    for name in figures:
        assert stepped[name] == pytest.approx(whole[name], abs=1e-4)
    contract = read_contract(tmp_path / "m.onnx")
    assert contract.name == f"{system}-{recording.name}"
    assert contract.outputs[0].kind == ("behaviour" if decodes else "rates")
    assert len(contract.outputs[0].channels) == {"smoothing": 7, "glm": 10}.get(system, 2)


def test_the_rivals_of_a_model_are_the_baselines_that_are_trained(
    session: Path, held_out: str, tmp_path: Path
) -> None:
    train("glm", data=session, out=tmp_path / "glm", held_out=held_out)
    result = evaluate(load_model(tmp_path / "glm"), load_recording(session), baselines=True)
    own, rival = result.rows[0], result.rows[1]
    assert rival["model"] == "Poisson GLM"
    assert own["co_bps"] == pytest.approx(rival["co_bps"])
    assert own["one_step_bps"] == pytest.approx(rival["one_step_bps"])


def test_what_does_not_fit_a_baseline_is_refused_with_the_reason(
    session: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"name it with --behaviour \(has: .*hand_vel"):
        train("wiener", data=session, out=tmp_path / "fit")
    with pytest.raises(ConfigError, match="leave --behaviour out"):
        train("smoothing", data=session, out=tmp_path / "fit", behaviour="hand_vel")
    with pytest.raises(RecordingError, match="has too little for a glm"):
        train("glm", data=session, out=tmp_path / "fit", bin_width="6 s")
    with pytest.raises(ConfigError, match="--seed: nothing about a kalman is drawn"):
        train("kalman", data=session, out=tmp_path / "fit", behaviour="hand_vel", seed=1)
    train("smoothing", data=session, out=tmp_path / "fit")
    with pytest.raises(ConfigError, match="holds a training already"):
        train("smoothing", data=session, out=tmp_path / "fit")
    with pytest.raises(ConfigError, match="--quantise is for networks"):
        export(tmp_path / "fit", out=tmp_path / "m.onnx", quantise="int8")
    torch.save({"decay": 0.5}, tmp_path / "fit" / WEIGHTS)
    with pytest.raises(ModelError, match="holds no readable trained network"):
        load_trained(tmp_path / "fit")


def test_the_commands_take_the_name_of_a_baseline(session: Path, tmp_path: Path) -> None:
    def told(*arguments: str) -> str:
        done = innervate(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    data, fit = ("--data", str(session)), str(tmp_path / "fit")
    said = told("train", "wiener", *data, "--behaviour", "hand_vel", "--out", fit)
    assert f"next: innervate export {fit} --out model.onnx" in said
    told("export", fit, "--out", str(tmp_path / "w.onnx"))
    assert "R2" in told("evaluate", "wiener", *data, "--model", str(tmp_path / "w.onnx"))
