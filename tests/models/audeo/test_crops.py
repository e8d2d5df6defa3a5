"""What a network of a piano is shown of a clip while it learns."""

from dataclasses import replace

import numpy as np
import pytest

from models.audeo.crops import draw_crop
from models.audeo.dataset import Stored, mirrored
from models.audeo.network import keys_within
from stream.music.keyboard import CENTRES_U, IS_BLACK, LOWEST_PITCH
from stream.music.piano.strip import PX_PER_WHITE

WINDOW = 20


def lit(left: int, *, rate_hz: float = 30.0) -> Stored:
    """Return a clip of a window in which each key lights up in its turn, 0.1 s after another."""
    keys = keys_within(left + 1, WINDOW - 2)
    times_s = np.arange(round(3.0 * rate_hz)) / rate_hz
    strips = np.full((len(times_s), 56, WINDOW * PX_PER_WHITE, 3), 100, np.uint8)
    presses = []
    for n, key in enumerate(keys):
        bottom = 0.2 + n / 15
        there = (times_s >= bottom) & (times_s < bottom + 0.3)
        middle = round((CENTRES_U[key] - left) * PX_PER_WHITE)
        strips[there, :, middle - 3 : middle + 3] = 250
        presses.append([key + LOWEST_PITCH, bottom, bottom + 0.3, 64, 0, 0.01, 0.01])
    return Stored(strips, times_s, np.array(presses), left, 10.0, left + 4.0)


@pytest.mark.parametrize("left", range(33))
def test_a_mirror_shows_each_key_as_far_from_the_other_end(left: int) -> None:
    clip = lit(left)
    seen = mirrored(clip)
    assert 0 <= seen.left <= 52 - WINDOW
    assert np.array_equal(seen.strips[:, :, 5], clip.strips[:, :, -6])
    before, after = (c.presses[:, 0].astype(int) - LOWEST_PITCH for c in (clip, seen))
    assert np.array_equal(IS_BLACK[before], IS_BLACK[after])
    places = (CENTRES_U[before] - left) + (CENTRES_U[after] - seen.left)
    assert np.allclose(places, WINDOW, atol=0.02)
    assert seen.camera_u - seen.left == pytest.approx(WINDOW - 4)


@pytest.mark.parametrize("seed", range(40))
def test_a_crop_has_its_labels_where_its_keys_are_seen_to_move(seed: int) -> None:
    rng = np.random.default_rng(seed)
    crop = draw_crop(rng, lit(int(rng.integers(0, 33)), rate_hz=(30.0, 60.0)[seed % 2]), 14, 30)
    keys = keys_within(crop.left, 14)
    middles = np.round((CENTRES_U[keys] - crop.left) * PX_PER_WHITE).astype(int)
    rows = crop.strips[:, 28, :, 0].astype(float)
    down = crop.labels.frame
    for at, key in np.argwhere((down == 1) & crop.counts):
        rest = rows[down[:, key] == 0][:, middles[key]]
        # A shadow may have come over it.
        assert not len(rest) or rows[at, middles[key]] > rest.min()


def test_crops_are_out_of_focus_or_in_a_shadow_now_and_then() -> None:
    clip = lit(10)
    clip = replace(clip, presses=clip.presses[:0], strips=np.full_like(clip.strips, 100))
    clip.strips[:, :, ::PX_PER_WHITE] = 0
    kinds = {"as it is": 0, "out of focus": 0, "in a shadow": 0}
    for seed in range(200):
        crop = draw_crop(np.random.default_rng(seed), clip, 14, 20)
        values = set(crop.strips[..., 0].ravel().tolist())
        grades = values - {0, 100}
        lines = (crop.strips == 0).all(axis=(0, 1, 3)).sum()
        focus = "in a shadow" if lines >= 7 else "out of focus"
        kinds[focus if grades else "as it is"] += 1
    assert kinds["as it is"] > 140
    assert min(kinds.values()) > 5


def test_a_fast_camera_is_also_seen_at_lower_rates() -> None:
    clip = lit(10, rate_hz=60.0)
    clip = replace(
        clip, strips=clip.strips * 0 + np.arange(180, dtype=np.uint8)[:, None, None, None]
    )
    steps = {
        int(
            np.median(
                np.diff(draw_crop(np.random.default_rng(n), clip, 14, 20).strips[:, 5, 90, 0])
            )
        )
        for n in range(30)
    }
    assert {1, 2} <= steps
