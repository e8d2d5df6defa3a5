"""How well a piano network finds notes in rendered clips, run frame by frame as it runs live."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.audeo.dataset import Stored, whole_strips
from models.audeo.decoder import Decoder
from models.audeo.network import LOOK_AHEADS, PianoNetwork, keys_within, run_through
from models.audeo.notes import Note, Notes, Truth, in_order
from models.audeo.scores import Score, bands, match, whites_from_camera
from stream.errors import ConfigError
from stream.inference import StreamingSession
from stream.music.keyboard import IS_BLACK, KEYS, LOWEST_PITCH
from stream.music.piano.note_tracking import NoteTracker
from stream.music.piano.piano_notes import END
from stream.music.piano.strip import CHANNELS, PX_PER_WHITE, STRIP_HEIGHT, STRIP_WIDTH
from stream.units import to_ns

Floats = NDArray[np.floating[Any]]
Probabilities = Callable[[NDArray[np.uint8], int], NDArray[np.float32]]
"""From strips (T, 56, width, 4) and their first white to (T, 3, 88), 0 at keys that are not there:
probabilities of onset and frame, and velocity."""

THRESHOLDS = tuple(np.round(np.arange(0.3, 0.96, 0.05), 2).tolist())
ALL_KEYS = slice(0, KEYS)
_PX_EDGES = (10.0, 13.0, 17.0)
_DISTANCE_EDGES = (4.0, 8.0, 16.0)


def of_network(
    network: PianoNetwork, look_ahead: int = 0, decoder: Decoder | None = None
) -> Probabilities:
    """Return how a network gives probabilities; a decoder corrects those without look-ahead."""
    number = LOOK_AHEADS.index(look_ahead)

    def run(strips: NDArray[np.uint8], left: int) -> NDArray[np.float32]:
        logits = run_through(network, strips, left)
        found = np.zeros((len(strips), 3, KEYS), np.float32)
        keys = keys_within(left, strips.shape[2] // PX_PER_WHITE)
        if decoder is not None:
            logits = decoder.decode(logits, int(keys[0]))
        found[:, :, keys] = torch.sigmoid(logits[:, :, number]).numpy().transpose(0, 2, 1)
        return found

    return run


def of_file(path: Path) -> tuple[Probabilities, int]:
    """Return how a model file gives probabilities, and by how many frames they are late.

    Raises
    ------
    ModelError
        The file cannot be used.
    ConfigError
        It is no piano network.
    """
    session = StreamingSession(path, "cpu")
    if session.contract.outputs[0].kind != "keys":
        raise ConfigError(f"{path} gives {session.contract.outputs[0].kind}, not keys of a piano.")

    def run(strips: NDArray[np.uint8], left: int) -> NDArray[np.float32]:
        session.reset()
        whole = np.zeros((STRIP_HEIGHT, STRIP_WIDTH, len(CHANNELS)), np.uint8)
        columns = slice(left * PX_PER_WHITE, left * PX_PER_WHITE + strips.shape[2])
        found = []
        for strip in strips:
            whole[:, columns] = strip
            found.append(session.step({"strip": whole})["keys"])
        return np.stack(found)

    return run, session.contract.delay_steps


def notes_of(found: Floats, times_s: NDArray[np.float64], begin: float, late: int = 0) -> Notes:
    """Return the notes of probabilities (T, 3, 88), which are `late` frames late."""
    tracker = NoteTracker(begin, END)
    down: dict[int, tuple[float, float]] = {}
    notes: list[Note] = []
    for t, probabilities in enumerate(found[late:]):
        at_s = float(times_s[t])
        for change in tracker.push(to_ns(at_s), *probabilities):
            if change.velocity is not None:
                down[change.key] = (at_s, change.velocity)
            elif change.key in down:
                notes.append(_note(change.key, *down.pop(change.key), at_s))
    last_s = float(times_s[-1])
    notes += [_note(key, *began, last_s + 0.05) for key, began in down.items()]
    return in_order(notes)


def _note(key: int, onset_s: float, velocity: float, offset_s: float) -> Note:
    force = int(np.clip(round(127 * velocity), 1, 127))
    return Note(key + LOWEST_PITCH, onset_s, max(offset_s, onset_s + 0.01), force)


@dataclass
class Tally:
    """Scores over clips: onsets within 50 and 100 ms, frames, and onsets within 50 ms apart for
    bands of pixels per white key, of whites from the camera, and of black and white keys.
    """

    tight: Score = field(default_factory=lambda: Score(0, 0, 0))
    loose: Score = field(default_factory=lambda: Score(0, 0, 0))
    frames: Score = field(default_factory=lambda: Score(0, 0, 0))
    apart: dict[str, dict[str, Score]] = field(default_factory=dict)

    def add(self, kind: str, name: str, score: Score) -> None:
        """Add to the score of a band."""
        named = self.apart.setdefault(kind, {})
        named[name] = named.get(name, Score(0, 0, 0)) + score


def tally(
    clips: Iterable[Stored],
    probabilities: Probabilities,
    begin: float,
    late: int = 0,
    *,
    keys: slice = ALL_KEYS,
) -> Tally:
    """Score a model on clips; only `keys` count, and none at cut edges of a clip."""
    total = Tally()
    for clip in clips:
        found = probabilities(whole_strips(clip), clip.left)
        score_clip(total, clip, found, begin, late, keys=keys)
    return total


def score_clip(
    total: Tally,
    clip: Stored,
    found: Floats,
    begin: float,
    late: int = 0,
    *,
    keys: slice = ALL_KEYS,
) -> None:
    """Add the scores of probabilities (T, 3, 88) that were found in a clip."""
    counts = counted(clip, keys)
    found = np.where(counts, found, 0)
    notes = notes_of(found, clip.times_s, begin, late)
    truth = truth_of(clip.presses, clip.times_s, counts)
    matched = match(notes, truth)
    total.tight += matched.score
    total.loose += match(notes, truth, 0.1).score
    total.frames += _frame_score(clip, found, counts, late)
    (px,) = set(bands(np.array([clip.px_per_white]), _PX_EDGES))
    total.add("pixels per white", px, matched.score)
    for kind, groups in (
        ("whites from camera", bands(whites_from_camera(clip.camera_u), _DISTANCE_EDGES)),
        ("colour", tuple("black" if black else "white" for black in IS_BLACK)),
    ):
        for name, score in matched.by_key(groups).items():
            total.add(kind, name, score)


def best_threshold(
    clips: Sequence[Stored],
    probabilities: Probabilities,
    late: int = 0,
    *,
    keys: slice = ALL_KEYS,
    thresholds: Sequence[float] = THRESHOLDS,
) -> float:
    """Return the probability of an onset from which notes score best within 50 ms."""
    found = [probabilities(whole_strips(clip), clip.left) for clip in clips]

    def f1(begin: float) -> float:
        total = Tally()
        for clip, values in zip(clips, found, strict=True):
            score_clip(total, clip, values, begin, late, keys=keys)
        return total.tight.f1

    best: float = max(thresholds, key=f1)
    return best


def best_frame_share(
    clips: Sequence[Stored],
    probabilities: Probabilities,
    *,
    keys: slice = ALL_KEYS,
    thresholds: Sequence[float] = THRESHOLDS,
) -> float:
    """Return the probability of being down from which frames score best."""
    found = [probabilities(whole_strips(clip), clip.left) for clip in clips]

    def f1(share: float) -> float:
        total = Score(0, 0, 0)
        for clip, values in zip(clips, found, strict=True):
            counts = counted(clip, keys)
            total += _frame_score(clip, np.where(counts, values, 0), counts, 0, share)
        return total.f1

    best: float = max(thresholds, key=f1)
    return best


def levelled(probabilities: Probabilities, share: float) -> Probabilities:
    """Return the same, but that keys are down moved so that `share` becomes 0.5."""

    def run(strips: NDArray[np.uint8], left: int) -> NDArray[np.float32]:
        found = probabilities(strips, left).copy()
        down = found[:, 1] * (1 - share)
        found[:, 1] = down / (down + (1 - found[:, 1]) * share)
        return found

    return run


def truth_of(
    presses: NDArray[np.float64], times_s: NDArray[np.float64], counts: NDArray[np.bool_]
) -> Truth:
    """Return the notes of presses (n, 7) on keys that count (88,) that begin within the frames."""
    return Truth(
        in_order(
            Note(int(pitch), bottom, max(release, bottom + 0.01), int(velocity))
            for pitch, bottom, release, velocity, *_ in presses
            if counts[int(pitch) - LOWEST_PITCH] and bottom < times_s[-1]
        )
    )


def counted(clip: Stored, keys: slice = ALL_KEYS) -> NDArray[np.bool_]:
    """Return which of these keys lie in a clip, but not at an end that is cut, (88,)."""
    width = clip.strips.shape[2] // PX_PER_WHITE
    left = clip.left + (clip.left > 0)
    right = clip.left + width - (clip.left + width < STRIP_WIDTH // PX_PER_WHITE)
    counts = np.zeros(KEYS, bool)
    counts[keys_within(left, right - left)] = True
    counts[: keys.start] = counts[keys.stop :] = False
    return counts


def _frame_score(
    clip: Stored, found: Floats, counts: NDArray[np.bool_], late: int, share: float = 0.5
) -> Score:
    """Score frames in which a key is down: from its bottom until it begins to rise."""
    true = np.zeros((len(clip.times_s), KEYS), bool)
    for pitch, bottom, release, *_ in clip.presses:
        here = (clip.times_s >= bottom) & (clip.times_s < release)
        true[here, int(pitch) - LOWEST_PITCH] = True
    n = len(true) - late
    said, true = found[late:, 1][:, counts] > share, true[:n][:, counts]
    return Score(int((said & true).sum()), int(said.sum()), int(true.sum()))
