"""Scores are played as pianists play them, by rules with sources."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.audeo.rendering.performance import Press, Written, reachable
from models.audeo.rendering.playing import PEDAL_DOWN_S, Manner, draw_manner, play

STEADY = Manner(
    phrase=8, first=0.0, breath=0.0, unsteady=0.0, loud=60, swell=0, melody=0, apart_s=0.003,
    hold=1.0, staccato=0.0, pedal=False,
)  # fmt: skip
SCALE = [60, 62, 64, 65, 67, 69, 71, 72]
"""Eight keys, one after another, none of them twice in a row."""


def scale(times: int = 8) -> list[Written]:
    return [Written(SCALE[i % 8], float(i), 1.0, 1) for i in range(8 * times)]


def played(notes: list[Written], manner: Manner) -> list[Press]:
    presses = play(np.random.default_rng(0), notes, 0.5, 1e9, manner)
    assert len(presses) == len(notes)
    return presses


def held(presses: list[Press]) -> float:
    return float(np.median([p.release_s - p.bottom_s for p in presses])) / 0.5


def test_the_highest_voice_is_louder_and_leads_by_what_its_keys_are_faster() -> None:
    chords = [Written(p, float(i), 0.5, 1) for i in range(200) for p in (60, 64, 67)]
    presses = played(chords, replace(STEADY, melody=20, loud=45))
    top = [p for p in presses if p.pitch == 67]
    low = [p for p in presses if p.pitch == 60]
    assert np.mean([p.velocity for p in top]) - np.mean([p.velocity for p in low]) > 15
    lead_s = np.mean([b.bottom_s - a.bottom_s for a, b in zip(top, low, strict=True)])
    assert 0.008 < lead_s < 0.03
    touched = [[p.bottom_s - p.travel_s for p in some] for some in (top, low)]
    assert abs(np.mean(np.subtract(*touched))) < 0.003


def test_a_phrase_is_slower_and_softer_at_its_ends() -> None:
    presses = played(scale(), replace(STEADY, breath=0.3, swell=20))
    beats_s = np.diff([p.bottom_s - p.travel_s for p in presses]).reshape(-1)[: 8 * 7]
    lengths = beats_s.reshape(7, 8).mean(0)
    assert lengths[[0, 7]].mean() > 1.15 * lengths[[3, 4]].mean()
    assert lengths.mean() == pytest.approx(0.5, rel=0.03)
    force = np.array([p.velocity for p in presses]).reshape(8, 8).mean(0)
    assert force[4] > force[[0, 7]].mean() + 8


def test_legato_overlaps_staccato_is_two_fifths_and_before_the_same_key_three_fifths() -> None:
    legato = played(scale(), STEADY)
    assert 1.0 < held(legato) < 1.15
    assert held(played(scale(), replace(STEADY, staccato=1.0))) == pytest.approx(0.4, rel=0.1)
    again = [Written(60, float(i), 1.0, 1) for i in range(40)]
    assert held(played(again, STEADY)[:-1]) == pytest.approx(0.6, rel=0.1)


def test_with_the_pedal_keys_are_let_go_of_early_but_not_before_the_foot_is_down() -> None:
    bass = [Written(36 + 2 * (i % 2), 4.0 * i, 4.0, 0) for i in range(8)]
    above = [Written(SCALE[i % 8], i / 2, 0.5, 1) for i in range(64)]
    without = played([*bass, *above], STEADY)
    presses = played([*bass, *above], replace(STEADY, pedal=True))
    whole_s, carried_s = (np.mean([p.release_s - p.bottom_s for p in some if p.hand])
                          for some in (without, presses))  # fmt: skip
    assert carried_s < 0.85 * whole_s
    changes = [p for p in presses if p.hand == 0]
    assert min(p.release_s - p.bottom_s for p in changes) >= PEDAL_DOWN_S


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_manner_a_key_comes_up_before_it_goes_down_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    notes = [
        Written(int(rng.integers(50, 62)), float(rng.integers(0, 60)) / 4, 0.5, int(i % 2))
        for i in range(80)
    ]
    presses = play(rng, reachable(notes), 0.4, 5.0, draw_manner(rng))
    last: dict[int, float] = {}
    for press in sorted(presses, key=lambda p: p.bottom_s):
        assert 1 <= press.velocity <= 127
        assert press.bottom_s < 5.0
        assert press.release_s > press.bottom_s
        assert press.bottom_s - press.travel_s > max(0.0, last.get(press.pitch, 0.0))
        last[press.pitch] = press.release_s + press.rise_s


def test_nothing_written_is_nothing_played() -> None:
    assert play(np.random.default_rng(0), [], 0.5, 3.0) == []
