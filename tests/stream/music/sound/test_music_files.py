"""Files of notes and of sound, read back by other libraries."""

from __future__ import annotations

import shutil
import wave

import mido
import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_font import ROOT, write_font

from stream.errors import RecordingError
from stream.music.midi.midi_file import MidiFile
from stream.music.notes import SUSTAIN, control, note_off, note_on, program
from stream.music.sound.samples import RATE_HZ, Samples
from stream.music.sound.soundfont import SoundFont
from stream.music.sound.sounds import Synth
from stream.music.sound.wav_file import WavFile

TICK_S = 0.5 / 960


def ns(seconds):
    return round(seconds * 1e9)


@pytest.fixture
def wav(tmp_path):
    samples = Samples(SoundFont(write_font(tmp_path / "tiny.sf2")))
    samples.prepare(0, 0)
    return lambda gain=1.0, silence_s=1.0: WavFile(
        tmp_path / "out.wav", Synth(samples, gain), silence_s
    )


def read_wav(path):
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, RATE_HZ)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)


def onset_s(sound):
    return np.nonzero(np.abs(sound[:, 0]) > 30)[0][0] / RATE_HZ


# Notes


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.floats(0.001, 3.0), st.integers(21, 108), st.integers(1, 127)),
        min_size=1, max_size=30,
    )
)  # fmt: skip
def test_notes_come_back_with_their_times_and_velocities(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("mid") / "out.mid"
    file = MidiFile(path, 10.0)
    now_s, wanted = 0.0, []
    for length_s, pitch, velocity in steps:
        file.play(ns(now_s), [note_on(pitch, velocity)])
        wanted.append((pitch, velocity, now_s, now_s + length_s))
        now_s += length_s
        file.play(ns(now_s), [note_off(pitch)])
    file.close()
    notes = [n for i in pretty_midi.PrettyMIDI(str(path)).instruments for n in i.notes]
    notes.sort(key=lambda note: note.start)
    # A note shorter than a tick has no length in the file.
    wanted = [note for note in wanted if round(note[2] / TICK_S) < round(note[3] / TICK_S) - 1]
    found = {(n.pitch, n.velocity) for n in notes}
    assert {(pitch, velocity) for pitch, velocity, _, _ in wanted} <= found
    for pitch, velocity, start_s, end_s in wanted:
        near = min(
            (n for n in notes if (n.pitch, n.velocity) == (pitch, velocity)),
            key=lambda n: abs(n.start - start_s),
        )
        assert near.start == pytest.approx(start_s, abs=1.01 * TICK_S)
        assert near.end == pytest.approx(end_s, abs=1.01 * TICK_S)


def test_a_midi_file_that_is_never_closed_ends_every_note(tmp_path):
    path = tmp_path / "out.mid"
    file = MidiFile(path, 10.0)
    file.play(0, [(0x90, 60, 80), (0xB0, 64, 127)])
    file.play(10**9, [(0x90, 64, 80)])
    file.save()
    assert _held_at_end(path) == set()
    assert mido.MidiFile(path).length == pytest.approx(1.0)
    file.play(2 * 10**9, [(0x80, 60, 0), (0x80, 64, 0), (0xB0, 64, 0)])
    file.save()
    assert _held_at_end(path) == set()
    assert mido.MidiFile(path).length == pytest.approx(2.0)
    messages = [m for m in mido.MidiFile(path).tracks[0] if m.type == "note_off"]
    assert len(messages) == 2


def _held_at_end(path):
    down = set()
    for message in mido.MidiFile(path).tracks[0]:
        if message.type in ("note_on", "note_off"):
            (down.add if message.type == "note_on" else down.discard)(message.note)
    return down


def test_programs_and_pedals_come_back(tmp_path):
    file = MidiFile(tmp_path / "out.mid", 10.0)
    file.play(0, [program(40), control(SUSTAIN, 127), note_on(60, 100)])
    file.play(ns(1.0), [note_off(60), control(SUSTAIN, 0)])
    file.close()
    (instrument,) = pretty_midi.PrettyMIDI(str(file.path)).instruments
    assert instrument.program == 40
    assert [(c.number, c.value) for c in instrument.control_changes] == [(64, 127), (64, 0)]


def test_what_is_held_at_the_end_is_released_there(tmp_path):
    file = MidiFile(tmp_path / "out.mid", 10.0)
    file.play(ns(1.0), [note_on(60, 100)])
    file.play(ns(4.0), [])
    file.close()
    (note,) = pretty_midi.PrettyMIDI(str(file.path)).instruments[0].notes
    assert (note.start, note.end) == pytest.approx((1.0, 4.0), abs=TICK_S)


def test_a_note_without_further_packets_ends_after_the_silence(tmp_path):
    file = MidiFile(tmp_path / "out.mid", 0.5)
    file.play(ns(1.0), [note_on(60, 100)])
    file.play(ns(9.0), [])
    file.close()
    (note,) = pretty_midi.PrettyMIDI(str(file.path)).instruments[0].notes
    assert note.end == pytest.approx(1.5, abs=TICK_S)
    assert file.silences == 1


def test_after_each_save_there_is_a_whole_file_on_disk(tmp_path):
    file = MidiFile(tmp_path / "out.mid", 10.0)
    for number in range(200):
        file.play(ns(number / 10), [note_on(60, 100)])
        file.play(ns(number / 10 + 0.05), [note_off(60)])
        if number % 50 == 0:
            file.save()
            copy = shutil.copy(file.path, tmp_path / "copy.mid")
            (track,) = mido.MidiFile(copy).tracks
            presses = [m for m in track if m.type == "note_on" and m.velocity]
            assert len(presses) == number + 1
            assert track[-1].type == "end_of_track"
    file.close()


def test_times_of_a_calendar_begin_with_the_first_packet(tmp_path):
    file = MidiFile(tmp_path / "out.mid", 10.0)
    epoch_s = 1_700_000_000.0
    file.play(ns(epoch_s), [note_on(60, 100)])
    file.play(ns(epoch_s + 1), [note_off(60)])
    file.close()
    (note,) = pretty_midi.PrettyMIDI(str(file.path)).instruments[0].notes
    assert (note.start, note.end) == pytest.approx((0, 1), abs=TICK_S)
    assert file.starts_s == pytest.approx(epoch_s)


@pytest.mark.parametrize("kind", [MidiFile, WavFile])
def test_a_folder_that_cannot_be_written_is_told(tmp_path, kind):
    arguments = (None, 1.0) if kind is WavFile else (1.0,)
    with pytest.raises(RecordingError, match="cannot be written"):
        kind(tmp_path / "none" / "out", *arguments)


# Sound


def test_a_note_sounds_at_its_time_at_the_source(wav):
    file = wav()
    file.play(0, [])
    file.play(ns(1.5), [note_on(ROOT, 100)])
    file.play(ns(2.0), [note_off(ROOT)])
    file.close()
    sound = read_wav(file.path)
    assert onset_s(sound) == pytest.approx(1.5, abs=0.002)
    assert len(sound) >= 2.0 * RATE_HZ
    assert not sound[-1].any(), "it has faded"


def test_a_file_of_a_clip_that_is_entered_late_begins_there(wav):
    file = wav()
    file.play(ns(600.0), [])
    file.play(ns(600.5), [note_on(ROOT, 100)])
    file.close()
    assert onset_s(read_wav(file.path)) == pytest.approx(0.5, abs=0.002)
    assert file.starts_s == 600.0


def test_a_long_time_without_packets_is_cut_to_a_minute(wav):
    file = wav()
    file.play(0, [note_on(ROOT, 100)])
    file.play(ns(3600.0), [note_on(ROOT, 100)])
    file.play(ns(3601.0), [])
    file.close()
    assert len(read_wav(file.path)) / RATE_HZ == pytest.approx(62, abs=1)
    assert file.cut_s == pytest.approx(3540, abs=1.1)
    assert file.silences == 1


def test_what_was_written_can_be_read_while_more_is_written(wav, tmp_path):
    file = wav()
    for number in range(500):
        file.play(ns(number / 100), [])
    copy = shutil.copy(file.path, tmp_path / "copy.wav")
    assert len(read_wav(copy)) >= 3.9 * RATE_HZ
    file.close()


def test_frames_that_are_too_loud_are_counted(wav):
    file = wav(gain=10.0)
    file.play(0, [note_on(key, 127) for key in range(50, 70)])
    file.play(ns(0.2), [])
    file.close()
    assert file.clipped > 100
