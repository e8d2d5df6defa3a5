"""From a frame of a camera over a keyboard to the packet of its notes, all of it on one core."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks._one_core import bind_to_one_core
from stream.errors import InnervateError
from stream.pipeline import load_pipeline
from stream.runtime.report import machine
from stream.runtime.supervisor import run_plan

MODEL = Path(__file__).parents[1] / "models" / "zoo" / "piano.onnx"


def run(
    clips: Annotated[list[Path], typer.Argument(help="Videos of a keyboard from above.")],
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
    seconds: Annotated[float, typer.Option(min=2.0, help="Length of the run of each clip.")] = 60.0,
    model: Annotated[Path, typer.Option(help="Piano network.")] = MODEL,
) -> dict[str, Any]:
    """Run the nodes of configs/piano-to-sound.yaml up to the notes, on clips that are looped.

    Delay counts from when a frame was due, so the lateness and the decoding of the source are part
    of it, to when its packet of notes left. Every process is bound to one core, the one that
    finds and follows the keyboard too.
    """
    bind_to_one_core()
    console = Console()
    rows: list[dict[str, Any]] = []
    for clip in clips:
        with tempfile.TemporaryDirectory() as name, console.status(f"{clip.name}: {seconds:g} s"):
            rows.append({"clip": clip.name, **_measure(clip.resolve(), Path(name), seconds, model)})
    result = {
        "name": "frame-to-note",
        "conditions": {"seconds": seconds, "cores": 1, "model": model.name, **machine()},
        "rows": rows,
    }
    _show(rows, console)
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=1))
    return result


def _measure(clip: Path, folder: Path, seconds: float, model: Path) -> dict[str, Any]:
    nodes = {
        "camera": {"use": "video", "file": str(clip), "loop": True},
        "grid": {"use": "keyboard.find", "from": "camera"},
        "keys": {"use": "keyboard.rectify", "from": ["camera", "grid"], "group": "play"},
        "press": {"use": "model", "from": "keys", "file": str(model.resolve()), "group": "play"},
        "notes": {"use": "piano.notes", "from": "press", "group": "play"},
    }
    path = folder / "frame-to-note.yaml"
    path.write_text(yaml.safe_dump({"name": "frame-to-note", "nodes": nodes}, sort_keys=False))
    report = run_plan(load_pipeline(path), duration_s=seconds, run_dir=folder / "run")
    if report.exit:
        raise InnervateError(report.message)
    times = report.end_to_end["camera->notes"]
    return {
        "frames": report.nodes["camera"]["packets_out"],
        "dropped": report.links["camera->keys"]["dropped"],
        "without_keyboard": report.nodes["keys"]["dropped"].get("no_keyboard", 0),
        "notes": report.nodes["notes"]["notes"].get("notes", 0),
        **{f"{key}_ms": times[f"{key}_us"] / 1000 for key in ("p50", "p99", "p999", "max")},
        # Loading the models is in there.
        "cpu_share": sum(p["cpu_s"] for p in report.processes.values()) / report.duration_s,
    }


def _show(rows: list[dict[str, Any]], console: Console) -> None:
    table = Table(title="from frame to notes, one core", box=None)
    columns = ("clip", "frames", "dropped", "no keyboard", "notes", "p50 ms", "p99 ms", "max ms")
    for column in columns:
        table.add_column(column, justify="left" if column == "clip" else "right")
    for row in rows:
        counts = ("frames", "dropped", "without_keyboard", "notes")
        delays = ("p50_ms", "p99_ms", "max_ms")
        table.add_row(
            row["clip"], *(str(row[key]) for key in counts), *(f"{row[key]:.1f}" for key in delays)
        )
    console.print(table)
