"""What graphs are estimated from: means and covariances of units now and a few bins ago."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stream.connectome.graph import Bools, Floats
from stream.errors import GraphError

MIN_EVENTS = 10
"""A unit that is zero in all but fewer bins than this is silent: it could prove nothing."""
# Of a variable's variance: what is left given the others, below which it is their combination; and
# the part of its squared mean below which it is rounding error.
_COLLINEAR = 1e-8
_CONSTANT = 1e-12
RIDGE = 1e-9
"""What is added to variances of 1 so that a matrix of copies can be inverted."""


@dataclass(frozen=True)
class Statistics:
    """Means and covariances of lagged units, all that the estimators need.

    Attributes
    ----------
    delay
        Largest delay in bins.
    rows
        Effective number of rows; a row holds the units at one time and at each delay before it.
    mean
        float64 (units,).
    cov
        float64 (d, d) with d = (delay + 1) * units; variable k * units + i is unit i, k bins ago.
    events
        float64 (units,): bins in which the unit was not zero.
    """

    delay: int
    rows: float
    mean: Floats
    cov: Floats
    events: Floats

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.mean)

    @classmethod
    def of(
        cls, data: ArrayLike, delay: int = 1, stride: int = 1, starts: Sequence[int] = ()
    ) -> Statistics:
        """Return the statistics of a whole recording.

        Parameters
        ----------
        data
            (bins, units).
        delay
            Largest delay in bins; 0 for none.
        stride
            Take every so many rows; 2 * (delay + 1) leaves out as much as it takes, so that rows
            are nearly independent.
        starts
            Bins at which another stretch of time begins; no row reaches over one.

        Raises
        ------
        GraphError
            The data are no such array, or not finite, or there are too few bins.
        """
        array = np.asarray(data, dtype=np.float64)
        if array.ndim != 2 or not array.shape[1]:
            raise GraphError(f"data of shape {array.shape} came in; expected (bins, units).")
        if not np.isfinite(array).all():
            units = np.flatnonzero(~np.isfinite(array).all(axis=0))
            raise GraphError(
                f"{len(units)} of {array.shape[1]} units hold NaN or infinity, the first is unit"
                f" {units[0]}; leave those bins or units out."
            )
        at = rows_at(len(array), delay, starts)[::stride]
        if len(at) < delay + 5:
            raise GraphError(
                f"{len(array)} bins make {len(at)} rows at a delay of {delay}; that is too few."
            )
        rows = embed(array, at, delay)
        mean = rows.mean(axis=0)
        rows -= mean
        n = array.shape[1]
        events = np.count_nonzero(array[at], axis=0).astype(np.float64)
        return cls(delay, float(len(at)), mean[:n], rows.T @ rows / len(at), events)

    def restrict(self, units: NDArray[np.int64]) -> Statistics:
        """Return the statistics of some of the units."""
        if len(units) == self.n_units:
            return self
        at = (np.arange(self.delay + 1)[:, None] * self.n_units + units).ravel()
        return Statistics(
            self.delay, self.rows, self.mean[units], self.cov[np.ix_(at, at)], self.events[units]
        )

    def usable(self) -> tuple[NDArray[np.int64], dict[int, str]]:
        """Return the units of which something can be said, and why not of the others.

        Of units that copy each other, or of which one is the sum of others, those with the smaller
        indices stay.

        Raises
        ------
        GraphError
            There is no such unit.
        """
        n = self.n_units
        variance = np.diag(self.cov)[:n]
        left_out: dict[int, str] = {}
        constant = variance <= _CONSTANT * (1e-300 + self.mean**2)
        for unit in np.flatnonzero(constant | (self.events < MIN_EVENTS)):
            silent = not constant[unit] or not self.events[unit]
            left_out[int(unit)] = "silent" if silent else "constant"
        units = np.array([u for u in range(n) if u not in left_out], dtype=np.int64)
        if not len(units):
            raise GraphError(
                f"none of {n} units has varied in {MIN_EVENTS} bins or more, so there is no graph:"
                " take a longer window, or wait."
            )
        left_out.update(_dependent(self.cov[np.ix_(units, units)], units))
        return np.array([u for u in units if u not in left_out], dtype=np.int64), left_out

    def needs_rows(self, variables: int, what: str) -> None:
        """Refuse to go on where there are not clearly more rows than variables.

        Raises
        ------
        GraphError
            There are fewer rows than `variables` and 10 more.
        """
        if self.rows < variables + 10:
            raise GraphError(
                f"{what} needs more than {variables + 10} rows for {variables} variables, and there"
                f" are {self.rows:.0f}: take a longer window, fewer units, a shorter delay, or"
                " 'tpc', which needs fewer rows."
            )


def correlations(cov: Floats) -> Floats:
    """Return the correlation matrix of a covariance matrix without zeros on its diagonal."""
    scale = 1 / np.sqrt(np.diag(cov))
    corr: Floats = cov * scale[:, None] * scale
    np.fill_diagonal(corr, 1.0)
    return corr


def fitted(
    cov: Floats, by: NDArray[np.int64], variable: NDArray[np.int64], real: Bools | None = None
) -> Floats:
    """Return the slopes of variables on others, by least squares.

    Others that copy each other share what they explain, by a ridge too small for anything else.

    Parameters
    ----------
    cov
        Covariances (d, d).
    by
        (n, k): on which others.
    variable
        (n,): of what.
    real
        bool (n, k): where there is another one and not only a place for it; everywhere if None.

    Returns
    -------
    float64 (n, k)
        The slopes, 0 where there is nothing.
    """
    among = cov[by[:, :, None], by[:, None, :]]
    onto = cov[by, variable[:, None]]
    diagonal = np.arange(by.shape[1])
    among[:, diagonal, diagonal] *= 1 + RIDGE
    if real is not None:
        among *= real[:, :, None] & real[:, None, :]
        among[:, diagonal, diagonal] += ~real
        onto = onto * real
    return np.asarray(np.linalg.solve(among, onto[..., None])[..., 0])


def rows_at(bins: int, delay: int, starts: Sequence[int] = ()) -> NDArray[np.int64]:
    """Return the bins that have `delay` bins of the same stretch before them."""
    run = np.arange(bins)
    for start in sorted(starts):
        run[start:] = np.arange(bins - start)
    return np.flatnonzero(run >= delay)


def embed(data: NDArray[Any], at: NDArray[np.int64], delay: int) -> Floats:
    """Return rows (len(at), (delay + 1) * units): each bin, then the bins before it."""
    rows = data[(at[:, None] - np.arange(delay + 1)) % len(data)]
    return np.asarray(rows.reshape(len(at), (delay + 1) * data.shape[1]), dtype=np.float64)


def _dependent(cov: Floats, units: NDArray[np.int64]) -> dict[int, str]:
    """Return the units that are copies or sums of those before them, with the reason."""
    corr = correlations(cov)
    try:
        # Squared diagonal of the factor: what the units before it leave of a unit's variance.
        if (np.diag(np.linalg.cholesky(corr)) ** 2).min() > _COLLINEAR:
            return {}
    except np.linalg.LinAlgError:
        pass
    found: dict[int, str] = {}
    left = corr.copy()
    for i, unit in enumerate(units):
        if left[i, i] <= _COLLINEAR:
            copies = np.abs(corr[i, :i]).max(initial=0.0) >= 1 - _COLLINEAR
            found[int(unit)] = "duplicate" if copies else "collinear"
            continue
        left[i:, i:] -= np.outer(left[i:, i], left[i, i:]) / left[i, i]
    return found
