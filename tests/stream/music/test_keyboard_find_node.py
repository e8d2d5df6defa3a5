"""The node keyboard.find, driven with packets."""

from __future__ import annotations

import numpy as np
import pytest
from keyboard_pictures import keyboard, off, seen

from stream.errors import ConfigError
from stream.music.finder.find import KeyboardFind, KeyboardFindSettings
from stream.node import Context
from stream.vision.frames import frame_packet, frame_spec

cv2 = pytest.importorskip("cv2")
SIZE = (480, 270)
BARE = np.full((270, 480, 3), 80, np.uint8)


@pytest.fixture(scope="module")
def piano():
    return seen(keyboard(), size=SIZE, fill=0.92, blur=0.4)


@pytest.fixture
def node(tmp_path):
    def make(**settings):
        made = KeyboardFind(KeyboardFindSettings(**settings))
        inputs = {"camera": frame_spec(270, 480, None, {})}
        made.outputs(inputs)
        made.open(Context("grid", inputs, tmp_path))
        return made

    return make


class Camera:
    """Shows a node one picture after the other, at a rate of its own."""

    def __init__(self, node, hz=30.0):
        self.node, self.hz, self.ns, self.segment = node, hz, 0, 0

    def show(self, picture, seconds):
        packets = []
        for _ in range(max(1, round(seconds * self.hz))):
            frame = frame_packet(picture, 7, self.ns, self.segment)
            packets += self.node.process("camera", frame)
            self.ns += round(1e9 / self.hz)
        return packets


def states(packets):
    return [packet.meta["state"] for packet in packets]


def test_every_frame_leads_to_a_packet_and_a_plain_keyboard_is_found_in_the_first(node, piano):
    camera = Camera(node())
    packets = camera.show(piano.picture, 1.0)
    assert states(packets) == ["found"] * 30
    last = packets[-1]
    assert last.meta["confidence"] > 0.9
    assert (last.meta["octave"], last.meta["keys"]) == ("seen", 88)
    assert off(last.data, piano) < 0.34
    assert last.t_ns == 7
    assert last.source_ns == packets[-2].source_ns + round(1e9 / 30)
    picture = camera.node.context.run_dir / "grid.png"
    assert cv2.imread(str(picture)).shape == (270, 480, 3)
    assert camera.node.context.counters.notes["picture"] == str(picture)


def test_a_keyboard_that_the_first_frame_does_not_show_is_found_within_a_second(node, piano):
    camera = Camera(node())
    packets = camera.show(np.full_like(piano.picture, 90), 0.01)
    assert states(packets) == ["none"]
    assert np.isnan(packets[0].data).all()
    assert states(camera.show(piano.picture, 1.0))[-1] == "found"


def test_ten_frames_a_second_will_do(node, piano):
    packets = Camera(node(), hz=10).show(piano.picture, 1.0)
    assert packets[-1].meta["state"] == "found"


def test_hands_that_move_hide_nothing_in_the_median_of_a_few_frames(node, piano):
    camera = Camera(node(), hz=10)
    for x in (60, 130, 200, 270, 340):
        picture = piano.picture.copy()
        cv2.rectangle(picture, (x, 100), (x + 60, 269), (110, 140, 190), -1)
        packets = camera.show(picture, 0.1)
    assert packets[-1].meta["state"] == "found"
    assert off(packets[-1].data, piano) < 0.34


def test_a_keyboard_that_stays_keeps_the_very_same_grid(node, piano):
    camera = Camera(node())
    grids = [p.data for p in camera.show(piano.picture, 4.0) if p.meta["state"] == "found"]
    assert all(np.array_equal(grid, grids[0]) for grid in grids)


def test_slow_movement_is_followed_in_one_segment(node):
    camera = Camera(node())
    board = keyboard()
    camera.show(seen(board, size=SIZE, fill=0.85, blur=0.4).picture, 1.0)
    packets = []
    for step in range(20):
        now = seen(
            board, size=SIZE, fill=0.85, blur=0.4, shift=(0.0, 0.004 * step), turn_deg=0.1 * step
        )
        packets += camera.show(now.picture, 0.3)
    assert set(states(packets)) == {"found"}
    assert {packet.segment for packet in packets} == {0}
    assert off(packets[-1].data, now) < 0.34


def test_a_camera_that_was_moved_makes_it_search_again_and_begins_a_segment(node, piano):
    camera = Camera(node())
    camera.show(piano.picture, 1.0)
    elsewhere = seen(keyboard(), size=SIZE, fill=0.7, turn_deg=12, blur=0.4)
    packets = camera.show(elsewhere.picture, 4.0)
    assert "none" in states(packets)
    assert packets[-1].meta["state"] == "found"
    assert packets[-1].segment == 1
    assert off(packets[-1].data, elsewhere) < 0.34
    assert camera.node.context.counters.notes["lost"] == 1


@pytest.mark.parametrize("whites", [1, -3, 7])
def test_a_push_by_whole_keys_is_not_taken_for_the_keys_beside(node, whites):
    white = 0.8 / 54.4
    board = keyboard()
    camera = Camera(node(), hz=10)
    camera.show(seen(board, size=SIZE, fill=0.8, blur=0.4).picture, 1.0)
    pushed = seen(board, size=SIZE, fill=0.8, blur=0.4, shift=(whites * white, 0.0))
    packets = camera.show(pushed.picture, 2.5)
    assert (packets[-1].meta["state"], packets[-1].segment) == ("found", 1)
    assert off(packets[-1].data, pushed) < 0.34


def test_one_that_is_covered_for_a_moment_is_not_lost(node, piano):
    camera = Camera(node())
    camera.show(piano.picture, 1.0)
    assert set(states(camera.show(BARE, 0.6))) == {"found"}
    assert set(states(camera.show(piano.picture, 1.0))) == {"found"}


def test_one_look_in_vain_after_a_long_time_does_not_lose_it(node, piano):
    camera = Camera(node())
    camera.show(piano.picture, 1.0)
    camera.hz, camera.ns = 0.5, camera.ns + 10**9
    seen_seldom = [np.full_like(piano.picture, 90)] * 3 + [piano.picture]
    assert [states(camera.show(picture, 0.1))[0] for picture in seen_seldom] == [
        "found", "found", "none", "found",
    ]  # fmt: skip


def test_one_that_is_covered_for_long_is_gone_and_comes_back_in_the_same_segment(node, piano):
    camera = Camera(node())
    camera.show(piano.picture, 1.0)
    packets = camera.show(BARE, 3.0)
    assert packets[-1].meta == {"state": "none", "confidence": 0.0}
    assert np.isnan(packets[-1].data).all()
    packets = camera.show(piano.picture, 5.0)
    assert packets[-1].meta["state"] == "found"
    assert packets[-1].segment == 0
    assert off(packets[-1].data, piano) < 0.34


def test_an_arm_across_half_of_the_keys_does_not_end_it(node, piano):
    camera = Camera(node())
    camera.show(piano.picture, 1.0)
    picture = piano.picture.copy()
    picture[:, 240:] = 90
    packets = camera.show(picture, 3.0)
    assert set(states(packets)) == {"found"}
    assert off(packets[-1].data, piano) < 0.34


@pytest.mark.parametrize("light", [0.35, 1.15])
def test_a_lamp_changes_nothing(node, piano, light):
    camera = Camera(node())
    before = camera.show(piano.picture, 1.0)[-1]
    darker = (piano.picture * light).clip(0, 255).astype(np.uint8)
    after = camera.show(darker, 2.0)[-1]
    assert after.meta["state"] == "found"
    assert off(after.data, piano) < 0.34
    assert after.segment == before.segment


def test_a_camera_that_comes_back_may_look_elsewhere(node, piano):
    camera = Camera(node())
    camera.show(piano.picture, 1.0)
    camera.segment = 1
    packets = camera.show(BARE, 2.0)
    assert packets[0].segment == 1
    assert packets[-1].meta["state"] == "none"


def test_no_keyboard_is_said_and_searched_ever_more_rarely(node):
    camera = Camera(node(), hz=10)
    packets = camera.show(BARE, 12.0)
    assert set(states(packets)) == {"none"}
    notes = camera.node.context.counters.notes
    assert notes["found"] == 0
    assert 4 <= notes["searches"] <= 7
    assert notes["trouble"] == "no keyboard is seen"


def test_a_wrong_number_of_keys_is_named(node, piano):
    camera = Camera(node(keys=61))
    packets = camera.show(piano.picture, 1.0)
    assert packets[-1].meta["state"] == "none"
    reason = camera.node.context.counters.notes["trouble"]
    assert reason == "it seems to have 88 keys, 'keys' says 61"


def test_corners_are_taken_where_no_keyboard_is_found(node, piano):
    g = piano.grid
    corners = tuple((float(x), float(y)) for x, y in (g[0, 0], g[0, -1], g[2, -1], g[2, 0]))
    packets = Camera(node(corners=corners)).show(BARE, 3.0)
    assert packets[0].meta["state"] == "found"
    assert packets[-1].meta["state"] == "found"
    assert packets[0].meta["octave"] == "given"
    assert packets[0].meta["confidence"] < 0.1
    assert off(packets[0].data, piano) < 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"keys": 60}, "keys: "), ({"lowest": "X1"}, "lowest: "),
     ({"corners": ((0, 0), (9, 0), (9, 9))}, "3 points"),
     ({"corners": ((0, 0), (900, 0), (9, 9), (0, 9))}, "is not in the frames"),
     ({"corners": ((0, 0), (90, 90), (90, 0), (0, 90))}, "do not go round")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(node, settings, message):
    with pytest.raises(ConfigError, match=message):
        node(**settings)
