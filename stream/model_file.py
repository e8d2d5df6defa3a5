"""The contract inside a model file: everything that the runtime must know of an `.onnx`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import onnxruntime as ort

from stream.errors import ModelError
from stream.stability.card import Stability

METADATA_KEY = "innervate"
CONTRACT_VERSION = 1
MODEL_LIMIT_BYTES = 512 * 1024 * 1024
_DTYPES = frozenset(
    {"float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"}
)
_NESTING_LIMIT = 32
_VARINT_LIMIT_BYTES = 10


class Port(msgspec.Struct, kw_only=True, frozen=True):
    """One streamed input or output of the graph.

    `name` is the tensor's name; `kind`, `shape` (one packet, without batch), `unit`, `period_s`
    and `channels` (names along the last axis) are what the linked stream must have. For
    `period_s`, None means any.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    unit: str
    channels: tuple[str, ...]
    period_s: float | None = None
    dtype: str = "float32"


class State(msgspec.Struct, kw_only=True, frozen=True):
    """A tensor that the graph hands to itself from one step to the next.

    `start` fills it at the start of a segment. With `in_place`, the graph was verified to give the
    same numbers when one buffer is bound as both `input` and `output`.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    start: float = 0.0
    in_place: bool = False


class Score(msgspec.Struct, kw_only=True, frozen=True):
    """A measured figure and what it was measured on."""

    metric: str
    value: float
    data: str
    split: str = ""


class Contract(msgspec.Struct, kw_only=True, frozen=True):
    """The metadata of a model file, stored as JSON under the key `innervate`.

    `delay_steps` is the fixed look-ahead: the output for bin t comes with bin t + delay_steps.
    `threshold` is the probability from which a class is to be believed, as calibrated on data that
    was not trained on; None when it was not. `parity` holds the largest errors seen when the export
    was verified; `trained_on` names the data, its sha256 and its licence; `training` the settings;
    `stability` how the state forgets, None when it was not measured or there is none.
    """

    name: str
    version: str
    task: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[State, ...] = ()
    delay_steps: int = 0
    threshold: float | None = None
    preprocessing: dict[str, Any] = {}
    trained_on: dict[str, Any] = {}
    training: dict[str, Any] = {}
    scores: tuple[Score, ...] = ()
    parity: dict[str, Any] = {}
    stability: Stability | None = None
    notes: str = ""
    contract_version: int = CONTRACT_VERSION


def to_json(contract: Contract) -> str:
    """Write a contract as it stands in the file's metadata."""
    return msgspec.json.encode(contract).decode()


class _Version(msgspec.Struct):
    contract_version: int


def read_contract(path: Path | str) -> Contract:
    """Return the contract of a model file; see `read_model`."""
    return read_model(path)[1]


def read_model(path: Path | str) -> tuple[bytes, Contract]:
    """Read a model file and check that it is one, before anything of it runs.

    Returns
    -------
    model
        The file's bytes.
    contract
        What the file says of itself. Names, dtypes and shapes agree with the graph.

    Raises
    ------
    ModelError
        The file cannot be read, is larger than `MODEL_LIMIT_BYTES`, is no whole ONNX file, keeps
        weights in other files, has no contract, has one of another version, or has one that does
        not agree with its graph.
    """
    path = Path(path)
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise ModelError(f"{path} {what}; give the path of an .onnx model file.")
        if (size := path.stat().st_size) > MODEL_LIMIT_BYTES:
            raise ModelError(
                f"{path} has {size} bytes, a model file has at most {MODEL_LIMIT_BYTES}; it is"
                " not a model for streaming."
            )
        model = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}).") from None
    try:
        elsewhere = _external_data(model)
    except ValueError:
        raise ModelError(
            f"{path} is no whole ONNX file: it was cut short or is of another format; copy or"
            " export it again."
        ) from None
    if elsewhere:
        raise ModelError(
            f"{path} keeps weights in other files; a model file holds everything itself, export"
            " it again with `innervate export`."
        )
    text, tensors = _open(path, model)
    if text is None:
        raise ModelError(
            f"{path} is an ONNX file without a contract: nothing says what its inputs mean; export"
            " it with `innervate export`."
        )
    contract = _decode(path, text)
    _check_ports(path, contract)
    _check_graph(path, contract, tensors)
    return model, contract


_Tensors = dict[str, tuple[str, tuple[Any, ...]]]


def _open(path: Path, model: bytes) -> tuple[str | None, tuple[_Tensors, _Tensors]]:
    """Return the contract's text, and dtype and shape of the graph's inputs and outputs."""
    options = ort.SessionOptions()
    # Only names and shapes are wanted here, so nothing is optimised.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        inputs, outputs = (
            {t.name: (_dtype(t.type), tuple(t.shape)) for t in side}
            for side in (session.get_inputs(), session.get_outputs())
        )
    except Exception as error:  # ONNX Runtime's own exceptions have no common base.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise ModelError(f"{path} is no ONNX file that ONNX Runtime can load ({reason}).") from None
    return text, (inputs, outputs)


def _decode(path: Path, text: str) -> Contract:
    try:
        version = msgspec.json.decode(text, type=_Version).contract_version
        if version != CONTRACT_VERSION:
            raise ModelError(
                f"{path} has a contract of version {version}, this release reads version"
                f" {CONTRACT_VERSION}; use a release that fits, or export the model again."
            )
        return msgspec.json.decode(text, type=Contract)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ModelError(
            f"{path} has a contract that cannot be understood ({error}); export the model again."
        ) from None


def _check_ports(path: Path, contract: Contract) -> None:
    """Refuse a contract that contradicts itself."""
    if not contract.inputs or not contract.outputs:
        raise ModelError(f"{path}: the contract names no input or no output.")
    if contract.delay_steps < 0:
        raise ModelError(f"{path}: the contract has {contract.delay_steps} delay steps.")
    if contract.threshold is not None and not 0.5 < contract.threshold <= 1:
        raise ModelError(
            f"{path}: the contract has a threshold of {contract.threshold:g}; it must be above 0.5,"
            " so that no two classes reach it at once, and at most 1."
        )
    tensors: tuple[Port | State, ...] = (*contract.inputs, *contract.outputs, *contract.states)
    for tensor in tensors:
        if tensor.dtype not in _DTYPES:
            raise ModelError(
                f"{path}: the contract has a tensor of type {tensor.dtype!r}; there are"
                f" {', '.join(sorted(_DTYPES))}."
            )
    for port in (*contract.inputs, *contract.outputs):
        if len(port.axes) != len(port.shape):
            raise ModelError(
                f"{path}: '{port.name}' has shape {list(port.shape)} and axes {list(port.axes)} in"
                " the contract; there must be one name for each axis."
            )
        if port.channels and (not port.shape or len(port.channels) != port.shape[-1]):
            raise ModelError(
                f"{path}: '{port.name}' has shape {list(port.shape)} and {len(port.channels)}"
                " channel names in the contract; there must be one for each along the last axis."
            )


def _check_graph(path: Path, contract: Contract, tensors: tuple[_Tensors, _Tensors]) -> None:
    """Refuse a graph whose inputs and outputs are not those of the contract, all and exactly."""
    states = contract.states
    sides = (
        ("input", contract.inputs, {s.input: s for s in states}, tensors[0]),
        ("output", contract.outputs, {s.output: s for s in states}, tensors[1]),
    )
    for side, ports, carried, graph in sides:
        wanted: dict[str, Port | State] = {port.name: port for port in ports} | dict(carried)
        if len(wanted) != len(ports) + len(states):
            raise ModelError(f"{path}: the contract names an {side} twice.")
        if missing := sorted(wanted.keys() - graph.keys()):
            raise ModelError(
                f"{path}: the contract names the {side} '{missing[0]}', which the graph does not"
                f" have; the graph has {', '.join(graph) or 'none'}."
            )
        if extra := sorted(graph.keys() - wanted.keys()):
            raise ModelError(
                f"{path}: the graph has an {side} '{extra[0]}' that the contract does not name."
            )
        for name, tensor in wanted.items():
            if graph[name] != (tensor.dtype, tensor.shape):
                dtype, shape = graph[name]
                raise ModelError(
                    f"{path}: the {side} '{name}' is {tensor.dtype} {list(tensor.shape)} in the"
                    f" contract and {dtype} {list(shape)} in the graph."
                )


def _dtype(ort_type: str) -> str:
    """Return numpy's name for ONNX Runtime's name of a tensor type, such as `tensor(float)`."""
    name = ort_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)


# Which fields of which ONNX message hold messages that lead to a TensorProto. Numbers are those of
# onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
_CHILDREN = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}  # fmt: skip
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def _external_data(model: bytes) -> bool:
    """Tell whether any tensor of a serialised ModelProto lies outside of it.

    ONNX Runtime would follow such a path while it loads, so this is settled before.

    Raises
    ------
    ValueError
        The bytes are no protobuf message, or end inside one.
    """
    return _walk(memoryview(model), "model", 0)


def _walk(data: memoryview, message: str, depth: int) -> bool:
    if depth > _NESTING_LIMIT:
        raise ValueError("nested too deeply")
    children = _CHILDREN[message]
    for field, value in _fields(data):
        if message == "tensor" and (
            field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value == 1)
        ):
            return True
        if field in children:
            if not isinstance(value, memoryview):
                raise ValueError("a message was expected")
            if _walk(value, children[field], depth + 1):
                return True
    return False


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a protobuf message (its encoding is public)."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        value: int | memoryview
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 2, 5):
            size, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
            if at + size > len(data):
                raise ValueError("cut short")
            value, at = data[at : at + size], at + size
        else:
            raise ValueError("unknown wire type")
        yield field, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for i in range(_VARINT_LIMIT_BYTES):
        if at + i >= len(data):
            raise ValueError("cut short")
        value |= (data[at + i] & 0x7F) << (7 * i)
        if data[at + i] < 0x80:
            return value, at + i + 1
    raise ValueError("a number is too long")
