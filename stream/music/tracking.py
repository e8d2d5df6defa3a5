"""Follows a keyboard from picture to picture, and notices when it is gone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream.music.finding import Floats, Keyboard
from stream.music.fitting import SUPPORTED, Pyramid, follow
from stream.music.plane import Doubles

# Of the blacks that were seen when it was found: so many must be there, or it is covered or gone.
_THERE = 0.4
# What moves less than this share of a white key has not moved: hands disturb as much.
_STILL_U = 0.08


class Sight(NamedTuple):
    """What a picture shows of a keyboard that was known before.

    Attributes
    ----------
    there
        Whether it is still where it was, or near.
    share
        Of its black keys that are seen, 0 to 1.
    moved
        Whether it has moved since the last picture by enough to matter.
    """

    there: bool
    share: float
    moved: bool


class Tracker:
    """Follows one keyboard.

    Attributes
    ----------
    keyboard
        Where it is now.
    """

    def __init__(self, keyboard: Keyboard) -> None:
        self.keyboard = keyboard

    def look(self, work: Floats) -> Sight:
        """Look for the keyboard in the next picture, of the size in which it was found."""
        now = self.keyboard
        low, high = now.first, now.first + now.whites
        pyramid = Pyramid(work)
        plane, bars = follow(pyramid, now.plane, low, high)
        middles = now.plane.pixels(bars.u, 0.5)
        height, width = work.shape
        inside = ((middles >= 0) & (middles < [width, height])).all(axis=1)
        seen = bars.support[inside] > SUPPORTED
        share = float(seen.mean()) if len(seen) else 0.0
        if share < _THERE or seen.sum() < 5:
            return Sight(False, share, False)
        u = np.array([low, (low + high) / 2, high], float)
        step = np.linalg.norm(np.diff(now.plane.pixels(u, 0.5), axis=0)) / (high - low)
        off = _distance(
            plane.pixels(u[:, None], [0.0, 1.0]), now.plane.pixels(u[:, None], [0.0, 1.0])
        )
        moved = off > _STILL_U * step
        if moved:
            self.keyboard = now._replace(plane=plane)
        return Sight(True, share, bool(moved))


def _distance(a: Doubles, b: Doubles) -> float:
    return float(np.median(np.linalg.norm(a - b, axis=-1)))


def same_place(a: Keyboard, b: Keyboard) -> bool:
    """Tell whether two keyboards of pictures of one size lie at the same place, key by key."""
    lines = np.arange(53)
    at = [k.plane.pixels(k.first - k.lowest + lines, 0.5) for k in (a, b)]
    step = np.nanmedian(np.linalg.norm(np.diff(at[0], axis=0), axis=-1))
    return bool(np.nanmedian(np.linalg.norm(at[0] - at[1], axis=-1)) < 0.3 * step)
