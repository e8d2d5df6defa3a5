"""`zmq.in`: a stream of another run, from its `zmq` tap."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, StrictBool, StrictFloat, StrictInt, field_validator, model_validator

from stream.errors import ConfigError, WireError
from stream.instruments.feeds.readers import Came, ZmqReader
from stream.instruments.live import LiveSource
from stream.instruments.names import Names
from stream.instruments.sample_clock import SampleClock
from stream.node import Context, NodeSettings, StreamSpec
from stream.nodes.zmq_tap import leaves_host, read_public, read_secret
from stream.packet import END_KIND, HEADER_LIMIT_BYTES, KINDS, Packet, decode
from stream.units import Seconds

# Of a stream whose packets have no fixed size.
_VARYING_BYTES = 16 * 1024 * 1024
_VARYING = ("spikes", "samples")
# What is passed on has to fit into a header again, with whatever else stands there.
_MOST_HEADER_BYTES = HEADER_LIMIT_BYTES // 2

_log = logging.getLogger(__name__)


class ZmqInSettings(NodeSettings):
    """Settings of `zmq.in`."""

    address: str = Field(
        "tcp://127.0.0.1:5757", description="where the tap of the other run publishes"
    )
    stream: str = Field(description="name of the stream there, such as rates")
    kind: str = Field(description="its kind, such as spikes, counts, rates or behaviour")
    names: Names | None = Field(
        None, description="of its units or columns, in order, such as [u0..u95]"
    )
    shape: tuple[int, ...] | None = Field(
        None, description="of each array; by default one number a name"
    )
    dtype: Literal[
        "float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64"
    ] = Field("float32", description="of each array; spikes are int64")
    meta: dict[str, str | StrictBool | StrictInt | StrictFloat] = Field(
        {}, max_length=32,
        description="what the kind needs beyond that, such as {rate_hz: 30000} of samples",
    )  # fmt: skip
    unit: str = Field("", max_length=20, description="physical unit of the values, such as Hz")
    period: Seconds | None = Field(None, gt=0, description="bin width, or interval of samples")
    curve_server_key_file: Path | None = Field(
        None, description="the tap's public key, a .key file; needed for another host"
    )
    curve_secret_key_file: Path | None = Field(
        None, description="this side's key pair, a .key_secret file; needed for another host"
    )

    @field_validator("kind")
    @classmethod
    def _well_spelt(cls, kind: str) -> str:
        near = difflib.get_close_matches(kind.lower(), KINDS, n=1)
        if near and kind not in KINDS:
            raise ValueError(
                f"expected {', '.join(KINDS)} or a kind of your own, found '{kind}'; did you mean"
                f" '{near[0]}'?"
            )
        return kind

    @model_validator(mode="after")
    def _complete(self) -> ZmqInSettings:
        varies = self.kind in _VARYING
        if self.names is None and (self.shape is None or varies):
            raise ValueError("'names' is needed, or for what has none the 'shape' of each array")
        if varies and self.shape is not None:
            raise ValueError(f"'shape' is not for {self.kind}, which come in varying numbers")
        return self


class ZmqIn(LiveSource[ZmqInSettings, Came]):
    """Receive one stream in the wire format, and send it on as if it was made here.

    The format does not tell names and shapes, so they are settings, and what does not have them is
    refused; the `meta` of each packet is passed on. On one host `t_ns` is kept, so that latency
    counts from the first source; the times of another host are mapped to this one's, with the least
    delay as zero.
    """

    reader: ZmqReader
    use = "zmq.in"
    summary = "a stream of another run, from its zmq tap"
    Settings = ZmqInSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream as the settings describe it.

        Raises
        ------
        ConfigError
            The address is none, or another host's and there are no keys, or a key is unusable.
        """
        s = self.settings
        self._keys()
        names = s.names or ()
        if s.kind == "spikes":
            return {"": StreamSpec("spikes", (None, 2), "int64", names, meta=s.meta)}
        shape = (None, len(names)) if s.kind == "samples" else s.shape or (len(names),)
        return {"": StreamSpec(s.kind, shape, s.dtype, names, s.unit, s.period, s.meta)}

    def open(self, context: Context) -> None:
        """Subscribe. The other run need not be there yet.

        Raises
        ------
        ConfigError
            The address cannot be connected to.
        """
        super().open(context)
        s = self.settings
        spec = self._spec = self.outputs({})[""]
        fixed = None not in spec.shape
        size = math.prod(n or 1 for n in spec.shape) * np.dtype(spec.dtype).itemsize
        largest = (size if fixed else _VARYING_BYTES) + HEADER_LIMIT_BYTES
        self._same_host = not leaves_host(s.address, "address")
        self.reader = ZmqReader(s.address, self.arrivals, s.stream, largest, self._keys())
        self.reader.connect()
        self.begin()
        self.reader.start(connected=True)

    def begin(self) -> None:
        """Know nothing of what came before."""
        self._clock = SampleClock(1e9)
        self._seq: int | None = None
        self._theirs: int | None = None
        self._segment = -1
        self._gap = 0

    def take(self, item: Came) -> Iterable[Packet]:
        """Take one message."""
        self.reader.taken(item)
        if item.frames is None:
            self._new()
            return ()
        try:
            stream, packet = decode(item.frames)
        except WireError as error:
            self._refuse("not_a_packet", str(error))
            return ()
        if stream != self.settings.stream:
            # A subscription is a prefix.
            return ()
        if packet.kind == END_KIND:
            _log.info("'%s' has ended", stream)
            self._new()
            return ()
        header_bytes = len(item.frames[1])
        large = "meta_too_large" if header_bytes > _MOST_HEADER_BYTES else ""
        if reason := large or self._spec.misfit(packet):
            found = f"{packet.kind} of {packet.data.shape} {packet.data.dtype}"
            found += f" with a header of {header_bytes} bytes" if large else ""
            self._refuse(reason, f"{found} came where the settings or limits say otherwise")
            return ()
        return self._sent(packet, item.arrived_ns)

    def _sent(self, packet: Packet, arrived_ns: int) -> list[Packet]:
        if self._seq is not None and packet.seq <= self._seq:
            # Numbers only rise, so this is another run, or another sender beside it.
            self.context.counters.count("restarts")
            self._new()
        elif self._seq is not None and packet.seq > self._seq + 1:
            missing = packet.seq - self._seq - 1
            self.context.counters.drop("missing_packets", missing)
            self._gap += missing
        self._seq = packet.seq
        if self._theirs != packet.segment:
            self._theirs = packet.segment
            self._segment += 1
        t_ns = packet.t_ns
        if not self._same_host:
            self._clock.observe(t_ns, arrived_ns)
            t_ns = min(arrived_ns, self._clock.host_ns(t_ns))
        gap, self._gap = packet.gap + self._gap, 0
        return [
            Packet(
                packet.kind, packet.data, min(t_ns, arrived_ns), packet.source_ns,
                packet.source_end_ns, segment=self._segment, gap=gap, meta=packet.meta,
            )
        ]  # fmt: skip

    def _new(self) -> None:
        """Begin a segment with what comes next, whatever its number."""
        self._seq = self._theirs = None
        if not self._same_host:
            self._clock.restart()

    def _refuse(self, reason: str, message: str) -> None:
        if reason not in self.context.counters.dropped:
            _log.warning("'%s': %s; more are only counted", self.context.name, message)
        self.context.counters.drop(reason)

    def _keys(self) -> tuple[bytes, bytes, bytes] | None:
        s = self.settings
        server, own = s.curve_server_key_file, s.curve_secret_key_file
        if (server is None) != (own is None):
            raise ConfigError(
                "curve_server_key_file and curve_secret_key_file belong together; set both or none."
            )
        if server is None or own is None:
            if leaves_host(s.address, "address"):
                raise ConfigError(
                    f"address: {s.address} is another host, which needs CURVE keys: set"
                    " curve_server_key_file and curve_secret_key_file."
                )
            return None
        return (read_public(server), *read_secret(own))
