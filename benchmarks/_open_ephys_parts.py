"""What `innervate bench open-ephys` puts behind the source: a sink that keeps the books."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from stream.node import Context, Node, NodeSettings
from stream.packet import Packet


class Books(Node[NodeSettings]):
    """Counts what came, and when it came again after something was missing.

    `returns` are the packets before which something was missing: when each came
    (`time.monotonic_ns`), its `gap`, its segment, how many ns are missing on its clock.
    """

    use = "benchmarks._open_ephys_parts:Books"
    accepts = frozenset({"*"})
    max_inputs = None

    def open(self, context: Context) -> None:
        super().open(context)
        self.streams = {
            name: {"packets": 0, "rows": 0, "first_ns": 0, "last_ns": 0, "returns": []}
            for name in context.inputs
        }
        self.segment: dict[str, int] = {}

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        book = self.streams[stream]
        again = self.segment.get(stream) not in (None, packet.segment) or packet.gap > 0
        if not book["packets"]:
            book["first_ns"] = packet.source_ns
        elif again:
            hole_ns = packet.source_ns - book["last_ns"]
            book["returns"].append([time.monotonic_ns(), packet.gap, packet.segment, hole_ns])
        book["packets"] += 1
        book["rows"] += len(packet.data)
        book["last_ns"] = packet.source_end_ns
        self.segment[stream] = packet.segment
        return ()

    def finish(self) -> Iterable[Packet]:
        self.context.counters.note("books", self.streams)
        return ()


LSL_CLIENT = """
import json, sys, threading, time
import pylsl

(info,) = pylsl.resolve_byprop("name", sys.argv[1], timeout=60)
inlet = pylsl.StreamInlet(info, max_buflen=60)
inlet.open_stream(timeout=60)
print("ready", flush=True)
leave = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), leave.set()), daemon=True).start()
came = []
while not leave.is_set():
    sample, stamp = inlet.pull_sample(timeout=0.5)
    if sample is not None:
        came.append([time.monotonic_ns(), round(stamp * 1e9), sample[0]])
json.dump(came, sys.stdout)
"""
"""A client of LSL and nothing else: when each marker came, its time stamp, its text."""

LSL_COMMAND = [sys.executable, "-c", LSL_CLIENT]
