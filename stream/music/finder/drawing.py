"""Draws what was found of a keyboard into pictures."""

from __future__ import annotations

import numpy as np

from stream.music.finder.layouts import WHITE_NAMES
from stream.music.keyboard import KeyGrid
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2

_LINE = (255, 170, 60)
_OCTAVE = (60, 220, 60)
_MIDDLE = (230, 60, 230)
_LEVEL = (40, 220, 240)
_OUTLINE = (20, 20, 20)


def draw_grid(picture: Frame, grid: KeyGrid) -> None:
    """Draw the lines between the keys into a picture, in place, and the names of all C.

    Lines are blue, left of each C green, left of middle C violet; the three levels are yellow.
    What is NaN is not drawn.
    """
    cv2 = load_cv2("Drawing a keyboard")
    there = np.isfinite(grid).all(axis=(0, 2))
    thick = max(1, round(max(picture.shape[:2]) / 900))

    def spots(points: KeyGrid) -> list[np.ndarray]:  # type: ignore[type-arg]
        # A sixteenth of a pixel is what OpenCV can place a line to.
        return [np.round(points.clip(-3e4, 3e4) * 16).astype(np.int32)]

    for number in np.flatnonzero(there):
        name = WHITE_NAMES[number] if number < len(WHITE_NAMES) else ""
        colour = _MIDDLE if name == "C4" else _OCTAVE if name.startswith("C") else _LINE
        cv2.polylines(picture, spots(grid[:, number]), False, colour, thick, cv2.LINE_AA, 4)
    for level in grid:
        if there.any():
            cv2.polylines(picture, spots(level[there]), False, _LEVEL, thick, cv2.LINE_AA, 4)
    for number in np.flatnonzero(there[:-1] & there[1:]):
        name = WHITE_NAMES[number]
        if not name.startswith("C") and name != "A0":
            continue
        far, near = (grid[level, number : number + 2].mean(axis=0) for level in (1, 2))
        at = near + 0.6 * (near - far)
        scale = 0.4 * thick
        (width, height), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
        corner = (round(float(at[0]) - width / 2), round(float(at[1]) + height / 2))
        for colour, width in ((_OUTLINE, thick + 2), (_LEVEL, thick)):
            cv2.putText(
                picture, name, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, width, cv2.LINE_AA
            )
