"""Notes begin once, end always, and are never stuck."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from stream.errors import ConfigError
from stream.model_file import read_model
from stream.music.collect.alignment import NETWORK
from stream.music.keyboard import KEY_NAMES
from stream.music.notes import NOTE_ON, are_events
from stream.music.piano.note_tracking import NoteTracker
from stream.music.piano.piano_notes import PianoNotes, PianoNotesSettings
from stream.music.piano.rectify import strip_spec
from stream.node import GAVE_NOTHING, TROUBLE, Context, StreamSpec
from stream.nodes.model import Model, ModelSettings
from stream.packet import Packet

FRAME_NS = 33_333_333
SPEC = StreamSpec("keys", (3, 88), "float32", KEY_NAMES, "", 1 / 30, {"threshold": 0.7})


def played(onset: list[float], frame: list[float], key: int = 40) -> list[tuple[int, str]]:
    """What a tracker says of one key: frame number, and on or off."""
    tracker = NoteTracker(0.6, 0.4)
    said = []
    for number, (o, f) in enumerate(zip(onset, frame, strict=True)):
        rows = np.zeros((3, 88))
        rows[:, key] = o, f, 0.5
        for change in tracker.push(number * FRAME_NS, *rows):
            assert change.key == key
            said.append((number, "off" if change.velocity is None else "on"))
    return said


def test_a_note_begins_in_the_frame_of_its_onset_and_ends_when_the_key_is_up() -> None:
    onset = [0, 0.2, 0.9, 0.8, 0.1, 0, 0, 0]
    frame = [0, 0.2, 0.6, 0.9, 0.9, 0.9, 0.2, 0]
    assert played(onset, frame) == [(2, "on"), (6, "off")]


def test_a_probability_that_stays_high_is_one_note() -> None:
    assert played([0.9] * 10, [0.9] * 10) == [(0, "on")]


def test_a_key_that_is_struck_again_is_released_first() -> None:
    onset = [0.9, 0.8, 0.1, 0.1, 0.9, 0.5]
    assert played(onset, [0.9] * 6) == [(0, "on"), (4, "off"), (4, "on")]


def test_an_onset_without_a_key_that_is_down_is_a_short_note() -> None:
    assert played([0.9, 0, 0, 0], [0, 0, 0, 0]) == [(0, "on"), (2, "off")]


def test_more_keys_at_once_than_there_are_fingers_are_none_and_counted() -> None:
    tracker = NoteTracker(0.6, 0.4)
    rows = np.zeros((3, 88))
    rows[:, 20:32] = 0.9
    assert tracker.push(0, *rows) == []
    assert tracker.implausible == 1
    rows[:, 28:] = 0
    assert len(tracker.push(FRAME_NS, *rows)) == 8


def test_a_note_that_never_seems_to_end_is_ended() -> None:
    said = played([0.9] + [0.0] * 400, [0.9] * 401)
    assert said[0] == (0, "on")
    assert said[1][1] == "off"
    assert len(said) == 2


@settings(max_examples=50)
@given(npst.arrays(np.float32, (40, 3, 88), elements=st.floats(0, 1, width=32)), st.data())
def test_whatever_comes_notes_begin_and_end_in_turn_and_none_stays(found, data) -> None:
    tracker = NoteTracker(data.draw(st.floats(0.05, 0.95)), data.draw(st.floats(0.05, 0.95)))
    down: set[int] = set()
    for number, rows in enumerate(found):
        for change in tracker.push(number * FRAME_NS, *rows):
            if change.velocity is None:
                down.remove(change.key)
            else:
                assert change.key not in down
                down.add(change.key)
    assert {change.key for change in tracker.reset()} == down
    assert tracker.reset() == []


@pytest.fixture
def node(tmp_path) -> PianoNotes:
    made = PianoNotes(PianoNotesSettings())
    made.outputs({"press": SPEC})
    made.open(Context(name="notes", inputs={"press": SPEC}, run_dir=tmp_path))
    return made


def keys(number: int, down: tuple[int, ...] = (), segment: int = 0) -> Packet:
    rows = np.zeros((3, 88), np.float32)
    rows[:, list(down)] = 0.9
    at = number * FRAME_NS
    return Packet("keys", rows, at, at, at, segment=segment)


def strip(covered: tuple[int, ...] = ()) -> Packet:
    meta = {"covered": list(covered)} if covered else {}
    return Packet("strip", np.zeros((1, 1, 4), np.uint8), 0, 0, 0, meta=meta)


def test_every_frame_leads_to_a_packet_also_without_a_note(node) -> None:
    assert node.context.counters.notes["begin"] == 0.7
    (silent,) = node.process("press", keys(0))
    (struck,) = node.process("press", keys(1, down=(39,)))
    assert (silent.kind, silent.data.shape) == ("notes", (0, 3))
    assert struck.data.tolist() == [[NOTE_ON, 60, 114]]
    assert struck.t_ns == FRAME_NS
    assert are_events(struck.data)


def test_notes_end_with_their_segment_and_with_the_stream(node) -> None:
    node.process("press", keys(0, down=(39,)))
    (packet,) = node.process("press", keys(1, segment=1))
    assert packet.data.tolist() == [[0x80, 60, 64]]
    node.process("press", keys(2, down=(10, 39), segment=1))
    (last,) = node.finish()
    assert sorted(last.data[:, 1]) == [31, 60]
    assert set(last.data[:, 0]) == {0x80}


def test_the_report_says_when_no_key_went_down(node) -> None:
    node.finish()
    assert GAVE_NOTHING not in node.context.counters.notes, "nothing was looked at"
    node.process("press", keys(0))
    node.finish()
    assert "no key" in node.context.counters.notes.pop(GAVE_NOTHING)
    node.process("press", keys(1, down=(39,)))
    node.finish()
    assert GAVE_NOTHING not in node.context.counters.notes


@pytest.mark.parametrize(("frames_apart", "slow"), [(1, 0), (2, 0), (3, 9)])
def test_frames_that_come_too_seldom_are_counted_and_told(node, frames_apart, slow) -> None:
    for number in range(10):
        node.process("press", keys(frames_apart * number))
    node.process("press", keys(100, segment=1))
    node.finish()
    notes = node.context.counters.notes
    assert notes.get("slow_frames", 0) == slow
    assert ("fewer than 15 frames" in notes.get(TROUBLE, "")) == (slow > 0)


def test_probabilities_that_are_no_numbers_are_refused_and_counted(node) -> None:
    bad = keys(0)
    bad.data[0, 3] = np.nan
    assert list(node.process("press", bad)) == []
    assert node.context.counters.dropped == {"not_finite": 1}


def test_a_key_that_is_covered_begins_no_note_and_one_that_sounds_ends(node) -> None:
    node.process("press", keys(0, down=(39, 50)))
    said: list[list[int]] = []
    for number in range(1, 10):
        node.process("keys", strip(covered=(39, 40)))
        (packet,) = node.process("press", keys(number, down=(39, 40, 50)))
        said += packet.data.tolist()
    assert said == [[0x80, 60, 64]]
    notes = node.context.counters.notes
    assert (notes["refused_on_covered"], notes["let_go_covered"]) == (1, 1)
    node.process("keys", strip())
    node.process("press", keys(10))
    (packet,) = node.process("press", keys(11, down=(40,)))
    assert NOTE_ON in packet.data[:, 0]


def test_beside_the_probabilities_only_strips_are_taken() -> None:
    with pytest.raises(ConfigError, match=r"from: \[press, keys\]; found press, again"):
        PianoNotes(PianoNotesSettings()).outputs({"press": SPEC, "again": SPEC})


def test_only_keys_of_a_piano_become_notes() -> None:
    with pytest.raises(ConfigError, match=r"88 keys.*'rates' carries rates"):
        PianoNotes(PianoNotesSettings()).outputs(
            {"rates": StreamSpec("rates", (20,), "float32", ("a",) * 20)}
        )


def test_notes_begin_by_the_threshold_of_the_shipped_network(tmp_path) -> None:
    model = Model(ModelSettings(file=NETWORK, device="cpu"))
    keys = model.outputs({"strips": strip_spec(1 / 30)})[""]
    notes = PianoNotes(PianoNotesSettings())
    notes.open(Context("notes", {"keys": keys}, tmp_path))
    assert notes.context.counters.notes["begin"] == read_model(NETWORK)[1].threshold
