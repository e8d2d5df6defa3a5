"""The UDP packets of Blackrock's devices, protocol 4.1 and 4.2.

A datagram holds whole packets, one after the other: a header of 16 bytes (time, channel, type,
length of the rest in words of 4 bytes, instrument), then the rest. Channel 0 is a group of
continuous samples, 0x8000 is the device itself, anything else a channel of its own; of a spike,
`type` is the unit that it was sorted to.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

HEADER = struct.Struct("<QHHHBB")
DEVICE = 0x8000
GROUP = 0
HEARTBEAT = 0x00
MONITOR = 0x01
COMMENT = 0x31
_MONITOR = struct.Struct("<I")
LATEST = 2**62
"""No clock goes further than this: 146 years of nanoseconds."""
# Three features, peak and valley; the waveform behind them is optional here.
SPIKE_BYTES = 16


class DevicePacket(NamedTuple):
    """One packet.

    Attributes
    ----------
    time
        In ticks of the device: nanoseconds or samples at 30 kHz.
    channel, type
        As above.
    body
        What follows the header.
    """

    time: int
    channel: int
    type: int
    body: bytes


def split(datagram: bytes) -> tuple[list[DevicePacket], int]:
    """Return the packets in a datagram, and how many bytes at its end are none."""
    packets = []
    at = 0
    while len(datagram) - at >= HEADER.size:
        time, channel, kind, words, _, _ = HEADER.unpack_from(datagram, at)
        end = at + HEADER.size + 4 * words
        if end > len(datagram):
            break
        packets.append(DevicePacket(time, channel, kind, datagram[at + HEADER.size : end]))
        at = end
    return packets, len(datagram) - at


def sent_since(monitor: DevicePacket) -> int | None:
    """Return how many packets a device says that it sent since its last monitor packet, with it."""
    if len(monitor.body) < _MONITOR.size:
        return None
    (count,) = _MONITOR.unpack_from(monitor.body)
    return int(count)
