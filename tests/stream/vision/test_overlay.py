import dataclasses
import itertools
import socket
import threading
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from vision_doubles import number_of, numbered

from stream.errors import ConfigError, RecordingError
from stream.node import Context, StreamSpec
from stream.packet import Packet
from stream.vision.drawing import Found, Painter, Scene
from stream.vision.frames import frame_packet, frame_spec
from stream.vision.layers import best
from stream.vision.layouts import HAND_21, MEDIAPIPE_33
from stream.vision.overlay import Overlay, OverlaySettings
from stream.vision.page import PictureServer
from stream.vision.video_file import VideoFile
from stream.vision.video_writer import VideoWriter

MS = 1_000_000
FRAMES = frame_spec(120, 160, 0.1, {})
KEYS = StreamSpec("keypoints", (33, 3), "float32", meta={"layout": "mediapipe-33"})
LABELS = StreamSpec("label", (3,), "float32", ("walk", "sit", "throw"))


def opened(folder: Path, inputs=None, name="shown.mp4", **settings):
    given = {"cam": FRAMES} if inputs is None else inputs
    node = Overlay(OverlaySettings(file=folder / name, **settings))
    node.outputs(given)
    node.open(Context("shown", given, folder, pipeline="test"))
    return node


def frame(number, at_ms=None):
    return frame_packet(numbered(number), 0, (number * 100 if at_ms is None else at_ms) * MS, 0)


def keys(at_ms, value=60.0, state="tracked"):
    data = np.full((33, 3), value, np.float32)
    data[:, 0] += np.arange(33)
    data[:, 2] = 0 if state == "none" else 1
    return Packet("keypoints", data, 0, at_ms * MS, at_ms * MS, meta={"state": state})


def shown(path):
    return [(round(t / MS), number_of(f[:120])) for t, f in VideoFile(path).frames()]


def finish(node):
    list(node.finish())
    node.close()


def test_frames_are_written_in_order_for_as_long_as_they_took(tmp_path):
    node = opened(tmp_path)
    for number in range(12):
        node.process("cam", frame(number))
    finish(node)
    assert shown(tmp_path / "shown.mp4") == [(100 * n, n) for n in range(12)]
    assert node.context.counters.notes["frames_written"] == 12
    assert node.context.counters.notes["file"] == str(tmp_path / "shown.mp4")


def test_where_frames_were_dropped_the_last_one_stays(tmp_path):
    node = opened(tmp_path)
    for number in (0, 1, 5, 6):
        node.process("cam", frame(number))
    finish(node)
    assert [number for _, number in shown(tmp_path / "shown.mp4")] == [0, 1, 1, 1, 1, 5, 6]
    assert node.context.counters.notes["frames_repeated"] == 3


def test_a_long_silence_is_cut_and_noted(tmp_path):
    writer = VideoWriter(tmp_path / "x.mp4", (160, 120), 10)
    for number, at_s in ((0, 0.0), (1, 0.1), (2, 3600.0), (3, 3600.1), (4, 3600.11)):
        writer.write(numbered(number), round(at_s * 1e9))
    writer.close()
    numbers = [number for _, number in shown(tmp_path / "x.mp4")]
    assert numbers == [0] + [1] * 20 + [2, 4]
    assert writer.cut_s == pytest.approx(3597.9)
    assert writer.merged == 1


def test_a_clock_that_goes_back_goes_on_in_the_file(tmp_path):
    writer = VideoWriter(tmp_path / "x.mp4", (160, 120), 10)
    for number, at_s in ((0, 50.0), (1, 50.1), (2, 0.0), (3, 0.1)):
        writer.write(numbered(number), round(at_s * 1e9))
    writer.close()
    assert [number for _, number in shown(tmp_path / "x.mp4")] == [0, 1, 2, 3]
    assert writer.cut_s == 0


def test_a_frame_waits_for_what_was_found_in_it(tmp_path):
    node = opened(tmp_path, {"cam": FRAMES, "keys": KEYS})
    node.process("cam", frame(0))
    node.process("cam", frame(1))
    assert len(node._held) == 2
    node.process("keys", keys(0))
    assert [held.source_ns for held in node._held] == [100 * MS]
    node.process("keys", keys(100))
    assert not node._held
    finish(node)
    assert "drawn_unmatched" not in node.context.counters.notes


def test_a_frame_whose_joints_never_come_is_drawn_without_them_and_counted(tmp_path):
    node = opened(tmp_path, {"cam": FRAMES, "keys": KEYS})
    for number in range(8):
        node.process("cam", frame(number))
    assert [held.source_ns // MS for held in node._held] == [200, 300, 400, 500, 600, 700]
    assert node.context.counters.notes["drawn_unmatched"] == 2
    node.process("keys", keys(500))
    assert [held.source_ns // MS for held in node._held] == [600, 700]
    finish(node)
    assert len(shown(tmp_path / "shown.mp4")) == 8


def test_joints_are_drawn_into_the_frame_of_their_own_time(tmp_path):
    node = opened(tmp_path, {"cam": FRAMES, "keys": KEYS})
    drawn = []
    node._painter.draw = lambda image, scene: (
        drawn.append(scene) or np.zeros((*node._painter.size[::-1], 3), np.uint8)
    )
    for number in range(4):
        node.process("cam", frame(number))
    for at_ms, value in ((0, 10.0), (100, 20.0), (300, 40.0)):
        node.process("keys", keys(at_ms, value))
    # Nothing came for 200 ms: what held 100 ms before is still shown.
    assert [scene.found[0].joints[0, 1] for scene in drawn] == [10, 20, 20, 40]
    assert all(scene.remarks[0].startswith("keys ") for scene in drawn)
    node.process("keys", keys(400, state="none"))
    node.process("cam", frame(4))
    node.process("keys", keys(1400))
    node.process("cam", frame(10))
    assert [scene.nobody for scene in drawn] == [False] * 4 + [True, False]
    assert drawn[5].found == [], "what is a second old is not shown any more"
    finish(node)


def test_frames_between_two_labels_and_frames_of_nobody_do_not_wait_for_labels(tmp_path):
    labels = dataclasses.replace(LABELS, period_s=0.3)
    node = opened(tmp_path, {"cam": FRAMES, "keys": KEYS, "now": labels})
    drawn = []
    node._painter.draw = lambda image, scene: (
        drawn.append(scene) or np.zeros((*node._painter.size[::-1], 3), np.uint8)
    )

    def say(at_ms, label):
        meta = {"label": label, "probability": 0.9}
        row = np.float32([0.9, 0.1, 0.0])
        node.process("now", Packet("label", row, 0, at_ms * MS, at_ms * MS, meta=meta))

    say(0, "walk")
    for number in range(4):
        node.process("cam", frame(number))
        node.process("keys", keys(number * 100))
    assert [scene.label for scene in drawn] == ["walk"] * 3, "the last waits for its label"
    say(300, "sit")
    assert drawn[-1].label == "sit"
    for number in range(4, 10):
        node.process("cam", frame(number))
        node.process("keys", keys(number * 100, state="none"))
    assert len(drawn) == 10
    assert drawn[-1].nobody
    finish(node)
    assert "drawn_unmatched" not in node.context.counters.notes


def test_the_best_label_is_shown_or_what_the_recogniser_says():
    def of(values, **meta):
        return best(LABELS.names, Packet("label", np.float32(values), 0, 0, 0, meta=meta))

    assert of([0.1, 0.7, 0.2]) == ("sit", pytest.approx(0.7))
    assert of([0.1, 0.7, 0.2], label="throw") == ("throw", pytest.approx(0.2))
    assert of([0.1, 0.7, 0.2], label="unknown") == ("unknown", pytest.approx(0.7))
    assert of([0.1, 0.7, 0.2], label="unknown", probability=0.3) == ("unknown", 0.3)
    assert of([np.nan] * 3) == ("unknown", 0.0)
    assert of([np.nan] * 3, label="unknown", probability=1.0) == ("unknown", 1.0)


def test_a_skeleton_is_drawn_where_it_is_and_nowhere_else():
    painter = Painter(120, 160)
    grey = np.full((120, 160, 3), 128, np.uint8)
    joints = np.zeros((33, 3), np.float32)
    joints[:, :2] = 100, 60
    joints[:, 2] = 1
    joints[MEDIAPIPE_33.index("left_wrist")] = 130, 30, 1
    joints[MEDIAPIPE_33.index("right_wrist")] = 20, 20, 0.1
    picture = painter.draw(grey, Scene(found=[Found(MEDIAPIPE_33, joints)]))[:120]
    touched = (picture != 128).any(axis=2)
    assert touched[30, 130]
    assert touched[45, 115], "the arm between"
    assert not touched[:, :90].any(), "what is hardly visible is not drawn"
    assert (grey == 128).all(), "the frame itself belongs to others"
    far = joints.copy()
    far[:, :2] *= 1e6
    far_away = [Found(MEDIAPIPE_33, far)]
    said = painter.draw(grey, Scene(0, far_away, False, "throw", 0.9, ["keys 12 ms"])).copy()
    hand = [Found(HAND_21, joints[:21], "left_")]
    nobody = painter.draw(grey, Scene(0, hand, True, "throw", 0.9)).copy()
    assert (said[120:] != nobody[120:]).any()
    silent = painter.draw(grey, Scene(0, hand, True))
    assert (nobody == silent).all(), "what was said last is not said of nobody"


@pytest.mark.parametrize("size", [(120, 160), (121, 163), (33, 47), (1080, 1920)])
def test_pictures_have_even_sides_and_a_strip_below(size):
    width, height = Painter(*size).size
    assert width % 2 == height % 2 == 0
    assert height >= size[0] + 20


def test_streams_that_cannot_be_drawn_are_refused(tmp_path):
    def refuse(inputs, match, **settings):
        with pytest.raises(ConfigError, match=match):
            Overlay(OverlaySettings(**settings)).outputs(inputs)

    refuse({"keys": KEYS}, r"exactly one stream of frames, found 0 \(none\)")
    refuse({"a": FRAMES, "b": FRAMES}, r"found 2 \(a, b\)")
    skeleton = StreamSpec("skeleton", (20, 3), "float32", ("x", "y", "z"))
    refuse({"a": FRAMES, "s": skeleton}, "carries skeleton of shape .* main stream has pixels")
    refuse({"a": FRAMES, "l": LABELS, "m": LABELS}, "at most one stream of labels")
    refuse({"a": FRAMES}, "'x.avi' is neither", file=tmp_path / "x.avi")
    refuse({"a": FRAMES}, "is not there; create it", file=tmp_path / "none" / "x.mp4")
    (tmp_path / "x.mp4").touch()
    refuse({"a": FRAMES}, "exists and is not overwritten", file=tmp_path / "x.mp4")


def test_a_window_without_a_display_is_refused(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ConfigError, match="there is no display here"):
        Overlay(OverlaySettings(window=True)).outputs({"cam": FRAMES})


def test_a_run_without_frames_leaves_no_file(tmp_path):
    finish(opened(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_without_a_name_the_file_lies_in_the_folder_of_the_run(tmp_path):
    node = Overlay(OverlaySettings())
    node.open(Context("shown", {"cam": FRAMES}, tmp_path, pipeline="a b"))
    node.process("cam", frame(0))
    finish(node)
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("a_b-shown-")
    assert node.context.counters.notes["file"] == str(file)


def test_a_file_that_does_not_hold_what_was_written_is_told(tmp_path):
    writer = VideoWriter(tmp_path / "x.mkv", (160, 120), 10)
    for number in range(10):
        writer.write(numbered(number), number * 100 * MS)
    writer.written += 50
    with pytest.raises(RecordingError, match=r"holds \d+ of the \d+ frames .* is the disk full"):
        writer.close()


def test_a_page_gives_the_newest_picture_to_this_host_only(tmp_path):
    node = Overlay(OverlaySettings(page=_free_port()))
    node.outputs({"cam": FRAMES})
    node.open(Context("shown", {"cam": FRAMES}, tmp_path, pipeline="test"))
    address = urlsplit(node.context.counters.notes["page"])

    def ask(path, **headers):
        connection = HTTPConnection(address.hostname, address.port, timeout=30)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    status, headers, page = ask("/")
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert b"picture" in page
    stop = threading.Event()

    def film():
        for number in itertools.cycle(range(256)):
            if stop.wait(0.01):
                return
            node.process("cam", frame(number))

    thread = threading.Thread(target=film)
    thread.start()
    first, second = ask("/picture"), ask("/picture?after=1")
    stop.set()
    thread.join()
    for status, headers, body in (first, second):
        assert status == 200
        assert headers["Content-Type"] == "image/jpeg"
        picture = cv2_decoded(body)
        assert picture.shape[1] == 160
    assert int(second[1]["X-Number"]) > int(first[1]["X-Number"])
    assert ask("/picture", Host="elsewhere.example")[0] == 403
    assert ask("/picture", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert ask("/../secret")[0] == 404
    with pytest.raises(ConfigError, match=r"port \d+ cannot be used .*choose another number"):
        Overlay(OverlaySettings(page=address.port)).outputs({"cam": FRAMES})
    finish(node)
    Overlay(OverlaySettings(page=address.port)).outputs({"cam": FRAMES})
    assert list(tmp_path.iterdir()) == [], "a file is written only where one is asked for"


def cv2_decoded(body):
    import cv2

    return cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_nothing_is_encoded_while_nobody_looks():
    server = PictureServer(0)
    server.show(np.zeros((4, 4, 3), np.uint8))
    assert server.newer(0) is None
    server.close()
