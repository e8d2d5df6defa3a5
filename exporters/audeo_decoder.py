"""The decoder of the piano network as part of its ONNX graph of one frame."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from exporters.onnx_graph import Graph
from models.audeo.decoder import (
    CHANNELS,
    FADES,
    HEARD,
    LAGS,
    LIMIT,
    NEXT,
    REACH,
    TRACE_GAINS,
    Decoder,
)
from models.audeo.network import LOOK_AHEADS
from stream.music.keyboard import IS_BLACK, KEYS


def decoded_onset(graph: Graph, decoder: Decoder, now: str) -> str:
    """Return the corrected logits (1, 88) of onsets; the same as `Decoder.decode`.

    `now` (8, 88) are the logits of onset and frame of each look-ahead. States are those of
    `models.audeo.decoder.Recent`.
    """
    cut = graph.op("Clip", now, graph.constant(np.array(-LIMIT)), graph.constant(np.array(LIMIT)))
    seen = graph.op(
        "Div", graph.op("Add", cut, graph.constant(np.array(LIMIT))), graph.constant(np.array(4.0))
    )
    sure = graph.op("Sigmoid", now)
    answers = graph.state("answers", (LAGS * HEARD, KEYS))
    features = graph.op(
        "Concat", seen, _rows(graph, sure, 0, HEARD), answers, _traces(graph, seen, sure), axis=0
    )
    old = _rows(graph, answers, 0, (LAGS - 1) * HEARD)
    graph.carry("answers", graph.op("Concat", _rows(graph, seen, 0, HEARD), old, axis=0))
    # What lies beyond the keyboard is as silent keys are, before its gist is taken.
    padded = graph.op("Pad", features, graph.constant([0, REACH, 0, REACH]))
    gist = graph.op("Gemm", graph.constant(_array(decoder.gist.weight)), padded)
    gist = graph.op(
        "Relu", graph.op("Add", gist, graph.constant(_array(decoder.gist.bias)[:, None]))
    )
    sizes = decoder.config
    wide = graph.op(
        "Conv", graph.reshape(gist, 1, sizes.gist, KEYS + 2 * REACH),
        graph.constant(_along(decoder.wide.weight, 2 * REACH + 1)),
        graph.constant(_array(decoder.wide.bias)),
    )  # fmt: skip
    near = graph.op(
        "Conv", graph.reshape(features, 1, CHANNELS, KEYS),
        graph.constant(_along(decoder.near.weight, 2 * NEXT + 1)), pads=[NEXT, NEXT],
    )  # fmt: skip
    colour = _array(decoder.black)[:, None] * IS_BLACK
    hidden = graph.reshape(graph.op("Add", wide, near), sizes.hidden, KEYS)
    hidden = graph.op("Relu", graph.op("Add", hidden, graph.constant(colour)))
    for layer in (decoder.middle, decoder.out):
        hidden = graph.op("Gemm", graph.constant(_array(layer.weight)), hidden)
        hidden = graph.op("Add", hidden, graph.constant(_array(layer.bias)[:, None]))
        if layer is decoder.middle:
            hidden = graph.op("Relu", hidden)
    kept = graph.op("Mul", _rows(graph, cut, 0, 1), graph.constant(_array(decoder.gain)))
    return graph.op("Add", kept, hidden)


def _traces(graph: Graph, seen: str, sure: str) -> str:
    """Let the traces fade and add this frame; returns them (5, 88) as features."""
    onset, down = (_rows(graph, sure, HEARD + i, HEARD + i + 1) for i in range(HEARD))
    fed = graph.op("Concat", onset, onset, onset, down, _rows(graph, seen, 0, 1), axis=0)
    old = graph.state("traces", (len(FADES), KEYS))
    rate = graph.constant(1 / np.array(FADES)[:, None])
    moved = graph.op("Mul", graph.op("Sub", fed, old), rate)
    traces = graph.carry("traces", graph.op("Add", old, moved))
    return graph.op("Mul", traces, graph.constant(np.array(TRACE_GAINS)[:, None]))


def _rows(graph: Graph, x: str, first: int, end: int) -> str:
    limits = [graph.constant([value]) for value in (first, end, 0)]
    return graph.op("Slice", x, *limits)


def _along(weight: torch.Tensor, keys: int) -> NDArray[np.float64]:
    """Return the weight of a convolution (out, in, keys) from that of features (out, keys * in)."""
    rows = _array(weight)
    return rows.reshape(len(rows), keys, -1).transpose(0, 2, 1)


def _array(tensor: torch.Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().numpy()


assert LOOK_AHEADS[:2] == (0, 1)
