"""The plane of the keys in a picture: a homography, bent by lenses and by video editors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.music.keyboard import CENTRES_U, IS_BLACK

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

BLACKS_U: Doubles = np.unique(np.round((CENTRES_U[IS_BLACK].astype(float) + 5) % 7, 2))
"""(5,) The middles of the blacks of an octave, in whites from the left edge of C."""

KNOTS_U: Doubles = np.arange(-75.0, 76.0, 5.0)


@dataclass(frozen=True)
class Plane:
    """Where points of the plane of the keys lie in a picture.

    A point is `u`, in widths of a white key from some C to the player's right, and `z`, along the
    keys towards the player, in a unit that the homography fixes.

    Attributes
    ----------
    homography
        (3, 3) From (u, z, 1) to pixels.
    bow, middle
        Lines along the keyboard bend by `bow` (u - middle)^2 in z.
    knots_u, knots_shift
        (k,), (k,) How much keys lie aside of where the homography has them, in u; linear between.
    """

    homography: Doubles
    bow: float = 0.0
    middle: float = 0.0
    knots_u: Doubles = field(default_factory=lambda: KNOTS_U)
    knots_shift: Doubles = field(default_factory=lambda: np.zeros(len(KNOTS_U)))

    def pixels(self, u: Any, z: Any) -> Doubles:
        """Return pixels (..., 2) of points, whose coordinates are broadcast."""
        u, z = np.broadcast_arrays(np.asarray(u, float), np.asarray(z, float))
        aside = np.interp(u, self.knots_u, self.knots_shift)
        bent = np.stack([u + aside, z + self.bow * (u - self.middle) ** 2, np.ones_like(u)], -1)
        x, y, w = np.moveaxis(bent @ self.homography.T, -1, 0)
        # Beyond the horizon there is nothing.
        w = np.where(w > 1e-9, w, np.nan)
        return np.stack([x / w, y / w], -1)

    def moved(self, change: Doubles) -> Plane:
        """Return the plane whose points (u, z, 1) are at `change` (3, 3) of these in this one.

        The curvature is kept as it is, so changes are to be small or along the keyboard.
        """
        homography = self.homography @ change
        return replace(self, homography=homography / np.linalg.norm(homography))

    def turned(self) -> Plane:
        """Return the same plane seen by a player at the other side; the pattern of the keys fits.

        D is the middle of the symmetric pattern, so u becomes 3 - u.
        """
        change = np.array([[-1, 0, 3], [0, -1, 0], [0, 0, 1.0]])
        return replace(
            self.moved(change), bow=-self.bow, middle=3 - self.middle,
            knots_u=3 - self.knots_u[::-1], knots_shift=-self.knots_shift[::-1],
        )  # fmt: skip


def plane_of_line(x: float, y: float, dx: float, dy: float) -> Plane:
    """Return the plane seen from straight above, with z = 0 on a line and one key a step."""
    return Plane(np.array([[dx, -dy, x], [dy, dx, y], [0, 0, 1.0]]))
