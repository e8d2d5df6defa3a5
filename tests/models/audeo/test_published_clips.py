"""Rendered keyboards, as Audeo's networks as published see them, and their answers as notes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.audeo import dataset
from models.audeo.dataset import Stored, make_held_out, make_whole
from models.audeo.evaluation import levelled, tally
from models.audeo.published import KEYS
from models.audeo.published_clips import (
    Fives,
    down_in,
    of_roll2midi,
    of_video2roll,
    roll_of,
    rolls_of,
)
from models.audeo.rendering.looks import TRAINING_FAMILIES
from models.audeo.rendering.performance import Written
from models.audeo.rendering.scores import Score
from stream.music.keyboard import LOWEST_PITCH

RATE_HZ = 30
PLACES = 12
"""Pixels of a strip for each of the 51 keys, in these drawings."""


def press(pitch: int, bottom_s: float, release_s: float) -> list[float]:
    return [pitch, bottom_s, release_s, 64, 1, 0.03, 0.05]


def drawn(frames: int, presses: list[list[float]]) -> Stored:
    """Draw strips that are bright at a place of its own for each key that is down."""
    times_s = np.arange(frames) / RATE_HZ
    strips = np.zeros((frames, 56, 624, 3), np.uint8)
    for pitch, bottom, release, *_ in presses:
        left = (int(pitch) - LOWEST_PITCH - KEYS.start) * PLACES
        here = (times_s >= bottom) & (times_s < release)
        if 0 <= left < 51 * PLACES:
            strips[here, :, left : left + PLACES] = 255
    return Stored(strips, times_s, np.array(presses), 0, 12.0, 26.0)


TUNE = drawn(
    140,
    [press(36, 0.5, 1.0), press(60, 1.0, 1.5), press(86, 2.0, 2.5), press(61, 3.6, 4.2),
     press(30, 1.0, 1.4), press(90, 3.0, 3.4)],
)  # fmt: skip


class Seer(nn.Module):
    """Sees without fault what these drawings show in the middle picture."""

    def forward(self, fives: Tensor) -> Tensor:
        places = fives[:, 2, 50, : round(51 * PLACES * 900 / 624)]
        return 40 * (nn.functional.adaptive_avg_pool1d(places[:, None], 51)[:, 0] - 0.5)


def test_what_is_seen_in_a_frame_is_told_of_that_frame() -> None:
    roll = roll_of(Seer(), TUNE.strips, batch=32)  # type: ignore[arg-type]
    np.testing.assert_array_equal(roll > 0.5, down_in(TUNE))


def test_fives_come_with_the_keys_of_their_middle_and_rare_keys_often() -> None:
    frames, keys = next(iter(Fives([TUNE, TUNE], 1, 60, seed=0)))
    assert frames.shape == (60, 5, 100, 900)
    assert 0 <= frames.min() < frames.max() <= 1
    torch.testing.assert_close((Seer()(frames) > 0).float(), keys)
    assert (keys.sum(0)[[0, 24, 25, 50]] >= 5).all()
    again = next(iter(Fives([TUNE, TUNE], 1, 60, seed=0)))
    assert torch.equal(again[1], keys)


def test_rolls_are_cut_into_stretches_and_silence_follows_the_last() -> None:
    roll = np.random.default_rng(0).random((140, 51))
    cut = rolls_of([roll, roll[:60]])
    assert cut.shape == (3, 1, 51, 100)
    np.testing.assert_allclose(cut[0, 0].T, roll[:100], rtol=1e-6)
    np.testing.assert_allclose(cut[1, 0, :, :40].T, roll[100:], rtol=1e-6)
    assert not cut[1, 0, :, 40:].any()


@pytest.mark.parametrize(
    "probabilities",
    [of_video2roll(Seer()), of_roll2midi(nn.Identity(), of_video2roll(Seer()))],  # type: ignore[arg-type]
    ids=["Video2Roll", "Roll2Midi"],
)
def test_their_answers_are_scored_as_notes_on_the_keys_they_have(
    probabilities: Callable[..., np.ndarray],
) -> None:
    score = tally([TUNE], probabilities, 0.5, keys=KEYS)
    assert (score.tight.true, score.tight.found, score.tight.hits) == (4, 4, 4)
    assert score.frames.f1 == 1.0
    assert tally([TUNE], probabilities, 0.5).tight.true == 6


def test_a_level_is_where_keys_are_down_from() -> None:
    class Half(nn.Module):
        def forward(self, fives: Tensor) -> Tensor:
            return torch.full((len(fives), 51), -1.0)

    found = levelled(of_video2roll(Half()), 0.2)(TUNE.strips[:10], 0)  # type: ignore[arg-type]
    assert (found[:, 1, KEYS] > 0.5).all()
    assert (found[:, 0, KEYS] < 0.5).all()
    assert not found[:, :, : KEYS.start].any()


def test_a_whole_keyboard_to_learn_from_depends_on_nothing_but_its_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dataset, "WHOLE_S", 0.5)
    clip, again, other = (make_whole(seed, []) for seed in (3, 3, 4))
    assert clip.strips.shape == (15, 56, 624, 3)
    np.testing.assert_array_equal(again.strips, clip.strips)
    assert other.look.px_per_white != clip.look.px_per_white


def test_clips_of_one_look_differ_in_what_is_played_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "WHOLE_S", 1.0)
    monkeypatch.setattr(dataset, "HELD_OUT_S", 1.0)
    score = Score("s", 50.0, [Written(60 + i % 20, 0.1 * i, 0.25, i % 2) for i in range(500)])
    clips = [
        make_whole(3, [], one_look=True),
        make_whole(4, [], one_look=True),
        make_held_out(0, [score], TRAINING_FAMILIES[0], one_look=True),
    ]
    assert len({clip.look.px_per_white for clip in clips}) == 1
    assert len({tuple(clip.presses) for clip in clips}) == 3
    # Lowest whites, where no hand is: each has a tone of its own, spread by some 8 levels.
    tones = [np.median(clip.strips[:, 40:52, : 8 * 12], (0, 1)).reshape(8, 12, 3)[:, 4:8]
             .mean((1, 2)) for clip in clips]  # fmt: skip
    for tone in tones[1:]:
        np.testing.assert_allclose(tone, tones[0], atol=4)
