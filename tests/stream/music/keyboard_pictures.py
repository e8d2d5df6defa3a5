"""Pictures of keyboards that are drawn, so that it is known where their keys are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stream.music.finder.layouts import SIZES, WHITE_NAMES, whites_of
from stream.music.keyboard import BLACK_WIDTH_U, CENTRES_U, IS_BLACK, KeyGrid, no_grid

PX = 20
# Lengths in white widths, from the far ends of the keys: blacks, whites, and the case around.
BLACK_U, WHITE_U, CASE_U = 4.1, 6.4, 1.2


class Drawn(NamedTuple):
    picture: np.ndarray
    grid: KeyGrid


def keyboard(keys: int = 88, light: float = 1.0) -> tuple[np.ndarray, KeyGrid]:
    """Draw a keyboard as seen from straight above; return the picture and its grid."""
    start = WHITE_NAMES.index(SIZES[keys])
    whites = whites_of(keys, SIZES[keys])
    height, width = round((WHITE_U + 2 * CASE_U) * PX), round((whites + 2 * CASE_U) * PX)
    picture = np.full((height, width, 3), 25.0)
    top, left = CASE_U * PX, CASE_U * PX
    bottom = round(top + WHITE_U * PX)
    picture[round(top) : bottom, round(left) : round(left + whites * PX)] = (225, 235, 235)
    for line in range(whites + 1):
        at = round(left + line * PX)
        picture[round(top) : bottom, at - 1 : at + 1] = 150
    for centre in CENTRES_U[IS_BLACK] - start:
        low, high = centre - BLACK_WIDTH_U / 2, centre + BLACK_WIDTH_U / 2
        if low > 0 and high < whites:
            columns = slice(round(left + low * PX), round(left + high * PX))
            picture[round(top) : round(top + BLACK_U * PX), columns] = 35
    grid = no_grid()
    lines = np.arange(whites + 1)
    for row, depth in enumerate((0, BLACK_U, WHITE_U)):
        grid[row, start + lines, 0] = left + lines * PX - 0.5
        grid[row, start + lines, 1] = top + depth * PX - 0.5
    return picture * light, grid


def seen(
    drawn: tuple[np.ndarray, KeyGrid],
    *,
    size: tuple[int, int] = (960, 540),
    turn_deg: float = 0.0,
    fill: float = 0.9,
    tilt: tuple[float, float] = (0.0, 0.0),
    shift: tuple[float, float] = (0.0, 0.0),
    blur: float = 0.7,
    noise: float = 3.0,
    seed: int = 0,
) -> Drawn:
    """Take a picture of a drawn keyboard.

    `size` is width and height. The keyboard fills that share of the longest line through the middle
    in its direction; `tilt` is how much nearer one end or side is than the other, as a share;
    `shift` is in shares of the picture.
    """
    import cv2

    picture, grid = drawn
    h, w = picture.shape[:2]
    turn = np.radians(turn_deg)
    c, s = np.cos(turn), np.sin(turn)
    room = min(size[0] / max(abs(c), 1e-9), size[1] / max(abs(s), 1e-9))
    scale = fill * room / w
    way: Any = np.array([[1, 0, -w / 2], [0, 1, -h / 2], [0, 0, 1.0]])
    way = np.array([[1, 0, 0], [0, 1, 0], [tilt[0] / w, tilt[1] / w, 1]]) @ way
    way = np.array([[scale * c, -scale * s, 0], [scale * s, scale * c, 0], [0, 0, 1]]) @ way
    middle = size[0] * (0.5 + shift[0]), size[1] * (0.5 + shift[1])
    way = np.array([[1, 0, middle[0]], [0, 1, middle[1]], [0, 0, 1]]) @ way
    random = np.random.default_rng(seed)
    warped = cv2.warpPerspective(
        cv2.GaussianBlur(picture, (0, 0), max(0.3, 0.4 / scale)), way, size,
        borderMode=cv2.BORDER_CONSTANT, borderValue=(70, 80, 90),
    )  # fmt: skip
    warped = cv2.GaussianBlur(warped, (0, 0), max(0.1, blur))
    warped = warped + noise * random.standard_normal(warped.shape)
    points = np.concatenate([grid, np.ones((*grid.shape[:2], 1), np.float32)], 2) @ way.T
    where = (points[..., :2] / points[..., 2:]).astype(np.float32)
    return Drawn(warped.clip(0, 255).astype(np.uint8), where)


def off(found: KeyGrid, drawn: Drawn) -> float:
    """Return by how many white keys lines in the picture are off at most; inf if one is missing."""
    height, width = drawn.picture.shape[:2]
    x, y = drawn.grid[..., 0], drawn.grid[..., 1]
    there = ((x >= 0) & (x < width) & (y >= 0) & (y < height)).all(axis=0)
    step = np.linalg.norm(np.diff(drawn.grid[1][there], axis=0), axis=-1).mean()
    apart = np.linalg.norm(found[:, there] - drawn.grid[:, there], axis=-1)
    return float(apart.max() / step) if np.isfinite(apart).all() else float("inf")
