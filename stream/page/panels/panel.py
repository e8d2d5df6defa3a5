"""A panel: packets of one stream are gathered here and handed over 30 times a second."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from stream.node import Counters, StreamSpec
from stream.packet import Packet

Chunk = dict[str, Any]
"""What came of a stream since the last one, as msgpack can hold it; see `Panel.take`."""

HISTORY = 300
"""How many chunks a picture of the last seconds is made of."""


class Panel(ABC):
    """Gathers the packets of one stream.

    Attributes
    ----------
    view
        What draws it in the page.
    depth
        How many of the newest chunks a page that opens, or was too slow, still gets: 1 where a
        chunk is all there is to know.
    event
        Whether each packet matters, so that a link should keep some rather than only the newest.
    watched
        Tells whether anybody looks: what costs time is only done then.
    """

    view: ClassVar[str]
    depth: ClassVar[int] = 1
    event: ClassVar[bool] = False

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        self.watched: Callable[[], bool] = lambda: True
        self.name = name
        self.spec = spec
        self.counters = counters
        self._packets = 0
        self._missed = 0
        self._seq: int | None = None
        self._newest: Packet | None = None
        self._age_ns = 0

    def describe(self) -> dict[str, Any]:
        """Return what the page knows of the stream before its first packet."""
        return {
            "name": self.name, "view": self.view, "kind": self.spec.kind,
            "names": self.spec.names, "unit": self.spec.unit, "period": self.spec.period_s,
            "depth": self.depth, "on_change": bool(self.spec.meta.get("on_change")),
        }  # fmt: skip

    def add(self, packet: Packet) -> None:
        """Take one packet; its memory is not used any more once this returns."""
        self._packets += 1
        if self._seq is not None:
            self._missed += max(0, packet.seq - self._seq - 1)
        self._seq = packet.seq
        self._age_ns = time.monotonic_ns() - packet.t_ns
        self._newest = packet
        self.gather(packet)

    def take(self) -> Chunk | None:
        """Return what came since the last call, None if nothing.

        Every chunk has `t`, the time of its end on the clock of the source in s; `age`, the
        newest packet's from acquisition to here in ms; `n`, the number of packets; and `missed`,
        how many did not come, where each matters. Arrays are bytes, little endian.
        """
        if self._newest is None:
            return None
        chunk = {
            "t": self._newest.source_end_ns / 1e9, "age": self._age_ns / 1e6, "n": self._packets,
            "missed": self._missed if self.event else 0, **self.fold(),
        }  # fmt: skip
        self._packets, self._missed, self._newest = 0, 0, None
        return chunk

    @abstractmethod
    def gather(self, packet: Packet) -> None:
        """Keep what is to be shown of a packet."""

    @abstractmethod
    def fold(self) -> Chunk:
        """Return what was gathered, and forget it."""


def values_in(spec: StreamSpec) -> int:
    """Return how many values each packet of a stream with one axis has."""
    return spec.shape[0] or 0
