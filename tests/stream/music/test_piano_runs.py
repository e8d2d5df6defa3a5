"""From a silent video of a piano to MIDI, sound and a video of it, in real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import wave
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml

from models.audeo.rendering.clip import film
from models.audeo.rendering.looks import draw_look
from models.audeo.rendering.performance import Press, Written, perform
from stream.units import to_ns
from stream.vision.video_file import VideoFile
from stream.vision.video_writer import VideoWriter

ROOT = Path(__file__).parents[3]
STILL_S, LENGTH_S = 3.0, 8.0
COMMAND = "from stream.commands import main; main()"

pytestmark = pytest.mark.skipif(
    os.environ.get("CI") != "true" and not (find_spec("cv2") and find_spec("pretty_midi")),
    reason="needs the extras 'vision' and 'audio'",
)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory) -> tuple[Path, list[Press]]:
    """A film in which nobody plays for three seconds, and then somebody does."""
    rng = np.random.default_rng(0)
    look = replace(
        draw_look(rng, "digital"), rate_hz=30.0, gain=1.0, camera_height=45.0, camera_y=5.0,
        camera_u=26.0, noise=1.0, gradient_u=0.0, gradient_y=0.0,
    )  # fmt: skip
    notes = [
        Written(pitch, 0.5 * i, 0.4, 1)
        for i, pitch in enumerate((72, 76, 79, 84, 83, 79, 77, 74, 72, 71))
    ]
    presses = [
        replace(p, bottom_s=p.bottom_s + STILL_S, release_s=p.release_s + STILL_S)
        for p in perform(rng, notes, 0.9, LENGTH_S)
    ]
    frames, _ = film(rng, look, presses, size=(960, 540), length_s=LENGTH_S)
    path = tmp_path_factory.mktemp("film") / "clip.mp4"
    video = VideoWriter(path, (960, 540), 30.0)
    for number, frame in enumerate(frames):
        video.write(frame, to_ns(number / 30))
    video.close()
    return path, presses


def run(
    folder: Path, clip: Path, *options: str, other: dict | None = None
) -> tuple[subprocess.CompletedProcess[str], dict]:
    """Run configs/piano-to-sound.yaml on a clip; with `other` nodes, without sound and picture."""
    pipeline = yaml.safe_load((ROOT / "configs" / "piano-to-sound.yaml").read_text())
    nodes = pipeline["nodes"]
    nodes |= other or {}
    nodes["camera"]["file"] = str(clip)
    nodes["press"]["file"] = str(ROOT / "models" / "zoo" / "piano.onnx")
    nodes["score"]["file"] = str(folder / "piano.mid")
    nodes["sound"]["file"] = str(folder / "piano.wav")
    nodes["saved"]["file"] = str(folder / "piano.mp4")
    if other:
        del nodes["sound"], nodes["saved"]
    path = folder / "p.yaml"
    path.write_text(yaml.safe_dump(pipeline))
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "run", str(path), "--report", str(folder / "r.json"),
         *options], capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    report = folder / "r.json"
    return done, json.loads(report.read_text()) if report.exists() else {}


def test_a_silent_film_is_heard(filmed, tmp_path) -> None:
    from models.audeo.notes import Note, Truth, in_order, read_midi
    from models.audeo.scores import match

    clip, presses = filmed
    done, report = run(tmp_path, clip)
    assert done.returncode == 0, done.stdout + done.stderr
    found = read_midi(tmp_path / "piano.mid")
    truth = Truth(in_order(Note(p.pitch, p.bottom_s, p.release_s) for p in presses))
    assert match(found, truth, 0.1).score.f1 > 0.7
    with wave.open(str(tmp_path / "piano.wav")) as sound:
        rate, samples = sound.getframerate(), sound.readframes(sound.getnframes())
    heard = np.frombuffer(samples, np.int16).reshape(-1, 2)
    begins_s = found[0].onset_s
    assert np.abs(heard[: int(rate * begins_s)]).max() == 0
    assert np.abs(heard[int(rate * begins_s) : int(rate * (begins_s + 0.1))]).max() > 500
    drawn = [frame for _, frame in VideoFile(tmp_path / "piano.mp4").frames()]
    assert drawn[0].shape[0] > 540
    nodes = report["nodes"]
    assert nodes["notes"]["packets_out"] >= nodes["keys"]["packets_out"] > 0
    assert report["models"]["press"]["providers"] == ["CPUExecutionProvider"]


def test_where_nobody_waits_every_frame_is_looked_at(filmed, tmp_path) -> None:
    page = (ROOT / "docs" / "piano.md").read_text(encoding="utf-8")
    (lines,) = (block for block in page.split("```yaml\n") if block.startswith("  camera: {use: v"))
    done, report = run(tmp_path, filmed[0], other=yaml.safe_load(lines.partition("```")[0]))
    assert done.returncode == 0, done.stdout + done.stderr
    nodes = report["nodes"]
    assert nodes["grid"]["packets_in"] == nodes["camera"]["packets_out"] == 30 * LENGTH_S
    lost = nodes["keys"]["dropped"].get("no_keyboard", 0)
    assert nodes["keys"]["packets_out"] == 30 * LENGTH_S - lost
    assert lost < 30, "those of the first search and what the link holds"


def test_a_film_without_a_keyboard_is_silent_and_the_report_says_why(tmp_path) -> None:
    rng = np.random.default_rng(0)
    video = VideoWriter(tmp_path / "clip.mp4", (320, 240), 30.0)
    for number in range(45):
        video.write(rng.integers(0, 256, (240, 320, 3)).astype(np.uint8), to_ns(number / 30))
    video.close()
    done, report = run(tmp_path, tmp_path / "clip.mp4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["nodes"]["keys"]["dropped"]["no_keyboard"] > 0
    assert "'keys' gave nothing: no keyboard was found, frames looked at: 4" in done.stdout
    assert report["nodes"]["notes"]["packets_out"] == 0
