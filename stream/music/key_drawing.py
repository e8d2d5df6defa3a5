"""Draws keys into pictures: where they are, what they are called, which are heard."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stream.music.keyboard import (
    BLACK_WIDTH_U,
    CENTRES_U,
    IS_BLACK,
    KEY_NAMES,
    KEYS,
    LOWEST_PITCH,
    KeyGrid,
    keys_in_view,
    whites_in_view,
)
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2

Colour = tuple[int, int, int]

WHITE_LIT: Colour = (255, 170, 40)
BLACK_LIT: Colour = (240, 90, 60)
_LINE: Colour = (210, 190, 90)
_NAME: Colour = (250, 240, 200)
_OUTLINE: Colour = (20, 20, 20)
# Fingers on a lit key shall still be seen.
_COVERS = 0.65
_THIN = 0.4
_FAR, _BLACK_FRONT, _WHITE_FRONT = range(3)
_WHAT = "Drawing keys"


def _corners() -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return the corners of all keys: row of the grid, place in whites; where each key begins."""
    half = np.where(IS_BLACK, BLACK_WIDTH_U / 2, 0.5)
    left, right = CENTRES_U - half, CENTRES_U + half
    corners: list[tuple[int, float]] = []
    begins = [0]
    for key in range(KEYS):
        # A white key is narrow between the blacks and wide in front of them.
        after_black = not IS_BLACK[key] and key > 0 and IS_BLACK[key - 1]
        before_black = not IS_BLACK[key] and key + 1 < KEYS and IS_BLACK[key + 1]
        far_left = right[key - 1] if after_black else left[key]
        far_right = left[key + 1] if before_black else right[key]
        corners += [(_FAR, far_left), (_FAR, far_right), (_BLACK_FRONT, far_right)]
        if not IS_BLACK[key]:
            corners += [
                (_BLACK_FRONT, right[key]), (_WHITE_FRONT, right[key]), (_WHITE_FRONT, left[key]),
                (_BLACK_FRONT, left[key]),
            ]  # fmt: skip
        corners += [(_BLACK_FRONT, far_left)]
        begins.append(len(corners))
    rows, places = zip(*corners, strict=True)
    return np.array(rows), np.array(places), np.array(begins[1:-1])


_ROWS, _PLACES, _BEGINS = _corners()


def key_outlines(grid: KeyGrid) -> list[NDArray[np.float32]]:
    """Return the corners (n, 2) of each of the 88 keys in pixels; NaN where it is not in view."""
    share = (_PLACES % 1)[:, None]
    low, high = np.floor(_PLACES).astype(int), np.ceil(_PLACES).astype(int)
    points = (1 - share) * grid[_ROWS, low] + share * grid[_ROWS, high]
    return np.split(points.astype(np.float32), _BEGINS)


def draw_keys(picture: Frame, grid: KeyGrid) -> None:
    """Draw the outlines of keys thinly into a picture, and the names of the Cs at their fronts."""
    cv2 = load_cv2(_WHAT)
    outlines = key_outlines(grid)
    seen = np.flatnonzero(keys_in_view(grid))
    if not len(seen):
        return
    part, at = _part(picture, np.concatenate([outlines[key] for key in seen]))
    thin = part.copy()
    lines = [_fixed(outlines[key] - at) for key in seen]
    cv2.polylines(thin, lines, True, _LINE, 1, cv2.LINE_AA, 4)
    part[:] = cv2.addWeighted(thin, _THIN, part, 1 - _THIN, 0)
    whites = np.diff(grid[_WHITE_FRONT], axis=0)[whites_in_view(grid)]
    # Letters have a least size at which they can be read.
    scale = min(max(0.34, 0.026 * float(np.linalg.norm(whites, axis=1).mean())), 0.9)
    thick = 2 if scale > 0.6 else 1
    for key in seen:
        name = KEY_NAMES[key]
        if name[:-1] != "C":
            continue
        (width, height), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
        end, back = outlines[key][4:6].mean(axis=0), outlines[key][[3, 6]].mean(axis=0)
        outwards = (end - back) / max(float(np.linalg.norm(end - back)), 1e-6)
        x, y = end + 1.3 * height * outwards
        spot = (round(float(x) - width / 2), round(float(y) + height / 2))
        for colour, wide in ((_OUTLINE, thick + 2), (_NAME, thick)):
            cv2.putText(
                picture, name, spot, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, wide, cv2.LINE_AA
            )


def light_keys(picture: Frame, grid: KeyGrid, strengths: Mapping[int, float]) -> None:
    """Colour keys of a grid in a picture, by pitch, from 0 (not at all) to 1 (fully)."""
    cv2 = load_cv2(_WHAT)
    seen, outlines = keys_in_view(grid), key_outlines(grid)
    for pitch, strength in strengths.items():
        key = pitch - LOWEST_PITCH
        if not (0 <= key < KEYS and seen[key]):
            continue
        part, at = _part(picture, outlines[key])
        colour = BLACK_LIT if IS_BLACK[key] else WHITE_LIT
        lit = part.copy()
        cv2.fillPoly(lit, [_fixed(outlines[key] - at)], colour, cv2.LINE_AA, 4)
        part[:] = cv2.addWeighted(lit, _COVERS * strength, part, 1 - _COVERS * strength, 0)


def _part(picture: Frame, points: NDArray[np.float32]) -> tuple[Frame, NDArray[np.int64]]:
    """Return the part of a picture that holds these points, and where it begins (x, y)."""
    size = np.array(picture.shape[1::-1])
    low = np.clip(np.floor(points.min(axis=0)).astype(np.int64) - 1, 0, size - 1)
    high = np.clip(np.ceil(points.max(axis=0)).astype(np.int64) + 2, low + 1, size)
    return picture[low[1] : high[1], low[0] : high[0]], low


def _fixed(points: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return points in sixteenths of a pixel, as OpenCV takes them."""
    return np.asarray(np.round(np.clip(points, -30_000, 30_000) * 16), np.int32)
