"""What is taken for a SoundFont, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_font import EXCLUSIVE, KEY_RANGE, PAN, font_bytes, write_font

from stream.errors import ConfigError
from stream.music.keyboard import PITCHES
from stream.music.sound.instruments import default_soundfont
from stream.music.sound.samples import Samples
from stream.music.sound.soundfont import SoundFont
from stream.music.sound.sounds import Synth


def test_the_default_font_has_every_instrument_and_every_key_of_the_piano():
    font = SoundFont(default_soundfont())
    assert {program for bank, program in font.presets if bank == 0} == set(range(128))
    assert any(bank == 128 for bank, _ in font.presets)
    instrument = Samples(font).prepare(0, 0)
    assert all(instrument[pitch] for pitch in PITCHES)


def test_zones_say_where_and_how_a_sample_is_played(tmp_path):
    low, high = {KEY_RANGE: 59 << 8, PAN: -500}, {KEY_RANGE: 127 << 8 | 60, EXCLUSIVE: 3}
    zones = SoundFont(write_font(tmp_path / "f.sf2", low, high)).zones(0, 0)
    assert [zone.keys for zone in zones] == [(0, 59), (60, 127)]
    assert [zone.pan for zone in zones] == [-1, 0]
    assert [zone.exclusive for zone in zones] == [0, 3]
    assert zones[0].loop == (100, 5000)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read"),
        (b"no font", "is not a SoundFont 2 file"),
        (b"RIFF\x04\0\0\0WAVE", "is not a SoundFont 2 file"),
        (font_bytes()[:-60], "more than there are"),
        (font_bytes().replace(b"igen", b"xgen"), "it lacks igen"),
        (font_bytes(presets=()), "it holds no preset"),
        (font_bytes({58: 60, 0: 32767, 4: 100}), "is said to lie at"),
    ],
)
def test_what_is_no_font_is_refused_with_what_is_wrong(tmp_path, content, said):
    path = tmp_path / "bad.sf2"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as refused:
        SoundFont(path).zones(0, 0)
    assert str(path) in str(refused.value)


def test_a_font_with_packed_samples_is_refused(tmp_path):
    content = bytearray(font_bytes())
    kind = content.index(b"EOS\0") - 2
    content[kind] |= 0x10
    path = tmp_path / "packed.sf2"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="packed"):
        SoundFont(path).zones(0, 0)


def test_a_font_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        SoundFont(tmp_path / "none.sf2")


GOOD = font_bytes({KEY_RANGE: 80 << 8}, {KEY_RANGE: 127 << 8 | 81}, presets=(0, 1))
TABLES = GOOD.index(b"pdta")


def plays_or_is_refused(folder, content):
    path = folder / "broken.sf2"
    path.write_bytes(content)
    try:
        samples = Samples(SoundFont(path))
        samples.prepare(0, 0)
    except ConfigError:
        return
    synth = Synth(samples, 1.0)
    out = np.zeros((300, 2), np.float32)
    for pitch in (0, 69, 127):
        synth.apply(0x90, pitch, 100)
        synth.render(out)
        assert np.isfinite(out).all()


@settings(deadline=None)
@given(
    damage=st.lists(
        st.tuples(st.integers(TABLES, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=8
    )
)
def test_damaged_tables_are_played_or_refused_but_never_crash(tmp_path_factory, damage):
    content = bytearray(GOOD)
    for at, byte in damage:
        content[at] = byte
    plays_or_is_refused(tmp_path_factory.getbasetemp(), bytes(content))


@settings(deadline=None)
@given(length=st.integers(0, len(GOOD)), rest=st.binary(max_size=200))
def test_a_font_that_breaks_off_is_refused_or_played_but_never_crashes(
    tmp_path_factory, length, rest
):
    plays_or_is_refused(tmp_path_factory.getbasetemp(), GOOD[:length] + rest)
