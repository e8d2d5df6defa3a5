"""What the synthesiser makes of messages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_font import CUTOFF, EXCLUSIVE, KEY_RANGE, PAN, PITCH_HZ, RELEASE, ROOT, sine, write_font

from stream.music.notes import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    SUSTAIN,
    control,
    note_off,
    note_on,
    program,
)
from stream.music.sound.instruments import default_soundfont
from stream.music.sound.samples import RATE_HZ, Samples
from stream.music.sound.soundfont import SoundFont
from stream.music.sound.sounds import VOICES, Synth


@pytest.fixture
def make_synth(tmp_path):
    def make(*zones, **more):
        samples = Samples(SoundFont(write_font(tmp_path / "tiny.sf2", *zones, **more)))
        for number in more.get("presets", (0,)):
            samples.prepare(0, number)
        return Synth(samples, 1.0)

    return make


def rendered(synth, seconds):
    out = np.zeros((round(seconds * RATE_HZ), 2), np.float32)
    synth.render(out)
    return out


def pitch_hz(sound):
    mono = sound[:, 0] * np.hanning(len(sound))
    spectrum = np.abs(np.fft.rfft(mono, 2**18))
    return spectrum.argmax() * RATE_HZ / 2**18


@settings(max_examples=15, deadline=None)
@given(key=st.integers(21, 108))
def test_every_key_sounds_at_its_pitch(tmp_path_factory, key):
    path = write_font(tmp_path_factory.getbasetemp() / "tiny.sf2")
    samples = Samples(SoundFont(path))
    samples.prepare(0, 0)
    synth = Synth(samples, 1.0)
    synth.apply(*note_on(key, 100))
    wanted = PITCH_HZ * 2 ** ((key - ROOT) / 12)
    assert pitch_hz(rendered(synth, 1.0)) == pytest.approx(wanted, rel=2e-3, abs=0.2)


def test_the_shipped_piano_plays_an_a_at_440_hz():
    samples = Samples(SoundFont(default_soundfont()))
    samples.prepare(0, 0)
    synth = Synth(samples, 1.0)
    synth.apply(*note_on(69, 100))
    assert pitch_hz(rendered(synth, 1.0)) == pytest.approx(440, rel=5e-3)


def test_a_looped_note_goes_on_as_pure_as_it_began(make_synth):
    synth = make_synth()
    synth.apply(*note_on(ROOT, 127))
    rendered(synth, 1.0)
    sound = rendered(synth, 1.0)[:, 0].astype(float)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    near = np.abs(np.arange(len(spectrum)) - PITCH_HZ) < 5
    assert spectrum[~near].sum() < 1e-6 * spectrum.sum()


def test_a_harder_touch_is_louder(make_synth):
    loud = []
    for velocity in (20, 60, 100, 127):
        synth = make_synth()
        synth.apply(*note_on(ROOT, velocity))
        loud.append(np.abs(rendered(synth, 0.1)).max())
    assert loud == sorted(loud)
    assert loud[0] < loud[-1] / 10


def test_a_released_key_falls_silent(make_synth):
    synth = make_synth()
    synth.apply(*note_on(ROOT, 100))
    rendered(synth, 0.2)
    synth.apply(*note_off(ROOT))
    rendered(synth, 0.1)
    assert synth.sounding == 0
    assert not rendered(synth, 0.1).any()


def test_a_note_on_of_velocity_nothing_releases(make_synth):
    synth = make_synth()
    synth.apply(*note_on(ROOT, 100))
    synth.apply(0x90, ROOT, 0)
    assert synth.held == 0


def test_the_pedal_holds_what_was_played_until_it_is_up(make_synth):
    synth = make_synth()
    synth.apply(*control(SUSTAIN, 127))
    synth.apply(*note_on(ROOT, 100))
    synth.apply(*note_off(ROOT))
    rendered(synth, 0.2)
    assert synth.held == 1
    synth.apply(*control(SUSTAIN, 0))
    rendered(synth, 0.2)
    assert synth.sounding == 0


@pytest.mark.parametrize("number", [ALL_NOTES_OFF, ALL_SOUND_OFF])
def test_everything_off_silences_one_channel(make_synth, number):
    synth = make_synth({RELEASE: 0})
    synth.apply(*note_on(60, 100, 0))
    synth.apply(*note_on(64, 100, 1))
    rendered(synth, 0.1)
    synth.apply(*control(number, 0, 0))
    assert synth.held == 1
    rendered(synth, 0.05 if number == ALL_SOUND_OFF else 1.5)
    assert synth.sounding == 1


def test_a_key_struck_again_does_not_pile_up(make_synth):
    synth = make_synth()
    for _ in range(20):
        synth.apply(*note_on(ROOT, 100))
        rendered(synth, 0.05)
    assert synth.held == 1
    assert synth.sounding <= 2


def test_too_many_voices_take_the_quietest_and_say_so(make_synth):
    synth = make_synth()
    for channel in (0, 1):
        for key in range(100):
            synth.apply(*note_on(key, 100, channel))
    assert synth.sounding == VOICES
    assert synth.stolen == 200 - VOICES
    assert np.isfinite(rendered(synth, 0.1)).all()


def test_a_cutoff_takes_away_what_is_above_it(make_synth):
    rich = sine(harmonics=(1.0, 0, 0, 0, 0, 0, 0, 1.0))
    # In cents above 8.176 Hz: two octaves above the tone, one below its eighth harmonic.
    cents = round(1200 * np.log2(4 * PITCH_HZ / 8.176))
    parts = []
    for zone in ({}, {CUTOFF: cents}):
        synth = make_synth(zone, sound=rich)
        synth.apply(*note_on(ROOT, 127))
        sound = rendered(synth, 1.0)[:, 0]
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
        parts.append(
            [spectrum[round(PITCH_HZ * n) - 3 : round(PITCH_HZ * n) + 4].max() for n in (1, 8)]
        )
    (tone, above), (tone_filtered, above_filtered) = parts
    assert tone_filtered == pytest.approx(tone, rel=0.15)
    # A filter of second order falls by 12 dB an octave.
    assert 20 * np.log10(above_filtered / above) == pytest.approx(-12.3, abs=1.5)


def test_left_is_left(make_synth):
    synth = make_synth({PAN: -500})
    synth.apply(*note_on(ROOT, 100))
    left, right = np.abs(rendered(synth, 0.1)).max(axis=0)
    assert right < left / 1000


def test_of_an_exclusive_group_only_the_last_sounds(make_synth):
    synth = make_synth({EXCLUSIVE: 1})
    synth.apply(*note_on(60, 100))
    rendered(synth, 0.1)
    synth.apply(*note_on(64, 100))
    rendered(synth, 0.1)
    assert synth.sounding == 1


def test_volume_panorama_and_bend_of_a_channel_are_followed(make_synth):
    synth = make_synth()
    synth.apply(*note_on(ROOT, 100))
    before = np.abs(rendered(synth, 0.1)).max()
    synth.apply(*control(7, 50))
    assert np.abs(rendered(synth, 0.1)[500:]).max() == pytest.approx(before / 4, rel=0.05)
    synth.apply(0xE0, 127, 127)
    assert pitch_hz(rendered(synth, 0.5)) == pytest.approx(PITCH_HZ * 2 ** (2 / 12), rel=2e-3)


def test_programs_choose_what_plays_and_what_is_not_prepared_is_counted(make_synth, tmp_path):
    synth = make_synth({KEY_RANGE: 127 << 8}, presets=(0, 5))
    synth.apply(*program(5))
    synth.apply(*note_on(ROOT, 100))
    assert synth.sounding == 1
    assert synth.unprepared == 0
    unprepared = Synth(Samples(SoundFont(tmp_path / "tiny.sf2")), 1.0)
    unprepared.apply(*note_on(ROOT, 100))
    assert (unprepared.sounding, unprepared.unprepared) == (0, 1)


MESSAGES = st.tuples(st.integers(0x80, 0xEF), st.integers(0, 127), st.integers(0, 127))


@settings(max_examples=60, deadline=None)
@given(messages=st.lists(MESSAGES, max_size=60), frames=st.integers(1, 300))
def test_whatever_is_played_stays_finite_and_ends(tmp_path_factory, messages, frames):
    path = write_font(tmp_path_factory.getbasetemp() / "tiny.sf2")
    samples = Samples(SoundFont(path))
    samples.prepare(0, 0)
    synth = Synth(samples, 1.0)
    out = np.zeros((frames, 2), np.float32)
    for message in messages:
        synth.apply(*message)
        synth.render(out)
        assert np.isfinite(out).all()
    synth.release_all()
    rendered(synth, 0.5)
    assert synth.sounding == 0
