"""From spike to published rate: MC_Maze at 1 kHz, 5 ms bins, a model, minutes on end."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks._results import JsonFile, Row, write_result
from benchmarks._runs import run_pipeline
from stream.errors import ConfigError
from stream.spikes.importing import import_files
from stream.spikes.mapping import load_mapping
from stream.spikes.nwb import write_recording
from stream.spikes.recording import Recording

ROOT = Path(__file__).parents[1]
TRIALS = ROOT.parent / "shared" / "data" / "spikes" / "mc_maze_trials"
MAPPING = ROOT / "configs" / "import" / "mc_maze_trials.yaml"
WIDTH_S = 0.005
COMPARED_S = 60.0
PIPELINE = """\
name: latency
realtime: [{realtime}]
nodes:
  probe: {{use: spikes.replay, file: maze.nwb, loop: true, group: {group}}}
  bins:  {{use: spikes.bin, from: probe, width: 5 ms, group: decode}}
  rates: {{use: model, from: bins, file: model.onnx, device: cpu, group: decode}}
  sink:  {{use: "benchmarks._audit:Audit", from: rates}}
"""
LAYOUTS = {
    "one process, real-time priority": {"group": "decode", "realtime": "decode, sink"},
    "one process": {"group": "decode", "realtime": ""},
    "source apart, real-time priority": {"group": "probe", "realtime": "probe, decode, sink"},
    "source apart": {"group": "probe", "realtime": ""},
}


def run(
    json_path: JsonFile = None,
    seconds: Annotated[
        float,
        typer.Option(help="How long to run; layouts to compare with take a minute at most."),
    ] = 600.0,
    model: Annotated[
        Path | None,
        typer.Option(help="Model file for these 182 units; by default an untrained STNDT."),
    ] = None,
    data: Annotated[
        Path, typer.Option(help="Folder with the trials as CSV files (from DANDI 000128).")
    ] = TRIALS,
) -> dict[str, Any]:
    """Measure the delay between a bin's edge and its rates, and check that no bin is missing.

    Two raw trials at 1 ms are replayed in a loop, one packet a millisecond on absolute deadlines.
    Delay counts from the deadline at which the last spike of a bin existed, so the replay's own
    lateness is part of it. A bin is late when it comes to the sink after the next one has ended.
    The sink is a process of its own; the source shares one with the bins and the model, or not.
    Time that the host took from this machine's processors (steal) is counted along.
    """
    console = Console()
    trials = sorted(data.glob("trial_*.csv"))
    if not trials:
        raise ConfigError(f"--data: {data} holds no trial_*.csv of MC_Maze.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        imported = import_files(trials, load_mapping(MAPPING))
        write_recording(imported.recording, folder / "maze.nwb", imported.session)
        if model is None:
            _write_untrained(imported.recording, folder / "model.onnx")
        else:
            os.symlink(model.resolve(), folder / "model.onnx")
        rows: list[dict[str, Any]] = []
        for layout, settings in LAYOUTS.items():
            duration_s = min(seconds, COMPARED_S) if rows else seconds
            with console.status(f"{layout}: {duration_s:g} s"):
                rows += _measure(folder, layout, settings, duration_s)
    conditions = {
        "units": len(imported.recording.units), "bin_ms": 5, "chunk_ms": 1,
        "model": model.name if model else "untrained STNDT, window 200, 4 layers, fp32",
    }  # fmt: skip
    _show(conditions, rows, console)
    return write_result("latency", conditions, rows, json_path)


def _measure(
    folder: Path, layout: str, settings: dict[str, str], duration_s: float
) -> list[dict[str, Any]]:
    stolen_ms = _stolen_ms()
    report = run_pipeline(PIPELINE.format(**settings), folder, duration_s, run_name=layout)
    stolen_ms = _stolen_ms() - stolen_ms
    about = {
        "layout": layout, "seconds": duration_s, "stolen_ms": stolen_ms,
        "realtime": report.processes["decode"].get("realtime", "not asked for"),
        **report.nodes["sink"]["notes"]["audit"],
        "dropped": sum(sum(node["dropped"].values()) for node in report.nodes.values()),
    }  # fmt: skip
    return [
        {**about, "from": "bin edge", "to": to, **report.end_to_end[link]}
        for to, link in (
            ("spikes sent", "probe->probe"),
            ("bin closed", "probe->bins"),
            ("rates published", "probe->rates"),
            ("rates at the sink", "probe->sink"),
        )
    ]


def _stolen_ms() -> int:
    """Return how long the host of a virtual machine has kept its processors since the start."""
    try:
        fields = Path("/proc/stat").read_text().split(maxsplit=9)
    except OSError:
        return 0
    return int(fields[8]) * 1000 // os.sysconf("SC_CLK_TCK")


def _write_untrained(recording: Recording, path: Path) -> None:
    """Write a streaming STNDT with random weights, which cost what trained ones do."""
    import numpy as np
    import torch

    from exporters.model_writer import write_model
    from exporters.stndt import streaming_step
    from exporters.verify import find_in_place
    from models.stndt.streaming import StreamingConfig, StreamingSTNDT
    from stream.model_file import Contract, Port

    torch.manual_seed(0)
    n = len(recording.units)
    config = StreamingConfig(
        n_in=n, n_out=n, window=200, layers=4, heads=2, head_width=n // 2, hidden=128
    )
    step = streaming_step(StreamingSTNDT(config).eval(), WIDTH_S)
    counts, rates = (
        Port(
            name=kind, kind=kind, shape=(n,), axes=("unit",), unit=unit, channels=recording.units,
            period_s=WIDTH_S,
        )
        for kind, unit in (("counts", "count"), ("rates", "Hz"))
    )  # fmt: skip
    contract = Contract(
        name="untrained-stndt", version="0", task="rates", inputs=(counts,), outputs=(rates,),
        states=step.states,
    )  # fmt: skip
    counted = np.random.default_rng(0).poisson(0.05, (300, n)).astype(np.float32)
    write_model(step.model, find_in_place(step, contract, counted), path)


def _show(c: dict[str, Any], rows: list[Row], console: Console) -> None:
    table = Table(title=f"{c['units']} units, {c['model']}", box=None)
    for column in ("from the bin edge to", "p50 us", "p99 us", "p99.9 us", "max us"):
        table.add_column(column, justify="left" if column.startswith("from") else "right")
    for number, row in enumerate(rows):
        if row["layout"] != rows[number - 1]["layout"]:
            table.add_section()
            table.add_row(
                f"[bold]{row['layout']}[/] ({row['realtime']}), {row['seconds']:g} s:"
                f" {row['bins']} bins, {row['lost']} lost, {row['doubled']} doubled,"
                f" {row['incomplete']} incomplete, {row['late']} late,"
                f" {row['stolen_ms']} ms stolen"
            )
        table.add_row(
            row["to"], *(f"{row[key]:.0f}" for key in ("p50_us", "p99_us", "p999_us", "max_us"))
        )
    console.print(table)
