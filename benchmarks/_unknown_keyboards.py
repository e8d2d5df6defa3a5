"""Keyboards that the shipped network finds hard: looks and pieces that no training had, filmed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.audeo.rendering.clip import pictures, true_grid
from models.audeo.rendering.degrade import Sensor
from models.audeo.rendering.looks import Look, Random, draw_look
from models.audeo.rendering.performance import Press, Written, perform, reachable
from models.audeo.rendering.scene import Scene
from models.audeo.rendering.scores import Score
from stream.music.keyboard import GRID_ROWS, HIGHEST_PITCH, LOWEST_PITCH, WHITES, KeyGrid
from stream.music.piano.strip import Rectifier, side_of, with_side

PIECES = (
    "beethoven/opus18no1/movement4.mxl", "haydn/opus74no1/movement4.mxl",
    "mozart/k155/movement2.mxl", "mozart/k458/movement1.mxl",
    "schumann_robert/opus41no1/movement3.mxl", "schumann_clara/opus17/movement3.xml",
    "bach/bwv64.2.mxl", "bach/bwv255.mxl", "verdi/laDonnaEMobile.mxl", "mozart/k156/movement3.mxl",
)  # fmt: skip
"""Pieces of the music21 corpus that neither training nor the clips for `evaluate` play."""

KINDS = ("burnt", "dark", "coloured", "shadowed", "burnt")
RATE_HZ, TAKE_S = 30.0, 10.0
"""The hands come anew for each take."""

_SEEDS, _BENT, _BESIDE = 89, 90, 91
_FEWEST_NOTES = 12
_MIDDLE_OFF_U = 3.0


@dataclass(frozen=True)
class Keyboard:
    """A keyboard by its number: how it looks, and the grid that a finder has of it."""

    number: int
    kind: str
    look: Look
    scene: Scene
    sensor: Sensor
    grid: KeyGrid
    side: NDArray[np.uint8]


def keyboard(number: int) -> Keyboard:
    """Draw a keyboard; the kind of its looks is that of `KINDS`, again and again."""
    rng = np.random.default_rng([_SEEDS, number])
    kind = KINDS[number % len(KINDS)]
    look = _strange(rng, kind)
    scene = Scene(rng, look, max(20, round(1.6 * look.px_per_white)))
    sensor = Sensor(rng, look, scene.width, scene.height, scene.scale)
    grid = _bent(true_grid(look, sensor.size, scene), number)
    off = np.random.default_rng([_BESIDE, number]).normal(0, _MIDDLE_OFF_U)
    return Keyboard(number, kind, look, scene, sensor, grid, side_of(look.camera_u + off))


def filmed(
    board: Keyboard, scores: Sequence[Score], takes: int
) -> Iterator[tuple[NDArray[np.uint8], list[Press]]]:
    """Film takes of ten seconds: strips (T, 56, 624, 4), and what is played, from their beginning.

    They must be asked for in order, since a camera keeps what it has seen.
    """
    rectify = Rectifier(board.grid)
    times_s = np.arange(round(TAKE_S * RATE_HZ)) / RATE_HZ
    for take in range(takes):
        rng = np.random.default_rng([_SEEDS, board.number, take])
        beat_s = float(rng.uniform(0.4, 0.7))
        notes = _excerpt(rng, scores, TAKE_S / beat_s)
        presses = perform(rng, reachable(notes), beat_s, TAKE_S - 0.2)
        drawn = pictures(rng, board.look, presses, board.scene, times_s)
        colours = np.stack([rectify(board.sensor(picture)) for picture in drawn])
        ends = [replace(p, release_s=min(p.release_s, TAKE_S - 0.01)) for p in presses]
        yield with_side(colours, board.side), ends


def _strange(rng: Random, kind: str) -> Look:
    u = rng.uniform
    look = draw_look(rng, "digital")
    height = float(np.exp(u(np.log(45), np.log(130))))
    look = replace(
        look, rate_hz=RATE_HZ, px_per_white=float(u(8, 11)), camera_height=height,
        camera_u=float(rng.normal(26, 3)), camera_y=3.5 + height * np.tan(u(-0.05, 0.2)),
        jpeg_quality=int(rng.integers(10, 22)), held_blocks=float(u(2, 4)),
        blur_px=float(u(0.7, 1.3)), sharpen=0.0, blend=float(u(0.1, 0.45)), drift=0.01,
        exposure_share=float(u(0.4, 0.9)) if rng.random() < 0.5 else 0.0,
        tint=np.clip(1 + rng.normal(0, 0.22, 3), 0.55, 1.5), white_depth=float(u(0.28, 0.38)),
        black_depth=float(u(0.22, 0.32)),
        black_width=float(rng.choice([u(0.44, 0.5), u(0.62, 0.68)])),
        black_length=float(rng.choice([u(3.6, 3.85), u(4.2, 4.45)])),
        black_slope=float(u(0.5, 0.8)), black_taper=float(u(0.05, 0.14)),
        finger_width=float(u(0.85, 1.15)), hover=float(u(0.05, 0.5)), feints=float(u(0.4, 1.0)),
        press_shade=float(u(0, 0.03)), press_gloss=float(u(0, 0.3)), press_gap=float(u(0, 0.3)),
        press_front=0.0,
    )  # fmt: skip
    return replace(look, **_of_kind(rng, kind))


def _of_kind(rng: Random, kind: str) -> dict[str, Any]:
    u = rng.uniform
    if kind == "burnt":
        return {
            "gain": float(u(1.6, 2.2)),
            "gap": np.clip(u(150, 225) + rng.normal(0, 4, 3), 0, 255),
            "gap_width": float(u(0.015, 0.05)), "wall": float(u(0.3, 0.75)),
            "tint": np.clip(1 + rng.normal(0, 0.08, 3), 0.8, 1.2),
            "gradient_u": float(rng.normal(0, 0.15)),
        }  # fmt: skip
    if kind == "dark":
        return {
            "gain": float(u(0.4, 0.6)), "noise": float(u(1.5, 3.5)),
            "gradient_u": float(rng.normal(0, 0.3)), "wall": float(u(0.2, 0.7)),
        }  # fmt: skip
    if kind == "coloured":
        return {
            "white": u(130, 240, 3), "black": u(20, 90, 3), "white_spread": 7.0,
            "wall": float(u(0.4, 0.8)), "gain": float(u(0.7, 1.2)),
        }  # fmt: skip
    side = float(rng.choice([-1, 1]))
    return {
        "gradient_u": side * float(u(0.25, 0.4)), "shadow_strength": float(u(0.5, 0.75)),
        "shadow_u": side * float(u(0.7, 1.5)), "contact": float(u(0.3, 0.8)),
        "blotches": float(u(0.1, 0.2)), "wall": float(u(0.3, 0.7)), "gain": float(u(0.7, 1.3)),
    }  # fmt: skip


def _bent(grid: KeyGrid, number: int) -> KeyGrid:
    """Move a grid beside the keys, by 0.25 to 0.4 of a white where it is most, 0 in other parts."""
    from scipy.interpolate import CubicSpline

    rng = np.random.default_rng([_BENT, number])
    step = float(np.median(np.diff(grid[1, :, 0])))
    course = CubicSpline(np.linspace(0, WHITES, 6), rng.uniform(-1, 1, 6))(np.arange(WHITES + 1))
    course *= rng.uniform(0.25, 0.4) / np.abs(course).max()
    bent = np.array(grid, np.float64)
    bent[:, :, 0] += step * (course + rng.normal(0, 0.04, len(GRID_ROWS))[:, None])
    bent[:, :, 1] += step * rng.normal(0, 0.12, len(GRID_ROWS))[:, None]
    return bent.astype(np.float32)


def _excerpt(rng: Random, scores: Sequence[Score], beats: float) -> list[Written]:
    while True:
        score = scores[int(rng.integers(len(scores)))]
        begin, shift = (
            float(rng.uniform(0, max(1.0, score.beats - beats))),
            int(rng.integers(-5, 6)),
        )
        notes = [
            Written(n.pitch + shift, n.beat - begin, n.beats, n.hand)
            for n in score.notes
            if begin <= n.beat < begin + beats and LOWEST_PITCH <= n.pitch + shift <= HIGHEST_PITCH
        ]
        if len(notes) >= _FEWEST_NOTES:
            return notes
