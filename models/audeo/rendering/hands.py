"""Two hands that play: where each fingertip is at every moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.audeo.rendering.looks import Look
from models.audeo.rendering.performance import Press, Random
from stream.music.keyboard import CENTRES_U, IS_BLACK, LOWEST_PITCH

Floats = NDArray[np.float64]

# Of the right hand, thumb to little finger: fingertips from the middle one, in whites.
TIP_U = np.array([-2.1, -0.95, 0.0, 0.95, 1.9])
TIP_Y = np.array([1.25, 0.15, 0.0, 0.2, 0.75])
_MIDDLE = 2


@dataclass(frozen=True)
class HandMotion:
    """One hand over time: fingertips (T, 5, 3) as u, y and height, and the middle (T, 2) as u, y.

    `side` is -1 for the left hand, 1 for the right.
    """

    side: int
    tips: Floats
    middle: Floats


MoveHand = Callable[..., HandMotion]
"""Moves one hand to play its presses, as `reach_out` does."""


def move_hands(
    rng: Random, presses: list[Press], times_s: Floats, look: Look, rest_u: tuple[float, float],
    *, move: MoveHand,
) -> list[HandMotion]:  # fmt: skip
    """Return how both hands move to play presses, at given times; a hand without any rests."""
    return [
        move(
            rng, [p for p in presses if p.hand == hand], times_s, look,
            hand=hand, rest_u=rest_u[hand],
        )
        for hand in (0, 1)
    ]  # fmt: skip


def reach_out(
    rng: Random, presses: list[Press], times_s: Floats, look: Look, *, hand: int, rest_u: float
) -> HandMotion:
    """Return how a hand, 0 left or 1 right, moves whose fingers reach for each key."""
    side = 1 if hand else -1
    order = np.arange(5) if hand else np.arange(5)[::-1]
    size = look.hand_size
    tip_u = (side * TIP_U * size)[order] if not hand else TIP_U * size
    tip_y = TIP_Y[order] if not hand else TIP_Y
    # From here on, fingers are numbered from left to right.
    fingers, centres = fingering(rng, presses, tip_u)
    middle_u = _glide(times_s, [p.bottom_s for p in presses], centres, rest_u)
    wander = np.cumsum(rng.normal(0, 0.03, len(times_s)))
    reach = rng.uniform(3.0, 5.6) + 0.8 * np.tanh(wander - wander.mean())
    reach = reach + away(rng, presses, times_s)
    middle = np.stack([middle_u, reach], axis=1)

    tips = np.empty((len(times_s), 5, 3))
    hover = look.hover * rng.uniform(0.4, 1.3, 5)
    jitter = np.cumsum(rng.normal(0, 0.02, (len(times_s), 5, 3)), axis=0)
    jitter = np.tanh(jitter - jitter.mean(axis=0)) * np.array([0.25, 0.3, 0.15])
    tips[..., 0] = middle_u[:, None] + tip_u + jitter[..., 0]
    tips[..., 1] = reach[:, None] + tip_y + jitter[..., 1]
    over = np.where(tips[..., 1] < look.black_length + 0.4, look.black_height, 0.0)
    tips[..., 2] = over + hover + jitter[..., 2]
    for press, finger in zip(presses, fingers, strict=True):
        _press(rng, press, times_s, look, tip=tips[:, finger], natural_y=reach + tip_y[finger])
    for at_s in times_s[0] + np.cumsum(rng.exponential(1 / max(look.feints, 1e-3), 20)):
        feint(rng, times_s, tips[:, int(rng.integers(5))], float(at_s))
    return HandMotion(side, tips, middle)


def away(rng: Random, presses: list[Press], times_s: Floats) -> Floats:
    """Return how far off the keys a hand still is that comes to play, or is again when done."""
    away = np.zeros_like(times_s)
    if not presses:
        return away
    first, last = min(p.bottom_s for p in presses), max(p.release_s for p in presses)
    far = rng.uniform(3, 8)
    if rng.random() < 0.3:
        away += far * np.clip((first - 0.12 - times_s) / rng.uniform(0.15, 0.6), 0, 1)
    if rng.random() < 0.3:
        away += far * np.clip((times_s - last - 0.1) / rng.uniform(0.15, 0.6), 0, 1)
    return away


def feint(rng: Random, times_s: Floats, tip: Floats, at_s: float) -> None:
    """Move a fingertip (T, 3) as if to play, and back, without touching a key."""
    share = np.clip(1 - np.abs(times_s - at_s) / rng.uniform(0.05, 0.2), 0, 1)[:, None]
    tip += share * rng.normal(0, [0.25, 0.5, 0.1])
    tip[:, 2] = np.maximum(tip[:, 2], 0.1)


def _press(
    rng: Random, press: Press, times_s: Floats, look: Look, *, tip: Floats, natural_y: Floats
) -> None:
    """Move a fingertip (T, 3) onto a key, down with it, and off again."""
    key = press.pitch - LOWEST_PITCH
    black = bool(IS_BLACK[key])
    y = float(np.interp(press.bottom_s, times_s, natural_y))
    if black:
        y = float(np.clip(y - 1.2, 1.8, look.black_length - 0.25)) + rng.normal(0, 0.15)
        top, depth = look.black_height, look.black_depth
    else:
        # Into the gaps between the blacks only when the hand is that far in.
        inside = y < look.black_length - 0.4 and rng.random() < 0.5
        low = 2.8 if inside else look.black_length + 0.25
        y = float(np.clip(y, low, look.white_length - 0.3))
        top, depth = 0.0, look.white_depth
    u = float(CENTRES_U[key]) + rng.normal(0, 0.1)
    begin = press.bottom_s - press.travel_s
    approach = float(rng.uniform(0.04, 0.14))
    end = press.release_s + press.rise_s
    leave = float(rng.uniform(0.03, 0.12))
    share = np.interp(times_s, [begin - approach, begin, press.release_s, end + leave],
                      [0.0, 1.0, 1.0, 0.0])  # fmt: skip
    down = depth_at(press, times_s) * depth
    target = np.stack(
        [np.full_like(times_s, u), np.full_like(times_s, y), top - down + 0.12], axis=1
    )
    tip[:] = (1 - share[:, None]) * tip + share[:, None] * target


def depth_at(press: Press, times_s: Floats) -> Floats:
    """Return how far down a key is, 0 to 1."""
    down = np.clip((times_s - press.bottom_s) / press.travel_s + 1, 0, 1)
    up = np.clip((times_s - press.release_s) / press.rise_s, 0, 1)
    return np.asarray(down**1.5 * (1 - up**0.8))


def fingering(
    rng: Random, presses: list[Press], tip_u: Floats, stretch: float = np.inf
) -> tuple[list[int], list[float]]:
    """Choose a finger for each press, and where the middle of the hand then is.

    No finger then is more than `stretch` beside where it lies by itself.
    """
    fingers: list[int] = []
    centres: list[float] = []
    centre = float("nan")
    for i, press in enumerate(presses):
        u = float(CENTRES_U[press.pitch - LOWEST_PITCH])
        busy = {
            fingers[j]: float(CENTRES_U[presses[j].pitch - LOWEST_PITCH])
            for j in range(max(0, i - 10), i)
            if presses[j].release_s > press.bottom_s - 0.02
        }
        # Fingers do not cross those that are down.
        free = [
            f for f in range(5)
            if f not in busy and all((f - g) * (u - v) > 0 for g, v in busy.items() if v != u)
        ]  # fmt: skip
        free = free or [f for f in range(5) if f not in busy] or [0]
        if not busy and (np.isnan(centre) or abs(u - centre) > 2.4):
            finger = int(rng.choice(free))
            centre = u - tip_u[finger]
        else:
            if np.isnan(centre):
                centre = u - tip_u[_MIDDLE]
            finger = min(free, key=lambda f: abs(u - centre - tip_u[f]))
            beside = u - centre - tip_u[finger]
            centre += float(np.copysign(max(0.35 * abs(beside), abs(beside) - stretch), beside))
        fingers.append(finger)
        centres.append(centre)
    return fingers, centres


def _glide(times_s: Floats, at_s: list[float], where: list[float], rest: float) -> Floats:
    """Return a smooth path that has been at given places at given times."""
    if not at_s:
        return np.full_like(times_s, rest)
    path = np.interp(times_s, at_s, where)
    step = max(1, round(0.12 / max(times_s[1] - times_s[0], 1e-3)))
    kernel = np.hanning(2 * step + 1)
    padded = np.pad(path, step, mode="edge")
    return np.asarray(np.convolve(padded, kernel / kernel.sum(), mode="valid"))
