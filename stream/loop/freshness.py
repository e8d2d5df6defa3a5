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
    the safe state when `stalls` in `tick` names a stream. What is watched are the nodes that the
    streams come from, since one stream may have little to say while its node is well. Packets that
    are too old count as none, so that a node which only brings such has stalled as well. The watch
    begins with the first call of `due_ns`, which the runtime makes when the run has started.

    It counts `too_old` and `from_the_future` (as dropped) and notes `stalls`, how often by node,
    and `stalled_s`, for how long altogether. The first of each is logged, the rest only counted.

    Attributes
    ----------
    stalled
        The streams whose node brings nothing now; empty while all is well.
    """

    def __init__(self, settings: OutputSettings, context: Context) -> None:
        self.stalled: set[str] = set()
        self._context = context
        self._max_age_ns = to_ns(settings.max_age)
        self._nodes = {stream: stream.partition(".")[0] for stream in context.inputs}
        self._stall_ns: dict[str, int] = {}
        for stream, spec in context.inputs.items():
            node, stall_ns = self._nodes[stream], _stall_ns(settings.stall, spec)
            self._stall_ns[node] = min(stall_ns, self._stall_ns.get(node, stall_ns))
        # When each node has stalled unless something comes; empty until the run has started.
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
            self._say_once(
                reason,
                "'%s' brought data %s %s, not to be acted on (max_age %s); more are only counted",
                stream,
                format_seconds(round(abs(age_ns) / 1e9, 3)),
                "old" if age_ns > 0 else "from the future",
                format_seconds(self._max_age_ns / 1e9),
            )
            return False
        node = self._nodes[stream]
        self._due_ns[node] = now_ns + self._stall_ns[node]
        if node in self._since_ns:
            self._come_back(node, now_ns)
        return True

    def due_ns(self) -> int | None:
        """Return when the next node will have stalled (`time.monotonic_ns`)."""
        if len(self._due_ns) < len(self._stall_ns):
            now_ns = time.monotonic_ns()
            for node, stall_ns in self._stall_ns.items():
                self._due_ns.setdefault(node, now_ns + stall_ns)
        return min(
            (due for node, due in self._due_ns.items() if node not in self._since_ns),
            default=None,
        )

    def stalls(self) -> list[str]:
        """Return the streams whose node has just stalled: the output goes to its safe state."""
        now_ns = time.monotonic_ns()
        found = [n for n, due in self._due_ns.items() if due <= now_ns and n not in self._since_ns]
        for node in found:
            self._since_ns[node] = self._due_ns[node] - self._stall_ns[node]
            self._stalls[node] = self._stalls.get(node, 0) + 1
            self._context.counters.note("stalls", dict(self._stalls))
            self._say_once(
                f"stall {node}",
                "'%s' brings nothing fresh for %s: to the safe state",
                node,
                format_seconds(self._stall_ns[node] / 1e9),
            )
        streams = [stream for stream, node in self._nodes.items() if node in found]
        self.stalled.update(streams)
        return streams

    def _come_back(self, node: str, now_ns: int) -> None:
        self.stalled -= {stream for stream, of in self._nodes.items() if of == node}
        away_ns = now_ns - self._since_ns.pop(node)
        self._stalled_ns += away_ns
        self._context.counters.note("stalled_s", round(self._stalled_ns / 1e9, 3))
        self._say_once(f"back {node}", "'%s' is back after %.3f s", node, away_ns / 1e9)

    def _say_once(self, what: str, message: str, *values: object) -> None:
        if what not in self._logged:
            self._logged.add(what)
            _log.warning(f"%s: {message}", self._context.name, *values)


def _stall_ns(stall_s: float | None, spec: StreamSpec) -> int:
    if stall_s is None:
        stall_s = max(STALL_S, _PERIODS * (spec.period_s or 0.0))
    return to_ns(stall_s)
