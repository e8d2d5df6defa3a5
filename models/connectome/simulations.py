"""Networks whose graph is known: those of the Time-Aware PC paper, autoregressions, spikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_WARM_UP = 200


@dataclass(frozen=True)
class Simulated:
    """Data and what made them.

    Attributes
    ----------
    data
        float64 (bins, units).
    edges
        bool (units, units): row = from, column = to.
    weights
        float64 (units, units): strength of each connection, in units of its simulation.
    """

    data: Floats
    edges: Bools
    weights: Floats


PAPER = ("lingauss", "nonlinnongauss", "ctrnn")
"""The three paradigms of the Time-Aware PC paper, 4 units each: 1 -> 3, 2 -> 3, 3 -> 4."""


def paper(paradigm: str, seed: int, bins: int = 1000, noise: float = 1.0) -> Simulated:
    """Return one of `PAPER` (Biswas & Shlizerman 2022, and the code that goes with it).

    `lingauss`: linear, delay 1, Gaussian. `nonlinnongauss`: sines of it and uniform noise. `ctrnn`:
    a continuous-time rate network with a time constant of 10 steps, so that units drive themselves.
    """
    random = np.random.default_rng(seed)
    weights = np.zeros((4, 4))
    x = np.zeros((bins + _WARM_UP, 4))
    if paradigm == "ctrnn":
        weights[0, 2] = weights[1, 2] = weights[2, 3] = 10.0
        drive = np.array([1.0, 1.0, 0.0, 0.0]) + noise * random.standard_normal(x.shape)
        for t in range(1, len(x)):
            x[t] = x[t - 1] + (-x[t - 1] + np.tanh(x[t - 1]) @ weights + drive[t]) / 10.0
        return Simulated(x[_WARM_UP:], (weights != 0) | np.eye(4, dtype=bool), weights)
    if paradigm == "lingauss":
        weights[0, 2], weights[1, 2], weights[2, 3] = 2.0, 1.0, 2.0
        e = noise * random.standard_normal(x.shape)
        x[:, :2] = e[:, :2] + np.array([1.0, -1.0])
        for t in range(1, len(x)):
            x[t, 2:] = x[t - 1] @ weights[:, 2:] + e[t, 2:]
    elif paradigm == "nonlinnongauss":
        weights[0, 2], weights[1, 2], weights[2, 3] = 4.0, 3.0, 3.0
        e = random.uniform(0.0, noise, x.shape)
        x[:, :2] = e[:, :2]
        for t in range(1, len(x)):
            x[t, 2:] = np.sin(x[t - 1]) @ weights[:, 2:] + e[t, 2:]
    else:
        raise ValueError(f"expected one of {', '.join(PAPER)}, found '{paradigm}'")
    return Simulated(x[_WARM_UP:], weights != 0, weights)


def sparse_var(units: int, bins: int, seed: int, *, delay: int = 1, inputs: int = 2) -> Simulated:
    """Return a stationary vector autoregression in which each unit has so many inputs.

    Slopes are .3 to .5 with random signs, each at one delay of 1 to `delay`; noise is standard
    normal. If it would grow or hardly decay, all slopes shrink together.
    """
    random = np.random.default_rng(seed)
    slopes = _draw_slopes(units, inputs, delay, random)
    data = _run_var([(slopes, bins)], random)
    total = slopes.sum(axis=0)
    return Simulated(data, (slopes != 0).any(axis=0), total)


def switching_var(
    units: int, bins: int, seed: int, *, inputs: int = 2
) -> tuple[Simulated, Simulated]:
    """Return two halves of so many bins of an autoregression whose connections change between."""
    random = np.random.default_rng(seed)
    parts = [(_draw_slopes(units, inputs, 1, random), bins) for _ in range(2)]
    data = _run_var(parts, random)
    first, second = (
        Simulated(half, slopes[0] != 0, slopes[0])
        for half, (slopes, _) in zip((data[:bins], data[bins:]), parts, strict=True)
    )
    return first, second


def _draw_slopes(units: int, inputs: int, delay: int, random: np.random.Generator) -> Floats:
    slopes = np.zeros((delay, units, units))
    for unit in range(units):
        others = np.delete(np.arange(units), unit)
        sources = random.choice(others, min(inputs, len(others)), replace=False)
        size = random.uniform(0.3, 0.5, len(sources)) * random.choice([-1.0, 1.0], len(sources))
        slopes[random.integers(delay, size=len(sources)), sources, unit] = size
    companion = np.zeros((delay * units, delay * units))
    companion[:units] = np.concatenate([s.T for s in slopes], axis=1)
    companion[units:, :-units] = np.eye((delay - 1) * units)
    radius = np.abs(np.linalg.eigvals(companion)).max()
    return np.asarray(slopes * min(1.0, 0.95 / radius))


def _run_var(parts: list[tuple[Floats, int]], random: np.random.Generator) -> Floats:
    delay, units = len(parts[0][0]), parts[0][0].shape[1]
    bins = sum(n for _, n in parts)
    noise = random.standard_normal((_WARM_UP + bins, units))
    x = np.zeros_like(noise)
    start = 0
    for number, (slopes, n) in enumerate(parts):
        end = start + n + (0 if number else _WARM_UP)
        for t in range(max(start, delay), end):
            x[t] = noise[t]
            for back in range(delay):
                x[t] += x[t - 1 - back] @ slopes[back]
        start = end
    return x[_WARM_UP:]


@dataclass(frozen=True)
class SpikingNetwork:
    """Units that spike at random and change each other's chances to spike.

    The rate of a unit is its own times the exponential of what comes in: for each spike of another
    unit its weight, now and decaying over the bins after it. At most one spike a bin.

    Attributes
    ----------
    base_hz
        float64 (units,): rate without input.
    weights
        float64 (units, units): log factor of the rate right after a spike; row = from.
    decay_s
        Time constant of an effect; 0 for effects of one bin.
    width_s
        Width of a bin.
    """

    base_hz: Floats
    weights: Floats
    decay_s: float
    width_s: float = 0.001

    @classmethod
    def draw(
        cls,
        units: int,
        seed: int,
        *,
        rate_hz: float = 20.0,
        inputs: int = 2,
        decay_s: float = 0.0,
        strength: tuple[float, float] = (1.0, 2.0),
    ) -> SpikingNetwork:
        """Draw a network in which each unit has so many inputs, as many inhibitory as excitatory.

        `strength` bounds the log factors.
        """
        random = np.random.default_rng(seed)
        weights = np.zeros((units, units))
        for unit in range(units):
            sources = random.choice(np.delete(np.arange(units), unit), inputs, replace=False)
            signs = random.choice([-1.0, 1.0], inputs)
            weights[sources, unit] = signs * random.uniform(*strength, inputs)
        return cls(np.full(units, rate_hz), weights, decay_s)

    @property
    def edges(self) -> Bools:
        """Where there is a connection."""
        return np.asarray(self.weights != 0)

    def run(
        self,
        seconds: float,
        seed: int,
        *,
        silenced: tuple[int, ...] = (),
        driven_hz: dict[int, float] | None = None,
    ) -> Floats:
        """Return spikes, float64 (bins, units) of 0 and 1.

        Parameters
        ----------
        seconds
            How long.
        seed
            Of the spikes.
        silenced
            Units that are kept from spiking.
        driven_hz
            Units that are made to spike at a rate, whatever comes in.
        """
        random = np.random.default_rng(seed)
        bins = round(seconds / self.width_s)
        chances = random.random((bins, len(self.base_hz)))
        spikes = np.zeros_like(chances)
        base = self.base_hz * self.width_s
        keep = float(np.exp(-self.width_s / self.decay_s)) if self.decay_s else 0.0
        forced = dict.fromkeys(silenced, 0.0)
        forced |= {unit: hz * self.width_s for unit, hz in (driven_hz or {}).items()}
        at, to = np.array(list(forced), dtype=int), np.array(list(forced.values()))
        incoming = np.zeros(len(base))
        for t in range(bins):
            chance = base * np.exp(incoming)
            chance[at] = to
            fired = chances[t] < chance
            spikes[t] = fired
            incoming *= keep
            if fired.any():
                incoming = incoming + self.weights[fired].sum(axis=0)
        return spikes
