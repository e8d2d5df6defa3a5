"""From data to action: a rule that fires, until its message is at another program or a box."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks._loop_parts import UNITS, Arrivals
from benchmarks._results import JsonFile, write_result
from benchmarks._runs import run_pipeline

NODES = ("probe", "go", "osc", "stim")
LAYOUTS: dict[str, dict[str, Any]] = {
    "one process, real-time priority": {"group": "loop", "realtime": ["loop"]},
    "one process": {"group": "loop", "realtime": []},
    "a process each, real-time priority": {"group": None, "realtime": list(NODES)},
    "a process each": {"group": None, "realtime": []},
}


def run(
    json_path: JsonFile = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of the run of a layout.")] = 60.0,
) -> dict[str, Any]:
    """Measure from the acquisition of rates to the arrival of what a rule on them leads to.

    A source gives rates every 5 ms, one of which crosses the threshold every 10 ms. `trigger`
    fires; `osc` sends a datagram to a UDP port and `serial` a byte to a pseudoterminal, both read
    by this process, which has no priority. A delay counts from when the rates were due, so the
    lateness of the source is part of it, to when the message is made (`sent`, which the datagram
    itself says), or to when the reader has woken. A serial line adds 87 us a byte at 115200 baud.
    """
    console = Console()
    rows: list[dict[str, Any]] = []
    for layout, settings in LAYOUTS.items():
        with tempfile.TemporaryDirectory() as folder, console.status(f"{layout}: {seconds:g} s"):
            rows += _measure(Path(folder), layout, settings, seconds)
    conditions = {"units": UNITS, "period_ms": 5, "seconds": seconds}
    _show(rows, console)
    return write_result("loop", conditions, rows, json_path)


def _measure(
    folder: Path, layout: str, settings: dict[str, Any], seconds: float
) -> list[dict[str, Any]]:
    arrivals = Arrivals()
    nodes: dict[str, dict[str, Any]] = {
        "probe": {"use": "benchmarks._loop_parts:Crossings"},
        "go": {
            "use": "trigger", "from": "probe", "armed": True,
            "rules": {"fast": {"channel": "u7", "above": "50 Hz"}},
        },
        "osc": {"use": "osc", "from": "go", "port": arrivals.udp_port},
        "stim": {
            "use": "serial", "from": "go", "port": arrivals.serial_port, "fire": {"fast": "F"},
            "safe": "0",
        },
    }  # fmt: skip
    if settings["group"]:
        for node in nodes.values():
            node["group"] = settings["group"]
    pipeline = {"name": "loop", "realtime": settings["realtime"], "nodes": nodes}
    try:
        report = run_pipeline(pipeline, folder, seconds)
    finally:
        arrivals.close()
    log = (folder / "run" / "go.firings.jsonl").read_text().splitlines()
    firings = [json.loads(line) for line in log]
    decided_ns = np.array([f["t_ns"] for f in firings if f["fired"]])
    caused_ns = decided_ns - np.array([f["age_ms"] * 1e6 for f in firings if f["fired"]])
    group = settings["group"] or "go"
    about = {
        "layout": layout, "firings": len(caused_ns),
        "realtime": report.processes[group].get("realtime", "not asked for"),
        "datagrams_lost": 0, "bytes_lost": 0,
        "dropped": sum(sum(node["dropped"].values()) for node in report.nodes.values()),
    }  # fmt: skip
    took_us = {"rule fired": (decided_ns - caused_ns) / 1e3, "sent": np.array(arrivals.sent_us)}
    for to, times_ns in (("datagram", arrivals.udp_ns), ("byte", arrivals.serial_ns)):
        if len(times_ns) == len(caused_ns):
            took_us[f"{to} received"] = (np.array(times_ns) - caused_ns) / 1e3
        else:
            # Which one is missing cannot be told, so no delay can either.
            about[f"{to}s_lost"] = len(caused_ns) - len(times_ns)
    return [{**about, "to": to, **_delays(took)} for to, took in took_us.items()]


def _delays(took_us: np.ndarray) -> dict[str, float]:
    shares = (("p50_us", 50), ("p99_us", 99), ("p999_us", 99.9), ("max_us", 100))
    return {key: round(float(np.percentile(took_us, q)), 1) for key, q in shares}


def _show(rows: list[dict[str, Any]], console: Console) -> None:
    table = Table(title=f"From rates of {UNITS} units to", box=None)
    for column in ("", "p50 us", "p99 us", "p99.9 us", "max us"):
        table.add_column(column, justify="right" if column else "left")
    for number, row in enumerate(rows):
        if not number or row["layout"] != rows[number - 1]["layout"]:
            table.add_section()
            lost = row["datagrams_lost"] + row["bytes_lost"]
            table.add_row(f"[bold]{row['layout']}[/] ({row['realtime']})")
            table.add_row(f"{row['firings']} firings, {lost} messages lost")
        delays = ("p50_us", "p99_us", "p999_us", "max_us")
        table.add_row(row["to"], *(f"{row[key]:.0f}" for key in delays))
    console.print(table)
