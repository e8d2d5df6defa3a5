"""Exponential averages of the population and a Poisson regression: the rival of co-smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import PoissonRegressor

from models.spikes.baselines.history import Floats, decays, exponential_averages
from models.spikes.metrics import bits_per_spike

TAUS_BINS = (1.0, 3.0, 10.0)
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class PoissonGlm:
    """Rates of some units from exponential averages of others.

    Attributes
    ----------
    decay
        (k,) shares of the averages that are kept from one bin to the next.
    weights
        (k, units in, units out).
    bias
        (units out,).
    ceiling
        (units out,) the highest count per bin of the training part, which bounds the rate: the
        exponential of an unseen pattern knows no bound of its own.
    penalty
        The L2 penalty that was chosen.
    """

    decay: Floats
    weights: Floats
    bias: Floats
    ceiling: Floats
    penalty: float

    def predict(self, counts: ArrayLike, segment: NDArray[np.int64]) -> Floats:
        """Return expected counts per bin, (bins, units out).

        Step form: the state of `exponential_averages`, then
        `min(exp(bias + sum over k of log1p(average_k) @ weights_k), ceiling)`.

        Parameters
        ----------
        counts
            (bins, units in).
        segment
            (bins,).
        """
        features = np.log1p(exponential_averages(counts, segment, self.decay))
        drive = np.tensordot(features, self.weights, axes=([1, 2], [0, 1])) + self.bias
        return np.minimum(np.exp(np.minimum(drive, 50)), self.ceiling)


def fit_glm(
    inputs: ArrayLike,
    targets: ArrayLike,
    segment: NDArray[np.int64],
    validation_start: int,
    *,
    taus_bins: Sequence[float] = TAUS_BINS,
    penalties: Sequence[float] = PENALTIES,
) -> PoissonGlm:
    """Fit one Poisson regression per target unit; the penalty is chosen by validation bits.

    Parameters
    ----------
    inputs, targets
        (bins, units in) and (bins, units out) counts of the training part. For a forecast, give
        the counts of the next bin as targets.
    segment
        (bins,).
    validation_start
        First row of the validation part.
    taus_bins
        Time constants of the averages, in bins.
    penalties
        L2 penalties to choose from.
    """
    y = np.asarray(targets, np.float64)
    decay = decays(taus_bins)
    features = np.log1p(exponential_averages(inputs, segment, decay))
    k, n_in = features.shape[1:]
    x = features.reshape(len(y), -1)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1
    x = (x - mean) / scale
    ceiling = np.maximum(y.max(axis=0), 1.0)

    def score(penalty: float) -> float:
        weights, bias = _regress(x[:validation_start], y[:validation_start], penalty)
        rates = np.minimum(np.exp(x[validation_start:] @ weights + bias), ceiling)
        return bits_per_spike(rates, y[validation_start:])

    best = max(penalties, key=score) if len(penalties) > 1 else penalties[0]
    weights, bias = _regress(x, y, best)
    weights = weights / scale[:, None]
    return PoissonGlm(
        decay=decay,
        weights=weights.reshape(k, n_in, -1),
        bias=bias - mean @ weights,
        ceiling=ceiling,
        penalty=best,
    )


def _regress(x: Floats, y: Floats, penalty: float) -> tuple[Floats, Floats]:
    weights, bias = np.zeros((x.shape[1], y.shape[1])), np.zeros(y.shape[1])
    for unit in range(y.shape[1]):
        if not y[:, unit].any():
            # A unit that never fired has no finite log-rate; one spike in twice the time is a guess
            # that costs little.
            bias[unit] = np.log(0.5 / len(y))
            continue
        model = PoissonRegressor(alpha=penalty, solver="newton-cholesky", max_iter=50)
        model.fit(x, y[:, unit])
        weights[:, unit], bias[unit] = model.coef_, model.intercept_
    return weights, bias
