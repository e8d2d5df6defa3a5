"""Graphs of units: found where they are known, live on one core, and when they change."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks._connectome_goals import judged
from benchmarks._connectome_live import cost, graph_ms, live, stationary_spikes
from benchmarks._connectome_real import brains, rivers
from benchmarks._one_core import bind_to_one_core
from benchmarks._results import JsonFile, Row, write_result
from models.connectome.independence import poisson_granger
from models.connectome.interventions import intervene
from models.connectome.scores import auroc, score
from models.connectome.simulations import (
    PAPER,
    SpikingNetwork,
    paper,
    sparse_var,
    switching_var,
)
from stream.connectome.change import Change
from stream.connectome.estimators import estimator
from stream.connectome.graph import fisher_z, normal_p
from stream.connectome.skeleton import squared_partial
from stream.connectome.sliding import Sliding
from stream.connectome.statistics import Statistics, correlations
from stream.errors import ConfigError

ROOT = Path(__file__).parents[1]
GRAPHS = ROOT.parent / "shared" / "data" / "graphs"
THRESHOLD = 10.0


def run(
    json_path: JsonFile = None,
    quick: Annotated[bool, typer.Option(help="Fewer seeds and seconds: does it work?")] = False,
    only: Annotated[str | None, typer.Option(help="One part of it.")] = None,
    realtime: Annotated[
        str,
        typer.Option(help="In `live`, who asks for real-time priority: decode, graphs or both."),
    ] = "",
    data: Annotated[Path, typer.Option(help="Folder with `danube` and `netsim_tcdf`.")] = GRAPHS,
) -> dict[str, Any]:
    """Score the estimators where the graph is known, and time them alone and in a run.

    J is sensitivity less the share of absent edges that were found, over all ordered pairs, a unit
    with itself included; edges within a bin count as well. Everything runs on one core, with one
    thread. Real data are left out, and that is said, where they are not there.
    """
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "paper": lambda: _paper(5 if quick else 25),
        "autoregressions": lambda: _autoregressions(quick),
        "spikes": lambda: _spikes(2 if quick else 10),
        "interventions": lambda: _interventions(1 if quick else 3),
        "switch": lambda: _switch(2 if quick else 20),
        "stationary": lambda: _stationary(4 if quick else 60),
        "rivers": lambda: iter(rivers(data)),
        "brains": lambda: iter(brains(data)),
        "cost": lambda: _cost(quick),
        "live": lambda: _live(quick, realtime),
    }
    if only is not None and only not in parts:
        raise ConfigError(f"--only: there is no part '{only}'; there are {', '.join(parts)}.")
    bind_to_one_core()
    # Here, and in the processes of a run: more threads than cores only wait for each other.
    threadpool_limits(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    console = Console()
    console.width = max(console.width, 170)
    rows: list[Row] = []
    for part in [only] if only else parts:
        if part in ("rivers", "brains") and not data.is_dir():
            console.print(f"{part}: left out, there is no {data}.")
            continue
        with console.status(part):
            found = [{"part": part, **judged(part, row)} for row in parts[part]()]
        _show(part, found, console)
        rows += found
    conditions = {"cores": 1, "threads": 1, "quick": quick, "realtime": realtime}
    return write_result("connectome", conditions, rows, json_path)


def _paper(seeds: int) -> Iterator[Row]:
    """The simulations of the Time-Aware PC paper."""
    for paradigm in PAPER:
        for method in ("granger", "pc", "neuro-pc", "tpc"):
            results = []
            for seed in range(seeds):
                made = paper(paradigm, seed)
                graph, ms = graph_ms(made.data, method)
                results.append((graph.edges, made.edges, ms))
            yield {"simulation": paradigm, "method": method, "seeds": seeds, **_mean(results)}
    found, range_passed_on = [], []
    for seed in range(8 * seeds):
        data = paper("ctrnn", seed).data
        statistics = Statistics.of(data)
        # Unit 4 now, unit 3 a bin ago, and unit 4 a bin ago, which is the only other parent.
        now, source, other = (np.array([variable]) for variable in (3, 6, 7))
        r2 = squared_partial(correlations(statistics.cov), now, source, [other])
        found.append(normal_p(fisher_z(np.sqrt(r2), statistics.rows, 1))[0] < 0.05)
        range_passed_on.append(np.ptp(np.tanh(data[:, 2])))
    yield {
        "simulation": "ctrnn", "method": "edge 3 -> 4, its true parents held", "seeds": 8 * seeds,
        "sensitivity": np.mean(found), "source_passes_on": f"{max(range_passed_on):.0e}",
    }  # fmt: skip


def _autoregressions(quick: bool) -> Iterator[Row]:
    """Random sparse autoregressions, two inputs a unit."""
    for units, bins, seeds in ((8, 2000, 10), (16, 4000, 10), (32, 8000, 5), (100, 10000, 3)):
        for method in ("granger", "neuro-pc", "tpc"):
            results = []
            for seed in range(1 if quick else seeds):
                made = sparse_var(units, bins, seed)
                graph, ms = graph_ms(made.data, method)
                results.append((graph.edges, made.edges, ms))
            yield {"units": units, "bins": bins, "method": method, **_mean(results)}


def _spikes(seeds: int) -> Iterator[Row]:
    """Spiking networks of 20 units at 20 Hz: effects of one bin, and of 5 ms."""
    cases = ((0.0, 1, 20.0), (0.0, 1, 120.0), (0.005, 8, 20.0))
    for decay_s, delay, seconds in cases:
        strength = (0.5, 1.0) if decay_s else (1.0, 2.0)
        found: dict[str, list[tuple[float, float, float]]] = {}
        for seed in range(seeds if seconds < 100 else min(seeds, 3)):
            network = SpikingNetwork.draw(20, seed, decay_s=decay_s, strength=strength)
            spikes = network.run(seconds, 100 + seed)
            graphs = {m: graph_ms(spikes, m, delay)[0] for m in ("granger", "counts", "tpc")}
            if delay == 1 and seconds < 100:
                graphs["Poisson regression, offline"] = poisson_granger(spikes)
            for method, graph in graphs.items():
                found.setdefault(method, []).append((
                    score(graph.edges, network.edges).youden,
                    score(graph.p < 0.001, network.edges).youden,
                    auroc(-graph.p, network.edges),
                ))  # fmt: skip
        for method, each in found.items():
            mean, spread = np.mean(each, axis=0), np.std(each, axis=0)
            more = np.subtract(each, found["granger"])[:, 0]
            yield {
                "effect_ms": 1e3 * decay_s or 1.0, "delay": delay, "seconds": seconds,
                "method": method, "seeds": len(each), "J": mean[0], "J_sd": spread[0],
                "over_granger": more.mean(), "over_granger_sd": more.std(),
                "J_at_p_.001": mean[1], "auroc": mean[2],
            }  # fmt: skip


def _interventions(seeds: int) -> Iterator[Row]:
    """Rates predicted for a silenced unit, against the network with it silenced."""
    predicted: list[Any] = []
    naive: list[Any] = []
    real: list[Any] = []
    for seed in range(seeds):
        network = SpikingNetwork.draw(20, seed, decay_s=0.005, strength=(0.3, 0.6), inputs=3)
        statistics = Statistics.of(network.run(120.0, 10 + seed), 8)
        graph = estimator("counts", 0.05).estimate(statistics)
        for unit in range(0, 20, 5):
            # The same chances again, so that only the unit makes the difference.
            silenced = network.run(120.0, 10 + seed, silenced=(unit,)).mean(axis=0)
            others = np.delete(np.arange(20), unit)
            held = intervene(statistics, graph, unit, 0.0)
            slope = statistics.cov.reshape(9, 20, 180)[:, unit, :20].sum(axis=0)
            slope = slope / statistics.cov[unit, unit]
            predicted.append((held - statistics.mean)[others])
            naive.append(-slope[others] * statistics.mean[unit])
            real.append((silenced - statistics.mean)[others])
    truth = np.concatenate(real)
    for method, guess in (("graph", predicted), ("correlation alone", naive)):
        values = np.concatenate(guess)
        yield {
            "silenced": len(real), "seeds": seeds, "predicted_by": method,
            "r": np.corrcoef(values, truth)[0, 1],
            "R2_of_change": 1 - ((values - truth) ** 2).sum() / (truth**2).sum(),
        }  # fmt: skip


def _switch(seeds: int) -> Iterator[Row]:
    """From the change of a network to the measure above its threshold, in windows."""
    for name, units, window, step in (
        ("autoregression", 16, 2000, 50), ("spikes", 20, 20_000, 250)
    ):  # fmt: skip
        delays, adopted = [], []
        for seed in range(seeds):
            if name == "spikes":
                networks = [SpikingNetwork.draw(units, 50 + 2 * seed + k) for k in (0, 1)]
                halves = [n.run(2.5 * window / 1e3, 900 + seed) for n in networks]
                truth = networks[1].edges
            else:
                both = switching_var(units, round(2.5 * window), seed)
                halves, truth = [b.data for b in both], both[1].edges
            data = np.concatenate(halves).astype(np.float32)
            running = Sliding(units, 1, window)
            measure = Change(running)
            switch = len(halves[0])
            delay = np.nan
            method = estimator("counts" if name == "spikes" else "tpc", 0.05)
            for at in range(0, len(data) - step + 1, step):
                running.push(data[at : at + step])
                since = (at + step - switch) / window
                if measure.after(step) > THRESHOLD and since > 0 and np.isnan(delay):
                    delay = since
                if abs(since - 1) < step / window / 2:
                    edges = method.estimate(running.statistics()).edges
                    adopted.append(score(edges, truth).youden)
            delays.append(delay)
        yield {
            "data": name, "units": units, "window_bins": window, "seeds": seeds,
            "missed": int(np.isnan(delays).sum()), "windows_p50": np.nanmedian(delays),
            "windows_max": np.nanmax(delays), "J_of_new_after_a_window": np.mean(adopted),
        }  # fmt: skip


def _stationary(minutes: int) -> Iterator[Row]:
    """How often the measure is above its threshold while nothing changes."""
    for name, window, step in (("spikes, 1 ms", 20_000, 100), ("autoregression, 10 ms", 2000, 10)):
        running = Sliding(20, 1, window)
        measure = Change(running)
        pieces = (
            stationary_spikes(minutes, 20, 3)
            if name.startswith("spikes")
            else iter([sparse_var(20, 6000 * minutes, 3).data.astype(np.float32)])
        )
        values: list[float] = []
        for piece in pieces:
            for at in range(0, len(piece), step):
                running.push(piece[at : at + step])
                values.append(measure.after(step))
        values = [value for value in values if np.isfinite(value)]
        above = np.array(values) > THRESHOLD
        yield {
            "data": name, "units": 20, "window_bins": window, "minutes": minutes,
            "measured": len(values), "alarms": int((np.diff(above.astype(int)) > 0).sum()),
            "mean": np.mean(values), "sd": np.std(values), "max": np.max(values),
        }  # fmt: skip


def _cost(quick: bool) -> Iterator[Row]:
    for units, delay in ((32, 1), (100, 1), (100, 5), (200, 1), (400, 1)):
        if quick and units > 100:
            continue
        yield from cost(units, delay, 5 if quick else 20)


def _live(quick: bool, realtime: str) -> Iterator[Row]:
    for units, method, every_ms in (
        (100, "counts", 50), (100, "tpc", 50), (400, "counts", 200), (400, "tpc", 500),
    ):  # fmt: skip
        yield live(units, method, every_ms, 8.0 if quick else 20.0, realtime)


def _mean(results: list[tuple[Any, Any, float]]) -> Row:
    scores = [score(found, truth) for found, truth, _ in results]
    return {
        "J": np.mean([s.youden for s in scores]),
        "sensitivity": np.mean([s.sensitivity for s in scores]),
        "false_positives": np.mean([s.false_positives for s in scores]),
        "ms": np.median([ms for *_, ms in results]),
    }


def _show(part: str, rows: list[Row], console: Console) -> None:
    for row in rows:
        for key, value in row.items():
            if isinstance(value, np.generic):
                row[key] = value.item()
    table = Table(title=part, box=None)
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key != "part"]
    for key in keys:
        table.add_column(key, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*(_text(row.get(key, "")) for key in keys))
    console.print(table)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
