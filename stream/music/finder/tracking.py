"""Follows a keyboard from picture to picture, and notices when it is gone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream.music.finder.bars import DEPTHS, INNER, SUPPORTED, Pyramid, blacks_between, look
from stream.music.finder.finding import Keyboard
from stream.music.finder.fitting import follow
from stream.music.finder.plane import Doubles, Floats, Plane

# Of the blacks that were seen when it was found: so many must be there, or it is covered or gone.
_THERE = 0.4
# The blacks repeat: after a push, more than half of them fit a key aside, and most an octave aside.
# Where fewer than this share are seen, the places aside are tried; so many more seen there tell.
_SURE = 0.9
_ASIDE = (1, 2, 3, 4, 5, 6, 7)
_MORE = 3
# A camera moves all of a keyboard by this share of a white key or more, and it stays moved: hands
# disturb a part of it, and another one in the next picture.
_STILL_U = 0.12
_SURELY_U = 0.2
_AGREE_U = 0.06
_PLACES = 5


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
        self._seems: Doubles | None = None

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
        if share < _SURE and _fits_better_aside(pyramid, plane, low, high):
            return Sight(False, share, False)
        u = np.linspace(low, high, _PLACES)
        places, before = (p.pixels(u[:, None], [0.0, 1.0]) for p in (plane, now.plane))
        white = np.linalg.norm(np.diff(before[:, 0], axis=0), axis=-1).sum() / (high - low)
        shift = (places - before) / white
        least = float(np.linalg.norm(shift, axis=-1).min())
        seemed, self._seems = self._seems, shift
        if least < _STILL_U:
            return Sight(True, share, False)
        agrees = seemed is not None and np.abs(shift - seemed).max() < least / 2 + _AGREE_U
        if least < _SURELY_U and not agrees:
            return Sight(True, share, False)
        self.keyboard, self._seems = now._replace(plane=plane), None
        return Sight(True, share, True)


def _fits_better_aside(pyramid: Pyramid, plane: Plane, low: float, high: float) -> bool:
    """Tell whether more blacks are seen some whole keys beside a plane than in it.

    What a hand hides is seen in neither place.
    """
    u = blacks_between(low, high)
    depths = DEPTHS[INNER][::3]

    def seen(aside: int) -> int:
        moved = plane.moved(np.array([[1, 0, aside], [0, 1, 0], [0, 0, 1.0]]))
        bars = look(pyramid, moved, u, depths, slice(None), slack=True)
        return int((bars.support > SUPPORTED).sum())

    here = seen(0)
    return any(seen(sign * n) >= here + _MORE for n in _ASIDE for sign in (1, -1))


def same_place(a: Keyboard, b: Keyboard) -> bool:
    """Tell whether two keyboards of pictures of one size lie at the same place, key by key."""
    lines = np.arange(53)
    at = [k.plane.pixels(k.first - k.lowest + lines, 0.5) for k in (a, b)]
    step = np.nanmedian(np.linalg.norm(np.diff(at[0], axis=0), axis=-1))
    return bool(np.nanmedian(np.linalg.norm(at[0] - at[1], axis=-1)) < 0.3 * step)
