from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from stream.model_file import METADATA_KEY, Contract, Port, State, to_json
from stream.node import StreamSpec

_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


def _port(name, kind, channels, unit, period_s=0.005):
    return Port(
        name=name, kind=kind, shape=(len(channels),), axes=("unit",), unit=unit,
        channels=channels, period_s=period_s,
    )  # fmt: skip


def _save(path: Path, contract: Contract, nodes, constants) -> Path:
    def value(name, dtype, shape):
        return helper.make_tensor_value_info(name, _TYPES[dtype], shape)

    graph = helper.make_graph(
        nodes,
        "g",
        [value(p.name, p.dtype, p.shape) for p in contract.inputs]
        + [value(s.input, s.dtype, s.shape) for s in contract.states],
        [value(p.name, p.dtype, p.shape) for p in contract.outputs]
        + [value(s.output, s.dtype, s.shape) for s in contract.states],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: to_json(contract)})
    path.write_bytes(model.SerializeToString())
    return path


def _integrator(
    path: Path,
    *,
    units=("a", "b", "c"),
    in_place=False,
    delay_steps=0,
    start=0.0,
    leak=0.5,
    period_s=0.005,
) -> Path:
    """rates = trace = leak * trace + counts; behaviour = the sum of rates, and 1 / counts[0] - .5.

    The last column is infinite for a first count of 0.5, which is how tests spoil an output.
    """
    contract = Contract(
        name="integrator",
        version="1",
        task="rates",
        inputs=(_port("counts", "counts", units, "count", period_s),),
        outputs=(
            _port("rates", "rates", units, "Hz", period_s),
            _port("behaviour", "behaviour", ("total", "inverse"), ""),
        ),
        states=(
            State(
                input="trace", output="trace_next", shape=(len(units),), start=start,
                in_place=in_place,
            ),
        ),
        delay_steps=delay_steps,
    )  # fmt: skip
    nodes = [
        helper.make_node("Mul", ["trace", "leak"], ["kept"]),
        helper.make_node("Add", ["kept", "counts"], ["trace_next"]),
        helper.make_node("Identity", ["trace_next"], ["rates"]),
        helper.make_node("ReduceSum", ["rates", "axis"], ["total"], keepdims=1),
        helper.make_node("Gather", ["counts", "first"], ["count_0"]),
        helper.make_node("Sub", ["count_0", "half"], ["shifted"]),
        helper.make_node("Reciprocal", ["shifted"], ["inverse"]),
        helper.make_node("Concat", ["total", "inverse"], ["behaviour"], axis=0),
    ]
    constants = [
        ("leak", np.float32(leak)),
        ("axis", np.array([0])),
        ("first", np.array([0])),
        ("half", np.float32(0.5)),
    ]
    return _save(path, contract, nodes, constants)


def _ring(path: Path, *, names=("u0", "u1", "u2"), window=4, in_place=True) -> Path:
    """Rates are the sum of the last `window` counts, from a ring buffer and an integer index."""
    contract = Contract(
        name="ring",
        version="1",
        task="rates",
        inputs=(_port("counts", "counts", names, "count"),),
        outputs=(_port("rates", "rates", names, "Hz"),),
        states=(
            State(
                input="ring", output="ring_next", shape=(window, len(names)), in_place=in_place
            ),
            State(input="index", output="index_next", shape=(1, 1), dtype="int64"),
        ),
    )  # fmt: skip
    nodes = [
        helper.make_node("Unsqueeze", ["counts", "zero"], ["row"]),
        helper.make_node("ScatterND", ["ring", "index", "row"], ["ring_next"]),
        helper.make_node("ReduceSum", ["ring_next", "zero"], ["rates"], keepdims=0),
        helper.make_node("Add", ["index", "one"], ["advanced"]),
        helper.make_node("Mod", ["advanced", "window"], ["index_next"]),
    ]
    constants = [
        ("zero", np.array([0])),
        ("one", np.array([[1]])),
        ("window", np.array([[window]])),
    ]
    return _save(path, contract, nodes, constants)


@pytest.fixture
def integrator():
    return _integrator


@pytest.fixture
def ring():
    return _ring


@pytest.fixture
def counts_spec():
    def spec(units=("a", "b", "c"), **changes):
        given = {
            "kind": "counts", "shape": (len(units),), "dtype": "float32", "names": tuple(units),
            "unit": "count", "period_s": 0.005,
        }  # fmt: skip
        return StreamSpec(**{**given, **changes})

    return spec
