"""`spikes.simulate`: a simulated population, with its true rates beside it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter

import numpy as np
from pydantic import Field

from stream.node import Context, StreamSpec
from stream.paced import PacedSettings, PacedSource, Timed
from stream.packet import Packet
from stream.spikes.packets import spike_packet
from stream.spikes.simulation import GRID_NS, GRID_S, Block, Population, Simulation
from stream.units import Hertz, Seconds, to_ns


class SimulateSettings(PacedSettings):
    """Settings of `spikes.simulate`."""

    population: Population = Field(description="what drives the units: `lorenz` or `reaches`")
    units: int = Field(96, ge=1, le=10_000, description="how many units")
    seed: int = Field(0, ge=0, description="of everything random; the same seed, the same spikes")
    session: int = Field(0, ge=0, description="same population on another day: other spikes")
    mean_rate: Hertz = Field(10.0, gt=0, le=1000, description="mean rate over units and time")
    duration: Seconds | None = Field(None, description="end after this long; no end by default")
    chunk: Seconds = Field(0.001, ge=1e-5, le=1, description="what one packet of spikes covers")


class SpikesSimulate(PacedSource[SimulateSettings]):
    """Stream spikes of a seeded population whose rates are known.

    Outputs: spikes (main), `true_rates` in Hz every 5 ms, and the `latents` of a Lorenz population
    or the `hand_vel` of a reaching one. `simulate_recording` gives the same spikes offline.
    """

    use = "spikes.simulate"
    summary = "a simulated population (Lorenz dynamics or reaches) with its true rates"
    Settings = SimulateSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the three streams of the population."""
        sim = self._simulation()
        return {
            "": StreamSpec("spikes", (None, 2), "int64", sim.units),
            "true_rates": StreamSpec(
                "rates", (len(sim.units),), "float32", sim.units, "Hz", GRID_S
            ),
            sim.behaviour: StreamSpec(
                "behaviour", (len(sim.columns),), "float32", sim.columns, sim.unit, GRID_S
            ),
        }

    def open(self, context: Context) -> None:
        """Draw the population and its first spikes."""
        super().open(context)
        duration_s = self.settings.duration
        stop_ns = None if duration_s is None else to_ns(duration_s)
        simulation = self._simulation()
        chunk_ns, signal = to_ns(self.settings.chunk), simulation.behaviour
        tracks: dict[str, Callable[[Iterator[Block]], Iterator[Timed]]] = {
            "": lambda blocks: _chunks(blocks, chunk_ns, stop_ns),
            "true_rates": lambda blocks: _rates(blocks, stop_ns),
            signal: lambda blocks: _behaviour(blocks, signal, stop_ns),
        }
        taken = [
            track
            for name, track in tracks.items()
            if not name or context.linked is None or name in context.linked
        ]
        copies = itertools.tee(simulation.blocks(), len(taken))
        timelines = (track(blocks) for track, blocks in zip(taken, copies, strict=True))
        self.pace(heapq.merge(*timelines, key=itemgetter(0)))

    def _simulation(self) -> Simulation:
        s = self.settings
        return Simulation(s.population, s.units, s.seed, s.mean_rate, session=s.session)


def _chunks(blocks: Iterator[Block], chunk_ns: int, stop_ns: int | None) -> Iterator[Timed]:
    times_ns = np.empty(0, dtype=np.int64)
    units = np.empty(0, dtype=np.int32)
    first = 0
    known_ns = 0
    for a in itertools.count(0, chunk_ns):
        b = a + chunk_ns
        if stop_ns is not None:
            if a >= stop_ns:
                return
            b = min(b, stop_ns)
        while known_ns < b:
            block = next(blocks)
            known_ns = block.start_ns + len(block.rates_hz) * GRID_NS
            times_ns = np.concatenate([times_ns[first:], block.times_ns])
            units = np.concatenate([units[first:], block.units])
            first = 0
        last = int(times_ns.searchsorted(b))
        yield b, spike_packet(times_ns[first:last], units[first:last], (a, b), 0)
        first = last


def _rates(blocks: Iterable[Block], stop_ns: int | None) -> Iterator[Timed]:
    for block in blocks:
        for i, rates_hz in enumerate(block.rates_hz):
            a = block.start_ns + i * GRID_NS
            b = a + GRID_NS
            if stop_ns is not None and b > stop_ns:
                return
            yield b, Packet("rates", rates_hz, 0, a, b, output="true_rates")


def _behaviour(blocks: Iterable[Block], output: str, stop_ns: int | None) -> Iterator[Timed]:
    for block in blocks:
        values = block.behaviour.astype(np.float32)
        for i, sample in enumerate(values):
            t = block.start_ns + i * GRID_NS
            if stop_ns is not None and t >= stop_ns:
                return
            yield t, Packet("behaviour", sample, 0, t, t, output=output)
