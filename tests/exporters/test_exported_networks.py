from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from exporters.baselines import Baseline
from exporters.export import Description, export_baseline, export_network
from exporters.model_writer import write_model
from exporters.onnx_graph import Graph
from exporters.published import published_window
from exporters.quantise import quantise_blocks
from exporters.stndt import merges_heads
from exporters.stndt_window import causal_window
from exporters.verify import find_in_place
from models.spikes.baselines.glm import PoissonGlm
from models.spikes.baselines.kalman import Kalman
from models.spikes.baselines.mlp import Mlp
from models.spikes.baselines.smoothing import Smoothing
from models.spikes.baselines.wiener import Wiener
from models.spikes.gru import GRU, GRUConfig
from models.stndt.published import PublishedConfig, PublishedSTNDT
from models.stndt.streaming import StreamingConfig, StreamingSTNDT
from stream.errors import ModelError
from stream.inference import StreamingSession
from stream.model_file import Contract, Port, Score, read_contract

N_IN, N_OUT, WINDOW, WIDTH_S = 5, 8, 6, 0.02
UNITS = tuple(f"u{i}" for i in range(N_OUT))


def streaming(*, head_width: int = 2, **settings: object) -> StreamingSTNDT:
    config = StreamingConfig(
        n_in=N_IN, n_out=N_OUT, window=WINDOW, layers=2, heads=2, head_width=head_width, hidden=12,
        **settings,  # type: ignore[arg-type]
    )  # fmt: skip
    return shaken(StreamingSTNDT(config))


def shaken(network):
    """Give every parameter and scale a value that matters, as training would."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for name, buffer in network.named_buffers():
            if "mean" in name:
                buffer.add_(0.3 * torch.rand_like(buffer))
            elif "std" in name:
                buffer.mul_(0.5 + torch.rand_like(buffer))
    return network.eval()


def description(columns: tuple[str, ...] = (), outputs: tuple[str, ...] = UNITS) -> Description:
    return Description(
        name="small", version="1", inputs=UNITS[:N_IN], outputs=outputs, width_s=WIDTH_S,
        columns=columns, behaviour_unit="m/s" if columns else "",
        trained_on={"name": "made up", "sha256": "0" * 64, "licence": "CC0"},
        training={"seed": 1}, scores=(Score(metric="co-bps", value=0.2, data="made up"),),
    )  # fmt: skip


def counts(bins: int = 90, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.5, (bins, N_IN)).astype(np.float32)


def stepped(path: Path, fed: np.ndarray) -> dict[str, np.ndarray]:
    session = StreamingSession(path, "cpu")
    steps = [session.step({"counts": row}) for row in fed]
    return {name: np.stack([s[name] for s in steps]) for name in steps[0]}


def full_run(network: torch.nn.Module, fed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        log_counts, behaviour = network(
            torch.from_numpy(fed)[None], torch.zeros(1, len(fed), dtype=torch.long)
        )
    return log_counts[0].exp().numpy() / WIDTH_S, behaviour[0].numpy()


@pytest.mark.parametrize("spatial", ["none", "frozen", "recursive", "exact"])
@pytest.mark.parametrize("head_width", [2, 5])
@pytest.mark.parametrize("look_ahead", [0, 2])
def test_the_exported_step_is_the_full_causal_run_from_cold_and_after_the_window_has_wrapped(
    tmp_path: Path, spatial: str, head_width: int, look_ahead: int
) -> None:
    network = streaming(spatial=spatial, head_width=head_width, look_ahead=look_ahead, behaviour=2)
    assert merges_heads(network.config) == (head_width == 5)
    path = tmp_path / "m.onnx"
    contract = export_network(network, description(("vx", "vy")), counts(), path)
    fed = counts(7 * WINDOW, seed=5)
    found = stepped(path, fed)
    rates, behaviour = full_run(network, fed)
    np.testing.assert_allclose(found["rates"], rates, rtol=1e-4)
    np.testing.assert_allclose(found["behaviour"], behaviour, atol=1e-4 * behaviour.std())
    assert contract.delay_steps == look_ahead
    assert all(state.in_place for state in contract.states)
    assert contract.parity["rates"]["cold"] < 1e-4
    assert contract.parity["rates"]["wrapped"] < 1e-4


@pytest.mark.parametrize("course", [1, WINDOW - 2, WINDOW, WINDOW + 3])
def test_courses_of_any_length_are_exported_beside_the_window(tmp_path: Path, course: int) -> None:
    network = streaming(course=course)
    path = tmp_path / "m.onnx"
    contract = export_network(network, description(), counts(), path)
    fed = counts(7 * WINDOW, seed=5)
    np.testing.assert_allclose(stepped(path, fed)["rates"], full_run(network, fed)[0], rtol=1e-4)
    assert all(state.in_place for state in contract.states)
    assert {s.input: s.shape for s in contract.states}["course"] == (course, N_OUT)


def test_state_starts_afresh_when_the_session_is_reset(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    export_network(streaming(), description(), counts(), path)
    session = StreamingSession(path, "cpu")
    first = [session.step({"counts": row})["rates"] for row in counts(20)]
    session.reset()
    again = [session.step({"counts": row})["rates"] for row in counts(20)]
    np.testing.assert_array_equal(first, again)


def test_the_gru_is_exported_with_rates_and_behaviour(tmp_path: Path) -> None:
    network = shaken(GRU(GRUConfig(n_in=N_IN, n_out=N_OUT, hidden=7, behaviour=1)))
    path = tmp_path / "m.onnx"
    export_network(network, description(("speed",)), counts(), path)
    fed = counts(50, seed=5)
    rates, behaviour = full_run(network, fed)
    found = stepped(path, fed)
    np.testing.assert_allclose(found["rates"], rates, rtol=1e-4)
    np.testing.assert_allclose(found["behaviour"], behaviour, atol=1e-4 * behaviour.std())


def test_a_network_that_decodes_next_to_nothing_is_exported(tmp_path: Path) -> None:
    network = streaming(behaviour=2)
    with torch.no_grad():
        network.scales.behaviour_mean.fill_(100.0)
        network.scales.behaviour_std.fill_(20.0)
        network.head.weight[N_OUT:] *= 1e-5
    path = tmp_path / "m.onnx"
    export_network(network, description(("x", "y")), counts(), path)
    fed = counts(7 * WINDOW, seed=5)
    np.testing.assert_allclose(
        stepped(path, fed)["behaviour"], full_run(network, fed)[1], atol=1e-4
    )


def test_the_file_says_what_it_takes_gives_and_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    written = export_network(streaming(behaviour=2), description(("vx", "vy")), counts(), path)
    contract = read_contract(path)
    assert contract == written
    assert contract.inputs == (
        Port(
            name="counts", kind="counts", shape=(N_IN,), axes=("unit",), unit="count",
            channels=UNITS[:N_IN], period_s=WIDTH_S,
        ),
    )  # fmt: skip
    rates, behaviour = contract.outputs
    assert (rates.kind, rates.unit, rates.channels) == ("rates", "Hz", UNITS)
    assert (behaviour.kind, behaviour.unit, behaviour.channels) == (
        "behaviour", "m/s", ("vx", "vy"),
    )  # fmt: skip
    assert contract.task == "rates and behaviour"
    assert contract.trained_on["licence"] == "CC0"
    assert contract.scores[0].value == 0.2
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


class Dishonest(StreamingSTNDT):
    """Its full run says something else than its step."""

    def forward(self, counts, segment, keep=None):
        log_counts, behaviour = super().forward(counts, segment, keep)
        return log_counts + 0.001, behaviour


def test_nothing_is_written_when_step_and_full_run_disagree(tmp_path: Path) -> None:
    network = Dishonest(streaming().config).eval()
    path = tmp_path / "m.onnx"
    path.write_bytes(b"an older file")
    with pytest.raises(ModelError, match=r"differs from the full run by 1\.0e-03"):
        export_network(network, description(), counts(), path)
    assert path.read_bytes() == b"an older file"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be written"):
        export_network(streaming(), description(), counts(), tmp_path / "none" / "m.onnx")


@pytest.mark.parametrize(("weights", "allowed"), [("int8", 0.05), ("int4", 0.6)])
def test_integer_weights_change_rates_little_and_the_file_says_how_much(
    tmp_path: Path, weights: str, allowed: float
) -> None:
    network = streaming()
    contract = export_network(
        network, description(), counts(), tmp_path / "m.onnx", weights=weights  # type: ignore[arg-type]
    )  # fmt: skip
    change = contract.parity["quantised"]
    assert change["weights"] == weights
    assert 0 < change["rates"]["median"] < allowed
    fed = counts(60, seed=5)
    rates, _ = full_run(network, fed)
    error = np.abs(stepped(tmp_path / "m.onnx", fed)["rates"] / rates - 1)
    assert np.median(error) < allowed


def test_the_file_with_integer_weights_holds_its_own_scores_and_what_they_cost(
    tmp_path: Path,
) -> None:
    def size_in_bytes(path: Path) -> dict[str, float]:
        return {"bytes": float(path.stat().st_size)}

    path = tmp_path / "m.onnx"
    contract = export_network(
        streaming(), description(), counts(), path, weights="int8", score=size_in_bytes
    )
    (score,) = contract.scores
    assert (score.metric, score.data, score.split) == ("bytes", "made up", "test")
    assert contract.parity["quantised"]["gained"]["bytes"] != 0
    assert read_contract(path) == contract


@pytest.mark.parametrize(("bits", "allowed"), [(8, 0.02), (4, 0.15)])
@pytest.mark.parametrize("k", [1, 31, 32, 100])
def test_blocks_are_what_onnx_runtime_multiplies_with(bits: int, allowed: float, k: int) -> None:
    random = np.random.default_rng(k)
    weight, x = random.standard_normal((k, 7)), random.standard_normal((1, k)).astype(np.float32)
    graph = Graph("product", bits)
    graph.output(graph.linear(graph.input("x", (1, k)), weight), "y", (1, 7))
    session = ort.InferenceSession(graph.model().SerializeToString())
    found = session.run(None, {"x": x})[0]
    error = np.linalg.norm(found - x @ weight) / np.linalg.norm(x @ weight)
    assert error < allowed


def test_blocks_of_zeros_stay_zero() -> None:
    blocks, scales, _ = quantise_blocks(np.zeros((64, 3)), 8)
    assert (blocks == 128).all()
    assert np.isfinite(scales).all()


def baselines() -> list[Baseline]:
    random = np.random.default_rng(3)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape)

    decay, mean = np.array([0.3, 0.8]), random.random(N_IN)
    return [
        Smoothing(0.7, mean, 0.1),
        PoissonGlm(
            decay=decay, weights=normal(2, N_IN, 3), bias=normal(3), ceiling=np.full(3, 4.0),
            **({"penalty": 0.1} if "penalty" in PoissonGlm.__dataclass_fields__ else {}),
        ),
        Wiener(mean, normal(4, N_IN, 2), normal(2)),
        Wiener(mean, normal(1, N_IN, 2), normal(2)),
        Mlp(mean, 1 + mean, (normal(3 * N_IN, 6), normal(6, 2)), (normal(6), normal(2)), 3),
        Kalman(normal(2), mean, np.array([[0.8, 0.1], [0, 0.7]]), normal(2, N_IN), np.arange(2)),
        Kalman(
            normal(3), mean, np.diag([0.8, 0.7, 0.6]), normal(3, N_IN), np.array([2, 1])
        ),
    ]  # fmt: skip


@pytest.mark.parametrize("model", baselines(), ids=lambda model: type(model).__name__)
def test_a_baseline_runs_live_as_it_predicts(tmp_path: Path, model: Baseline) -> None:
    outputs = UNITS[:N_IN] if isinstance(model, Smoothing) else UNITS[:3]
    path = tmp_path / "m.onnx"
    contract = export_baseline(model, description(("x", "y"), outputs), counts(), path)
    (port,) = contract.outputs
    fed = counts(70, seed=5)
    expected = model.predict(fed, np.zeros(len(fed), np.int64))
    if port.kind == "rates":
        expected = expected / WIDTH_S
    np.testing.assert_allclose(stepped(path, fed)[port.name], expected, rtol=1e-4, atol=1e-4)


def test_a_state_that_is_read_after_it_was_written_is_not_updated_in_place() -> None:
    graph = Graph("late reader")
    fed, old = graph.input("counts", (2,)), graph.state("total", (2,))
    new = graph.carry("total", graph.op("Add", old, fed))
    # Needs the old total once the new one is there.
    graph.output(graph.op("Mul", graph.op("Exp", new), old), "rates", (2,))
    step = graph.step()
    port = Port(name="counts", kind="counts", shape=(2,), axes=("unit",), unit="", channels=())
    contract = Contract(
        name="late", version="1", task="rates", inputs=(port,), states=step.states,
        outputs=(
            Port(name="rates", kind="rates", shape=(2,), axes=("unit",), unit="Hz", channels=()),
        ),
    )  # fmt: skip
    found = find_in_place(step, contract, np.ones((5, 2), np.float32))
    assert [state.in_place for state in found.states] == [False]


def test_a_contract_that_does_not_fit_is_found_before_the_file_changes(tmp_path: Path) -> None:
    graph = Graph("nothing")
    graph.output(graph.op("Exp", graph.input("x", (2,))), "y", (2,))
    with pytest.raises(ModelError):
        write_model(
            graph.model(),
            Contract(name="n", version="1", task="t", inputs=(), outputs=()),
            tmp_path / "m.onnx",
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spatial", ["none", "frozen"])
@pytest.mark.parametrize("last_only", [False, True])
def test_the_window_that_a_step_is_measured_against_is_the_same_network(
    spatial: str, last_only: bool
) -> None:
    network = streaming(spatial=spatial)
    fed = counts(WINDOW)
    rates, _ = full_run(network, fed)
    with torch.no_grad():
        v = torch.log1p(torch.from_numpy(fed)) - network.scales.input_mean
        averages = network._averages(v[None], torch.zeros(1, WINDOW, dtype=torch.long))[0]
    features = torch.cat([v, averages], dim=-1).numpy()
    model = causal_window(network, WIDTH_S, last_only=last_only)
    found = run_once(model, {"features": features})
    np.testing.assert_allclose(found, rates[-1:] if last_only else rates, rtol=1e-4)


def test_the_published_window_is_the_published_network() -> None:
    config = PublishedConfig(
        units=N_OUT, bins=10, inputs=tuple(range(N_IN)), layers=2, context_back=3, context_ahead=2
    )
    network = shaken(PublishedSTNDT(config))
    fed = torch.from_numpy(counts(10))[None]
    with torch.no_grad():
        rates = network.run_trials(fed)[0][0].exp().numpy() / WIDTH_S
    found = run_once(published_window(network, WIDTH_S), {"counts": network.fill(fed)[0].numpy()})
    np.testing.assert_allclose(found, rates, rtol=1e-4)


def run_once(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return ort.InferenceSession(model.SerializeToString()).run(None, inputs)[0]
