"""What is played: presses of keys by two hands, made up or taken from scores."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stream.music.keyboard import CENTRES_U, HIGHEST_PITCH, LOWEST_PITCH

_STAYS_WITHIN = 5.0
"""Whites between a key that is held and one that the same hand goes on to play."""


@dataclass(frozen=True)
class Press:
    """One key going down and up again.

    `bottom_s` is when the key reaches its bottom, which counts as the onset; it begins to move
    `travel_s` before. `release_s` is when it begins to rise, for `rise_s`. `velocity` is 1 to 127;
    `hand` 0 for left, 1 for right.
    """

    pitch: int
    bottom_s: float
    release_s: float
    velocity: int
    hand: int
    travel_s: float
    rise_s: float


@dataclass(frozen=True)
class Written:
    """A note of a score: pitch, beginning and length in beats, and the hand that plays it."""

    pitch: int
    beat: float
    beats: float
    hand: int


Random = np.random.Generator


def travel_of(rng: Random, velocity: float) -> float:
    """Return how long a key of a velocity takes to its bottom, in s: loud ones are fast."""
    return float(np.clip(0.1 * np.exp(-velocity / 64) * rng.lognormal(0, 0.25), 0.012, 0.12))


def perform(rng: Random, notes: list[Written], beat_s: float, until_s: float) -> list[Press]:
    """Play a score as people do: uneven time and force, keys held too long or too short.

    A key is released before it is pressed again.
    """
    held = rng.choice([0.55, 0.8, 0.95, 1.05]) + rng.normal(0, 0.05)
    apart_s = abs(rng.normal(0, 0.012))
    loud = np.clip(rng.normal(64, 18), 25, 110)
    drift = rng.normal(0, 0.04)
    presses: list[Press] = []
    for note in sorted(notes, key=lambda n: (n.beat, n.pitch)):
        swell = 12 * np.sin(note.beat / 4 + drift)
        velocity = int(np.clip(loud + swell + rng.normal(0, 8), 8, 126))
        bottom = 0.25 + note.beat * beat_s * (1 + drift * np.sin(note.beat / 6))
        bottom += rng.normal(0, apart_s) + 0.004
        if bottom >= until_s:
            continue
        length = max(0.07, note.beats * beat_s * held * rng.lognormal(0, 0.1))
        presses.append(
            Press(
                note.pitch, float(bottom), float(bottom + length), velocity, note.hand,
                travel_of(rng, velocity), float(rng.uniform(0.03, 0.1)),
            )
        )  # fmt: skip
    return without_overlap(presses)


def without_overlap(presses: list[Press]) -> list[Press]:
    """Shorten or leave out presses so that each key has come up before it goes down again."""
    kept: list[Press] = []
    last: dict[int, int] = {}
    for press in sorted(presses, key=lambda p: p.bottom_s):
        before = last.get(press.pitch)
        if before is not None:
            previous = kept[before]
            free_s = press.bottom_s - press.travel_s - 0.01
            release_s = min(previous.release_s, free_s - previous.rise_s)
            if release_s < previous.bottom_s + 0.03:
                continue
            kept[before] = Press(**{**previous.__dict__, "release_s": release_s})
        last[press.pitch] = len(kept)
        kept.append(press)
    return kept


def let_go(presses: list[Press]) -> list[Press]:
    """Release keys from which a hand goes too far away for a finger to stay."""
    kept = []
    for press in presses:
        u = CENTRES_U[press.pitch - LOWEST_PITCH]
        gone = [
            other.bottom_s - other.travel_s - 0.03
            for other in presses
            if other.hand == press.hand
            and press.bottom_s + 0.05 < other.bottom_s < press.release_s
            and abs(CENTRES_U[other.pitch - LOWEST_PITCH] - u) > _STAYS_WITHIN
        ]
        release_s = max(min([press.release_s, *gone]), press.bottom_s + 0.04)
        kept.append(replace(press, release_s=release_s))
    return kept


def made_up(rng: Random, low_pitch: int, high_pitch: int, beats: float) -> list[Written]:
    """Make up music within a range for two hands: scales, arpeggios, chords, trills, jumps."""
    middle = (low_pitch + high_pitch) / 2
    notes: list[Written] = []
    for hand, (low, high) in enumerate(((low_pitch, middle + 2), (middle - 2, high_pitch))):
        if rng.random() < 0.15:
            continue
        beat = float(rng.uniform(0, 1))
        while beat < beats:
            pattern = str(rng.choice(["scale", "arpeggio", "chords", "trill", "repeat", "jumps"]))
            step = float(rng.choice([0.25, 0.25, 1 / 3, 0.5, 0.5, 1.0]))
            count = int(rng.integers(4, 13))
            for pitches in _figure(rng, pattern, int(low), int(high), count):
                notes += [Written(p, beat, step * float(rng.uniform(0.8, 1.6)), hand)
                          for p in pitches]  # fmt: skip
                beat += step
                if rng.random() < 0.06:
                    beat += step
    return _one_hand_each(notes)


def _figure(rng: Random, pattern: str, low: int, high: int, count: int) -> list[list[int]]:
    low, high = max(low, LOWEST_PITCH), min(high, HIGHEST_PITCH)
    if high - low < 3:
        return [[low]] * count
    key = int(rng.integers(0, 12))
    scale = [p for p in range(low, high + 1) if (p - key) % 12 in (0, 2, 4, 5, 7, 9, 11)]
    if rng.random() < 0.2:
        scale = list(range(low, high + 1))
    at = int(rng.integers(0, len(scale)))
    stride = {"scale": 1, "arpeggio": 2}.get(pattern, 1) * int(rng.choice([-1, 1]))
    out: list[list[int]] = []
    for i in range(count):
        if pattern in ("scale", "arpeggio"):
            if not 0 <= at + stride < len(scale):
                stride = -stride
            at = int(np.clip(at + stride, 0, len(scale) - 1))
            out.append([scale[at]])
        elif pattern == "chords":
            at = int(np.clip(at + rng.integers(-2, 3), 0, len(scale) - 1))
            size = int(rng.integers(2, 5))
            out.append([scale[j] for j in range(at, min(at + 2 * size, len(scale)), 2)])
        elif pattern == "trill":
            out.append([scale[min(at + i % 2, len(scale) - 1)]])
        elif pattern == "repeat":
            out.append([scale[at]])
        else:
            at = int(rng.integers(0, len(scale)))
            out.append([scale[at]])
    return out


def _one_hand_each(notes: list[Written]) -> list[Written]:
    """Leave out what the other hand plays on the same key at the same time."""
    seen: set[tuple[int, int]] = set()
    kept = []
    for note in notes:
        place = (note.pitch, round(note.beat * 8))
        if place not in seen:
            seen.add(place)
            kept.append(note)
    return kept


def reachable(notes: list[Written]) -> list[Written]:
    """Leave out notes that a hand cannot reach: over nine whites apart at the same time."""
    kept: list[Written] = []
    for note in sorted(notes, key=lambda n: (n.beat, n.pitch)):
        together = [
            n for n in kept[-10:]
            if n.hand == note.hand and abs(n.beat - note.beat) < 0.05
        ]  # fmt: skip
        u = CENTRES_U[note.pitch - LOWEST_PITCH]
        if all(abs(CENTRES_U[n.pitch - LOWEST_PITCH] - u) <= 8.5 for n in together) and (
            len(together) < 5
        ):
            kept.append(note)
    return kept
