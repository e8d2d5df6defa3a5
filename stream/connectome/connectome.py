"""The node `connectome`: counts in, a graph of who drives whom out, several times a second."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from pydantic import Field

from stream.connectome.change import Change
from stream.connectome.estimators import METHODS, Method, estimator, variables
from stream.connectome.graph import CAVEAT
from stream.connectome.sliding import Fading, Running, Sliding
from stream.errors import ConfigError, GraphError
from stream.node import GAVE_NOTHING, Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.units import Seconds, format_seconds

CHANGE = ("change", "edges", "effective", "age_s")
"""Columns of the output `.change`."""
_UNITS_LIMIT = 1000

_log = logging.getLogger(__name__)


class ConnectomeSettings(NodeSettings):
    """Settings of `connectome`."""

    method: Method = Field("counts", description=f"one of {', '.join(METHODS)}")
    delay: int = Field(1, ge=0, le=100, description="largest delay of an effect, in bins")
    window: Seconds = Field(gt=0, description="how much of the past a graph is made of")
    every: Seconds = Field(0.1, gt=0, description="time from one graph to the next")
    fading: bool = Field(
        False,
        description="let the past fade instead of ending it at `window`, to the same number of"
        " effective bins",
    )
    alpha: float = Field(
        0.05, gt=0, lt=1, description="rate of false discoveries among the pairs of units"
    )
    threshold: float = Field(
        10.0, gt=0, description="a change above this is one: in deviations of what is usual"
    )


class Connectome(Node[ConnectomeSettings]):
    """Keeps running statistics of the units, and makes a graph of them every few bins.

    Outputs: kind `graph`, float32 (units, units, 3), row = from, column = to: whether there is an
    edge, its weight, its p-value, NaN where nothing was tested; and `.change` with the columns
    `CHANGE`. No row reaches over the start of a segment, a gap or a refused packet.
    """

    use = "connectome"
    summary = "a graph of who drives whom, live, with its uncertainty and age"
    Settings = ConnectomeSettings
    accepts = frozenset({"counts", "rates"})

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the graph and what is said of it.

        Raises
        ------
        ConfigError
            The input has no fixed interval or too many units; `window`, `every`, `delay` and
            `method` do not fit it or each other.
        """
        ((stream, spec),) = inputs.items()
        if spec.period_s is None or len(spec.shape) != 1 or not spec.shape[0]:
            raise ConfigError(
                f"'{stream}' is no regular stream of units; 'connectome' takes bins, as"
                " 'spikes.bin' makes them."
            )
        n = spec.shape[0]
        if n > _UNITS_LIMIT:
            raise ConfigError(
                f"'{stream}' has {n} units, 'connectome' takes {_UNITS_LIMIT} at most; choose some"
                " with `units` of 'spikes.bin'."
            )
        self._check(stream, spec, n)
        names = spec.names or tuple(str(i) for i in range(n))
        about = {
            "method": self.settings.method, "delay_bins": self.settings.delay,
            "window_s": self.settings.window, "alpha": self.settings.alpha, "note": CAVEAT,
        }  # fmt: skip
        every = self._bins(spec, self.settings.every) * spec.period_s
        return {
            "": StreamSpec("graph", (n, n, 3), "float32", names, "", every, about),
            "change": StreamSpec("behaviour", (len(CHANGE),), "float32", CHANGE, "", every, about),
        }

    def _bins(self, spec: StreamSpec, seconds: float) -> int:
        assert spec.period_s is not None
        return round(seconds / spec.period_s)

    def _check(self, stream: str, spec: StreamSpec, n: int) -> None:
        settings, width = self.settings, spec.period_s
        assert width is not None
        for key in ("window", "every"):
            value = getattr(settings, key)
            bins = self._bins(spec, value)
            if bins < 1 or abs(bins * width - value) > 1e-6 * width:
                raise ConfigError(
                    f"{key}: {format_seconds(value)} is no whole number of the bins of '{stream}',"
                    f" which are {format_seconds(width)} wide."
                )
        method = settings.method
        if method == "counts" and spec.kind != "counts":
            raise ConfigError(
                f"method: 'counts' tests spikes, and '{stream}' carries {spec.kind}; take"
                " 'granger' or 'tpc'."
            )
        if method in ("granger", "counts", "tpc", "neuro-pc") and not settings.delay:
            raise ConfigError(f"delay: '{method}' looks into the past; give 1 or more bins.")
        window = self._bins(spec, settings.window)
        needed = max(variables(method, n, settings.delay) + 10, 4 * (settings.delay + 1))
        if window < needed + settings.delay:
            raise ConfigError(
                f"window: {format_seconds(settings.window)} are {window} bins, and '{method}' needs"
                f" at least {needed + settings.delay} for {n} units at a delay of"
                f" {settings.delay}; take a longer window or fewer units."
            )

    def open(self, context: Context) -> None:
        """Lay out the statistics."""
        super().open(context)
        ((_, spec),) = context.inputs.items()
        n = spec.shape[0] or 0
        settings = self.settings
        self._spec, self._n = spec, n
        self._every = self._bins(spec, settings.every)
        window = self._bins(spec, settings.window)
        kind = Fading if settings.fading else Sliding
        self._running: Running = kind(n, settings.delay, window)
        self._change = Change(self._running, context.alive)
        self._estimator = estimator(settings.method, settings.alpha, context.alive)
        self._names = spec.names or tuple(str(i) for i in range(n))
        self._bins_in = np.zeros((self._every, n), dtype=np.float32)
        # Bins of the open graph: all that came, and those that wait to be added.
        self._came = self._waiting = 0
        self._start_ns = 0
        self._seq: int | None = None
        self._segment: int | None = None
        self._missed = 0
        self._no_graph_yet = ""
        self._graphs = self._changes = self._limited = 0
        self._changed = False

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Add a bin, and return a graph when one is due."""
        reason = self._refusal(packet)
        follows = self._segment == packet.segment and not packet.gap and not reason
        follows &= self._seq is not None and packet.seq == self._seq + 1
        self._seq, self._segment = packet.seq, packet.segment
        if not follows:
            self._add()
            self._running.cut()
        if reason:
            self.context.counters.drop(reason)
        else:
            self._bins_in[self._waiting] = packet.data
            self._waiting += 1
        if not self._came:
            self._start_ns = packet.source_ns
        self._came += 1
        if self._came < self._every:
            return ()
        self._came = 0
        self._add()
        return self._refresh(packet)

    def finish(self) -> Iterable[Packet]:
        """Say why no graph came, if none did."""
        if not self._graphs:
            every = format_seconds(self.settings.every)
            why = self._no_graph_yet or (
                f"{self._came} bins came, the first graph was due after {self._every} ('every' is"
                f" {every}); take a shorter 'every' or more data."
            )
            self.context.counters.note(GAVE_NOTHING, why)
        return ()

    def _refusal(self, packet: Packet) -> str:
        """Return why a bin cannot be taken, or nothing."""
        if packet.data.shape != (self._n,):
            return "wrong_shape"
        with np.errstate(over="ignore"):
            if not np.isfinite(packet.data.astype(np.float32)).all():
                return "not_finite"
        # `spikes.bin` marks a bin that input is missing for: it lacks spikes of all units at once.
        if packet.gap and packet.kind == "counts":
            return "incomplete"
        return ""

    def _add(self) -> None:
        self._running.push(self._bins_in[: self._waiting])
        self._waiting = 0

    def _refresh(self, packet: Packet) -> list[Packet]:
        try:
            statistics = self._running.statistics()
            self.context.alive()
            graph = self._estimator.estimate(statistics)
        except GraphError as error:
            self._refuse_graph(error)
            return []
        self.context.alive()
        moved = self._change.after(self._every) if self.settings.delay else float("nan")
        known = bool(np.isfinite(moved))
        changed = known and moved > self.settings.threshold
        self._changes += changed and not self._changed
        self._changed = changed
        self._graphs += 1
        notes = self.context.counters
        notes.note("graphs", self._graphs)
        notes.note("changes", self._changes)
        self._limited += graph.limited > 0
        notes.note("graphs_limited", self._limited)
        age_s = self._running.age * (self._spec.period_s or 0.0)
        meta = {
            "effective": statistics.rows, "window_s": self.settings.window, "age_s": age_s,
            "change": moved if known else None, "changed": changed,
            "method": self.settings.method, "alpha": self.settings.alpha, "note": CAVEAT,
            "left_out": _by_reason(graph.left_out), "limited": graph.limited,
        }  # fmt: skip
        data = np.stack([graph.edges, graph.weights, graph.p], axis=-1).astype(np.float32)
        packets = [self._packet(packet, "graph", data, meta)]
        packets[0].gap, self._missed = self._missed, 0
        if known:
            said = np.array([moved, graph.edges.sum(), statistics.rows, age_s], dtype=np.float32)
            packets.append(self._packet(packet, "behaviour", said, {}, "change"))
        return packets

    def _packet(
        self, newest: Packet, kind: str, data: Any, meta: dict[str, Any], output: str = ""
    ) -> Packet:
        return Packet(
            kind=kind, data=data, t_ns=newest.t_ns, source_ns=self._start_ns,
            source_end_ns=newest.source_end_ns, segment=newest.segment, output=output, meta=meta,
        )  # fmt: skip

    def _refuse_graph(self, error: GraphError) -> None:
        """Say that there is no graph: while the window fills that is as it should be."""
        if not self._graphs:
            self._no_graph_yet = str(error)
            return
        if not self._missed:
            _log.warning("no graph: %s", error)
        self._missed += 1
        self.context.counters.drop("no_graph")


def _by_reason(left_out: Mapping[int, str]) -> dict[str, list[int]]:
    reasons: dict[str, list[int]] = {}
    for unit, reason in left_out.items():
        reasons.setdefault(reason, []).append(unit)
    return reasons
