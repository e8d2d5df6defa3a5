"""Populations of which the truth is known: their couplings, or the rates of trials that repeat."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from stream.spikes.recording import Recording, Series, Trials
from stream.spikes.simulation import GRID_S, Simulation

Floats = NDArray[np.float64]

WIDTH_S = 0.02
MEMORY_BINS = 2.0
BASE_HZ = 12.0
DRIVE = 0.3
# Bounds of the log gain over the base rate: what keeps a chance burst from feeding itself.
_GAIN_BOUNDS = (-2.0, 1.5)
_SETTLING_BINS = 500


@dataclass(frozen=True)
class Coupled:
    """A simulated session and what made it.

    Attributes
    ----------
    recording
        Binned counts and true rates.
    coupling
        (units, units), row i, column j: how much unit j drives unit i, in log rate per spike of
        its trace; zero on the diagonal and where there is no coupling.
    hubs
        Indices of the units that drive many others, ascending.
    """

    recording: Recording
    coupling: Floats
    hubs: NDArray[np.int64]


def coupled_population(
    seed: int,
    units: int = 60,
    bins: int = 30_000,
    *,
    hubs: int = 6,
    hub_reach: float = 0.4,
    others_reach: float = 0.03,
) -> Coupled:
    """Simulate a Poisson population with sparse coupling, as a coupled GLM has it.

    The log rate of unit i is ``b_i + sum_j J_ij trace_j + drive_i z`` (Pillow et al., Nature 2008):
    a trace is the exponential average of past counts less its mean, with a memory of 2 bins of
    20 ms, so a spike acts from the next bin on. Hubs couple to many units, the others to few; each
    unit either excites or inhibits all that it couples to. A slow drive z that all units share with
    random weights gives correlations that are no couplings, which is what makes the task real.

    Parameters
    ----------
    seed
        Of couplings, drive and spikes.
    units, bins
        Size of the population and of the session.
    hubs
        Number of units that couple to many.
    hub_reach, others_reach
        Share of the units that a hub, or another unit, couples to.
    """
    rng = np.random.default_rng(seed)
    hub = np.sort(rng.permutation(units)[:hubs])
    reach = np.full(units, others_reach)
    reach[hub] = hub_reach
    sign = rng.choice([1.0, -1.0], units, p=[0.4, 0.6])
    coupling = (rng.random((units, units)) < reach) * sign * rng.uniform(0.15, 0.5, (units, units))
    np.fill_diagonal(coupling, 0.0)
    base = np.log(BASE_HZ * WIDTH_S) + rng.normal(0, 0.5, units)
    shared = rng.normal(0, DRIVE, units)
    mean = np.exp(base)
    decay = np.exp(-1 / MEMORY_BINS)
    trace, z = np.zeros(units), 0.0
    counts = np.empty((bins, units), np.int16)
    rates = np.empty((bins, units))
    for t in range(-_SETTLING_BINS, bins):
        z = 0.98 * z + np.sqrt(1 - 0.98**2) * rng.standard_normal()
        gain = np.clip(coupling @ trace + shared * z, *_GAIN_BOUNDS)
        expected = np.exp(base + gain)
        spikes = rng.poisson(expected)
        # In units of spikes, not of spikes per memory: one spike adds one, and fades.
        trace = decay * trace + (spikes - mean)
        if t >= 0:
            counts[t], rates[t] = spikes, expected / WIDTH_S
    names = tuple(f"unit{i:02d}" for i in range(units))
    recording = Recording(
        name=f"coupled_{seed}",
        units=names,
        start_s=0.0,
        stop_s=bins * WIDTH_S,
        segment_starts_s=np.zeros(1),
        counts=counts,
        width_s=WIDTH_S,
        true_rates=Series(np.arange(bins, dtype=np.float64) * WIDTH_S, rates, names, "Hz"),
    )
    return Coupled(recording, coupling, hub)


def repeated_trials(
    seed: int,
    units: int = 30,
    *,
    mean_rate_hz: float = 5.0,
    conditions: int = 65,
    repeats: int = 20,
    bins: int = 100,
) -> Recording:
    """Simulate trials of bins of 10 ms whose rates are the same in all trials of a condition.

    Each condition is a second or so of Lorenz dynamics from a start of its own (see
    `stream.spikes.simulation`). A fifth of the trials of each are the test part, as the column
    `split` says.

    Parameters
    ----------
    seed
        Of tuning, dynamics and spikes.
    units, mean_rate_hz
        Size of the population and its mean rate, over all that the dynamics do.
    conditions, repeats, bins
        How many, trials of each, bins of each trial.
    """
    rng = np.random.default_rng([seed, 1])
    width_s, steps = 2 * GRID_S, 2 * bins
    courses = []
    for condition in range(conditions):
        population = Simulation("lorenz", units, seed, mean_rate_hz, session=condition + 1)
        blocks = islice(population.blocks(), -(-steps // 10))
        rates = np.concatenate([block.rates_hz for block in blocks])[:steps]
        courses.append(rates.astype(np.float64).reshape(bins, 2, units).mean(axis=1))
    rates = np.repeat(courses, repeats, axis=0).reshape(-1, units)
    starts = np.arange(conditions * repeats) * bins * width_s
    return Recording(
        name=f"repeated_{seed}",
        units=population.units,
        start_s=0.0,
        stop_s=len(rates) * width_s,
        segment_starts_s=starts,
        counts=rng.poisson(rates * width_s).astype(np.int16),
        width_s=width_s,
        true_rates=Series(np.arange(len(rates)) * width_s, rates, population.units, "Hz"),
        trials=Trials(
            starts,
            starts + bins * width_s,
            {"split": np.where(np.arange(len(starts)) % 5 == 4, "test", "train")},
        ),
    )
