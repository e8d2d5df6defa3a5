"""How far the ear can be trusted that judges our sound: known notes, played by a synthesiser."""

from __future__ import annotations

import platform
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import typer
from numpy.typing import NDArray
from rich.console import Console
from scipy.io import wavfile

from benchmarks._results import JsonFile, show, write_result
from models.audeo.ear import Ear, Samples, read_wav
from models.audeo.fingerprint import bit_error, fingerprint
from models.audeo.notes import Note, Notes, Truth, in_order, read_midi
from models.audeo.scores import match
from stream.errors import MissingExtraError

RATE_HZ = 44100
DEFAULT, RECORDED = "0.6, 0.5", "0.5, 0.3"
THRESHOLDS = {DEFAULT: (0.6, 0.5), RECORDED: (0.5, 0.3)}


def run(
    recording: Annotated[
        Path | None, typer.Option(help="A real recording of a piano, .wav.")
    ] = None,
    transcription: Annotated[Path | None, typer.Option(help="Its notes, .mid.")] = None,
    json_path: JsonFile = None,
) -> dict[str, Any]:
    """Score what the ear hears of known notes, and how alike fingerprints are."""
    ears = {
        name: Ear(onset=onset, sounding=sounding) for name, (onset, sounding) in THRESHOLDS.items()
    }
    rows = [_heard(name, notes, ears) for name, notes in _pieces().items()]
    prints = []
    if transcription is not None:
        notes = read_midi(transcription)
        rows.append(_heard("the transcription", notes, ears))
        if recording is not None:
            rows.append(_row("the recording itself", notes, ears, *read_wav(recording)))
            prints = _alike(recording, notes)
    conditions = {
        "seeds": "100 to 107", "font": "TimGM6mb", "python": platform.python_version(),
        "numpy": np.__version__, "onnxruntime": onnxruntime.__version__,
    }  # fmt: skip
    for some in (rows, prints):
        show(some, Console())
    return write_result("ear", conditions, [*rows, *prints], json_path)


def _pieces() -> dict[str, Notes]:
    pieces = {
        "single notes C2 to C7, 4 a second": _melody(100, 36, 97, 0.25),
        "single notes C3 to C6, 8 a second": _melody(101, 48, 85, 0.12),
        "single notes of all 88 keys, 4 a second": _melody(102, 21, 109, 0.25),
        "chords of 1 to 4 notes, E2 to C6": _chords(103),
    }
    for seed, velocity in ((104, 35), (105, 60), (106, 100)):
        notes = _melody(seed, 48, 85, 0.25)
        pieces[f"velocity {velocity}"] = tuple(replace(n, velocity=velocity) for n in notes)
    return pieces


def _melody(seed: int, lowest: int, beyond: int, spacing_s: float) -> Notes:
    random = np.random.default_rng(seed)
    return tuple(
        Note(int(pitch), at, at + float(length), int(velocity))
        for at, pitch, length, velocity in zip(
            0.5 + spacing_s * np.arange(150), random.integers(lowest, beyond, 150),
            random.uniform(0.15, 0.5, 150), random.integers(50, 110, 150), strict=True,
        )
    )  # fmt: skip


def _chords(seed: int) -> Notes:
    random = np.random.default_rng(seed)
    notes = []
    for at in 0.5 + 0.4 * np.arange(50):
        for pitch in random.choice(np.arange(40, 85), random.integers(1, 5), replace=False):
            length, velocity = random.uniform(0.2, 0.5), random.integers(50, 110)
            notes.append(Note(int(pitch), float(at), float(at + length), int(velocity)))
    return in_order(notes)


def played(notes: Notes) -> NDArray[np.float32]:
    """Return notes as the synthesiser plays them, stereo (samples, 2)."""
    try:
        import pretty_midi
        import tinysoundfont
    except ImportError as error:
        raise MissingExtraError("playing notes", "audio") from error
    synth = tinysoundfont.Synth(samplerate=RATE_HZ, gain=-6)
    font = synth.sfload(str(Path(pretty_midi.__file__).with_name("TimGM6mb.sf2")))
    synth.program_select(0, font, 0, 0)
    events = [(n.onset_s, True, n) for n in notes] + [(n.offset_s, False, n) for n in notes]
    parts, now = [], 0
    for at, down, note in sorted(events, key=lambda event: event[:2]):
        if (samples := round(at * RATE_HZ) - now) > 0:
            parts.append(np.frombuffer(bytes(synth.generate(samples)), np.float32))
            now += samples
        if down:
            synth.noteon(0, note.pitch, note.velocity)
        else:
            synth.noteoff(0, note.pitch)
    parts.append(np.frombuffer(bytes(synth.generate(RATE_HZ)), np.float32))
    return np.concatenate(parts).reshape(-1, 2)


def _heard(name: str, notes: Notes, ears: dict[str, Ear]) -> dict[str, Any]:
    return _row(name, notes, ears, played(notes).mean(1), RATE_HZ)


def _row(
    name: str, notes: Notes, ears: dict[str, Ear], samples: Samples, rate_hz: int
) -> dict[str, Any]:
    row: dict[str, Any] = {"sound": name, "notes": len(notes)}
    for thresholds, ear in ears.items():
        heard = ear.hear(samples, rate_hz)
        matched = match(heard, Truth(notes))
        late = [found.onset_s - true.onset_s for true, found in matched.hits]
        score = matched.score
        row |= {
            f"precision {thresholds}": score.precision, f"recall {thresholds}": score.recall,
            f"f1 {thresholds}": score.f1, f"median error ms {thresholds}": 1e3 * np.median(late),
            f"f1 with offset {thresholds}": match(heard, Truth(notes), offsets=True).score.f1,
        }  # fmt: skip
    return row


def _alike(recording: Path, notes: Notes) -> list[dict[str, Any]]:
    random = np.random.default_rng(107)
    half, most = ([n for n in notes if random.random() < share] for share in (0.5, 0.7))
    others = {
        "all": notes,
        "70 %, none wrong": most,
        "half, none wrong": half,
        "half, and as many wrong": [*half, *_elsewhere(half, random)],
        "all, a semitone higher": [replace(n, pitch=n.pitch + 1) for n in notes],
        "random pitches": _elsewhere(notes, random),
        **{f"other notes {seed}": _melody(seed, 48, 85, 0.17) for seed in range(110, 114)},
    }
    real = fingerprint(recording)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, which in others.items():
            path = Path(folder) / "played.wav"
            wavfile.write(path, RATE_HZ, played(tuple(which)))
            rows.append({"played": name, "bits that differ": bit_error(real, fingerprint(path))})
    return rows


def _elsewhere(notes: Notes | list[Note], random: np.random.Generator) -> list[Note]:
    return [replace(n, pitch=int(random.integers(48, 90))) for n in notes]
