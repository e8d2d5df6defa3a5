"""From a frame of a camera over a keyboard to the packet of its notes, all of it on one core."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks._one_core import bind_to_one_core
from benchmarks._results import JsonFile, show, write_result
from benchmarks._runs import run_pipeline

MODEL = Path(__file__).parents[1] / "models" / "zoo" / "piano.onnx"


def run(
    clips: Annotated[list[Path], typer.Argument(help="Videos of a keyboard from above.")],
    json_path: JsonFile = None,
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
    conditions = {"seconds": seconds, "cores": 1, "model": model.name}
    show(rows, console, "from frame to notes, one core")
    return write_result("frame-to-note", conditions, rows, json_path)


def _measure(clip: Path, folder: Path, seconds: float, model: Path) -> dict[str, Any]:
    nodes = {
        "camera": {"use": "video", "file": str(clip), "loop": True},
        "grid": {"use": "keyboard.find", "from": "camera"},
        "keys": {"use": "keyboard.rectify", "from": ["camera", "grid"], "group": "play"},
        "press": {"use": "model", "from": "keys", "file": str(model.resolve()), "group": "play"},
        "notes": {"use": "piano.notes", "from": ["press", "keys"], "group": "play"},
    }
    report = run_pipeline({"name": "frame-to-note", "nodes": nodes}, folder, seconds)
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
