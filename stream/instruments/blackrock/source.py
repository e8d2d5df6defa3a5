"""`blackrock`: spikes of a Blackrock device, as it broadcasts them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from stream.errors import ConfigError
from stream.instruments.blackrock.reader import BlackrockReader, Heard
from stream.instruments.live import LiveSource
from stream.instruments.names import Names
from stream.instruments.sample_clock import SampleClock
from stream.instruments.spike_flow import SpikeFlow
from stream.node import Context, NodeSettings, StreamSpec
from stream.packet import Packet

# A spike is sent when its waveform is complete, and that has 128 samples at most.
_BEHIND_S = 128 / 30_000
# The device says something every 10 ms, if only that it is alive.
_HOLE_S = 0.05
_OUTAGE_S = 0.25
_TICKS_HZ = 30_000.0
_NANOSECONDS_HZ = 1e9
# Long enough to tell 30 ticks a millisecond from a million.
_TELL_NS = 30_000_000
_UNITS = 6
_NOISE = 255
_MOST_CHANNELS = 272


def _channels(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not name.isdecimal() or not 1 <= int(name) <= _MOST_CHANNELS:
            raise ValueError(f"{name!r} is no number of a channel; write [1..96]")
    return names


def _listen(address: str) -> str:
    if not re.fullmatch(r"[0-9.]+:[0-9]{1,5}", address) or int(address.rpartition(":")[2]) > 65535:
        raise ValueError(f"expected an IPv4 address and a port, such as 192.168.137.255:51002,"
                         f" found {address!r}")  # fmt: skip
    return address


def _ipv4(address: str) -> str:
    try:
        return str(ipaddress.IPv4Address(address))
    except ValueError:
        raise ValueError(
            f"expected an IPv4 address, such as 192.168.137.128, found {address!r}"
        ) from None


class BlackrockSettings(NodeSettings):
    """Settings of `blackrock`."""

    channels: Annotated[Names, AfterValidator(_channels)] = Field(
        description="numbers of the channels, such as [1..96]"
    )
    listen: Annotated[str, AfterValidator(_listen)] = Field(
        "192.168.137.255:51002",
        description="where its packets are sent to: the broadcast address of its network, a"
        " multicast address, or an address of this host",
    )
    interface: Annotated[str, AfterValidator(_ipv4)] | None = Field(
        None, description="for a multicast address: the address of this host in that network"
    )
    device: Annotated[str, AfterValidator(_ipv4)] | None = Field(
        None, description="address of the device; by default the first that is heard"
    )
    sorted: bool = Field(
        False, description="a unit for each of the six of a channel (12.0 unsorted to 12.5)"
    )


class Blackrock(LiveSource[BlackrockSettings, Heard]):
    """Listen to the packets of a device that runs, without telling it anything.

    Time goes on with whatever the device sends, which is something every 10 ms at least. When more
    than 50 ms of it are missing, no packet covers them; more than 250 ms begin a new segment.
    Whether the device counts nanoseconds or samples is seen in the first packets.
    """

    use = "blackrock"
    summary = "spikes of a Blackrock device (Cerebus, Gemini), as it broadcasts them"
    Settings = BlackrockSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream of spikes."""
        names = self.settings.channels
        if self.settings.sorted:
            names = tuple(f"{name}.{unit}" for name in names for unit in range(_UNITS))
        return {"": StreamSpec("spikes", (None, 2), "int64", names)}

    def open(self, context: Context) -> None:
        """Listen.

        Raises
        ------
        ConfigError
            The address is not of this host's networks, or another program has it.
        """
        super().open(context)
        s = self.settings
        host, _, port = s.listen.rpartition(":")
        numbers = [int(name) for name in s.channels]
        self._index = np.full(max(numbers) + 1, -1, np.int64)
        self._index[numbers] = np.arange(len(numbers))
        self.reader: BlackrockReader = BlackrockReader(
            (host, int(port)), s.interface, s.device, _MOST_CHANNELS, self.arrivals
        )
        try:
            self.reader.connect()
        except OSError as error:
            raise ConfigError(
                f"listen: {s.listen} cannot be listened to ({error.strerror or error}); has this"
                " host an address in the network of the device, and is the port free?"
            ) from None
        self.begin()
        self.reader.start(connected=True)

    def begin(self) -> None:
        """Know nothing of what came before."""
        self._flow: SpikeFlow | None = None
        self._first: Heard | None = None
        self._newest: int | None = None

    def take(self, item: Heard) -> Iterable[Packet]:
        """Take what a datagram told."""
        flow = self._flow
        if flow is None:
            self._tell_clock(item)
            return ()
        if item.missing:
            self.context.counters.drop("missing_packets", item.missing)
            flow.missed(item.missing)
        self._look_for_hole(item, flow)
        flow.hear(item.newest, item.newest, item.arrived_ns)
        behind = item.newest - round(_BEHIND_S * flow.clock.rate_hz)
        if item.times:
            times, units = self._chosen(item)
            # Of the time before a segment, only some spikes are still on their way.
            inside = times >= flow.first
            flow.add(times[inside], units[inside], item.arrived_ns)
            # All waveforms have one length, so that spikes come in the order of their times.
            behind = max(behind, max(item.times) + 1)
        flow.complete(behind)
        if (drift := flow.clock.drift_ppm) is not None:
            self.context.counters.note("drift_ppm", round(drift, 1))
        return ()

    def _look_for_hole(self, item: Heard, flow: SpikeFlow) -> None:
        """Leave out the time in which the device was not heard although it ran."""
        before, self._newest = self._newest, item.newest
        if before is None:
            return
        hole_s = (item.newest - before) / flow.clock.rate_hz
        if hole_s < _HOLE_S:
            return
        self.context.counters.count("missing_s", hole_s)
        if hole_s > _OUTAGE_S:
            self.context.counters.count("outages")
            flow.lost()
        else:
            behind = item.newest - round(_BEHIND_S * flow.clock.rate_hz)
            flow.skip(min([behind, *item.times]))

    def _tell_clock(self, item: Heard) -> None:
        """Tell by the first packets whether the device counts nanoseconds or samples."""
        first = self._first
        if first is None or item.newest < first.newest:
            self._first = item
            return
        elapsed_ns = item.arrived_ns - first.arrived_ns
        if elapsed_ns < _TELL_NS:
            return
        ticks_hz = (item.newest - first.newest) * 1e9 / elapsed_ns
        rate_hz = _TICKS_HZ if ticks_hz < 1e6 else _NANOSECONDS_HZ
        counters = self.context.counters
        counters.note("device_clock_hz", rate_hz)
        self._flow = SpikeFlow(SampleClock(rate_hz), counters)

    def _chosen(self, item: Heard) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        drop = self.context.counters.drop
        times = np.array(item.times, np.int64)
        channels, of = np.array(item.channels), np.array(item.units)
        known = channels < len(self._index)
        index = np.where(known, self._index[np.where(known, channels, 0)], -1)
        noise = of == _NOISE
        if noise.any():
            drop("noise", int(noise.sum()))
        others = (index < 0) & ~noise
        if others.any():
            drop("other_channel", int(others.sum()))
        odd = (of >= _UNITS) & ~noise & ~others
        if odd.any():
            drop("unknown_unit", int(odd.sum()))
        kept = (index >= 0) & (of < _UNITS)
        units = index * _UNITS + of if self.settings.sorted else index
        return times[kept], units[kept]

    def pending_ns(self, now_ns: int) -> int | None:
        """Return when there are spikes, or silence, to send."""
        return None if self._flow is None else self._flow.due_ns(now_ns)

    def pending(self, now_ns: int) -> Iterable[Packet]:
        """Send what nothing earlier can follow any more."""
        return () if self._flow is None else self._flow.packets(now_ns)

    def tell(self) -> None:
        """Bring into the report what the reader has counted since the last time."""
        super().tell()
        self.context.counters.note_rare(other_packets=dict(self.reader.kinds))
