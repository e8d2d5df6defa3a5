"""Notes and their sound for the tests of evaluation."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from models.audeo.ear import Samples
from models.audeo.notes import Note, Notes, write_midi
from stream.music.basic_pitch import fetch_model
from stream.spikes.fetching import FetchError


@pytest.fixture
def tune() -> Notes:
    """Return seven notes, of white and black keys in several zones, two of them at once."""
    return (
        Note(60, 0.5, 0.9), Note(61, 1.0, 1.2), Note(40, 1.0, 2.0), Note(90, 1.5, 1.7),
        Note(60, 2.0, 2.4), Note(66, 2.5, 2.6), Note(72, 3.0, 3.8),
    )  # fmt: skip


@pytest.fixture
def tune_file(tune: Notes, tmp_path: Path) -> Path:
    """Return these notes as a MIDI file."""
    write_midi(tune, tmp_path / "tune.mid")
    return tmp_path / "tune.mid"


def _sound(notes: Notes, rate_hz: int, seconds: float) -> Samples:
    """Strike strings of a simple piano: ten overtones that die away, the higher the faster."""
    out = np.zeros(round(seconds * rate_hz))
    for note in notes:
        begin = round(note.onset_s * rate_hz)
        t = np.arange(min(round(1.5 * rate_hz), len(out) - begin)) / rate_hz
        tone = 440 * 2 ** ((note.pitch - 69) / 12)
        overtones = np.arange(1, 11)
        overtones = overtones[overtones * tone < rate_hz / 2]
        waves = np.sin(2 * np.pi * tone * overtones[:, None] * t)
        fading = np.exp(-(2 + overtones[:, None]) * t) / overtones[:, None]
        released = np.exp(-np.maximum(t - (note.offset_s - note.onset_s), 0) / 0.03)
        out[begin : begin + len(t)] += (waves * fading).sum(0) * released * np.minimum(t / 0.004, 1)
    return (0.1 * out).astype(np.float32)


@pytest.fixture(scope="session")
def sound_of() -> Callable[[Notes, int, float], Samples]:
    """Return what plays notes, at so many samples a second, into so many seconds."""
    return _sound


@pytest.fixture(scope="session")
def ear_model(
    do_without: Callable[[str], NoReturn], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the model of Basic Pitch, fetched as a user fetches it."""
    try:
        return fetch_model(tmp_path_factory.mktemp("ear"))
    except FetchError as error:
        do_without(str(error))


@pytest.fixture(scope="session")
def chromaprint(do_without: Callable[[str], NoReturn]) -> None:
    """Skip where fpcalc is not installed; in CI fail."""
    if shutil.which("fpcalc") is None:
        do_without("needs fpcalc (libchromaprint-tools)")
