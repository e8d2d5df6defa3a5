"""A small builder of ONNX graphs: nodes are added by calls, tensors are names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exporters.quantise import quantise_blocks
from stream.model_file import State

OPSET = 20
IR_VERSION = 10
"""Chosen so that ONNX Runtime 1.20 and newer read the files."""

_MICROSOFT = "com.microsoft"
_MICROSOFT_OPS = frozenset({"MatMulNBits", "SkipLayerNormalization"})
_TYPES = {
    "float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "uint8": TensorProto.UINT8,
}  # fmt: skip


@dataclass(frozen=True)
class StepGraph:
    """The ONNX graph of one streaming step, and the states that it hands to itself."""

    model: onnx.ModelProto
    states: tuple[State, ...]


class Graph:
    """An ONNX graph that grows node by node.

    Every method that makes a tensor returns its name, which later calls take as input.

    Parameters
    ----------
    name
        Of the graph.
    weight_bits
        8 or 4 to store the weights of `linear` as integers, None for float32.
    """

    def __init__(self, name: str, weight_bits: int | None = None) -> None:
        self.name = name
        self.weight_bits = weight_bits
        self.states: list[State] = []
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> str:
        """Declare an input of the graph."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(shape)))
        return name

    def output(self, tensor: str, name: str, shape: Sequence[int], dtype: str = "float32") -> str:
        """Give a tensor out under `name`, which it has from then on; inputs cannot be given out."""
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(shape)))
        for node in self._nodes:
            for names in (node.input, node.output):
                for i, own in enumerate(names):
                    if own == tensor:
                        names[i] = name
        return name

    def state(
        self, name: str, shape: Sequence[int], dtype: str = "float32", start: float = 0.0
    ) -> str:
        """Declare a state and return its old value; `carry` gives it the new one."""
        self.states.append(
            State(input=name, output=f"{name}_next", shape=tuple(shape), dtype=dtype, start=start)
        )
        return self.input(name, shape, dtype)

    def carry(self, state: str, tensor: str) -> str:
        """Make a tensor the next value of a state, and return its new name."""
        (found,) = (s for s in self.states if s.input == state)
        return self.output(tensor, found.output, found.shape, found.dtype)

    def constant(self, value: NDArray[Any] | Sequence[int] | float) -> str:
        """Store an array in the graph; float64 becomes float32."""
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = self._fresh("constant")
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; an empty string stands for an input that is left out."""
        return self.ops(op_type, inputs, (0,), **attributes)[0]

    def ops(
        self, op_type: str, inputs: Sequence[str], outputs: Sequence[int], **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node and return those of its outputs whose positions are in `outputs`."""
        names = [self._fresh(op_type) if i in outputs else "" for i in range(max(outputs) + 1)]
        domain = _MICROSOFT if op_type in _MICROSOFT_OPS else ""
        self._nodes.append(
            helper.make_node(op_type, list(inputs), names, domain=domain, **attributes)
        )
        return tuple(names[i] for i in outputs)

    def reshape(self, x: str, *shape: int) -> str:
        """Give a tensor another shape."""
        return self.op("Reshape", x, self.constant(shape))

    def linear(
        self, x: str, weight: NDArray[np.float64], bias: NDArray[np.float64] | None = None
    ) -> str:
        """Multiply rows (m, k) by a weight (k, n), quantised if the graph is, and add a bias."""
        if self.weight_bits is not None:
            blocks, scales, size = quantise_blocks(weight, self.weight_bits)
            inputs = [x, self.constant(blocks), self.constant(scales)]
            if bias is not None:
                inputs += ["", "", self.constant(bias)]
            k, n = weight.shape
            return self.op(
                "MatMulNBits", *inputs, K=k, N=n, bits=self.weight_bits, block_size=size,
                accuracy_level=4,
            )  # fmt: skip
        if bias is None:
            return self.op("MatMul", x, self.constant(weight))
        return self.op("Gemm", x, self.constant(weight), self.constant(bias))

    def model(self) -> onnx.ModelProto:
        """Return the finished, checked model."""
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, self._constants
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_MICROSOFT, 1)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="innervate"
        )
        onnx.checker.check_model(model)
        return model

    def step(self) -> StepGraph:
        """Return the finished model as a streaming step."""
        return StepGraph(self.model(), tuple(self.states))

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem.lower()}_{self._count}"
