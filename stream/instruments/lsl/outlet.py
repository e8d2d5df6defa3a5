"""`lsl`: streams of a run on Lab Streaming Layer."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from stream.errors import ConfigError
from stream.instruments.lsl.liblsl import LslClock, load_pylsl
from stream.instruments.lsl.streams import introduce
from stream.loop.freshness import Freshness, OutputSettings
from stream.node import Context, Node, StreamSpec
from stream.packet import Packet

_TYPES = {
    "rates": "Rates", "counts": "Counts", "behaviour": "Behaviour", "samples": "Signal",
    "levels": "Levels", "action": "Markers", "trigger": "Markers", "spikes": "Spikes",
}  # fmt: skip
_MARKERS = frozenset({"action", "trigger"})
_UNITS = {"uV": "microvolts", "": "none"}
STALLED = "stalled"
"""The marker that is sent when a stream of labels or triggers brings nothing any more."""

_LOOK_S = 1.0
_LINGER_S = 0.1
_BUFFERED_S = 10
_BUFFERED_HUNDREDS = 100


class LslOutSettings(OutputSettings):
    """Settings of `lsl`."""


class LslOut(Node[LslOutSettings]):
    """Offers each stream linked to it as a stream of Lab Streaming Layer.

    It is called `PIPELINE.STREAM`, and its `source_id` stays the same over runs, so that inlets
    find it again. Time stamps are when the data were acquired, so that a receiver sees their age.
    Rates, counts, behaviour and samples are float32 with the names of their channels; a label is a
    marker when it changes, a trigger one for each rule that fires; spikes are irregular int32,
    (number of the unit, 0), the units' names in the description.

    When a stream stalls, markers say `stalled`, and streams of values get one row of NaN.
    """

    use = "lsl"
    summary = "streams of Lab Streaming Layer, for other programs"
    Settings = LslOutSettings
    accepts: ClassVar[frozenset[str]] = frozenset(_TYPES)
    max_inputs: ClassVar[int | None] = None

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Check that liblsl is there; there are no outputs.

        Raises
        ------
        MissingExtraError
            pylsl is not installed.
        """
        load_pylsl()
        return {}

    def open(self, context: Context) -> None:
        """Put the streams onto the network.

        Raises
        ------
        ConfigError
            Another run on this host already offers the same streams.
        """
        super().open(context)
        pylsl = load_pylsl()
        self._clock = LslClock(pylsl.local_clock)
        self._fresh = Freshness(self.settings, context)
        self._labels: dict[str, str] = {}
        self._sent = 0
        self._outlets: dict[str, Any] = {}
        infos = {
            stream: _info(pylsl, context, stream, spec) for stream, spec in context.inputs.items()
        }
        taken = {info.source_id() for info in infos.values()}
        for other in pylsl.resolve_streams(_LOOK_S):
            if other.source_id() in taken:
                raise ConfigError(
                    f"another run already offers the LSL stream {introduce(other)}; stop that run,"
                    " or give this pipeline another name."
                )
        for stream, info in infos.items():
            buffered = _BUFFERED_S if info.nominal_srate() else _BUFFERED_HUNDREDS
            self._outlets[stream] = pylsl.StreamOutlet(info, max_buffered=buffered)
        context.counters.note("streams", {s: i.name() for s, i in infos.items()})

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Send what a packet holds, unless it is too old."""
        if self._fresh.take(stream, packet):
            outlet, kind = self._outlets[stream], packet.kind
            if kind in _MARKERS:
                self._mark(stream, packet)
            elif kind == "spikes":
                self._send_spikes(outlet, packet)
            elif packet.data.size:
                outlet.push_chunk(
                    np.ascontiguousarray(packet.data, np.float32), self._clock.lsl_s(packet.t_ns)
                )
        return ()

    def due_ns(self) -> int | None:
        """Return when a stream will have stalled."""
        return self._fresh.due_ns()

    def tick(self) -> Iterable[Packet]:
        """Say that a stream has stalled."""
        for stream in self._fresh.stalls():
            self._say_stalled(stream)
        return ()

    def finish(self) -> Iterable[Packet]:
        """Say that nothing more will come."""
        for stream in self._outlets:
            if stream not in self._fresh.stalled:
                self._say_stalled(stream)
        return ()

    def close(self) -> None:
        """Take the streams off the network."""
        if not hasattr(self, "_outlets"):
            return
        if any(outlet.have_consumers() for outlet in self._outlets.values()):
            # liblsl forgets what it has not sent yet, and does not tell when it has.
            time.sleep(_LINGER_S)
        self._outlets.clear()

    def _mark(self, stream: str, packet: Packet) -> None:
        if packet.kind == "action":
            label = str(packet.meta.get("label", ""))
            if label == self._labels.get(stream):
                return
            self._labels[stream] = label
            texts = [label]
        else:
            names = self.context.inputs[stream].names
            texts = [names[k] for k in np.flatnonzero(packet.data)]
        for text in texts:
            self._outlets[stream].push_sample([text], self._clock.lsl_s(packet.t_ns))

    def _send_spikes(self, outlet: Any, packet: Packet) -> None:
        if not len(packet.data):
            return
        # Times on the clock of the source, of which the end of the packet is t_ns.
        ago_ns = packet.source_end_ns - packet.data[:, 0]
        stamps_s = [self._clock.lsl_s(packet.t_ns - ago) for ago in ago_ns.tolist()]
        pairs = np.zeros((len(packet.data), 2), np.int32)
        pairs[:, 0] = packet.data[:, 1]
        outlet.push_chunk(pairs, stamps_s)

    def _say_stalled(self, stream: str) -> None:
        spec = self.context.inputs[stream]
        if spec.kind in _MARKERS:
            self._labels.pop(stream, None)
            self._outlets[stream].push_sample([STALLED])
        elif spec.kind != "spikes":
            channels = spec.shape[-1]
            assert channels is not None
            self._outlets[stream].push_chunk(np.full((1, channels), np.nan, np.float32))


def _info(pylsl: Any, context: Context, stream: str, spec: StreamSpec) -> Any:
    """Describe a stream as LSL and XDF have it."""
    pipeline = context.pipeline or "innervate"
    kind = spec.kind
    channels, rate_hz, format_ = spec.shape[-1], 0.0, "float32"
    if kind in _MARKERS:
        channels, format_ = 1, "string"
    elif kind == "spikes":
        channels, format_ = 2, "int32"
    elif spec.period_s is not None:
        rate_hz = 1 / spec.period_s
    if kind == "samples":
        rate_hz = float(spec.meta.get("rate_hz", rate_hz))
    info = pylsl.StreamInfo(
        f"{pipeline}.{stream}", _TYPES[kind], channels, rate_hz, format_,
        f"innervate:{socket.gethostname()}:{pipeline}:{context.name}:{stream}",
    )  # fmt: skip
    labels: tuple[str, ...] = spec.names
    if kind in _MARKERS:
        labels = (stream,)
    elif kind == "spikes":
        labels = ("channel", "unit")
    if len(labels) == channels:
        info.set_channel_labels(list(labels))
        info.set_channel_types([_TYPES[kind]] * channels)
        info.set_channel_units([_UNITS.get(spec.unit, spec.unit)] * channels)
    if kind == "spikes":
        units = info.desc().append_child("units")
        for number, name in enumerate(spec.names):
            unit = units.append_child("unit")
            for key, value in (("label", name), ("channel", str(number)), ("number", "0")):
                unit.append_child_value(key, value)
    acquisition = info.desc().append_child("acquisition")
    acquisition.append_child_value("manufacturer", "innervate")
    acquisition.append_child_value("pipeline", pipeline)
    return info
