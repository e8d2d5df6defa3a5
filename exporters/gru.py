"""The recurrent baseline as an ONNX graph of one step."""

from __future__ import annotations

import math

import numpy as np

from exporters.onnx_graph import Graph, StepGraph
from exporters.stndt import Array, array, centred_log_counts, give_out
from models.spikes.gru import GRU


def gru_step(network: GRU, width_s: float, weight_bits: int | None = None) -> StepGraph:
    """Return one step of `models.spikes.gru.GRU` as a graph.

    The input is `counts` (n_in,), outputs are `rates` (n_out,) in Hz and, if the network decodes
    behaviour, `behaviour` (D,), all float32. The state is `hidden` (1, hidden).
    """
    config, scales = network.config, network.scales
    n, h = config.n_out, config.hidden
    std = array(scales.input_std)
    graph = Graph("gru_step", weight_bits)
    counts = graph.input("counts", (config.n_in,))
    v = graph.reshape(centred_log_counts(graph, counts, array(scales.input_mean)), 1, config.n_in)
    old = graph.state("hidden", (1, h))
    gru = {name: array(parameter) for name, parameter in network.gru.named_parameters()}
    # Gates stand in the order reset, update, new (torch.nn.GRU).
    given = graph.linear(v, (gru["weight_ih_l0"] / std).T, gru["bias_ih_l0"])
    kept = graph.linear(old, gru["weight_hh_l0"].T, gru["bias_hh_l0"])
    given_gates, given_new = _split_gates(graph, given, h)
    kept_gates, kept_new = _split_gates(graph, kept, h)
    gates = graph.op("Sigmoid", graph.op("Add", given_gates, kept_gates))
    reset, update = graph.ops("Split", [gates], (0, 1), axis=1, num_outputs=2)
    new = graph.op("Tanh", graph.op("Add", given_new, graph.op("Mul", reset, kept_new)))
    change = graph.op("Mul", update, graph.op("Sub", old, new))
    hidden = graph.carry("hidden", graph.op("Add", new, change))
    u = graph.op("Concat", hidden, v, axis=1)
    weight, bias = _head(network, width_s)
    give_out(graph, u, weight, bias, n)
    return graph.step()


def _split_gates(graph: Graph, x: str, hidden: int) -> tuple[str, str]:
    sizes = graph.constant([2 * hidden, hidden])
    gates, new = graph.ops("Split", [x, sizes], (0, 1), axis=1)
    return gates, new


def _head(network: GRU, width_s: float) -> tuple[Array, Array]:
    config, scales = network.config, network.scales
    n, h = config.n_out, config.hidden
    weight, bias = array(network.head.weight).T, array(network.head.bias)
    weight[h:] /= array(scales.input_std)[:, None]
    bias[:n] -= math.log(width_s)
    std, mean = array(scales.behaviour_std), array(scales.behaviour_mean)
    weight[:, n:] *= std
    bias[n:] = bias[n:] * std + mean
    return weight, np.asarray(bias)
