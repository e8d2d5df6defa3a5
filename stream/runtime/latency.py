"""Latency distributions in constant memory."""

from __future__ import annotations

import numpy as np
from hdrh.histogram import HdrHistogram

_HIGHEST_NS = 3_600_000_000_000
_PERCENTILES = (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999))


class Latency:
    """A histogram of durations from 1 ns to 1 h, each percentile true to 1 %.

    The maximum is exact. Longer durations count as 1 h in the percentiles.
    """

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _HIGHEST_NS, 2)
        self._counts = np.ctypeslib.as_array(self._histogram.counts)
        self.count = 0
        self.max_ns = 0

    def add(self, duration_ns: int) -> None:
        """Count one duration; a negative one counts as 0."""
        self.count += 1
        self.max_ns = max(self.max_ns, duration_ns)
        self._histogram.record_value(min(max(duration_ns, 0), _HIGHEST_NS))

    def summary(self) -> dict[str, float]:
        """Return p50, p99, p99.9 and the maximum in microseconds; zeros when nothing came."""
        if not self.count:
            return {**{name: 0.0 for name, _ in _PERCENTILES}, "max_us": 0.0}
        ranks = [max(1, int(np.ceil(share * self.count))) for _, share in _PERCENTILES]
        places = np.searchsorted(np.cumsum(self._counts), ranks)
        values = [self._histogram.get_value_from_index(int(place)) for place in places]
        names = [name for name, _ in _PERCENTILES]
        return {
            **{
                name: min(value, self.max_ns) / 1e3
                for name, value in zip(names, values, strict=True)
            },
            "max_us": self.max_ns / 1e3,
        }
