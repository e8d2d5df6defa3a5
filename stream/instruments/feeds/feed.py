"""`feed`: spikes, counts, samples or values of a home-made rig."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from stream.errors import ConfigError
from stream.instruments.feeds.message import Message, RefusedError, Ticks, read_message
from stream.instruments.feeds.readers import (
    Came,
    FeedReader,
    UdpReader,
    WebSocketReader,
    ZmqReader,
)
from stream.instruments.feeds.regular import RegularFlow
from stream.instruments.live import LiveSource
from stream.instruments.names import Names
from stream.instruments.sample_clock import SampleClock
from stream.instruments.spike_flow import SpikeFlow
from stream.node import Context, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.units import Hertz, Seconds, to_ns

_READERS: dict[str, type[FeedReader]] = {
    "udp": UdpReader, "tcp": ZmqReader, "ipc": ZmqReader, "ws": WebSocketReader,
    "wss": WebSocketReader,
}  # fmt: skip
_UNREAD = ("unreadable", "not_a_message", "too_large")

_log = logging.getLogger(__name__)


def _address(address: str) -> str:
    try:
        parts = urlsplit(address)
        complete = parts.scheme == "ipc" or (parts.hostname and parts.port is not None)
    except ValueError:
        parts, complete = None, False
    if parts is None or parts.scheme not in _READERS or not complete:
        raise ValueError(
            f"expected udp://127.0.0.1:5005 to listen on, tcp://HOST:PORT of a ZeroMQ publisher or"
            f" ws://HOST:PORT of a WebSocket server, found {address!r}"
        )
    return address


class FeedSettings(NodeSettings):
    """Settings of `feed`."""

    address: Annotated[str, AfterValidator(_address)] = Field(
        description="udp://127.0.0.1:5005 to listen on, tcp://HOST:PORT of a ZeroMQ publisher,"
        " ws://HOST:PORT of a WebSocket server"
    )
    kind: Literal["spikes", "counts", "samples", "values"] = Field(
        description="which of these the messages hold"
    )
    names: Names = Field(description="of the units, channels or values, such as [u0..u95]")
    rate: Hertz | None = Field(
        None, gt=0, description="ticks a second in which times are counted; seconds by default"
    )
    width: Seconds | None = Field(None, gt=0, description="of a bin of counts")
    late: Seconds | None = Field(
        None, ge=0, le=10, description="for spikes without 't': how late one may come at most"
    )
    unit: str = Field("", max_length=20, description="of samples or values, such as uV")

    @model_validator(mode="after")
    def _fits(self) -> FeedSettings:
        if (self.width is not None) != (self.kind == "counts"):
            raise ValueError("'width' is needed for counts, and for nothing else")
        if self.kind == "samples" and self.rate is None:
            raise ValueError("'rate' is needed for samples")
        if self.late is not None and self.kind != "spikes":
            raise ValueError("'late' is for spikes only")
        return self


class Feed(LiveSource[FeedSettings, Came]):
    """Read messages, check them, and send what they hold.

    A message that does not fit is refused, counted by what is wrong with it, and leaves a gap. A
    message whose `seq` is not the next one tells how many are missing.
    """

    reader: FeedReader
    use = "feed"
    summary = "data of a home-made rig, by UDP, ZeroMQ or WebSocket, as JSON or msgpack"
    Settings = FeedSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream that the messages hold."""
        s = self.settings
        n = len(s.names)
        spec = {
            "spikes": StreamSpec("spikes", (None, 2), "int64", s.names),
            "counts": StreamSpec("counts", (n,), "float32", s.names, "count", s.width),
            "samples": StreamSpec(
                "samples", (None, n), "float32", s.names, s.unit, None, {"rate_hz": s.rate}
            ),
            "values": StreamSpec("behaviour", (n,), "float32", s.names, s.unit),
        }[s.kind]
        return {"": spec}

    def open(self, context: Context) -> None:
        """Listen or connect.

        Raises
        ------
        ConfigError
            The address is in use, is not of this host, or no server answers there.
        MissingExtraError
            A WebSocket is asked for, and its package is not installed.
        """
        super().open(context)
        s = self.settings
        self._index = {name: i for i, name in enumerate(s.names)}
        self._ticks = Ticks(s.rate)
        self._clock = SampleClock(self._ticks.rate_hz)
        self._take: Callable[[Message, int], Packet | None] = {
            "spikes": self._spikes, "counts": self._counts, "samples": self._samples,
            "values": self._values,
        }[s.kind]  # fmt: skip
        self.reader = _READERS[urlsplit(s.address).scheme](s.address, self.arrivals)
        self.reader.tells_silence = s.late is not None
        try:
            self.reader.connect()
        except OSError as error:
            raise ConfigError(
                f"address: {s.address} cannot be listened to ({error.strerror or error}); another"
                " program may have it, or it is not an address of this host."
            ) from None
        context.counters.note("messages", 0)
        self.begin()
        self.reader.start(connected=True)

    def begin(self) -> None:
        """Know nothing of what came before."""
        counters = self.context.counters
        self._flow = SpikeFlow(self._clock, counters, self.settings.late)
        self._regular = RegularFlow(self._clock, counters)
        self._seq: int | None = None
        self._hole = False
        self._messages = 0

    def take(self, item: Came) -> Iterable[Packet]:
        """Take one message."""
        self.reader.taken(item)
        if item.frames is None:
            self._lose()
            return ()
        if not item.frames:
            self._flow.listened(item.arrived_ns)
            return ()
        self._messages += 1
        self.context.counters.note("messages", self._messages)
        try:
            message = read_message(item.frames[-1])
            self._count(message.seq)
            packet = self._take(message, item.arrived_ns)
        except RefusedError as refused:
            dropped = self.context.counters.dropped
            if refused.reason not in dropped:
                _log.warning("'%s' refused %s; more are only counted", self.context.name, refused)
            self.context.counters.drop(refused.reason)
            # A repeated message is not missing, and what has a number is missed by the next one.
            if refused.reason not in ("out_of_order", "overlap") and not (
                self._seq is not None and refused.reason in _UNREAD
            ):
                self._miss(1)
            return ()
        return () if packet is None else (packet,)

    def pending_ns(self, now_ns: int) -> int | None:
        """Return when there are spikes, or silence, to send."""
        return self._flow.due_ns(now_ns)

    def pending(self, now_ns: int) -> Iterable[Packet]:
        """Send spikes before which nothing can come any more."""
        return self._flow.packets(now_ns)

    def _lose(self, gap: int = 0) -> None:
        self._seq = None
        if self.settings.kind == "spikes":
            self._flow.lost(gap)
        else:
            self._regular.lost(gap)

    def _miss(self, count: int) -> None:
        (self._flow if self.settings.kind == "spikes" else self._regular).missed(count)

    def _count(self, seq: int | None) -> None:
        if seq is None:
            return
        if self._seq is not None and seq <= self._seq:
            if seq > 1:
                raise RefusedError("out_of_order", f"message {seq} after message {self._seq}")
            # It was started again.
            self._lose()
        elif self._seq is not None and seq > self._seq + 1:
            missing = seq - self._seq - 1
            self.context.counters.drop("missing_messages", missing)
            self._miss(missing)
            self._hole = True
        self._seq = seq

    def _spikes(self, message: Message, arrived_ns: int) -> None:
        _only(message, "spikes", time_alone=True)
        spikes = message.spikes or []
        if message.t is None and self.settings.late is None:
            raise RefusedError("no_time", "spikes without the time 't', and no 'late' is set")
        samples = np.array([self._ticks.of(time) for time, _ in spikes], np.int64)
        units = np.array([self._unit(unit) for _, unit in spikes], np.int64)
        until = None if message.t is None else self._ticks.of(message.t)
        if self._hole:
            # Nobody knows what was in the messages that are missing, up to what is in this one.
            self._hole = False
            first = int(samples.min()) if len(samples) else until
            if first is not None:
                self._flow.skip(first)
        self._flow.add(samples, units, arrived_ns)
        if until is not None:
            self._flow.passed(until, arrived_ns)

    def _unit(self, unit: int | str) -> int:
        index = self._index.get(unit, -1) if isinstance(unit, str) else unit
        if not 0 <= index < len(self._index):
            raise RefusedError(
                "unknown_unit", f"a spike of the unit {unit!r}, which is not in 'names'"
            )
        return index

    def _counts(self, message: Message, arrived_ns: int) -> Packet | None:
        row = _numbers([_only(message, "counts")], len(self._index))[0]
        if row.min() < 0:
            raise RefusedError("negative", "a count below zero")
        assert self.settings.width is not None
        first = self._ticks.of(message.t)
        width = max(1, round(self.settings.width * self._ticks.rate_hz))
        return self._packet("counts", row, first, first + width, arrived_ns)

    def _samples(self, message: Message, arrived_ns: int) -> Packet | None:
        data = _numbers(_only(message, "samples"), len(self._index))
        first = self._ticks.of(message.t)
        return self._packet("samples", data, first, first + len(data), arrived_ns)

    def _values(self, message: Message, arrived_ns: int) -> Packet | None:
        values = _only(message, "values")
        assert isinstance(values, dict)
        if values.keys() != self._index.keys():
            wrong = sorted(values.keys() ^ self._index.keys())[:5]
            raise RefusedError("names", f"values of which {wrong} are missing or not in 'names'")
        row = _numbers([[values[name] for name in self._index]], len(self._index))[0]
        at = self._ticks.of(message.t)
        return self._packet("behaviour", row, at, at, arrived_ns)

    def _packet(
        self, kind: str, data: np.ndarray[tuple[int, ...], np.dtype[np.float32]], first: int,
        end: int, arrived_ns: int,
    ) -> Packet:  # fmt: skip
        flow, clock = self._regular, self._clock
        missing = flow.hear(first, end, arrived_ns)
        if missing is None:
            raise RefusedError("overlap", f"data from {first} on, which were there already")
        width = end - first
        # Without 'seq', what is missing shows in the times.
        if self._seq is None and width and missing >= width and kind != "behaviour":
            flow.missed(missing // width)
        source_ns = clock.source_ns(first)
        end_ns = clock.source_ns(end)
        if kind == "counts" and self.settings.width is not None:
            end_ns = source_ns + to_ns(self.settings.width)
        return Packet(
            kind, data, min(arrived_ns, clock.host_ns(end)), source_ns, end_ns,
            segment=flow.segment, gap=flow.take_gap(),
        )  # fmt: skip


def _only(message: Message, kind: str, time_alone: bool = False) -> object:
    """Return what a message holds of this kind, and refuse any other."""
    held = {
        name: getattr(message, name)
        for name in ("spikes", "counts", "samples", "values")
        if getattr(message, name) is not None
    }
    if not held and time_alone:
        return None
    if set(held) != {kind}:
        found = ", ".join(held) or "nothing"
        raise RefusedError("kind", f"a message that holds {found} where '{kind}' is expected")
    return held[kind]


def _numbers(rows: object, columns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    assert isinstance(rows, list)
    if not rows or any(len(row) != columns for row in rows):
        found = len(rows[0]) if rows else 0
        raise RefusedError("channels", f"{found} numbers where there are {columns} names")
    data = np.array(rows, np.float64)
    with np.errstate(over="ignore"):
        single = data.astype(np.float32)
    if not np.isfinite(single).all():
        raise RefusedError("not_finite", "a number that is not finite")
    return single
