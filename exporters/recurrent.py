"""A recurrent layer of PyTorch as an ONNX graph of one step, to hold both against each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from exporters.onnx_graph import Graph, StepGraph


def lstm_step(layer: nn.LSTM) -> StepGraph:
    """Return one step of an LSTM of one layer as a graph.

    The input is `x` (n_in,), the output `y` (hidden,), both float32; states are `h` and `c`
    (1, 1, hidden).
    """
    n, size = layer.input_size, layer.hidden_size
    graph = Graph("lstm_step")
    x = graph.reshape(graph.input("x", (n,)), 1, 1, n)
    old = [graph.state(name, (1, 1, size)) for name in ("h", "c")]
    weights = [graph.constant(w) for w in onnx_lstm_weights(layer, 0)]
    made = graph.ops("LSTM", [x, *weights, "", *old], (1, 2), hidden_size=size)
    h, _ = (graph.carry(name, value) for name, value in zip(("h", "c"), made, strict=True))
    graph.output(graph.reshape(h, size), "y", (size,))
    return graph.step()


def onnx_lstm_weights(
    layer: nn.LSTM, number: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return W, R and B of a layer as ONNX's LSTM takes them: gates input, output, forget, new."""
    named = {name: value.detach().double().numpy() for name, value in layer.named_parameters()}

    def ordered(name: str) -> NDArray[np.float64]:
        given, forget, new, output = np.split(named[f"{name}_l{number}"], 4)
        return np.concatenate([given, output, forget, new])

    biases = np.concatenate([ordered("bias_ih"), ordered("bias_hh")])
    return ordered("weight_ih")[None], ordered("weight_hh")[None], biases[None]
