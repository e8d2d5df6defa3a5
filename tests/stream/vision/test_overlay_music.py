"""What `overlay` draws of keyboards and notes."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from music_doubles import C4, grid_packet, level_grid, notes_packet
from vision_doubles import number_of, numbered

from stream.errors import ConfigError
from stream.music.heard import Listener
from stream.music.key_drawing import key_outlines
from stream.music.keyboard import LOWEST_PITCH, PITCHES, keyboard_spec, no_grid
from stream.music.notes import SUSTAIN, control, events, note_off, note_on, notes_spec
from stream.music.roll import SHOWN_NS, Roll
from stream.node import Context, StreamSpec
from stream.vision.frames import frame_packet, frame_spec
from stream.vision.overlay import Overlay, OverlaySettings
from stream.vision.video_file import VideoFile

HERE = Path(__file__).parent
MS = 1_000_000
HEIGHT, WIDTH = 120, 320
ROLL = 48
FRAMES = frame_spec(HEIGHT, WIDTH, 0.1, {})
KEYBOARD = keyboard_spec(HEIGHT, WIDTH, None)
NOTES = notes_spec(0.1)
GRID = level_grid(30, 290, 40, 100)
PLAIN = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)


def opened(folder: Path, inputs: dict[str, StreamSpec]) -> tuple[Overlay, list[np.ndarray]]:
    """An overlay, and the pictures that it has drawn so far."""
    node = Overlay(OverlaySettings(file=folder / "shown.mp4"))
    node.outputs(inputs)
    node.open(Context("shown", inputs, folder, pipeline="test"))
    drawn: list[np.ndarray] = []
    draw = node._painter.draw

    def kept(frame, scene):
        picture = draw(frame, scene)
        drawn.append(picture.copy())
        return picture

    node._painter.draw = kept
    return node, drawn


def frame(at_ms: int):
    return frame_packet(PLAIN, 0, at_ms * MS, 0)


def finish(node: Overlay) -> None:
    list(node.finish())
    node.close()


def inside(grid: np.ndarray, pitch: int) -> tuple[int, int]:
    """A pixel (row, column) on a key, in front of the blacks for a white one."""
    corners = key_outlines(grid)[pitch - LOWEST_PITCH]
    x, y = corners.mean(axis=0) if len(corners) == 4 else corners[[3, 4, 5, 6]].mean(axis=0)
    return round(float(y)), round(float(x))


def is_lit(picture: np.ndarray, pitch: int, grid: np.ndarray = GRID) -> bool:
    row, column = inside(grid, pitch)
    blue, _, red = picture[ROLL + row, column].astype(int)
    return blue - red > 30


def test_a_key_is_lit_from_note_on_to_note_off_and_paler_while_the_pedal_holds_it(tmp_path):
    node, drawn = opened(tmp_path, {"cam": FRAMES, "grid": KEYBOARD, "notes": NOTES})
    node.process("grid", grid_packet(GRID, 0))
    played = {
        1: [note_on(C4, 90), note_on(66, 60)], 3: [note_off(C4)], 4: [control(SUSTAIN, 127)],
        5: [note_off(66)], 7: [control(SUSTAIN, 0)],
    }  # fmt: skip
    for number in range(9):
        node.process("cam", frame(100 * number))
        node.process("notes", notes_packet(100 * number * MS, *played.get(number, [])))
    finish(node)
    assert [is_lit(picture, C4) for picture in drawn] == [False, True, True] + [False] * 6
    assert [is_lit(picture, 66) for picture in drawn] == [False] + 6 * [True] + 2 * [False]
    row, column = inside(GRID, 66)
    held, sustained = (drawn[n][ROLL + row, column].astype(int) for n in (4, 5))
    assert np.abs(held - PLAIN[0, 0]).sum() > 1.5 * np.abs(sustained - PLAIN[0, 0]).sum()
    others = [pitch for pitch in PITCHES if pitch not in (C4, 66)]
    assert not any(is_lit(drawn[2], pitch) for pitch in others), "and no other key is"
    assert "drawn_unmatched" not in node.context.counters.notes


def test_the_roll_scrolls_up_and_its_notes_stand_over_their_keys(tmp_path):
    node, drawn = opened(tmp_path, {"cam": FRAMES, "grid": KEYBOARD, "notes": NOTES})
    node.process("grid", grid_packet(GRID, 0))
    for number in range(50):
        node.process("cam", frame(100 * number))
        messages = {1: [note_on(C4, 127)], 11: [note_off(C4)]}.get(number, [])
        node.process("notes", notes_packet(100 * number * MS, *messages))
    finish(node)
    _, column = inside(GRID, C4)

    def rows(number: int) -> list[int]:
        blue, red = (drawn[number][: ROLL - 1, column, c].astype(int) for c in (0, 2))
        return np.flatnonzero(blue - red > 60).tolist()

    a_second = round(1000 * MS / SHOWN_NS * ROLL)
    assert rows(0) == []
    assert rows(11)[-1] == ROLL - 2, "a note that ends now touches the lower edge"
    assert len(rows(11)) == pytest.approx(a_second - 1, abs=1)
    for number in (21, 31):
        for end in (0, -1):
            assert rows(number)[end] == pytest.approx(rows(number - 10)[end] - a_second, abs=1)
    assert rows(49)[0] == 0, "it leaves by the upper edge"
    beside = drawn[21][: ROLL - 1, column + 8].astype(int)
    assert (beside[:, 0] - beside[:, 2] < 60).all()


def test_the_grid_and_the_roll_move_with_the_keyboard(tmp_path):
    node, drawn = opened(tmp_path, {"cam": FRAMES, "grid": KEYBOARD, "notes": NOTES})
    moved = GRID + np.float32([20, 10])
    for number, grid in enumerate((GRID, moved)):
        node.process("grid", grid_packet(grid, 100 * number * MS))
        node.process("notes", notes_packet(100 * number * MS, *[note_on(C4, 90)][number:]))
        node.process("cam", frame(100 * number))
    node.process("grid", grid_packet(no_grid(), 200 * MS, "none"))
    node.process("cam", frame(200))
    finish(node)
    assert [is_lit(drawn[0], C4), is_lit(drawn[1], C4)] == [True, False]
    assert is_lit(drawn[1], C4, moved)
    changed = [(picture[ROLL : ROLL + HEIGHT, :WIDTH] != PLAIN).any(axis=2) for picture in drawn]
    left, top = (int(np.flatnonzero(changed[0].any(axis=axis))[0]) for axis in (0, 1))
    assert (left, top) == (30, 40) or (left, top) == (29, 39)
    assert [int(np.flatnonzero(changed[1].any(axis=axis))[0]) for axis in (0, 1)] == [
        left + 20, top + 10
    ]  # fmt: skip
    assert not changed[2].any(), "without a keyboard the frame is left as it is"
    written = [int((picture[ROLL + HEIGHT :, : WIDTH // 2] > 100).sum()) for picture in drawn]
    assert written[2] > 1.5 * written[1], "'no keyboard found' has more letters than a time"


def test_frames_wait_for_notes_but_not_for_a_keyboard_nor_for_notes_without_one(tmp_path):
    node, drawn = opened(tmp_path, {"cam": FRAMES, "grid": KEYBOARD, "notes": NOTES})
    node.process("cam", frame(0))
    assert len(drawn) == 1, "no keyboard has been found yet"
    node.process("grid", grid_packet(GRID, 0))
    node.process("cam", frame(100))
    node.process("cam", frame(200))
    assert len(drawn) == 1
    node.process("notes", notes_packet(100 * MS))
    assert len(drawn) == 2
    node.process("notes", notes_packet(200 * MS))
    assert len(drawn) == 3
    node.process("grid", grid_packet(no_grid(), 300 * MS, "none"))
    node.process("cam", frame(300))
    assert len(drawn) == 4
    finish(node)
    assert "drawn_unmatched" not in node.context.counters.notes


def test_a_new_segment_of_notes_begins_in_silence(tmp_path):
    node, drawn = opened(tmp_path, {"cam": FRAMES, "grid": KEYBOARD, "notes": NOTES})
    node.process("grid", grid_packet(GRID, 0))
    node.process("notes", notes_packet(0, note_on(C4, 90)))
    node.process("cam", frame(0))
    node.process("notes", notes_packet(100 * MS, segment=1))
    node.process("cam", frame(100))
    finish(node)
    assert [is_lit(picture, C4) for picture in drawn] == [True, False]


def test_what_is_no_midi_and_notes_of_no_key_are_counted(tmp_path):
    node, drawn = opened(tmp_path, {"cam": FRAMES, "notes": NOTES})
    broken = notes_packet(0)
    broken.data = np.full((1, 3), 200, np.uint8)
    node.process("notes", broken)
    node.process("notes", notes_packet(MS, note_on(5, 90), note_on(C4, 90)))
    node.process("cam", frame(100))
    finish(node)
    assert node.context.counters.dropped == {"no_midi_messages": 1, "note_without_key": 1}
    assert len(drawn) == 1


def test_without_a_keyboard_the_roll_takes_the_whole_width(tmp_path):
    node, drawn = opened(tmp_path, {"cam": FRAMES, "notes": NOTES})
    node.process("notes", notes_packet(0, note_on(21, 127), note_on(108, 127)))
    node.process("notes", notes_packet(1000 * MS))
    node.process("cam", frame(1000))
    finish(node)
    row = drawn[0][ROLL - 3].astype(int)
    lit = np.flatnonzero(row[:, 0] - row[:, 2] > 60)
    assert lit[0] < 10
    assert lit[-1] > WIDTH - 10
    assert (drawn[0][ROLL : ROLL + HEIGHT, :WIDTH] == PLAIN).all()


def test_keyboards_and_notes_that_do_not_fit_are_refused(tmp_path):
    def refuse(inputs, match):
        with pytest.raises(ConfigError, match=match):
            Overlay(OverlaySettings()).outputs({"cam": FRAMES, **inputs})

    refuse({"a": NOTES, "b": NOTES}, "at most one stream of notes")
    refuse({"a": KEYBOARD, "b": KEYBOARD}, "at most one stream of keyboards")
    refuse({"a": keyboard_spec(480, 640, None)}, "in frames of 640x480, 'overlay' gets .* 320x120")
    refuse({"a": dataclasses.replace(KEYBOARD, shape=(3, 50, 2))}, "takes the keyboard that")
    refuse({"a": dataclasses.replace(NOTES, dtype="float32")}, "takes notes, 'a' carries")


def test_pedal_repeats_and_silence_make_the_notes_that_a_piano_would():
    listener = Listener()
    for at, messages in enumerate(
        [
            [note_on(60, 10)],
            [note_on(60, 20)],  # again, without having been released
            [control(SUSTAIN, 100)],
            [note_off(60), note_on(62, 30)],
            [(0x90, 62, 0)],  # velocity 0 is a release
            [note_off(62)],  # released before
            [control(SUSTAIN, 10)],
            [note_on(64, 40)],
            [control(123, 0)],
            [note_off(99)],
        ]
    ):
        listener.add(events(messages), at)
    told = [(n.pitch, n.velocity, n.on_ns, n.off_ns, n.end_ns) for n in listener.notes]
    assert told == [(60, 10, 0, 1, 1), (60, 20, 1, 3, 6), (62, 30, 3, 4, 6), (64, 40, 7, 8, 8)]


_MESSAGES = st.one_of(
    st.tuples(st.sampled_from([0x80, 0x90]), st.integers(0, 127), st.integers(0, 127)),
    st.tuples(st.just(0xB0), st.sampled_from([64, 120, 123, 7]), st.integers(0, 127)),
)


@given(st.lists(_MESSAGES, max_size=40))
def test_whatever_is_played_notes_begin_before_they_are_released_and_fall_silent(messages):
    listener = Listener()
    for at, message in enumerate(messages):
        listener.add(events([message]), at)
    listener.end(len(messages))
    struck = sum(kind == 0x90 and value > 0 for kind, _, value in messages)
    assert len(listener.notes) == struck
    for note in listener.notes:
        assert note.on_ns < note.off_ns <= note.end_ns <= len(messages)
    listener.forget(len(messages) + 1)
    assert listener.notes == []


@given(
    st.integers(4, 300), st.integers(8, 600),
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=6, max_size=6),
    st.lists(st.integers(0, 52), max_size=30),
)  # fmt: skip
def test_any_grid_can_be_drawn(height, width, corners, unseen):
    from stream.music.key_drawing import draw_keys, light_keys

    x0, x1, y0, y1, dx, dy = corners
    grid = np.zeros((3, 53, 2), np.float32)
    share = np.linspace(0, 1, 53)
    for row in range(3):
        grid[row, :, 0] = x0 + (x1 - x0) * share + row * dx
        grid[row, :, 1] = y0 + (y1 - y0) * share + row * dy
    grid[:, unseen] = np.nan
    picture = np.zeros((height, width, 3), np.uint8)
    draw_keys(picture, grid)
    light_keys(picture, grid, dict.fromkeys(range(128), 1.0))
    listener = Listener()
    listener.add(events([note_on(60, 1), note_on(108, 1)]), 0)
    Roll(height, width).draw(picture, listener.notes, 10, grid)


def test_a_run_writes_a_video_in_which_the_key_is_lit_and_the_grid_moves(
    start, write_video, tmp_path, monkeypatch
):
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONPATH", path)
    process, report = start(
        clip={"use": "video", "file": str(write_video(frames=25, size=(WIDTH, HEIGHT)))},
        grid={"use": "music_doubles:MovingKeyboard"},
        notes={"use": "music_doubles:OneKey"},
        shown={
            "use": "overlay", "file": str(tmp_path / "out.mp4"),
            "from": [{"stream": "clip", "deliver": "lossless"}, "grid", "notes"],
        },
    )  # fmt: skip
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 0, output
    told = json.loads(report.read_text())["nodes"]["shown"]
    assert told["notes"].get("drawn_unmatched", 0) == 0
    frames = [frame for _, frame in VideoFile(tmp_path / "out.mp4").frames()]
    assert len(frames) == 25
    assert frames[0].shape[0] > HEIGHT + ROLL
    # The stripes of a frame's number are read above the keyboard.
    read = [number_of(picture[ROLL : ROLL + 36]) for picture in frames]
    assert read == [number_of(numbered(number, (WIDTH, HEIGHT))[:36]) for number in range(25)]
    plain = [numbered(number, (WIDTH, HEIGHT)).astype(int) for number in range(25)]

    def coloured(number: int) -> float:
        """How much bluer than red the key is; what lies below is grey."""
        grid = level_grid(20 + 2 * number, 228 + 2 * number, 40, 100)
        row, column = inside(grid, C4)
        assert np.ptp(plain[number][row, column]) == 0
        blue, _, red = frames[number][ROLL + row, column].astype(int)
        return float(blue - red)

    lit = [coloured(number) > 40 for number in range(25)]
    assert lit == [5 <= number < 15 for number in range(25)]
