"""How good a network will be, from how it does early: its spectrum, its loss, its settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Array = NDArray[np.float64]
_TOP = 10
_LEAST = -10.0


class Regressor(Protocol):
    """What scikit-learn calls an estimator."""

    def fit(self, x: Array, y: Array) -> Any:
        """Fit to rows of x (n, features) and y (n,)."""

    def predict(self, x: Array) -> Array:
        """Return y (n,) of rows."""


@dataclass(frozen=True)
class CrossValidated:
    """How well a regressor predicts what it was not fitted to.

    Attributes
    ----------
    r2, spread
        Share of variance explained by predictions of all folds together: mean and standard
        deviation over several partitions into folds.
    best_found
        How many of the best tenth it ranks among the best tenth, a mean over partitions.
    best
        How many that tenth has.
    """

    r2: float
    spread: float
    best_found: float
    best: int


def summarise(spectra: Array) -> Array:
    """Return four figures (n, 4) of each spectrum (n, k): they serve where networks are few.

    The largest exponent, the mean of the ten largest, mean and spread of all. Exponents below -10
    count as -10.
    """
    ordered = -np.sort(-np.maximum(spectra, _LEAST), axis=1)
    return np.stack(
        [ordered[:, 0], ordered[:, :_TOP].mean(1), ordered.mean(1), ordered.std(1)], axis=1
    )


def gaussian_process() -> Regressor:
    """Return a Gaussian process with one length for all features, which are standardised first.

    Quality hangs on early loss and on the learning rate in curves: a line cannot follow them.
    """
    kernel = ConstantKernel(1.0) * RBF(2.0) + WhiteKernel(0.1)
    model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    return make_pipeline(StandardScaler(), model)  # type: ignore[no-any-return]


def ridge() -> Regressor:
    """Return ridge regression on standardised features, its penalty chosen by leave-one-out."""
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-4, 4, 17)))  # type: ignore[no-any-return]


@dataclass
class PcaRidge:
    """Principal components of spectra, and ridge regression on them and on other features.

    Attributes
    ----------
    spectrum
        The first so many columns are the spectrum.
    components
        Of it.
    """

    spectrum: int
    components: int = 10

    def fit(self, x: Array, y: Array) -> PcaRidge:
        """Fit to rows of x (n, features) and y (n,)."""
        self._reduce = make_pipeline(StandardScaler(), PCA(self.components))
        self._reduce.fit(x[:, : self.spectrum])
        self._ridge = ridge()
        self._ridge.fit(self._reduced(x), y)
        return self

    def predict(self, x: Array) -> Array:
        """Return y (n,) of rows."""
        return self._ridge.predict(self._reduced(x))

    def _reduced(self, x: Array) -> Array:
        return np.hstack([self._reduce.transform(x[:, : self.spectrum]), x[:, self.spectrum :]])


class Chosen:
    """The regressor, of several, whose own cross-validation is best: nothing of the rest is seen.

    Parameters
    ----------
    candidates
        Columns of x, and what is fitted to them.
    """

    def __init__(self, candidates: Sequence[tuple[Sequence[int], Callable[[], Regressor]]]) -> None:
        self._candidates = candidates

    def fit(self, x: Array, y: Array) -> Chosen:
        """Choose by five folds of rows of x (n, features) and y (n,), then fit to all of them."""
        scores = [
            cross_validated(make, x[:, list(columns)], y, folds=5, partitions=1).r2
            for columns, make in self._candidates
        ]
        self.number = int(np.argmax(scores))
        columns, make = self._candidates[self.number]
        self._columns, self._model = list(columns), make()
        self._model.fit(x[:, self._columns], y)
        return self

    def predict(self, x: Array) -> Array:
        """Return y (n,) of rows."""
        return self._model.predict(x[:, self._columns])


def cross_validated(
    make: Callable[[], Regressor], x: Array, y: Array, *, folds: int = 10, partitions: int = 10
) -> CrossValidated:
    """Measure a regressor on rows that it was not fitted to.

    Parameters
    ----------
    make
        Returns a fresh one.
    x, y
        (n, features) and (n,); lower y is better.
    folds, partitions
        Of the rows, drawn by seeds from 0 on.
    """
    best = max(len(y) // 10, 1)
    truly = set(np.argsort(y)[:best].tolist())
    r2, found = [], []
    for seed in range(partitions):
        predicted = np.zeros(len(y))
        for fit, rest in KFold(folds, shuffle=True, random_state=seed).split(x):
            model = make()
            model.fit(x[fit], y[fit])
            predicted[rest] = model.predict(x[rest])
        r2.append(1 - ((predicted - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())
        found.append(len(truly & set(np.argsort(predicted)[:best].tolist())))
    return CrossValidated(float(np.mean(r2)), float(np.std(r2)), float(np.mean(found)), best)
