"""`spikes.bin`: spikes or fine counts into bins, one packet for every bin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stream.errors import ConfigError
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.spikes.selection import select_units
from stream.units import Seconds, format_seconds, to_ns

JUMP_S = 1.0
"""A hole or a step of the source clock above this, or ten bins, starts a new segment."""
# Times beyond this are no times; sums of two below it still fit into 64 bits.
_CLOCK_LIMIT_NS = 2**62


class BinSettings(NodeSettings):
    """Settings of `spikes.bin`."""

    width: Seconds = Field(ge=1e-4, description="width of a bin, such as 5 ms")
    units: tuple[str, ...] | None = Field(
        None, description="names of the units to count, in this order; all by default"
    )


class SpikesBin(Node[BinSettings]):
    """Count spikes in half-open bins on a grid that starts where the segment starts.

    Every bin gives one packet, empty ones too, as soon as the input promises that nothing earlier
    follows (`source_end_ns`). These are the bins of `bin_recording`. A bin that input is missing
    for carries `gap` 1. The page docs/spikes.md says what becomes of late spikes and clocks that
    jump.
    """

    use = "spikes.bin"
    summary = "counts spikes, or sums counts, in bins: one packet for every bin"
    Settings = BinSettings
    accepts = frozenset({"spikes", "counts"})

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream of bins.

        Raises
        ------
        ConfigError
            A unit is not in the input, or the bins of the input do not fit into bins of `width`.
        """
        ((stream, spec),) = inputs.items()
        names = self._names(stream, spec)
        if spec.kind == "counts":
            self._check_width(stream, spec)
        return {
            "": StreamSpec(
                "counts", (len(names),), "float32", names, "count", self.settings.width, spec.meta
            )
        }

    def _names(self, stream: str, spec: StreamSpec) -> tuple[str, ...]:
        if not spec.names:
            raise ConfigError(f"'{stream}' does not name its units, so they cannot be counted.")
        chosen = select_units(spec.names, self.settings.units, f"'{stream}'")
        return tuple(spec.names[i] for i in chosen)

    def _check_width(self, stream: str, spec: StreamSpec) -> None:
        width = format_seconds(self.settings.width)
        if spec.period_s is None:
            raise ConfigError(
                f"width: '{stream}' does not say how wide its bins are, so they cannot be summed"
                f" into bins of {width}."
            )
        if to_ns(self.settings.width) % to_ns(spec.period_s):
            own = format_seconds(spec.period_s)
            raise ConfigError(
                f"width: '{stream}' has bins of {own}, which do not fit into bins of {width};"
                f" choose a multiple of {own}."
            )

    def open(self, context: Context) -> None:
        """Lay out the open bin."""
        super().open(context)
        ((stream, spec),) = context.inputs.items()
        chosen = select_units(spec.names, self.settings.units, f"'{stream}'")
        self._kind = spec.kind
        self._n_in = len(spec.names)
        self._n = len(chosen)
        self._chosen = None if np.array_equal(chosen, np.arange(self._n_in)) else chosen
        # Column in the output by unit of the input, -1 for units that are not counted.
        self._column = np.full(self._n_in, -1, dtype=np.int64)
        self._column[chosen] = np.arange(self._n)
        self._width_ns = to_ns(self.settings.width)
        self._row_ns = to_ns(spec.period_s) if spec.kind == "counts" and spec.period_s else 0
        self._jump_ns = max(to_ns(JUMP_S), 10 * self._width_ns)
        self._counts = np.zeros(self._n, dtype=np.float32)
        self._segment: int | None = None
        # Left edge of the first bin of the segment and of the open one; up to where input came.
        self._origin_ns = self._edge_ns = self._known_ns = 0
        self._gap = 0
        # Number of the segment as sent, and by how much it is ahead of the input's.
        self._number = self._offset = 0
        self._jumps = 0
        self._seq: int | None = None
        self._remainder = 0
        self._missed = 0

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Count what is in a packet and return the bins that it closes."""
        reason = self._refusal(packet)
        if reason:
            # Its number stays unseen, so that the bin it was for is marked by the next packet.
            self.context.counters.drop(reason)
            self._missed += 1
            return ()
        missed = self._missed > 0 or packet.gap > 0
        missed |= self._seq is not None and packet.seq > self._seq + 1
        self._seq = packet.seq
        self._missed = 0
        start_ns, end_ns = self._place(packet)
        if missed:
            self._gap = max(self._gap, 1)
        bins = self._pass_hole(packet, start_ns)
        if self._kind == "spikes":
            self._add_spikes(packet, end_ns, bins)
        else:
            self._add_row(packet, start_ns, end_ns, bins)
        self._known_ns = max(self._known_ns, end_ns)
        return bins

    def finish(self) -> Iterable[Packet]:
        """Note what the last, unfinished bin held."""
        self._note_remainder()
        return ()

    def _refusal(self, packet: Packet) -> str:
        """Return why a packet cannot be read at all, or nothing."""
        data = packet.data
        if packet.kind != self._kind:
            return "kind"
        span_ns = packet.source_end_ns - packet.source_ns
        if abs(packet.source_ns) > _CLOCK_LIMIT_NS or not 0 <= span_ns <= self._longest_ns():
            return "span"
        if self._kind == "spikes":
            fits = data.ndim == 2 and data.shape[1] == 2 and data.dtype == np.int64
        else:
            fits = data.shape == (self._n_in,) and data.dtype.kind in "iuf"
        return "" if fits else "shape"

    def _longest_ns(self) -> int:
        return max(self._jump_ns, 2 * self._row_ns)

    def _place(self, packet: Packet) -> tuple[int, int]:
        """Return what the packet covers; begin a new segment where the clock says so."""
        start_ns, end_ns = packet.source_ns, packet.source_end_ns
        if self._segment != packet.segment:
            self._begin(packet.segment, start_ns, gap=0)
        elif start_ns - self._known_ns > self._jump_ns:
            self._jump(packet, max(1, (start_ns - self._edge_ns) // self._width_ns))
        elif self._known_ns - end_ns > self._jump_ns:
            self._jump(packet, 1)
        if self._row_ns:
            # Clocks that round put a bin a few ns off the grid: it is the nearest one's.
            row = (start_ns - self._origin_ns + self._row_ns // 2) // self._row_ns
            start_ns = self._origin_ns + row * self._row_ns
            end_ns = start_ns + self._row_ns
        return start_ns, end_ns

    def _jump(self, packet: Packet, gap: int) -> None:
        self._jumps += 1
        self.context.counters.note("clock_jumps", self._jumps)
        self._begin(packet.segment, packet.source_ns, gap)

    def _begin(self, segment: int, start_ns: int, gap: int) -> None:
        self._note_remainder()
        # Numbers only rise: one that comes again would look like the same segment downstream.
        if self._segment is not None:
            self._offset = max(self._offset, self._number + 1 - segment)
        self._number = segment + self._offset
        self._counts[:] = 0
        self._segment = segment
        self._origin_ns = self._edge_ns = self._known_ns = start_ns
        self._gap = gap

    def _note_remainder(self) -> None:
        spikes = int(self._counts.sum())
        if spikes:
            self._remainder += spikes
            self.context.counters.note("spikes_in_unfinished_bins", self._remainder)

    def _pass_hole(self, packet: Packet, start_ns: int) -> list[Packet]:
        """Close and mark the bins for which nothing came before `start_ns`."""
        bins: list[Packet] = []
        if start_ns <= self._known_ns:
            return bins
        self._gap = max(self._gap, 1)
        while self._edge_ns + self._width_ns <= start_ns:
            bins.append(self._close(packet))
            self._gap = 1
        if start_ns == self._edge_ns:
            self._gap = 0
        return bins

    def _add_spikes(self, packet: Packet, end_ns: int, bins: list[Packet]) -> None:
        closing = max(0, (end_ns - self._edge_ns) // self._width_ns)
        if not len(packet.data):
            bins.extend(self._close(packet) for _ in range(closing))
            return
        times_ns, units = packet.data[:, 0], packet.data[:, 1]
        # Seen as unsigned, a negative index is a very large one.
        good = (times_ns >= self._edge_ns) & (times_ns < end_ns)
        good &= units.view(np.uint64) < self._n_in
        if not good.all():
            self._count_refused(times_ns, units, end_ns)
            times_ns, units = times_ns[good], units[good]
        columns = units
        if self._chosen is not None:
            columns = self._column[units]
            counted = columns >= 0
            times_ns, columns = times_ns[counted], columns[counted]
        if not closing:
            self._counts += np.bincount(columns, minlength=self._n)
            return
        cells = (times_ns - self._edge_ns) // self._width_ns * self._n + columns
        rows = np.bincount(cells, minlength=(closing + 1) * self._n).reshape(-1, self._n)
        for row in rows[:-1]:
            self._counts += row
            bins.append(self._close(packet))
        self._counts += rows[-1]

    def _count_refused(
        self, times_ns: NDArray[np.int64], units: NDArray[np.int64], end_ns: int
    ) -> None:
        alien = units.view(np.uint64) >= self._n_in
        for reason, which in (
            ("unit", alien),
            ("late", ~alien & (times_ns < self._edge_ns)),
            ("early", ~alien & (times_ns >= end_ns)),
        ):
            if count := int(which.sum()):
                self.context.counters.drop(reason, count)

    def _add_row(self, packet: Packet, start_ns: int, end_ns: int, bins: list[Packet]) -> None:
        data = packet.data
        if start_ns < self._known_ns:
            self.context.counters.drop("late")
            return
        if not np.isfinite(data).all():
            self.context.counters.drop("not finite")
            self._gap = max(self._gap, 1)
        elif data.min(initial=0) < 0:
            self.context.counters.drop("negative")
            self._gap = max(self._gap, 1)
        else:
            self._counts += data if self._chosen is None else data[self._chosen]
        if end_ns >= self._edge_ns + self._width_ns:
            bins.append(self._close(packet))

    def _close(self, packet: Packet) -> Packet:
        closed = Packet(
            kind="counts", data=self._counts, t_ns=packet.t_ns, source_ns=self._edge_ns,
            source_end_ns=self._edge_ns + self._width_ns,
            segment=self._number, gap=self._gap,
        )  # fmt: skip
        self._counts = np.zeros(self._n, dtype=np.float32)
        self._edge_ns += self._width_ns
        self._gap = 0
        return closed
