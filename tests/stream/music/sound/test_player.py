"""Messages that arrive while sound is taken."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_font import ROOT, write_font

from stream.music.notes import note_off, note_on
from stream.music.sound.player import Player
from stream.music.sound.samples import RATE_HZ, Samples
from stream.music.sound.soundfont import SoundFont
from stream.music.sound.sounds import Synth

BLOCK = 128
BLOCK_NS = BLOCK * 1_000_000_000 // RATE_HZ
CARD_NS = 5_000_000
START_NS = 1_000_000_000


class Card:
    """Takes sound in blocks, on a clock of its own."""

    def __init__(self, tmp_path, **more):
        samples = Samples(SoundFont(write_font(tmp_path / "tiny.sf2")))
        samples.prepare(0, 0)
        self.now_ns = START_NS
        settings = {"delay_s": None, "silence_s": 1.0, **more}
        self.player = Player(Synth(samples, 1.0), clock=lambda: self.now_ns, **settings)

    def take(self, blocks=1):
        sound = np.empty((blocks * BLOCK, 2), np.float32)
        for number in range(blocks):
            self.player.fill(sound[number * BLOCK : (number + 1) * BLOCK], CARD_NS)
            self.now_ns += BLOCK_NS
        return sound[:, 0]


@pytest.fixture
def card(tmp_path):
    return lambda **more: Card(tmp_path, **more)


def first_sound(sound):
    return int(np.abs(sound).argmax() and np.nonzero(np.abs(sound) > 1e-5)[0][0])


def test_without_a_delay_a_note_sounds_in_the_next_samples(card):
    it = card()
    it.take(3)
    it.player.give(it.now_ns, [note_on(ROOT, 100)])
    assert first_sound(it.take()) <= 1


@pytest.mark.parametrize("after_ms", [0.0, 1.0, 2.5])
def test_with_a_delay_a_note_sounds_so_long_after_it_was_acquired(card, after_ms):
    it = card(delay_s=0.02)
    it.take(20)
    t_ns = it.now_ns + round(after_ms * 1e6)
    it.player.give(t_ns, [note_on(ROOT, 100)])
    heard_ns = it.now_ns + CARD_NS
    at = first_sound(it.take(12))
    wanted = (t_ns + 20_000_000 - heard_ns) * RATE_HZ / 1e9
    assert at == pytest.approx(wanted, abs=3)
    assert it.player.late == 0


def test_what_comes_too_late_for_the_delay_sounds_at_once_and_is_counted(card):
    it = card(delay_s=0.02)
    it.take(20)
    it.player.give(it.now_ns - 100_000_000, [note_on(ROOT, 100)])
    assert first_sound(it.take()) <= 1
    assert it.player.late == 1


def test_when_nothing_comes_any_more_every_note_is_released(card):
    it = card(silence_s=0.5)
    it.player.give(it.now_ns, [note_on(ROOT, 100)])
    it.take(100)
    assert it.player.synth.held == 1
    it.take(150)
    assert it.player.synth.sounding == 0
    assert it.player.silences == 1
    it.take(500)
    assert it.player.silences == 1, "one silence counts once"


def test_packets_without_messages_say_that_the_sender_is_alive(card):
    it = card(silence_s=0.5)
    it.player.give(it.now_ns, [note_on(ROOT, 100)])
    for _ in range(10):
        it.take(100)
        it.player.give(it.now_ns, [])
    assert it.player.synth.held == 1
    assert it.player.silences == 0


def test_notes_are_played_again_after_a_silence(card):
    it = card(silence_s=0.5)
    it.player.give(it.now_ns, [note_on(ROOT, 100)])
    it.take(400)
    it.player.give(it.now_ns, [note_on(ROOT, 100)])
    it.take()
    assert it.player.synth.held == 1


def test_what_came_while_no_sound_was_taken_can_be_forgotten(card):
    it = card()
    it.player.give(it.now_ns, [note_on(ROOT, 100)])
    it.take(10)
    it.player.give(it.now_ns, [note_on(50, 100)])
    it.player.begin_anew()
    it.take(100)
    assert it.player.synth.sounding == 0
    assert it.player.silences == 0
    assert not it.player.waits


def test_at_the_end_every_note_is_released(card):
    it = card()
    it.player.give(it.now_ns, [note_on(ROOT, 100)])
    it.take(10)
    it.player.end()
    it.take(100)
    assert it.player.synth.sounding == 0


def test_what_is_too_loud_is_counted_and_kept_within_bounds(card):
    it = card()
    it.player.give(it.now_ns, [note_on(key, 127) for key in range(40, 80)])
    assert np.abs(it.take(20)).max() <= 1
    assert it.player.clipped > 0


def test_messages_of_one_moment_are_played_in_their_order(card):
    it = card()
    it.player.give(it.now_ns, [note_on(ROOT, 100), note_off(ROOT), note_on(ROOT, 90)])
    it.take()
    assert it.player.synth.held == 1
