"""`midi.in` with a MIDI keyboard on a real JACK server."""

from __future__ import annotations

import time

import numpy as np
import pytest

from stream.errors import ConfigError
from stream.music.midi.midi_in import MidiIn, MidiInSettings
from stream.music.notes import SUSTAIN, control, note_off, note_on
from stream.node import Context
from stream.packet import Packet


class Running:
    """A source that is turned by the test, as a worker would turn it."""

    def __init__(self, tmp_path, **settings) -> None:
        self.node = MidiIn(MidiInSettings(**settings))
        self.outputs = self.node.outputs({})
        self.node.open(Context("keys", {}, tmp_path))
        self.start_ns = time.monotonic_ns()
        self.node.start(self.start_ns)
        self.packets: list[Packet] = []

    def turn(self) -> None:
        assert self.node.due_ns() <= time.monotonic_ns()
        self.packets += self.node.tick()

    def has(self, count: int) -> bool:
        """Turn once, and tell whether so many messages have come."""
        self.turn()
        return len(self.messages) >= count

    @property
    def messages(self) -> list[tuple[int, ...]]:
        return [tuple(row) for packet in self.packets for row in packet.data.tolist()]


@pytest.fixture
def run(tmp_path):
    running = []

    def start(**settings) -> Running:
        running.append(Running(tmp_path, **settings))
        return running[-1]

    yield start
    for each in running:
        each.node.close()


def test_what_is_played_comes_in_order_with_its_time_and_empty_packets_in_between(
    plug_in, run, wait_for
):
    piano = plug_in("Digital Piano")
    keys = run()
    assert keys.node.context.counters.notes == {"port": "Digital Piano:keys"}
    wait_for(lambda: keys.has(0) and len(keys.packets) >= 3)
    sent = [note_on(60, 90), note_on(64, 1), control(SUSTAIN, 127), note_off(60), (0xC0, 5)]
    before_ns = time.monotonic_ns()
    for message in sent:
        piano.send(message)
    wait_for(lambda: keys.has(len(sent)))
    after_ns = time.monotonic_ns()
    wait_for(lambda: keys.has(0) and not len(keys.packets[-1].data))
    assert keys.messages == [*sent[:4], (0xC0, 5, 0)]
    spec = keys.outputs[""]
    assert all(packet.kind == spec.kind and packet.data.dtype == spec.dtype
               for packet in keys.packets)  # fmt: skip
    assert all(packet.source_ns == packet.t_ns - keys.start_ns for packet in keys.packets)
    times = [packet.t_ns for packet in keys.packets]
    assert times == sorted(times)
    played = [packet.t_ns for packet in keys.packets if len(packet.data)]
    assert before_ns <= min(played)
    assert max(played) <= after_ns


def test_a_keyboard_that_goes_away_lets_go_of_its_keys_and_is_found_again(plug_in, run, wait_for):
    piano = plug_in("Digital Piano")
    keys = run(port="piano")
    piano.send(note_on(60, 90))
    piano.send(note_on(67, 90))
    piano.send(control(SUSTAIN, 100))
    piano.send(note_off(67))
    wait_for(lambda: keys.has(4))
    piano.close()
    wait_for(lambda: keys.has(6))
    assert keys.messages[4:] == [note_off(60), control(SUSTAIN, 0)]
    assert keys.node.context.counters.notes["outages"] == 1
    again = plug_in("Digital Piano")
    wait_for(lambda: keys.has(0) and keys.packets[-1].segment == 1)
    again.send(note_on(62, 50))
    wait_for(lambda: keys.has(7))
    assert keys.messages[6] == note_on(62, 50)
    assert [packet.segment for packet in keys.packets if len(packet.data)] == [0] * 5 + [1]


def test_which_keyboard_is_meant_must_be_clear(plug_in, run):
    with pytest.raises(ConfigError, match="there is no MIDI input; plug the keyboard in"):
        MidiIn(MidiInSettings()).outputs({})
    plug_in("Digital Piano")
    plug_in("Pads")
    with pytest.raises(ConfigError, match=r"no name was given, which fits 2 .*'Pads:keys'"):
        MidiIn(MidiInSettings()).outputs({})
    with pytest.raises(ConfigError, match="'organ' was asked for, which fits none"):
        MidiIn(MidiInSettings(port="organ")).outputs({})
    (spec,) = MidiIn(MidiInSettings(port="digital")).outputs({}).values()
    assert spec.kind == "notes"
    assert np.dtype(spec.dtype) == np.uint8


def test_a_machine_without_midi_says_so_and_nothing_else(monkeypatch, capfd):
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "innervate-none")
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    with pytest.raises(ConfigError, match="a running JACK server is needed"):
        MidiIn(MidiInSettings()).outputs({})
    assert capfd.readouterr().err == ""


def test_a_midi_system_that_dies_is_noticed(plug_in, run, wait_for, mortal_jack):
    piano = plug_in("Digital Piano")
    keys = run()
    piano.send(note_on(60, 90))
    wait_for(lambda: keys.has(1))
    mortal_jack.terminate()
    mortal_jack.wait()
    wait_for(lambda: keys.has(2))
    assert keys.messages[1] == note_off(60)
    assert keys.node.context.counters.notes["outages"] == 1
