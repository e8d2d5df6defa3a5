"""A camera that looks down makes who stands upright lean, until that is taken out again."""

import numpy as np
import pytest

from stream.vision.landmarks import Body
from stream.vision.layouts import MEDIAPIPE_33
from stream.vision.level import Level

HEIGHTS = {"shoulder": 0.5, "hip": 0.0, "knee": -0.4, "ankle": -0.8}


def person(pitch_deg: float = 0.0, bend_deg: float = 0.0, seen: float = 1.0) -> Body:
    """Somebody who stands, bent at the hips by an angle, as a camera sees that looks down."""
    world = np.zeros((33, 3))
    for joint, height in HEIGHTS.items():
        for side, x in (("left", -0.15), ("right", 0.15)):
            bend = np.radians(bend_deg if height > 0 else 0)
            at = (x, height * np.cos(bend), -height * np.sin(bend))
            world[MEDIAPIPE_33.index(f"{side}_{joint}")] = at
    c, s = np.cos(np.radians(pitch_deg)), np.sin(np.radians(pitch_deg))
    seen_world = world @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    image = np.full((33, 3), seen)
    return Body(image.astype(np.float32), seen_world.astype(np.float32))


@pytest.mark.parametrize("pitch_deg", [-20.0, 0.0, 12.0, 35.0])
def test_who_stands_upright_is_vertical_whatever_the_camera_looks_at(pitch_deg):
    level = Level()
    for _ in range(5):
        level.update(person(pitch_deg), 0.1)
    assert level.pitch_deg == pytest.approx(pitch_deg, abs=1e-3)
    np.testing.assert_allclose(
        level.apply(person(pitch_deg, bend_deg=70).world), person(bend_deg=70).world, atol=1e-5
    )


def test_nobody_who_bends_lies_or_is_half_out_of_the_picture_tells_the_vertical():
    level = Level()
    for body in (person(bend_deg=60), person(pitch_deg=80), person(20, seen=0.1)):
        level.update(body, 0.1)
    assert level.pitch_deg == 0.0
    world = person(20).world
    assert level.apply(world) is world


def test_a_camera_that_was_moved_is_level_again_after_a_while():
    level = Level()
    for pitch_deg, steps in ((0.0, 300), (20.0, 600)):
        for _ in range(steps):
            level.update(person(pitch_deg), 0.1)
    assert level.pitch_deg == pytest.approx(20.0, abs=0.5)
