"""Kalman filter from square-rooted counts to behaviour, with its steady gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.spikes.baselines.history import Floats, segment_starts


@dataclass(frozen=True)
class Kalman:
    """A linear-Gaussian state space model of behaviour and spikes (Wu et al., 2006).

    x_t = A x_{t-1} + w, sqrt(counts_t) - rest = C x_t + q, with x the behaviour less its mean.
    The gain is the one that the filter settles at.

    Attributes
    ----------
    mean
        (d,) mean behaviour of the training part.
    rest
        (units,) mean square-rooted counts of the training part.
    carry
        (d, d) = (I - K C) A.
    gain
        (d, units), K.
    told
        (k,) which columns of the behaviour are given out: what is not asked for helps to decode the
        rest.
    """

    mean: Floats
    rest: Floats
    carry: Floats
    gain: Floats
    told: NDArray[np.int64]

    def predict(self, counts: ArrayLike, segment: NDArray[np.int64]) -> Floats:
        """Return decoded behaviour, (bins, k).

        Step form: state x (d,), zero at the start of a segment;
        `x = carry @ x + gain @ (sqrt(counts) - rest)`, and the behaviour is `(mean + x)[told]`.

        Parameters
        ----------
        counts
            (bins, units).
        segment
            (bins,).
        """
        drive = (np.sqrt(np.asarray(counts, np.float64)) - self.rest) @ self.gain.T
        out = np.empty_like(drive)
        x = np.zeros_like(self.mean)
        for t, starts in enumerate(segment_starts(segment)):
            x = drive[t] if starts else self.carry @ x + drive[t]
            out[t] = x
        return (out + self.mean)[:, self.told]


def fit_kalman(
    counts: ArrayLike,
    behaviour: ArrayLike,
    segment: NDArray[np.int64],
    told: ArrayLike | None = None,
) -> Kalman:
    """Fit the four matrices by least squares; there is nothing to choose.

    Parameters
    ----------
    counts, behaviour
        (bins, units) and (bins, d) of the training part. Position and velocity together decode
        better than either alone. Bins without behaviour (NaN) are left out.
    segment
        (bins,).
    told
        (k,) which columns of the behaviour the filter gives out, None for all.
    """
    known = ~np.isnan(np.asarray(behaviour, np.float64)).any(axis=1)
    x = np.asarray(behaviour, np.float64)[known]
    y = np.sqrt(np.asarray(counts, np.float64)[known])
    mean, rest = x.mean(axis=0), y.mean(axis=0)
    x, y = x - mean, y - rest
    rows = np.flatnonzero(known)
    follows = (np.diff(rows) == 1) & ~segment_starts(segment[known])[1:]
    before, after = x[:-1][follows], x[1:][follows]
    a = np.linalg.lstsq(before, after, rcond=None)[0].T
    c = np.linalg.lstsq(x, y, rcond=None)[0].T
    w = np.cov(after - before @ a.T, rowvar=False, bias=True).reshape(a.shape)
    q = np.cov(y - x @ c.T, rowvar=False, bias=True).reshape(len(rest), len(rest))
    # A silent unit has no variance, and two units on one wire no full rank.
    q += 1e-6 * np.trace(q) / len(q) * np.eye(len(q))
    gain = _steady_gain(a, c, w, q)
    columns = np.arange(len(mean)) if told is None else np.asarray(told, np.int64)
    return Kalman(mean, rest, (np.eye(len(a)) - gain @ c) @ a, gain, columns)


def _steady_gain(a: Floats, c: Floats, w: Floats, q: Floats) -> Floats:
    """Iterate the Riccati equation; position that is the sum of velocity defeats direct solvers."""
    evidence = np.linalg.solve(q, c).T
    information = evidence @ c
    identity = np.eye(len(a))
    p = w
    for _ in range(10_000):
        posterior = np.linalg.solve(identity + p @ information, p)
        following = a @ posterior @ a.T + w
        settled = np.allclose(following, p, rtol=1e-10, atol=0)
        p = (following + following.T) / 2
        if settled:
            break
    shrunk = np.asarray(np.linalg.solve(identity + p @ information, p), np.float64)
    return shrunk @ evidence
