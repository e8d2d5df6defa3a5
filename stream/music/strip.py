"""The strip: the keys of a picture laid flat, as wide for each key in every picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.music.keyboard import WHITES, KeyGrid
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2

PX_PER_WHITE = 12
BLACK_ROWS, FRONT_ROWS, BEYOND_ROWS = 32, 16, 8
"""Rows beside the blacks, before their front ends, and beyond the front of the keys, where hands
come from."""

STRIP_HEIGHT = BLACK_ROWS + FRONT_ROWS + BEYOND_ROWS
STRIP_WIDTH = WHITES * PX_PER_WHITE
_EDGES = (0.0, BLACK_ROWS, BLACK_ROWS + FRONT_ROWS)


class Rectifier:
    """Takes the strip out of pictures in which the keys lie at a grid.

    The strip is uint8 (56, 624, 3): 12 pixels for each white key; where the grid has no lines, it
    is black.
    """

    def __init__(self, grid: KeyGrid) -> None:
        self._cv2 = load_cv2("A view of a keyboard")
        xy = _sample_positions(np.asarray(grid, np.float64))
        seen = np.isfinite(xy).all(axis=-1)
        # A position outside of every picture is filled with black.
        xy = np.where(seen[..., None], xy, -1e4).astype(np.float32)
        # Fixed-point maps are several times faster than floating ones.
        self._map, self._weights = self._cv2.convertMaps(xy[..., 0], xy[..., 1], self._cv2.CV_16SC2)

    def __call__(self, frame: Frame) -> Frame:
        """Return the strip of a frame (height, width, 3)."""
        strip: Any = self._cv2.remap(
            frame, self._map, self._weights, self._cv2.INTER_LINEAR,
            borderMode=self._cv2.BORDER_CONSTANT, borderValue=0,
        )  # fmt: skip
        return np.asarray(strip, np.uint8)


def _sample_positions(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where in the picture each pixel of the strip lies, (56, 624, 2) as x, y."""
    u = (np.arange(STRIP_WIDTH) + 0.5) / PX_PER_WHITE
    left = np.minimum(u.astype(int), WHITES - 1)
    share = (u - left)[None, :, None]
    # (3, 624, 2): along the three lines that cross all keys.
    across = (1 - share) * grid[:, left] + share * grid[:, left + 1]
    rows = np.arange(STRIP_HEIGHT) + 0.5
    part = np.clip(np.searchsorted(_EDGES, rows, side="right") - 1, 0, 1)
    span = np.diff(_EDGES)[part]
    along = ((rows - np.take(_EDGES, part)) / span)[:, None, None]
    return np.asarray((1 - along) * across[part] + along * across[part + 1])
