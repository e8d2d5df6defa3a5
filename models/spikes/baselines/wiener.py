"""Wiener filter: behaviour as a linear function of the newest bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import Ridge

from models.spikes.baselines.history import Floats, lagged
from models.spikes.metrics import decoding_r2

LAGS = 10
PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4)


@dataclass(frozen=True)
class Wiener:
    """Ridge regression of behaviour on lagged counts.

    Attributes
    ----------
    mean
        (units,) mean counts per bin of the training part.
    weights
        (lags, units, d), newest bin first.
    bias
        (d,).
    """

    mean: Floats
    weights: Floats
    bias: Floats

    def predict(self, counts: ArrayLike, segment: NDArray[np.int64]) -> Floats:
        """Return decoded behaviour, (bins, d).

        Step form: state (lags - 1, units) of the newest `counts - mean`, zero at the start of a
        segment; `bias + sum over lags of (counts - mean) @ weights`.

        Parameters
        ----------
        counts
            (bins, units).
        segment
            (bins,).
        """
        history = lagged(np.asarray(counts, np.float64) - self.mean, segment, len(self.weights))
        return np.tensordot(history, self.weights, axes=([1, 2], [0, 1])) + self.bias


def fit_wiener(
    counts: ArrayLike,
    behaviour: ArrayLike,
    segment: NDArray[np.int64],
    validation_start: int,
    *,
    lags: int = LAGS,
    penalties: Sequence[float] = PENALTIES,
) -> Wiener:
    """Fit by ridge regression; the penalty is chosen by validation R2.

    Parameters
    ----------
    counts, behaviour
        (bins, units) and (bins, d) of the training part. Bins without behaviour (NaN) are left
        out.
    segment
        (bins,).
    validation_start
        First row of the validation part.
    lags
        How many bins are used, the newest included.
    penalties
        Ridge penalties to choose from.
    """
    n, y = np.asarray(counts, np.float64), np.asarray(behaviour, np.float64)
    mean = n.mean(axis=0)
    x = lagged(n - mean, segment, lags).reshape(len(n), -1)
    known = ~np.isnan(y).any(axis=1)
    early = known & (np.arange(len(n)) < validation_start)
    late = known & ~early

    def score(penalty: float) -> float:
        model = Ridge(penalty).fit(x[early], y[early])
        return float(decoding_r2(model.predict(x[late]).reshape(-1, y.shape[1]), y[late]).mean())

    model = Ridge(max(penalties, key=score)).fit(x[known], y[known])
    weights = np.atleast_2d(model.coef_).T.reshape(lags, n.shape[1], -1)
    return Wiener(mean, weights, np.atleast_1d(model.intercept_))
