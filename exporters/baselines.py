"""The baselines as ONNX graphs of one step, so that they run live like any other model.

Each graph does the step form that the `predict` of its model documents. The input is `counts`
(units,), the output `rates` in Hz or `behaviour` in physical units, all float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exporters.onnx_graph import Graph, StepGraph
from models.spikes.baselines.glm import PoissonGlm
from models.spikes.baselines.kalman import Kalman
from models.spikes.baselines.mlp import Mlp
from models.spikes.baselines.smoothing import Smoothing
from models.spikes.baselines.storing import Baseline
from models.spikes.baselines.wiener import Wiener

Array = NDArray[np.float64]


def baseline_step(model: Baseline, width_s: float) -> StepGraph:
    """Return one step of a baseline as a graph; `width_s` is the width of its bins."""
    match model:
        case Smoothing():
            return _smoothing(model, width_s)
        case PoissonGlm():
            return _glm(model, width_s)
        case Wiener():
            return _wiener(model)
        case Mlp():
            return _mlp(model)
        case Kalman():
            return _kalman(model)


def _smoothing(model: Smoothing, width_s: float) -> StepGraph:
    n = len(model.mean)
    graph = Graph("smoothing_step")
    counts = graph.input("counts", (n,))
    # The state is the average less the mean, so that it starts at zero.
    fresh = graph.op("Sub", counts, graph.constant(model.mean))
    fresh = graph.op("Mul", fresh, graph.constant(np.array(1 - model.decay)))
    kept = graph.op("Mul", graph.state("average", (n,)), graph.constant(np.array(model.decay)))
    average = graph.carry("average", graph.op("Add", kept, fresh))
    share = graph.constant(np.array((1 - model.mean_share) / width_s))
    rates = graph.op("Add", graph.op("Mul", average, share), graph.constant(model.mean / width_s))
    graph.output(rates, "rates", (n,))
    return graph.step()


def _glm(model: PoissonGlm, width_s: float) -> StepGraph:
    k, n_in, n_out = model.weights.shape
    graph = Graph("glm_step")
    counts = graph.input("counts", (n_in,))
    decay = graph.constant(model.decay[:, None])
    fresh = graph.constant(1 - model.decay[:, None])
    average = graph.op(
        "Add",
        graph.op("Mul", graph.state("average", (k, n_in)), decay),
        graph.op("Mul", counts, fresh),
    )
    average = graph.carry("average", average)
    weight = graph.op("Add", graph.op("Mul", graph.state("weight", (k, 1)), decay), fresh)
    weight = graph.carry("weight", weight)
    means = graph.op("Div", average, weight)
    features = graph.op("Log", graph.op("Add", means, graph.constant(np.array(1.0))))
    features = graph.reshape(features, 1, k * n_in)
    bias = model.bias - np.log(width_s)
    drive = graph.linear(features, model.weights.reshape(k * n_in, n_out), bias)
    # The exponential of more than 80 is more than float32 holds.
    drive = graph.op("Min", drive, graph.constant(np.array(80.0)))
    rates = graph.op("Min", graph.op("Exp", drive), graph.constant(model.ceiling / width_s))
    graph.output(graph.reshape(rates, n_out), "rates", (n_out,))
    return graph.step()


def _wiener(model: Wiener) -> StepGraph:
    lags, n, d = model.weights.shape
    graph = Graph("wiener_step")
    newest = graph.op("Sub", graph.input("counts", (n,)), graph.constant(model.mean))
    history = _history(graph, newest, lags, n)
    behaviour = graph.linear(history, model.weights.reshape(lags * n, d), model.bias)
    graph.output(graph.reshape(behaviour, d), "behaviour", (d,))
    return graph.step()


def _mlp(model: Mlp) -> StepGraph:
    n, d = len(model.mean), len(model.biases[-1])
    graph = Graph("mlp_step")
    newest = graph.op("Sqrt", graph.input("counts", (n,)))
    newest = graph.op("Sub", newest, graph.constant(model.mean))
    newest = graph.op("Mul", newest, graph.constant(1 / model.scale))
    hidden = _history(graph, newest, model.lags, n)
    for weight, bias in zip(model.weights[:-1], model.biases[:-1], strict=True):
        hidden = graph.op("Relu", graph.linear(hidden, weight, bias))
    behaviour = graph.linear(hidden, model.weights[-1], model.biases[-1])
    graph.output(graph.reshape(behaviour, d), "behaviour", (d,))
    return graph.step()


def _kalman(model: Kalman) -> StepGraph:
    d, n = model.gain.shape
    graph = Graph("kalman_step")
    counts = graph.op("Sqrt", graph.input("counts", (n,)))
    seen = graph.reshape(graph.op("Sub", counts, graph.constant(model.rest)), 1, n)
    carried = graph.linear(graph.state("x", (1, d)), model.carry.T)
    x = graph.op("Gemm", seen, graph.constant(model.gain.T), carried)
    x = graph.carry("x", x)
    told = graph.op("Gather", x, graph.constant(model.told), axis=1)
    behaviour = graph.op("Add", told, graph.constant(model.mean[model.told]))
    graph.output(graph.reshape(behaviour, len(model.told)), "behaviour", (len(model.told),))
    return graph.step()


def _history(graph: Graph, newest: str, lags: int, units: int) -> str:
    """Return the newest `lags` bins, newest first, as one row."""
    if lags == 1:
        return graph.reshape(newest, 1, units)
    old = graph.state("history", (lags - 1, units))
    history = graph.op("Concat", graph.reshape(newest, 1, units), old, axis=0)
    begin, end, axis = (graph.constant([i]) for i in (0, lags - 1, 0))
    graph.carry("history", graph.op("Slice", history, begin, end, axis))
    return graph.reshape(history, 1, lags * units)
