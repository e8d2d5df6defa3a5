"""One hop between two processes, against bare pyzmq PUSH/PULL in the same run."""

from __future__ import annotations

import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks._results import JsonFile, write_result
from benchmarks._runs import run_pipeline

CASES = (("1 KB at 200 Hz", 1024, 200.0), ("6.2 MB at 60 Hz", 1080 * 1920 * 3, 60.0))
_WARM_UP = 20


def run(
    json_path: JsonFile = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each, taken in turn.")] = 7,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of a round.")] = 5.0,
) -> dict[str, Any]:
    """Measure how long an array takes from one process to the next.

    Both sides stamp just before they send and look at the clock when the array can be used; both
    copy what they send, bare pyzmq into a message, a pipeline into a message below 64 KiB and into
    shared memory above. Rounds of the two take turns. Figures are medians over the rounds; ratios
    are ours by bare pyzmq's.
    """
    console = Console()
    rows = []
    with console.status("") as status:
        for name, nbytes, rate_hz in CASES:
            count = round(seconds * rate_hz) + _WARM_UP
            taken: dict[str, list[np.ndarray]] = {"pyzmq": [], "innervate": []}
            for number in range(rounds):
                status.update(f"{name}, round {number + 1} of {rounds}")
                taken["pyzmq"].append(_bare(nbytes, rate_hz, count))
                taken["innervate"].append(_ours(nbytes, rate_hz, count))
            rows.append(_row(name, nbytes, rate_hz, count, taken))
    conditions = {
        "rounds": rounds, "seconds": seconds, "load": round(os.getloadavg()[0], 2),
        "pyzmq": "PUSH/PULL over ipc, copied",
    }  # fmt: skip
    _show(rows, console)
    return write_result("hop", conditions, rows, json_path)


def _bare(nbytes: int, rate_hz: float, count: int) -> np.ndarray:
    address = f"ipc://@innervate-bench-{secrets.token_hex(8)}"
    command = [sys.executable, "-m", "benchmarks._hop_parts"]
    with subprocess.Popen(
        [*command, "receive", address, str(count)], stdout=subprocess.PIPE, text=True
    ) as receiver:
        assert receiver.stdout is not None
        receiver.stdout.readline()
        subprocess.run(
            [*command, "send", address, str(nbytes), str(rate_hz), str(count)], check=True
        )
        return np.array(json.loads(receiver.stdout.read()))


def _ours(nbytes: int, rate_hz: float, count: int) -> np.ndarray:
    nodes = {
        "beacon": {
            "use": "benchmarks._hop_parts:Beacon",
            "nbytes": nbytes, "rate_hz": rate_hz, "count": count,
        },
        "watch": {"use": "benchmarks._hop_parts:Stopwatch", "from": "beacon"},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        report = run_pipeline({"name": "hop", "nodes": nodes}, Path(folder))
    return np.array(report.nodes["watch"]["notes"]["took_ns"])


def _row(
    name: str, nbytes: int, rate_hz: float, count: int, taken: dict[str, list[np.ndarray]]
) -> dict[str, Any]:
    row: dict[str, Any] = {"case": name, "bytes": nbytes, "rate_hz": rate_hz}
    for side, rounds in taken.items():
        row[f"{side}_packets"] = sum(len(round_) for round_ in rounds)
        row[f"{side}_lost"] = sum(count - len(round_) for round_ in rounds)
        for key, q in (("p50_us", 50), ("p99_us", 99)):
            values = [float(np.percentile(round_[_WARM_UP:], q)) / 1e3 for round_ in rounds]
            row[f"{side}_{key}"] = round(statistics.median(values), 1)
            row[f"{side}_{key}_range"] = f"{min(values):.0f} to {max(values):.0f}"
    for key in ("p50", "p99"):
        row[f"{key}_ratio"] = round(row[f"innervate_{key}_us"] / row[f"pyzmq_{key}_us"], 3)
    return row


def _show(rows: list[dict[str, Any]], console: Console) -> None:
    table = Table(title="One hop, us: median over the rounds (range)", box=None)
    for column in ("", "pyzmq", "innervate", "ratio", "lost"):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        for key in ("p50", "p99"):
            cells = [
                f"{row[f'{side}_{key}_us']:.0f} ({row[f'{side}_{key}_us_range']})"
                for side in ("pyzmq", "innervate")
            ]
            lost = f"{row['pyzmq_lost']}, {row['innervate_lost']}"
            table.add_row(f"{row['case']}, {key}", *cells, f"{row[f'{key}_ratio']:.2f}", lost)
    console.print(table)
