"""The thread that listens to the packets of one device."""

from __future__ import annotations

import time
from typing import NamedTuple

from stream.instruments.arrivals import Arrivals
from stream.instruments.blackrock.packets import (
    COMMENT,
    DEVICE,
    GROUP,
    HEARTBEAT,
    LATEST,
    MONITOR,
    SPIKE_BYTES,
    sent_since,
    split,
)
from stream.instruments.reader import Reader
from stream.instruments.udp import UdpListener

_MOST_KINDS = 50
_LOOK_S = 0.05


class Heard(NamedTuple):
    """What one datagram told.

    Attributes
    ----------
    arrived_ns
        When, on the host clock.
    newest
        The latest time in it, in ticks of the device.
    times, channels, units
        Of its spikes.
    missing
        Packets that the device had sent and that did not come.
    """

    arrived_ns: int
    newest: int
    times: list[int]
    channels: list[int]
    units: list[int]
    missing: int


class BlackrockReader(Reader):
    """Takes spikes and times out of what one device sends, and counts the rest by type.

    Attributes
    ----------
    kinds
        How many packets of each type came that are neither spikes nor known to be of no use here.
    """

    def __init__(
        self, address: tuple[str, int], interface: str | None, device: str | None, channels: int,
        arrivals: Arrivals[Heard],
    ) -> None:  # fmt: skip
        super().__init__(f"the device at {address[0]}:{address[1]}")
        self.kinds: dict[str, int] = {}
        self._address, self._interface, self._device = address, interface, device
        self._last_channel = channels
        self._arrivals = arrivals
        self._listener: UdpListener | None = None
        # Since the last monitor packet; None before the first.
        self._received: int | None = None

    def connect(self) -> None:
        """Listen."""
        self._listener = UdpListener(*self._address, self._interface)
        self.port = self._listener.port

    def read(self) -> None:
        """Hand on what comes."""
        assert self._listener is not None
        overflowed = 0
        while not self.stopping.is_set():
            if (received := self._listener.receive()) is None:
                self._listener.wait(_LOOK_S)
                continue
            arrived_ns = time.monotonic_ns()
            data, (sender, _) = received
            if self._device is None:
                self._device = sender
                self.name = f"the device {sender}"
            if sender != self._device:
                self.lose("other_device")
                continue
            if self._listener.overflowed != overflowed:
                self.lose("overflowed", self._listener.overflowed - overflowed)
                overflowed = self._listener.overflowed
            heard = self._take_in(data, arrived_ns)
            if heard is not None and not self._arrivals.put(heard):
                self.lose("overrun")

    def disconnect(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def on_lost(self) -> None:
        """Have nothing to say: there is no connection."""

    def _take_in(self, data: bytes, arrived_ns: int) -> Heard | None:
        packets, rest = split(data)
        if rest:
            self.lose("cut_off_bytes", rest)
        heard = Heard(arrived_ns, 0, [], [], [], 0)
        newest = missing = 0
        for packet in packets:
            if self._received is not None:
                self._received += 1
            if packet.time > LATEST:
                self.lose("bad_time")
                continue
            newest = max(newest, packet.time)
            if packet.channel == DEVICE:
                if packet.type == MONITOR:
                    missing += self._monitored(sent_since(packet))
                elif packet.type not in (HEARTBEAT, COMMENT):
                    self._count(f"device_{packet.type:#04x}")
            elif packet.channel & DEVICE:
                self._count(f"device_channel_{packet.type:#04x}")
            elif packet.channel == GROUP:
                self._count("continuous")
            elif packet.channel > self._last_channel:
                self._count(f"channel_{packet.channel}")
            elif len(packet.body) < SPIKE_BYTES:
                self.lose("short_spike")
            else:
                heard.times.append(packet.time)
                heard.channels.append(packet.channel)
                heard.units.append(packet.type)
        return heard._replace(newest=newest, missing=missing) if newest else None

    def _monitored(self, sent: int | None) -> int:
        received, self._received = self._received, 0
        if sent is None or received is None:
            return 0
        return max(0, sent - received)

    def _count(self, kind: str) -> None:
        if kind not in self.kinds and len(self.kinds) >= _MOST_KINDS:
            kind = "others"
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
