"""Where the keys of a piano are, and the strip that is taken out of a picture of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import ConfigError
from stream.music.keyboard import (
    BLACK_WIDTH_U,
    CENTRES_U,
    IS_BLACK,
    KEY_NAMES,
    PITCHES,
    keyboard_spec,
    keys_in_view,
    no_grid,
)
from stream.music.piano.rectify import KeyboardRectify, covered_keys
from stream.music.piano.strip import BLACK_ROWS, FRONT_ROWS, PX_PER_WHITE, Rectifier
from stream.node import GAVE_NOTHING, TROUBLE, Context, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.vision.frames import frame_packet, frame_spec


def straight_grid(left_px: float = 10.0, white_px: float = 10.0) -> np.ndarray:
    grid = no_grid()
    grid[:, :, 0] = left_px + white_px * np.arange(53)
    grid[:, :, 1] = np.array([20.0, 60.0, 80.0])[:, None]
    return grid


def test_a_piano_has_52_white_keys_in_a_row_and_36_black_ones_between_them() -> None:
    assert (KEY_NAMES[0], KEY_NAMES[PITCHES.index(60)], KEY_NAMES[-1]) == ("A0", "C4", "C8")
    assert IS_BLACK.sum() == 36
    np.testing.assert_allclose(CENTRES_U[~IS_BLACK], np.arange(52) + 0.5)
    beside = CENTRES_U[IS_BLACK] - np.round(CENTRES_U[IS_BLACK])
    assert np.abs(beside).max() < BLACK_WIDTH_U / 2


def test_a_black_key_is_in_view_when_the_whites_beside_it_are() -> None:
    grid = straight_grid()
    grid[:, 10:] = np.nan
    seen = {name for name, there in zip(KEY_NAMES, keys_in_view(grid), strict=True) if there}
    assert {"A0", "A#0", "B0", "A1", "B1"} <= seen
    assert "C2" not in seen
    assert len(seen) == 9 + 6


@given(
    left=st.floats(5, 60), white=st.floats(8, 14), key=st.integers(0, 51), shift=st.floats(-8, 8)
)
def test_each_key_lies_at_its_place_in_the_strip_whatever_the_picture(
    left: float, white: float, key: int, shift: float
) -> None:
    frame = np.zeros((110, 860, 3), np.uint8)
    grid = straight_grid(left, white)
    grid[..., 1] += shift
    low, high = left + white * key, left + white * (key + 1)
    frame[:, int(np.ceil(low + 1)) : int(high)] = 255
    strip = Rectifier(grid)(frame)[BLACK_ROWS, :, 0].astype(float)
    middle = (strip * np.arange(len(strip))).sum() / strip.sum() / PX_PER_WHITE
    assert middle == pytest.approx(key + 0.5, abs=0.15)


def test_rows_of_the_strip_are_those_of_the_keys() -> None:
    frame = np.zeros((110, 600, 3), np.uint8)
    frame[20:61] = 100
    frame[61:81] = 200
    rows = Rectifier(straight_grid())(frame)[:, 300, 0]
    assert set(rows[1 : BLACK_ROWS - 1]) == {100}
    assert set(rows[BLACK_ROWS + 2 : BLACK_ROWS + FRONT_ROWS - 1]) == {200}
    assert rows[-1] == 0


def test_where_there_are_no_keys_the_strip_is_black() -> None:
    grid = straight_grid()
    grid[:, :11] = np.nan
    strip = Rectifier(grid)(np.full((110, 600, 3), 255, np.uint8))
    assert strip[:48, : 10 * PX_PER_WHITE].max() == 0
    assert strip[:48, 12 * PX_PER_WHITE :].min() == 255


@pytest.fixture
def node(tmp_path) -> KeyboardRectify:
    made = KeyboardRectify(NodeSettings())
    inputs = {"grid": keyboard_spec(110, 600, None), "camera": frame_spec(110, 600, 1 / 30, {})}
    made.outputs(inputs)
    made.open(Context(name="keys", inputs=inputs, run_dir=tmp_path))
    return made


def found(grid: np.ndarray, segment: int = 0, state: str = "found") -> Packet:
    return Packet("keyboard", grid, 0, 0, 0, segment=segment, meta={"state": state})


def a_frame(at: int, segment: int = 0) -> Packet:
    return frame_packet(np.full((110, 600, 3), 90, np.uint8), at, at, segment)


def test_frames_become_strips_with_their_times_once_a_keyboard_is_found(node) -> None:
    assert list(node.process("camera", a_frame(1))) == []
    assert node.context.counters.dropped == {"no_keyboard": 1}
    node.process("grid", found(straight_grid()))
    (strip,) = node.process("camera", a_frame(2))
    assert (strip.kind, strip.t_ns, strip.source_ns) == ("strip", 2, 2)
    assert strip.data.shape == (56, 624, 4)
    # Right of the middle of the picture, which is 300 px or 29 whites from the left.
    assert strip.data[0, 28 * 12 : 30 * 12 + 1, 3].tolist() == sorted(strip.data[0, 336:361, 3])
    assert abs(int(strip.data[0, 29 * 12, 3]) - 128) <= 1


def test_when_the_keyboard_is_gone_a_black_strip_ends_the_segment_and_none_follows(
    node,
) -> None:
    node.process("grid", found(straight_grid()))
    (strip,) = node.process("camera", a_frame(1))
    node.process("grid", found(no_grid(), state="none"))
    (last,) = node.process("camera", a_frame(2))
    assert (last.data.shape, last.data.max()) == (strip.data.shape, 0)
    assert (last.source_ns, last.segment > strip.segment) == (2, True)
    node.process("grid", found(no_grid(), state="none"))
    assert list(node.process("camera", a_frame(3))) == []
    assert node.context.counters.dropped == {"no_keyboard": 1}


def test_the_report_says_when_no_keyboard_was_found(node) -> None:
    node.process("camera", a_frame(1))
    node.process("grid", found(no_grid(), state="none"))
    node.process("camera", a_frame(2))
    node.finish()
    assert "no keyboard was found, frames looked at: 2" in node.context.counters.notes[GAVE_NOTHING]


def test_the_report_says_while_it_is_not_seen_which_octave_is_which(node) -> None:
    notes = node.context.counters.notes
    for segment, octave, told in ((0, "assumed", True), (1, "seen", False), (2, "assumed", True)):
        packet = found(straight_grid(), segment)
        packet.meta["octave"] = octave
        node.process("grid", packet)
        assert ("give 'lowest'" in notes[TROUBLE]) == told
    node.finish()
    assert GAVE_NOTHING not in notes


def test_keys_that_something_lies_over_are_named_in_the_strip_and_counted(node) -> None:
    random = np.random.default_rng(0)
    board = random.integers(0, 256, (110, 600, 3)).astype(np.uint8)
    sheet = board.copy()
    sheet[:, :200] = 200
    node.process("grid", found(straight_grid()))
    node.process("camera", frame_packet(board, 1, 1, 0))
    (strip,) = node.process("camera", frame_packet(sheet, 2, 2, 0))
    named = covered_keys(strip)
    assert named[:30].all()
    assert not named[45:].any()
    assert node.context.counters.notes["covered_frames"] == 1


def test_a_segment_begins_with_another_keyboard_but_not_while_one_is_followed(node) -> None:
    node.process("grid", found(straight_grid()))
    (first,) = node.process("camera", a_frame(1))
    node.process("grid", found(straight_grid(10.4)))
    (followed,) = node.process("camera", a_frame(2))
    node.process("grid", found(straight_grid(60.0), segment=1))
    (other,) = node.process("camera", a_frame(3))
    (again,) = node.process("camera", a_frame(0, segment=1))
    assert first.segment == followed.segment < other.segment < again.segment


def test_frames_of_another_size_than_those_of_the_keyboard_are_refused() -> None:
    inputs = {"grid": keyboard_spec(360, 640, None), "camera": frame_spec(110, 600, None, {})}
    with pytest.raises(ConfigError, match=r"640x360.*600x110"):
        KeyboardRectify(NodeSettings()).outputs(inputs)


def test_rectifying_takes_frames_and_a_keyboard() -> None:
    with pytest.raises(ConfigError, match=r"from: \[camera, grid\]"):
        KeyboardRectify(NodeSettings()).outputs({"camera": frame_spec(110, 600, None, {})})
    other = StreamSpec("keyboard", (4, 2), "float32")
    with pytest.raises(ConfigError, match=r"keyboard\.find"):
        KeyboardRectify(NodeSettings()).outputs(
            {"camera": frame_spec(110, 600, None, {}), "grid": other}
        )
