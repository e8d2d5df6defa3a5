"""What a run says when it is over: a table to read, and JSON for scripts."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import zmq
from rich.console import Console
from rich.table import Table

from stream.errors import RunError
from stream.node import GAVE_NOTHING, TROUBLE
from stream.plan import Plan
from stream.runtime.run_folders import REPORT

_PACKAGES = ("innervate", "numpy", "pyzmq", "msgspec", "onnxruntime", "onnxruntime-gpu", "pynwb")
_LATENCY = {"p50_us": 0.0, "p99_us": 0.0, "p999_us": 0.0, "max_us": 0.0}


class Report(msgspec.Struct, kw_only=True):
    """The report of a run; its fields are the keys of the JSON file.

    Attributes
    ----------
    pipeline, exit, message
        Name of the pipeline, exit code, and what went wrong (empty when nothing did).
    duration_s
        From the common start of the sources to the end of the last stream.
    nodes
        For each node: packets in and out, how many it refused by reason (`dropped`), gaps (packets
        missing from what it read, other than by its links' policies), errors, restarts, CPU
        seconds, and notes.
    links
        For each link: latency from leaving one node to being handed to the next, in microseconds;
        packets handed over, dropped by the link's policy, lost otherwise, and messages refused.
    end_to_end
        For each source and each node that it reaches: time from acquisition to publication (for a
        sink: until it was done), and how often that took longer than one period of the stream.
    models
        What each model node runs.
    processes
        For each group: CPU seconds and the most memory it had.
    versions, machine
        Of software, and what it ran on.
    run_dir
        Folder with the logs of the run.
    refused
        Messages of strangers on the socket between supervisor and workers.
    """

    pipeline: str
    exit: int
    message: str
    duration_s: float
    nodes: dict[str, dict[str, Any]]
    links: dict[str, dict[str, Any]]
    end_to_end: dict[str, dict[str, Any]]
    models: dict[str, dict[str, Any]]
    processes: dict[str, dict[str, Any]]
    versions: dict[str, str]
    machine: dict[str, Any]
    run_dir: str
    refused: int = 0

    def to_json(self) -> bytes:
        """Return the report as JSON, indented."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def status(self) -> dict[str, Any]:
        """Return the part that changes while the pipeline runs, as the status socket sends it."""
        names = ("pipeline", "duration_s", "nodes", "links", "end_to_end", "models", "processes")
        return {name: getattr(self, name) for name in names}


def assemble(
    plan: Plan,
    statistics: Iterable[dict[str, Any]],
    *,
    exit_code: int,
    message: str,
    duration_s: float,
    run_dir: Path,
    refused: int,
) -> Report:
    """Join what the workers have counted; see `Worker.statistics`."""
    nodes: dict[str, dict[str, Any]] = {name: _empty_node() for name in plan.nodes}
    links: dict[str, dict[str, Any]] = {}
    end_to_end: dict[str, dict[str, Any]] = {}
    processes: dict[str, dict[str, Any]] = {}
    sent: dict[str, dict[str, Any]] = {}
    received: dict[str, dict[str, Any]] = {}
    for part in statistics:
        nodes.update(part.get("nodes", {}))
        sent.update(part.get("sent", {}))
        received.update(part.get("received", {}))
        end_to_end.update(part.get("end_to_end", {}))
        processes.update(part.get("processes", {}))
    for link in plan.links:
        out, into = sent.get(link.name, {}), received.get(link.name, {})
        # What the sender dropped is missing at the receiver, and no loss.
        lost = max(0, into.get("missing", 0) - out.get("dropped", 0))
        links[link.name] = {
            **{key: into.get(key, zero) for key, zero in _LATENCY.items()},
            "packets": into.get("packets", 0),
            "dropped": out.get("dropped", 0) + into.get("dropped", 0),
            "lost": lost,
            "refused": into.get("refused", 0),
            "deliver": link.delivery.policy,
        }
        nodes[link.target]["gaps"] += lost
    models = {
        name: node["notes"]["model"] for name, node in nodes.items() if "model" in node["notes"]
    }
    return Report(
        pipeline=plan.name, exit=exit_code, message=message, duration_s=duration_s, nodes=nodes,
        links=links, end_to_end=end_to_end, models=models, processes=processes,
        versions=_versions(), machine=machine(), run_dir=str(run_dir), refused=refused,
    )  # fmt: skip


def write_report(report: Report, path: Path) -> None:
    """Write the report as JSON.

    Raises
    ------
    RunError
        The file cannot be written.
    """
    try:
        path.write_bytes(report.to_json())
    except OSError as error:
        raise RunError(
            f"the report cannot be written to {path}: {error.strerror}; the run itself is over.", 1
        ) from None


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the report as tables; of a run that never started, only where its folder is.

    What went wrong is an error, which goes another way.
    """
    console = console or Console()
    if report.duration_s:
        _print_tables(report, console)
    left = f"{REPORT} and logs" if (Path(report.run_dir) / REPORT).exists() else "logs"
    console.print(
        f"{report.pipeline}: {report.duration_s:.2f} s, {left} in {report.run_dir}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    for group, process in report.processes.items():
        if (found := process.get("realtime", "granted")) != "granted":
            console.print(
                f"'{group}' ran without real-time priority, {found}; `innervate doctor` says what"
                " to do.", style="yellow", markup=False, soft_wrap=True,
            )  # fmt: skip


def _print_tables(report: Report, console: Console) -> None:
    console.print(_node_table(report))
    if report.links:
        console.print(_latency_table("link", report.links, ("packets", "dropped", "lost")))
    if report.end_to_end:
        console.print(
            _latency_table("end to end", report.end_to_end, ("packets", "deadlines_missed"))
        )
    for name, model in report.models.items():
        console.print(
            f"model '{name}': {model.get('file', '')} on {', '.join(model.get('providers', ()))}",
            markup=False, highlight=False,
        )  # fmt: skip
    for name, node in report.nodes.items():
        if why := node["notes"].get(GAVE_NOTHING):
            console.print(
                f"'{name}' gave nothing: {why}", style="yellow", markup=False, soft_wrap=True
            )
        if outages := node["notes"].get("outages"):
            # Devices, ports and instruments, whatever the node is connected to.
            away = f", {away_s:g} s in all" if (away_s := node["notes"].get("away_s")) else ""
            console.print(
                f"'{name}' was cut off {outages} time(s){away}", style="yellow", markup=False
            )
        if trouble := node["notes"].get(TROUBLE):
            console.print(f"'{name}': {trouble}", style="yellow", markup=False, soft_wrap=True)
        if (file := node["notes"].get("file")) and Path(file).exists():
            console.print(
                f"'{name}' recorded {file}", markup=False, highlight=False, soft_wrap=True
            )


def _empty_node() -> dict[str, Any]:
    return {
        "packets_in": 0, "packets_out": 0, "dropped": {}, "gaps": 0, "errors": 0, "restarts": 0,
        "cpu_s": 0.0, "notes": {},
    }  # fmt: skip


def _table(title: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    # Names are folded in a narrow terminal, never cut: they are what one looks for.
    table.add_column(title, overflow="fold")
    return table


def _node_table(report: Report) -> Table:
    table = _table("node")
    for name in ("in", "out", "gaps", "errors", "CPU s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("refused")
    for name, node in report.nodes.items():
        refused = ", ".join(f"{reason} {count}" for reason, count in node["dropped"].items())
        table.add_row(
            name, str(node["packets_in"]), str(node["packets_out"]), str(node["gaps"]),
            str(node["errors"]), f"{node['cpu_s']:.2f}", refused,
        )  # fmt: skip
    return table


def _latency_table(title: str, rows: dict[str, dict[str, Any]], counts: tuple[str, ...]) -> Table:
    table = _table(title)
    for name in ("p50", "p99", "p99.9", "max"):
        table.add_column(f"{name} us", justify="right", no_wrap=True)
    for name in counts:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for name, row in rows.items():
        table.add_row(
            name,
            *(f"{row[key]:.0f}" for key in _LATENCY),
            *(str(row[key]) for key in counts),
        )
    return table


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "libzmq": zmq.zmq_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def machine() -> dict[str, Any]:
    """Return what this is running on."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        model = next((value.strip() for key, _, value in lines if key.strip() == "model name"), "")
    return {
        "system": platform.platform(),
        "cpu": model or platform.processor(),
        "cpus": os.cpu_count(),
    }
