"""Spikes as an instrument sends them, in bursts and silences, into packets that promise."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from stream.instruments.sample_clock import SampleClock
from stream.node import Counters
from stream.packet import Packet
from stream.spikes.packets import spike_packet

JUMP_S = 1.0
"""A clock that is off by more than this has jumped: what follows is a new segment."""
PATIENCE_S = 5.0
"""After so long without a word nobody knows whether the instrument is still there."""
QUIET_NS = 2_000_000
"""How often a reader says that nothing waits, so that silence becomes a packet."""
# A packet that covers more than a second looks like a clock that jumped.
_LONGEST_S = 0.5
_HELD_SPIKES = 1_000_000

_log = logging.getLogger(__name__)


class SpikeFlow:
    """Makes packets of `spikes` whose `source_end_ns` goes on also when nobody spikes.

    Bins close when `source_end_ns` has passed them, and an instrument that sends nothing but spikes
    says nothing while there are none. Two things let time pass here. `passed` is for what the
    instrument itself says: a tick, or a spike of a stream that is sorted by time. With an
    `allowance`, `listened` lets the clock of this host do it: what was taken longer ago than that
    is held to be here. Spikes that come even later are sent all the same, for a bin that is still
    open takes them; they are counted under the note `late_spikes`.

    With an allowance, no time passes any more after `PATIENCE_S` without a word. What comes then
    begins a new segment, as after `lost`, and as after a clock that jumped by more than `JUMP_S`
    (notes `silences`, `clock_jumps`).

    Parameters
    ----------
    clock
        The instrument's clock; it is told of all that arrives.
    counters
        Of the source.
    allowance_s
        How late a spike may be here; None for an instrument that lets time pass by itself.

    Attributes
    ----------
    segment, first
        Number of the segment that has begun last, and the sample with which it began.
    """

    def __init__(
        self, clock: SampleClock, counters: Counters, allowance_s: float | None = None
    ) -> None:
        self.clock = clock
        self.segment = self.first = 0
        self._counters = counters
        self._allowance_ns = None if allowance_s is None else round(allowance_s * 1e9)
        self._jump = round(JUMP_S * clock.rate_hz)
        self._longest = max(1, round(_LONGEST_S * clock.rate_hz))
        self._begun = False
        self._ever = False
        # Up to which sample spikes were sent, and up to which nothing earlier follows.
        self._sent = self._known = 0
        self._heard_ns = 0
        self._samples: list[NDArray[np.int64]] = []
        self._units: list[NDArray[np.int64]] = []
        self._held = 0
        self._gap = 0
        self._done: list[Packet] = []

    def add(self, samples: NDArray[np.int64], units: NDArray[np.int64], arrived_ns: int) -> None:
        """Take spikes, in any order: sample numbers, and indices of their units."""
        if not len(samples):
            return
        self.hear(int(samples.min()), int(samples.max()), arrived_ns)
        if self._held + len(samples) > _HELD_SPIKES:
            self._counters.drop("held", len(samples))
            return
        late = int((samples < self._sent).sum())
        if late:
            self._counters.count("late_spikes", late)
        self._samples.append(samples)
        self._units.append(units)
        self._held += len(samples)

    def passed(self, sample: int, arrived_ns: int) -> None:
        """Learn from the instrument that no spike before `sample` will follow."""
        self.hear(sample, sample, arrived_ns)
        self.complete(sample)

    def complete(self, sample: int) -> None:
        """Take it that all spikes before `sample`, which was heard of, are here."""
        self._known = max(self._known, sample)

    def listened(self, until_ns: int) -> None:
        """Learn that all that had arrived by then, on the host clock, has been taken."""
        if self._begun and self._allowance_ns is not None and not self._silent(until_ns):
            self._known = max(self._known, self.clock.sample_at(until_ns - self._allowance_ns))

    def lost(self, gap: int = 0) -> None:
        """Note that the connection broke, with so many losses: what comes next is a new segment."""
        if self._begun:
            self._end()
        self._gap += gap

    def skip(self, sample: int) -> None:
        """Leave out what lies before `sample` and was not complete: nobody knows what was there.

        No packet covers it, so that bins in it are marked and not taken for silent ones.
        """
        if self._begun and sample > self._known:
            self._flush(self._known, self._heard_ns)
            self._sent = self._known = sample

    def hear(self, oldest: int, newest: int, arrived_ns: int) -> None:
        """Learn where the instrument's clock is; a segment that begins here begins at `oldest`."""
        if self._begun:
            if self._allowance_ns is not None and self._silent(arrived_ns):
                self._counters.count("silences")
                self._end()
            elif self._jumped(newest, arrived_ns):
                self._counters.count("clock_jumps")
                if self._counters.notes["clock_jumps"] == 1:
                    _log.warning("the clock of the instrument jumped to %d: a new segment", newest)
                self._end()
        if not self._begun:
            self.segment += self._ever
            self._begun = self._ever = True
            self.first = self._sent = self._known = oldest
            self.clock.restart()
        self.clock.observe(newest, arrived_ns)
        self._heard_ns = arrived_ns

    def missed(self, count: int) -> None:
        """Note that so many messages of the instrument did not arrive."""
        self._gap += count

    def due_ns(self, now_ns: int) -> int | None:
        """Return `now_ns` when `packets` has something to say."""
        return now_ns if self._done or (self._begun and self._known > self._sent) else None

    def packets(self, now_ns: int) -> list[Packet]:
        """Return what there is to send."""
        if self._begun:
            self._flush(self._known, now_ns)
        done, self._done = self._done, []
        return done

    def _silent(self, now_ns: int) -> bool:
        return now_ns - self._heard_ns > PATIENCE_S * 1e9

    def _jumped(self, newest: int, arrived_ns: int) -> bool:
        if newest < self._sent - self._jump:
            return True
        away_ns = self.clock.away_ns(newest, arrived_ns)
        # What is only late is complete, unless time went on without it.
        return away_ns < -JUMP_S * 1e9 or (
            self._allowance_ns is not None and away_ns > JUMP_S * 1e9
        )

    def _end(self) -> None:
        """Send what is held of the segment that is over."""
        until = self._known
        if self._samples:
            until = max(until, self._sent + 1, *(int(s.max()) + 1 for s in self._samples))
        self._flush(until, self._heard_ns)
        self._begun = False

    def _flush(self, until: int, now_ns: int) -> None:
        if until <= self._sent:
            return
        samples = np.concatenate(self._samples) if self._samples else np.empty(0, np.int64)
        units = np.concatenate(self._units) if self._units else np.empty(0, np.int64)
        self._samples.clear()
        self._units.clear()
        later = samples >= until
        if later.any():
            self._samples.append(samples[later])
            self._units.append(units[later])
            samples, units = samples[~later], units[~later]
        self._held = int(later.sum())
        order = np.argsort(samples, kind="stable")
        samples, units = samples[order], units[order]
        first = 0
        while self._sent < until:
            end = min(self._sent + self._longest, until)
            last = int(np.searchsorted(samples, end))
            self._emit(samples[first:last], units[first:last], end, now_ns)
            first = last

    def _emit(
        self, samples: NDArray[np.int64], units: NDArray[np.int64], end: int, now_ns: int
    ) -> None:
        span_ns = (self.clock.source_ns(self._sent), self.clock.source_ns(end))
        packet = spike_packet(
            _source_ns(samples, self.clock.rate_hz), units.astype(np.int32), span_ns, self.segment
        )
        packet.t_ns = min(now_ns, self.clock.host_ns(end))
        packet.gap, self._gap = self._gap, 0
        self._done.append(packet)
        self._sent = end


def _source_ns(samples: NDArray[np.int64], rate_hz: float) -> NDArray[np.int64]:
    """Return what `SampleClock.source_ns` says of each sample."""
    if not float(rate_hz).is_integer():
        return np.asarray(np.rint(samples * 1e9 / rate_hz), np.int64)
    whole, rest = np.divmod(samples, round(rate_hz))
    rest_ns = np.rint(rest * 1e9 / rate_hz).astype(np.int64)
    return np.asarray(whole * 1_000_000_000 + rest_ns, np.int64)
