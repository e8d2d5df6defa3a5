"""What a causal model remembers of the past: exponential averages and lagged bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def segment_starts(segment: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where a segment begins, (bins,), given the segment of each bin."""
    return np.concatenate([[True], segment[1:] != segment[:-1]])


def decays(taus_bins: Sequence[float]) -> Floats:
    """Return the share of an exponential average that is left after one bin, exp(-1 / tau)."""
    left: Floats = np.exp(-1 / np.asarray(taus_bins, np.float64))
    return left


def exponential_averages(counts: ArrayLike, segment: NDArray[np.int64], decay: Floats) -> Floats:
    """Return running means of counts that forget exponentially, the newest bin included.

    Step form: state `average` (k, units) and `weight` (k,), both zero at the start of a segment;
    `average = d average + (1 - d) counts`, `weight = d weight + (1 - d)`, and the value is
    `average / weight`. The weight corrects the start, where less than the whole past is known.

    Parameters
    ----------
    counts
        (bins, units).
    segment
        (bins,) number of the segment of each bin.
    decay
        (k,) shares that are kept from one bin to the next.

    Returns
    -------
    array
        (bins, k, units).
    """
    values = np.asarray(counts, np.float64)
    kept = decay[:, None]
    fresh = (1 - kept) * values[:, None, :]
    out = np.empty(fresh.shape)
    average, weight = np.zeros(fresh.shape[1:]), np.zeros_like(kept)
    for t, starts in enumerate(segment_starts(segment)):
        if starts:
            average, weight = np.zeros_like(average), np.zeros_like(weight)
        average = kept * average + fresh[t]
        weight = kept * weight + (1 - kept)
        out[t] = average / weight
    return out


def lagged(values: Floats, segment: NDArray[np.int64], lags: int) -> Floats:
    """Return each bin beside the `lags - 1` bins before it, (bins, lags, units), newest first.

    Step form: state (lags - 1, units) of the newest values, zero at the start of a segment.
    """
    since_start = np.arange(len(values)) - np.maximum.accumulate(
        np.where(segment_starts(segment), np.arange(len(values)), 0)
    )
    out = np.zeros((len(values), lags, values.shape[1]))
    for lag in range(lags):
        there = np.flatnonzero(since_start >= lag)
        out[there, lag] = values[there - lag]
    return out
