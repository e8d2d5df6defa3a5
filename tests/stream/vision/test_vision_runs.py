"""Cameras, videos and overlays in real processes."""

from __future__ import annotations

import itertools
import json
import signal
import time
from pathlib import Path

import pytest
import yaml
from vision_doubles import number_of, numbered

from stream.pipeline import load_pipeline
from stream.vision.video_file import VideoFile

ROOT = Path(__file__).parents[3]


def test_every_frame_of_a_video_reaches_a_video_with_its_joints(start, write_video, tmp_path):
    process, report = start(
        clip={"use": "video", "file": str(write_video(frames=20)), "speed": "max"},
        keys={"use": "keypoints", "from": {"stream": "clip", "deliver": "lossless"}},
        shown={
            "use": "overlay",
            "from": [{"stream": "clip", "deliver": "lossless"}, "keys"],
            "file": str(tmp_path / "out.mp4"),
        },
    )
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 0, output
    told = json.loads(report.read_text())
    assert told["nodes"]["keys"]["packets_in"] == 20
    assert told["nodes"]["keys"]["packets_out"] == 60
    frames = [frame for _, frame in VideoFile(tmp_path / "out.mp4").frames()]
    assert [number_of(frame[:120]) for frame in frames] == list(range(20))


def test_frames_go_by_latest_unless_told_otherwise(write_video, tmp_path):
    path = tmp_path / "p.yaml"
    nodes = {
        "clip": {"use": "video", "file": str(write_video())},
        "keys": {"use": "keypoints", "from": "clip"},
        "shown": {"use": "overlay", "from": ["clip", "keys"]},
    }
    path.write_text(yaml.safe_dump({"name": "p", "nodes": nodes}))
    policies = {link.name: link.delivery.policy for link in load_pipeline(path).links}
    assert policies == {"clip->keys": "latest", "clip->shown": "latest", "keys->shown": "lossless"}


def test_frames_that_a_slow_node_cannot_take_are_dropped_and_counted(start, write_video):
    process, report = start(
        clip={"use": "video", "file": str(write_video(frames=100)), "speed": "max"},
        keys={"use": "keypoints", "from": "clip"},
    )
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 0, output
    link = json.loads(report.read_text())["links"]["clip->keys"]
    assert link["packets"] + link["dropped"] == 100
    assert link["lost"] == 0


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_ctrl_c_leaves_a_video_that_can_be_read(wait_for, start, mjpeg_camera, tmp_path, ending):
    def script(_):
        for number in itertools.count():
            yield numbered(number % 256)
            yield camera.pause

    camera = mjpeg_camera(script)
    file = tmp_path / f"out{ending}"
    process, report = start(
        camera={"use": "camera", "device": camera.address, "rate": "50 Hz"},
        shown={"use": "overlay", "from": "camera", "file": str(file)},
    )
    wait_for(lambda: file.exists() and camera.connections >= 2, process)
    sent = time.monotonic() + 1.0
    wait_for(lambda: time.monotonic() > sent, process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    notes = json.loads(report.read_text())["nodes"]["shown"]["notes"]
    frames = list(VideoFile(file).frames())
    assert abs(len(frames) - notes["frames_written"]) <= 1
    assert str(file) in output


def test_an_mkv_is_readable_after_a_kill(wait_for, start, mjpeg_camera, tmp_path):
    def script(_):
        for number in itertools.count():
            yield numbered(number % 256, (640, 480))
            yield lambda: camera.pause(0.005)

    camera = mjpeg_camera(script)
    file = tmp_path / "out.mkv"
    process, _ = start(
        camera={"use": "camera", "device": camera.address, "rate": "100 Hz"},
        shown={"use": "overlay", "from": "camera", "file": str(file)},
    )
    wait_for(lambda: file.exists() and file.stat().st_size > 100_000, process)
    process.kill()
    process.wait()
    assert VideoFile(file).info.width == 640


def test_a_camera_that_is_not_there_is_refused_before_anything_starts(start):
    process, report = start(
        camera={"use": "camera", "device": 63}, keys={"use": "keypoints", "from": "camera"}
    )
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert "camera 63 cannot be opened: it is not there" in output
    assert "Traceback" not in output
    assert not report.exists()


def test_a_video_that_breaks_off_ends_the_run_with_what_and_why(start, write_video, tmp_path):
    path = write_video("cut.avi", frames=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    file = tmp_path / "out.mp4"
    process, _ = start(
        clip={"use": "video", "file": str(path), "speed": "max"},
        shown={
            "use": "overlay", "from": {"stream": "clip", "deliver": "lossless"}, "file": str(file)
        },
    )  # fmt: skip
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1, output
    assert "announces 60 frames, but only" in output
    assert len(list(VideoFile(file).frames())) > 10, "what could be read was written"


def test_the_shipped_pipeline_is_valid_with_a_video_in_place_of_the_camera(write_video, tmp_path):
    text = (ROOT / "configs" / "camera-to-keypoints.yaml").read_text()
    pipeline = yaml.safe_load(text)
    pipeline["nodes"]["camera"] = {"use": "video", "file": str(write_video()), "loop": True}
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(pipeline))
    assert set(load_pipeline(path).nodes) == {"camera", "keys", "shown"}
