"""A model of how pianists play a score: where notes come early, loud, short, or let go of.

Performances that people played cannot be had on terms that let a trained network be shipped
(`docs/piano.md` says where that was searched), so that scores are played by rules instead:

- tempo and force follow phrases: faster and louder to their middle, slower and softer to their end
  (Friberg and Battel, in: The Science and Psychology of Music Performance, Oxford 2002);
- the highest voice is louder; fingers meet their keys together, and a louder key is at its bottom
  earlier, which makes the melody lead by some 30 ms (Goebl, J. Acoust. Soc. Am. 110, 2001);
- staccato lasts 40 % of the time to the next note, a note before the same key again 60 %, legato
  goes beyond the next (Bresin and Battel, J. New Music Research 29, 2000), the longer the notes the
  further (Repp, Haskins Status Report SR-117/118, 1994);
- where the sustain pedal carries the sound, keys are let go of early, but not before the foot is
  down, which is after the chord (Repp, Psychological Research 58, 1996).

These sources say in which direction, and the percentages. How far tempo, force and hold depart, and
how much they vary, was chosen by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.audeo.rendering.performance import Press, Random, Written, travel_of, without_overlap

STACCATO, REPEATED = 0.4, 0.6
"""How much of its time a note is held."""
PEDAL_DOWN_S = 0.2
"""After a change of harmony, how long keys are held at least for the pedal to take over."""

_LEAD_IN_S = 0.25
_GRID = 16
_WIDE_SEMITONES = 12


@dataclass(frozen=True)
class Manner:
    """How somebody plays one excerpt.

    Attributes
    ----------
    phrase, first
        Beats of a phrase, and where in a phrase the excerpt begins, 0 to 1.
    breath
        By how much of its length a beat is longer at the ends of a phrase than in its middle.
    unsteady
        By how much of their length beats vary at random.
    loud, swell, melody
        Velocity at the ends of a phrase, how much more in its middle, and for the highest voice.
    apart_s
        By how much fingers that play at once miss each other.
    hold
        For which share of its time a note is held that is neither; 1 is legato.
    staccato
        How many of the phrases of a hand are staccato, as a share.
    pedal
        Whether the foot plays along.
    """

    phrase: float
    first: float
    breath: float
    unsteady: float
    loud: float
    swell: float
    melody: float
    apart_s: float
    hold: float
    staccato: float
    pedal: bool


def draw_manner(rng: Random) -> Manner:
    """Draw a manner of playing."""
    return Manner(
        phrase=float(rng.choice([4, 6, 8, 16])), first=float(rng.random()),
        breath=float(rng.uniform(0.05, 0.4)), unsteady=float(rng.uniform(0.01, 0.08)),
        loud=float(np.clip(rng.normal(48, 14), 15, 85)), swell=float(rng.uniform(4, 22)),
        melody=float(rng.uniform(6, 24)), apart_s=float(rng.uniform(0.002, 0.01)),
        hold=float(rng.choice([0.6, 0.8, 1.0, 1.0])), staccato=float(rng.choice([0.0, 0.2, 0.6])),
        pedal=bool(rng.random() < 0.5),
    )  # fmt: skip


def play(
    rng: Random,
    notes: Sequence[Written],
    beat_s: float,
    until_s: float,
    manner: Manner | None = None,
) -> list[Press]:
    """Play a score by the rules above, from 0.25 s on.

    Parameters
    ----------
    rng
        Where chance comes from.
    notes
        The score.
    beat_s
        Mean length of a beat in seconds.
    until_s
        Notes that would reach their bottom later are left out.
    manner
        How to play; drawn without one.

    Returns
    -------
    list of Press
        A key is released before it is pressed again.
    """
    if not notes:
        return []
    m = manner or draw_manner(rng)
    ordered = sorted(notes, key=lambda n: (n.beat, n.pitch))
    clock = _Clock(rng, m, beat_s, max(n.beat + n.beats for n in ordered))
    changes = _harmonies(ordered)
    short = {
        (hand, phrase): bool(rng.random() < m.staccato)
        for hand in (0, 1)
        for phrase in range(int(ordered[-1].beat / m.phrase + m.first) + 1)
    }
    presses = []
    for chord in _chords(ordered):
        top = max(n.pitch for n in ordered if n.beat <= chord[0].beat < n.beat + n.beats)
        delay_s = _rolled(rng, chord)
        arch = float(_arch(chord[0].beat, m))
        for note, late_s in zip(chord, delay_s, strict=True):
            velocity = m.loud + m.swell * arch + rng.normal(0, 4)
            velocity += m.melody * (note.pitch == top) + 3 * (note.beat % 1 == 0)
            velocity = float(np.clip(velocity, 8, 126))
            travel_s = travel_of(rng, velocity)
            touch_s = clock(note.beat) + late_s + rng.normal(0, m.apart_s)
            bottom_s = max(0.02, float(touch_s)) + travel_s
            if bottom_s >= until_s:
                continue
            whole_s = float(clock(note.beat + note.beats) - clock(note.beat))
            held_s = whole_s * (m.hold + rng.uniform(0, 0.15))
            if _again(note, ordered):
                held_s = whole_s * REPEATED * rng.lognormal(0, 0.1)
            elif short[note.hand, int(note.beat / m.phrase + m.first)]:
                held_s = whole_s * STACCATO * rng.lognormal(0, 0.15)
            elif m.pedal and rng.random() < 0.5:
                least_s = PEDAL_DOWN_S if note.beat in changes else 0.0
                held_s = max(least_s, whole_s * float(rng.uniform(0.25, 0.9)))
            presses.append(
                Press(
                    note.pitch, bottom_s, bottom_s + max(0.06, float(held_s)), round(velocity),
                    note.hand, travel_s, float(rng.uniform(0.03, 0.1)),
                )
            )  # fmt: skip
    return without_overlap(presses)


class _Clock:
    """When a beat is, in seconds."""

    def __init__(self, rng: Random, m: Manner, beat_s: float, beats: float) -> None:
        grid = np.arange(0, np.ceil(beats) + 1, 1 / _GRID)
        uneven = np.repeat(rng.normal(0, m.unsteady, len(grid) // _GRID + 1), _GRID)[: len(grid)]
        # Of an arch, two thirds are the mean.
        length = beat_s * (1 + m.breath * (2 / 3 - _arch(grid, m)) + uneven)
        self._beats = grid
        self._at_s = _LEAD_IN_S + np.concatenate([[0.0], np.cumsum(length[:-1] / _GRID)])

    def __call__(self, beat: float) -> float:
        return float(np.interp(beat, self._beats, self._at_s))


def _arch(beat: float | NDArray[np.float64], m: Manner) -> NDArray[np.float64]:
    """Return 0 at the ends of a phrase, 1 in its middle."""
    x = (np.asarray(beat) / m.phrase + m.first) % 1
    return 1 - 4 * (x - 0.5) ** 2


def _chords(ordered: Sequence[Written]) -> list[list[Written]]:
    """Return the notes of each moment and hand, from low to high."""
    chords: dict[tuple[float, int], list[Written]] = {}
    for note in ordered:
        chords.setdefault((note.beat, note.hand), []).append(note)
    return list(chords.values())


def _rolled(rng: Random, chord: Sequence[Written]) -> NDArray[np.float64]:
    """Return by how much each note of a chord is late: wide ones are now and then rolled."""
    wide = chord[-1].pitch - chord[0].pitch >= _WIDE_SEMITONES
    step_s = rng.uniform(0.02, 0.06) if wide and rng.random() < 0.4 else 0.0
    return step_s * np.arange(len(chord))


def _again(note: Written, ordered: Sequence[Written]) -> bool:
    """Return whether the same key is played again right when a note ends."""
    end = note.beat + note.beats
    return any(n.pitch == note.pitch and abs(n.beat - end) < 0.05 for n in ordered)


def _harmonies(ordered: Sequence[Written]) -> set[float]:
    """Return the beats at which the harmony changes: those of a new lowest pitch class."""
    changes: set[float] = set()
    before = None
    for beat in dict.fromkeys(n.beat for n in ordered):
        sounding = [n.pitch for n in ordered if n.beat <= beat < n.beat + n.beats]
        lowest = min(sounding, default=None)
        if lowest is not None and lowest % 12 != before:
            changes.add(beat)
            before = lowest % 12
    return changes
