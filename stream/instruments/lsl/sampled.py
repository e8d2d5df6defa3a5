"""Samples at a fixed rate: which number each has, when it was taken, and which are missing."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.instruments.sample_clock import SampleClock

_WINDOW_NS = 1_000_000_000
_WINDOWS = 10
_ASSUMED_JITTER_NS = 20_000_000
_JUMP_NS = 1_000_000_000
_FOREIGN_NS = 10_000_000_000
_OBSERVED_NS = 10_000_000


class Stretch(NamedTuple):
    """Samples that follow one another without a hole.

    Attributes
    ----------
    first, stop
        The samples, as numbers of those that were taken in.
    source_ns
        When the first was taken on the clock of the source: the number of samples since the
        beginning, missing ones counted, at the stated rate.
    t_ns
        When the last was taken, on `time.monotonic_ns`, by its time stamp.
    missing
        Samples missing before the first.
    segment
        Rises when the clock of the source has jumped, and after an outage.
    """

    first: int
    stop: int
    source_ns: int
    t_ns: int
    missing: int
    segment: int


class Samples:
    """Numbers the samples of a stream by their time stamps, which jitter.

    A step between stamps that is longer than a sample, by half of one and four times what stamps
    have jittered by in the last ten seconds, is a hole of as many samples as fit into it. A step
    that is a second longer than what has passed here, or a second back, is a jump of the clock.

    Attributes
    ----------
    clock
        Finds the drift of the source against this host.
    jitter_ns
        By how much steps between stamps were off lately.
    missing, jumps
        Samples missing so far; how often the clock has jumped.
    foreign
        Whether the stamps are so far from this host's clock that times of arrival are used instead.
    """

    def __init__(self, rate_hz: float) -> None:
        self.clock = SampleClock(rate_hz)
        self.missing = 0
        self.jumps = 0
        self.foreign = False
        self._period_ns = 1e9 / rate_hz
        self._segment = 0
        self._origin_ns = 0
        self._number = 0
        self._stamp_ns: int | None = None
        self._arrived_ns = 0
        self._connection = 0
        self._jitters: deque[float] = deque(maxlen=_WINDOWS)
        self._widest = 0.0
        self._window_end_ns: int | None = None
        self._observed_ns = 0
        self.jitter_ns: float = _ASSUMED_JITTER_NS
        self._limit_ns = self._period_ns / 2 + 4 * self.jitter_ns

    def follow(self, stamp_ns: int, arrived_ns: int, connection: int = 0) -> Stretch | None:
        """Number one sample as `take` would; return None, and do nothing, if that has to look."""
        if self._stamp_ns is None or connection != self._connection:
            return None
        off_ns = stamp_ns - self._stamp_ns - self._period_ns
        if not -_JUMP_NS <= off_ns <= self._limit_ns:
            return None
        self._arrived_ns = arrived_ns
        self._stamp_ns = stamp_ns
        self._watch(abs(off_ns))
        return self._stretch(stamp_ns, 0, 1, 0, arrived_ns)

    def take(
        self, stamps_ns: NDArray[np.int64], arrived_ns: int, connection: int = 0
    ) -> list[Stretch]:
        """Number the samples with these stamps (on `time.monotonic_ns`), one or more of them."""
        outage = connection != self._connection
        self._connection = connection
        if self._stamp_ns is None:
            self._begin(int(stamps_ns[0]))
            self._arrived_ns = arrived_ns
            outage = False
        elif outage:
            self._segment += 1
        assert self._stamp_ns is not None
        off_ns = np.diff(stamps_ns, prepend=self._stamp_ns) - self._period_ns
        if self._number == 0:
            off_ns[0] = 0
        breaks = np.flatnonzero((off_ns > self._limit_ns) | (off_ns < -_JUMP_NS))
        since_ns = arrived_ns - self._arrived_ns
        self._arrived_ns = arrived_ns
        stretches: list[Stretch] = []
        first = missing = 0
        for at in (*breaks.tolist(), len(stamps_ns)):
            if at > first:
                stamp_ns = int(stamps_ns[at - 1])
                stretches.append(self._stretch(stamp_ns, first, at, missing, arrived_ns))
                missing = 0
            if at < len(stamps_ns):
                missing = self._break(float(off_ns[at]), int(stamps_ns[at]), since_ns)
                first = at
        self._stamp_ns = int(stamps_ns[-1])
        calm = np.delete(off_ns, breaks) if len(breaks) else off_ns
        if len(calm) and not outage:
            self._watch(float(np.abs(calm).max()))
        return stretches

    def _stretch(
        self, stamp_ns: int, first: int, stop: int, missing: int, arrived_ns: int
    ) -> Stretch:
        begin = self._number
        self._number += stop - first
        if arrived_ns - self._observed_ns >= _OBSERVED_NS:
            self._observed_ns = arrived_ns
            self.clock.observe(self._number - 1, stamp_ns)
            self.foreign = abs(arrived_ns - stamp_ns) > _FOREIGN_NS
        t_ns = arrived_ns if self.foreign else min(stamp_ns, arrived_ns)
        source_ns = self._origin_ns + round(begin * self._period_ns)
        return Stretch(first, stop, source_ns, t_ns, missing, self._segment)

    def _break(self, off_ns: float, stamp_ns: int, since_ns: int) -> int:
        """Return how many samples are missing where stamps do not follow one another."""
        if off_ns < 0 or off_ns > since_ns + _JUMP_NS:
            self.jumps += 1
            self._segment += 1
            self._begin(stamp_ns)
            missing = max(0, round(since_ns / self._period_ns) - 1)
        else:
            missing = round(off_ns / self._period_ns)
            self._number += missing
        self.missing += missing
        return missing

    def _begin(self, stamp_ns: int) -> None:
        self.clock.restart()
        self._number = self._observed_ns = 0
        self._origin_ns = self._stamp_ns = stamp_ns

    def _watch(self, widest: float) -> None:
        assert self._stamp_ns is not None
        self._widest = max(self._widest, widest)
        if self._window_end_ns is None or self._stamp_ns < self._window_end_ns - _WINDOW_NS:
            self._window_end_ns = self._stamp_ns + _WINDOW_NS
        elif self._stamp_ns >= self._window_end_ns:
            self._jitters.append(self._widest)
            self.jitter_ns = max(self._jitters)
            self._limit_ns = self._period_ns / 2 + 4 * self.jitter_ns
            self._widest, self._window_end_ns = 0.0, self._stamp_ns + _WINDOW_NS
