"""Strips stay where they are and as bright as they are, whatever the camera and the lamps do."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest
from keyboard_pictures import Drawn, keyboard, seen

from stream.music.piano.rectify import covered_keys
from stream.music.piano.steady import Steady
from stream.music.piano.strip import PX_PER_WHITE, Rectifier, apart_px
from stream.packet import Packet

pytestmark = pytest.mark.skipif(
    os.environ.get("CI") != "true" and not find_spec("cv2"), reason="needs the extra 'vision'"
)
BOARD = keyboard()


def picture(shift: float = 0.0, light: float = 1.0, noise: int = 0) -> np.ndarray:
    """A keyboard moved along by so many of its whites, in some light."""
    drawn = seen(BOARD, size=(800, 300), shift=(shift * WHITE_PX / 800, 0), seed=noise)
    return (drawn.picture * light).clip(0, 255).astype(np.uint8)


STILL: Drawn = seen(BOARD, size=(800, 300))
WHITE_PX = float(STILL.grid[1, 1, 0] - STILL.grid[1, 0, 0])


@pytest.fixture
def look() -> Callable[[np.ndarray], np.ndarray]:
    """Take strips with a `Steady` that has seen the keyboard at rest for a while."""
    steady, rectify = Steady(), Rectifier(STILL.grid)
    for number in range(10):
        steady(rectify, picture(noise=number))

    def take(frame: np.ndarray) -> np.ndarray:
        take.steady = steady
        return steady(rectify, frame)

    return take


def off(strip: np.ndarray) -> float:
    """By how many grey levels a strip differs from that of the keyboard at rest, in the mean."""
    usual = Rectifier(STILL.grid)(STILL.picture).astype(float)
    return float(np.abs(strip[:48, 24:-24].astype(float) - usual[:48, 24:-24]).mean())


def test_a_camera_that_stands_still_is_left_as_it_is_to_the_last_bit(look) -> None:
    frame = picture(noise=11)
    assert np.array_equal(look(frame), Rectifier(STILL.grid)(frame))


def test_keys_stay_in_place_while_the_camera_drifts_and_trembles(look) -> None:
    drifted = [look(picture(0.02 * number, noise=number)) for number in range(20)]
    rigid = Rectifier(STILL.grid)(picture(0.38))
    assert off(drifted[-1]) < 6
    assert off(rigid) > 20
    trembled = [look(picture(0.38 + 0.2 * np.sin(number), noise=number)) for number in range(8)]
    assert max(map(off, trembled)) < 8


def test_a_sudden_push_by_less_than_half_a_key_is_followed_at_once(look) -> None:
    look(picture(0.35, noise=3))
    assert off(look(picture(0.35, noise=4))) < 6


def test_a_grid_that_follows_the_camera_moves_nothing_in_the_strip(look) -> None:
    for number in range(10):
        before = look(picture(0.02 * number, noise=number))
    moved = STILL.grid + np.array([0.18 * WHITE_PX, 0], np.float32)
    along, across = apart_px(STILL.grid, moved)
    assert (along, across) == (pytest.approx(0.18 * PX_PER_WHITE, rel=1e-3), pytest.approx(0))
    look.steady.moved(along, across)
    after = look.steady(Rectifier(moved), picture(0.18, noise=9))
    assert np.abs(after.astype(float) - before)[:48, 24:-24].mean() < 4


@pytest.mark.parametrize("light", [0.6, 0.9, 1.08])
def test_a_lamp_that_is_switched_leaves_the_strip_as_bright_as_it_was(look, light) -> None:
    assert off(look(picture(light=light, noise=5))) < 4
    assert look.steady.relit


def test_keys_under_a_sheet_are_told_and_shown_as_usual_and_the_others_are_not(look) -> None:
    frame = picture(noise=2)
    left, right = (round(STILL.grid[0, line, 0]) for line in (10, 25))
    frame[:, left:right] = 200
    strip = look(frame)
    covered = look.steady.covered
    assert covered[10:25].all()
    assert not covered[:6].any()
    assert not covered[29:].any()
    assert off(strip) < 6
    look(picture(noise=3))
    assert not look.steady.covered.any()


def test_a_hand_over_the_fronts_of_keys_covers_none(look) -> None:
    frame = picture(noise=2)
    top, left, right = STILL.grid[1, 0, 1], STILL.grid[0, 20, 0], STILL.grid[0, 28, 0]
    frame[round(top) - 8 :, round(left) : round(right)] = (110, 145, 200)
    look(frame)
    assert not look.steady.covered.any()


def test_a_keyboard_that_is_all_hidden_is_covered_all(look) -> None:
    look(np.full((300, 800, 3), 90, np.uint8))
    assert look.steady.covered.all()


def test_covered_keys_are_those_that_the_strip_names() -> None:
    strip = Packet("strip", np.zeros((1, 1, 4), np.uint8), 0, 0, 0, meta={"covered": [0, 39]})
    assert np.flatnonzero(covered_keys(strip)).tolist() == [0, 39]
