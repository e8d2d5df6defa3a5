"""The published STNDT over one window as an ONNX graph: what a streaming step is measured against.

It is arranged like `exporters.stndt_window`, with only what the published network uses: its spatial
attention has no values and no output projection.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from exporters.onnx_graph import Graph
from exporters.stndt import MASKED, Array, add_and_norm, array, first_norm
from models.stndt.published import FeedForward, Layer, PublishedSTNDT


def published_window(network: PublishedSTNDT, width_s: float) -> onnx.ModelProto:
    """Return the network over one window of T bins as a graph.

    The input is `counts` (T, N), with zeros for what is held out; the output is `rates` (T, N) in
    Hz.
    """
    config = network.config
    n, t = config.units, config.bins
    graph = Graph("published_stndt_window")
    counts = graph.input("counts", (t, n))
    time_bias = array(network.embed_time.bias) * math.sqrt(n) + array(network.time_position)
    space_bias = array(network.embed_space.bias) * math.sqrt(t) + array(network.space_position)
    x = _affine(graph, counts, array(network.embed_time.weight).T * math.sqrt(n), time_bias)
    space = graph.op("Transpose", counts, perm=[1, 0])
    space = _affine(graph, space, array(network.embed_space.weight).T * math.sqrt(t), space_bias)
    y = first_norm(graph, x, n)
    for layer in network.layers:
        assert isinstance(layer, Layer)
        branch, bias = _attend(graph, layer, y, array(network.band).astype(bool))
        x, y = add_and_norm(graph, x, branch, bias)
        x, y = _feed_forward(graph, layer.feed_time, x, y)
        matrix = _spatial(graph, layer, first_norm(graph, space, t))
        gain, shift = array(layer.norm_mix.weight), array(layer.norm_mix.bias)
        scaled = graph.op("Add", graph.op("Mul", y, graph.constant(gain)), graph.constant(shift))
        mixed = graph.op("Gemm", scaled, matrix, x, transB=1)
        x, y = mixed, first_norm(graph, mixed, n)
        x, y = _feed_forward(graph, layer.feed_mix, x, y)
        space = graph.op("Transpose", x, perm=[1, 0])
    gain, shift = array(network.norm.weight), array(network.norm.bias)
    weight = array(network.head.weight)
    bias = array(network.head.bias) + weight @ shift - math.log(width_s)
    rates = graph.op("Exp", graph.linear(y, gain[:, None] * weight.T, bias))
    graph.output(rates, "rates", (t, n))
    return graph.model()


def _affine(graph: Graph, x: str, weight: Array, bias: Array) -> str:
    return graph.op("Gemm", x, graph.constant(weight), graph.constant(bias))


def _attend(graph: Graph, layer: Layer, y: str, band: NDArray[np.bool_]) -> tuple[str, Array]:
    gain, shift = array(layer.norm_time.weight), array(layer.norm_time.bias)
    weight, bias = array(layer.time_qkv.weight), array(layer.time_qkv.bias)
    bias = bias + weight @ shift
    q, k, v = np.split(gain[:, None] * weight.T, 3, axis=1)
    q_bias, k_bias, v_bias = np.split(bias, 3)
    width = q.shape[1] // layer.heads
    out = array(layer.time_out.weight).T
    masked = graph.constant(np.where(band, 0.0, MASKED))
    mixed = []
    for i in range(layer.heads):
        own = slice(i * width, (i + 1) * width)
        root = math.sqrt(width)
        query = _affine(graph, y, q[:, own] / root, q_bias[own] / root)
        key = _affine(graph, y, k[:, own], k_bias[own])
        scores = graph.op("Gemm", query, key, masked, transB=1)
        value = graph.linear(y, v[:, own])
        mixed.append(graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value))
    branch = graph.linear(graph.op("Concat", *mixed, axis=1), out)
    return branch, v_bias @ out + array(layer.time_out.bias)


def _spatial(graph: Graph, layer: Layer, space: str) -> str:
    """Return the attention of neurons over each other, (N, N), the mean over heads."""
    gain, shift = array(layer.norm_space.weight), array(layer.norm_space.bias)
    weight, bias = array(layer.space_qk.weight), array(layer.space_qk.bias)
    bias = bias + weight @ shift
    q, k = np.split(gain[:, None] * weight.T, 2, axis=1)
    q_bias, k_bias = np.split(bias, 2)
    width = q.shape[1] // layer.heads
    root = math.sqrt(width)
    heads = []
    for i in range(layer.heads):
        own = slice(i * width, (i + 1) * width)
        query = _affine(graph, space, q[:, own] / root, q_bias[own] / root)
        key = _affine(graph, space, k[:, own], k_bias[own])
        heads.append(graph.op("Softmax", graph.op("Gemm", query, key, transB=1), axis=-1))
    total = heads[0] if layer.heads == 1 else graph.op("Sum", *heads)
    return graph.op("Mul", total, graph.constant(np.array(1 / layer.heads)))


def _feed_forward(graph: Graph, feed: FeedForward, x: str, y: str) -> tuple[str, str]:
    norm, up, down = feed[0], feed[1], feed[4]
    assert isinstance(norm, nn.LayerNorm)
    assert isinstance(up, nn.Linear)
    assert isinstance(down, nn.Linear)
    gain, shift = array(norm.weight), array(norm.bias)
    weight = array(up.weight)
    hidden = _affine(graph, y, gain[:, None] * weight.T, array(up.bias) + weight @ shift)
    branch = graph.linear(graph.op("Relu", hidden), array(down.weight).T)
    return add_and_norm(graph, x, branch, array(down.bias))
