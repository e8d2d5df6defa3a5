"""The strip: the keys of a picture laid flat, as wide for each key in every picture.

It is uint8 (56, 624, 4), 12 pixels for each white key: blue, green, red, and on which side of the
camera a key lies, since a key that goes down shows the wall of its neighbour away from the camera.
"""

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
CHANNELS = ("blue", "green", "red", "side")
SIDE_MIDDLE, SIDE_PER_WHITE = 128.0, 2.4
"""A key in the middle of the picture has this side, and one further right more, by each white."""

_EDGES = (0.0, BLACK_ROWS, BLACK_ROWS + FRONT_ROWS)


class Rectifier:
    """Takes the colours of the strip, uint8 (56, 624, 3), out of pictures with the keys at a grid.

    Where the grid has no lines, it is black.
    """

    def __init__(self, grid: KeyGrid) -> None:
        self._cv2 = load_cv2("A view of a keyboard")
        xy = _sample_positions(np.asarray(grid, np.float64))
        seen = np.isfinite(xy).all(axis=-1)
        # A position outside of every picture is filled with black.
        xy = np.where(seen[..., None], xy, -1e4).astype(np.float32)
        self._xy = xy
        self._by_column = np.gradient(xy, axis=1)
        self._by_row = np.gradient(xy, axis=0)
        # Fixed-point maps are several times faster than floating ones.
        self._map, self._weights = self._cv2.convertMaps(xy[..., 0], xy[..., 1], self._cv2.CV_16SC2)

    def __call__(self, frame: Frame, way: NDArray[np.float32] | None = None) -> Frame:
        """Return the colours of a frame (height, width, 3).

        With `way` (4,), they are taken so many pixels of the strip further along, in the middle
        and how many more at the right end, and across likewise.
        """
        maps = (self._map, self._weights) if way is None else (self._moved(way), None)
        strip: Any = self._cv2.remap(
            frame, *maps, self._cv2.INTER_LINEAR,
            borderMode=self._cv2.BORDER_CONSTANT, borderValue=0,
        )  # fmt: skip
        return np.asarray(strip, np.uint8)

    def _moved(self, way: NDArray[np.float32]) -> NDArray[np.float32]:
        ramp = np.linspace(-1, 1, STRIP_WIDTH, dtype=np.float32)
        along, across = way[0] + way[1] * ramp, way[2] + way[3] * ramp
        xy = self._xy + along[:, None] * self._by_column + across[:, None] * self._by_row
        return np.asarray(xy, np.float32)


def apart_px(before: KeyGrid, after: KeyGrid) -> tuple[float, float]:
    """Return by how much a grid lies further along and across than another, in strip pixels."""
    there = np.isfinite(before).all(axis=(0, 2)) & np.isfinite(after).all(axis=(0, 2))
    if there.sum() < 3:
        return 0.0, 0.0
    a, b = before[:, there].astype(float), after[:, there].astype(float)
    along = (a[:, -1] - a[:, 0]).mean(axis=0) / (
        np.flatnonzero(there)[-1] - np.flatnonzero(there)[0]
    )
    across = (a[2] - a[0]).mean(axis=0) / (BLACK_ROWS + FRONT_ROWS)
    by = (b - a).mean(axis=(0, 1))
    ways = np.linalg.solve(np.stack([along / PX_PER_WHITE, across], axis=1), by)
    return float(ways[0]), float(ways[1])


def with_side(colours: Frame, side: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return whole strips (..., 4) of their colours (..., 3) and the side of each column."""
    whole = np.empty((*colours.shape[:-1], len(CHANNELS)), np.uint8)
    whole[..., :3] = colours
    whole[..., 3] = side
    return whole


def side_of(middle_u: float, left: int = 0, whites: int = WHITES) -> NDArray[np.uint8]:
    """Return the side (12 * whites,) of each column of a strip that begins at the white `left`.

    `middle_u` is where the middle of the picture, under which the camera is taken to be, lies on
    the keyboard, in whites from the left end of A0.
    """
    u = left + (np.arange(whites * PX_PER_WHITE) + 0.5) / PX_PER_WHITE
    side = SIDE_MIDDLE + SIDE_PER_WHITE * (u - middle_u)
    return np.asarray(np.clip(np.round(side), 0, 255), np.uint8)


def middle_of(grid: KeyGrid, height: int, width: int) -> float:
    """Return where the middle of a picture of that size lies on the keyboard, in whites from A0."""
    line = grid[1].astype(np.float64)
    there = np.flatnonzero(np.isfinite(line).all(axis=1))
    first, last = there[0], there[-1]
    along = line[last] - line[first]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    share = (line[there] - line[first]) @ along / (along @ along)
    at = (middle - line[first]) @ along / (along @ along)
    if 0 <= at <= 1:
        return float(np.interp(at, share, there))
    return float(first + at * (last - first))


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
