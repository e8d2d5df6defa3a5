"""How good estimated rates and decoded behaviour are, all in float64.

The first four are those of the Neural Latents Benchmark (Pei et al., 2021, arXiv 2109.04463), and
agree with its package `nlb_tools`. Rates are expected counts per bin throughout: a rate in hertz is
multiplied by the width of the bin before it comes here. NaN counts are bins that do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV

Floats = NDArray[np.float64]

RATE_FLOOR = 1e-9
"""What stands for an estimated rate of zero, whose log-likelihood would be infinite."""


def poisson_nll(rates: ArrayLike, counts: ArrayLike) -> float:
    """Return the summed Poisson negative log-likelihood of counts, in nats.

    Parameters
    ----------
    rates, counts
        Arrays of one shape; `counts` may hold NaN, which is left out.

    Raises
    ------
    ValueError
        The shapes differ, or a rate that counts is negative or NaN.
    """
    r, n = np.asarray(rates, np.float64), np.asarray(counts, np.float64)
    if r.shape != n.shape:
        raise ValueError(f"rates have the shape {r.shape} and counts {n.shape}; they must agree")
    known = ~np.isnan(n)
    r, n = r[known], n[known]
    if not np.all(r >= 0):
        raise ValueError(
            "rates hold NaN or negative values; a rate is at least zero: was a log-rate given?"
        )
    r = np.where(r == 0, RATE_FLOOR, r)
    return float(np.sum(r - n * np.log(r) + gammaln(n + 1)))


def bits_per_spike(rates: ArrayLike, counts: ArrayLike) -> float:
    """Return how many bits a spike the rates gain over each unit's mean count.

    (NLL of the mean - NLL of the rates) / (spikes ln 2). The mean is that of the counts given
    here, so the null model knows the stretch it is judged on. With true expected counts in
    place of counts this is the expected value over spikes, and copying spikes cannot pay.

    Parameters
    ----------
    rates, counts
        (..., units), of one shape.

    Raises
    ------
    ValueError
        As `poisson_nll`, or there is no spike.
    """
    n = np.asarray(counts, np.float64)
    spikes = np.nansum(n)
    if not spikes > 0:
        raise ValueError("bits per spike have no meaning without a spike")
    null = np.broadcast_to(np.nanmean(n, axis=tuple(range(n.ndim - 1)), keepdims=True), n.shape)
    return float((poisson_nll(null, n) - poisson_nll(rates, n)) / (spikes * np.log(2)))


def co_bps(
    rates: ArrayLike, counts: ArrayLike, held_out: Sequence[int] | NDArray[np.int64]
) -> float:
    """Return the co-smoothing bits per spike: over units whose spikes the model never saw.

    Parameters
    ----------
    rates, counts
        (..., units) of all units.
    held_out
        Indices of the held-out units.
    """
    columns = np.asarray(held_out, np.int64)
    return bits_per_spike(np.asarray(rates)[..., columns], np.asarray(counts)[..., columns])


def fp_bps(rates: ArrayLike, counts: ArrayLike, observed_bins: int) -> float:
    """Return the forward-prediction bits per spike: over the bins after the observed ones.

    Parameters
    ----------
    rates, counts
        (trials, bins, units) of whole trials.
    observed_bins
        How many bins of each trial the model saw.
    """
    return bits_per_spike(
        np.asarray(rates)[:, observed_bins:], np.asarray(counts)[:, observed_bins:]
    )


def one_step_bps(rates: ArrayLike, counts: ArrayLike, segment: NDArray[np.int64]) -> float:
    """Return the bits per spike of a stream's rates as a forecast of the next bin.

    The rates that come with bin t, which may know the counts of bin t, are held against the counts
    of bin t + 1 of the same segment.

    Parameters
    ----------
    rates, counts
        (bins, units).
    segment
        (bins,) number of the segment of each bin.
    """
    follows = segment[1:] == segment[:-1]
    return bits_per_spike(np.asarray(rates)[:-1][follows], np.asarray(counts)[1:][follows])


def velocity_r2(
    train_rates: ArrayLike,
    train_velocity: ArrayLike,
    eval_rates: ArrayLike,
    eval_velocity: ArrayLike,
) -> float:
    """Return the R2 of velocity read out of the rates by ridge regression.

    The penalty is chosen from 1e-4 to 1 by 5-fold cross-validation on the training part. R2 is the
    mean over the columns of the velocity. Bins without velocity (NaN) are left out.

    Parameters
    ----------
    train_rates, eval_rates
        (..., units).
    train_velocity, eval_velocity
        (..., d).
    """
    train_x, train_y = _known_rows(train_rates, train_velocity)
    eval_x, eval_y = _known_rows(eval_rates, eval_velocity)
    decoder = GridSearchCV(Ridge(), {"alpha": np.logspace(-4, 0, 9)}).fit(train_x, train_y)
    return float(decoder.score(eval_x, eval_y))


def _known_rows(rates: ArrayLike, velocity: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(rates, np.float64), np.asarray(velocity, np.float64)
    x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    known = ~np.isnan(y).any(axis=1)
    return x[known], y[known]


def decoding_r2(decoded: ArrayLike, true: ArrayLike) -> Floats:
    """Return the R2 of decoded behaviour for each column, (d,), over the rows where it is known.

    Parameters
    ----------
    decoded, true
        (bins, d).
    """
    predicted, actual = _known_rows(decoded, true)
    return np.asarray(r2_score(actual, predicted, multioutput="raw_values"), np.float64)


def moving_columns(true: ArrayLike) -> NDArray[np.bool_]:
    """Return which columns of behaviour (bins, d) change where they are known, (d,).

    R2 compares errors with changes; of the other columns there is none.
    """
    values = np.asarray(true, np.float64)
    known = values[~np.isnan(values).any(axis=1)]
    if not len(known):
        return np.zeros(values.shape[1], bool)
    return np.asarray(np.ptp(known, axis=0) > 0)


def condition_means(trials: ArrayLike, conditions: NDArray[np.generic]) -> dict[object, Floats]:
    """Return the mean over the trials of each condition: a peri-stimulus time histogram (PSTH).

    Parameters
    ----------
    trials
        (trials, bins, units) rates or smoothed counts.
    conditions
        (trials,) label of each trial.

    Returns
    -------
    dict
        Condition to (bins, units).
    """
    values = np.asarray(trials, np.float64)
    return {c.item(): values[conditions == c].mean(axis=0) for c in np.unique(conditions)}


def psth_r2(
    psth: Mapping[object, Floats], trial_rates: ArrayLike, conditions: NDArray[np.generic]
) -> float:
    """Return the R2 of the PSTHs of the rates against those of the spikes, averaged over units.

    Conditions that no trial belongs to are left out, as are bins of a condition whose PSTH is NaN.

    Parameters
    ----------
    psth
        Condition to (bins, units), from smoothed spikes; see `condition_means`.
    trial_rates
        (trials, bins, units).
    conditions
        (trials,) label of each trial.

    Raises
    ------
    ValueError
        A trial has a condition without a PSTH.
    """
    estimated = condition_means(trial_rates, conditions)
    if unknown := set(estimated) - set(psth):
        raise ValueError(f"no PSTH was given for the conditions {sorted(map(str, unknown))}")
    true = np.concatenate([psth[c] for c in estimated])
    known = ~np.isnan(true[:, 0])
    return float(r2_score(true[known], np.concatenate(list(estimated.values()))[known]))


def pooled_r2(rates: ArrayLike, true_rates: ArrayLike) -> float:
    """Return the R2 of rates against the true ones, all bins and units pooled.

    One mean over everything: an average of R2 over units is ruled by units that hardly fire.
    """
    return float(r2_score(np.asarray(true_rates).ravel(), np.asarray(rates).ravel()))


def log_rate_r2(rates: ArrayLike, true_rates: ArrayLike) -> float:
    """Return `pooled_r2` of the logarithms, which low rates weigh in as much as high ones."""
    floored = [
        np.log(np.maximum(np.asarray(r, np.float64), RATE_FLOOR)) for r in (rates, true_rates)
    ]
    return pooled_r2(*floored)


def oracle_fraction(rates: ArrayLike, true_rates: ArrayLike) -> float:
    """Return expected bits per spike, as a fraction of what the true rates themselves score.

    Expected: true expected counts stand in place of counts, see `bits_per_spike`.
    """
    return bits_per_spike(rates, true_rates) / bits_per_spike(true_rates, true_rates)
