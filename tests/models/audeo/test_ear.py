"""The ear hears the notes of a sound, wherever in it they are."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from scipy.io import wavfile

from models.audeo.ear import HOP, RATE_HZ, Ear, Samples, read_wav
from models.audeo.notes import Note, Notes, Truth, in_order, read_midi
from models.audeo.scores import best_shift, match
from stream.errors import ModelError, RecordingError
from stream.music.basic_pitch import VERSION, cache_folder, fetch_model, find_model
from stream.spikes.fetching import FetchError

SoundOf = Callable[[Notes, int, float], Samples]


@pytest.fixture(scope="session")
def ear(ear_model: Path) -> Ear:
    return Ear(ear_model)


def scattered(number: int, spacing_s: float) -> Notes:
    random = np.random.default_rng(0)
    return in_order(
        Note(int(random.integers(45, 85)), 0.3 + spacing_s * i, 0.6 + spacing_s * i)
        for i in range(number)
    )


@pytest.mark.parametrize("rate_hz", [22050, 44100, 48000])
def test_known_notes_are_heard_when_they_sound(ear: Ear, sound_of: SoundOf, rate_hz: int) -> None:
    notes = scattered(30, 0.3)
    heard = ear.hear(sound_of(notes, rate_hz, 10.0), rate_hz)
    assert match(heard, Truth(notes)).score.f1 > 0.9
    assert abs(best_shift(heard, Truth(notes))) <= 0.02


def test_a_note_after_a_minute_is_heard_at_that_minute(ear: Ear, sound_of: SoundOf) -> None:
    # With times that drift by half a per cent it would be heard 0.3 s off.
    note = Note(60, 60.0, 60.5)
    (heard,) = ear.hear(sound_of((note,), RATE_HZ, 62.0), RATE_HZ)
    assert heard.pitch == 60
    assert heard.onset_s == pytest.approx(60.0, abs=0.02)


def test_frames_do_not_know_where_windows_begin(ear: Ear, sound_of: SoundOf) -> None:
    sound = sound_of(scattered(12, 0.3), RATE_HZ, 4.0)
    later = np.concatenate([np.zeros(50 * HOP, np.float32), sound])
    a, b = ear.likelihoods(sound)[1], ear.likelihoods(later)[1][50:]
    assert a.shape == b.shape == (-(-len(sound) // HOP), 88)
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("samples", [1, 1000, 2 * RATE_HZ])
def test_silence_has_no_notes_however_short(ear: Ear, samples: int) -> None:
    assert ear.hear(np.zeros(samples, np.float32), RATE_HZ) == ()


def test_the_ear_agrees_with_another_transcription_of_a_real_recording(
    ear_model: Path, shared_data: Path, do_without: Callable[[str], NoReturn], tmp_path: Path
) -> None:
    if shutil.which("ffmpeg") is None:
        do_without("needs ffmpeg for the sound of a video")
    clip = shared_data / "music" / "piano_topview" / "scarlatti_first26s.mp4"
    wav = tmp_path / "sound.wav"
    subprocess.run(["ffmpeg", "-v", "error", "-i", clip, "-vn", wav], check=True)
    # Of the same model with these thresholds, and with windows that lie elsewhere.
    heard = Ear(ear_model, onset=0.5, sounding=0.3).hear_file(wav)
    truth = Truth(read_midi(clip.with_name("scarlatti_first26s_pseudo.mid")))
    assert match(heard, truth).score.f1 > 0.95
    assert abs(best_shift(heard, truth)) < 0.01


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
def test_samples_of_any_kind_and_channels_become_mono_of_one(dtype: str, tmp_path: Path) -> None:
    wave = np.sin(np.arange(1000) / 20) * 0.5
    stored: Any = np.stack([wave, wave], 1)
    if dtype == "uint8":
        stored = np.round(stored * 128 + 128)
    elif dtype != "float32":
        stored = np.round(stored * -float(np.iinfo(dtype).min))
    wavfile.write(tmp_path / "a.wav", 8000, stored.astype(dtype))
    samples, rate_hz = read_wav(tmp_path / "a.wav")
    assert rate_hz == 8000
    assert samples.dtype == np.float32
    assert samples.shape == (1000,)
    assert np.abs(samples - wave).max() < 1 / 200


def test_what_is_no_sound_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"ID3 and so on, certainly more than a header")
    with pytest.raises(RecordingError, match="is no WAV file that can be read"):
        read_wav(path)
    wavfile.write(path, 8000, np.zeros(0, np.int16))
    with pytest.raises(RecordingError, match=r"a\.wav"):
        read_wav(path)


def test_without_the_model_the_ear_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "innervate"
    with pytest.raises(ModelError, match="`innervate fetch basic-pitch` brings it"):
        Ear()


def test_another_model_in_its_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(b"something else")
    with pytest.raises(ModelError, match="is not the model of Basic Pitch"):
        Ear(path)


def test_a_fetched_model_is_found(ear_model: Path) -> None:
    assert find_model(ear_model) == ear_model
    assert [p.name for p in ear_model.parent.iterdir()] == [ear_model.name]


def offline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip take packages from a folder only."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def test_a_wheel_with_another_checksum_is_refused_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    name = f"basic_pitch-{VERSION}-py2.py3-none-any.whl"
    with zipfile.ZipFile(packages / name, "w") as wheel:
        wheel.writestr("basic_pitch/saved_models/icassp_2022/nmp.onnx", b"something else")
    offline(packages, monkeypatch)
    with pytest.raises(FetchError, match="DO NOT MATCH THE HASHES"):
        fetch_model(tmp_path / "to")
    assert not list((tmp_path / "to").iterdir())


def test_without_a_network_fetching_says_what_pip_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline(tmp_path, monkeypatch)
    with pytest.raises(FetchError, match="No matching distribution found"):
        fetch_model(tmp_path / "to")
