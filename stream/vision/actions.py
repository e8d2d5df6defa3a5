"""`actions`: from class probabilities to what a person is doing now, since when, or `unknown`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stream.errors import ConfigError
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.units import Seconds, to_ns

UNKNOWN = "unknown"
BACKGROUND = "background"
"""Name of the class of a model that stands for none of its actions."""

_BEGIN = 0.6
_END_SHARE = 2 / 3
_SILENCE_NS = to_ns(1.0)


class Debounce:
    """Decides which class holds, so that a label does not flicker.

    A class takes over once its probability has been `begin` or more for `hold_ns`; it ends once its
    probability has been below `end` for `hold_ns`. Every change thus comes `hold_ns` later than it
    could, and not later than that.

    Attributes
    ----------
    label
        Index of the class that holds, None for unknown.
    onset_ns
        Since when: the first moment of the unbroken stretch of probabilities of `end` or more that
        led to it; for unknown, when the class before ended.
    """

    def __init__(self, classes: int, begin: float, end: float, hold_ns: int) -> None:
        self._begin_at, self._end_at, self._hold_ns = begin, end, hold_ns
        self._sure_since = np.full(classes, -1, np.int64)
        self._likely_since = np.full(classes, -1, np.int64)
        self.reset()

    def reset(self) -> None:
        """Forget everything; the label is unknown."""
        self.label: int | None = None
        self.onset_ns: int | None = None
        self._low_ns: int | None = None
        self._sure_since[:] = self._likely_since[:] = -1

    def push(self, time_ns: int, probability: NDArray[np.floating[Any]]) -> None:
        """Take the probabilities (classes,) of a moment."""
        for since, level in (
            (self._sure_since, self._begin_at),
            (self._likely_since, self._end_at),
        ):
            above = probability >= level
            since[above & (since < 0)] = time_ns
            since[~above] = -1
        if self.onset_ns is None:
            self.onset_ns = time_ns
        self._end(time_ns, probability)
        self._begin(time_ns, probability)

    def _end(self, time_ns: int, probability: NDArray[np.floating[Any]]) -> None:
        if self.label is None or probability[self.label] >= self._end_at:
            self._low_ns = None
            return
        if self._low_ns is None:
            self._low_ns = time_ns
        if time_ns - self._low_ns >= self._hold_ns:
            self.label, self.onset_ns, self._low_ns = None, self._low_ns, None

    def _begin(self, time_ns: int, probability: NDArray[np.floating[Any]]) -> None:
        ready = (self._sure_since >= 0) & (time_ns - self._sure_since >= self._hold_ns)
        if not ready.any():
            return
        best = int(np.where(ready, probability, -1.0).argmax())
        if best != self.label:
            self.label, self.onset_ns, self._low_ns = best, int(self._likely_since[best]), None


class ActionsSettings(NodeSettings):
    """Settings of `actions`."""

    # Not `on` and `off`, which YAML reads as true and false. Above a half, so that no two actions
    # reach it at once.
    begin: float | None = Field(
        None, gt=0.5, le=1.0,
        description="probability from which an action begins; by default the threshold that the"
        f" model file was calibrated to, else {_BEGIN:g}",
    )  # fmt: skip
    end: float | None = Field(
        None, ge=0.0, lt=1.0,
        description="probability below which it ends; by default two thirds of `begin`",
    )  # fmt: skip
    hold: Seconds = Field(
        0.0, ge=0.0, description="how long a probability must last; every change comes that late"
    )


class Actions(Node[ActionsSettings]):
    """Turns class probabilities into one label a tick.

    The data are the probabilities as they came; `meta` holds `label` (a class name or `unknown`),
    its `probability`, `onset_ns` on the clock of the source, and `uncertainty`: the entropy of the
    probabilities, from 0 for a single class to 1 when all are equally likely. The class called
    `background` is no action: while it holds, the label is unknown. `hold` is the delay that this
    adds; the report repeats it, beside the thresholds.

    When no probabilities have come for a second of the source's clock, since nobody is in view or
    the camera is away, one packet says `unknown`; its data are NaN and its uncertainty is 1.
    """

    use = "actions"
    summary = "labels with onset from class probabilities, debounced, unknown when unsure"
    Settings = ActionsSettings
    accepts = frozenset({"probabilities"})

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream of labels; its `meta` holds the thresholds and the delay.

        Raises
        ------
        ConfigError
            The classes have no names, or `end` is above `begin`.
        """
        ((stream, spec),) = inputs.items()
        if not spec.names:
            raise ConfigError(f"'{stream}' does not name its classes, so nothing can be labelled.")
        begin, end = thresholds(self.settings, spec.meta.get("threshold"))
        if end > begin:
            raise ConfigError(
                f"end: {end:g} is above begin, {begin:g}; an action would end before it began."
            )
        meta = {**spec.meta, **self._facts(spec)}
        return {
            "": StreamSpec("action", spec.shape, "float32", spec.names, "", spec.period_s, meta)
        }

    def open(self, context: Context) -> None:
        """Start from unknown."""
        super().open(context)
        ((_, spec),) = context.inputs.items()
        self._names = spec.names
        self._acting = np.array([name != BACKGROUND for name in spec.names])
        begin, end = thresholds(self.settings, spec.meta.get("threshold"))
        self._debounce = Debounce(len(spec.names), begin, end, to_ns(self.settings.hold))
        self._segment: int | None = None
        self._begun: dict[str, int] = {}
        self._last: Packet | None = None
        self._slowness = 1.0
        self._silent_ns: int | None = None
        for key, value in self._facts(spec).items():
            context.counters.note(key, value)

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Label one moment."""
        p = packet.data
        if p.shape != (len(self._names),) or not (np.isfinite(p).all() and (p >= 0).all()):
            self.context.counters.drop("not_probabilities")
            return ()
        decide = self._debounce
        if packet.segment != self._segment:
            self._segment = packet.segment
            decide.reset()
        self._watch(packet)
        before = decide.label
        decide.push(packet.source_ns, np.where(self._acting, p, 0.0))
        known = decide.label is not None
        label = self._names[decide.label] if decide.label is not None else UNKNOWN
        if known and decide.label != before:
            self._begun[label] = self._begun.get(label, 0) + 1
        probability = p[decide.label] if known else 1.0 - p[self._acting].max()
        meta = {
            "label": label, "probability": float(probability), "uncertainty": uncertainty(p),
            "onset_ns": decide.onset_ns,
        }  # fmt: skip
        return [packet.derive("action", p, meta=meta)]

    def due_ns(self) -> int | None:
        """Return when it will have been silent for too long."""
        return self._silent_ns

    def tick(self) -> Iterable[Packet]:
        """Say that nothing is known any more."""
        last, self._silent_ns = self._last, None
        assert last is not None
        self._debounce.reset()
        now_ns = time.monotonic_ns()
        at_ns = last.source_ns + round((now_ns - last.t_ns) / self._slowness)
        meta = {"label": UNKNOWN, "probability": 1.0, "uncertainty": 1.0, "onset_ns": at_ns}
        return [
            Packet(
                kind="action", data=np.full_like(last.data, np.nan), t_ns=now_ns, source_ns=at_ns,
                source_end_ns=at_ns, segment=last.segment, meta=meta,
            )
        ]  # fmt: skip

    def finish(self) -> Iterable[Packet]:
        """Leave in the report how often each action began."""
        self.context.counters.note("begun", self._begun)
        return ()

    def _watch(self, packet: Packet) -> None:
        """Plan when to say that nothing comes any more; in slow motion a second takes longer."""
        last = self._last
        if last is not None and packet.source_ns > last.source_ns:
            self._slowness = max(
                1.0, (packet.t_ns - last.t_ns) / (packet.source_ns - last.source_ns)
            )
        self._last = packet
        self._silent_ns = time.monotonic_ns() + round(_SILENCE_NS * self._slowness)

    def _facts(self, spec: StreamSpec) -> dict[str, float]:
        begin, end = thresholds(self.settings, spec.meta.get("threshold"))
        return {"begin": begin, "end": end, "debounce_s": self.settings.hold}


def thresholds(settings: ActionsSettings, calibrated: float | None) -> tuple[float, float]:
    """Return the probabilities from which an action begins, and below which it ends.

    `calibrated` is what the model file says, None where it says nothing.
    """
    begin = settings.begin
    if begin is None:
        begin = _BEGIN if calibrated is None else calibrated
    return begin, round(_END_SHARE * begin, 3) if settings.end is None else settings.end


def uncertainty(probabilities: NDArray[np.floating[Any]]) -> float:
    """Return the entropy of probabilities (classes,), 0 for certainty and 1 for none at all."""
    p = probabilities[probabilities > 0].astype(np.float64)
    if len(probabilities) < 2 or not len(p):
        return float(not len(p))
    p /= p.sum()
    return float(min(1.0, max(0.0, -(p * np.log(p)).sum() / math.log(len(probabilities)))))
