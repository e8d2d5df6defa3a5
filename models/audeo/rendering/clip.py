"""A rendered clip: what a camera would have seen of a performance, with exact labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.audeo.rendering.degrade import Sensor
from models.audeo.rendering.hands import depth_at, move_hands, reach_out
from models.audeo.rendering.looks import Look
from models.audeo.rendering.loose_hands import lie_loosely
from models.audeo.rendering.performance import Press, Random
from models.audeo.rendering.scene import Scene
from stream.music.keyboard import CENTRES_U, GRID_ROWS, KEYS, LOWEST_PITCH, WHITES, KeyGrid, no_grid
from stream.music.piano.strip import PX_PER_WHITE, Rectifier
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2

Floats = NDArray[np.float64]
_FILM_WHITES = 60.0


@dataclass(frozen=True)
class Clip:
    """Strips (T, 56, 12 * whites, 3) of the whites from `left` on, at `times_s` (T,)."""

    strips: NDArray[np.uint8]
    times_s: Floats
    presses: list[Press]
    left: int
    look: Look


def render(
    rng: Random,
    look: Look,
    presses: list[Press],
    *,
    left: int,
    right: int,
    length_s: float,
    keyboard: Random | None = None,
) -> Clip:
    """Render the strips of a performance, as the live path would take them from a camera.

    `keyboard` draws what a keyboard has besides its look (tones, blotches, floor), else `rng`.
    """  # fmt: skip
    scale = max(20, round(1.6 * look.px_per_white))
    scene = Scene(keyboard or rng, look, scale, across=(left, right))
    times_s = np.arange(0, length_s, 1 / look.rate_hz)
    sensor = Sensor(rng, look, scene.width, scene.height, scene.scale)
    rectify = Rectifier(_grid(rng, look, sensor.size, scene))
    columns = slice(left * PX_PER_WHITE, right * PX_PER_WHITE)
    strips = [
        rectify(sensor(picture))[:, columns]
        for picture in pictures(rng, look, presses, scene, times_s)
    ]
    return Clip(np.stack(strips), times_s, presses, left, look)


def film(
    rng: Random, look: Look, presses: list[Press], *, size: tuple[int, int], length_s: float
) -> tuple[Iterator[Frame], KeyGrid]:
    """Render what a camera sees of a whole keyboard, width and height of `size`, and its true grid.

    The keyboard lies level and straight in the picture, and fills most of its width. The view is
    from straight above.
    """
    width, height = size
    look = replace(look, px_per_white=width / _FILM_WHITES)
    beside, above = (_FILM_WHITES - WHITES) / 2, 0.4 * _FILM_WHITES * height / width
    scene = Scene(
        rng, look, round(1.6 * look.px_per_white), across=(-beside, WHITES + beside),
        along=(-above, _FILM_WHITES * height / width - above),
    )  # fmt: skip
    sensor = Sensor(rng, look, scene.width, scene.height, scene.scale)
    cv2: Any = load_cv2("The renderer")

    def frames() -> Iterator[Frame]:
        times_s = np.arange(0, length_s, 1 / look.rate_hz)
        for picture in pictures(rng, look, presses, scene, times_s):
            yield cv2.resize(sensor(picture), size, interpolation=cv2.INTER_AREA)

    return frames(), true_grid(look, size, scene)


def pictures(
    rng: Random, look: Look, presses: list[Press], scene: Scene, times_s: Floats
) -> Iterator[Frame]:
    """Draw the plane of the keys at every time; with some exposure, as the mean of two moments."""
    subframes = 2 if look.exposure_share else 1
    shown_s = times_s[:, None] - np.linspace(look.exposure_share / look.rate_hz, 0, subframes)
    flat_s = shown_s.reshape(-1)
    depth = np.zeros((len(flat_s), KEYS))
    for press in presses:
        key = press.pitch - LOWEST_PITCH
        depth[:, key] = np.maximum(depth[:, key], depth_at(press, flat_s))
    move = lie_loosely if look.loose else reach_out
    rest_u = _rests(rng, presses, scene.left, scene.right)
    hands = move_hands(rng, presses, flat_s, look, rest_u, move=move)
    idle = [hand for hand in (0, 1) if not any(p.hand == hand for p in presses)]
    hands = [h for i, h in enumerate(hands) if i not in idle or rng.random() < 0.5]
    exposure = 1 + look.drift * np.sin(flat_s * rng.uniform(0.3, 2) + rng.uniform(0, 6))
    for t in range(len(times_s)):
        moments = range(t * subframes, (t + 1) * subframes)
        yield _mean([scene.draw(depth[i], hands, i, float(exposure[i])) for i in moments])


def _rests(rng: Random, presses: list[Press], left: float, right: float) -> tuple[float, float]:
    """Return where each hand waits when it has nothing to play: beside the other."""
    played = [float(CENTRES_U[p.pitch - LOWEST_PITCH]) for p in presses]
    about = float(np.mean(played)) if played else (left + right) / 2
    return about - float(rng.uniform(5, 13)), about + float(rng.uniform(5, 13))


def _mean(shots: list[Frame]) -> Frame:
    if len(shots) == 1:
        return shots[0]
    return np.asarray(np.mean(shots, axis=0), np.uint8)


def _grid(rng: Random, look: Look, size: tuple[int, int], scene: Scene) -> KeyGrid:
    """Return the grid as a finder would have found it: a little beside the true one."""
    grid = true_grid(look, size, scene)
    step = np.array([size[0] / scene.width, size[1] / scene.height]) * scene.scale
    shift_u, shift_y = rng.normal(0, 0.05), rng.normal(0, 0.06, len(GRID_ROWS))
    stretch = rng.normal(0, 0.003)
    middle = (scene.left + scene.right) / 2
    grid[:, :, 0] += (shift_u + stretch * (np.arange(WHITES + 1) - middle)) * step[0]
    grid[:, :, 1] += shift_y[:, None] * step[1]
    return grid


def true_grid(look: Look, size: tuple[int, int], scene: Scene) -> KeyGrid:
    """Return where the keys of a scene are in its picture of that size, width and height."""
    step = np.array([size[0] / scene.width, size[1] / scene.height]) * scene.scale
    lines = np.arange(WHITES + 1)
    shown = (lines >= scene.left) & (lines <= scene.right)
    grid = no_grid()
    for row, y in enumerate((0.0, look.black_length, look.white_length)):
        grid[row, shown, 0] = (lines[shown] - scene.left) * step[0] - 0.5
        grid[row, shown, 1] = (y - scene.far) * step[1] - 0.5
    return grid
