"""What `evaluate` prints is what a model does live, and what the metrics say of it."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from typer import Typer
from typer.testing import CliRunner

from models.commands.evaluate_rates import evaluate as command
from models.spikes import metrics
from models.spikes.dataset import prepare, whole
from models.spikes.evaluation import evaluate, find_behaviour
from models.spikes.plots import influence, most_influential, spatial_attention, write_plots
from models.spikes.rate_models import ModelFile, load_model
from models.spikes.trained import Card, Trained, config_of, save_trained
from models.stndt.streaming import StreamingConfig, StreamingSTNDT
from stream.errors import ConfigError, ModelError
from stream.model_file import METADATA_KEY, Contract, Port, State, to_json
from stream.node import Context, Counters, StreamSpec
from stream.nodes.model import Model, ModelSettings
from stream.spikes.bin import BinSettings, SpikesBin
from stream.spikes.nwb import read_recording, write_recording
from stream.spikes.recording import Recording, Series, Trials
from stream.spikes.replay import cut, play

UNITS = tuple(f"u{i}" for i in range(6))
FED = UNITS[:4]
WIDTH_S = 0.02


@pytest.fixture(scope="module")
def recording():
    """Six units driven by a slow velocity, 60 s in three segments, 30 trials of two kinds."""
    rng = np.random.default_rng(1)
    n = 3000
    velocity = np.zeros((n, 2))
    for t in range(1, n):
        velocity[t] = 0.97 * velocity[t - 1] + rng.normal(0, 0.2, 2)
    rates = 20 * np.exp(np.clip(velocity @ rng.normal(0, 0.7, (2, 6)), -3, 3))
    spikes = rng.poisson(rates * WIDTH_S)
    times = np.arange(n) * WIDTH_S
    jittered = [np.sort(np.repeat(times, k) + rng.uniform(0, WIDTH_S, k.sum())) for k in spikes.T]
    starts = np.arange(0.0, 60.0, 2.0)
    return Recording(
        name="reaches",
        units=UNITS,
        start_s=0.0,
        stop_s=60.0,
        segment_starts_s=np.array([0.0, 27.0, 51.5]),
        spike_times_s=tuple(jittered),
        behaviour={
            "hand_vel": Series(times, velocity, ("x", "y"), "m/s"),
            "hand_pos": Series(times, np.cumsum(velocity, 0) * WIDTH_S, ("x", "y"), "m"),
        },
        true_rates=Series(times, rates, UNITS, "Hz"),
        trials=Trials(starts, starts + 1.5, {"condition": np.arange(30) % 2, "go": starts + 0.3}),
    )


def save_model(path, delay=0, behaviour="hand_vel", unit="Hz"):
    """Write a model: exponential averages of the fed units, and linear readouts of them."""
    rng = np.random.default_rng(2)
    weights = {
        "keep": np.array([0.8], np.float32),
        "fresh": np.array([0.2], np.float32),
        "mix": np.abs(rng.normal(0.4, 0.3, (4, 6))).astype(np.float32) / WIDTH_S,
        "floor": np.full(6, 0.5, np.float32),
        "read": rng.normal(0, 0.5, (4, 2)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Mul", ["average", "keep"], ["kept"]),
        helper.make_node("Mul", ["counts", "fresh"], ["added"]),
        helper.make_node("Add", ["kept", "added"], ["average_next"]),
        helper.make_node("MatMul", ["average_next", "mix"], ["mixed"]),
        helper.make_node("Add", ["mixed", "floor"], ["rates"]),
        helper.make_node("MatMul", ["average_next", "read"], ["behaviour"]),
    ]

    def tensor(name, size):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [size])

    graph = helper.make_graph(
        nodes,
        "average",
        [tensor("counts", 4), tensor("average", 4)],
        [tensor("rates", 6), tensor("behaviour", 2), tensor("average_next", 4)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    contract = Contract(
        name="average",
        version="1",
        task="rates",
        inputs=(Port(name="counts", kind="counts", shape=(4,), axes=("unit",), unit="count",
                     channels=FED, period_s=WIDTH_S),),
        outputs=(
            Port(name="rates", kind="rates", shape=(6,), axes=("unit",), unit=unit, channels=UNITS),
            Port(name="behaviour", kind="behaviour", shape=(2,), axes=("column",), unit="m/s",
                 channels=("x", "y")),
        ),
        states=(State(input="average", output="average_next", shape=(4,)),),
        delay_steps=delay,
        training={"behaviour": behaviour} if behaviour else {},
    )  # fmt: skip
    helper.set_model_props(model, {METADATA_KEY: to_json(contract)})
    onnx.save(model, path)
    return path


def live(recording, path):
    """Drive replay, binning and model as a run does, packet by packet."""
    probe = StreamSpec("spikes", (None, 2), "int64", recording.units)
    bins = SpikesBin(BinSettings(width=WIDTH_S, units=FED))
    model = Model(ModelSettings(file=path, device="cpu"))
    bins_specs = bins.outputs({"probe": probe})
    model.outputs({"bins": bins_specs[""]})
    bins.open(Context("bins", {"probe": probe}, path.parent, Counters()))
    model.open(Context("rates", {"bins": bins_specs[""]}, path.parent, Counters()))
    decoded, velocity = {}, {}
    for seq, (_, packet) in enumerate(p for p in play(recording) if p[1].output == ""):
        packet.seq = seq
        for binned in bins.process("probe", packet):
            for out in model.process("bins", binned):
                if out.output == "behaviour":
                    decoded[out.source_ns] = out.data
    for _, packet in play(recording):
        if packet.output == "hand_vel":
            velocity[packet.source_ns] = packet.data
    return decoded, velocity


def test_a_stretch_scores_what_a_live_run_of_it_scores(recording, tmp_path):
    path = save_model(tmp_path / "m.onnx")
    result = evaluate(ModelFile(path), recording, start_s=40.01, length_s=15.0)
    decoded, velocity = live(cut(recording, 40.01, 55.01), path)
    true = [
        np.mean([v for t, v in velocity.items() if start <= t < start + 20_000_000], axis=0)
        for start in decoded
    ]
    ours = metrics.decoding_r2(np.array(list(decoded.values())), np.array(true, np.float32))
    assert len(decoded) == result.conditions["bins"]
    assert result.rows[0]["behaviour_r2"] == pytest.approx(ours.mean(), abs=1e-6)
    assert result.conditions["part"] == "40.01 s to 55.01 s, partly trained on"


def test_the_test_part_is_scored_by_default_with_all_metrics(recording, tmp_path):
    model = ModelFile(save_model(tmp_path / "m.onnx"))
    result = evaluate(model, recording, condition="condition", align="go")
    data = prepare(recording, WIDTH_S, "hand_vel").select("test")
    row, counts = result.rows[0], result.estimate.counts
    assert len(data.counts) == len(counts)
    assert row["co_bps"] == metrics.co_bps(counts, data.counts, [4, 5])
    oracle = metrics.oracle_fraction(counts, data.true_rates)
    assert row["oracle_fraction"] == pytest.approx(oracle)
    assert row["r2_x"] + row["r2_y"] == pytest.approx(2 * row["behaviour_r2"])
    assert {"one_step_bps", "readout_r2", "psth_r2", "log_rate_r2", "rate_r2"} <= row.keys()
    assert result.conditions["units_held_out"] == 2


@pytest.mark.parametrize("value", [3.0, np.nan])
def test_behaviour_that_does_not_change_or_is_not_known_has_no_r2(value, recording, tmp_path):
    velocity = recording.behaviour["hand_vel"]
    values = velocity.values.copy()
    values[1500:, 1] = value
    still = replace(recording, behaviour={"hand_vel": replace(velocity, values=values)})
    result = evaluate(load_model(save_model(tmp_path / "m.onnx")), still)
    assert ("r2_x" in result.rows[0]) == (value == 3.0)  # a bin is known when all of it is
    assert "r2_y" not in result.rows[0]
    path = tmp_path / "still.nwb"
    write_recording(still, path)
    app = Typer()
    app.command()(command)
    said = CliRunner().invoke(
        app, ["stndt", "--data", str(path), "--model", str(tmp_path / "m.onnx")]
    )
    assert said.exit_code == 0, said.output
    missing = "y" if value == 3.0 else "x, y"
    assert f"no R2 of {missing}: hand_vel does not change there" in " ".join(said.output.split())


def test_the_model_starts_afresh_in_every_segment(recording, tmp_path):
    model = ModelFile(save_model(tmp_path / "m.onnx"))
    data = prepare(recording, WIDTH_S).select("test")
    last = data.segment == data.segment[-1]
    alone = replace(data, counts=data.counts[last], segment=data.segment[last])
    assert np.array_equal(model.run(alone).counts, model.run(data).counts[last])


def test_an_output_that_comes_later_counts_for_the_bin_it_is_for(recording, tmp_path):
    data = prepare(recording, WIDTH_S).select("test")
    now = ModelFile(save_model(tmp_path / "now.onnx")).run(data).counts
    late = ModelFile(save_model(tmp_path / "late.onnx", delay=3)).run(data).counts
    first = np.flatnonzero(data.segment == data.segment[0])
    assert np.array_equal(late[first[:-3]], now[first[3:]])
    assert np.isnan(late[first[-3:]]).all()
    result = evaluate(ModelFile(tmp_path / "late.onnx"), recording)
    assert np.isfinite([v for v in result.rows[0].values() if isinstance(v, float)]).all()


def test_rivals_are_fitted_on_the_training_part_and_stand_beside_the_model(recording, tmp_path):
    model = ModelFile(save_model(tmp_path / "m.onnx"))
    said = []
    result = evaluate(model, recording, baselines=True, on_step=said.append)
    rows = {str(row["model"]): row for row in result.rows}
    assert list(rows) == [
        "average", "Poisson GLM", "smoothing", "Wiener", "perceptron", "Kalman",
    ]  # fmt: skip
    assert rows["Poisson GLM"]["co_bps"] > max(0.0, rows["average"]["co_bps"])
    assert rows["Wiener"]["behaviour_r2"] > 0.3
    assert rows["Kalman"]["behaviour_r2"] > 0.3
    assert len(said) == 7


def test_behaviour_is_found_by_name_and_refused_where_it_is_unclear(recording, tmp_path):
    named = ModelFile(save_model(tmp_path / "a.onnx"))
    assert find_behaviour(recording, named) == "hand_vel"
    with pytest.raises(ConfigError, match="several"):
        find_behaviour(recording, ModelFile(save_model(tmp_path / "b.onnx", behaviour="")))
    with pytest.raises(ConfigError, match="none like that"):
        find_behaviour(replace(recording, behaviour={}), named)


def test_a_recording_without_the_model_s_units_is_refused(recording, tmp_path):
    renamed = replace(recording, units=("a", *UNITS[1:]))
    with pytest.raises(ConfigError, match="'u0'"):
        evaluate(ModelFile(save_model(tmp_path / "m.onnx")), renamed)


def test_rates_in_an_unknown_unit_are_refused(recording, tmp_path):
    model = ModelFile(save_model(tmp_path / "m.onnx", unit="count"))
    with pytest.raises(ModelError, match="expected rates in Hz"):
        evaluate(model, recording)


def test_the_command_prints_a_table_and_writes_json_and_plots(recording, tmp_path):
    path = save_model(tmp_path / "m.onnx")
    write_recording(recording, tmp_path / "x.nwb")
    app = Typer()
    app.command()(command)
    told = [
        "stndt", "--data", str(tmp_path / "x.nwb"), "--model", str(path),
        "--json", str(tmp_path / "t.json"), "--plots", str(tmp_path / "plots"),
        "--condition", "condition",
    ]  # fmt: skip
    done = CliRunner().invoke(app, told, catch_exceptions=False)
    assert done.exit_code == 0
    assert "co-bps" in done.output
    assert "no picture of spatial attention" in done.output
    table = json.loads((tmp_path / "t.json").read_text())
    direct = evaluate(ModelFile(path), read_recording(tmp_path / "x.nwb"), condition="condition")
    assert table["name"] == "evaluate"
    assert table["rows"] == direct.rows
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {
        "rates.png", "psths.png", "behaviour.png",
    }  # fmt: skip


def test_a_stretch_without_a_unit_of_time_is_refused_by_the_command(recording, tmp_path):
    app = Typer()
    app.command()(command)
    write_recording(recording, tmp_path / "x.nwb")
    path = save_model(tmp_path / "m.onnx")
    told = ["stndt", "--data", str(tmp_path / "x.nwb"), "--model", str(path), "--start", "90"]
    with pytest.raises(ConfigError, match="--start: expected a number with a unit"):
        CliRunner().invoke(app, told, catch_exceptions=False)


@pytest.mark.parametrize("look_ahead", [0, 3])
def test_a_trained_folder_is_judged_by_what_its_steps_give(recording, tmp_path, look_ahead):
    torch.manual_seed(0)
    config = StreamingConfig(
        n_in=4, n_out=6, window=8, behaviour=2, look_ahead=look_ahead, spatial="recursive"
    )
    network = StreamingSTNDT(config).eval()
    network.head.weight.data.normal_(0, 0.1)
    card = Card(
        system="stndt", network=config_of(network), inputs=FED, outputs=UNITS, width_s=WIDTH_S,
        behaviour="hand_vel", columns=("x", "y"),
    )  # fmt: skip
    save_trained(tmp_path / "trained", Trained(network, card))
    model = load_model(tmp_path / "trained")
    data = whole(cut(recording, 28.0, 29.0), WIDTH_S, "hand_vel")
    state, stepped = network.start(), []
    for row in data.counts[:, :4]:
        log_counts, _, state = network.step(torch.from_numpy(row), state)
        stepped.append(log_counts.exp().numpy())
    estimate = model.run(data).counts
    np.testing.assert_allclose(
        estimate[: len(data.counts) - look_ahead], stepped[look_ahead:], rtol=1e-4
    )
    assert np.isnan(estimate[len(data.counts) - look_ahead :]).all()
    attention = model.attention(data)
    assert attention.shape == (6, 6)
    np.testing.assert_allclose(attention.sum(axis=1), 1)


def test_spatial_attention_is_drawn_with_the_most_influential_units_named(recording, tmp_path):
    attention = np.full((6, 6), 0.1)
    attention[:, 3] = 0.5
    model = ModelFile(save_model(tmp_path / "m.onnx"))
    result = evaluate(model, recording)
    drawn = write_plots(result, tmp_path, attention, UNITS)
    assert "spatial_attention.png" in {path.name for path in drawn}
    names = [t.get_text() for t in spatial_attention(attention, UNITS).axes[1].get_yticklabels()]
    assert names[0] == "u3"
    assert most_influential(attention, UNITS, 1) == ["u3"]
    assert influence(attention)[3] == pytest.approx(0.5)
