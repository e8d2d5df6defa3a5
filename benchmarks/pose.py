"""What finding joints costs: a frame on one core, and from a frame to its joints in a live run."""

from __future__ import annotations

import gc
import itertools
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from benchmarks._results import JsonFile, show, write_result
from benchmarks._runs import run_pipeline
from stream.node import Context
from stream.vision.frames import frame_packet, frame_spec
from stream.vision.keypoints import Keypoints, KeypointsSettings
from stream.vision.video_file import VideoFile

FOUND = {
    "pose": {},
    "hands": {"pose": False, "hands": True},
    "pose and hands": {"hands": True},
}


def run(
    clips: Annotated[list[Path], typer.Argument(help="Video files.")],
    json_path: JsonFile = None,
    frames: Annotated[int, typer.Option(help="Frames of each clip.")] = 100,
    seconds: Annotated[float, typer.Option(help="Seconds of each live run; 0 for none.")] = 8.0,
) -> dict[str, Any]:
    """Time the `keypoints` node alone on one core, then in a run beside the video it looks at."""
    rows = []
    # The live runs first: what is pinned to one core stays there.
    for clip in clips if seconds else ():
        rows += _live(clip, seconds)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for clip in clips:
        rows += _alone(clip, frames)
    conditions = {
        "frames": frames, "seconds": seconds, "python": platform.python_version(),
        "numpy": np.__version__,
    }  # fmt: skip
    show(rows, Console())
    return write_result("pose", conditions, rows, json_path)


def _alone(clip: Path, count: int) -> list[dict[str, Any]]:
    video = VideoFile(clip)
    pictures = list(itertools.islice(video.frames(), count))
    height, width = video.info.height, video.info.width
    spec = frame_spec(height, width, video.info.period_s, {})
    rows = []
    for what, settings in FOUND.items():
        node = Keypoints(KeypointsSettings(**settings))
        node.open(Context("keys", {"clip": spec}, Path()))
        gc.collect()
        gc.disable()
        spent_ms, seen = [], 0
        for time_ns, picture in pictures:
            packet = frame_packet(picture, 0, time_ns, 0)
            start_ns = time.perf_counter_ns()
            made = list(node.process("clip", packet))
            spent_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
            seen += bool(
                np.isfinite(made[0].data).any(axis=-1).any() and made[0].data[..., 2].any()
            )
        gc.enable()
        node.close()
        p50, p99 = np.percentile(spent_ms, (50, 99))
        rows.append(
            {
                "clip": clip.name, "where": "alone", "found": what, "size": f"{width}x{height}",
                "frames": len(spent_ms), "with_somebody": seen, "p50_ms": float(p50),
                "p99_ms": float(p99), "max_ms": max(spent_ms),
            }
        )  # fmt: skip
    return rows


def _live(clip: Path, seconds: float) -> list[dict[str, Any]]:
    """Play a clip at its own rate and take the latencies from the report of the run."""
    info = VideoFile(clip).info
    rows = []
    for what in ("pose", "pose and hands"):
        nodes = {
            "clip": {"use": "video", "file": str(clip.resolve()), "loop": True},
            "keys": {"use": "keypoints", "from": "clip", **FOUND[what]},
        }
        with tempfile.TemporaryDirectory() as folder:
            report = run_pipeline({"name": "pose", "nodes": nodes}, Path(folder), seconds)
        times = report.end_to_end["clip->keys"]
        rows.append(
            {
                "clip": clip.name, "where": "live", "found": what,
                "size": f"{info.width}x{info.height}", "frames": times["packets"],
                "dropped": report.links["clip->keys"]["dropped"],
                "p50_ms": times["p50_us"] / 1000, "p99_ms": times["p99_us"] / 1000,
                "max_ms": times["max_us"] / 1000, "rate_hz": round(info.rate_hz, 2),
            }
        )  # fmt: skip
    return rows
