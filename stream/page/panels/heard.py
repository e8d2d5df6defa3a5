"""The panel of notes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from stream.node import Counters, StreamSpec
from stream.packet import Packet
from stream.page.panels.panel import Chunk, Panel


class Roll(Panel):
    """Notes of the last seconds: `notes` (float32: pitch, velocity, s ago of on, off, end)."""

    view = "roll"
    event = True
    SHOWN_S: ClassVar[float] = 8.0
    MOST: ClassVar[int] = 1000

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        from stream.music.heard import Listener

        self._new, self._listener = Listener, Listener()
        self._segment: int | None = None
        self._time_ns = 0

    def gather(self, packet: Packet) -> None:
        """Follow the messages."""
        from stream.music.notes import are_events

        if packet.source_ns < self._time_ns:
            self._listener = self._new()
        elif packet.segment != self._segment:
            self._listener.end(packet.source_ns)
        self._segment, self._time_ns = packet.segment, packet.source_ns
        if are_events(packet.data):
            self._listener.add(packet.data, packet.source_ns)
        else:
            self.counters.drop("no_midi_messages")
        self._listener.forget(packet.source_ns - int(self.SHOWN_S * 1e9))

    def fold(self) -> Chunk:
        """Return every note of the last seconds; what has not ended, ends now."""
        now = self._time_ns
        notes = self._listener.notes[-self.MOST :]
        rows = [
            (n.pitch, n.velocity, *((now - at) / 1e9 if at is not None else 0.0 for at in
             (n.on_ns, n.off_ns, n.end_ns)))
            for n in notes
        ]  # fmt: skip
        return {"notes": np.array(rows, np.float32).tobytes(), "seconds": self.SHOWN_S}
