"""A model file at work: an ONNX Runtime session that hands its own state from step to step."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from stream.captured import captured_output
from stream.errors import ModelError
from stream.model_file import Contract, read_model

DEVICE_PATTERN = r"^(auto|cpu|cuda(:[0-9]{1,2})?)$"
"""How a device is written: `auto` (a GPU when one works, else the CPU), `cpu`, `cuda`, `cuda:1`."""

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


class StreamingSession:
    """Runs a model file one step at a time; its state stays in here.

    Evaluation and the `model` node both step through this class, so what is evaluated is what
    runs live. Inputs, outputs and states are bound once to buffers that live as long as the
    session. A state that was verified to work in place has one buffer; the others have two, which
    swap roles every step.

    Parameters
    ----------
    path
        An `.onnx` file with a contract.
    device
        See `DEVICE_PATTERN`.
    threads
        Threads inside one operator. One suits a step of a few hundred channels.

    Attributes
    ----------
    contract
        What the file says of itself.
    sha256
        Of the file, as hexadecimal text.
    providers
        ONNX Runtime's execution providers as the session reports them, the preferred one first.
    fallback
        Why `auto` did not take the GPU; empty when it did or was not asked to.

    Raises
    ------
    ModelError
        The file cannot be read, has no contract, is not what its contract says, or asks for a
        device that does not work.
    """

    def __init__(self, path: Path | str, device: str = "auto", threads: int = 1) -> None:
        model, contract = read_model(path)
        self.contract: Contract = contract
        self.sha256 = hashlib.sha256(model).hexdigest()
        try:
            self._session, log = open_session(model, device, threads)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        gpu = _CUDA in self.providers
        self.fallback = "" if gpu or device == "cpu" else failure_reason(log)
        if device.startswith("cuda") and not gpu:
            raise ModelError(
                f"{path}: device '{device}' was asked for, but ONNX Runtime runs the model on"
                f" {', '.join(self.providers)} ({failure_reason(log)}); repair the CUDA"
                " installation (`innervate doctor` shows what works) or set device: cpu."
            )
        self._inputs: list[tuple[str, _Tensor]] = []
        self._outputs: list[tuple[str, _Tensor]] = []
        self._starts: list[tuple[_Tensor, NDArray[Any]]] = []
        self._unread: list[_Tensor] = []
        bindings = self._bind(_device_id(device) if gpu else None)
        self._binding, self._other, self._rehearsal = bindings
        self.reset()

    def reset(self) -> None:
        """Put the start values into every state, as at the start of a segment."""
        for tensor, start in self._starts:
            tensor.write(start)

    def step(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run one step and carry the state on.

        Parameters
        ----------
        inputs
            For each input of the contract, by name, an array of its shape and dtype.

        Returns
        -------
        dict
            For each output of the contract, by name, a new array of its shape and dtype.

        Raises
        ------
        ModelError
            An array has another shape or dtype, or ONNX Runtime failed; the state is then undefined
            until `reset`.
        """
        for name, tensor in self._inputs:
            values = inputs[name]
            if values.shape != tensor.array.shape or values.dtype != tensor.array.dtype:
                raise ModelError(
                    f"input '{name}' of {self.contract.name} takes {tensor.array.dtype}"
                    f" {list(tensor.array.shape)}, found {values.dtype} {list(values.shape)}."
                )
            tensor.write(values)
        self._run(self._binding)
        self._binding, self._other = self._other, self._binding
        return {name: tensor.array.copy() for name, tensor in self._outputs}

    def rehearse(self) -> None:
        """Run a step that leaves no trace, so that the next one finds its weights in the caches.

        Raises
        ------
        ModelError
            ONNX Runtime failed.
        """
        self._run(self._rehearsal)

    def _run(self, binding: ort.IOBinding) -> None:
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's own exceptions have no common base.
            raise ModelError(
                f"{self.contract.name}: a step failed ({_first_line(error)})."
            ) from None

    def _bind(self, gpu: int | None) -> tuple[ort.IOBinding, ort.IOBinding, ort.IOBinding]:
        """Make the buffers, and bindings: one for each of the two roles that they take in turn.

        The third one, for rehearsals, reads the states and writes none of them.
        """
        contract = self.contract
        self._inputs = [(p.name, _Tensor(p.shape, p.dtype, gpu)) for p in contract.inputs]
        # Outputs stay on the host: ONNX Runtime copies them there at the end of a run.
        self._outputs = [(p.name, _Tensor(p.shape, p.dtype, None)) for p in contract.outputs]
        one, two, rehearsal = bindings = tuple(self._session.io_binding() for _ in range(3))
        for binding in bindings:
            for name, tensor in self._inputs:
                binding.bind_ortvalue_input(name, tensor.value)
            for name, tensor in self._outputs:
                binding.bind_ortvalue_output(name, tensor.value)
        for state in contract.states:
            first = _Tensor(state.shape, state.dtype, gpu)
            # In place was verified with the CPU's kernels only.
            in_place = state.in_place and gpu is None
            second = first if in_place else _Tensor(state.shape, state.dtype, gpu)
            unread = _Tensor(state.shape, state.dtype, gpu)
            self._unread.append(unread)
            start = np.full(state.shape, state.start, state.dtype)
            self._starts += [(first, start), (second, start)]
            roles = ((one, first, second), (two, second, first), (rehearsal, first, unread))
            for binding, old, new in roles:
                binding.bind_ortvalue_input(state.input, old.value)
                binding.bind_ortvalue_output(state.output, new.value)
        return one, two, rehearsal


class _Tensor:
    """A buffer bound to the session: host memory that `array` sees, or memory of a GPU.

    The GPU part follows ONNX Runtime's documentation and has not been measured yet.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str, gpu: int | None) -> None:
        self.array = np.zeros(shape, dtype)
        self._on_host = gpu is None
        if gpu is None:
            self.value = ort.OrtValue.ortvalue_from_numpy(self.array)
        else:
            self.value = ort.OrtValue.ortvalue_from_numpy(self.array, "cuda", gpu)

    def write(self, values: NDArray[Any]) -> None:
        if self._on_host:
            np.copyto(self.array, values)
        else:
            self.value.update_inplace(values)


def open_session(model: bytes, device: str, threads: int) -> tuple[ort.InferenceSession, str]:
    """Make an ONNX Runtime session for single steps, and return what it logged meanwhile.

    Whether the GPU was taken stands in `get_providers()`: ONNX Runtime falls back without raising.

    Raises
    ------
    ModelError
        The bytes are no model that ONNX Runtime can run, or `device` is not written as
        `DEVICE_PATTERN` says.
    """
    if not re.match(DEVICE_PATTERN, device):
        raise ModelError(f"there is no device '{device}'; write auto, cpu, cuda or cuda:1.")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Spinning threads burn a core for a moment after every step and gain nothing measurable.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # What goes wrong in a run is raised; the log would only repeat it on the terminal.
    options.log_severity_level = 4
    providers: list[Any] = [_CPU]
    with captured_output() as log:
        try:
            if device != "cpu" and _CUDA in ort.get_available_providers():
                ort.preload_dlls()
                providers.insert(0, (_CUDA, {"device_id": str(_device_id(device))}))
            session = ort.InferenceSession(model, options, providers=providers)
        except Exception as error:  # ONNX Runtime's own exceptions have no common base.
            raise ModelError(f"ONNX Runtime cannot load it ({_first_line(error)}).") from None
    return session, log.getvalue()


def _device_id(device: str) -> int:
    return int(device.partition(":")[2] or 0)


def failure_reason(log: str) -> str:
    """Pick from a log of ONNX Runtime why a GPU could not be used."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    for pattern in (r"with error: (.+)", r"(CUDA failure .+?)[;\n]", r"(Failed to create .+?)\. "):
        if found := re.search(pattern, plain):
            return found[1].strip()
    if _CUDA not in ort.get_available_providers():
        return "this build of ONNX Runtime has no CUDA"
    return plain.strip().splitlines()[-1][:200] if plain.strip() else "it does not say why"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
