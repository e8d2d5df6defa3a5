"""Poses on a fixed clock, whatever the frame rate is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import ConfigError
from stream.node import Context, StreamSpec
from stream.packet import Packet
from stream.vision.motion import Clock, ResampleSettings, SkeletonsResample

MS = 1_000_000
SPEC = StreamSpec("skeleton", (20, 3), "float32", ("x", "y", "z"), "m", None, {"layout": "a"})


def pose(value: float) -> np.ndarray:
    return np.full((20, 3), value, np.float32)


def frame(ms: float, value: float = 0.0, **more) -> Packet:
    at = round(ms * MS)
    given = {"kind": "skeleton", "data": pose(value), "t_ns": at + 7, "source_ns": at}
    return Packet(**{**given, "source_end_ns": at, **more})


@pytest.fixture
def node(tmp_path) -> SkeletonsResample:
    made = SkeletonsResample(ResampleSettings(period=0.1))
    made.open(Context(name="ticks", inputs={"pose": SPEC}, run_dir=tmp_path))
    return made


def run(node: SkeletonsResample, *frames: Packet) -> list[Packet]:
    return [tick for packet in frames for tick in node.process("pose", packet)]


@given(st.lists(st.integers(1, 900), min_size=1, max_size=40))
def test_a_straight_movement_is_found_at_every_tick_whatever_the_gaps_between_frames(gaps_ms):
    clock = Clock(100 * MS, 1000 * MS)
    times_ms = np.cumsum([0, *gaps_ms])
    found = [
        tick for ms in times_ms for tick in clock.push(int(ms) * MS, pose(2.0 * ms / 1000))
    ]  # fmt: skip
    assert [at for at, _ in found] == [k * 100 * MS for k in range(times_ms[-1] // 100 + 1)]
    for at, joints in found:
        np.testing.assert_allclose(joints, 2.0 * at / 1e9, atol=1e-4)


def test_frames_out_of_order_are_an_error_of_the_caller():
    clock = Clock(100 * MS, 1000 * MS)
    clock.push(0, pose(0))
    with pytest.raises(ValueError, match="order of time"):
        clock.push(0, pose(0))


def test_ticks_carry_their_own_time_and_that_of_the_frame_that_settled_them(node):
    found = run(node, frame(0), frame(66, 0.66), frame(133, 1.33))
    assert [tick.source_ns for tick in found] == [0, 100 * MS]
    assert [tick.t_ns for tick in found] == [7, 133 * MS + 7]
    np.testing.assert_allclose(found[1].data, 1.0, rtol=1e-6)


def test_a_long_hole_begins_a_segment_and_a_short_one_is_told(node):
    found = run(node, frame(0), frame(300, gap=4), frame(1400), frame(1500))
    assert [(tick.source_ns // MS, tick.segment, tick.gap) for tick in found] == [
        (0, 0, 0), (100, 0, 4), (200, 0, 0), (300, 0, 0), (1400, 1, 0), (1500, 1, 0),
    ]  # fmt: skip


def test_a_new_person_begins_a_segment(node):
    found = run(node, frame(0), frame(50, segment=1), frame(150, segment=1))
    assert [(tick.source_ns // MS, tick.segment) for tick in found] == [(0, 0), (50, 1), (150, 1)]


def test_poses_that_cannot_be_used_are_counted_and_bridged(node):
    nobody = frame(50, np.nan)
    flat = frame(60, data=np.zeros(3, np.float32))
    found = run(node, frame(0), nobody, flat, frame(100, 1.0), frame(90, 9.0), frame(200, 2.0))
    assert [float(tick.data[0, 0]) for tick in found] == [0.0, 1.0, 2.0]
    assert node.context.counters.dropped == {"not_finite": 1, "wrong_shape": 1, "late": 1}
    assert [tick.gap for tick in found] == [0, 2, 1]


def test_the_stream_of_ticks_says_its_period_and_keeps_the_layout():
    (spec,) = SkeletonsResample(ResampleSettings(period=0.1)).outputs({"pose": SPEC}).values()
    assert (spec.kind, spec.period_s, spec.meta) == ("skeleton", 0.1, {"layout": "a"})
    with pytest.raises(ConfigError, match="hole"):
        SkeletonsResample(ResampleSettings(period=0.5, hole=0.1)).outputs({"pose": SPEC})
