"""What sources that listen to an instrument share."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from stream.errors import InnervateError
from stream.instruments.arrivals import Arrivals
from stream.instruments.reader import Reader
from stream.node import Context, Counters, NodeSettings, Source
from stream.packet import Packet

S = TypeVar("S", bound=NodeSettings)
T = TypeVar("T")

_WAITING = 20_000
_PATIENCE_NS = 5_000_000_000
_NEVER_NS = 2**63 - 1

_log = logging.getLogger(__name__)


class LiveSource(Source[S], Generic[S, T]):
    """A source to which a `Reader` hands items; it turns them into packets.

    A subclass makes its `reader` in `open`, after `super().open`. What came before the common start
    of the run is no part of it.
    """

    reader: Reader

    def open(self, context: Context) -> None:
        """Get ready to be woken."""
        super().open(context)
        self.arrivals = Arrivals[T](_WAITING)
        self.wakes = self.arrivals.fileno()
        self._started = self._heard = False
        context.counters.note("heard", False)
        self._told: dict[str, int] = {}

    @abstractmethod
    def take(self, item: T) -> Iterable[Packet]:
        """Take one item and return the packets that it leads to at once."""

    def begin(self) -> None:
        """Get ready for the first item; called by `start`, and by those that need it by `open`."""

    def pending(self, now_ns: int) -> Iterable[Packet]:
        """Return what there is to send although nothing has come."""
        return ()

    def pending_ns(self, now_ns: int) -> int | None:
        """Return when there is something in `pending`."""
        return None

    def start(self, start_ns: int) -> None:
        """Forget what came before, and begin."""
        self.arrivals.take()
        self._told = dict(self.reader.losses)
        self._missed_ns = start_ns + _PATIENCE_NS
        self._started = True
        self.begin()

    def due_ns(self) -> int | None:
        """Return that something has come, or when time has to pass without it."""
        if not self._started:
            return None
        now_ns = time.monotonic_ns()
        if not self._heard and now_ns > self._missed_ns:
            _log.warning("nothing has come from %s yet", self.reader.name)
            self._missed_ns = _NEVER_NS
        if self.arrivals.waiting or self.reader.failure is not None:
            return now_ns
        return self.pending_ns(now_ns)

    def tick(self) -> Iterable[Packet]:
        """Turn what has come into packets.

        Raises
        ------
        InnervateError
            The thread that reads has ended by a fault of its own.
        """
        if self.reader.failure is not None:
            raise InnervateError(
                f"reading {self.reader.name} has failed ({self.reader.failure!r})."
            ) from self.reader.failure
        items = self.arrivals.take()
        if items and not self._heard:
            self._heard = True
            self.context.counters.note("heard", True)
        packets = [p for item in items for p in self.take(item)]
        packets += self.pending(time.monotonic_ns())
        self.tell()
        return packets

    def finish(self) -> Iterable[Packet]:
        """Say at the end what the reader counted."""
        self.tell()
        return ()

    def close(self) -> None:
        """Stop reading and release what was held."""
        if hasattr(self, "reader"):
            self.reader.close()
            self.tell()
        if hasattr(self, "arrivals"):
            self.arrivals.close()

    def tell(self) -> None:
        """Bring into the report what the reader has counted since the last time."""
        tell_losses(self.reader, self._told, self.context.counters)


class Reads(Protocol):
    """What tells of a thread that reads how it does; see `Reader`."""

    losses: dict[str, int]
    lost_ns: int | None
    outages: int
    attempts: int


def tell_losses(reader: Reads, told: dict[str, int], counters: Counters) -> None:
    """Bring into a report what a reader has counted beyond what was `told`, which grows by it."""
    for reason, total in list(reader.losses.items()):
        if (more := total - told.get(reason, 0)) > 0:
            counters.drop(reason, more)
            told[reason] = total
    if reader.outages:
        lost_ns = reader.lost_ns
        away_s = 0.0 if lost_ns is None else (time.monotonic_ns() - lost_ns) / 1e9
        counters.notes |= {
            "outages": reader.outages, "attempts": reader.attempts, "away_s": round(away_s, 1)
        }  # fmt: skip
