"""Scores of notes, against cases that can be counted by hand."""

from __future__ import annotations

from dataclasses import replace

# Loaded before hypothesis looks at the clock.
import mir_eval.transcription  # noqa: F401
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.audeo.notes import Note, Notes, Truth, in_order, piano_roll, shifted
from models.audeo.scores import (
    LOOSE_ONSET_S,
    Score,
    bands,
    best_shift,
    colours,
    frame_score,
    look_ahead_curve,
    match,
    pixels_per_key,
    published_score,
    whites_from_camera,
    zones,
)
from stream.music.keyboard import WHITES, no_grid


@st.composite
def melodies(draw: st.DrawFn) -> Notes:
    """Notes at least 0.7 s apart on each key, of 0.1 to 0.4 s."""
    keys = draw(st.dictionaries(st.integers(21, 108), st.integers(1, 4), min_size=1, max_size=6))
    notes = []
    for pitch, number in keys.items():
        for i in range(number):
            onset = 0.7 * i + draw(st.floats(0, 0.2))
            notes.append(Note(pitch, onset, onset + draw(st.floats(0.1, 0.4))))
    return in_order(notes)


@given(melodies())
def test_the_truth_itself_is_perfect(notes: Notes) -> None:
    score = match(notes, Truth(notes), offsets=True).score
    assert (score.precision, score.recall, score.f1) == (1, 1, 1)


@given(melodies(), st.floats(-0.049, 0.049))
def test_a_shift_within_the_tolerance_costs_nothing_and_one_beyond_it_everything(
    notes: Notes, shift: float
) -> None:
    assert match(shifted(notes, shift), Truth(notes)).score.f1 == 1
    assert match(shifted(notes, 0.15 + shift), Truth(notes)).score.f1 == 0


@given(melodies())
def test_the_wrong_key_is_no_hit(notes: Notes) -> None:
    moved = [replace(n, pitch=n.pitch + (1 if n.pitch < 108 else -1)) for n in notes]
    pitches = {n.pitch for n in notes}
    apart = [n for n in moved if n.pitch not in pitches]
    assert match(apart, Truth(notes)).score.hits == 0


@given(melodies(), melodies())
def test_truth_and_estimate_swapped_swap_precision_and_recall(a: Notes, b: Notes) -> None:
    one, other = match(a, Truth(b)).score, match(b, Truth(a)).score
    assert (one.precision, one.recall) == (other.recall, other.precision)


@given(melodies(), melodies(), st.floats(0, 2))
def test_parts_of_a_clip_have_the_notes_of_all_of_it(a: Notes, b: Notes, cut: float) -> None:
    truth = Truth(b)
    before, after = (match(a, truth, span_s=span).score for span in ((-1, cut), (cut, 9)))
    assert before + after == match(a, truth).score


def test_a_score_can_be_counted_by_hand(tune: Notes) -> None:
    found = (
        *(replace(n, onset_s=n.onset_s + late) for n, late in zip(
            tune[:4], (0.0, 0.049, 0.051, -0.099), strict=True)),
        Note(50, 0.5, 0.9),
    )  # fmt: skip
    tight = match(found, Truth(tune)).score
    assert tight == Score(hits=2, found=5, true=7)
    assert (tight.precision, tight.recall) == (2 / 5, 2 / 7)
    assert tight.f1 == pytest.approx(2 * (2 / 5) * (2 / 7) / (2 / 5 + 2 / 7))
    assert match(found, Truth(tune), LOOSE_ONSET_S).score.hits == 4


def test_a_note_found_twice_is_right_once() -> None:
    note = Note(60, 1.0, 2.0)
    assert match([note, replace(note, onset_s=1.01)], Truth((note,))).score == Score(1, 2, 1)


def test_an_offset_may_be_off_by_50_ms_or_a_fifth_of_the_note() -> None:
    short, long = Note(60, 1.0, 1.1), Note(62, 1.0, 3.0)
    truth = Truth((short, long))
    near = [replace(short, offset_s=1.149), replace(long, offset_s=3.39)]
    far = [replace(short, offset_s=1.151), replace(long, offset_s=3.41)]
    assert match(near, truth, offsets=True).score.hits == 2
    assert match(far, truth, offsets=True).score.hits == 0


def test_finding_an_unsure_note_is_neither_right_nor_wrong() -> None:
    truth = Truth((Note(60, 1.0, 2.0),), unsure=(Note(62, 1.0, 2.0), Note(64, 1.0, 2.0)))
    found = [Note(60, 1.0, 2.0), Note(62, 1.0, 2.0), Note(65, 1.0, 2.0)]
    assert match(found, truth).score == Score(hits=1, found=2, true=1)


def test_only_the_frames_that_were_looked_at_count() -> None:
    truth = Truth((Note(60, 1.0, 2.0),), span_s=(0.5, 1.5))
    found = [Note(60, 1.0, 2.0), Note(62, 0.4, 0.5), Note(64, 1.5, 1.6)]
    assert match(found, truth).score == Score(1, 1, 1)


def test_a_cut_between_a_note_and_its_estimate_costs_nothing() -> None:
    truth = Truth((Note(60, 1.01, 2.0), Note(62, 0.99, 2.0)))
    found = [Note(60, 0.99, 2.0), Note(62, 1.01, 2.0)]
    assert match(found, truth, span_s=(1.0, 9.0)).score == Score(1, 1, 1)


def test_nothing_found_of_nothing_scores_nothing() -> None:
    score = match([], Truth(())).score
    assert (score.precision, score.recall, score.f1) == (0, 0, 0)


@given(st.integers(-50, 50))
def test_the_shift_of_another_clock_is_found(steps: int) -> None:
    random = np.random.default_rng(steps + 50)
    notes = in_order(
        Note(int(p), float(t), float(t) + 0.2)
        for p, t in zip(random.integers(21, 109, 12), random.uniform(0, 20, 12), strict=True)
    )
    found = shifted(notes, 0.005 * steps)
    shift = best_shift(found, Truth(notes))
    assert shift == pytest.approx(-0.005 * steps, abs=1e-9)
    assert match(shifted(found, shift), Truth(notes), 0.001).score.f1 == 1


def test_cells_of_piano_rolls_are_counted() -> None:
    true = piano_roll([Note(60, 0, 0.4), Note(61, 0, 0.2)], 10, (0, 1))
    found = piano_roll([Note(60, 0.1, 0.5)], 10, (0, 1))
    assert frame_score(found, true) == Score(hits=3, found=4, true=6)


def test_the_papers_measures_call_silence_perfect() -> None:
    true = np.zeros((4, 88), bool)
    true[0, [1, 2]] = True
    found = true.copy()
    found[0] = False
    found[0, [2, 3]] = True
    found[1, 5] = True
    score = published_score(found, true)
    # Frames: half right; one wrong; two silent. Recall of a frame without truth is 1.
    assert score.precision == pytest.approx((1 / 2 + 0 + 1 + 1) / 4)
    assert score.recall == pytest.approx((1 / 2 + 1 + 1 + 1) / 4)
    assert score.accuracy == pytest.approx((1 / 3 + 0 + 1 + 1) / 4)
    assert score.f1 == pytest.approx((1 / 2 + 0 + 1 + 1) / 4)


def test_keys_are_told_apart_by_colour_and_zone(tune: Notes) -> None:
    matched = match([*tune[:4], Note(63, 0.5, 0.9)], Truth(tune))
    assert matched.by_key(colours()) == {"white": Score(2, 2, 4), "black": Score(2, 3, 3)}
    assert matched.by_key(zones()) == {
        "under 55": Score(1, 1, 1), "55 to 62": Score(2, 2, 3), "62 to 69": Score(0, 1, 1),
        "69 to 76": Score(0, 0, 1), "from 76": Score(1, 1, 1),
    }  # fmt: skip
    assert sum(matched.by_key(zones()).values(), Score()) == matched.score


def test_keys_are_told_apart_by_their_width_in_the_picture() -> None:
    grid = no_grid()
    # The left half 10 pixels a key, the right one 14; the highest four keys are not in view.
    widths = np.where(np.arange(WHITES) < 26, 10, 14)
    grid[:, :, 0] = np.concatenate([[0], np.cumsum(widths)])
    grid[:, :, 1] = [[0], [50], [100]]
    grid[:, 49:] = np.nan
    names = bands(pixels_per_key(grid), (13,))
    assert names[0] == "under 13"
    assert names[50] == "from 13"
    assert names[87] == "out of view"


def test_keys_are_told_apart_by_how_far_the_camera_is() -> None:
    away = whites_from_camera(26.0)
    assert away.shape == (88,)
    assert away[0] == 25.5
    assert bands(away, (8, 16))[0] == "from 16"
    assert bands(away, (8, 16))[40] == "under 8"


def test_a_curve_tells_what_look_ahead_buys(tune: Notes) -> None:
    late = shifted(tune, 0.07)
    curve = look_ahead_curve({0.033: tune, 0.0: late}, Truth(tune))
    assert [point.look_ahead_s for point in curve] == [0.0, 0.033]
    assert [point.tight.f1 for point in curve] == [0, 1]
    assert [point.loose.f1 for point in curve] == [1, 1]
