"""The streaming STNDT run over a whole window again: what a streaming step is measured against.

It is arranged as well as we know: scales multiplied into weights beforehand, one pair of products
per head, a residual sum and the next norm in one node, features given ready-made.
"""

from __future__ import annotations

import numpy as np
import onnx

from exporters.onnx_graph import Graph
from exporters.stndt import (
    MASKED,
    add_and_norm,
    array,
    embedding,
    feed_forward,
    first_norm,
    head,
    projections,
    spatial_matrix,
)
from models.stndt.streaming import Layer, StreamingSTNDT
from stream.errors import ModelError


def causal_window(
    network: StreamingSTNDT, width_s: float, *, last_only: bool = False
) -> onnx.ModelProto:
    """Return the network over one window from cold, as a graph.

    The input is `features` (W, F), log counts less their mean and their exponential averages; the
    output is `rates` (W, n_out), or (1, n_out) for the newest bin only, in Hz. For the newest bin
    only, the last layer makes no other row.

    Raises
    ------
    ModelError
        The network mixes recursively or exactly, or looks ahead.
    """
    config = network.config
    if config.spatial not in ("none", "frozen") or config.look_ahead:
        raise ModelError(
            "a window is built for networks without look-ahead whose mixing is none or frozen."
        )
    w, n = config.window, config.n_out
    graph = Graph("causal_window")
    features = graph.input("features", (w, config.features))
    x = graph.linear(features, *embedding(network))
    y = first_norm(graph, x, n)
    for number, layer in enumerate(network.layers):
        assert isinstance(layer, Layer)
        newest_only = last_only and number == config.layers - 1
        branch = _attend(graph, layer, y, newest_only=newest_only)
        if newest_only:
            x, features = _newest(graph, x, w), _newest(graph, features, w)
        p = projections(layer)
        x, y = add_and_norm(graph, x, branch, p.value_bias @ p.out)
        if layer.config.spatial == "frozen":
            matrix, bias = spatial_matrix(layer)
            x, y = add_and_norm(graph, x, graph.linear(y, matrix), bias)
        x, y = feed_forward(graph, layer, x, y)
    weight, bias = head(network, width_s)
    u = graph.op("Concat", y, features, axis=1)
    rates = graph.op("Exp", graph.linear(u, weight[:, :n], bias[:n]))
    graph.output(rates, "rates", (1 if last_only else w, n))
    return graph.model()


def _attend(graph: Graph, layer: Layer, y: str, *, newest_only: bool) -> str:
    config, p = layer.config, projections(layer)
    w = config.window
    age = np.arange(w)[:, None] - np.arange(w)
    bias = np.where(age >= 0, array(layer.bias)[:, age.clip(0)], MASKED)
    asking = _newest(graph, y, w) if newest_only else y
    mixed = []
    for i in range(config.heads):
        own = slice(i * config.head_width, (i + 1) * config.head_width)
        q = graph.linear(asking, p.query[:, own], p.query_bias[own])
        k, v = graph.linear(y, p.key[:, own]), graph.linear(y, p.value[:, own])
        scores = graph.op(
            "Gemm", q, k, graph.constant(bias[i, -1:] if newest_only else bias[i]), transB=1
        )
        mixed.append(graph.op("MatMul", graph.op("Softmax", scores, axis=-1), v))
    return graph.linear(graph.op("Concat", *mixed, axis=1), p.out)


def _newest(graph: Graph, x: str, window: int) -> str:
    begin, end, axis = (graph.constant([i]) for i in (window - 1, window, 0))
    return graph.op("Slice", x, begin, end, axis)
