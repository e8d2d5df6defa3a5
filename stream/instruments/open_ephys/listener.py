"""What both sources for Open Ephys have in common."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from pydantic import Field, field_validator

from stream.instruments.open_ephys.acquisition import Acquisition
from stream.instruments.open_ephys.look import LOOK_S
from stream.instruments.open_ephys.points import edge_names
from stream.instruments.open_ephys.subscription import Subscription
from stream.node import Context, NodeSettings, Source, StreamSpec
from stream.packet import Packet

_BY_CLOCK_NS = 5_000_000
_WATCH_NS = 250_000_000
_SILENT_NS = 1_000_000_000
_MESSAGES = 256

_log = logging.getLogger(__name__)


class ListenerSettings(NodeSettings):
    """Settings of every source for Open Ephys."""

    host: str = Field("127.0.0.1", description="where the GUI runs")
    stream: str | None = Field(
        None, description="name of the stream that is expected; by default the one that is sent"
    )
    units: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="names of the units to take, in this order: electrodes, or with `sorted`"
        " ELECTRODE:ID; by default those that fire in a look of 3 s before the start",
    )
    sorted: bool = Field(
        False,
        description="true: each sorted unit is a unit; false: each electrode is one, whatever its"
        " spikes were sorted to",
    )
    lines: int = Field(8, ge=1, le=64, description="TTL lines")

    @field_validator("units")
    @classmethod
    def _once(cls, units: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if units is not None and len(set(units)) < len(units):
            raise ValueError("expected each unit once")
        return units


S = TypeVar("S", bound="ListenerSettings")


class Listener(Source[S], ABC):
    """Reads messages as they come, and knows when none do.

    A subclass has a setting `port`, and says in `take` what to do with a message.
    """

    def point_streams(self, learned: Sequence[str], about: dict[str, Any]) -> dict[str, StreamSpec]:
        """Return the streams of spikes, if units are known, and of TTL edges."""
        specs = {}
        if units := self.settings.units or tuple(learned):
            specs[""] = StreamSpec("spikes", (None, 2), "int64", units, meta=about)
        else:
            _log.warning("no spikes came in %g s; to take spikes, list the units", LOOK_S)
        lines = self.settings.lines
        specs["ttl"] = StreamSpec("trigger", (2 * lines,), "uint8", edge_names(lines), meta=about)
        return specs

    def open(self, context: Context) -> None:
        """Connect, so that the first messages of the run are not missed."""
        super().open(context)
        s = self.settings
        self.acquisition = Acquisition(
            context.outputs, context.linked, context.counters, by_sorting=s.sorted, lines=s.lines
        )
        self._subscription = Subscription(s.host, s.port)  # type: ignore[attr-defined]
        self._by_clock = not next(iter(context.outputs.values())).meta["blocks"]
        if self.settings.units is None and "" in context.outputs:
            context.counters.note("units_seen", list(context.outputs[""].names))
        self._started = False
        self._outages = 0
        self._away = False
        self._watch_ns = 0
        self.wakes = self._subscription.fileno()

    def start(self, start_ns: int) -> None:
        """Forget what came before the common start."""
        self._subscription.discard()
        self._came_ns = self._watch_ns = self._timer_ns = time.monotonic_ns()
        self._started = True

    def due_ns(self) -> int | None:
        """Return now when messages wait, else when to look after the connection."""
        if not self._started:
            return None
        # Not earlier than now, or a source that is behind would not end with the run.
        return time.monotonic_ns() if self._subscription.waiting else self._timer_ns

    def tick(self) -> Iterable[Packet]:
        """Read messages up to the first that gives packets, so that these leave at once."""
        now_ns = time.monotonic_ns()
        for _ in range(_MESSAGES):
            if (frames := self._subscription.receive()) is None:
                break
            self._came_ns = now_ns
            if packets := self.take(frames, now_ns):
                return packets
        if now_ns < self._timer_ns:
            return ()
        self._timer_ns = now_ns + (_BY_CLOCK_NS if self._by_clock else _WATCH_NS)
        return self.look_after(now_ns)

    @abstractmethod
    def take(self, frames: list[bytes], arrived_ns: int) -> list[Packet]:
        """Take in a message and return the packets that it leads to."""

    def look_after(self, now_ns: int) -> list[Packet]:
        """Notice silence, tell what is known, and return what only time completes."""
        if now_ns >= self._watch_ns:
            self._watch_ns = now_ns + _WATCH_NS
            self._subscription.watch()
            self._notice(now_ns)
            self._tell()
        # Where no blocks tell, that nothing comes can mean that nobody fires.
        return self.acquisition.elapse(now_ns) if self._subscription.connected else []

    def finish(self) -> Iterable[Packet]:
        """Return the spikes that were held back."""
        packets = self.acquisition.finish(time.monotonic_ns())
        self._tell()
        return packets

    def close(self) -> None:
        """Disconnect."""
        if hasattr(self, "_subscription"):
            self._subscription.close()

    def _notice(self, now_ns: int) -> None:
        if self._by_clock and self._subscription.connected:
            self._came_ns = now_ns
        away = now_ns - self._came_ns > _SILENT_NS
        if away and not self._away:
            self._outages += 1
            _log.warning("nothing comes from %s any more", self._subscription.address)
        elif self._away and not away:
            _log.warning("%s is back", self._subscription.address)
        self._away = away

    def _tell(self) -> None:
        self.acquisition.note()
        self.context.counters.note_rare(
            outages=self._outages, connections_lost=self._subscription.lost
        )
