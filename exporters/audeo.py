"""The live piano network as an ONNX graph of one frame, verified and written to a model file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from exporters.audeo_decoder import decoded_onset
from exporters.model_writer import write_model
from exporters.onnx_graph import Graph, StepGraph
from exporters.stability import comparable, with_stability
from exporters.verify import Stretch, verify
from models.audeo.decoder import HEARD, Decoder
from models.audeo.network import (
    BLANK,
    DARK,
    FRONT,
    LOOK_AHEADS,
    LUMA,
    OUTPUTS,
    PER_WHITE,
    SEEN_LONG,
    SURPRISE,
    TAPS,
    PianoNetwork,
    run_through,
)
from models.audeo.trained import Card, Trained
from stream.model_file import Contract, Port, Score
from stream.music.keyboard import CENTRES_U, IS_BLACK, KEY_NAMES, KEYS
from stream.music.piano.strip import CHANNELS, STRIP_HEIGHT, STRIP_WIDTH

Array = NDArray[np.float64]
_SHAPE = (STRIP_HEIGHT, STRIP_WIDTH)
_MEMORY_FRAMES = 100


def piano_step(
    network: PianoNetwork, look_ahead: int = 0, decoder: Decoder | None = None
) -> StepGraph:
    """Return one frame of the network as a graph, with the decoder after it, if there is one.

    The input is `strip` (56, 624, 4) uint8, the output `keys` (3, 88) float32: probabilities of
    onset and frame, and velocity from 0 to 1, of each key, `look_ahead` frames ago. States are
    those of `models.audeo.network.View`, `memory` (88, M), and those of the decoder.
    """
    graph = Graph("piano_step")
    x = _see(graph, graph.input("strip", (*_SHAPE, len(CHANNELS)), "uint8"))
    for conv, norm in network.convolutions():
        weight, bias = _folded(conv, norm)
        x = graph.op(
            "Conv", x, graph.constant(weight), graph.constant(bias),
            strides=list(conv.stride), pads=[*conv.padding, *conv.padding],
        )  # fmt: skip
        x = graph.op("Relu", x)
    x = graph.reshape(x, 1, -1, STRIP_WIDTH // 4)
    x = _line(graph, x, network.flat)
    x = graph.op("Add", x, _line(graph, x, network.near))
    x = graph.op("Add", x, _line(graph, x, network.hand))
    memory = _recall(graph, network, _keys(graph, network, x))
    wanted = LOOK_AHEADS.index(look_ahead) * len(OUTPUTS)
    out = _answers(graph, network, memory, range(wanted, wanted + len(OUTPUTS)))
    if decoder is not None:
        rows = [i * len(OUTPUTS) + j for i in range(len(LOOK_AHEADS)) for j in range(HEARD)]
        onset = decoded_onset(graph, decoder, _answers(graph, network, memory, rows))
        parts = [graph.constant([v]) for v in (1, len(OUTPUTS), 0)]
        out = graph.op("Concat", onset, graph.op("Slice", out, *parts), axis=0)
    out = graph.op("Sigmoid", out)
    graph.output(out, "keys", (len(OUTPUTS), KEYS))
    return graph.step()


def export_piano(
    trained: Trained, sha256: str, strips: NDArray[np.uint8], path: Path,
    *, look_ahead: int = 0, allow_unstable: bool = False,
) -> Contract:  # fmt: skip
    """Write the model file of a network, once it is verified on strips.

    Parameters
    ----------
    trained
        The network, what its folder says of it, and its decoder, which is left out where outputs
        are late.
    sha256
        Of the weights.
    strips
        (stretches, frames, 56, 624, 4) pictures; each is run from cold, frame by frame, and
        compared with the whole run in PyTorch at every frame.
    path
        Of the new file; an old one stays as it is unless all goes well.
    look_ahead
        Frames by which the outputs are late, one of `LOOK_AHEADS`.
    allow_unstable
        Write an unstable network too; see `exporters.stability`.

    Raises
    ------
    ModelError
        The exported step differs from the network, it is unstable, or the file cannot be written.
    """
    network, decoder = trained.network, None if look_ahead else trained.decoder
    number = LOOK_AHEADS.index(look_ahead)
    stretches = []
    for stretch in strips:
        logits = run_through(network, stretch)
        if decoder is not None:
            logits = decoder.decode(logits)
        expected = torch.sigmoid(logits[:, :, number]).double().numpy().transpose(0, 2, 1)
        stretches.append(Stretch(stretch, {"keys": expected}))  # type: ignore[arg-type]
    step = piano_step(network, look_ahead, decoder)
    contract = _contract(step, trained.card, sha256, look_ahead)
    contract = with_stability(step, contract, np.concatenate(strips), allow_unstable=allow_unstable)
    memory = min(_MEMORY_FRAMES, strips.shape[1] - 1)
    contract = verify(step, contract, *comparable(stretches, memory, contract))
    facts: Mapping[str, Any] = {"against": f"full run in PyTorch {torch.__version__}"}
    contract = msgspec.structs.replace(contract, parity=contract.parity | dict(facts))
    write_model(step.model, contract, path)
    return contract


def _contract(step: StepGraph, card: Card, sha256: str, look_ahead: int) -> Contract:
    fed = Port(
        name="strip", kind="strip", shape=(*_SHAPE, len(CHANNELS)),
        axes=("row", "column", "channel"), unit="", channels=CHANNELS, dtype="uint8",
    )  # fmt: skip
    made = Port(
        name="keys", kind="keys", shape=(len(OUTPUTS), KEYS), axes=("output", "key"), unit="",
        channels=KEY_NAMES,
    )  # fmt: skip
    training = {"network": card.network, **card.training, "versions": card.versions}
    scores = card.scores
    if card.decoder is not None and look_ahead:
        scores = card.decoder["not_decoded"]
    elif card.decoder is not None:
        training["decoder"] = card.decoder
    return Contract(
        name=card.system,
        version=sha256[:8],
        task="keys that go down in a view of a keyboard",
        inputs=(fed,),
        outputs=(made,),
        states=step.states,
        delay_steps=look_ahead,
        threshold=card.threshold,
        preprocessing={"strip": "background and differences to it", "where": "inside the graph"},
        trained_on=card.trained_on,
        training=training,
        scores=tuple(
            Score(metric=metric, value=value, data="renderings", split="validation")
            for metric, value in scores.items()
        ),
    )


def _see(graph: Graph, strip: str) -> str:
    """Return the channels (1, 7, 56, 624); the same as `models.audeo.network.see`."""
    h, w = _SHAPE
    flat = graph.op("Cast", graph.reshape(strip, h * w, len(CHANNELS)), to=1)
    luma_of, red_of = np.array([*LUMA, 0.0]), np.array([0.0, 0.0, 1.0, 0.0])
    mix = np.stack([luma_of, red_of - luma_of, [0.0, 0.0, 0.0, 2.0]]) / 255
    both = graph.op("Gemm", graph.constant(mix), flat, transB=1)
    planes = graph.reshape(both, 3, h, w)
    luma, redness, side = graph.ops("Split", [planes], (0, 1, 2), axis=0, num_outputs=3)
    seen = graph.state("seen", (1, 1, 1))
    one = graph.constant(np.ones((1, 1, 1)))
    first = graph.op("Cast", graph.op("Less", seen, one), to=1)
    begun = graph.op("Sub", one, first)

    def before(name: str) -> str:
        old = graph.state(name, (1, h, w))
        return graph.op("Add", graph.op("Mul", old, begun), graph.op("Mul", luma, first))

    background, last, previous = before("background"), before("last"), before("before")
    counted = graph.op("Min", graph.op("Add", seen, one), graph.constant(SEEN_LONG))
    off = graph.op("Sub", luma, background)
    limit = [graph.constant(np.array(v)) for v in (-SURPRISE, SURPRISE)]
    step = graph.op("Div", graph.op("Clip", off, *limit), counted)
    background = graph.carry("background", graph.op("Add", background, step))
    graph.carry("before", graph.op("Identity", last))
    graph.carry("last", graph.op("Identity", luma))
    graph.carry("seen", graph.op("Identity", counted))
    level = _level(graph, background)

    def share(x: str, factor: float) -> str:
        return graph.op("Mul", x, graph.op("Div", graph.constant(factor), level))

    shift = graph.constant(0.7)
    parts = [
        graph.op("Sub", share(luma, 1.0), shift),
        graph.op("Sub", share(background, 1.0), shift),
        share(graph.op("Sub", luma, background), 3.0),
        share(graph.op("Sub", luma, last), 3.0),
        share(graph.op("Sub", luma, previous), 3.0),
        share(redness, 2.0),
        graph.op("Sub", side, graph.constant(1.0)),
    ]
    return graph.reshape(graph.op("Concat", *parts, axis=0), 1, len(parts), h, w)


def _level(graph: Graph, background: str) -> str:
    rows = [graph.constant(np.array([v], np.int64)) for v in (*FRONT, 1)]
    front = graph.op("Slice", background, *rows)
    there = graph.op("Cast", graph.op("Greater", front, graph.constant(BLANK)), to=1)
    axes = graph.constant([1, 2])
    total = graph.op("ReduceSum", graph.op("Mul", front, there), axes)
    count = graph.op("Max", graph.op("ReduceSum", there, axes), graph.constant(np.ones((1, 1, 1))))
    return graph.op("Add", graph.op("Div", total, count), graph.constant(DARK))


def _line(graph: Graph, x: str, layers: torch.nn.Sequential) -> str:
    """Apply convolutions along the strip, the last one with its batch norm, and a ReLU."""
    *convs, norm, _ = layers
    for conv in convs:
        assert isinstance(conv, torch.nn.Conv1d)
        weight, bias = (
            _folded(conv, norm) if conv is convs[-1] else (_array(conv.weight), _bias(conv))
        )
        x = graph.op(
            "Conv", x, graph.constant(weight), graph.constant(bias), group=conv.groups,
            dilations=list(conv.dilation), pads=[*conv.padding, *conv.padding],
        )  # fmt: skip
    return graph.op("Relu", x)


def _keys(graph: Graph, network: PianoNetwork, x: str) -> str:
    """Return features (88, F) of each key from those along the strip (1, F, 156)."""
    width = STRIP_WIDTH // 4
    features = network.config.features
    columns = graph.op("Transpose", graph.reshape(x, features, width), perm=[1, 0])
    beside = []
    for shift in TAPS:
        at = np.clip((CENTRES_U + shift) * PER_WHITE - 0.5, 0, width - 1)
        low = np.minimum(np.floor(at), width - 2).astype(np.int64)
        share = (at - low).astype(np.float64)[:, None]
        left = graph.op("Gather", columns, graph.constant(low), axis=0)
        right = graph.op("Gather", columns, graph.constant(low + 1), axis=0)
        beside.append(
            graph.op("Add", graph.op("Mul", left, graph.constant(1 - share)),
                     graph.op("Mul", right, graph.constant(share)))
        )  # fmt: skip
    joined = graph.op("Concat", *beside, axis=1)
    white, black = (
        graph.linear(joined, _array(layer.weight).T, _array(layer.bias))
        for layer in (network.white, network.black)
    )
    return graph.op("Relu", graph.op("Where", graph.constant(IS_BLACK[:, None]), black, white))


def _answers(graph: Graph, network: PianoNetwork, memory: str, rows: Sequence[int]) -> str:
    """Return some rows of logits (rows, 88); row 3 * i + j is output j of look-ahead i."""
    weight, bias = _array(network.out.weight)[list(rows)], _array(network.out.bias)[list(rows)]
    out = graph.op("Gemm", graph.constant(weight), memory, transB=1)
    return graph.op("Add", out, graph.constant(bias[:, None]))


def _recall(graph: Graph, network: PianoNetwork, features: str) -> str:
    """Return the memory (88, M) after this frame: a gated recurrent unit a key."""
    size = network.config.memory
    weights = {name: _array(value) for name, value in network.cell.named_parameters()}
    old = graph.state("memory", (KEYS, size))
    fed = graph.linear(features, weights["weight_ih_l0"].T, weights["bias_ih_l0"])
    kept = graph.linear(old, weights["weight_hh_l0"].T, weights["bias_hh_l0"])
    r1, z1, n1 = graph.ops("Split", [fed], (0, 1, 2), axis=1, num_outputs=3)
    r2, z2, n2 = graph.ops("Split", [kept], (0, 1, 2), axis=1, num_outputs=3)
    reset = graph.op("Sigmoid", graph.op("Add", r1, r2))
    update = graph.op("Sigmoid", graph.op("Add", z1, z2))
    new = graph.op("Tanh", graph.op("Add", n1, graph.op("Mul", reset, n2)))
    change = graph.op("Mul", update, graph.op("Sub", old, new))
    return graph.carry("memory", graph.op("Add", new, change))


def _folded(conv: Any, norm: Any) -> tuple[Array, Array]:
    """Return weight and bias of a convolution with the batch norm after it."""
    scale = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)
    weight = _array(conv.weight)
    shape = (-1,) + (1,) * (weight.ndim - 1)
    return weight * scale.reshape(shape), (
        _bias(conv) - _array(norm.running_mean)
    ) * scale + _array(norm.bias)


def _bias(conv: Any) -> Array:
    return _array(conv.bias)


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().double().numpy()
