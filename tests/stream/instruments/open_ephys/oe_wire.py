"""Messages of the ZMQ Interface, written by hand for tests of what reads them."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from stream.instruments.open_ephys.acquisition import Acquisition
from stream.instruments.open_ephys.points import edge_names
from stream.node import Counters, StreamSpec
from stream.packet import Packet

RATE = 30_000.0
N = 300
MS = 1_000_000
START_NS = 10**12


class Gui:
    """Sends numbered messages to an `Acquisition`, and keeps the packets."""

    def __init__(self, *, units=("a", "b", "c"), channels=(0, 1), blocks=True, linked=None):
        about = {"rate_hz": RATE, "stream": "probe", "blocks": blocks}
        specs = {
            "": StreamSpec("spikes", (None, 2), "int64", units, meta=about),
            "samples": StreamSpec(
                "samples", (None, len(channels)), "float32",
                meta={**about, "channels": list(channels)},
            ),
            "ttl": StreamSpec("trigger", (16,), "uint8", edge_names(8), meta=about),
        }  # fmt: skip
        if not blocks:
            del specs["samples"]
        self.counters = Counters()
        self.acquisition = Acquisition(specs, linked, self.counters, by_sorting=False, lines=8)
        self.channels = channels
        self.number = 0
        self.now_ns = START_NS
        self.packets: list[Packet] = []

    def of(self, output: str) -> list[Packet]:
        return [p for p in self.packets if p.output == output]

    @property
    def spikes(self) -> list[tuple[int, int]]:
        """Sample and unit of all spikes that came out."""
        return [
            (round(t * RATE / 1e9), u) for p in self.of("") for t, u in p.data.tolist()
        ]  # fmt: skip

    def send(self, frames: list[bytes]) -> list[Packet]:
        packets = self.acquisition.take(frames, self.now_ns)
        self.packets += packets
        return packets

    def spike(self, sample: int, electrode: str = "a", sorted_id: int = 0) -> list[Packet]:
        self.number += 1
        return self.send(spike_frames(self.number, sample, electrode, sorted_id))

    def edge(self, sample: int, line: int, up: bool) -> list[Packet]:
        self.number += 1
        return self.send(edge_frames(self.number, sample, line, up))

    def block(
        self, sample: int, n: int = N, channels=None, after_ns: int | None = None, **content: Any
    ) -> list[Packet]:
        """Send a block when it is over; `after_ns` is how long after the last one that is."""
        self.now_ns += round(n * 1e9 / RATE) if after_ns is None else after_ns
        packets = []
        for channel in self.channels if channels is None else channels:
            self.number += 1
            packets += self.send(data_frames(self.number, channel, sample, n, **content))
        return packets


def data_frames(number: int, channel: int, sample: int, n: int, **content: Any) -> list[bytes]:
    header = {
        "message_num": number, "type": "data", "data_size": 4 * n, "timestamp": 1_700_000_000_000,
        "content": {
            "stream": "probe", "channel_num": channel, "num_samples": n, "sample_num": sample,
            "sample_rate": RATE, **content,
        },
    }  # fmt: skip
    values = (1000 * channel + np.arange(sample, sample + n) % 1000).astype("<f4")
    return [b"DATA\0", json.dumps(header, indent=2).encode(), values.tobytes()]


def spike_frames(number: int, sample: int, electrode: str, sorted_id: int = 0) -> list[bytes]:
    header = {
        "message_num": number, "type": "spike", "timestamp": 1_700_000_000_000,
        "spike": {
            "stream": "probe", "source_node": 7, "electrode": electrode, "sample_num": sample,
            "num_channels": 2, "num_samples": 4, "sorted_id": sorted_id, "threshold": [-50, -50],
        },
    }  # fmt: skip
    return [b"EVENT\0", json.dumps(header).encode(), bytes(32)]


def edge_frames(number: int, sample: int, line: int, up: bool) -> list[bytes]:
    header = {
        "message_num": number, "type": "event", "data_size": 10, "timestamp": 1_700_000_000_000,
        "content": {"stream": "probe", "source_node": 7, "type": 3, "sample_num": sample},
    }  # fmt: skip
    return [b"EVENT\0", json.dumps(header).encode(), struct.pack("<BBQ", line, up, int(up) << line)]
