"""From a spike in an instrument's double to its packet, and how soon a lost one is back."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks._results import JsonFile, Row, write_result
from benchmarks._runs import run_pipeline
from stream.errors import ConfigError, InnervateError
from stream.runtime.report import Report

ROOT = Path(__file__).parents[1]
TRIAL = ROOT.parent / "shared" / "data" / "spikes" / "mc_maze_trials" / "trial_748_data.csv"
_UNITS = 182
_MS = 1_000_000
_BACK_S = 2.0


@dataclass(frozen=True)
class Instrument:
    """One instrument: its double, the node that reads it, and when the double sends a spike.

    Attributes
    ----------
    double
        Arguments of the double's process, from so many ports.
    node
        Settings of the source, from the same ports.
    ports
        How many ports it needs.
    sends
        When the double writes a spike: ns after its clock's zero, from the spike's time.
    """

    double: Callable[[list[int]], list[str]]
    node: Callable[[list[int]], dict[str, Any]]
    ports: int
    sends: Callable[[NDArray[np.int64]], NDArray[np.int64]]


def _next_ms(times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    return (times_ns // _MS + 1) * _MS


def _rig(by: str, address: str, *more: str) -> Instrument:
    return Instrument(
        lambda ports: ["home_rig", "--by", by, "--port", str(ports[0]), *more],
        lambda ports: {
            "use": "feed", "address": address.format(ports[0]), "kind": "spikes",
            "names": [f"u0..u{_UNITS - 1}"], "rate": "30 kHz",
        },
        1,
        _next_ms,
    )  # fmt: skip


INSTRUMENTS = {
    "intan": Instrument(
        lambda ports: ["rhx_double", "--ports", *map(str, ports)],
        lambda ports: {
            "use": "intan", "channels": ["A-000..A-127", "B-000..B-053"], "port": ports[0],
        },
        3,
        # A block of 128 samples is written when it is complete.
        lambda times: ((times * 3 // 100_000) // 128 + 1) * 128 * 100_000 // 3,
    ),
    "blackrock": Instrument(
        lambda ports: ["nsp_double", "--port", str(ports[0])],
        lambda ports: {
            "use": "blackrock", "channels": [f"1..{_UNITS}"], "listen": f"127.0.0.1:{ports[0]}",
        },
        1,
        # A spike is sent at the next millisecond after the 38th sample behind it.
        lambda times: _next_ms(times + 38 * 100_000 // 3),
    ),
    "feed, UDP, JSON": _rig("udp", "udp://127.0.0.1:{}"),
    "feed, ZeroMQ, msgpack": _rig("zmq", "tcp://127.0.0.1:{}", "--msgpack"),
    "feed, WebSocket, JSON": _rig("websocket", "ws://127.0.0.1:{}"),
}  # fmt: skip


def run(
    *,
    json_path: JsonFile = None,
    seconds: Annotated[float, typer.Option(min=2.0, help="Of undisturbed play, for each.")] = 60.0,
    outages: Annotated[int, typer.Option(min=0, help="How often each is lost.")] = 20,
    away: Annotated[float, typer.Option(min=0.1, help="Seconds that it is away.")] = 10.0,
    only: Annotated[str | None, typer.Option(help="The name of one of them.")] = None,
    trial: Annotated[Path, typer.Option(help="Trial of MC_Maze as a CSV file.")] = TRIAL,
) -> dict[str, Any]:
    """Play a trial of 182 units in a loop through each double, in a process of its own.

    The delay counts from the time at which a double has to write a spike (when the block or the
    millisecond that it is in is over) to the call of a sink in the process of the source; what the
    double itself is late is part of it. Then the double is killed and started again: `back` counts
    from when it takes connections, or from its start where there are none, to the first packet.
    """
    console = Console()
    if not trial.is_file():
        raise ConfigError(f"--trial: there is no file {trial}.")
    if only is not None and only not in INSTRUMENTS:
        raise ConfigError(f"--only: there is no '{only}'; there are {', '.join(INSTRUMENTS)}.")
    rows = []
    for name in INSTRUMENTS:
        if only in (None, name):
            with (
                console.status(f"{name}: {seconds + outages * (away + _BACK_S):g} s"),
                tempfile.TemporaryDirectory() as folder,
            ):
                play = {"seconds": seconds, "outages": outages, "away": away}
                rows.append(_measure(Path(folder), name, trial, **play))
    conditions = {"units": _UNITS, "seconds": seconds, "outages": outages, "away_s": away}
    _show(conditions, rows, console)
    return write_result("instruments", conditions, rows, json_path)


class _Double:
    """The process of a double, which can be killed and started again on the same ports."""

    def __init__(self, instrument: Instrument, trial: Path, began: Path) -> None:
        self.ports = _free_ports(instrument.ports)
        module, *arguments = instrument.double(self.ports)
        self._command = [
            sys.executable, "-m", f"tests.peers.{module}", "--trial", str(trial),
            "--began", str(began), *arguments,
        ]  # fmt: skip
        self.back_ns: list[int] = []
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise InnervateError(f"the double does not start: {' '.join(self._command)}")

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def lose(self, seconds: float, outages: int, away: float) -> None:
        """After the undisturbed part, be away so often.

        The durations are the experiment: nothing is waited for.
        """
        time.sleep(seconds)
        for _ in range(outages):
            self.kill()
            time.sleep(away)
            self.start()
            self.back_ns.append(time.monotonic_ns())
            time.sleep(_BACK_S)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


def _measure(
    folder: Path, name: str, trial: Path, *, seconds: float, outages: int, away: float
) -> dict[str, Any]:
    instrument = INSTRUMENTS[name]
    began = folder / "began"
    double = _Double(instrument, trial, began)
    nodes = {
        "probe": {**instrument.node(double.ports), "group": "decode"},
        "bins": {"use": "spikes.bin", "from": "probe", "width": "5 ms", "group": "decode"},
        "sink": {
            "use": "benchmarks._arrivals:Arrivals", "from": "probe", "file": "seen.npz",
            "group": "decode",
        },
    }  # fmt: skip
    first_began: list[int] = []
    killer = threading.Thread(target=double.lose, args=(seconds, outages, away), daemon=True)
    reader = threading.Thread(target=_read_began, args=(began, first_began), daemon=True)
    killer.start()
    reader.start()
    duration_s = seconds + outages * (away + _BACK_S) + 1
    try:
        report = run_pipeline({"name": "instruments", "nodes": nodes}, folder, duration_s)
        killer.join(outages * 10)
    finally:
        double.kill()
    with np.load(folder / "seen.npz") as seen:
        row = _delays(instrument, dict(seen), first_began[0])
        return {"instrument": name, **row, **_counted(report), **_back(dict(seen), double.back_ns)}


def _read_began(file: Path, found: list[int]) -> None:
    while not found:
        if file.is_file() and (text := file.read_text()):
            found.append(int(text))
        # A file of another process wakes nobody.
        time.sleep(0.01)


def _delays(
    instrument: Instrument, seen: dict[str, NDArray[np.int64]], began_ns: int
) -> dict[str, Any]:
    spikes = seen["spikes"][seen["spikes"][:, 0] == 0]
    us = (spikes[:, 2] - began_ns - instrument.sends(spikes[:, 1])) / 1e3
    found = np.percentile(us, [50, 99, 99.9, 100]).tolist()
    return {
        "spikes": len(us),
        **dict(zip(("p50_us", "p99_us", "p999_us", "max_us"), found, strict=True)),
    }


def _counted(report: Report) -> dict[str, Any]:
    probe, bins = report.nodes["probe"], report.nodes["bins"]
    return {
        "bins_p50_us": report.end_to_end["probe->bins"]["p50_us"],
        "bins_p99_us": report.end_to_end["probe->bins"]["p99_us"],
        "late_spikes": probe["notes"].get("late_spikes", 0),
        "late_in_bins": bins["dropped"].get("late", 0),
        "dropped": json.dumps(probe["dropped"]),
        "cpu_s": report.processes["decode"].get("cpu_s"),
        "duration_s": report.duration_s,
    }


def _back(seen: dict[str, NDArray[np.int64]], back_ns: list[int]) -> dict[str, Any]:
    waits_ms = []
    for ns, next_ns in itertools.pairwise([*back_ns, 2**62]):
        later = seen["segments"][:, 1]
        waits_ms += ((later[(later > ns) & (later < next_ns)][:1] - ns) / 1e6).tolist()
    return {
        "outages": len(back_ns),
        "not_back": len(back_ns) - len(waits_ms),
        "back_p50_ms": float(np.median(waits_ms)) if waits_ms else None,
        "back_max_ms": float(max(waits_ms)) if waits_ms else None,
    }


def _show(c: dict[str, Any], rows: list[Row], console: Console) -> None:
    table = Table(title=f"{c['units']} units, away for {c['away_s']:g} s", box=None)
    columns = {
        "p50 us": "p50_us", "p99": "p99_us", "p99.9": "p999_us", "max": "max_us",
        "spikes": "spikes", "late": "late_spikes", "lost": "outages", "never back": "not_back",
        "back p50 ms": "back_p50_ms", "max ms": "back_max_ms",
    }  # fmt: skip
    table.add_column("", no_wrap=True, min_width=21)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        cells = [row[key] for key in columns.values()]
        shown = ["-" if cell is None else f"{cell:.0f}" for cell in cells]
        table.add_row(row["instrument"], *shown)
    console.print(table, soft_wrap=True)
    for row in rows:
        console.print(
            f"{row['instrument']}: to bins of 5 ms p50 {row['bins_p50_us']:.0f} us, p99"
            f" {row['bins_p99_us']:.0f} us; CPU {row['cpu_s']:.1f} s of {row['duration_s']:.0f} s;"
            f" dropped {row['dropped']}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
