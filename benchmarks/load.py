"""How cost grows with channels and bins: CPU share and delay after the bin edge."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from stream.errors import InnervateError
from stream.pipeline import load_pipeline
from stream.runtime.supervisor import run_plan

UNITS = (96, 192, 384, 1024)
WIDTHS_MS = (1, 5, 20)
PIPELINE = """\
name: load
nodes:
  probe: {{use: spikes.simulate, population: lorenz, units: {units}, mean_rate: {rate} Hz}}
  bins:  {{use: spikes.bin, from: probe, width: {width} ms}}
  sink:  {{use: "benchmarks._audit:Audit", from: bins}}
"""


def run(
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
    seconds: Annotated[float, typer.Option(help="How long each of the 12 runs takes.")] = 20.0,
    rate: Annotated[float, typer.Option(help="Mean rate of a channel in Hz.")] = 10.0,
) -> dict[str, Any]:
    """Run simulated spikes, 1 ms a packet, through bins to a sink, each node a process.

    Delay is from the bin's edge to its arrival at the sink. CPU share is of one core, over the
    streaming part of a run.
    """
    console = Console()
    rows = []
    machine: dict[str, Any] = {}
    grid = [(units, width) for width in WIDTHS_MS for units in UNITS]
    for units, width in track(grid, "Running", console=console, transient=True):
        row, machine = _measure(units, width, seconds, rate)
        rows.append(row)
    result = {
        "name": "load",
        "conditions": {"seconds": seconds, "rate_hz": rate, "chunk_ms": 1, **machine},
        "rows": rows,
    }
    _show(result, console)
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=1))
    return result


def _measure(
    units: int, width: int, seconds: float, rate: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    statuses: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "load.yaml"
        path.write_text(PIPELINE.format(units=units, width=width, rate=rate))
        report = run_plan(
            load_pipeline(path),
            duration_s=seconds,
            on_status=statuses.append,
            run_dir=Path(folder) / "run",
        )
        if report.exit:
            raise InnervateError(f"{units} channels in bins of {width} ms: {report.message}")
    row: dict[str, Any] = {"channels": units, "bin_ms": width}
    row |= {f"{name}_cpu": share for name, share in cpu_shares(statuses).items()}
    delay = report.end_to_end["probe->sink"]
    row |= {key: delay[key] for key in ("p50_us", "p99_us", "p999_us", "max_us")}
    row |= report.nodes["sink"]["notes"]["audit"]
    return row, dict(report.machine)


def cpu_shares(statuses: list[dict[str, Any]]) -> dict[str, float]:
    """Return the share of a core that each process took between first and last streaming status."""
    streaming = [s for s in statuses if s["duration_s"] > 0.5 and s["processes"]]
    first, last = streaming[0], streaming[-1]
    wall_s = last["duration_s"] - first["duration_s"]
    return {
        name: (process["cpu_s"] - first["processes"][name]["cpu_s"]) / wall_s
        for name, process in last["processes"].items()
    }


def _show(result: dict[str, Any], console: Console) -> None:
    table = Table(title="CPU share of one core, and delay after the bin edge", box=None)
    columns = (
        "units",
        "bin",
        "source",
        "bins",
        "sink",
        "p50 us",
        "p99 us",
        "max us",
        "lost",
        "late",
    )
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in result["rows"]:
        table.add_row(
            str(row["channels"]), f"{row['bin_ms']} ms",
            *(f"{row[f'{name}_cpu']:.1%}" for name in ("probe", "bins", "sink")),
            *(f"{row[key]:.0f}" for key in ("p50_us", "p99_us", "max_us")),
            str(row["lost"]), str(row["late"]),
        )  # fmt: skip
    console.print(table)
