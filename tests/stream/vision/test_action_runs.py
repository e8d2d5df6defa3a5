"""From a camera to the label of an action, in real processes, and what may go wrong on the way."""

from __future__ import annotations

import itertools
import json
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from stream.model_file import METADATA_KEY, Contract, Port, to_json
from stream.page.adding import settle_pages
from stream.pipeline import load_pipeline
from stream.vision.layouts import KINECT_20
from stream.vision.skeleton_files import SkeletonClip, save_clip
from stream.vision.video_file import VideoFile

ROOT = Path(__file__).parents[3]
CLASSES = ("upright", "background")


@pytest.fixture
def upright(tmp_path: Path) -> Path:
    """Write a model file that tells whether a person's head is above the hips."""
    weights = np.zeros((60, 2), np.float32)
    for joint, weight in (("head", 20), ("hip_center", -20)):
        weights[3 * KINECT_20.index(joint) + 1, 0] = weight
    value, kind = helper.make_tensor_value_info, TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["joints", "flat"], ["row"]),
            helper.make_node("MatMul", ["row", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=0),
        ],
        "upright", [value("joints", kind, [20, 3])], [value("probabilities", kind, [2])],
        [
            onnx.numpy_helper.from_array(np.array([60]), "flat"),
            onnx.numpy_helper.from_array(weights, "weights"),
        ],
    )  # fmt: skip
    fed = Port(
        name="joints", kind="skeleton", shape=(20, 3), axes=("joint", "axis"), unit="m",
        channels=("x", "y", "z"), period_s=0.1,
    )  # fmt: skip
    made = Port(
        name="probabilities", kind="probabilities", shape=(2,), axes=("class",), unit="",
        channels=CLASSES, period_s=0.1,
    )  # fmt: skip
    contract = Contract(
        name="upright", version="1", task="probabilities of actions", inputs=(fed,),
        outputs=(made,), threshold=0.8, preprocessing={"layout": "kinect-20"},
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: to_json(contract)})
    path = tmp_path / "upright.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def recogniser(model: Path, joints: str = "keys.kinect") -> dict[str, Any]:
    """Return the nodes between joints and labels, as in the shipped pipeline."""
    return {
        "ticks": {"use": "skeletons.resample", "from": joints, "group": "see"},
        "likely": {"use": "model", "from": "ticks", "file": str(model), "group": "see"},
        "doing": {"use": "actions", "from": "likely", "group": "see"},
    }


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """Write a video of these pictures, ten a second."""

    def write(pictures: Iterable[np.ndarray], name: str = "film.avi") -> Path:
        import cv2

        shown = list(pictures)
        height, width = shown[0].shape[:2]
        path = tmp_path / name
        out = cv2.VideoWriter(
            str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), 10, (width, height)
        )
        for picture in shown:
            out.write(picture)
        out.release()
        return path

    return write


@pytest.fixture
def look(start, upright, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run a video through the whole pipeline and return its report."""

    def run(video: Path, **more: Any) -> dict[str, Any]:
        process, report = start(
            camera={"use": "video", "file": str(video), **more},
            keys={
                "use": "keypoints", "group": "see",
                "from": {"stream": "camera", "deliver": "lossless"},
            },
            **recogniser(upright),
            saved={
                "use": "overlay", "file": str(tmp_path / "out.mp4"),
                "from": [{"stream": "camera", "deliver": "lossless"}, "keys", "doing"],
            },
        )  # fmt: skip
        output = process.communicate(timeout=100)[0]
        assert process.returncode == 0, output
        return json.loads(report.read_text())

    return run


def test_a_camera_that_stalls_changes_size_and_ends_still_leads_to_labels(
    wait_for, start, mjpeg_camera, *, portrait, upright, tmp_path
):
    import cv2

    person = cv2.resize(portrait, (256, 300))
    last = threading.Event()

    def script(connection: int) -> Iterable[Any]:
        # The first two connections are those of the look before the start and of the start itself.
        frames = itertools.cycle([person, lambda: camera.pause(0.05)])
        if connection == 1:
            yield from itertools.islice(frames, 80)
            yield from [np.zeros((120, 160, 3), np.uint8)] * 3
            yield from itertools.islice(frames, 20)
            yield lambda: camera.closing.wait(60)
        elif connection == 2:
            yield from itertools.islice(frames, 80)
        else:
            if connection > 2:
                yield from itertools.islice(frames, 80)
                last.set()
            yield from frames

    camera = mjpeg_camera(script)
    process, report = start(
        camera={"use": "camera", "device": camera.address, "rate": "20 Hz"},
        keys={"use": "keypoints", "from": "camera", "group": "see"},
        **recogniser(upright),
        saved={
            "use": "overlay", "from": ["camera", "keys", "doing"],
            "file": str(tmp_path / "out.mp4"),
        },
    )  # fmt: skip
    wait_for(last.is_set, process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    told = json.loads(report.read_text())
    source, keys, doing = (told["nodes"][name] for name in ("camera", "keys", "doing"))
    assert source["dropped"]["wrong_size"] == 3
    assert source["notes"]["outages"] == 2
    link = told["links"]["camera->keys"]
    assert source["packets_out"] == keys["packets_in"] + link["dropped"], "used or counted"
    assert doing["notes"]["begun"]["upright"] >= 3, "again after each outage"
    assert doing["notes"]["begin"] == 0.8, "as the model file says"
    frames = list(VideoFile(tmp_path / "out.mp4").frames())
    assert abs(len(frames) - told["nodes"]["saved"]["notes"]["frames_written"]) <= 1


def test_of_two_people_one_is_followed(look, film, portrait):
    two = np.hstack([portrait, portrait[:, ::-1]])
    told = look(film([two] * 25), speed="max")["nodes"]
    notes = told["keys"]["notes"]
    assert (notes["frames_without_person"], notes["persons"]) == (0, 1)
    assert told["doing"]["notes"]["begun"] == {"upright": 1}
    assert told["doing"]["packets_out"] == 25


def test_with_nobody_in_view_there_is_no_label_and_the_run_goes_on(look, film, portrait, tmp_path):
    told = look(film([np.zeros_like(portrait)] * 20), speed="max")["nodes"]
    assert told["keys"]["packets_in"] == 20
    assert told["keys"]["notes"]["frames_without_person"] == 20
    assert told["ticks"]["dropped"] == {"not_finite": 20}
    assert told["doing"]["packets_out"] == 0
    assert len(list(VideoFile(tmp_path / "out.mp4").frames())) == 20


def test_when_the_person_has_left_the_label_ends(look, film, portrait):
    told = look(film([portrait] * 10 + [np.zeros_like(portrait)] * 20))["nodes"]
    assert told["doing"]["packets_in"] == 10
    assert told["doing"]["packets_out"] == 11


def test_a_video_of_one_frame_gives_one_label(look, film, portrait, tmp_path):
    told = look(film([portrait]))["nodes"]
    assert told["doing"]["packets_out"] == 1
    assert len(list(VideoFile(tmp_path / "out.mp4").frames())) == 1


def test_sequences_of_one_frame_and_with_frames_of_nobody_are_labelled_where_they_can(
    start, upright, tmp_path
):
    folder = tmp_path / "clips"
    folder.mkdir()
    standing = np.zeros((30, 20, 3), np.float32)
    standing[:, KINECT_20.index("head"), 1] = 0.6
    hidden = standing.copy()
    hidden[10:14] = np.nan
    for name, joints in (("a", standing[:1]), ("b", hidden), ("c", standing)):
        clip = SkeletonClip(name, joints, KINECT_20, np.arange(len(joints)) / 10)
        save_clip(clip, folder / f"{name}.npz")
    process, report = start(
        people={"use": "skeletons.replay", "file": str(folder), "speed": "max", "group": "see"},
        **recogniser(upright, "people"),
    )
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    told = json.loads(report.read_text())["nodes"]
    assert told["ticks"]["dropped"] == {"not_finite": 4}
    assert told["doing"]["packets_out"] == 61, "what lies between frames is bridged"
    assert told["doing"]["notes"]["begun"] == {"upright": 3}


def test_a_sequence_without_frames_is_refused_before_the_start(start, upright, tmp_path):
    path = tmp_path / "empty.npz"
    save_clip(SkeletonClip("empty", np.zeros((0, 20, 3)), KINECT_20, np.zeros(0)), path)
    process, _ = start(
        people={"use": "skeletons.replay", "file": str(path)}, **recogniser(upright, "people")
    )
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert "at least one frame" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("name", ["camera-to-action", "video-to-action", "skeletons-to-actions"])
def test_the_shipped_pipelines_take_the_shipped_recogniser(name, write_video, tmp_path):
    """All as it is shipped, but for what comes in, which nobody else has."""
    path = ROOT / "configs" / f"{name}.yaml"
    pipeline = yaml.safe_load(path.read_text())
    nodes = pipeline["nodes"]
    if "person" in nodes:
        clip = SkeletonClip("one", np.zeros((2, 20, 3), np.float32), KINECT_20, np.arange(2) / 15)
        save_clip(clip, tmp_path / "one.npz")
        nodes["person"] |= {"file": str(tmp_path / "one.npz"), "pattern": "*"}
    else:
        nodes["camera"] = {"use": "video", "file": str(write_video())}
    nodes["likely"]["file"] = str((path.parent / nodes["likely"]["file"]).resolve())
    given = tmp_path / "p.yaml"
    given.write_text(yaml.safe_dump(pipeline))
    plan = load_pipeline(given)
    page = {"seen": "http://127.0.0.1:8765/"} if name == "camera-to-action" else {}
    assert settle_pages(plan)[1] == page, "the command says where to look"
    spec = plan.nodes["doing"].outputs[""]
    assert "sit down" in spec.names
    assert spec.meta["model"]["file"].endswith("models/zoo/nw-ucla-actions.onnx")
