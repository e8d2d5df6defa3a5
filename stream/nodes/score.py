"""The `score` sink: how well one stream tells another, while both run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet

_UNPAIRED_LIMIT = 4096


class Score(Node[NodeSettings]):
    """Compares an estimate with the truth and leaves R2 in the run report.

    `from: [estimate, truth]`: two streams of the same names, matched by the span of source time
    that their packets cover. R2 is 1 - sum of squared errors / sum of squares of the truth around
    each channel's own mean, both summed over channels; so knowing only the means scores 0.
    """

    use = "score"
    summary = "R2 of a stream of estimates against a stream of true values"
    accepts = frozenset({"rates", "behaviour"})
    max_inputs: ClassVar[int | None] = 2

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Check that two streams of the same channels are linked; there is no output."""
        if len(inputs) != 2:
            raise ConfigError("takes two streams, `from: [estimate, truth]`.")
        (name, estimate), (truth_name, truth) = inputs.items()
        if estimate.names != truth.names or estimate.shape != truth.shape:
            raise ConfigError(
                f"'{name}' has {len(estimate.names)} channels and '{truth_name}'"
                f" {len(truth.names)}, or they differ in name; both must have the same."
            )
        if estimate.unit != truth.unit:
            raise ConfigError(
                f"'{name}' is in {estimate.unit or 'no unit'}, '{truth_name}' in"
                f" {truth.unit or 'no unit'}; both must be in the same unit."
            )
        return {}

    def open(self, context: Context) -> None:
        """Start from nothing."""
        super().open(context)
        self._estimate, self._truth = context.inputs
        channels = context.inputs[self._truth].shape[-1] or 0
        self._waiting: dict[str, dict[tuple[int, int, int], NDArray[Any]]] = {
            name: {} for name in context.inputs
        }
        self.n = 0
        self._sum = np.zeros(channels)
        self._squares = np.zeros(channels)
        self._error = np.zeros(channels)

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Pair the packet with its counterpart, or keep it until that comes."""
        key = (packet.segment, packet.source_ns, packet.source_end_ns)
        other = self._truth if stream == self._estimate else self._estimate
        counterpart = self._waiting[other].pop(key, None)
        if counterpart is None:
            waiting = self._waiting[stream]
            waiting[key] = packet.data
            if len(waiting) > _UNPAIRED_LIMIT:
                del waiting[next(iter(waiting))]
                self.context.counters.drop("unpaired")
        elif stream == self._truth:
            self._add(counterpart, packet.data)
        else:
            self._add(packet.data, counterpart)
        return ()

    def _add(self, estimate: NDArray[Any], truth: NDArray[Any]) -> None:
        truth64 = truth.astype(np.float64)
        self.n += 1
        self._sum += truth64
        self._squares += truth64**2
        self._error += (estimate - truth64) ** 2

    def r2(self) -> float:
        """Return R2 over all pairs so far; NaN while the truth has not varied."""
        if not self.n:
            return float("nan")
        spread = float((self._squares - self._sum**2 / self.n).sum())
        return 1.0 - float(self._error.sum()) / spread if spread > 0 else float("nan")

    def finish(self) -> Iterable[Packet]:
        """Leave the result in the report."""
        self.context.counters.note("pairs", self.n)
        if np.isfinite(self.r2()):
            self.context.counters.note("r2", round(self.r2(), 4))
        return ()
