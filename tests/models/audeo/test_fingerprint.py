"""Fingerprints tell which recording a sound belongs to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import wavfile

from models.audeo.ear import Samples
from models.audeo.fingerprint import bit_error, fingerprint, identify
from models.audeo.notes import Note, Notes, in_order
from stream.errors import ConfigError, RecordingError

SoundOf = Callable[[Notes, int, float], Samples]


def piece(seed: int) -> Notes:
    random = np.random.default_rng(seed)
    return in_order(
        Note(int(random.integers(48, 84)), 0.1 + 0.25 * i, 0.4 + 0.25 * i) for i in range(70)
    )


@pytest.mark.usefixtures("chromaprint")
def test_a_piece_played_with_mistakes_is_told_from_others(
    sound_of: SoundOf, tmp_path: Path
) -> None:
    def print_of(name: str, notes: Notes) -> np.ndarray:
        wavfile.write(tmp_path / name, 22050, sound_of(notes, 22050, 20.0))
        return fingerprint(tmp_path / name)

    references = {f"piece {seed}": print_of(f"{seed}.wav", piece(seed)) for seed in range(4)}
    played = tuple(note for i, note in enumerate(piece(2)) if i % 5)
    likely = identify(print_of("played.wav", played), references)
    assert likely[0].reference == "piece 2"
    assert likely[0].bit_error < 0.35 < likely[1].bit_error


prints = st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=40).map(
    lambda values: np.array(values, np.uint32)
)


@given(prints, st.integers(0, 20))
def test_the_same_fingerprint_is_found_wherever_it_begins(values: np.ndarray, late: int) -> None:
    longer = np.concatenate([np.full(late, 0xAAAAAAAA, np.uint32), values])
    assert bit_error(values, values) == 0
    assert bit_error(values, longer) == 0 == bit_error(longer, values)


@given(prints, prints)
def test_how_alike_two_are_does_not_depend_on_which_comes_first(
    a: np.ndarray, b: np.ndarray
) -> None:
    assert bit_error(a, b) == pytest.approx(bit_error(b, a))
    assert 0 <= bit_error(a, b) <= 1


def test_bits_are_counted() -> None:
    a = np.array([0b1111, 0, 0], np.uint32)
    assert bit_error(a, np.zeros(3, np.uint32)) == 0  # The last two lie on the first two.
    assert bit_error(a[:1], np.zeros(1, np.uint32)) == 4 / 32


@pytest.mark.usefixtures("chromaprint")
def test_too_short_a_sound_is_refused(tmp_path: Path) -> None:
    wavfile.write(tmp_path / "a.wav", 22050, np.ones(2205, np.float32))
    with pytest.raises(RecordingError, match=r"a\.wav"):
        fingerprint(tmp_path / "a.wav")


def test_without_chromaprint_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wavfile.write(tmp_path / "a.wav", 22050, np.ones(2205, np.float32))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="libchromaprint-tools"):
        fingerprint(tmp_path / "a.wav")
