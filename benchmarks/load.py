"""How cost grows with channels and bins: CPU share and delay after the bin edge."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from benchmarks._results import JsonFile, Row, show, write_result
from benchmarks._runs import run_pipeline

UNITS = (96, 192, 384, 1024)
WIDTHS_MS = (1, 5, 20)
COLUMNS = (
    "channels", "bin_ms", "probe_cpu", "bins_cpu", "sink_cpu", "p50_us", "p99_us", "max_us",
    "lost", "late",
)  # fmt: skip
PIPELINE = """\
name: load
nodes:
  probe: {{use: spikes.simulate, population: lorenz, units: {units}, mean_rate: {rate} Hz}}
  bins:  {{use: spikes.bin, from: probe, width: {width} ms}}
  sink:  {{use: "benchmarks._audit:Audit", from: bins}}
"""


def run(
    json_path: JsonFile = None,
    seconds: Annotated[float, typer.Option(help="How long each of the 12 runs takes.")] = 20.0,
    rate: Annotated[float, typer.Option(help="Mean rate of a channel in Hz.")] = 10.0,
) -> dict[str, Any]:
    """Run simulated spikes, 1 ms a packet, through bins to a sink, each node a process.

    Delay is from the bin's edge to its arrival at the sink. CPU share is of one core, over the
    streaming part of a run.
    """
    console = Console()
    rows = []
    grid = [(units, width) for width in WIDTHS_MS for units in UNITS]
    for units, width in track(grid, "Running", console=console, transient=True):
        rows.append(_measure(units, width, seconds, rate))
    conditions = {"seconds": seconds, "rate_hz": rate, "chunk_ms": 1}
    show(rows, console, "share of one core, and delay after the bin edge", columns=COLUMNS)
    return write_result("load", conditions, rows, json_path)


def _measure(units: int, width: int, seconds: float, rate: float) -> Row:
    statuses: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        pipeline = PIPELINE.format(units=units, width=width, rate=rate)
        report = run_pipeline(pipeline, Path(folder), seconds, on_status=statuses.append)
    row: Row = {"channels": units, "bin_ms": width}
    row |= {f"{name}_cpu": share for name, share in cpu_shares(statuses).items()}
    delay = report.end_to_end["probe->sink"]
    row |= {key: delay[key] for key in ("p50_us", "p99_us", "p999_us", "max_us")}
    row |= report.nodes["sink"]["notes"]["audit"]
    return row


def cpu_shares(statuses: list[dict[str, Any]]) -> dict[str, float]:
    """Return the share of a core that each process took between first and last streaming status."""
    streaming = [s for s in statuses if s["duration_s"] > 0.5 and s["processes"]]
    first, last = streaming[0], streaming[-1]
    wall_s = last["duration_s"] - first["duration_s"]
    return {
        name: (process["cpu_s"] - first["processes"][name]["cpu_s"]) / wall_s
        for name, process in last["processes"].items()
    }
