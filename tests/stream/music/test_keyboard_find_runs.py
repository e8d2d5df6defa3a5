"""keyboard.find in real processes, and the command that shows what it finds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from keyboard_pictures import keyboard, seen

from stream.pipeline import load_pipeline
from stream.runtime.supervisor import run_plan

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "piano.mp4"
    drawn = seen(keyboard(), size=(640, 360), blur=0.4)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, (640, 360))
    for _ in range(45):
        writer.write(drawn.picture)
    writer.release()
    return path


def test_a_keyboard_in_a_video_is_found_while_it_plays(clip, tmp_path):
    path = tmp_path / "p.yaml"
    nodes = {
        "clip": {"use": "video", "file": str(clip), "speed": "max"},
        "grid": {
            "use": "stream.music.finder.find:KeyboardFind",
            "from": {"stream": "clip", "deliver": "lossless"},
        },
    }
    path.write_text(yaml.safe_dump({"name": "p", "nodes": nodes}))
    report = run_plan(load_pipeline(path), run_dir=tmp_path / "run")
    assert report.exit == 0, report.message
    grid = report.nodes["grid"]
    assert grid["packets_in"] == grid["packets_out"] == 45
    assert (grid["notes"]["found"], grid["notes"]["lost"]) == (1, 0)
    assert grid["notes"]["octave"] == "seen"
    assert Path(grid["notes"]["picture"]).is_file()


def ask(*arguments):
    code = "import typer; from stream.commands.keyboard import keyboard; typer.run(keyboard)"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def test_the_command_says_what_is_in_view_and_draws_it(clip, tmp_path):
    out = tmp_path / "keys.png"
    done = ask(clip, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "88 keys in view, A0 to C8, of a keyboard of 88" in done.stdout
    assert "octave seen" in done.stdout
    assert "corners: [[" in done.stdout
    assert cv2.imread(str(out)).shape == (360, 640, 3)


def test_the_command_says_that_there_is_no_keyboard(tmp_path):
    picture = tmp_path / "bare.png"
    cv2.imwrite(str(picture), np.full((360, 640, 3), 90, np.uint8))
    done = ask(picture)
    assert done.returncode == 1
    assert "no keyboard" in done.stdout


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    picture = tmp_path / "text.png"
    picture.write_text("no picture")
    done = ask(picture)
    assert done.returncode != 0
    assert "cannot be read as a picture" in done.stderr + done.stdout
