"""Graphs in a real run on one core: how many a second, and how old when they are published."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from models.connectome.simulations import SpikingNetwork, sparse_var
from stream.connectome.estimators import estimator
from stream.connectome.sliding import Sliding
from stream.connectome.statistics import Statistics
from stream.errors import InnervateError
from stream.pipeline import load_pipeline
from stream.runtime.supervisor import run_plan

PIPELINE = """\
name: connectome
realtime: [{realtime}]
nodes:
  probe:  {{use: spikes.simulate, population: lorenz, units: {units}, mean_rate: 20 Hz,
           group: decode}}
  bins:   {{use: spikes.bin, from: probe, width: 1 ms, group: decode}}
  graphs: {{use: "stream.connectome.connectome:Connectome", from: bins, method: {method},
           window: 5 s, every: {every_ms} ms}}
"""


def live(units: int, method: str, every_ms: int, seconds: float, realtime: str) -> dict[str, Any]:
    """Stream spikes at 1 kHz into bins of 1 ms and graphs, for so long, in real time.

    `realtime` names the processes that ask for real-time priority: `decode`, `graphs`, or both.
    """
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "connectome.yaml"
        path.write_text(
            PIPELINE.format(units=units, method=method, every_ms=every_ms, realtime=realtime)
        )
        report = run_plan(load_pipeline(path), duration_s=seconds, run_dir=Path(name) / "run")
    if report.exit:
        raise InnervateError(report.message)
    to_bin, to_graph = (report.end_to_end[f"probe->{node}"] for node in ("bins", "graphs"))
    graphs = report.nodes["graphs"]["notes"]["graphs"]
    return {
        "units": units, "method": method, "every_ms": every_ms, "seconds": seconds,
        "graphs_per_s": graphs / seconds, "refresh_p50_ms": to_graph["p50_us"] / 1e3,
        "refresh_p99_ms": to_graph["p99_us"] / 1e3, "refresh_max_ms": to_graph["max_us"] / 1e3,
        "bins": report.nodes["bins"]["packets_out"], "bin_p99_ms": to_bin["p99_us"] / 1e3,
        "cpu_share": sum(node["cpu_s"] for node in report.nodes.values()) / seconds,
        "dropped": sum(sum(node["dropped"].values()) for node in report.nodes.values()),
    }  # fmt: skip


def cost(units: int, delay: int, repeats: int) -> list[dict[str, Any]]:
    """Time the parts within one process: sliding by 50 bins, and each estimator once."""
    data = sparse_var(units, 6000, 0, delay=delay).data.astype(np.float32)
    running = Sliding(units, delay, 4000)
    running.push(data[:5000])
    slides = [_timed(running.push, data[at : at + 50]) for at in range(5000, 6000, 50)]
    statistics = running.statistics()
    rows = [{
        "units": units, "delay": delay, "what": "slide by one bin, in blocks of 50",
        "p50_us": float(np.median(slides)) / 50,
    }]  # fmt: skip
    for method in ("partial", "granger", "counts", "tpc"):
        make = estimator(method, 0.05)  # type: ignore[arg-type]
        took = [_timed(make.estimate, statistics) for _ in range(repeats)]
        rows.append(
            {"units": units, "delay": delay, "what": method, "p50_us": float(np.median(took))}
        )
    return rows


def graph_ms(data: Any, method: str, delay: int = 1) -> tuple[Any, float]:
    """Return the graph of a recording, and how long it took with its statistics."""
    begin = time.thread_time()
    graph = estimator(method, 0.05).estimate(Statistics.of(data, delay))  # type: ignore[arg-type]
    return graph, 1e3 * (time.thread_time() - begin)


def stationary_spikes(minutes: int, units: int, seed: int) -> Any:
    """Yield minutes of spikes of one network that stays as it is."""
    network = SpikingNetwork.draw(units, seed)
    for minute in range(minutes):
        yield network.run(60.0, 1000 * seed + minute).astype(np.float32)


def _timed(call: Any, *arguments: Any) -> float:
    begin = time.thread_time_ns()
    call(*arguments)
    return (time.thread_time_ns() - begin) / 1e3
