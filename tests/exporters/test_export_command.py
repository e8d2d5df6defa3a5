from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from innervate_command import Said

from exporters.commands.export import export
from models.spikes.gru import GRU, GRUConfig
from models.spikes.trained import Card, Trained, config_of, save_trained
from models.stndt.streaming import StreamingConfig, StreamingSTNDT
from stream.errors import ConfigError, ModelError
from stream.model_file import read_contract
from stream.spikes.nwb import load_recording, write_recording
from stream.spikes.recording import Recording, Series

UNITS = tuple(f"cell {i}" for i in range(6))
WIDTH_S = 0.02


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    times_s = np.arange(600) * WIDTH_S + WIDTH_S / 2
    recording = Recording(
        name="day1", units=UNITS, start_s=0.0, stop_s=600 * WIDTH_S,
        segment_starts_s=np.array([0.0]), counts=random.poisson(0.4, (600, 6)).astype(np.uint8),
        width_s=WIDTH_S, licence="CC0",
        behaviour={
            "hand_vel": Series(times_s, random.standard_normal((600, 2)), ("x", "y"), "m/s")
        },
    )  # fmt: skip
    path = tmp_path_factory.mktemp("data") / "day1.nwb"
    write_recording(recording, path)
    return path


def trained(folder: Path, session: Path, system: str = "stndt") -> Path:
    """Save a network that was calibrated, though not trained."""
    torch.manual_seed(0)
    network = (
        GRU(GRUConfig(n_in=4, n_out=6, hidden=8, behaviour=2))
        if system == "gru"
        else StreamingSTNDT(StreamingConfig(n_in=4, n_out=6, window=5, hidden=8, behaviour=2))
    )
    recording = load_recording(session)
    assert recording.counts is not None
    network.calibrate(
        torch.tensor(recording.counts, dtype=torch.float32), torch.arange(4),
        torch.tensor(recording.behaviour["hand_vel"].values, dtype=torch.float32),
    )  # fmt: skip
    torch.nn.init.normal_(network.head.weight, std=0.2)
    card = Card(
        system=system, network=config_of(network), inputs=UNITS[:4], outputs=UNITS,
        width_s=WIDTH_S, behaviour="hand_vel", columns=("x", "y"), behaviour_unit="m/s",
        trained_on={
            "name": "day1", "sha256": recording.sha256, "licence": "CC0", "file": str(session)
        },
        training={"seed": 0}, scores={"co_bps": 0.1},
    )  # fmt: skip
    save_trained(folder, Trained(network, card))
    return folder


@pytest.mark.parametrize("system", ["stndt", "gru"])
def test_a_trained_folder_becomes_a_model_file_that_knows_its_units_and_its_data(
    tmp_path: Path, session: Path, system: str
) -> None:
    export(trained(tmp_path / "run", session, system), out=tmp_path / "m.onnx")
    contract = read_contract(tmp_path / "m.onnx")
    assert contract.name == f"{system}-day1"
    assert contract.inputs[0].channels == UNITS[:4]
    assert contract.inputs[0].period_s == WIDTH_S
    assert contract.outputs[0].channels == UNITS
    assert (contract.outputs[1].channels, contract.outputs[1].unit) == (("x", "y"), "m/s")
    assert contract.trained_on["licence"] == "CC0"
    assert "file" not in contract.trained_on
    assert contract.training["behaviour"] == "hand_vel"
    assert (contract.scores[0].metric, contract.scores[0].split) == ("co_bps", "validation")


def test_integer_weights_are_scored_on_the_test_part_of_the_recording(
    tmp_path: Path, session: Path
) -> None:
    export(trained(tmp_path / "run", session), out=tmp_path / "m.onnx", quantise="int8")
    contract = read_contract(tmp_path / "m.onnx")
    scores = {score.metric: score.split for score in contract.scores}
    assert scores["co_bps"] == "test"
    assert abs(contract.parity["quantised"]["gained"]["co_bps"]) < 0.05


def test_the_recording_may_have_moved_but_not_changed(tmp_path: Path, session: Path) -> None:
    run = trained(tmp_path / "run", session)
    moved = tmp_path / "moved.nwb"
    moved.write_bytes(session.read_bytes())
    export(run, out=tmp_path / "m.onnx", data=moved)
    recording = load_recording(session)
    other = tmp_path / "other.nwb"
    write_recording(recording, other)
    if load_recording(other).sha256 == recording.sha256:
        pytest.skip("two files of the same recording are the same bytes")
    with pytest.raises(ConfigError, match=r"other\.nwb is not the recording"):
        export(run, out=tmp_path / "again.onnx", data=other)
    assert not (tmp_path / "again.onnx").exists()


def test_a_folder_without_a_trained_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no trained network"):
        export(tmp_path, out=tmp_path / "m.onnx")


def test_mistakes_at_the_command_line_are_sentences(
    innervate_here: Callable[..., Said], tmp_path: Path
) -> None:
    said = innervate_here("export", tmp_path, "--out", tmp_path / "m.onnx", "--quantise", "int2")
    said.refuses("--quantise takes int8 or int4, found 'int2'")


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written; give a file in a folder"):
        export(tmp_path / "nothing trained", out=tmp_path / "nowhere" / "m.onnx")
