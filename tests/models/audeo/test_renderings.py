"""Rendered keyboards: what is drawn is what the labels say."""

from dataclasses import replace

import numpy as np
import pytest

from models.audeo.crops import labels_of
from models.audeo.dataset import load_clip, make_clip, make_held_out, save_clip
from models.audeo.rendering.clip import Clip, render
from models.audeo.rendering.hands import depth_at, move_hands
from models.audeo.rendering.looks import TRAINING_FAMILIES, UNSEEN_FAMILY, draw_look, loosen
from models.audeo.rendering.loose_hands import lie_loosely
from models.audeo.rendering.performance import Press, Written, let_go, made_up, perform, reachable
from models.audeo.rendering.scores import TRAINING_PIECES, UNSEEN_PIECES, Score
from stream.music.keyboard import CENTRES_U, IS_BLACK, LOWEST_PITCH

PRESS = Press(76, 0.3, 0.7, 64, 1, 0.06, 0.06)


def still(press: Press, family: str = "digital") -> Clip:
    """Render one press by a hand, from a quiet camera far to the left."""
    rng = np.random.default_rng(3)
    look = draw_look(rng, family)
    look = replace(
        look, noise=0.0, drift=0.0, held_blocks=0.0, jpeg_quality=98, px_per_white=20.0,
        camera_u=10.0, camera_height=40.0, camera_y=3.0, blur_px=0.0, rate_hz=30.0, gain=1.0,
        wall=0.3, exposure_share=0.0, blend=0.0, gradient_u=0.0, gradient_y=0.0,
    )  # fmt: skip
    return render(rng, look, [press], left=26, right=40, length_s=1.0)


@pytest.mark.parametrize("pitch", [76, 78])
def test_a_key_looks_different_just_while_it_is_down(pitch: int) -> None:
    clip = still(replace(PRESS, pitch=pitch))
    column = round((CENTRES_U[pitch - LOWEST_PITCH] - 26) * 12)
    # Behind the hand, about the key and both its edges.
    part = clip.strips[:, 4:16, column - 8 : column + 9].astype(float)
    change = np.abs(part - part[0]).mean(axis=(1, 2, 3))
    down = (clip.times_s >= 0.3) & (clip.times_s < 0.7)
    before = clip.times_s < 0.2
    assert change[down].min() > 3 * change[before].max() + 1


def test_the_same_seed_gives_the_same_clip() -> None:
    one, two = make_clip(5, []), make_clip(5, [])
    assert one.presses == two.presses
    np.testing.assert_array_equal(one.strips, two.strips)


def test_a_clip_comes_back_from_its_file(tmp_path) -> None:
    clip = make_clip(7, [])
    save_clip(tmp_path / "c.npz", clip)
    stored = load_clip(tmp_path / "c.npz")
    np.testing.assert_array_equal(stored.strips, clip.strips)
    assert stored.left == clip.left
    assert [int(p[0]) for p in stored.presses] == [p.pitch for p in clip.presses]


@pytest.mark.parametrize("seed", range(8))
def test_no_key_is_pressed_again_before_it_has_come_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    notes = reachable(made_up(rng, 40, 80, 12))
    presses = perform(rng, notes, 0.3, 4.0)
    last: dict[int, float] = {}
    for press in sorted(presses, key=lambda p: p.bottom_s):
        assert press.release_s > press.bottom_s
        assert press.bottom_s - press.travel_s > last.get(press.pitch, -1.0)
        last[press.pitch] = press.release_s + press.rise_s


def test_a_key_that_is_held_is_let_go_when_its_hand_plays_far_away() -> None:
    held, other = replace(PRESS, release_s=2.0), replace(PRESS, pitch=50, hand=0, release_s=2.0)
    near = replace(PRESS, pitch=79, bottom_s=0.8, release_s=1.0)
    far = replace(PRESS, pitch=91, bottom_s=1.2, release_s=1.4)
    released = {p.pitch: p.release_s for p in let_go([held, near, far, other])}
    assert 0.8 < released[76] < 1.2 - far.travel_s
    assert released[79] == near.release_s
    assert released[50] == other.release_s


@pytest.mark.parametrize("seed", range(4))
def test_a_loose_hand_has_a_fingertip_on_each_key_that_it_plays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    look = loosen(rng, draw_look(rng, "digital"), 26.0)
    times = np.arange(0, 4, 1 / 120)
    presses = [
        Press(int(pitch), 0.3 + 0.3 * i, 0.5 + 0.3 * i, 64, 1, 0.06, 0.06)
        for i, pitch in enumerate(rng.integers(55, 80, 10))
    ]
    look = replace(look, feints=0.0)
    hand = move_hands(rng, presses, times, look, (20.0, 30.0), move=lie_loosely)[1]
    for press in presses:
        key = press.pitch - LOWEST_PITCH
        tips = hand.tips[int(np.searchsorted(times, press.bottom_s + 0.05))]
        end = look.black_length if IS_BLACK[key] else look.white_length
        beside = np.abs(tips[:, 0] - CENTRES_U[key])
        assert ((beside < 0.4) & (tips[:, 1] > 0) & (tips[:, 1] < end)).any()


def test_a_key_is_at_its_bottom_from_the_onset_until_it_is_released() -> None:
    times = np.array([0.2, 0.239, 0.27, 0.3, 0.5, 0.7, 0.72, 0.77])
    depth = depth_at(PRESS, times)
    assert depth[0] == depth[1] == depth[-1] == 0
    assert 0 < depth[2] < 1
    np.testing.assert_allclose(depth[3:6], 1)


def test_labels_begin_in_the_first_frame_with_the_key_at_its_bottom() -> None:
    times = np.arange(30) / 30
    row = np.array([[76, 0.31, 0.7, 64, 1, 0.06, 0.06]])
    labels = labels_of(row, times)
    key = 76 - LOWEST_PITCH
    assert np.flatnonzero(labels.onset[:, key] == 1).tolist() == [10, 11]
    assert labels.onset[9, key] == -1
    assert np.flatnonzero(labels.frame[:, key] == 1).tolist() == list(range(10, 21))
    assert labels.velocity[10, key] == pytest.approx(64 / 127)
    assert (labels.onset[:, key - 1] == 0).all()


def test_what_is_measured_on_shares_neither_looks_nor_pieces_with_what_is_learned_from() -> None:
    assert UNSEEN_FAMILY not in TRAINING_FAMILIES
    assert not set(UNSEEN_PIECES) & set(TRAINING_PIECES)


def test_a_clip_to_measure_on_shows_all_keys_and_plays_a_score() -> None:
    notes = [Written(40 + i % 40, 0.25 * i, 0.25, i % 2) for i in range(200)]
    clip = make_held_out(0, [Score("s", 50.0, notes)], UNSEEN_FAMILY)
    assert clip.strips.shape == (240, 56, 624, 3)
    assert len(clip.presses) >= 5


def test_a_key_that_is_down_already_has_no_onset() -> None:
    labels = labels_of(np.array([[76, 0.31, 0.7, 64, 1, 0.06, 0.06]]), 0.5 + np.arange(30) / 30)
    key = 76 - LOWEST_PITCH
    assert not (labels.onset[:, key] == 1).any()
    assert labels.frame[0, key] == 1
