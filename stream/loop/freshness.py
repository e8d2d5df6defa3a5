"""Fresh data: what every output asks before it acts, and what tells it to go to its safe state."""

from __future__ import annotations

import logging
import time

from pydantic import Field

from stream.node import Context, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.units import Seconds, format_seconds, to_ns

STALL_S = 0.5
"""How long a stream may bring nothing, where neither the pipeline nor its period says more."""
_PERIODS = 5

_log = logging.getLogger(__name__)


class OutputSettings(NodeSettings):
    """Settings that every output has which acts on the world."""

    stall: Seconds | None = Field(
        None, gt=0,
        description="go to the safe state when a stream brings nothing for so long; by default"
        f" {format_seconds(STALL_S)}, or {_PERIODS} periods of a slower stream",
    )  # fmt: skip
    max_age: Seconds = Field(
        0.5, gt=0, description="data acquired longer ago than this lead to no action"
    )


class Freshness:
    """Watches that data keep coming and are young enough to be acted on.

    One stands in each output: `take` every packet before acting on it, hand on `due_ns`, and go to
    the safe state when `stalls` in `tick` names a stream. Packets that are too old count as none,
    so a stream that only brings such has stalled as well. The watch begins with the first call of
    `due_ns`, which the runtime makes when the run has started.

    It counts `too_old` and `from_the_future` (as dropped) and notes `stalls`, how often by stream,
    and `stalled_s`, for how long altogether. The first of each is logged, the rest only counted.

    Attributes
    ----------
    stalled
        The streams that bring nothing now; empty while all is well.
    """

    def __init__(self, settings: OutputSettings, context: Context) -> None:
        self.stalled: set[str] = set()
        self._context = context
        self._max_age_ns = to_ns(settings.max_age)
        self._stall_ns = {
            name: _stall_ns(settings.stall, spec) for name, spec in context.inputs.items()
        }
        # When each stream has stalled unless something comes; empty until the run has started.
        self._due_ns: dict[str, int] = {}
        self._since_ns: dict[str, int] = {}
        self._stalls: dict[str, int] = {}
        self._stalled_ns = 0
        self._logged: set[str] = set()

    def take(self, stream: str, packet: Packet) -> bool:
        """Note that a packet has come, and tell whether it is young enough to be acted on."""
        now_ns = time.monotonic_ns()
        age_ns = now_ns - packet.t_ns
        if not -self._max_age_ns <= age_ns <= self._max_age_ns:
            reason = "too_old" if age_ns > 0 else "from_the_future"
            self._context.counters.drop(reason)
            self._say_once(reason, "'%s' brought data of %.3f s ago", stream, age_ns / 1e9)
            return False
        self._due_ns[stream] = now_ns + self._stall_ns[stream]
        if stream in self.stalled:
            self._come_back(stream, now_ns)
        return True

    def due_ns(self) -> int | None:
        """Return when the next stream will have stalled (`time.monotonic_ns`)."""
        if len(self._due_ns) < len(self._stall_ns):
            now_ns = time.monotonic_ns()
            for stream, stall_ns in self._stall_ns.items():
                self._due_ns.setdefault(stream, now_ns + stall_ns)
        return min(
            (due for stream, due in self._due_ns.items() if stream not in self.stalled),
            default=None,
        )

    def stalls(self) -> list[str]:
        """Return the streams that have just stalled: the output goes to its safe state."""
        now_ns = time.monotonic_ns()
        found = [s for s, due in self._due_ns.items() if due <= now_ns and s not in self.stalled]
        for stream in found:
            self.stalled.add(stream)
            self._since_ns[stream] = self._due_ns[stream] - self._stall_ns[stream]
            self._stalls[stream] = self._stalls.get(stream, 0) + 1
            self._context.counters.note("stalls", dict(self._stalls))
            self._say_once(
                f"stall {stream}",
                "'%s' brings nothing fresh for %s: to the safe state",
                stream,
                format_seconds(self._stall_ns[stream] / 1e9),
            )
        return found

    def _come_back(self, stream: str, now_ns: int) -> None:
        self.stalled.discard(stream)
        away_ns = now_ns - self._since_ns[stream]
        self._stalled_ns += away_ns
        self._context.counters.note("stalled_s", round(self._stalled_ns / 1e9, 3))
        self._say_once(f"back {stream}", "'%s' is back after %.3f s", stream, away_ns / 1e9)

    def _say_once(self, what: str, message: str, *values: object) -> None:
        if what not in self._logged:
            self._logged.add(what)
            _log.warning(f"%s: {message}", self._context.name, *values)


def _stall_ns(stall_s: float | None, spec: StreamSpec) -> int:
    if stall_s is None:
        stall_s = max(STALL_S, _PERIODS * (spec.period_s or 0.0))
    return to_ns(stall_s)
