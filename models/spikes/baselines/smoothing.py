"""Each unit's own exponential average: the simplest live estimate of a rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.spikes.baselines.history import Floats, decays, segment_starts
from models.spikes.metrics import one_step_bps

TAUS_BINS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
MEAN_SHARES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Smoothing:
    """An exponential average of a unit's own counts, drawn towards the unit's mean.

    Attributes
    ----------
    decay
        Share of the average that is kept from one bin to the next.
    mean
        (units,) mean counts per bin of the training part.
    mean_share
        Weight of that mean in the rate, so that a unit that was silent has no rate of zero.
    """

    decay: float
    mean: Floats
    mean_share: float

    def predict(self, counts: ArrayLike, segment: NDArray[np.int64]) -> Floats:
        """Return expected counts per bin, (bins, units).

        Step form: state `average` (units,), `mean` at the start of a segment;
        `average = decay average + (1 - decay) counts`, and the rate is
        `(1 - mean_share) average + mean_share mean`.

        Parameters
        ----------
        counts
            (bins, units).
        segment
            (bins,).
        """
        fresh = (1 - self.decay) * np.asarray(counts, np.float64)
        out = np.empty_like(fresh)
        average = self.mean
        for t, starts in enumerate(segment_starts(segment)):
            average = self.decay * (self.mean if starts else average) + fresh[t]
            out[t] = average
        return (1 - self.mean_share) * out + self.mean_share * self.mean


def fit_smoothing(
    counts: ArrayLike,
    segment: NDArray[np.int64],
    validation_start: int,
    *,
    taus_bins: Sequence[float] = TAUS_BINS,
    mean_shares: Sequence[float] = MEAN_SHARES,
) -> Smoothing:
    """Choose the time constant and the share of the mean by one-step validation bits.

    Parameters
    ----------
    counts
        (bins, units) of the training part.
    segment
        (bins,).
    validation_start
        First row of the validation part.
    taus_bins, mean_shares
        What is chosen from.
    """
    n = np.asarray(counts, np.float64)
    early = n[:validation_start].mean(axis=0)
    late = slice(validation_start, None)

    def score(candidate: Smoothing) -> float:
        return one_step_bps(candidate.predict(n, segment)[late], n[late], segment[late])

    candidates = [
        Smoothing(float(decay), early, share)
        for decay in decays(taus_bins)
        for share in mean_shares
    ]
    best = max(candidates, key=score)
    return Smoothing(best.decay, n.mean(axis=0), best.mean_share)
