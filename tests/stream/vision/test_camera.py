import itertools
import logging
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from vision_doubles import number_of, numbered

from stream.errors import ConfigError
from stream.node import Context
from stream.vision.camera import CameraSettings, CameraSource
from stream.vision.capture import Capture
from stream.vision.device import Camera, CameraError, Wanted, negotiate

SECOND = 1_000_000_000


class Running:
    """A camera node, driven as a worker drives it: asked when it is due, then called."""

    def __init__(self, **settings):
        self.node = CameraSource(CameraSettings.model_validate(settings))
        self.spec = self.node.outputs({})[""]
        self.node.open(Context("camera", {"": self.spec}, Path()))
        self.start_ns = time.monotonic_ns()
        self.node.start(self.start_ns)
        self.packets = []

    @property
    def counters(self):
        return self.node.context.counters

    def until(self, done, limit_s=30):
        deadline = time.monotonic() + limit_s
        while not done():
            assert time.monotonic() < deadline, (self.counters.notes, self.counters.dropped)
            due_ns = self.node.due_ns()
            if due_ns is not None and due_ns <= time.monotonic_ns():
                self.packets += self.node.tick()
            else:
                time.sleep(0.001)
        return self.packets


@pytest.fixture
def running():
    started = []

    def start(**settings):
        started.append(Running(**settings))
        return started[-1]

    yield start
    for item in started:
        item.node.close()


def endless(camera, size=(160, 120)):
    for number in itertools.count():
        yield numbered(number % 256, size)
        yield camera.pause


@pytest.fixture
def steady(mjpeg_camera):
    camera = mjpeg_camera(lambda _: endless(camera))
    return camera


def test_a_camera_says_what_it_gives_before_it_runs(steady, running):
    spec = running(device=steady.address, rate="50 Hz").spec
    assert (spec.kind, spec.shape, spec.dtype) == ("frame", (120, 160, 3), "uint8")
    assert spec.names == ("blue", "green", "red")
    assert spec.period_s == pytest.approx(0.02)
    assert running(device=steady.address).spec.period_s is None


def test_frames_come_in_order_and_carry_the_time_of_their_grabbing(steady, running):
    run = running(device=steady.address)
    packets = run.until(lambda: len(run.packets) >= 30)
    steps = np.diff([number_of(p.data) for p in packets]) % 256
    assert steps.tolist() == [1 + p.gap for p in packets[1:]]
    assert all(run.start_ns <= p.t_ns <= time.monotonic_ns() for p in packets)
    assert all(p.t_ns - p.source_ns == run.start_ns for p in packets)
    assert (np.diff([p.t_ns for p in packets]) > 0).all()
    assert {p.segment for p in packets} == {0}
    assert packets[0].meta == {"colours": "bgr"}


def test_a_size_that_the_camera_does_not_give_is_refused(steady):
    node = CameraSource(CameraSettings(device=steady.address, size="640x480"))
    with pytest.raises(ConfigError, match=r"gives frames of 160x120, not of 640x480; write 'size"):
        node.outputs({})


def test_no_camera_is_said_before_anything_starts(mjpeg_camera):
    with pytest.raises(ConfigError, match=r"camera 63 cannot be opened: it is not there"):
        CameraSource(CameraSettings(device=63)).outputs({})
    gone = mjpeg_camera(lambda _: ())
    gone.close()
    with pytest.raises(ConfigError, match=r"cannot be reached: nothing answers there"):
        CameraSource(CameraSettings(device=gone.address)).outputs({})
    silent = mjpeg_camera(lambda _: ())
    with pytest.raises(ConfigError, match=r"cannot be reached|gives no frames"):
        CameraSource(CameraSettings(device=silent.address)).outputs({})


def test_a_password_in_an_address_is_never_shown():
    wanted = Wanted("rtsp://admin:secret@10.0.0.9/live", None, None)
    assert wanted.name == "camera rtsp://...@10.0.0.9/live"


@pytest.mark.parametrize("device", ["webcam", -1, True, "file.mp4", None])
def test_what_names_no_camera_is_refused(device):
    with pytest.raises(ValidationError, match="expected the number of a camera"):
        CameraSettings(device=device)


def test_a_camera_that_ends_is_opened_again_and_the_gap_is_told(mjpeg_camera, running, caplog):
    def script(connection):
        # The first two connections are those of the look before the start and of the start itself.
        frames = endless(camera)
        return itertools.islice(frames, 60) if connection == 1 else frames

    camera = mjpeg_camera(script)
    with caplog.at_level(logging.WARNING):
        run = running(device=camera.address, rate="50 Hz")
        packets = run.until(lambda: any(p.segment == 1 for p in run.packets))
    first = next(p for p in packets if p.segment == 1)
    last = [p for p in packets if p.segment == 0][-1]
    missed = (first.t_ns - last.t_ns) / SECOND * 50
    assert first.gap == max(1, round(missed) - 1)
    assert run.counters.notes["outages"] == 1
    assert run.counters.notes["attempts"] >= 1
    assert "gives no more frames" in caplog.text
    assert "is back" in caplog.text


def test_a_camera_that_keeps_silent_is_given_up_and_opened_again(mjpeg_camera, running):
    stalled = threading.Event()

    def script(connection):
        frames = endless(camera)
        if connection == 1:
            yield from itertools.islice(frames, 20)
            stalled.set()
            yield lambda: camera.closing.wait(60)
        yield from frames

    camera = mjpeg_camera(script)
    run = running(device=camera.address)
    run.until(lambda: any(p.segment == 1 for p in run.packets))
    assert stalled.is_set()
    assert run.counters.notes["outages"] == 1


def test_a_camera_that_stays_away_is_tried_again_and_again_and_the_run_goes_on(
    mjpeg_camera, running
):
    camera = mjpeg_camera(lambda connection: itertools.islice(endless(camera), 20))
    run = running(device=camera.address)
    run.until(lambda: len(run.packets) >= 3)
    camera.close()
    run.until(lambda: run.counters.notes.get("attempts", 0) >= 2)
    now_ns = time.monotonic_ns()
    assert run.node.due_ns() >= now_ns
    assert run.counters.notes["away_s"] >= 0
    assert not run.node.finished


def test_frames_of_another_size_or_of_no_picture_are_refused_and_counted(
    mjpeg_camera, running, caplog
):
    def script(connection):
        frames = endless(camera)
        if connection == 0:
            yield from frames
        yield from itertools.islice(frames, 20)
        for _ in range(3):
            yield numbered(0, (320, 240))
            yield camera.pause
        yield b"\xff\xd8 this is no picture"
        yield camera.pause
        yield from frames

    camera = mjpeg_camera(script)
    with caplog.at_level(logging.WARNING):
        run = running(device=camera.address)
        told = run.counters.dropped
        run.until(lambda: told.get("wrong_size") == 3 and told.get("undecodable") == 1)
        known = len(run.packets)
        packets = run.until(lambda: len(run.packets) > known)
    assert sum(p.gap for p in packets) == sum(told.values())
    assert {p.data.shape for p in packets} == {(120, 160, 3)}
    assert "sent a frame of 320x240; it began with 160x120" in caplog.text
    assert len({p.segment for p in packets}) == 1


def test_frames_that_nobody_takes_are_dropped_oldest_first_and_counted(steady):
    wanted = Wanted(steady.address, None, None)
    camera = Camera(wanted)
    capture = Capture(wanted, (120, 160, 3), None)
    capture.start(camera)
    while capture.losses["overrun"] < 10:
        time.sleep(0.01)
    taken = capture.take(0)
    capture.close()
    assert len(taken) == 4
    assert (np.diff([number_of(c.frame) for c in taken]) % 256 == 1).all()
    assert taken[0].gap >= 10
    assert [c.gap for c in taken[1:]] == [0, 0, 0]


def test_what_came_before_the_start_of_the_run_is_no_loss(steady):
    node = CameraSource(CameraSettings(device=steady.address))
    node.open(Context("camera", {"": node.outputs({})[""]}, Path()))
    while node._capture.losses["overrun"] < 10:
        time.sleep(0.01)
    node.start(time.monotonic_ns())
    packets = []
    while len(packets) < 20:
        packets += node.tick()
    node.close()
    dropped = node.context.counters.dropped.get("overrun", 0)
    assert sum(p.gap for p in packets) <= dropped < 10


def test_a_camera_slower_than_it_states_is_noted(mjpeg_camera, running):
    def script(_):
        for number in itertools.count():
            yield numbered(number % 256)
            yield lambda: camera.pause(0.01)

    camera = mjpeg_camera(script)
    run = running(device=camera.address, rate="500 Hz")
    run.until(lambda: "measured_hz" in run.counters.notes)
    assert run.counters.notes["measured_hz"] < 150
    assert run.counters.notes["slower_than_stated_hz"] == 500


class LocalCamera:
    """What OpenCV gives for a local camera, which cannot be here.

    It does raw frames up to 640x480 at 30 Hz and less above that, motion JPEG up to 1280x720 at 30.
    """

    def __init__(self, cv2):
        self.cv2 = cv2
        self.values = {cv2.CAP_PROP_FRAME_WIDTH: 640, cv2.CAP_PROP_FRAME_HEIGHT: 480}
        self.coded = False
        self.rate_hz = 30.0

    def set(self, key, value):
        if key == self.cv2.CAP_PROP_FOURCC:
            self.coded = True
        elif key == self.cv2.CAP_PROP_FPS:
            self.rate_hz = min(value, 30.0)
        else:
            self.values[key] = min(value, 1280 if key == self.cv2.CAP_PROP_FRAME_WIDTH else 720)
        return True

    def get(self, key):
        if key != self.cv2.CAP_PROP_FPS:
            return self.values[key]
        large = self.values[self.cv2.CAP_PROP_FRAME_WIDTH] > 640
        return min(self.rate_hz, 10.0) if large and not self.coded else self.rate_hz


def test_a_local_camera_gives_what_it_can_or_is_refused():
    import cv2

    camera = LocalCamera(cv2)
    assert negotiate(cv2, camera, Wanted(0, None, None)) == 30
    assert negotiate(cv2, camera, Wanted(0, (640, 480), 30)) == 30
    assert not camera.coded
    assert negotiate(cv2, camera, Wanted(0, (1280, 720), 30)) == 30
    assert camera.coded, "large frames at full rate need motion JPEG"
    with pytest.raises(CameraError, match=r"camera 0 gives 30 frames a second at 640x480, not 60"):
        negotiate(cv2, LocalCamera(cv2), Wanted(0, (640, 480), 60))
