"""The nodes `synth` and `midi`, without processes of a run."""

from __future__ import annotations

import json
import subprocess
import sys
import wave

import numpy as np
import pretty_midi
import pytest
from pydantic import ValidationError
from tiny_font import ROOT

from stream.errors import ConfigError
from stream.music.midi.midi_out import Midi, MidiSettings
from stream.music.notes import events, note_off, note_on, notes_spec, program
from stream.music.sound.synth import SynthNode, SynthSettings
from stream.node import Context, StreamSpec
from stream.packet import Packet

NOTES = {"notes": notes_spec(1 / 30)}
COUNTS = {"bins": StreamSpec("counts", (2,), "float32")}


def packet(seconds, *messages, data=None):
    at_ns = round(seconds * 1e9)
    return Packet("notes", events(messages) if data is None else data, at_ns, at_ns, at_ns)


def play(node, tmp_path, *packets, inputs=NOTES):
    node.outputs(inputs)
    context = Context(name="n", inputs=inputs, run_dir=tmp_path)
    node.open(context)
    for stream, each in packets:
        node.process(stream, each)
    node.tick()
    node.finish()
    node.close()
    return context.counters


@pytest.fixture
def synth(tmp_path, font):
    return lambda **more: SynthNode(
        SynthSettings(**{"file": tmp_path / "out.wav", "soundfont": font, **more})
    )


@pytest.fixture
def midi(tmp_path):
    return lambda **more: Midi(MidiSettings(**{"file": tmp_path / "out.mid", **more}))


def test_several_streams_are_played_together(synth, midi, tmp_path):
    inputs = {"left": notes_spec(None), "right": notes_spec(None)}
    packets = [
        ("left", packet(0.0, note_on(40, 100))),
        ("left", packet(0.5, note_off(40))),
        ("right", packet(0.25, note_on(ROOT, 100))),
        ("right", packet(0.75, note_off(ROOT))),
    ]
    play(synth(), tmp_path, *packets, inputs=inputs)
    counters = play(midi(), tmp_path, *packets, inputs=inputs)
    notes = pretty_midi.PrettyMIDI(str(tmp_path / "out.mid")).instruments[0].notes
    assert sorted((n.pitch, round(n.start, 2)) for n in notes) == [(40, 0.0), (ROOT, 0.25)]
    assert counters.notes["file_notes"] == 2
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert file.getnframes() > 0.75 * 48_000


@pytest.mark.parametrize("make", ["synth", "midi"])
@pytest.mark.parametrize(
    "data",
    [
        np.array([[0x90, 60]], np.uint8), np.array([[0x10, 60, 1]], np.uint8),
        np.array([[0xF8, 0, 0]], np.uint8), np.array([[0x90, 200, 1]], np.uint8),
        np.zeros((1, 3), np.float32),
    ],
)  # fmt: skip
def test_what_is_no_note_is_refused_and_counted(make, data, tmp_path, request):
    node = request.getfixturevalue(make)()
    assert play(node, tmp_path, ("notes", packet(0, data=data))).dropped == {"not_notes": 1}


def test_the_instrument_is_chosen_before_the_first_note_unless_the_notes_do(midi, tmp_path):
    packets = [
        packet(0, note_on(60, 100), program(5, 1), note_on(60, 100, 1), note_on(38, 100, 9)),
        packet(1, note_off(60), note_off(60, 1), note_off(38, 9)),
    ]
    play(midi(instrument="violin"), tmp_path, *(("notes", each) for each in packets))
    found = pretty_midi.PrettyMIDI(str(tmp_path / "out.mid")).instruments
    assert sorted((i.program, i.is_drum) for i in found) == [(0, True), (5, False), (40, False)]


def test_an_instrument_that_the_font_lacks_is_replaced_and_told(synth, tmp_path):
    counters = play(synth(instrument=40), tmp_path, ("notes", packet(0, note_on(ROOT, 100))))
    assert counters.notes["presets_missing"] == "0:40"


def test_a_full_disk_is_told_and_costs_nothing_that_was_written_before(tmp_path, font):
    code = f"""
import resource
from pathlib import Path
import numpy as np
from stream.errors import RecordingError
from stream.music.midi.midi_out import Midi, MidiSettings
from stream.music.notes import events, note_off, note_on, notes_spec
from stream.music.sound.synth import SynthNode, SynthSettings
from stream.node import Context
from stream.packet import Packet
folder = Path({str(tmp_path)!r})
nodes = [
    SynthNode(SynthSettings(file=folder / "o.wav", soundfont=folder / "tiny.sf2")),
    Midi(MidiSettings(file=folder / "o.mid")),
]
for node, limit in zip(nodes, (1_000_000, 1000)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    node.open(Context(name="n", inputs={{"a": notes_spec(None)}}, run_dir=folder))
    try:
        for number in range(10_000):
            time_ns = number * 100_000_000
            data = events([note_on(60, 9) if number % 2 == 0 else note_off(60)])
            node.process("a", Packet("notes", data, 0, time_ns, time_ns))
            node._save_ns = 0
            node.tick()
    except RecordingError as error:
        print(error)
    try:
        node.close()
    except RecordingError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "o.wav cannot be written any further" in done.stdout
    assert "o.mid cannot be written any further" in done.stdout
    with wave.open(str(tmp_path / "o.wav")) as file:
        assert file.getnframes() > 100_000
    assert len(pretty_midi.PrettyMIDI(str(tmp_path / "o.mid")).instruments[0].notes) > 50


def test_an_instrument_has_a_number_or_a_name(tmp_path):
    assert SynthSettings(instrument="Acoustic Grand Piano").instrument == 0
    assert SynthSettings(instrument="church").instrument == 19
    assert SynthSettings(instrument=127).instrument == 127
    with pytest.raises(ValidationError, match="its name, such as 'Violin'"):
        SynthSettings(instrument="Vioin")
    with pytest.raises(ValidationError, match="0 to 127"):
        SynthSettings(instrument=128)


def test_other_streams_and_files_are_refused(synth, midi, tmp_path):
    for node in (synth(), midi()):
        with pytest.raises(ConfigError, match="takes notes, 'bins' carries counts"):
            node.outputs(COUNTS)
    (tmp_path / "there.wav").touch()
    with pytest.raises(ConfigError, match="exists and is not overwritten"):
        synth(file=tmp_path / "there.wav").outputs(NOTES)
    with pytest.raises(ConfigError, match=r"does not end in \.wav"):
        synth(file=tmp_path / "out.mp3").outputs(NOTES)
    with pytest.raises(ConfigError, match="create it first"):
        midi(file=tmp_path / "none" / "out.mid").outputs(NOTES)
    with pytest.raises(ConfigError, match="needs a 'port'"):
        Midi(MidiSettings()).outputs(NOTES)
    with pytest.raises(ConfigError, match="not both"):
        Midi(MidiSettings(port="a", virtual="b")).outputs(NOTES)


def test_a_soundfont_that_is_none_is_refused_before_the_start(synth, tmp_path):
    path = tmp_path / "bad.sf2"
    path.write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(ConfigError, match="is not a SoundFont 2 file"):
        synth(soundfont=path).outputs(NOTES)


def test_a_sound_card_that_is_not_there_is_named_with_those_that_are(synth, start_sink):
    start_sink()
    code = """
from stream.music.sound.synth import SynthNode, SynthSettings
try:
    SynthNode(SynthSettings(device="organ pipes")).outputs({})
except Exception as error:
    print(type(error).__name__, error)
"""
    # In a process of its own, since PortAudio keeps what it found when it was first asked.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ConfigError device: sound card 'organ pipes' is not there" in done.stdout
    assert "'pulse'" in done.stdout
    assert "A 'file' alone needs neither" in done.stdout
    assert done.stderr == ""


def test_without_portaudio_a_card_is_refused_with_what_to_install_and_a_file_works(tmp_path, font):
    code = f"""
import ctypes.util, json, sys
found = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if "portaudio" in name else found(name)
from pathlib import Path
from stream.music.sound.synth import SynthNode, SynthSettings
from stream.node import Context
font = Path({str(font)!r})
try:
    SynthNode(SynthSettings(soundfont=font)).outputs({{}})
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
node = SynthNode(SynthSettings(soundfont=font, file=Path({str(tmp_path / "out.wav")!r})))
node.outputs({{}})
node.open(Context(name="n", inputs={{}}, run_dir=Path({str(tmp_path)!r})))
node.finish()
node.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kind, message = json.loads(done.stdout)
    assert kind == "ConfigError"
    assert "PortAudio" in message
    assert "install" in message
    assert (tmp_path / "out.wav").is_file()


def test_a_port_that_is_not_there_is_named_with_those_that_are(midi, receiver):
    receiver().be_there_as("organ")
    receiver().be_there_as("piano")
    midi(port="organ", api="jack").outputs(NOTES)
    with pytest.raises(ConfigError, match=r"no MIDI port has 'flute' in their name.*organ.*piano"):
        midi(port="flute", api="jack").outputs(NOTES)
    with pytest.raises(ConfigError, match="several MIDI ports have"):
        midi(port="instrument", api="jack").outputs(NOTES)


def test_without_a_midi_system_a_port_is_refused_with_what_to_do(midi, jack, capfd):
    jack.kill()
    with pytest.raises(ConfigError, match=r"no MIDI system answers here.*modprobe snd-seq"):
        midi(virtual="keys", api="jack").outputs(NOTES)
    assert capfd.readouterr().err == ""
