"""From a frame of a camera to the label of the action, all of it on one core."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from benchmarks._one_core import bind_to_one_core
from benchmarks._results import JsonFile, show, write_result
from benchmarks._runs import run_pipeline
from stream.vision.opencv import load_cv2
from stream.vision.video_file import VideoFile

CONFIGS = Path(__file__).parents[1] / "configs"
PIPELINE = CONFIGS / "video-to-action.yaml"
SIZE = (640, 480)
RATE_HZ = 30
COLUMNS = (
    "clip", "frames", "used", "dropped", "unaccounted", "without_person", "label_p50_ms",
    "label_p99_ms", "label_max_ms",
)  # fmt: skip


def run(
    clips: Annotated[list[Path], typer.Argument(help="Video files with a person.")],
    json_path: JsonFile = None,
    seconds: Annotated[float, typer.Option(min=2.0, help="Length of the run of each clip.")] = 60.0,
    model: Annotated[
        Path | None, typer.Option(help="Recogniser; by default that of video-to-action.yaml.")
    ] = None,
) -> dict[str, Any]:
    """Run configs/video-to-action.yaml, without its video, on clips made 640x480 at 30 frames/s.

    A clip is played forwards and backwards in turn, as motion JPEG, which is what most webcams
    send. Delay counts from when a frame was due, so the lateness and the decoding of the source are
    part of it, to when what was made of it left its node. Every process is bound to one core.
    """
    bind_to_one_core()
    console = Console()
    rows: list[dict[str, Any]] = []
    for clip in clips:
        with tempfile.TemporaryDirectory() as name, console.status(f"{clip.name}: {seconds:g} s"):
            film = Path(name) / "film.avi"
            write_film(clip, film, seconds)
            rows.append({"clip": clip.name, **_measure(film, Path(name), seconds, model)})
    conditions = {
        "size": "{}x{}".format(*SIZE), "rate_hz": RATE_HZ, "seconds": seconds, "cores": 1,
        "model": model.name if model else "shipped",
    }  # fmt: skip
    show(rows, console, "one core, 640x480 at 30 frames a second", columns=COLUMNS)
    return write_result("frame-to-label", conditions, rows, json_path)


def write_film(clip: Path, film: Path, seconds: float) -> None:
    """Write so many seconds of a clip, there and back again, at the size and rate of a webcam."""
    cv2 = load_cv2("This benchmark")
    count = round(seconds * RATE_HZ)
    frames = itertools.islice((frame for _, frame in VideoFile(clip).frames()), count)
    scaled = (cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA) for frame in frames)
    # Coded, since the frames of a minute would fill the memory.
    pictures = [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1] for frame in scaled]
    code = cv2.VideoWriter_fourcc(*"MJPG")
    out = cv2.VideoWriter(str(film), cv2.CAP_FFMPEG, code, RATE_HZ, SIZE)
    there_and_back = itertools.cycle([*pictures, *pictures[-2:0:-1]])
    for picture in itertools.islice(there_and_back, count):
        out.write(cv2.imdecode(picture, cv2.IMREAD_COLOR))
    out.release()


def _measure(film: Path, folder: Path, seconds: float, model: Path | None) -> dict[str, Any]:
    pipeline = yaml.safe_load(PIPELINE.read_text())
    nodes = pipeline["nodes"]
    del nodes["saved"]
    nodes["camera"]["file"] = str(film)
    shipped = CONFIGS / nodes["likely"]["file"]
    nodes["likely"]["file"] = str((model or shipped).resolve())
    report = run_pipeline(pipeline, folder, seconds + 10)
    sent = report.nodes["camera"]["packets_out"]
    used = report.nodes["keys"]["packets_in"]
    dropped = report.links["camera->keys"]["dropped"]
    row = {
        "frames": sent, "used": used, "dropped": dropped, "unaccounted": sent - used - dropped,
        "without_person": report.nodes["keys"]["notes"]["frames_without_person"],
        "labels": report.nodes["doing"]["packets_out"],
        # Loading the models is in there.
        "cpu_share": sum(p["cpu_s"] for p in report.processes.values()) / report.duration_s,
    }  # fmt: skip
    for to, name in (("joints", "keys"), ("label", "doing")):
        times = report.end_to_end[f"camera->{name}"]
        row |= {
            f"{to}_{key}_ms": times[f"{key}_us"] / 1000 for key in ("p50", "p99", "p999", "max")
        }
    return row
