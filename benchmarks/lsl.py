"""Lab Streaming Layer in and out, against bare pylsl in the same run; and senders that vanish."""

from __future__ import annotations

import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks._results import JsonFile, write_result
from stream.errors import InnervateError
from stream.instruments.lsl.liblsl import load_pylsl
from stream.pipeline import load_pipeline
from stream.runtime.report import Report
from stream.runtime.supervisor import run_plan

_PARTS = [sys.executable, "-m", "benchmarks._lsl_parts"]
CHANNELS, RATE_HZ = 192, 1000.0
_WARM_UP_S = 1.0
_PATIENCE_S = 60.0


def run(
    json_path: JsonFile = None,
    rounds: Annotated[int, typer.Option(min=0, help="Rounds of each, taken in turn.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of a round.")] = 10.0,
    outages: Annotated[int, typer.Option(min=0, help="How often the sender is killed.")] = 20,
    away: Annotated[float, typer.Option(help="Seconds for which it stays away.")] = 10.0,
) -> dict[str, Any]:
    """Measure how long a sample takes from one process to another over LSL.

    `bare` is an outlet and an inlet of pylsl in two processes; `ours` has the node `lsl` in place
    of the one and `lsl.in` in place of the other, each in a run of its own; then each alone. Of a
    relay, which takes a stream and offers it again, the whole way through is measured. Samples are
    sent on absolute deadlines and carry the time of sending. Rounds take turns; figures are medians
    over the rounds, ratios ours by bare.

    Then a sender that stamps its samples exactly is killed and started again, and `lsl.in` has to
    find it: how long that takes from when the new sender is there, whether the gap it tells is what
    is missing, whether the clock of the source went on by as much, and whether a segment began.
    """
    load_pylsl()
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        isolate(folder)
        bench = _Bench(folder, seconds)
        ways: dict[str, Callable[[], list[int]]] = {
            "bare": bench.bare, "ours": bench.ours, "lsl.in alone": bench.into,
            "lsl alone": bench.out_of, "bare relay": bench.bare_relay, "our relay": bench.our_relay,
        }  # fmt: skip
        taken: dict[str, list[list[int]]] = {way: [] for way in ways}
        with console.status("") as status:
            for number in range(rounds):
                for way, measure in ways.items():
                    status.update(f"{way}, round {number + 1} of {rounds}")
                    taken[way].append(measure()[round(_WARM_UP_S * RATE_HZ) :])
            rows = [_row(way, taken) for way in ways] if rounds else []
            if outages:
                status.update(f"{outages} outages of {away:g} s")
                rows += bench.unplug(outages, away)
    conditions = {
        "channels": CHANNELS, "rate_hz": RATE_HZ, "rounds": rounds, "seconds": seconds,
        "pylsl": "pull_chunk into numpy, one sample a push", "load": os.getloadavg()[0],
    }  # fmt: skip
    result = write_result("lsl", conditions, rows, json_path)
    _show(result, console)
    return result


def isolate(folder: Path) -> None:
    """Keep the streams of this process, and of those that it starts, to this machine and itself.

    It has to come before liblsl is first used.
    """
    path = folder / "lsl_api.cfg"
    path.write_text(
        "[multicast]\nResolveScope = machine\n"
        f"[lab]\nKnownPeers = {{127.0.0.1}}\nSessionID = {secrets.token_hex(8)}\n"
        "[log]\nlevel = -3\n"
    )
    os.environ["LSLAPICFG"] = str(path)


class _Bench:
    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds + _WARM_UP_S
        self._stream = (str(CHANNELS), str(RATE_HZ))
        self._beacon = {
            "use": "benchmarks._lsl_parts:Beacon", "channels": CHANNELS, "rate_hz": RATE_HZ,
            "group": "loop",
        }  # fmt: skip
        self._number = 0

    def bare(self) -> list[int]:
        with self._part("send", "bare", *self._stream):
            return self._received("bare")

    def ours(self) -> list[int]:
        with self._offered():
            return self._watched("offer.beacon")

    def into(self) -> list[int]:
        with self._part("send", "into", *self._stream):
            return self._watched("into")

    def out_of(self) -> list[int]:
        with self._offered():
            return self._received("offer.beacon")

    def bare_relay(self) -> list[int]:
        with self._part("send", "first", *self._stream), self._part("relay", "first", "second"):
            return self._received("second")

    def our_relay(self) -> list[int]:
        nodes = {
            "first": {"use": "lsl.in", "name": "first", "group": "loop"},
            "out": {"use": "lsl", "from": "first", "group": "loop"},
        }
        with self._part("send", "first", *self._stream), self._run("relay", nodes):
            return self._received("relay.first")

    def unplug(self, outages: int, away_s: float) -> list[dict[str, Any]]:
        """Kill a sender again and again while a run listens to it."""
        base_ns = time.monotonic_ns()
        file = self._folder / "returns"
        nodes = {
            "probe": {"use": "lsl.in", "name": "plug", "kind": "counts", "group": "loop"},
            "seen": {
                "use": "benchmarks._lsl_parts:Returns", "from": "probe", "file": str(file),
                "group": "loop",
            },
        }  # fmt: skip
        sender = self._start("count", "plug", *self._stream, str(base_ns))
        rows = []
        with self._run("plug", nodes):
            _until(lambda: len(_lines(file)) == 1)
            for number in range(outages):
                # The second of undisturbed play before each outage.
                time.sleep(1.0)
                sender.kill()
                sender.wait()
                time.sleep(away_s)
                before = json.loads(_lines(file)[-1])
                sender, ready_ns = self._counted(base_ns)
                _until(lambda n=number: len(_lines(file)) == n + 2)
                line = json.loads(_lines(file)[-1])
                rows.append(
                    {
                        "way": "outage", "away_s": away_s,
                        "back_in_ms": round((line["now_ns"] - ready_ns) / 1e6, 1),
                        "missing": line["missing"], "counted": line["gap"],
                        "clock_samples": line["clock_samples"],
                        "segments": line["segment"] - before["segment"],
                    }
                )  # fmt: skip
        sender.kill()
        return rows

    def _counted(self, base_ns: int) -> tuple[subprocess.Popen[str], int]:
        sender = subprocess.Popen(
            [*_PARTS, "count", "plug", *self._stream, str(base_ns)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert sender.stdout is not None
        return sender, int(sender.stdout.readline())

    def _offered(self) -> Any:
        return self._run(
            "offer",
            {
                "beacon": self._beacon,
                "out": {"use": "lsl", "from": "beacon", "group": "loop"},
            },
        )

    def _watched(self, stream: str) -> list[int]:
        nodes = {
            "probe": {"use": "lsl.in", "name": stream, "group": "loop"},
            "watch": {
                "use": "benchmarks._lsl_parts:Stopwatch", "from": "probe", "group": "loop",
            },
        }  # fmt: skip
        load_pylsl().resolve_byprop("name", stream, 1, _PATIENCE_S)
        plan = load_pipeline(self._pipeline("watch", nodes))
        report: Report = run_plan(plan, duration_s=self._seconds, run_dir=self._run_dir())
        if report.exit:
            raise InnervateError(report.message)
        return list(report.nodes["watch"]["notes"]["took_ns"])

    def _received(self, stream: str) -> list[int]:
        done = subprocess.run(
            [*_PARTS, "receive", stream, str(self._seconds)], stdout=subprocess.PIPE, text=True,
            check=True,
        )  # fmt: skip
        return list(json.loads(done.stdout.splitlines()[-1]))

    def _pipeline(self, name: str, nodes: dict[str, Any]) -> Path:
        path = self._folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"name": name, "nodes": nodes}))
        return path

    def _run_dir(self) -> Path:
        self._number += 1
        return self._folder / f"run-{self._number}"

    def _run(self, name: str, nodes: dict[str, Any]) -> Any:
        path = self._pipeline(name, nodes)
        return self._part("run", str(path), str(self._run_dir()), stop=signal.SIGTERM)

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([*_PARTS, *arguments], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise InnervateError(f"{arguments[0]} of the benchmark ended at once.")
        return process

    @contextmanager
    def _part(self, *arguments: str, stop: int = signal.SIGKILL) -> Iterator[None]:
        process = self._start(*arguments)
        try:
            yield
        finally:
            process.send_signal(stop)
            process.wait()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > end_s:
            raise InnervateError("a stream did not come back within a minute.")
        time.sleep(0.01)


def _row(way: str, taken: dict[str, list[list[int]]]) -> dict[str, Any]:
    row: dict[str, Any] = {"way": way, "samples": sum(map(len, taken[way]))}
    against = "bare relay" if "relay" in way else "bare"
    for key, q in (("p50", 50), ("p99", 99)):
        values, bare = (
            [float(np.percentile(taken_, q)) / 1e3 for taken_ in taken[w]] for w in (way, against)
        )
        row[f"{key}_us"] = round(statistics.median(values), 1)
        row[f"{key}_us_range"] = f"{min(values):.0f} to {max(values):.0f}"
        row[f"{key}_ratio"] = round(statistics.median(values) / statistics.median(bare), 3)
    return row


def _show(result: dict[str, Any], console: Console) -> None:
    c = result["conditions"]
    table = Table(title=f"{c['channels']} channels at {c['rate_hz']:g} Hz, us (range)", box=None)
    for column in ("", "p50", "ratio", "p99", "ratio", "samples"):
        table.add_column(column, justify="right" if column else "left")
    back = [row for row in result["rows"] if row["way"] == "outage"]
    for row in result["rows"]:
        if row["way"] != "outage":
            cells = [
                cell
                for key in ("p50", "p99")
                for cell in (
                    f"{row[f'{key}_us']:.0f} ({row[f'{key}_us_range']})",
                    f"{row[f'{key}_ratio']:.2f}",
                )
            ]
            table.add_row(row["way"], *cells, str(row["samples"]))
    if table.rows:
        console.print(table)
    if back:
        ms = [row["back_in_ms"] for row in back]
        said = {
            "back within 1 s": lambda row: row["back_in_ms"] <= 1000,
            "gap counted to the sample": lambda row: row["counted"] == row["missing"],
            "clock of the source went on by the gap": lambda row: (
                row["clock_samples"] == row["missing"]
            ),
            "a segment begun": lambda row: row["segments"] == 1,
        }
        console.print(
            f"{len(back)} outages of {back[0]['away_s']:g} s: back {min(ms):.0f} to"
            f" {max(ms):.0f} ms after the sender"
        )
        for what, holds in said.items():
            console.print(f"  {what}: {sum(map(holds, back))} of {len(back)}")
