"""The clock of an instrument, which counts samples, on the clock of this host."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

_BUCKET_NS = 1_000_000_000
_BUCKETS = 120
_FIT_FROM = 10


@dataclass
class _Earliest:
    """Of one second on this host: the sample that arrived least late."""

    bucket: int
    nominal_ns: int
    late_ns: int


class SampleClock:
    """Maps sample numbers of an instrument to `time.monotonic_ns` of this host.

    A sample arrives when it was taken, plus a delay that varies but has a minimum. Of each second
    the sample that arrived least late is kept, for two minutes; from ten seconds on, a line through
    them gives the drift between the two clocks, and before that the stated rate is believed. The
    line is shifted so that no kept sample arrived before it. The minimum of the delay itself cannot
    be seen and counts as zero.

    Parameters
    ----------
    rate_hz
        Samples a second, as the instrument states it.
    """

    def __init__(self, rate_hz: float) -> None:
        self.rate_hz = rate_hz
        self.restart()

    def restart(self) -> None:
        """Forget everything: the instrument counts anew."""
        self._kept: deque[_Earliest] = deque(maxlen=_BUCKETS)
        self._offset_ns = 0.0
        self._slope = 0.0
        self._origin_ns = 0

    def source_ns(self, sample: int) -> int:
        """Return when a sample was taken, in ns on the instrument's own clock."""
        whole, rest = divmod(int(sample), round(self.rate_hz)) if self._whole else (0, sample)
        return whole * 1_000_000_000 + round(rest * 1e9 / self.rate_hz)

    @property
    def _whole(self) -> bool:
        return float(self.rate_hz).is_integer()

    def observe(self, sample: int, arrived_ns: int) -> None:
        """Learn that the samples before `sample` were all here at `arrived_ns`."""
        nominal_ns = self.source_ns(sample)
        late_ns = arrived_ns - nominal_ns
        bucket = arrived_ns // _BUCKET_NS
        if not self._kept:
            self._origin_ns, self._offset_ns = nominal_ns, float(late_ns)
        if not self._kept or self._kept[-1].bucket != bucket:
            self._kept.append(_Earliest(bucket, nominal_ns, late_ns))
            self._fit()
        elif late_ns < self._kept[-1].late_ns:
            self._kept[-1] = _Earliest(bucket, nominal_ns, late_ns)
        below_ns = self._line(nominal_ns) - late_ns
        if below_ns > 0:
            self._offset_ns -= below_ns

    def host_ns(self, sample: int) -> int:
        """Return when a sample was taken, on the clock of this host."""
        nominal_ns = self.source_ns(sample)
        return nominal_ns + round(self._line(nominal_ns))

    def sample_at(self, host_ns: int) -> int:
        """Return the number of samples taken before a time on the clock of this host."""
        since_ns = (host_ns - self._origin_ns - self._offset_ns) / (1 + self._slope)
        whole_ns = self._origin_ns + math.floor(since_ns)
        whole, rest = divmod(whole_ns, 1_000_000_000) if self._whole else (0, whole_ns)
        return whole * round(self.rate_hz) + math.floor(rest * self.rate_hz / 1e9)

    def away_ns(self, sample: int, arrived_ns: int) -> int:
        """Return by how much a sample arrived later (or, below zero, earlier) than expected."""
        return arrived_ns - self.host_ns(sample) if self._kept else 0

    @property
    def drift_ppm(self) -> float | None:
        """By how many millionths the instrument's clock is slow against this host's.

        None before there is enough to tell.
        """
        return self._slope * 1e6 if len(self._kept) >= _FIT_FROM else None

    def _line(self, nominal_ns: int) -> float:
        return self._offset_ns + self._slope * (nominal_ns - self._origin_ns)

    def _fit(self) -> None:
        # The newest second has only begun, so that its earliest sample is not known yet.
        done = list(self._kept)[:-1]
        if len(done) < _FIT_FROM - 1 or done[0].nominal_ns == done[-1].nominal_ns:
            return
        at = np.array([k.nominal_ns - self._origin_ns for k in done], float)
        late = np.array([k.late_ns for k in done], float)
        self._slope = float(np.polyfit(at, late, 1)[0])
        self._offset_ns = float((late - self._slope * at).min())
