"""Notes from MIDI and from truths that somebody made by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.audeo.notes import Note, Notes, in_order, piano_roll, read_midi, read_truth, write_midi
from stream.errors import RecordingError


def test_notes_come_back_from_midi_as_they_were_written(tune: Notes, tune_file: Path) -> None:
    read = read_midi(tune_file)
    assert [(n.pitch, n.velocity) for n in read] == [(n.pitch, n.velocity) for n in in_order(tune)]
    assert np.allclose(
        [(n.onset_s, n.offset_s) for n in read],
        [(n.onset_s, n.offset_s) for n in in_order(tune)],
        atol=1 / 1920,
    )


def write_messages(path: Path, *messages: mido.Message | mido.MetaMessage) -> Path:
    mido.MidiFile(tracks=[mido.MidiTrack(messages)], ticks_per_beat=500).save(path)
    return path


def test_a_change_of_tempo_moves_what_follows(tmp_path: Path) -> None:
    path = write_messages(
        tmp_path / "a.mid",
        mido.Message("note_on", note=60, velocity=80, time=500),
        mido.MetaMessage("set_tempo", tempo=1_000_000, time=0),
        mido.Message("note_off", note=60, time=500),
    )
    assert read_midi(path) == (Note(60, 0.5, 1.5, 80),)


def test_a_key_pressed_again_while_down_ends_its_first_note_and_one_never_released_the_file(
    tmp_path: Path,
) -> None:
    path = write_messages(
        tmp_path / "a.mid",
        mido.Message("note_on", note=60, velocity=80),
        mido.Message("note_on", note=60, velocity=70, time=500),
        mido.Message("note_on", note=64, velocity=0, time=0),
        mido.MetaMessage("end_of_track", time=1000),
    )
    assert read_midi(path) == (Note(60, 0, 0.5, 80), Note(60, 0.5, 1.5, 70))


def test_percussion_is_no_note_of_the_piano(tmp_path: Path) -> None:
    path = write_messages(
        tmp_path / "a.mid",
        mido.Message("note_on", note=12, velocity=80, channel=9),
        mido.Message("note_off", note=12, channel=9, time=500),
    )
    assert read_midi(path) == ()


@pytest.mark.parametrize("content", [b"", b"RIFF and so on", b"MThd\x00\x00\x00\x06\x00\x01"])
def test_what_is_no_midi_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=re.escape(str(path))):
        read_midi(path)


def test_pitches_that_no_piano_has_are_refused(tmp_path: Path) -> None:
    path = write_messages(tmp_path / "a.mid", mido.Message("note_on", note=12, velocity=80))
    with pytest.raises(RecordingError, match="pitch 12; a piano has 21 to 108"):
        read_midi(path)


def write_clip(path: Path, **changes: object) -> Path:
    notes = [
        {"pitch": 60, "onset_frame": 15, "release_frame": 30, "sure": True},
        {"pitch": 62, "onset_frame": 3, "release_frame": 6, "sure": False},
    ]
    path.write_text(json.dumps({"rate_hz": 30, "frames": [0, 59], "notes": notes} | changes))
    return path


def test_a_truth_made_by_hand_tells_what_is_sure_and_which_frames_were_looked_at(
    tmp_path: Path,
) -> None:
    truth = read_truth(write_clip(tmp_path / "truth.json"))
    assert truth.notes == (Note(60, 0.5, 1.0),)
    assert truth.unsure == (Note(62, 0.1, 0.2),)
    assert truth.span_s == (0.0, 2.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate_hz": 0}, "0.0 frames a second"),
        ({"frames": [1]}, "no truth of notes"),
        ({"notes": [{"pitch": 60, "onset_frame": 5, "release_frame": 5}]}, "not after its onset"),
        ({"notes": [{"pitch": 20, "onset_frame": 5, "release_frame": 6}]}, "pitch 20"),
    ],
)
def test_a_truth_that_cannot_be_is_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecordingError, match=message):
        read_truth(write_clip(tmp_path / "truth.json", **changes))


def test_a_key_is_down_from_the_frame_of_its_onset_to_the_one_before_its_release() -> None:
    rate = 30.0
    notes = [Note(21, 3 / rate, 6 / rate), Note(108, 7.5 / rate, 7.6 / rate)]
    roll = piano_roll(notes, rate, (0, 10 / rate))
    assert roll.shape == (10, 88)
    assert np.flatnonzero(roll[:, 0]).tolist() == [3, 4, 5]
    assert np.flatnonzero(roll[:, 87]).tolist() == [8]
    assert roll.sum() == 4


@given(
    st.integers(0, 100), st.integers(1, 100), st.sampled_from([24.0, 25.0, 29.97, 30.0, 60.0]),
    st.integers(0, 50),
)  # fmt: skip
def test_a_roll_has_the_frames_that_notes_were_marked_in(
    onset: int, length: int, rate: float, start: int
) -> None:
    note = Note(60, onset / rate, (onset + length) / rate)
    roll = piano_roll([note], rate, (start / rate, 250 / rate))
    expected = [f - start for f in range(onset, onset + length) if f >= start]
    assert np.flatnonzero(roll[:, 60 - 21]).tolist() == expected


def test_notes_are_written_in_time_however_close(tmp_path: Path) -> None:
    notes = in_order(Note(60, 0.1 * i, 0.1 * i + 0.1, 1 + i) for i in range(50))
    write_midi(notes, tmp_path / "a.mid")
    read = read_midi(tmp_path / "a.mid")
    assert [n.velocity for n in read] == [n.velocity for n in notes]
    assert max(abs(a.onset_s - b.onset_s) for a, b in zip(read, notes, strict=True)) < 1 / 1900
