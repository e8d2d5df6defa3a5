"""How far a camera looks down or up, told by the people who stand in front of it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stream.vision.landmarks import Body
from stream.vision.layouts import MEDIAPIPE_33

_CHAIN = np.array(
    [
        [MEDIAPIPE_33.index(f"{side}_{joint}") for side in ("left", "right")]
        for joint in ("shoulder", "hip", "knee", "ankle")
    ]
)
_STRAIGHT = 0.97
_SEEN = 0.5
_MEMORY_S = 10.0
_LONGEST_STEP_S = 0.1


class Level:
    """Turns joints about the camera's x axis until who stands upright is vertical.

    A body whose shoulders, hips, knees and ankles are in one line stands (or lies, which is told
    by its being nearer to the horizontal): the mean of this line over some ten seconds of standing
    is the vertical. Until somebody has stood, the camera is taken to be level.
    """

    def __init__(self) -> None:
        self._up = np.zeros(2)
        self._stood_s = 0.0

    @property
    def pitch_deg(self) -> float:
        """How far the camera looks down, in degrees; negative when it looks up."""
        return math.degrees(math.atan2(-self._up[1], self._up[0])) if self._stood_s else 0.0

    def update(self, body: Body, step_s: float) -> None:
        """Learn from a person, seen `step_s` after the picture before."""
        if (body.image[_CHAIN, 2] < _SEEN).any():
            return
        chain = body.world[_CHAIN].mean(1)
        line = chain[0] - chain[-1]
        length = float(np.linalg.norm(line))
        if length < _STRAIGHT * np.linalg.norm(np.diff(chain, axis=0), axis=1).sum():
            return
        y, z = line[1:] / length
        if y <= abs(z):
            return
        step_s = min(max(step_s, 1e-3), _LONGEST_STEP_S)
        self._stood_s += step_s
        self._up += step_s / min(self._stood_s, _MEMORY_S) * (np.array([y, z]) - self._up)

    def apply(self, world: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return joints (..., 3) with y up in the world rather than in the picture."""
        if not self._stood_s:
            return world
        c, s = self._up / np.linalg.norm(self._up)
        turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32)
        turned: NDArray[np.float32] = world @ turn
        return turned
