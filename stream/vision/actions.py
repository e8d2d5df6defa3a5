"""`actions`: from class probabilities to what a person is doing now, since when, or `unknown`."""

from __future__ import annotations

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

    # Not `on` and `off`, which YAML reads as true and false.
    begin: float = Field(0.6, gt=0.5, le=1.0, description="probability from which an action begins")
    end: float = Field(0.4, ge=0.0, lt=1.0, description="probability below which it ends")
    hold: Seconds = Field(
        0.0, ge=0.0, description="how long a probability must last; every change comes that late"
    )


class Actions(Node[ActionsSettings]):
    """Turns class probabilities into one label a tick.

    The data are the probabilities as they came; `meta` holds `label` (a class name or `unknown`),
    its `probability`, and `onset_ns` on the clock of the source. The class called `background`
    is no action: while it holds, the label is unknown. `hold` is the delay that this adds, and the
    report repeats it.
    """

    use = "actions"
    summary = "labels with onset from class probabilities, debounced, unknown when unsure"
    Settings = ActionsSettings
    accepts = frozenset({"probabilities"})

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream of labels.

        Raises
        ------
        ConfigError
            The classes have no names, or `end` is above `begin`.
        """
        ((stream, spec),) = inputs.items()
        if not spec.names:
            raise ConfigError(f"'{stream}' does not name its classes, so nothing can be labelled.")
        if self.settings.end > self.settings.begin:
            raise ConfigError(
                f"end: {self.settings.end:g} is above begin, {self.settings.begin:g}; an action"
                " would end before it began."
            )
        meta = {**spec.meta, "debounce_s": self.settings.hold}
        return {
            "": StreamSpec("action", spec.shape, "float32", spec.names, "", spec.period_s, meta)
        }

    def open(self, context: Context) -> None:
        """Start from unknown."""
        super().open(context)
        ((_, spec),) = context.inputs.items()
        self._names = spec.names
        self._acting = np.array([name != BACKGROUND for name in spec.names])
        s = self.settings
        self._debounce = Debounce(len(spec.names), s.begin, s.end, to_ns(s.hold))
        self._segment: int | None = None
        self._begun: dict[str, int] = {}
        context.counters.note("debounce_s", s.hold)

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Label one moment."""
        if packet.data.shape != (len(self._names),) or not np.isfinite(packet.data).all():
            self.context.counters.drop("not_probabilities")
            return ()
        decide = self._debounce
        if packet.segment != self._segment:
            self._segment = packet.segment
            decide.reset()
        before = decide.label
        decide.push(packet.source_ns, np.where(self._acting, packet.data, 0.0))
        known = decide.label is not None
        label = self._names[decide.label] if decide.label is not None else UNKNOWN
        if known and decide.label != before:
            self._begun[label] = self._begun.get(label, 0) + 1
        probability = packet.data[decide.label] if known else 1.0 - packet.data[self._acting].max()
        meta = {
            "label": label, "probability": float(probability), "onset_ns": decide.onset_ns,
        }  # fmt: skip
        return [packet.derive("action", packet.data, meta=meta)]

    def finish(self) -> Iterable[Packet]:
        """Leave in the report how often each action began."""
        self.context.counters.note("begun", self._begun)
        return ()
