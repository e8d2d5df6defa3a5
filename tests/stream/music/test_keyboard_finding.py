"""Keyboards are found in single pictures, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keyboard_pictures import PX, keyboard, off, seen

from stream.errors import ConfigError
from stream.music.finder.finding import SURE, find_keyboard, keyboard_at, to_work
from stream.music.finder.layouts import WHITE_NAMES, check_layout
from stream.music.keyboard import keys_in_view, whites_in_view

cv2 = pytest.importorskip("cv2")


def find(picture, **known):
    found = find_keyboard(to_work(picture), **known)
    assert found is not None
    assert found.confidence >= SURE, found
    return found, found.grid(*picture.shape[:2])


def refused(picture):
    found = find_keyboard(to_work(picture))
    return found is None or found.confidence < SURE


def test_all_keys_are_found_with_their_names():
    drawn = seen(keyboard())
    found, grid = find(drawn.picture)
    assert off(grid, drawn) < 0.34
    assert (found.octave, found.keys) == ("seen", 88)
    assert keys_in_view(grid).all()


@settings(max_examples=12, deadline=None)
@given(
    turn_deg=st.floats(0, 360),
    fill=st.floats(0.7, 0.9),
    tilt=st.tuples(st.floats(-0.25, 0.25), st.floats(-0.25, 0.25)),
    blur=st.floats(0.3, 1.2),
    noise=st.floats(0, 8),
    light=st.floats(0.3, 1.05),
)
def test_it_may_lie_anyhow_in_the_picture(*, turn_deg, fill, tilt, blur, noise, light):
    drawn = seen(
        keyboard(light=light), size=(1280, 1280), turn_deg=turn_deg, fill=fill, tilt=tilt,
        blur=blur, noise=noise,
    )  # fmt: skip
    found, grid = find(drawn.picture)
    assert off(grid, drawn) < 0.34
    assert found.octave == "seen"


@pytest.mark.parametrize("size", [(320, 180), (640, 360), (1920, 1080), (3840, 2160)])
def test_pictures_may_be_of_any_size(size):
    drawn = seen(keyboard(), size=size, fill=0.96, blur=0.5)
    _, grid = find(drawn.picture)
    assert off(grid, drawn) < 0.34


def test_grey_pictures_will_do():
    drawn = seen(keyboard())
    _, grid = find(cv2.cvtColor(drawn.picture, cv2.COLOR_BGR2GRAY))
    assert off(grid, drawn) < 0.34


def test_a_player_at_the_other_side_of_the_picture_has_the_low_keys_at_its_right():
    drawn = seen(keyboard(), turn_deg=180)
    _, grid = find(drawn.picture)
    assert off(grid, drawn) < 0.34
    assert grid[0, 0, 0] > grid[0, -1, 0]


@pytest.mark.parametrize("keys", [25, 37, 49, 61, 76])
def test_shorter_keyboards_are_known_by_where_they_end(keys):
    drawn = seen(keyboard(keys), fill=0.8)
    found, grid = find(drawn.picture)
    assert off(grid, drawn) < 0.34
    assert found.keys == keys
    assert keys_in_view(grid).sum() == keys


def test_the_octave_of_a_part_without_ends_is_assumed_and_said_to_be():
    drawn = seen(keyboard(), size=(480, 540), fill=1.9)
    found, grid = find(drawn.picture)
    assert found.octave == "assumed"
    there = np.flatnonzero(whites_in_view(grid))
    assert abs(there.mean() - 23) <= 4, "middle C is near the middle"


@pytest.mark.parametrize("before", [1, 0])
def test_the_name_of_the_first_key_in_view_also_a_part_of_it_tells_the_octave(before):
    drawn = seen(keyboard(), size=(480, 540), fill=1.9)
    inside = (drawn.grid[1, :, 0] >= 0) & (drawn.grid[1, :, 0] < 480)
    first = int(np.flatnonzero(inside)[0])

    found, grid = find(drawn.picture, lowest=WHITE_NAMES[first - before])
    assert found.octave == "given"
    both = np.isfinite(grid).all(axis=(0, 2)) & inside
    assert both.sum() > 20
    step = PX * 480 * 1.9 / keyboard()[0].shape[1]
    assert np.abs(grid[:, both] - drawn.grid[:, both]).max() < 0.34 * step


def test_an_end_in_view_tells_the_octave():
    drawn = seen(keyboard(), fill=1.5, shift=(0.3, 0))
    found, grid = find(drawn.picture)
    assert found.octave == "seen"
    assert whites_in_view(grid)[0]
    assert not whites_in_view(grid)[-1]


def test_a_hand_on_the_keys_hides_no_keyboard():
    drawn = seen(keyboard())
    picture = drawn.picture.copy()
    x, y = drawn.grid[1, 20].astype(int)
    cv2.ellipse(picture, (int(x), int(y + 20)), (60, 50), 0, 0, 360, (120, 150, 200), -1)
    _, grid = find(picture)
    assert off(grid, drawn) < 0.34


def test_of_two_keyboards_the_larger_one_is_taken():
    large, small = seen(keyboard(), size=(960, 300)), seen(keyboard(), size=(960, 240), fill=0.5)
    _, grid = find(np.vstack([small.picture, large.picture]))
    assert off(grid - np.array([0, 240], np.float32), large) < 0.34


def stripes(period, share=0.5):
    picture = np.full((540, 960, 3), 230, np.uint8)
    picture[150:350, (np.arange(960) / period) % 1 < share] = 30
    return picture


def bars(seed):
    random = np.random.default_rng(seed)
    picture = np.full((540, 960, 3), 235, np.uint8)
    code = np.repeat(random.random(200) < 0.5, random.integers(5, 12))
    picture[150:400, np.resize(code, 960)] = 20
    return picture


def title():
    picture = np.zeros((540, 960, 3), np.uint8)
    for row in range(5):
        text = "I|l1 H iIl| tTl IiI lll"
        cv2.putText(picture, text, (30, 100 + 90 * row), 0, 2.0, (240, 240, 240), 4)
    return picture


def falling_notes():
    random = np.random.default_rng(3)
    picture = np.zeros((540, 960, 3), np.uint8)
    for _ in range(150):
        x, y = 18 * int(random.integers(0, 52)), int(random.integers(0, 450))
        cv2.rectangle(
            picture, (x, y), (x + 12, y + int(random.integers(10, 90))), (90, 240, 90), -1
        )
    return picture


def shirt():
    y, x = np.mgrid[:540, :960]
    wave = (x + 25 * np.sin(y / 50)) / 24 % 1 < 0.5
    return np.repeat(np.where(wave, 60, 220).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize(
    "picture",
    [stripes(18), stripes(30, 0.35), stripes(9), bars(0), bars(1), title(), falling_notes(),
     shirt(), np.zeros((540, 960, 3), np.uint8), np.full((540, 960, 3), 255, np.uint8),
     np.random.default_rng(0).integers(0, 256, (540, 960, 3), dtype=np.uint8)],
    ids=["stripes", "fence", "fine stripes", "bar code", "another", "title", "falling notes",
         "shirt", "black", "white", "noise"],
)  # fmt: skip
def test_what_is_no_keyboard_is_refused(picture):
    assert refused(picture)


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), seed=st.integers(0, 99))
def test_tiny_pictures_are_refused(height, width, seed):
    random = np.random.default_rng(seed)
    assert refused(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_wrong_number_of_keys_is_not_believed():
    drawn = seen(keyboard())
    found = find_keyboard(to_work(drawn.picture), keys=61)
    assert found is None or found.confidence < SURE


def test_four_corners_will_do_where_nothing_is_found():
    drawn = seen(keyboard())
    g = drawn.grid
    corners = [tuple(g[0, 0]), tuple(g[0, -1]), tuple(g[2, -1]), tuple(g[2, 0])]
    rough = [(x + dx, y + dy) for (x, y), (dx, dy) in zip(corners, np.eye(4, 2) * 3, strict=True)]
    found = keyboard_at(to_work(drawn.picture), rough, 88, "A0")
    assert found.confidence > 0.9
    assert off(found.grid(*drawn.picture.shape[:2]), drawn) < 0.34
    blank = keyboard_at(to_work(np.full_like(drawn.picture, 90)), corners, 88, "A0")
    assert blank.confidence < 0.1
    assert blank.reason
    assert off(blank.grid(*drawn.picture.shape[:2]), drawn) < 0.5


@pytest.mark.parametrize(
    ("keys", "lowest", "message"),
    [(60, None, "not known"), (None, "C#4", "no white key"), (None, "H2", "no white key"),
     (61, "C5", "not on a piano"), (8, "C4", "at least")],
)  # fmt: skip
def test_keyboards_that_there_are_not_are_refused(keys, lowest, message):
    with pytest.raises(ConfigError, match=message):
        check_layout(keys, lowest)
