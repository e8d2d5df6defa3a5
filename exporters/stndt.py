"""The streaming STNDT as an ONNX graph of one step.

The graph computes what `models.stndt.streaming` writes down, arranged for few nodes and few bytes:

* everything that is constant is multiplied out beforehand in float64: scales of the input and of
  the norms go into the weights that follow them, the attention's 1 / sqrt(width) into the query;
* a residual sum, the branch's bias and the next norm are one node;
* keys and values lie in ring buffers that the graph writes at one row, so that a runtime which
  binds one buffer as old and new state copies nothing;
* the bias by age, which is also the mask of a cold start, is a stretch of one row per head: the
  row holds the ages twice and then the mask, and the newest slot says where the stretch begins;
* heads that are as wide as the network together are merged: with one ring of normed inputs x,
  query and key weights become one matrix per head, q_h k_h^T = x (Wq_h^T Wk_h) x^T, and so do the
  weights of value and output. Two heads then need half the ring and no more weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from exporters.onnx_graph import Graph, StepGraph
from models.stndt.streaming import Layer, StreamingConfig, StreamingSTNDT

Array = NDArray[np.float64]
MASKED = -1e30
_EPSILON = 1e-5


def streaming_step(
    network: StreamingSTNDT, width_s: float, weight_bits: int | None = None
) -> StepGraph:
    """Return one step of a network as a graph.

    The input is `counts` (n_in,), outputs are `rates` (n_out,) in Hz and, if the network decodes
    behaviour, `behaviour` (D,), all float32.

    Parameters
    ----------
    network
        Trained.
    width_s
        Width of a bin.
    weight_bits
        8 or 4 for weights stored as integers.
    """
    config = network.config
    graph = Graph("streaming_stndt_step", weight_bits)
    counts = graph.input("counts", (config.n_in,))
    clock = _Clock.build(graph, "slot", config.window)
    courses = clock
    if config.spatial == "exact" and config.course != config.window:
        courses = _Clock.build(graph, "course_slot", config.course)
    features = _features(graph, network, counts)
    embed, embed_bias = embedding(network)
    x = graph.linear(features, embed, embed_bias)
    y = first_norm(graph, x, config.n_out)
    for number, layer in enumerate(network.layers):
        assert isinstance(layer, Layer)
        x, y = _layer(graph, layer, number, clock, courses, x=x, y=y)
    if config.look_ahead:
        features = _delay(graph, features, config)
    u = graph.op("Concat", y, features, axis=1)
    weight, bias = head(network, width_s)
    give_out(graph, u, weight, bias, config.n_out)
    return graph.step()


def give_out(graph: Graph, u: str, weight: Array, bias: Array, n_out: int) -> None:
    """Give out `rates` (n_out,) in Hz and, if the heads have more columns, `behaviour` of u."""
    rates = graph.op("Exp", graph.linear(u, weight[:, :n_out], bias[:n_out]))
    graph.output(graph.reshape(rates, n_out), "rates", (n_out,))
    if columns := weight.shape[1] - n_out:
        behaviour = graph.linear(u, weight[:, n_out:], bias[n_out:])
        graph.output(graph.reshape(behaviour, columns), "behaviour", (columns,))


def array(tensor: Tensor) -> Array:
    """Return a parameter in float64."""
    return np.asarray(tensor.detach().double().numpy())


def embedding(network: StreamingSTNDT) -> tuple[Array, Array]:
    """Return weight (F, d) and bias of the embedding, for features that are not divided by std."""
    return _unscaled(network, array(network.embed.weight)), array(network.embed.bias)


def head(network: StreamingSTNDT, width_s: float) -> tuple[Array, Array]:
    """Return weight (d + F, n_out + D) and bias of the heads, giving log Hz and physical units.

    The first d inputs are normed but not scaled, the F features are not divided by std.
    """
    config, scales = network.config, network.scales
    d, n = config.n_out, config.n_out
    weight, bias = array(network.head.weight), array(network.head.bias)
    gain, shift = array(network.norm.weight), array(network.norm.bias)
    bias = bias + weight[:, :d] @ shift
    full = np.concatenate([gain[:, None] * weight[:, :d].T, _unscaled(network, weight[:, d:])])
    bias[:n] -= math.log(width_s)
    std, mean = array(scales.behaviour_std), array(scales.behaviour_mean)
    full[:, n:] *= std
    bias[n:] = bias[n:] * std + mean
    return full, bias


def _unscaled(network: StreamingSTNDT, weight: Array) -> Array:
    std = np.tile(array(network.scales.input_std), 1 + len(network.config.taus))
    return (weight / std).T


def centred_log_counts(graph: Graph, counts: str, mean: Array) -> str:
    """Return log(1 + counts) - mean."""
    logs = graph.op("Log", graph.op("Add", counts, graph.constant(np.ones(1))))
    return graph.op("Sub", logs, graph.constant(mean))


def _features(graph: Graph, network: StreamingSTNDT, counts: str) -> str:
    """Return features (1, F): centred log counts and their exponential averages."""
    config = network.config
    v = centred_log_counts(graph, counts, array(network.scales.input_mean))
    if config.taus:
        # The newest value is the average that keeps nothing, so one formula gives all features.
        decay = np.array([0.0, *(math.exp(-1 / tau) for tau in config.taus)])
        old = graph.state("features", (len(decay), config.n_in))
        kept = graph.op("Mul", graph.op("Sub", old, v), graph.constant(decay[:, None]))
        v = graph.carry("features", graph.op("Add", kept, v))
    return graph.reshape(v, 1, config.features)


def _delay(graph: Graph, features: str, config: StreamingConfig) -> str:
    """Return the features of `look_ahead` bins ago."""
    k = config.look_ahead
    queue = graph.op("Concat", graph.state("delayed", (k, config.features)), features, axis=0)
    zero, one, end = (graph.constant([i]) for i in (0, 1, k + 1))
    graph.carry("delayed", graph.op("Slice", queue, one, end, zero))
    return graph.op("Slice", queue, zero, one, zero)


@dataclass(frozen=True)
class _Clock:
    """Where in rings of one length the new bin goes, and where its bias begins.

    With L for the length, the state (1, 1) counts from -L to -1 while the rings fill and from 0 to
    L - 1, round and round, afterwards: as an index both p and p - L mean slot p.
    """

    slot: str
    begin: str
    end: str
    length: int

    @classmethod
    def build(cls, graph: Graph, name: str, length: int) -> _Clock:
        slot = graph.state(name, (1, 1), "int64", start=-length)
        following = np.concatenate([(np.arange(length) + 1) % length, np.arange(1 - length, 1)])
        graph.carry(name, graph.op("Gather", graph.constant(following), slot))
        begin = graph.op("Sub", graph.constant([length - 1]), graph.reshape(slot, 1))
        end = graph.op("Add", begin, graph.constant([length]))
        return cls(slot, begin, end, length)

    def by_slot(self, graph: Graph, by_age: Array, unfilled: float) -> str:
        """Return (m, L) of every slot, from (m, L) of every age; slots are unfilled at first."""
        i = np.arange(3 * self.length - 1)
        row = by_age[:, (self.length - 1 - i) % self.length]
        row[:, i >= 2 * self.length] = unfilled
        return graph.op("Slice", graph.constant(row), self.begin, self.end, graph.constant([1]))


def _layer(
    graph: Graph, layer: Layer, number: int, clock: _Clock, courses: _Clock, *, x: str, y: str
) -> tuple[str, str]:
    """Add a layer; x is the residual stream and y its norm, both before and after."""
    config = layer.config
    attend = _attend_merged if merges_heads(config) else _attend_split
    branch, bias = attend(graph, layer, number, clock, y)
    if config.spatial == "frozen":
        x, y = add_and_norm(graph, x, branch, bias)
        matrix, bias = spatial_matrix(layer)
        branch = graph.linear(y, matrix)
    elif config.spatial != "none":
        norm = layer.norm_space
        x, y = add_and_norm(graph, x, branch, bias, gain=array(norm.weight), shift=array(norm.bias))
        if config.spatial == "recursive":
            branch = _mix_recursive(graph, layer, y)
        else:
            branch = _mix_exact(graph, layer, courses, y)
        bias = np.zeros(config.n_out)
    x, y = add_and_norm(graph, x, branch, bias)
    return feed_forward(graph, layer, x, y)


def first_norm(graph: Graph, x: str, width: int) -> str:
    """Return the norm of rows (m, width), not scaled."""
    ones = graph.constant(np.ones(width))
    return graph.op("LayerNormalization", x, ones, axis=-1, epsilon=_EPSILON)


def feed_forward(graph: Graph, layer: Layer, x: str, y: str) -> tuple[str, str]:
    """Add the feed-forward part of a layer; x is the residual stream, y its norm, not scaled."""
    gain, shift = array(layer.norm_hidden.weight), array(layer.norm_hidden.bias)
    up, down = array(layer.up.weight), array(layer.down.weight)
    hidden = graph.linear(y, gain[:, None] * up.T, array(layer.up.bias) + up @ shift)
    branch = graph.linear(graph.op("Relu", hidden), down.T)
    return add_and_norm(graph, x, branch, array(layer.down.bias))


def spatial_matrix(layer: Layer) -> tuple[Array, Array]:
    """Return the constant spatial attention (d, d) for rows that are not scaled, and its bias."""
    matrix = softmax(array(layer.mix)).T
    gain, shift = array(layer.norm_space.weight), array(layer.norm_space.bias)
    return gain[:, None] * matrix, shift @ matrix


def add_and_norm(
    graph: Graph, x: str, branch: str, bias: Array, *, gain: Array | None = None,
    shift: Array | None = None,
) -> tuple[str, str]:  # fmt: skip
    """Return x + branch + bias, and its norm."""
    gain = np.ones(len(bias)) if gain is None else gain
    shift = np.zeros(len(bias)) if shift is None else shift
    inputs = (branch, x, graph.constant(gain), graph.constant(shift), graph.constant(bias))
    normed, total = graph.ops("SkipLayerNormalization", inputs, (0, 3), epsilon=_EPSILON)
    return total, normed


def merges_heads(config: StreamingConfig) -> bool:
    """Tell whether merged heads read fewer numbers per step than separate projections."""
    d, w, e = config.n_out, config.window, config.heads * config.head_width
    return 2 * config.heads * d * d + w * d <= 4 * d * e + 2 * w * e


@dataclass(frozen=True)
class Projections:
    """Weights of attention for inputs that are normed but not scaled; biases of keys cancel out."""

    query: Array
    query_bias: Array
    key: Array
    value: Array
    value_bias: Array
    out: Array


def projections(layer: Layer) -> Projections:
    """Return the weights of attention: (d, E) for query, key and value, (E, d) for out."""
    gain, shift = array(layer.norm_time.weight), array(layer.norm_time.bias)
    weights = np.split(array(layer.qkv.weight), 3)
    biases = np.split(array(layer.qkv.bias), 3)
    q, k, v = (gain[:, None] * w.T for w in weights)
    q_bias, _, v_bias = (b + w @ shift for w, b in zip(weights, biases, strict=True))
    root = math.sqrt(layer.config.head_width)
    return Projections(q / root, q_bias / root, k, v, v_bias, array(layer.out.weight).T)


def _attend_merged(
    graph: Graph, layer: Layer, number: int, clock: _Clock, y: str
) -> tuple[str, Array]:
    config, p = layer.config, projections(layer)
    d, h, w = config.n_out, config.heads, config.window
    heads = [slice(i * config.head_width, (i + 1) * config.head_width) for i in range(h)]
    query = np.concatenate([p.query[:, s] @ p.key[:, s].T for s in heads], axis=1)
    query_bias = np.concatenate([p.query_bias[s] @ p.key[:, s].T for s in heads])
    out = np.concatenate([p.value[:, s] @ p.out[s] for s in heads])
    ring = graph.state(f"ring_{number}", (w, d))
    ring = graph.carry(ring, graph.op("ScatterND", ring, clock.slot, y))
    q = graph.reshape(graph.linear(y, query, query_bias), h, d)
    scores = graph.op("Gemm", q, ring, clock.by_slot(graph, array(layer.bias), MASKED), transB=1)
    mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), ring)
    return graph.linear(graph.reshape(mixed, 1, h * d), out), p.value_bias @ p.out


def _attend_split(
    graph: Graph, layer: Layer, number: int, clock: _Clock, y: str
) -> tuple[str, Array]:
    config, p = layer.config, projections(layer)
    h, w, e = config.heads, config.window, config.heads * config.head_width
    weight = np.concatenate([p.query, p.key, p.value], axis=1)
    bias = np.concatenate([p.query_bias, np.zeros(2 * e)])
    q, k, v = graph.ops("Split", [graph.linear(y, weight, bias)], (0, 1, 2), axis=1, num_outputs=3)
    keys, values = graph.state(f"key_{number}", (w, e)), graph.state(f"value_{number}", (w, e))
    keys = graph.carry(keys, graph.op("ScatterND", keys, clock.slot, k))
    values = graph.carry(values, graph.op("ScatterND", values, clock.slot, v))
    # One row per head, with zeros where other heads are: all heads in one product.
    own = graph.constant(np.kron(np.eye(h), np.ones(config.head_width)))
    q = graph.op("Mul", q, own)
    scores = graph.op("Gemm", q, keys, clock.by_slot(graph, array(layer.bias), MASKED), transB=1)
    mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), values)
    mixed = graph.op("ReduceSum", graph.op("Mul", mixed, own), graph.constant([0]), keepdims=1)
    return graph.linear(mixed, p.out), p.value_bias @ p.out


def _mix_recursive(graph: Graph, layer: Layer, s: str) -> str:
    d = layer.config.n_out
    forget = float(layer.forget.detach().sigmoid())
    gain = float(layer.gain.detach())
    # The state holds gain * gram, which saves a product.
    gram = graph.state("gram", (d, d))
    gram = graph.carry(
        gram, graph.op("Gemm", s, s, gram, transA=1, alpha=gain * (1 - forget), beta=forget)
    )
    matrix = graph.op("Add", gram, graph.constant(array(layer.mix)))
    return graph.op("Gemm", s, graph.op("Softmax", matrix, axis=-1), transB=1)


def _mix_exact(graph: Graph, layer: Layer, clock: _Clock, s: str) -> str:
    course = graph.state("course", (layer.config.course, layer.config.n_out))
    course = graph.carry(course, graph.op("ScatterND", course, clock.slot, s))
    # Rows of a weight belong to ages from the oldest on; its columns become rows here.
    q, k = (
        graph.op("Gemm", clock.by_slot(graph, array(m)[::-1].T, 0.0), course,
                 graph.constant(array(bias).T))
        for m, bias in (
            (layer.space_query, layer.space_query_bias), (layer.space_key, layer.space_key_bias)
        )
    )  # fmt: skip
    scores = graph.op("Gemm", q, k, transA=1)
    return graph.op("Gemm", s, graph.op("Softmax", scores, axis=-1), transB=1)


def softmax(x: Array) -> Array:
    """Return the softmax of each row."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))
