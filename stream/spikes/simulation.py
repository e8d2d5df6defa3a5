"""Simulated populations with known rates, live and offline from one and the same code.

Both populations have log-linear rates, rate_i = b_i exp(z W_i), of latents z that are known, and
Poisson spikes given the rates. The rate is constant within a step of 5 ms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stream.spikes.recording import Floats, Recording, Series, Trials
from stream.units import to_ns

Population = Literal["lorenz", "reaches"]

GRID_NS = 5_000_000
"""Width of a step, in which rates are constant."""
GRID_S = GRID_NS / 1e9
# Random numbers are drawn in blocks of this many steps, so that what comes out does not depend on
# how it is asked for; short enough that a block of 1024 units is made between two deadlines.
_BLOCK_STEPS = 10
_BLOCK_NS = _BLOCK_STEPS * GRID_NS
# Steps before the start, over which the mean of exp(z W) is taken.
_WARM_UP_STEPS = 4000


@dataclass(frozen=True)
class Block:
    """50 ms of a simulation.

    Attributes
    ----------
    start_ns
        Where it begins; the simulation begins at 0.
    times_ns, units
        (n,) spikes sorted by time.
    rates_hz
        (10, N) float32, of the steps from `start_ns` on.
    behaviour
        (10, d) at the beginning of each step.
    reaches
        Those that begin in this block.
    """

    start_ns: int
    times_ns: NDArray[np.int64]
    units: NDArray[np.int32]
    rates_hz: NDArray[np.float32]
    behaviour: Floats
    reaches: tuple[Reach, ...]


@dataclass(frozen=True)
class Reach:
    """One simulated reach: preparation from `begin`, movement from `go`, rest until `end` (steps).

    `origin` and `displacement` in metres; `prepared` is the preparatory state of the condition.
    """

    begin: int
    go: int
    end: int
    origin: tuple[float, float]
    displacement: tuple[float, float]
    prepared: tuple[float, ...]
    condition: int


class _Dynamics(Protocol):
    behaviour: str
    columns: tuple[str, ...]
    unit: str

    def readout(self, n_units: int, rng: np.random.Generator) -> tuple[Floats, Floats]: ...

    def advance(self, steps: int) -> tuple[Floats, Floats, tuple[Reach, ...]]: ...

    def again(self, rng: np.random.Generator) -> _Dynamics: ...


class _Lorenz:
    """Latents on the Lorenz attractor (sigma 10, rho 28, beta 8/3).

    One step of 5 ms moves .0075 on, half the step of .015 per 10 ms that is usual for this
    benchmark. Centred on the time average and divided by the largest excursion; readout weights
    are uniform in [1, 2] with random signs.
    """

    behaviour = "latents"
    columns: tuple[str, ...] = ("x", "y", "z")
    unit = "a.u."
    _H = 0.0075
    # Time average of z and largest absolute value of the centred coordinates over 300,000 steps;
    # the averages of x and y are 0 by symmetry.
    _CENTRE_Z = 23.53
    _LARGEST = 26.2

    def __init__(self, rng: np.random.Generator) -> None:
        x, y, z = (float(v) for v in rng.standard_normal(3))
        self._state = (x, y, 25.0 + z)
        # Onto the attractor.
        self.advance(1000)

    def readout(self, n_units: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        shape = (3, n_units)
        weights = (rng.random(shape) + 1.0) * rng.choice([-1.0, 1.0], shape)
        return weights, np.ones(n_units)

    def advance(self, steps: int) -> tuple[Floats, Floats, tuple[Reach, ...]]:
        path = np.empty((steps, 3))
        state = self._state
        for i in range(steps):
            path[i] = state
            state = _runge_kutta(state, self._H)
        self._state = state
        path[:, 2] -= self._CENTRE_Z
        path /= self._LARGEST
        return path, path, ()

    def again(self, rng: np.random.Generator) -> _Lorenz:
        """Return the same dynamics at another point of the attractor."""
        return _Lorenz(rng)


State3 = tuple[float, float, float]


def _lorenz_slope(s: State3) -> State3:
    x, y, z = s
    return 10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z


def _runge_kutta(s: State3, h: float) -> State3:
    def moved(by: State3, size: float) -> State3:
        return s[0] + size * by[0], s[1] + size * by[1], s[2] + size * by[2]

    a = _lorenz_slope(s)
    b = _lorenz_slope(moved(a, h / 2))
    c = _lorenz_slope(moved(b, h / 2))
    d = _lorenz_slope(moved(c, h))
    x, y, z = (h / 6 * (p + 2 * q + 2 * r + t) for p, q, r, t in zip(a, b, c, d, strict=True))
    return s[0] + x, s[1] + y, s[2] + z


class _Reaches:
    """Centre-out reaches and returns: 8 directions by 2 distances.

    A reach is prepared for .3 to .7 s, moves for .5 s with minimum jerk (Flash & Hogan 1985) and
    rests for .25 s. Latents: velocity, speed and position of the coming movement, which lead the
    hand by 100 ms, and two planes of a preparatory state, which settles on a point of the
    condition until the go and then rotates and decays (after Churchland et al. 2012). Units are
    cosine tuned to velocity and mix the other latents at random; their mean rates are log-normal.
    """

    behaviour = "hand_vel"
    columns: tuple[str, ...] = ("vel_x", "vel_y")
    unit = "m/s"
    _DISTANCES_M = (0.06, 0.12)
    _MOVE_S = 0.5
    _REST_S = 0.25
    _LEAD_S = 0.1
    _PEAK_M_S = 1.875 * 0.12 / 0.5

    def __init__(self, rng: np.random.Generator, points: Floats | None = None) -> None:
        self._rng = rng
        self._points = rng.standard_normal((16, 4)) if points is None else points
        self._turns = [
            complex(math.cos(a), math.sin(a)) * math.exp(-GRID_S / 0.2)
            for a in (2 * math.pi * hertz * GRID_S for hertz in (1.2, 2.0))
        ]
        self._planes = [0j, 0j]
        self._hand = (0.0, 0.0)
        self._step = 0
        self._reach = self._next_reach()

    def readout(self, n_units: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        angle = rng.uniform(0.0, 2 * np.pi, n_units)
        depth = rng.uniform(0.5, 1.5, n_units)
        mixed = rng.standard_normal((7, n_units)) * np.array([0.4, 0.3, 0.3, *[0.4] * 4])[:, None]
        weights = np.concatenate([depth * np.stack([np.cos(angle), np.sin(angle)]), mixed])
        sd = 0.6
        return weights, np.exp(sd * rng.standard_normal(n_units) - sd**2 / 2)

    def advance(self, steps: int) -> tuple[Floats, Floats, tuple[Reach, ...]]:
        latents, velocity = np.empty((steps, 9)), np.empty((steps, 2))
        begun = []
        for i in range(steps):
            if self._step == self._reach.end:
                (x, y), (dx, dy) = self._reach.origin, self._reach.displacement
                self._hand = (x + dx, y + dy)
                self._reach = self._next_reach()
            reach = self._reach
            if self._step == reach.begin:
                begun.append(reach)
            (x, y), (dx, dy) = reach.origin, reach.displacement
            since_go_s = (self._step - reach.go) * GRID_S
            way, pace = _minimum_jerk(since_go_s / self._MOVE_S)
            pace /= self._MOVE_S * self._PEAK_M_S
            far = self._DISTANCES_M[-1]
            latents[i, :5] = (
                dx * pace, dy * pace, math.hypot(dx, dy) * pace,
                (x + dx * way) / far, (y + dy * way) / far,
            )  # fmt: skip
            latents[i, 5:] = [v for p in self._planes for v in (p.real, p.imag)]
            _, hand_pace = _minimum_jerk((since_go_s - self._LEAD_S) / self._MOVE_S)
            velocity[i] = (dx * hand_pace / self._MOVE_S, dy * hand_pace / self._MOVE_S)
            self._move_planes(reach)
            self._step += 1
        return latents, velocity, tuple(begun)

    def again(self, rng: np.random.Generator) -> _Reaches:
        """Return other reaches of the same population: what each condition prepares stays."""
        return _Reaches(rng, self._points)

    def _move_planes(self, reach: Reach) -> None:
        if self._step < reach.go:
            a, b, c, d = reach.prepared
            share = GRID_S / 0.1
            self._planes = [
                p + (goal - p) * share
                for p, goal in zip(self._planes, (complex(a, b), complex(c, d)), strict=True)
            ]
        else:
            self._planes = [p * turn for p, turn in zip(self._planes, self._turns, strict=True)]

    def _next_reach(self) -> Reach:
        x, y = self._hand
        if math.hypot(x, y) > 1e-6:
            far = int(math.hypot(x, y) > sum(self._DISTANCES_M) / 2)
            direction = round(math.atan2(-y, -x) / (math.pi / 4)) % 8
            dx, dy = -x, -y
        else:
            direction, far = int(self._rng.integers(8)), int(self._rng.integers(2))
            angle, distance = direction * math.pi / 4, self._DISTANCES_M[far]
            dx, dy = distance * math.cos(angle), distance * math.sin(angle)
        condition = 2 * direction + far
        go = self._step + round(self._rng.uniform(0.3, 0.7) / GRID_S)
        end = go + round((self._MOVE_S + self._REST_S) / GRID_S)
        prepared = tuple(float(v) for v in self._points[condition])
        return Reach(self._step, go, end, (x, y), (dx, dy), prepared, condition)


def _minimum_jerk(t: float) -> tuple[float, float]:
    """Return the share of the way and its derivative at a share t of the time."""
    if not 0.0 < t < 1.0:
        return (0.0, 0.0) if t <= 0.0 else (1.0, 0.0)
    return t**3 * (10 - 15 * t + 6 * t**2), 30 * t**2 * (1 - t) ** 2


class Simulation:
    """A seeded population. The same arguments give the same spikes.

    Parameters
    ----------
    population
        `lorenz` or `reaches`.
    n_units
        Number of units.
    seed
        Of everything random: dynamics, tuning and spikes.
    session
        Another one is another day with the same population: same tuning and mean rates, other
        dynamics and spikes.
    mean_rate_hz
        Mean rate over units and time, approximately.

    Attributes
    ----------
    units
        Names of the units.
    behaviour, columns, unit
        Name of the series beside the spikes (`latents` or `hand_vel`), its columns, its unit.
    """

    def __init__(
        self,
        population: Population,
        n_units: int,
        seed: int,
        mean_rate_hz: float = 10.0,
        *,
        session: int = 0,
    ) -> None:
        # Streams of their own, so that the number of spikes moves nothing else.
        dynamics, tuning, self._count_rng, self._time_rng = (
            np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)
        )
        self._dynamics: _Dynamics = (
            _Lorenz(dynamics) if population == "lorenz" else _Reaches(dynamics)
        )
        self.units = tuple(f"unit{i:03d}" for i in range(n_units))
        self.behaviour = self._dynamics.behaviour
        self.columns = self._dynamics.columns
        self.unit = self._dynamics.unit
        self._weights, share = self._dynamics.readout(n_units, tuning)
        latents, _, _ = self._dynamics.advance(_WARM_UP_STEPS)
        self._base_hz = mean_rate_hz * share / np.exp(latents @ self._weights).mean(axis=0)
        if session:
            dynamics, self._count_rng, self._time_rng = (
                np.random.default_rng(s) for s in np.random.SeedSequence([seed, session]).spawn(3)
            )
            self._dynamics = self._dynamics.again(dynamics)
            self._dynamics.advance(_WARM_UP_STEPS)

    def blocks(self) -> Iterator[Block]:
        """Yield the simulation block by block, without end."""
        n_units = len(self.units)
        start_ns = 0
        while True:
            latents, behaviour, reaches = self._dynamics.advance(_BLOCK_STEPS)
            rates_hz = self._base_hz * np.exp(latents @ self._weights)
            counts = self._count_rng.poisson(rates_hz * GRID_S).ravel()
            cells = np.flatnonzero(counts)
            cell = np.repeat(cells, counts[cells])
            step, unit = np.divmod(cell, n_units)
            offset = (self._time_rng.random(len(cell)) * GRID_NS).astype(np.int64)
            times_ns = start_ns + step * GRID_NS + offset
            order = np.argsort(times_ns, kind="stable")
            yield Block(
                start_ns=start_ns,
                times_ns=times_ns[order],
                units=unit[order].astype(np.int32),
                rates_hz=rates_hz.astype(np.float32),
                behaviour=behaviour,
                reaches=reaches,
            )
            start_ns += _BLOCK_NS


def simulate_recording(
    population: Population,
    n_units: int,
    duration_s: float,
    seed: int,
    mean_rate_hz: float = 10.0,
    *,
    session: int = 0,
) -> Recording:
    """Return what `spikes.simulate` streams with the same settings, as a recording.

    The true rates are sampled every 5 ms, each at the beginning of the step for which it holds.
    Of a `reaches` population, the trials are the reaches that end within the duration, with the
    columns `go_s`, `condition`, `target_x` and `target_y` (metres).
    """
    simulation = Simulation(population, n_units, seed, mean_rate_hz, session=session)
    stop_ns = to_ns(duration_s)
    blocks = []
    for block in simulation.blocks():
        if block.start_ns >= stop_ns:
            break
        blocks.append(block)
    times_ns = np.concatenate([b.times_ns for b in blocks])
    inside = times_ns < stop_ns
    times_ns, units = times_ns[inside], np.concatenate([b.units for b in blocks])[inside]
    order = np.argsort(units, kind="stable")
    splits = np.cumsum(np.bincount(units, minlength=n_units))[:-1]
    rates = np.concatenate([b.rates_hz for b in blocks])[: stop_ns // GRID_NS]
    behaviour = np.concatenate([b.behaviour for b in blocks])[: -(-stop_ns // GRID_NS)]
    return Recording(
        name=f"{population}-{n_units}-seed{seed}-session{session}",
        units=simulation.units,
        start_s=0.0,
        stop_s=duration_s,
        segment_starts_s=np.zeros(1),
        spike_times_s=tuple(t / 1e9 for t in np.split(times_ns[order], splits)),
        behaviour={
            simulation.behaviour: Series(
                np.arange(len(behaviour)) * GRID_NS / 1e9,
                behaviour,
                simulation.columns,
                simulation.unit,
            )
        },
        true_rates=Series(
            np.arange(len(rates)) * GRID_NS / 1e9, rates.astype(np.float64), simulation.units, "Hz"
        ),
        trials=_trials([r for b in blocks for r in b.reaches], stop_ns),
    )


def _trials(reaches: list[Reach], stop_ns: int) -> Trials | None:
    # Steps count from before the start, over the warm-up.
    first = _WARM_UP_STEPS
    whole = [r for r in reaches if (r.end - first) * GRID_NS <= stop_ns]
    if not whole:
        return None

    def seconds(steps: list[int]) -> Floats:
        return (np.array(steps) - first) * GRID_NS / 1e9

    target = np.array([np.add(r.origin, r.displacement) for r in whole])
    return Trials(
        start_s=seconds([r.begin for r in whole]),
        stop_s=seconds([r.end for r in whole]),
        columns={
            "go_s": seconds([r.go for r in whole]),
            "condition": np.array([r.condition for r in whole]),
            "target_x": target[:, 0],
            "target_y": target[:, 1],
        },
    )
