"""Open Ephys: all channels of a probe, cables that are pulled, and a spike to its LSL marker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from benchmarks._one_core import bind_to_one_core
from benchmarks._open_ephys_parts import LSL_COMMAND
from benchmarks._results import JsonFile, show, write_result
from benchmarks._runs import run_pipeline
from stream.errors import ConfigError, InnervateError
from stream.runtime.report import Report
from stream.spikes.importing import import_files
from stream.spikes.mapping import load_mapping
from stream.spikes.nwb_write import write_recording

ROOT = Path(__file__).parents[1]
TRIALS = ROOT.parent / "shared" / "data" / "spikes" / "mc_maze_trials"
MAPPING = ROOT / "configs" / "import" / "mc_maze_trials.yaml"
sys.path.insert(0, str(ROOT / "tests" / "peers"))

RATE_HZ = 30_000
HELD_SAMPLES = 100
WIDTH_NS = 5_000_000
MATCH_NS = 1_000_000
PARTS = ("channels", "unplugged", "loop")


def run(  # noqa: PLR0917
    json_path: JsonFile = None,
    only: Annotated[
        str, typer.Option(help="Parts to run: channels, unplugged, loop; several with commas.")
    ] = ",".join(PARTS),
    seconds: Annotated[float, typer.Option(help="How long all channels are sent.")] = 60.0,
    channels: Annotated[int, typer.Option(help="How many they are.")] = 384,
    times: Annotated[
        int, typer.Option(help="How often the cable is pulled, and the GUI killed.")
    ] = 20,
    away: Annotated[float, typer.Option(help="For how many seconds.")] = 10.0,
    minutes: Annotated[float, typer.Option(help="How long spikes are sent to LSL.")] = 10.0,
    data: Annotated[
        Path, typer.Option(help="Folder with the trials as CSV files (from DANDI 000128).")
    ] = TRIALS,
) -> dict[str, Any]:
    """Run the source against the double of the ZMQ Interface, fed by two trials of MC_Maze.

    channels: 384 channels in bursts of 23 ms, taken as samples; the source and all behind it are
    bound to one core, with real-time priority, the double to another. unplugged: the double closes
    its sockets while its acquisition goes on, and is killed and started again; a return counts
    from when its sockets are there to the first packet. loop: spikes to bins of 5 ms, a rule on
    one unit, and its LSL marker in a process with nothing but pylsl; delays count from when the
    double began to send the block that completes the bin, and from its first channel, which is the
    moment that it is complete.
    """
    parts = only.split(",")
    if wrong := set(parts) - set(PARTS):
        raise ConfigError(f"--only: there is no '{wrong.pop()}'; there are {', '.join(PARTS)}.")
    trials = sorted(data.glob("trial_*.csv"))
    if not trials:
        raise ConfigError(f"--data: {data} holds no trial_*.csv of MC_Maze.")
    console = Console()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, console.status("") as status:
        bench = _Bench(Path(name))
        imported = import_files(trials, load_mapping(MAPPING))
        write_recording(imported.recording, bench.maze, imported.session)
        bench.units = len(imported.recording.units)
        if "unplugged" in parts:
            for how in ("cable pulled", "GUI killed"):
                status.update(f"{how} {times} times for {away:g} s")
                rows.append(bench.unplugged(how, times, away))
        if "loop" in parts:
            for realtime in (True, False):
                status.update(f"spikes to LSL, {minutes:g} min, real-time priority: {realtime}")
                rows += bench.loop(minutes * 60 if realtime else min(minutes, 1) * 60, realtime)
        if "channels" in parts:
            status.update(f"{channels} channels, {seconds:g} s")
            rows.append(bench.channels(channels, seconds))
    conditions = {"rate_hz": RATE_HZ, "block_ms": round(1024 / 44.1, 2)}
    show(rows, console, apart="part")
    return write_result("open-ephys", conditions, rows, json_path)


class _Bench:
    """The parts, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.maze = folder / "maze.nwb"
        self.units = 0

    def channels(self, channels: int, seconds: float) -> dict[str, Any]:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
        if len(cores) < 2:
            raise ConfigError("this benchmark needs two cores: one for the double.")
        gui = self._gui(channels=channels, core=cores[0])
        bind_to_one_core()
        try:
            before = gui.do("state")
            report = self._run(
                "channels", seconds, realtime=["g"],
                probe={"use": "openephys", "port": gui.port, "units": self._names(), "group": "g"},
                books={
                    "use": "benchmarks._open_ephys_parts:Books", "from": ["probe.samples", "probe"],
                    "group": "g",
                },
            )  # fmt: skip
            after = gui.do("state")
        finally:
            gui.stop()
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, cores)
        probe, books = report.nodes["probe"], report.nodes["books"]["notes"]["books"]
        samples = books["probe.samples"]
        took_s = (after["t_ns"] - before["t_ns"]) / 1e9
        return {
            "part": "channels", "channels": channels, "seconds": report.duration_s,
            "realtime": report.processes["g"].get("realtime", "not asked for"),
            "messages_per_s": round((after["sent"] - before["sent"]) / took_s),
            "blocks": samples["packets"],
            "blocks_per_s": round(samples["packets"] / report.duration_s, 2),
            "lost_messages": probe["dropped"].get("lost_messages", 0),
            "missing_samples": probe["notes"]["missing_samples"],
            "dropped": sum(probe["dropped"].values()),
            "cpu": round(report.processes["g"]["cpu_s"] / report.duration_s, 3),
            "cpu_double": round((after["cpu_s"] - before["cpu_s"]) / took_s, 3),
            "worst_block_late_ms": probe["notes"]["worst_block_late_ms"],
        }  # fmt: skip

    def unplugged(self, how: str, times: int, away_s: float) -> dict[str, Any]:
        from open_ephys_process import free_ports

        port = free_ports(4)
        gui = self._gui(channels=4, port=port)
        back_ns: list[int] = []

        def pull() -> None:
            nonlocal gui
            time.sleep(2)
            for _ in range(times):
                if how == "cable pulled":
                    gui.do(f"away {away_s}")
                    back_ns.append(gui.answer()["t_ns"])
                else:
                    gui.stop()
                    time.sleep(away_s)
                    gui = self._gui(channels=4, port=port)
                    back_ns.append(gui.state["t_ns"])
                time.sleep(2)

        puller = threading.Thread(target=pull)

        def follow(status: dict[str, Any]) -> bool:
            """Begin when the run has begun, and end it at the end."""
            if status["state"] == "running" and puller.ident is None:
                puller.start()
            return puller.ident is not None and not puller.is_alive()

        try:
            report = self._run(
                "unplugged", None, on_status=follow,
                probe={"use": "openephys", "port": port, "units": self._names(), "group": "g"},
                books={
                    "use": "benchmarks._open_ephys_parts:Books", "from": ["probe", "probe.samples"],
                    "group": "g",
                },
            )  # fmt: skip
        finally:
            gui.stop()
        notes = report.nodes["probe"]["notes"]
        book = report.nodes["books"]["notes"]["books"]["probe.samples"]
        took_s = [
            min((r[0] - back for r in book["returns"] if r[0] >= back), default=10**12) / 1e9
            for back in back_ns
        ]
        span = round((book["last_ns"] - book["first_ns"]) * RATE_HZ / 1e9)
        return {
            "part": "unplugged", "how": how, "times": times, "away_s": away_s,
            "returns": len(book["returns"]), "return_s_median": round(float(np.median(took_s)), 3),
            "return_s_worst": round(max(took_s), 3), "segments": notes.get("acquisitions", 1),
            "missing_samples": notes["missing_samples"],
            # Blocks of which a part was lost are missing too, and marked, but were sampled.
            "unaccounted_samples": span - book["rows"] - notes["missing_samples"]
            if how == "cable pulled" else None,
            "lost_messages": report.nodes["probe"]["dropped"].get("lost_messages", 0),
            "seconds": round(report.duration_s),
        }  # fmt: skip

    def loop(self, seconds: float, realtime: bool) -> list[dict[str, Any]]:
        from open_ephys_gui import Spikes

        log = self.folder / f"blocks-{realtime}.jsonl"
        gui = self._gui(channels=16, log=log)
        spikes = Spikes(self.maze, RATE_HZ, None, False)
        # The unit that comes closest to ten spikes a second.
        per_unit = np.bincount(spikes.owners, minlength=self.units) / (spikes.lap / RATE_HZ)
        unit = int(np.abs(per_unit - 10).argmin())
        watched = f"Electrode {unit + 1}"
        client: list[subprocess.Popen[str]] = []

        def listen() -> None:
            client.append(
                subprocess.Popen(
                    [*LSL_COMMAND, "open-ephys-loop.go"], text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                )
            )  # fmt: skip

        group = {"group": "decide"}
        try:
            report = self._run(
                "loop", seconds, at_start=listen, realtime=["decide"] if realtime else [],
                name="open-ephys-loop",
                probe={"use": "openephys", "port": gui.port, "units": self._names(), **group},
                bins={"use": "spikes.bin", "from": "probe", "width": "5 ms", **group},
                go={
                    "use": "trigger", "from": "bins", "armed": True, **group,
                    "rules": {"fires": {"channel": watched, "above": "0.5 count"}},
                },
                out={"use": "lsl", "from": "go", **group},
            )  # fmt: skip
        finally:
            gui.stop()
            came = json.loads(client[0].communicate()[0].partition("\n")[2]) if client else []
        firings = [
            json.loads(line)
            for line in (self.folder / "run-loop" / "go.firings.jsonl").read_text().splitlines()
        ]
        blocks = [json.loads(line) for line in log.read_text().splitlines()]
        about = {
            "seconds": report.duration_s,
            "realtime": report.processes["decide"].get("realtime", "not asked for"),
            "dropped": {
                f"{name} {reason}": count
                for name, node in report.nodes.items()
                for reason, count in node["dropped"].items()
            },
        }
        expected = partial(expected_firings, spikes.samples[spikes.owners == unit], spikes.lap)
        return [{"part": "loop", **about, **row} for row in delays(firings, came, blocks, expected)]

    def _gui(self, **options: Any) -> Any:
        from open_ephys_process import OpenEphysProcess, free_ports

        return OpenEphysProcess(self.maze, **{"port": free_ports(4), **options})

    def _names(self) -> list[str]:
        return [f"Electrode {unit + 1}" for unit in range(self.units)]

    def _run(
        self, part: str, seconds: float | None, *, at_start: Any = None, on_status: Any = None,
        realtime: Any = (), name: str = "open-ephys", **nodes: Any,
    ) -> Report:  # fmt: skip
        if at_start is not None:
            at_start()
        folder = self.folder / f"run-{part}"
        if folder.exists():
            folder.rename(self.folder / f"earlier-{time.monotonic_ns()}")
        pipeline = {"name": name, "nodes": nodes, "realtime": list(realtime)}
        return run_pipeline(
            pipeline, self.folder, seconds, run_name=folder.name, on_status=on_status
        )


def delays(
    firings: list[dict[str, Any]],
    came: list[list[Any]],
    blocks: list[dict[str, Any]],
    expected: Callable[[list[dict[str, Any]], int], int],
) -> list[dict[str, Any]]:
    """Compare when markers came with when the blocks were sent that complete their bins."""
    complete_ns = np.array([b["sample"] + b["n"] - HELD_SAMPLES for b in blocks]) * 1e9 / RATE_HZ
    block = np.searchsorted(complete_ns + 1, [f["source_ns"] for f in firings])
    markers = [m for m in came if m[2] == "fires"]
    matched = match(firings, [m[1] for m in markers])
    if not matched or len(matched) < len(markers):
        raise InnervateError(f"{len(markers)} markers came, {len(matched)} of them were fired.")
    rows = []
    for since, key in (("block begun", "t_ns"), ("block complete", "data_ns")):
        sent_ns = np.array([blocks[block[f]][key] for f in matched])
        delay_us = (np.array([m[0] for m in markers]) - sent_ns) / 1e3
        p50, p99, p999 = np.percentile(delay_us, [50, 99, 99.9])
        rows.append({
            # What was said before the client had come is not for it.
            "from": since, "markers": len(markers), "before_client": matched[0],
            "lost": expected(firings, matched[0]) - len(markers), "p50_us": round(p50),
            "p99_us": round(p99), "p999_us": round(p999), "max_us": round(delay_us.max()),
        })  # fmt: skip
    return rows


def match(firings: list[dict[str, Any]], stamps_ns: list[int]) -> list[int]:
    """Return for each marker, by its time stamp, which firing it is of; both are in order."""
    matched: list[int] = []
    number = 0
    for stamp_ns in stamps_ns:
        while number < len(firings):
            firing = firings[number]
            number += 1
            if abs(firing["t_ns"] - firing["age_ms"] * 1e6 - stamp_ns) < MATCH_NS:
                matched.append(number - 1)
                break
    return matched


def expected_firings(unit: np.ndarray, lap: int, firings: list[dict[str, Any]], first: int) -> int:
    """Return how often the rule should have fired from firing `first` on, by the spikes alone."""
    first_ns, last_ns = firings[first]["source_ns"], firings[-1]["source_ns"]
    laps = range(first_ns * RATE_HZ // 10**9 // lap, last_ns * RATE_HZ // 10**9 // lap + 1)
    samples = np.concatenate([unit + lap * number for number in laps])
    times_ns = np.round(samples * (1e9 / RATE_HZ)).astype(np.int64)
    bins = np.unique((times_ns - first_ns) // WIDTH_NS)
    # A spike in each of two bins in a row is one firing.
    begins = bins[np.diff(bins, prepend=bins[0] - 2) > 1]
    return int(((begins >= -1) & (begins <= (last_ns - first_ns) // WIDTH_NS - 1)).sum())
