from pathlib import Path

import numpy as np
import pytest

from stream.errors import ConfigError
from stream.node import Context, StreamSpec
from stream.vision.frames import frame_packet, frame_spec
from stream.vision.keypoints import Keypoints, KeypointsSettings, Track, sides
from stream.vision.landmarks import Body, Hand
from stream.vision.layouts import KINECT_20, MEDIAPIPE_33

MS = 1_000_000


@pytest.fixture
def opened():
    nodes = []

    def make(frame, **settings):
        spec = frame_spec(*frame.shape[:2], 0.1, {})
        node = Keypoints(KeypointsSettings.model_validate(settings))
        specs = node.outputs({"cam": spec})
        node.open(Context("keys", {"cam": spec}, Path()))
        nodes.append(node)
        return node, specs

    yield make
    for node in nodes:
        node.close()


def found(node, frame, source_ns=0, segment=0):
    packets = list(node.process("cam", frame_packet(frame, 7, source_ns, segment)))
    return {packet.output: packet for packet in packets}


def test_a_person_is_found_in_pixels_and_in_metres(opened, portrait):
    node, specs = opened(portrait)
    packets = found(node, portrait, 500)
    assert set(packets) == set(specs) == {"", "world", "kinect"}
    for name, packet in packets.items():
        spec = specs[name]
        assert (packet.kind, packet.data.shape, packet.data.dtype) == (
            spec.kind, spec.shape, spec.dtype,
        )  # fmt: skip
        assert (packet.t_ns, packet.source_ns) == (7, 500)
        assert packet.meta == {"state": "found", "track": 1}
    assert specs[""].unit == "px"
    assert specs[""].names == ("x", "y", "visibility")
    assert specs["kinect"].unit == "m"
    assert specs["kinect"].meta["layout"] == "kinect-20"

    def spot(joint):
        return packets[""].data[MEDIAPIPE_33.index(joint)]

    # Read off the photograph: 512 x 600 pixels, and her left is on the right.
    assert spot("nose") == pytest.approx([270, 225, 1], abs=25)
    assert spot("left_shoulder")[0] > 350
    assert spot("right_shoulder")[0] < 200
    world = packets["world"].data
    assert np.linalg.norm(
        world[MEDIAPIPE_33.index("left_shoulder")] - world[MEDIAPIPE_33.index("right_shoulder")]
    ) == pytest.approx(0.33, abs=0.12)


def test_joints_in_metres_have_kinects_axes(opened, portrait):
    node, _ = opened(portrait)
    kinect = found(node, portrait)["kinect"].data

    def joint(name):
        return kinect[KINECT_20.index(name)]

    to_her_left = joint("left_shoulder") - joint("right_shoulder")
    up = joint("shoulder_center") - joint("hip_center")
    assert to_her_left[0] < 0, "x is the camera's left, she looks into it"
    assert up[1] > 0
    assert np.cross(to_her_left, up)[2] < 0, "forward is towards the camera: right-handed"
    assert joint("hip_center") == pytest.approx([0, 0, 0], abs=0.02)


def test_nobody_in_view_is_a_packet_that_says_so(opened, portrait):
    node, _ = opened(portrait, hands=True)
    packets = found(node, np.zeros_like(portrait))
    assert set(packets) == {"", "world", "kinect", "hands", "hands_world"}
    assert packets[""].meta == {"state": "none", "track": 0}
    assert np.isnan(packets[""].data[:, :2]).all()
    assert (packets[""].data[:, 2] == 0).all()
    for name in ("world", "kinect", "hands_world"):
        assert np.isnan(packets[name].data).all()
    assert (packets["hands"].data[..., 2] == 0).all()
    assert node.context.counters.notes["frames_without_person"] == 1


def test_somebody_who_stays_is_tracked_and_somebody_who_comes_back_late_is_new(opened, portrait):
    node, _ = opened(portrait)
    black = np.zeros_like(portrait)
    seen = []
    for at_ms, frame in enumerate(
        [portrait, portrait, black, portrait, portrait, black, black, black, portrait]
    ):
        for _ in range(3 if frame is black else 1):
            packet = found(node, frame, at_ms * 200 * MS)[""]
        seen.append((packet.meta["state"], packet.meta["track"], packet.segment))
    assert seen == [
        ("found", 1, 0), ("tracked", 1, 0), ("none", 1, 0), ("found", 1, 0), ("tracked", 1, 0),
        ("none", 1, 0), ("none", 1, 0), ("none", 1, 0), ("found", 2, 1),
    ]  # fmt: skip


def body_at(x):
    image = np.random.default_rng(0).uniform(0, 50, (33, 3)).astype(np.float32)
    image[:, 0] += x
    return Body(image, np.zeros((33, 3), np.float32))


def frame_at(ms, segment=0):
    return frame_packet(np.zeros((2, 2, 3), np.uint8), 0, ms * MS, segment)


def test_a_jump_to_another_place_is_another_person():
    track = Track()
    assert not track.update(frame_at(0), body_at(0))
    assert not track.update(frame_at(33), body_at(10))
    assert track.update(frame_at(66), body_at(300))
    assert (track.state, track.number, track.segment) == ("found", 2, 1)
    assert not track.update(frame_at(99), body_at(301))
    assert track.state == "tracked"


def test_a_new_segment_of_frames_begins_a_new_segment_and_person():
    track = Track()
    track.update(frame_at(0, 0), None)
    assert track.update(frame_at(33, 1), None)
    assert not track.update(frame_at(66, 1), body_at(0))
    assert track.update(frame_at(99, 2), body_at(0))
    assert (track.state, track.number, track.segment) == ("found", 2, 2)


def hand(left):
    return Hand(np.zeros((21, 2), np.float32), np.zeros((21, 3), np.float32), left)


def test_two_hands_that_look_alike_get_a_side_each_the_surer_one_first():
    assert sides([]) == []
    right, left = hand(0.1), hand(0.9)
    assert sides([right, left]) == [(0, left), (1, right)]
    assert sides([right]) == [(1, right)]
    sure, unsure = hand(0.95), hand(0.6)
    assert sides([unsure, sure]) == [(0, sure), (1, unsure)]


def test_hands_are_on_their_own_side(opened, shared_data):
    import cv2

    capture = cv2.VideoCapture(str(shared_data / "video" / "intel_asl_book.mkv"))
    frames = [frame for ok, frame in (capture.read() for _ in range(60)) if ok]
    capture.release()
    node, specs = opened(frames[0], hands=True)
    wrists = [MEDIAPIPE_33.index("left_wrist"), MEDIAPIPE_33.index("right_wrist")]
    right_side = []
    for i, frame in enumerate(frames):
        packets = found(node, frame, i * 33 * MS)
        hands, pose = packets["hands"].data, packets[""].data
        assert hands.shape == specs["hands"].shape == (2, 21, 3)
        for side in (0, 1):
            if hands[side, 0, 2] > 0:
                away = np.linalg.norm(pose[wrists, :2] - hands[side, 0, :2], axis=1)
                right_side.append(away[side] == away.min())
    assert len(right_side) > 30
    assert np.mean(right_side) > 0.8


def test_hands_can_be_found_without_a_pose(opened, portrait):
    node, specs = opened(portrait, pose=False, hands=True)
    assert set(specs) == {"hands", "hands_world"}
    packets = found(node, np.zeros_like(portrait), segment=3)
    assert set(packets) == {"hands", "hands_world"}
    assert packets["hands"].segment == 3


def test_smoothing_makes_what_stands_still_calmer(opened, portrait):
    rng = np.random.default_rng(0)
    noisy = [
        np.clip(portrait + rng.normal(0, 3, portrait.shape), 0, 255).astype(np.uint8)
        for _ in range(12)
    ]
    steps = {}
    for smoothing in ({}, {"smoothing": "1 Hz"}):
        node, _ = opened(portrait, **smoothing)
        packets = [found(node, frame, i * 33 * MS) for i, frame in enumerate(noisy)]
        for name in ("", "kinect"):
            joints = np.array([packet[name].data[:17, :2] for packet in packets])
            steps[name, bool(smoothing)] = np.abs(np.diff(joints, axis=0)).mean()
    assert steps["", True] < 0.6 * steps["", False]
    assert steps["kinect", True] < 0.6 * steps["kinect", False]


def test_frames_that_are_none_of_ours_are_refused():
    node = Keypoints(KeypointsSettings())
    with pytest.raises(ConfigError, match="'cam' carries float32 with shape"):
        node.outputs({"cam": StreamSpec("frame", (2, 2, 3), "float32")})
    with pytest.raises(ConfigError, match="'cam' has red, green, blue"):
        node.outputs({"cam": StreamSpec("frame", (2, 2, 3), "uint8", ("red", "green", "blue"))})
    with pytest.raises(ConfigError, match="nothing to find"):
        Keypoints(KeypointsSettings(pose=False)).outputs({"cam": frame_spec(2, 2, None, {})})
