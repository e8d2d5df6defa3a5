"""From a frame of a camera over a keyboard to the sample of its notes at the sound card."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from numpy.typing import NDArray
from rich.console import Console

from benchmarks._null_sink import NullSink, play_into
from benchmarks._results import JsonFile, show, write_result
from benchmarks._runs import run_pipeline
from benchmarks.note_to_sound import onsets
from stream.errors import ConfigError
from stream.runtime.report import Report

PIPELINE = Path(__file__).parents[1] / "configs" / "piano-to-sound.yaml"

INSTRUMENT = "Woodblock"
"""Of TimGM6mb it is audible 1 ms after a note begins and silent 0.12 s later, at every pitch."""

APART_NS = 200_000_000
"""Notes that begin sooner after others are left out: those may sound still, or only then."""

_SILENT_AT_END_S = 0.2
_LEFT_OUT = ("score", "saved")


def run(
    clip: Annotated[Path, typer.Argument(help="Video of a keyboard from above.")],
    json_path: JsonFile = None,
    seconds: Annotated[float, typer.Option(min=5.0, help="Length of each run.")] = 600.0,
    realtime: Annotated[
        bool,
        typer.Option(help="Ask for real-time priority of all, sound server too, but the finder."),
    ] = False,
    latency_ms: Annotated[
        list[float] | None,
        typer.Option("--latency", help="What the card keeps in store, ms; a run for each."),
    ] = None,
) -> dict[str, Any]:
    """Run configs/piano-to-sound.yaml on a clip that is looped and read its sound at the monitor.

    The delay counts from when a frame was due, so the lateness and the decoding of the source are
    part of it, to when this process had read the first audible sample of the notes that were seen
    in it, at the monitor of a null sink of PulseAudio. Music is many notes at a time, so these are
    played by a woodblock, which falls silent soon, and only those frames are used whose notes begin
    in silence, 0.2 s or more after any other.
    """
    if missing := NullSink.missing():
        raise ConfigError(
            f"this benchmark needs {', '.join(missing)}; on Debian and Ubuntu: apt install"
            " pulseaudio pulseaudio-utils libasound2-plugins libportaudio2."
        )
    console = Console()
    rows: list[dict[str, Any]] = []
    latencies: list[float | None] = [*latency_ms] if latency_ms else [None]
    for latency in latencies:
        with tempfile.TemporaryDirectory() as name, console.status(f"{seconds:g} s of {clip.name}"):
            rows.append(_measure(clip.resolve(), Path(name), seconds, realtime, latency))
    conditions = {
        "clip": clip.name, "seconds": seconds, "realtime": realtime, "instrument": INSTRUMENT
    }  # fmt: skip
    title = "from a frame that is due to the first sample of its notes"
    for columns in (list(rows[0])[:7], list(rows[0])[7:]):
        show(rows, console, title, columns=columns)
        title = ""
    return write_result("frame-to-sound", conditions, rows, json_path)


def _measure(
    clip: Path, folder: Path, seconds: float, realtime: bool, latency_ms: float | None
) -> dict[str, Any]:
    times = folder / "times.npy"
    with play_into(folder, realtime) as capture:
        report = run_pipeline(pipeline(clip, times, realtime, latency_ms), folder, seconds)
        # What is measured here is that this stretch stays silent.
        time.sleep(2 * _SILENT_AT_END_S)
        samples, read_ns = capture.close()
    return row_of(report, np.load(times), samples, read_ns)


def pipeline(clip: Path, times: Path, realtime: bool, latency_ms: float | None) -> dict[str, Any]:
    """Return the pipeline: that of the configuration without its files, and what keeps times."""
    nodes: dict[str, Any] = yaml.safe_load(PIPELINE.read_text())["nodes"]
    for name in _LEFT_OUT:
        del nodes[name]
    model = (PIPELINE.parent / nodes["press"]["file"]).resolve()
    nodes["camera"] |= {"file": str(clip), "loop": True}
    nodes["press"]["file"] = str(model)
    nodes["kept"] = {"use": "benchmarks._notes:Keeper", "from": "notes", "file": str(times)}
    nodes["sound"] = {"use": "synth", "from": "notes", "instrument": INSTRUMENT}
    if latency_ms is not None:
        nodes["sound"]["latency"] = f"{latency_ms:g} ms"
    priority = {"realtime": ["camera", "play", "sound"]} if realtime else {}
    return {"name": "frame-to-sound", "nodes": nodes, **priority}


def row_of(
    report: Report,
    noted_ns: NDArray[np.int64],
    samples: NDArray[np.int16],
    read_ns: NDArray[np.int64],
) -> dict[str, Any]:
    """Return what a run gave: `noted_ns` holds for each note when its frame was due."""
    seen_ns = np.unique(noted_ns)
    alone_ns = seen_ns[np.diff(seen_ns, prepend=seen_ns[:1] - APART_NS) >= APART_NS]
    delays_ms, unsilenced = onsets(alone_ns, samples, read_ns)
    end = samples[read_ns > read_ns[-1] - int(_SILENT_AT_END_S * 1e9)]
    told = report.nodes["sound"]["notes"]
    seen = report.end_to_end["camera->notes"]
    return {
        "notes": len(noted_ns), "frames_with_notes": len(seen_ns),
        "used": len(alone_ns) - unsilenced, "heard": len(delays_ms),
        **{
            f"{name}_ms": round(float(np.percentile(delays_ms, q)), 2)
            for name, q in (("p50", 50), ("p99", 99), ("max", 100))
            if len(delays_ms)
        },
        "underruns": told["underruns"], "underruns_at_ends": told.get("underruns_at_ends", 0),
        "stuck": told.get("released_at_end", 0),
        "silent_at_end": bool(len(end)) and not end.any(),
        "to_note_p50_ms": round(seen["p50_us"] / 1000, 2),
        "to_note_p99_ms": round(seen["p99_us"] / 1000, 2),
        "dropped_frames": report.links["camera->keys"]["dropped"],
        "card_latency_ms": told["sound_card_latency_ms"],
    }  # fmt: skip
