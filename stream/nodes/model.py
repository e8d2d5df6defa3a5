"""The `model` node: a model file between a stream and what the model makes of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from stream.errors import ConfigError, ModelError
from stream.inference import DEVICE_PATTERN, StreamingSession
from stream.model_file import Contract, Port, read_model
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.units import format_seconds, to_ns

_WARM_UP_STEPS = 50
# Two rehearsals, the last one so long before the next packet. After one alone, a step of a network
# of 4.7 MB took up to twice as long.
_REHEARSAL_NS = 900_000
_NON_NEGATIVE = frozenset({"counts", "rates"})

_BELIEVED = frozenset({"probabilities", "keys"})
"""Kinds of output that the threshold of a contract is about."""


class ModelSettings(NodeSettings):
    """Settings of the `model` node."""

    file: Path = Field(description="model file (.onnx with a contract)")
    device: str = Field(
        "auto",
        pattern=DEVICE_PATTERN,
        description="where to run: auto (a GPU when one works), cpu, cuda, cuda:1",
    )
    threads: int = Field(1, ge=1, le=64, description="threads inside one operator")


class Model(Node[ModelSettings]):
    """Steps a model file once for every packet and keeps its state.

    The first output of the contract is the node's main stream, each further one is a stream of
    its own name (`rates.behaviour`). State starts afresh with every segment and is kept over a
    gap, be it marked (`gap`) or a jump of `seq`: the network then takes the next bin for the one
    after the last. A gap is passed on, and what is missing is noted as `missing_steps`. A packet
    that cannot be used is refused, counted, and becomes a gap of one in what follows. Outputs
    carry the source times of the bin that they are for, and the time of the newest input. With a
    look-ahead of `delay_steps`, the first `delay_steps` steps of a segment give nothing, and its
    last bins stay without an output: these are counted under `look_ahead`.

    Between packets a few milliseconds apart, caches forget the weights, and a step takes several
    times as long as the one before. Shortly before a packet is due, the step is therefore rehearsed
    on a copy of the state.
    """

    use = "model"
    summary = "runs a model file, one step for every packet"
    Settings = ModelSettings
    # The contract says what the model takes.
    accepts: ClassVar[frozenset[str]] = frozenset({"*"})

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Read the contract, check it against the linked stream, and return what it gives.

        Raises
        ------
        ConfigError
            The file is missing or no model file, does not fit the stream, or the GPU that was asked
            for does not work.
        """
        path = self.settings.file
        try:
            model, contract = read_model(path)
            if self.settings.device.startswith("cuda"):
                # Only a session tells whether a GPU works; better now than after the start.
                StreamingSession(path, self.settings.device)
        except ModelError as error:
            raise ConfigError(str(error)) from None
        if len(contract.inputs) != 1:
            names = ", ".join(port.name for port in contract.inputs)
            raise ConfigError(
                f"{path.name} takes {len(contract.inputs)} inputs ({names}), a 'model' node feeds"
                " exactly one."
            )
        (port,) = contract.inputs
        ((stream, spec),) = inputs.items()
        model_name = f"{path.name} ({contract.name} {contract.version})"
        _check_fit(model_name, port, stream, spec)
        _check_layout(model_name, contract.preprocessing.get("layout"), stream, spec)
        about = {
            "name": contract.name,
            "version": contract.version,
            "file": str(path),
            "sha256": sha256(model).hexdigest(),
        }
        return {
            output.name if number else "": StreamSpec(
                kind=output.kind,
                shape=output.shape,
                dtype=output.dtype,
                names=output.channels,
                unit=output.unit,
                period_s=spec.period_s if output.period_s is None else output.period_s,
                meta={"model": about} | _threshold(contract, output),
            )
            for number, output in enumerate(contract.outputs)
        }

    def open(self, context: Context) -> None:
        """Load the model and warm it up, so that the first packet meets no first-time cost."""
        super().open(context)
        self._session = StreamingSession(
            self.settings.file, self.settings.device, self.settings.threads
        )
        contract: Contract = self._session.contract
        (self._port,) = contract.inputs
        self._dtype = np.dtype(self._port.dtype)
        self._delay = contract.delay_steps
        self._outputs = tuple(
            (port.name, port.kind, port.name if number else "")
            for number, port in enumerate(contract.outputs)
        )
        self._waiting: deque[tuple[int, int, int]] = deque()
        self._segment: int | None = None
        self._seq: int | None = None
        self._gap = 0
        self._missing = 0
        ((_, spec),) = context.inputs.items()
        self._period_ns = None if spec.period_s is None else to_ns(spec.period_s)
        self._rehearsals: list[int] = []
        zeros = {self._port.name: np.zeros(self._port.shape, self._dtype)}
        for _ in range(_WARM_UP_STEPS):
            self._session.step(zeros)
        self._session.reset()
        context.counters.note(
            "model",
            {
                "file": str(self.settings.file),
                "sha256": self._session.sha256,
                "providers": list(self._session.providers),
                "fallback": self._session.fallback,
                "name": contract.name,
                "version": contract.version,
            },
        )

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Step the model with one packet."""
        if packet.segment != self._segment:
            self._segment = packet.segment
            self._start_afresh("look_ahead")
        self._count_missing(packet)
        if reason := self._refuse(packet):
            self.context.counters.drop(reason)
            self._gap += 1
            return ()
        began_ns = time.monotonic_ns()
        values = self._session.step({self._port.name: packet.data})
        self._plan_rehearsals(packet.t_ns, time.monotonic_ns() - began_ns)
        self._waiting.append((packet.source_ns, packet.source_end_ns, self._gap))
        self._gap = 0
        if not all(np.isfinite(value).all() for value in values.values()):
            # The state that led to this is spoilt, and with it whatever would follow from it.
            self._start_afresh("output_not_finite")
            return ()
        if len(self._waiting) <= self._delay:
            return ()
        source_ns, source_end_ns, gap = self._waiting.popleft()
        return [
            Packet(
                kind=kind, data=values[name], t_ns=packet.t_ns, source_ns=source_ns,
                source_end_ns=source_end_ns, segment=packet.segment, gap=gap, output=output,
            )
            for name, kind, output in self._outputs
        ]  # fmt: skip

    def due_ns(self) -> int | None:
        """Return when the step is to be rehearsed."""
        return self._rehearsals[0] if self._rehearsals else None

    def tick(self) -> Iterable[Packet]:
        """Rehearse the step."""
        del self._rehearsals[0]
        self._session.rehearse()
        return ()

    def finish(self) -> Iterable[Packet]:
        """Count the bins that wait for a look-ahead that will not come."""
        self._start_afresh("look_ahead")
        return ()

    def _count_missing(self, packet: Packet) -> None:
        missing = packet.gap
        if self._seq is not None:
            missing += max(0, packet.seq - self._seq - 1)
        self._seq = packet.seq
        if missing:
            self._gap += missing
            self._missing += missing
            self.context.counters.note("missing_steps", self._missing)

    def _plan_rehearsals(self, t_ns: int, step_ns: int) -> None:
        """Set them before the packet that follows the one of `t_ns`, where there is time for two.

        A cold rehearsal takes about three times as long as a warm step.
        """
        self._rehearsals = []
        if self._period_ns is None:
            return
        lead_ns = max(_REHEARSAL_NS, 3 * step_ns)
        if 2 * lead_ns < self._period_ns:
            due_ns = t_ns + self._period_ns
            self._rehearsals = [due_ns - 2 * lead_ns, due_ns - lead_ns]

    def _refuse(self, packet: Packet) -> str:
        """Return why a packet cannot be used, empty when it can."""
        data = packet.data
        if data.dtype != self._dtype:
            return "wrong_dtype"
        if data.shape != self._port.shape:
            return "wrong_shape"
        if not np.isfinite(data).all():
            return "not_finite"
        if packet.kind in _NON_NEGATIVE and data.min() < 0:
            return "negative"
        return ""

    def _start_afresh(self, reason: str) -> None:
        """Reset the state; bins that were stepped but gave no output are lost for this reason."""
        self._session.reset()
        if self._waiting:
            self.context.counters.drop(reason, len(self._waiting))
            self._gap += sum(gap + 1 for _, _, gap in self._waiting)
            self._waiting.clear()


def _threshold(contract: Contract, output: Port) -> dict[str, float]:
    """Return what the stream of an output says of the probability from which to believe it."""
    if contract.threshold is None or output.kind not in _BELIEVED:
        return {}
    return {"threshold": contract.threshold}


def _check_fit(model: str, port: Port, stream: str, spec: StreamSpec) -> None:
    """Refuse a stream that is not what the model was made for."""
    if spec.kind != port.kind:
        raise ConfigError(f"{model} takes {port.kind}, '{stream}' carries {spec.kind}.")
    if port.channels:
        _check_channels(model, port.channels, stream, spec)
    if spec.shape != port.shape:
        raise ConfigError(
            f"{model} takes arrays of shape {list(port.shape)}, '{stream}' carries"
            f" {list(spec.shape)}."
        )
    if spec.dtype != port.dtype:
        raise ConfigError(f"{model} takes {port.dtype}, '{stream}' carries {spec.dtype}.")
    if port.unit and spec.unit and spec.unit != port.unit:
        raise ConfigError(
            f"{model} takes values in {port.unit}, '{stream}' carries values in {spec.unit}."
        )
    if port.period_s is not None and (
        spec.period_s is None or abs(spec.period_s - port.period_s) > 1e-9
    ):
        found = "no fixed interval" if spec.period_s is None else format_seconds(spec.period_s)
        raise ConfigError(
            f"{model} takes one packet every {format_seconds(port.period_s)}, '{stream}' has"
            f" {found}; set the bin width to {format_seconds(port.period_s)} or use a model made"
            " for this one."
        )


def _check_layout(model: str, wanted: object, stream: str, spec: StreamSpec) -> None:
    """Refuse a skeleton whose joints stand in another order than those the model was made for."""
    found = spec.meta.get("layout")
    if wanted is not None and found != wanted:
        raise ConfigError(
            f"{model} takes the joints of {wanted}, '{stream}' carries {found or 'no layout'}."
        )


def _check_channels(model: str, wanted: tuple[str, ...], stream: str, spec: StreamSpec) -> None:
    found = spec.names
    if found == wanted:
        return
    if not found:
        raise ConfigError(
            f"{model} takes {len(wanted)} named channels, '{stream}' does not name its own, so"
            " nothing says that they are the same."
        )
    missing = [name for name in wanted if name not in set(found)]
    extra = [name for name in found if name not in set(wanted)]
    sizes = f"{model} takes {len(wanted)} channels, '{stream}' carries {len(found)}"
    if not missing:
        what = f"not known to the model: {_some(extra)}" if extra else "in another order"
        if not extra and len(found) != len(wanted):
            what = "some of them twice"
        raise ConfigError(
            f"{sizes}, {what}; give the model's channels to 'spikes.bin' in its order, with"
            f" `units: [{_some(wanted)}]` (`innervate inspect` lists them)."
        )
    if len(missing) == len(extra) and len(found) == len(wanted):
        pairs = [f"{b} instead of {a}" for a, b in zip(wanted, found, strict=True) if a != b]
        raise ConfigError(
            f"{sizes}, but under other names: {_some(pairs)}; use the recording that the model was"
            " trained for, or train it for this one."
        )
    also = f"; not known to the model: {_some(extra)}" if extra else ""
    raise ConfigError(f"{sizes}; missing: {_some(missing)}{also}.")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
