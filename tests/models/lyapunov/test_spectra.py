"""Exponents are those that are known, of maps, flows and recurrent layers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import jacfwd

from exporters.gru import gru_step
from exporters.onnx_graph import StepGraph
from exporters.recurrent import lstm_step
from models.lyapunov.spectrum import lyapunov_spectrum
from models.lyapunov.steps import RecurrentStep, gru_baseline_step
from models.lyapunov.systems import (
    HENON,
    LORENZ,
    LORENZ_STEP,
    chaotic_lstm,
    exponent_of_h_alone,
    henon,
    linear,
    lorenz,
    random_network,
)
from models.spikes.gru import GRU, GRUConfig
from stream.model_file import Contract, Port
from stream.stability.differences import model_spectrum
from stream.stability.parts import ModelStep, find_parts

DOUBLE = torch.float64


def nothing(sequences: int, steps: int) -> torch.Tensor:
    return torch.zeros(sequences, steps, 0, dtype=DOUBLE)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def test_a_linear_map_has_the_logarithms_of_its_eigenvalues() -> None:
    torch.manual_seed(0)
    basis = normal(6, 6)
    values = torch.tensor([1.2, -0.9, 0.7, 0.5, -0.3, 0.1], dtype=DOUBLE)
    matrix = basis @ torch.diag(values) @ torch.linalg.inv(basis)
    found = lyapunov_spectrum(linear(matrix), normal(6), nothing(1, 260), warm_up=160)
    np.testing.assert_allclose(found.mean, values.abs().log(), atol=1e-3)


def test_a_rotation_neither_grows_nor_fades() -> None:
    rotation = torch.linalg.qr(normal(8, 8))[0]
    found = lyapunov_spectrum(linear(rotation), normal(8), nothing(1, 40), warm_up=10)
    np.testing.assert_allclose(found.mean, 0, atol=1e-12)
    assert found.near_zero == 8


def test_the_henon_map_has_its_exponents() -> None:
    found = lyapunov_spectrum(henon, 0.03 * normal(500, 2), nothing(500, 300), warm_up=50)
    np.testing.assert_allclose(found.mean, HENON, atol=1e-3)
    assert found.mean.sum() == pytest.approx(math.log(0.3), abs=1e-9)


def test_the_lorenz_system_has_one_positive_one_zero_and_one_negative_exponent() -> None:
    starts = 8 * normal(500, 3) + torch.tensor([0.0, 0.0, 25.0])
    found = lyapunov_spectrum(
        lorenz, starts, nothing(500, 500), warm_up=250, every=10, period_s=LORENZ_STEP
    )
    np.testing.assert_allclose(found.per_second, LORENZ, atol=0.15)
    assert found.per_second.sum() == pytest.approx(-41 / 3, abs=1e-3)
    assert found.dimension == pytest.approx(2.06, abs=0.02)


def test_a_random_network_is_chaotic_above_a_gain_of_one_and_dies_below() -> None:
    quiet, wild = (
        lyapunov_spectrum(
            random_network(64, gain, 0), normal(64), nothing(1, 400), k=1, warm_up=200
        ).largest
        for gain in (0.7, 2.5)
    )
    assert quiet < -0.1
    assert wild > 0.1


def test_exponents_together_are_the_mean_volume_change() -> None:
    torch.manual_seed(0)
    step = RecurrentStep(nn.GRU(3, 7).double())
    inputs, state = normal(1, 90, 3), torch.zeros(7, dtype=DOUBLE)
    found = lyapunov_spectrum(step, state, inputs, warm_up=30)
    volume = 0.0
    with torch.no_grad():
        for t, x in enumerate(inputs[0]):
            volume += float(torch.linalg.slogdet(jacfwd(step)(state, x))[1]) if t >= 30 else 0.0
            state = step(state, x)
    assert found.mean.sum() == pytest.approx(volume / 60, abs=1e-9)


@pytest.mark.parametrize(
    "layer",
    [
        nn.RNN(3, 5, 2), nn.RNN(3, 5, nonlinearity="relu", bias=False),
        nn.GRU(3, 5, 2), nn.LSTM(3, 5, 2), nn.LSTM(3, 5, bias=False),
    ],
    ids=str,
)  # fmt: skip
def test_a_written_out_step_is_that_of_the_layer(layer: nn.RNNBase) -> None:
    layer = layer.double()
    step, x = RecurrentStep(layer), normal(20, 3)
    state = torch.zeros(step.size, dtype=DOUBLE)
    with torch.no_grad():
        for fed in x:
            state = step(state, fed)
        hidden = layer(x)[1]
    h, *c = hidden if isinstance(hidden, tuple) else (hidden,)
    layers = torch.stack([h, *c], dim=1) if c else h
    torch.testing.assert_close(state, layers.flatten())


def test_layers_that_are_no_step_are_refused() -> None:
    with pytest.raises(ValueError, match="two directions"):
        RecurrentStep(nn.GRU(3, 5, bidirectional=True))


def test_an_lstm_whose_h_looks_stable_is_found_chaotic_by_its_whole_state() -> None:
    step = chaotic_lstm()
    inputs = normal(2, 400, 4, seed=1)
    whole = lyapunov_spectrum(step, torch.zeros(64, dtype=DOUBLE), inputs, k=1)
    assert whole.largest > 0.05
    assert exponent_of_h_alone(step, inputs[0]) < -0.05


def test_orthonormalising_less_often_gives_the_same_exponents() -> None:
    step = chaotic_lstm()
    inputs, start = normal(1, 120, 4), torch.zeros(64, dtype=DOUBLE)
    each, seldom = (
        lyapunov_spectrum(step, start, inputs, k=6, warm_up=23, every=every).mean
        for every in (1, 7)
    )
    np.testing.assert_allclose(each, seldom, atol=1e-9)


def contract_of(step: StepGraph, fed: str, made: str, n: int, m: int) -> Contract:
    return Contract(
        name="m", version="1", task="t", states=step.states,
        inputs=(Port(name=fed, kind="counts", shape=(n,), axes=("u",), unit="", channels=()),),
        outputs=(Port(name=made, kind="rates", shape=(m,), axes=("u",), unit="", channels=()),),
    )  # fmt: skip


def differenced(step: StepGraph, contract: Contract, inputs: np.ndarray, k: int) -> np.ndarray:
    model = ModelStep(step.model.SerializeToString(), contract)
    parts = find_parts(model, inputs[0, :30], inputs[-1, -30:])
    return model_spectrum(model, inputs, parts, k=k, warm_up=100).exponents


def test_differences_of_an_exported_gru_give_the_exponents_of_pytorch() -> None:
    torch.manual_seed(0)
    network = GRU(GRUConfig(n_in=4, n_out=4, hidden=12)).eval()
    with torch.no_grad():
        network.gru.weight_hh_l0.mul_(2.5)
    counts = np.random.default_rng(0).poisson(0.5, (2, 400, 4)).astype(np.float32)
    exact = lyapunov_spectrum(
        gru_baseline_step(network), torch.zeros(12), torch.from_numpy(counts), k=4, warm_up=100
    )
    step = gru_step(network, 0.02)
    found = differenced(step, contract_of(step, "counts", "rates", 4, 4), counts, 4)
    np.testing.assert_allclose(found.mean(0)[:3], exact.mean[:3], atol=0.01)


def test_differences_of_an_exported_lstm_find_its_chaos() -> None:
    layer = chaotic_lstm().module.float()
    inputs = normal(2, 500, 4, seed=1).float()
    exact = lyapunov_spectrum(RecurrentStep(layer), torch.zeros(64), inputs, k=2)
    step = lstm_step(layer)
    found = differenced(step, contract_of(step, "x", "y", 4, 32), inputs.numpy(), 2)
    assert exact.largest > 0.05
    # Trajectories of chaos part by rounding, so two sequences agree as means only.
    assert found.mean(0)[0] == pytest.approx(exact.largest, abs=0.03)
