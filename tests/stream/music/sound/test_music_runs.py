"""Notes that become sound and MIDI in real processes, and what happens when one of them dies."""

from __future__ import annotations

import json
import signal
import time
import wave

import mido
import numpy as np
import pretty_midi
import pytest

from benchmarks._null_sink import SINK

HELD = {"use": "toy_music:Scale", "held": True, "notes": 3, "lasts": 100_000}
AUDIBLE = 0.002
GUARD = "stream.music.midi.midi_guard"


def told(report, name):
    return json.loads(report.read_text())["nodes"][name]["notes"]


def read_wav(path):
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)


def notes_of(path):
    return [n for i in pretty_midi.PrettyMIDI(str(path)).instruments for n in i.notes]


def struck_in(path):
    return [m for track in mido.MidiFile(path).tracks for m in track if m.type == "note_on"]


def test_notes_become_a_wav_and_a_mid_as_fast_as_they_come(start, font, tmp_path):
    process, report = start(
        notes={"use": "toy_music:Scale", "speed": "max", "notes": 300, "frames": 10},
        sound={
            "use": "synth", "from": "notes", "file": str(tmp_path / "o.wav"), "soundfont": str(font)
        },
        score={"use": "midi", "from": "notes", "file": str(tmp_path / "o.mid")},
    )  # fmt: skip
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 0, output
    assert json.loads(report.read_text())["duration_s"] < 30
    assert len(read_wav(tmp_path / "o.wav")) / 48_000 == pytest.approx(60, abs=0.5)
    notes = notes_of(tmp_path / "o.mid")
    assert len(notes) == 300
    assert notes[100].start == pytest.approx(20.0, abs=0.001)
    assert str(tmp_path / "o.wav") in output


def test_the_same_notes_give_the_same_sound_at_any_speed(start, font, tmp_path):
    for speed in ("max", 4):
        process, _ = start(
            notes={"use": "toy_music:Scale", "speed": speed, "notes": 10},
            sound={
                "use": "synth", "from": "notes", "file": str(tmp_path / f"{speed}.wav"),
                "soundfont": str(font),
            },
        )  # fmt: skip
        output = process.communicate(timeout=100)[0]
        assert process.returncode == 0, output
    assert (tmp_path / "max.wav").read_bytes() == (tmp_path / "4.wav").read_bytes()


def test_notes_are_heard_at_the_sound_card_and_none_stays(start, start_sink, listen):
    capture = listen(start_sink())
    process, report = start(
        notes={"use": "toy_music:Scale", "notes": 12}, sound={"use": "synth", "from": "notes"}
    )
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 0, output
    samples, _ = capture.close()
    assert np.abs(samples.astype(int)).max() > 500
    notes = told(report, "sound")
    assert notes["silences"] == 0
    assert "released_at_end" not in notes
    assert "trouble" not in notes


def test_ctrl_c_releases_every_note_and_leaves_whole_files(start, tmp_path, font, wait_for):
    mid, wav = tmp_path / "o.mid", tmp_path / "o.wav"
    process, _ = start(
        notes=HELD,
        sound={"use": "synth", "from": "notes", "file": str(wav), "soundfont": str(font)},
        score={"use": "midi", "from": "notes", "file": str(mid)},
    )
    wait_for(lambda: wav.is_file() and wav.stat().st_size > 200_000, process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert len(notes_of(mid)) == 3
    assert mido.MidiFile(mid).tracks[0][-1].type == "end_of_track"
    assert not read_wav(wav)[-1].any()


def test_a_source_that_is_killed_ends_the_run_and_the_sound(  # noqa: PLR0917
    start, start_sink, listen, wait_for, part, tmp_path
):
    capture = listen(start_sink())
    mid, wav = tmp_path / "o.mid", tmp_path / "o.wav"
    process, _ = start(
        notes=HELD,
        sound={"use": "synth", "from": "notes", "device": "default", "file": str(wav)},
        score={"use": "midi", "from": "notes", "file": str(mid)},
    )
    wait_for(lambda: capture.loudness > AUDIBLE, process)
    wait_for(lambda: mid.is_file() and bool(struck_in(mid)), process)
    part(process, "notes").kill()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1, output
    assert "'notes' was killed by SIGKILL" in output
    wait_for(lambda: capture.loudness == 0)
    assert len(notes_of(mid)) >= 1
    assert np.abs(read_wav(wav).astype(int)).max() > 100


def test_when_the_synthesiser_is_killed_its_sound_stops(start, start_sink, listen, wait_for, part):
    capture = listen(start_sink())
    process, _ = start(notes=HELD, sound={"use": "synth", "from": "notes"})
    wait_for(lambda: capture.loudness > AUDIBLE, process)
    part(process, "sound").kill()
    assert process.wait(timeout=60) == 1
    wait_for(lambda: capture.loudness == 0)


def test_a_sender_that_is_alive_but_silent_does_not_hold_a_note(
    start, start_sink, listen, wait_for, part
):
    capture = listen(start_sink())
    process, report = start(
        notes={"use": "toy_music:Scale", "held": True, "rate_hz": 0.01, "frames": 1},
        sound={"use": "synth", "from": "notes", "silence": "300 ms"},
    )
    wait_for(lambda: capture.loudness > AUDIBLE, process)
    # Meanwhile it is interrupted for longer than the sound card has something in store.
    sound = part(process, "sound")
    sound.suspend()
    time.sleep(0.1)
    sound.resume()
    wait_for(lambda: capture.loudness == 0, process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert told(report, "sound")["silences"] == 1
    assert told(report, "sound")["underruns"] >= 1


@pytest.mark.parametrize("how", ["killed", pytest.param("unloaded", marks=pytest.mark.slow)])
def test_a_sound_card_that_goes_away_is_told_and_taken_again_when_it_is_back(  # noqa: PLR0917
    start, start_sink, listen, wait_for, tmp_path, how
):
    sink = start_sink()
    capture = listen(sink)
    wav = tmp_path / "o.wav"
    process, report = start(
        notes={"use": "toy_music:Scale", "notes": 10_000},
        sound={"use": "synth", "from": "notes", "device": "default", "file": str(wav)},
    )
    wait_for(lambda: capture.loudness > AUDIBLE, process)
    if how == "killed":
        sink.kill()
    else:
        sink.control("unload-module", "module-null-sink")
    size = wav.stat().st_size
    wait_for(lambda: wav.stat().st_size > size + 200_000, process)
    if how == "killed":
        sink.start()
    else:
        sink.control(
            "load-module", "module-null-sink", f"sink_name={SINK}", "rate=48000", "channels=2"
        )
    again = listen(sink)
    wait_for(lambda: again.loudness > AUDIBLE, process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    notes = told(report, "sound")
    assert notes["outages"] == 1
    assert notes["away_s"] > 0
    assert notes["trouble"] == ""


def test_a_sound_card_that_stays_away_is_told_with_what_to_do(
    start, start_sink, listen, wait_for, tmp_path
):
    sink = start_sink()
    capture = listen(sink)
    wav = tmp_path / "o.wav"
    process, report = start(
        notes={"use": "toy_music:Scale", "notes": 10_000},
        sound={"use": "synth", "from": "notes", "device": "default", "file": str(wav)},
    )
    wait_for(lambda: capture.loudness > AUDIBLE, process)
    sink.kill()
    size = wav.stat().st_size
    wait_for(lambda: wav.stat().st_size > size + 400_000, process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert told(report, "sound")["outages"] == 1
    assert "look at its cable" in told(report, "sound")["trouble"]
    assert told(report, "sound")["not_played"] > 0


# MIDI


def test_notes_reach_another_program_with_pitch_and_velocity(start, receiver, wait_for):
    instrument = receiver()
    process, _ = start(
        notes={"use": "toy_music:Scale", "notes": 5, "lasts": 200},
        score={"use": "midi", "from": "notes", "virtual": "keys", "api": "jack"},
    )
    instrument.connect("keys")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    # The first may have been played before this program was connected.
    assert [0x90, 64, 44] in instrument.messages
    assert instrument.messages[-1] == [0xB0, 123, 0]
    assert instrument.down == set()
    assert [0xFE] in instrument.all


def test_an_instrument_that_is_there_is_played(start, receiver, wait_for):
    instrument = receiver()
    instrument.be_there_as("grand")
    process, report = start(
        notes={"use": "toy_music:Scale", "notes": 5},
        score={"use": "midi", "from": "notes", "port": "grand", "api": "jack", "instrument": 4},
    )
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    wait_for(lambda: [0xB0, 123, 0] in instrument.messages)
    presses = [m for m in instrument.messages if m[0] == 0x90]
    assert presses == [[0x90, 60 + n, 40 + n] for n in range(5)]
    assert instrument.messages[0] == [0xC0, 4]
    assert "grand" in told(report, "score")["port"]


@pytest.mark.parametrize("victim", ["notes", "score"])
def test_a_killed_process_leaves_no_key_of_an_instrument_down(
    start, receiver, wait_for, part, victim
):
    instrument = receiver()
    instrument.be_there_as("grand")
    process, _ = start(
        notes=HELD, score={"use": "midi", "from": "notes", "port": "grand", "api": "jack"}
    )
    wait_for(lambda: len(instrument.down) == 3, process)
    part(process, victim).kill()
    wait_for(lambda: not instrument.down)
    assert process.wait(timeout=60) == 1
    assert instrument.messages[-1] == [0xB0, 123, 0]


def test_a_kill_of_the_whole_run_leaves_no_key_down(start, receiver, wait_for):
    instrument = receiver()
    instrument.be_there_as("grand")
    process, _ = start(
        notes=HELD, score={"use": "midi", "from": "notes", "port": "grand", "api": "jack"}
    )
    wait_for(lambda: len(instrument.down) == 3, process)
    process.kill()
    wait_for(lambda: not instrument.down)


def test_a_sender_that_is_alive_but_silent_leaves_no_key_down(start, receiver, wait_for):
    instrument = receiver()
    instrument.be_there_as("grand")
    process, report = start(
        notes={"use": "toy_music:Scale", "held": True, "rate_hz": 0.01, "frames": 1},
        score={
            "use": "midi", "from": "notes", "port": "grand", "api": "jack", "silence": "300 ms"
        },
    )  # fmt: skip
    wait_for(lambda: instrument.down == {60}, process)
    wait_for(lambda: not instrument.down, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    assert told(report, "score")["silences"] == 1


def test_when_the_guard_of_a_port_is_killed_another_one_plays_on(start, receiver, wait_for, part):
    instrument = receiver()
    instrument.be_there_as("grand")
    process, report = start(
        notes={"use": "toy_music:Scale", "notes": 10_000},
        score={"use": "midi", "from": "notes", "port": "grand", "api": "jack"},
    )
    wait_for(lambda: instrument.down, process)
    part(process, GUARD).kill()
    before = len(instrument.messages)
    wait_for(lambda: len(instrument.messages) > before + 5, process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    notes = told(report, "score")
    assert notes["outages"] == 1
    assert notes["trouble"] == ""


def test_a_port_that_goes_away_is_told_and_played_again_when_it_is_back(
    start, receiver, wait_for, tmp_path
):
    instrument = receiver()
    instrument.be_there_as("grand")
    process, report = start(
        notes={"use": "toy_music:Scale", "notes": 10_000},
        score={
            "use": "midi", "from": "notes", "port": "grand", "api": "jack",
            "file": str(tmp_path / "o.mid"),
        },
    )  # fmt: skip
    wait_for(lambda: instrument.down, process)
    instrument.close()
    back = receiver()
    size = (tmp_path / "o.mid").stat().st_size
    wait_for(lambda: (tmp_path / "o.mid").stat().st_size > size + 50, process)
    back.be_there_as("grand")
    wait_for(lambda: back.down, process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert told(report, "score")["outages"] == 1
    assert back.down == set()


def test_a_port_whose_server_dies_does_not_end_the_run(  # noqa: PLR0917
    start, jack, receiver, wait_for, part, tmp_path
):
    instrument = receiver()
    mid = tmp_path / "o.mid"
    process, report = start(
        notes={"use": "toy_music:Scale", "notes": 10_000},
        score={
            "use": "midi", "from": "notes", "virtual": "keys", "api": "jack", "file": str(mid)
        },
    )  # fmt: skip
    instrument.connect("keys")
    wait_for(lambda: instrument.down, process)
    guard = part(process, GUARD)
    jack.kill()
    wait_for(lambda: not guard.is_running(), process)
    size = mid.stat().st_size
    wait_for(lambda: mid.stat().st_size > size + 200, process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    notes = told(report, "score")
    assert notes["outages"] == 1
    assert notes["not_sent"] > 0
    assert "MIDI" in notes["trouble"]
