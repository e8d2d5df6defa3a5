"""Where a picture looks like two octaves of a keyboard: the first guess of the finder."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.music.finder.plane import BLACKS_U, Floats
from stream.music.keyboard import BLACK_WIDTH_U
from stream.vision.opencv import load_cv2

WORK_PX = 960
OCTAVES = 2
# White keys of 5 to 10 px at each level of the pyramid; a step shifts the ends of two octaves by
# less than a fifth of a white key.
_WIDTHS_PX = tuple(5.0 * 1.05**step for step in range(15))
_LEVELS = 4
_PER_LEVEL = 6
_LEAST = 0.45
_GRAIN = 1.5


class Seed(NamedTuple):
    """Two octaves, from C to B, somewhere on a line through the black keys.

    Attributes
    ----------
    score
        Correlation with the pattern, up to 1.
    x, y
        Where the line enters the lower C, in pixels of the picture.
    dx, dy
        One white key further along the line.
    """

    score: float
    x: float
    y: float
    dx: float
    dy: float


def find_seeds(
    grey: Floats, angles_deg: tuple[float, ...], alive: Callable[[], None] = lambda: None
) -> list[Seed]:
    """Return what looks like two octaves along lines of these directions, the best first.

    `grey` is (height, width) from 0 to 255, its longer side about `WORK_PX`. `alive` is called
    every few milliseconds.
    """
    cv2 = load_cv2("Finding a keyboard")
    seeds: list[Seed] = []
    for angle in angles_deg:
        turned, back = _turn(cv2, grey, angle)
        for level in range(_LEVELS):
            if level:
                turned = cv2.pyrDown(turned)
            for score, x, y, width in _row_peaks(cv2, turned, alive):
                size = 2.0**level
                at = back @ np.array([size * x, size * y, 1.0])
                step = back[:, 0] * size * width
                seeds.append(
                    Seed(score, float(at[0]), float(at[1]), float(step[0]), float(step[1]))
                )
    return sorted(seeds, reverse=True)


def likely_angles(grey: Floats, count: int) -> tuple[float, ...]:
    """Return the directions across which most edges of the picture run, in degrees below 180.

    Keys side by side are by far the most edges of one direction that a picture of a keyboard has.
    """
    cv2 = load_cv2("Finding a keyboard")
    small = cv2.GaussianBlur(grey, (0, 0), 1.0)
    gx, gy = cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1)
    strength = np.minimum(np.hypot(gx, gy), 200.0)
    angle = np.degrees(np.arctan2(gy, gx)) % 180
    bins = 60
    counts, _ = np.histogram(angle, bins, (0, 180), weights=strength)
    smooth = counts + np.roll(counts, 1) + np.roll(counts, -1)
    found: list[float] = []
    for at in np.argsort(-smooth):
        centre = (at + 0.5) * 180 / bins
        if all(abs((centre - other + 90) % 180 - 90) > 8 for other in found):
            found.append(float(centre))
        if len(found) == count:
            break
    return tuple(found)


def pattern(width_px: float, octaves: int) -> Floats:
    """Return the brightness (n,) along a line through the blacks of some octaves: 0 and 1."""
    n = round(7 * octaves * width_px)
    # Each pixel is the mean of what it covers.
    fine = 8
    u = (np.arange(n * fine) + 0.5) / fine / width_px % 7
    dark = np.zeros(u.shape, bool)
    for centre in BLACKS_U:
        dark |= np.abs(u - centre) < BLACK_WIDTH_U / 2
    return np.asarray((1 - dark).reshape(n, fine).mean(axis=1), np.float32)


def _turn(cv2: Any, grey: Floats, angle_deg: float) -> tuple[Floats, NDArray[np.float64]]:
    """Turn a picture so that lines of that direction are rows; return it and the way back."""
    height, width = grey.shape
    if abs(angle_deg) < 0.1:
        return grey, np.array([[1.0, 0, 0], [0, 1, 0]])
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    w = math.ceil(abs(width * c) + abs(height * s))
    h = math.ceil(abs(width * s) + abs(height * c))
    turn = np.array([[c, s], [-s, c]])
    shift = np.array([w / 2, h / 2]) - turn @ np.array([width / 2, height / 2])
    forth = np.column_stack([turn, shift])
    back = np.column_stack([turn.T, -turn.T @ shift])
    turned = cv2.warpAffine(
        grey, forth, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return turned, back


def _row_peaks(
    cv2: Any, image: Floats, alive: Callable[[], None]
) -> list[tuple[float, float, float, float]]:
    """Return score, x, y and width of a white key of the best places on rows."""
    rows = cv2.blur(image, (1, 5))[::3]
    # Where a row is flat, any correlation would mean nothing: noise of its own keeps it low.
    rows = rows + _GRAIN * np.random.default_rng(0).standard_normal(rows.shape, np.float32)
    best: Floats | None = None
    which: NDArray[np.int16] | None = None
    for number, width in enumerate(_WIDTHS_PX):
        alive()
        template = pattern(width, OCTAVES)[None]
        if template.shape[1] >= rows.shape[1]:
            break
        score = cv2.matchTemplate(rows, template, cv2.TM_CCOEFF_NORMED)
        if best is None or which is None:
            best, which = np.full(rows.shape, -1, np.float32), np.zeros(rows.shape, np.int16)
        part = best[:, : score.shape[1]]
        better = score > part
        part[better] = score[better]
        which[:, : score.shape[1]][better] = number
    peaks: list[tuple[float, float, float, float]] = []
    while best is not None and which is not None and len(peaks) < _PER_LEVEL:
        row, column = divmod(int(best.argmax()), best.shape[1])
        score = float(best[row, column])
        if score < _LEAST:
            break
        width = _WIDTHS_PX[which[row, column]]
        peaks.append((score, float(column), row * 3.0 + 1.0, width))
        high, wide = max(1, round(2 * width / 3)), round(10 * width)
        best[max(0, row - high) : row + high + 1, max(0, column - wide) : column + wide] = -1
    return peaks
