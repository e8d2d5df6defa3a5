"""The recogniser of actions as an ONNX graph of one tick, verified and written to a model file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from exporters.model_writer import write_model
from exporters.onnx_graph import Graph, StepGraph
from exporters.recurrent import onnx_lstm_weights
from exporters.stability import comparable, with_stability
from exporters.verify import Stretch, verify
from models.sesar.network import (
    BONE,
    DISTANCE_EPSILON,
    HEADING_S,
    JOINTS,
    PARENTS,
    PERIOD_S,
    POSITION,
    SPEED,
    START_LOG_WEIGHT,
    UNIT_EPSILON,
    Sesar,
    across,
    ends,
)
from models.sesar.trained import Card, Committee
from stream.model_file import Contract, Port, Score
from stream.stability.measuring import Effort

Array = NDArray[np.float64]
_MEMORY_TICKS = 60
_FLAT = JOINTS * 3


def sesar_step(committee: Committee) -> StepGraph:
    """Return one tick of `models.sesar.trained.Committee` as a graph.

    The input is `joints` (20, 3) in metres, the output `probabilities` (classes,), both float32.
    States are `previous` (1, 60) joints, `begun`, which is 0 at the first tick, `heading` (1, 2),
    and of each member what its layers, its evidence and the weight of that evidence were.
    """
    graph = Graph("sesar_step")
    features = _features(graph, graph.input("joints", (JOINTS, 3)))
    members = [_member(graph, m, features, i) for i, m in enumerate(committee.members)]  # type: ignore[arg-type]
    total = members[0]
    for other in members[1:]:
        total = graph.op("Add", total, other)
    scale = graph.constant(1.0 / (len(members) * committee.temperature))
    probabilities = graph.op("Softmax", graph.op("Mul", total, scale), axis=-1)
    classes = committee.config.classes
    graph.output(graph.reshape(probabilities, classes), "probabilities", (classes,))
    return graph.step()


def export_sesar(
    committee: Committee, card: Card, sha256: str, streams: NDArray[np.float32], path: Path,
    *, allow_unstable: bool = False, effort: Effort | None = None,
) -> Contract:  # fmt: skip
    """Write the model file of a committee, once it is verified on poses.

    Parameters
    ----------
    committee, card
        Trained, and what its folder says of it.
    sha256
        Of the weights.
    streams
        (streams, ticks, 20, 3) poses on the clock; each is run from cold, tick by tick, and
        compared with the whole run in PyTorch at every tick.
    path
        Of the new file; an old one stays as it is unless all goes well.
    allow_unstable
        Write an unstable network too; see `exporters.stability`.
    effort
        With which stability is measured, if not the usual.

    Raises
    ------
    ModelError
        The exported step differs from the network, it is unstable, or the file cannot be written.
    """
    committee.eval()
    with torch.no_grad():
        expected = committee(torch.from_numpy(streams)).double().numpy()
    stretches = [
        Stretch(joints, {"probabilities": p}) for joints, p in zip(streams, expected, strict=True)
    ]
    step = sesar_step(committee)
    contract = _contract(step, card, sha256)
    contract = with_stability(
        step, contract, np.concatenate(streams), allow_unstable=allow_unstable, effort=effort
    )
    memory = min(_MEMORY_TICKS, streams.shape[1] - 1)
    contract = verify(step, contract, *comparable(stretches, memory, contract))
    facts = {"against": f"full run in PyTorch {torch.__version__}"}
    contract = _with_parity(contract, facts)
    write_model(step.model, contract, path)
    return contract


def _with_parity(contract: Contract, facts: Mapping[str, Any]) -> Contract:
    return msgspec.structs.replace(contract, parity=contract.parity | dict(facts))


def _contract(step: StepGraph, card: Card, sha256: str) -> Contract:
    data = str(card.trained_on.get("name", ""))
    fed = Port(
        name="joints", kind="skeleton", shape=(JOINTS, 3), axes=("joint", "axis"), unit="m",
        channels=("x", "y", "z"), period_s=PERIOD_S,
    )  # fmt: skip
    made = Port(
        name="probabilities", kind="probabilities", shape=(len(card.classes),), axes=("class",),
        unit="", channels=card.classes, period_s=PERIOD_S,
    )  # fmt: skip
    return Contract(
        name=f"{card.system}-{data}" if data else card.system,
        version=sha256[:8],
        task="probabilities of actions",
        inputs=(fed,),
        outputs=(made,),
        states=step.states,
        threshold=card.threshold,
        preprocessing={
            "joints": "turned to the person's heading; relative to the hip centre, to each joint's"
            " parent, and as velocities",
            "where": "inside the graph",
            "layout": "kinect-20",
        },
        trained_on={key: value for key, value in card.trained_on.items() if key != "folders"},
        training={"network": card.network, **card.training, "versions": card.versions},
        scores=tuple(
            Score(metric=metric, value=value, data=data, split="held-out subjects")
            for metric, value in card.scores.items()
        ),
    )


def _features(graph: Graph, joints: str) -> str:
    """Return features (1, 270): as the network has them, but vectors axis by axis."""
    flat = graph.reshape(joints, 1, _FLAT)
    previous, begun = graph.state("previous", (1, _FLAT)), graph.state("begun", (1, 1))
    moved = graph.op("Mul", graph.op("Sub", flat, previous), begun)
    graph.carry("previous", graph.op("Identity", flat))
    graph.carry("begun", graph.op("Max", begun, graph.constant(np.ones((1, 1)))))
    heading = graph.state("heading", (1, 2))
    line = _unit(graph, graph.op("MatMul", flat, graph.constant(_across_matrix())))
    kept = graph.op("Mul", heading, graph.constant(np.exp(-PERIOD_S / HEADING_S)))
    heading = graph.carry("heading", graph.op("Add", kept, line))
    hx, hz = graph.ops("Split", [_unit(graph, heading)], (0, 1), axis=1, num_outputs=2)
    both = graph.op("Concat", flat, moved, axis=1)
    vectors = graph.op("MatMul", both, graph.constant(_vector_matrix()))
    x, y, z = graph.ops("Split", [vectors], (0, 1, 2), axis=1, num_outputs=3)
    left = graph.op("Add", graph.op("Mul", hx, x), graph.op("Mul", hz, z))
    away = graph.op("Sub", graph.op("Mul", hx, z), graph.op("Mul", hz, x))
    apart, change = _distances(graph, graph.op("Concat", flat, previous, axis=0), begun)
    return graph.op("Concat", left, y, away, apart, change, axis=1)


def _distances(graph: Graph, poses: str, begun: str) -> tuple[str, str]:
    """Return distances (1, 45) of a pose, and how fast they change since the one before it."""
    between = graph.op("MatMul", poses, graph.constant(_between_matrix()))
    square = graph.op("Mul", between, between)
    # Axis by axis, so that squares of one distance lie as far apart as there are distances.
    square = graph.op("ReduceSum", graph.reshape(square, 2, 3, -1), graph.constant([1]), keepdims=0)
    apart = graph.op("Sqrt", graph.op("Add", square, graph.constant(DISTANCE_EPSILON)))
    now, before = graph.ops("Split", [apart], (0, 1), axis=0, num_outputs=2)
    change = graph.op("Mul", graph.op("Sub", now, before), begun)
    return (
        graph.op("Mul", now, graph.constant(POSITION)),
        graph.op("Mul", change, graph.constant(SPEED / PERIOD_S)),
    )


def _unit(graph: Graph, v: str) -> str:
    square = graph.op("ReduceSum", graph.op("Mul", v, v), graph.constant([1]), keepdims=1)
    size = graph.op("Sqrt", graph.op("Add", square, graph.constant(UNIT_EPSILON)))
    return graph.op("Div", v, size)


def _across_matrix() -> Array:
    """Return (60, 2), the linear map of `models.sesar.network.across`."""
    return across(torch.eye(_FLAT).view(_FLAT, JOINTS, 3)).double().numpy()


def _between_matrix() -> Array:
    """Return (60, 135), the linear map of `models.sesar.network.ends`, axis by axis."""
    found = ends(torch.eye(_FLAT).view(_FLAT, JOINTS, 3))
    return found.transpose(1, 2).flatten(1).double().numpy()


def _vector_matrix() -> Array:
    """Return (120, 180), from joints and their movement to scaled vectors, axis by axis."""
    matrix = np.zeros((2, JOINTS, 3, 3, JOINTS, 3))  # of what, joint, axis -> axis, joint, vector
    for axis in range(3):
        for joint, parent in enumerate(PARENTS):
            to = matrix[:, :, axis, axis, joint]
            to[0, joint, 0] += POSITION
            to[0, 0, 0] -= POSITION
            to[1, joint, 1] += SPEED / PERIOD_S
            to[0, joint, 2] += BONE
            to[0, parent, 2] -= BONE
    return matrix.reshape(2 * _FLAT, 9 * JOINTS)


def _member(graph: Graph, network: Sesar, features: str, number: int) -> str:
    """Return the log probabilities (1, classes) of one network."""
    config = network.config
    x = _embed(graph, network, features)
    for layer in range(config.layers):
        names = f"hidden_{number}_{layer}", f"cell_{number}_{layer}"
        old = [graph.state(name, (1, 1, config.hidden)) for name in names]
        weights = [graph.constant(w) for w in onnx_lstm_weights(network.lstm, layer)]
        sequence = graph.reshape(x, 1, 1, config.hidden)
        made = graph.ops(
            "LSTM", [sequence, *weights, "", *old], (1, 2), hidden_size=config.hidden
        )  # fmt: skip
        new, _ = (graph.carry(name, value) for name, value in zip(names, made, strict=True))
        x = graph.reshape(new, 1, config.hidden)
    out = graph.linear(x, _array(network.head.weight).T, _array(network.head.bias))
    sizes = graph.constant([config.classes, 1, 1])
    parts = graph.ops("Split", [out, sizes], (0, 1, 2), axis=1)
    return graph.op("LogSoftmax", _read_out(graph, parts, number, config.classes))


def _read_out(graph: Graph, out: tuple[str, ...], number: int, classes: int) -> str:
    """Return the running mean of evidence (1, classes), weighted by gates."""
    evidence, gate, keep = out
    mean = graph.state(f"evidence_{number}", (1, classes))
    weight = graph.state(f"weight_{number}", (1, 1), start=START_LOG_WEIGHT)
    minus = graph.op("Neg", graph.op("Softplus", graph.op("Neg", keep)))
    before = graph.op("Add", weight, minus)
    ahead = graph.op("Sub", gate, before)
    # log(exp(before) + exp(gate)), exact when one is far below the other.
    more = graph.op("Softplus", graph.op("Neg", graph.op("Abs", ahead)))
    graph.carry(f"weight_{number}", graph.op("Add", graph.op("Max", before, gate), more))
    change = graph.op("Mul", graph.op("Sigmoid", ahead), graph.op("Sub", evidence, mean))
    return graph.carry(f"evidence_{number}", graph.op("Add", mean, change))


def _embed(graph: Graph, network: Sesar, features: str) -> str:
    weight, bias = _array(network.inward.weight).T, _array(network.inward.bias)
    vectors, apart = np.split(weight, [9 * JOINTS])
    vectors = vectors.reshape(JOINTS, 3, 3, -1).transpose(2, 0, 1, 3).reshape(9 * JOINTS, -1)
    weight = np.concatenate([vectors, apart])
    y = graph.linear(features, weight, bias)
    return graph.op("Relu", _norm(graph, network.norm, y))


def _norm(graph: Graph, norm: torch.nn.LayerNorm, x: str) -> str:
    scale, bias = graph.constant(_array(norm.weight)), graph.constant(_array(norm.bias))
    return graph.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=norm.eps)


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().double().numpy()
