"""A rendered clip: what a camera would have seen of a performance, with exact labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.audeo.rendering.degrade import Sensor
from models.audeo.rendering.hands import depth_at, move_hands
from models.audeo.rendering.looks import Look
from models.audeo.rendering.performance import Press, Random
from models.audeo.rendering.scene import FAR_Y, Scene
from stream.music.keyboard import CENTRES_U, GRID_ROWS, KEYS, LOWEST_PITCH, WHITES, KeyGrid, no_grid
from stream.music.strip import PX_PER_WHITE, Rectifier
from stream.vision.frames import Frame

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Clip:
    """Strips (T, 56, 12 * whites, 3) of the whites from `left` on, at `times_s` (T,)."""

    strips: NDArray[np.uint8]
    times_s: Floats
    presses: list[Press]
    left: int
    look: Look


def render(
    rng: Random, look: Look, presses: list[Press], *, left: int, right: int, length_s: float
) -> Clip:
    """Render the strips of a performance, as the live path would take them from a camera."""
    scale = max(20, round(1.6 * look.px_per_white))
    scene = Scene(rng, look, left, right, scale)
    times_s = np.arange(0, length_s, 1 / look.rate_hz)
    subframes = 2 if look.exposure_share else 1
    shown_s = times_s[:, None] - np.linspace(look.exposure_share / look.rate_hz, 0, subframes)
    flat_s = shown_s.reshape(-1)
    depth = np.zeros((len(flat_s), KEYS))
    for press in presses:
        key = press.pitch - LOWEST_PITCH
        depth[:, key] = np.maximum(depth[:, key], depth_at(press, flat_s))
    hands = move_hands(rng, presses, flat_s, look, _rests(rng, presses, left, right))
    idle = [hand for hand in (0, 1) if not any(p.hand == hand for p in presses)]
    hands = [h for i, h in enumerate(hands) if i not in idle or rng.random() < 0.5]
    exposure = 1 + look.drift * np.sin(flat_s * rng.uniform(0.3, 2) + rng.uniform(0, 6))
    sensor = Sensor(rng, look, scene.width, scene.height, scale)
    rectify = Rectifier(_grid(rng, look, sensor.size, scene))
    strips = []
    for t in range(len(times_s)):
        shots = [
            scene.draw(depth[i], hands, i, float(exposure[i]))
            for i in range(t * subframes, (t + 1) * subframes)
        ]
        picture = sensor(_mean(shots))
        strips.append(rectify(picture)[:, left * PX_PER_WHITE : right * PX_PER_WHITE])
    return Clip(np.stack(strips), times_s, presses, left, look)


def _rests(rng: Random, presses: list[Press], left: int, right: int) -> tuple[float, float]:
    """Return where each hand waits when it has nothing to play: beside the other."""
    played = [float(CENTRES_U[p.pitch - LOWEST_PITCH]) for p in presses]
    about = float(np.mean(played)) if played else (left + right) / 2
    return about - float(rng.uniform(5, 13)), about + float(rng.uniform(5, 13))


def _mean(shots: list[Frame]) -> Frame:
    if len(shots) == 1:
        return shots[0]
    return np.asarray(np.mean(shots, axis=0), np.uint8)


def _grid(rng: Random, look: Look, size: tuple[int, int], scene: Scene) -> KeyGrid:
    """Return the true grid as a finder would have found it: a little beside."""
    (width, height), left, right = size, scene.left, scene.right
    sx, sy = width / scene.width * scene.scale, height / scene.height * scene.scale
    grid = no_grid()
    lines = np.arange(WHITES + 1)
    shown = (lines >= left) & (lines <= right)
    shift_u, shift_y = rng.normal(0, 0.05), rng.normal(0, 0.06, len(GRID_ROWS))
    stretch = rng.normal(0, 0.003)
    for row, y in enumerate((0.0, look.black_length, look.white_length)):
        u = lines[shown] + shift_u + stretch * (lines[shown] - (left + right) / 2)
        grid[row, shown, 0] = (u - left) * sx - 0.5
        grid[row, shown, 1] = (y + shift_y[row] - FAR_Y) * sy - 0.5
    return grid
