"""Hands that lie loosely over the keys: a key goes down where a finger already is.

Fingers spread like a fan, some bent and some stretched, and rest on blacks and whites that they do
not play. The hand goes in and out so that a finger reaches what it is to play, and leaps late.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.audeo.rendering.hands import (
    TIP_U,
    TIP_Y,
    HandMotion,
    away,
    depth_at,
    feint,
    fingering,
)
from models.audeo.rendering.looks import Look
from models.audeo.rendering.performance import Press, Random
from stream.music.keyboard import CENTRES_U, IS_BLACK, LOWEST_PITCH

Floats = NDArray[np.float64]

_USUAL_REACH = (3.0, 5.2)
_FARTHEST_IN = 1.2
_BESIDE_BLACK = 0.2
"""How far from the front end of a black key a fingertip is at least."""


def lie_loosely(
    rng: Random, presses: list[Press], times_s: Floats, look: Look, *, hand: int, rest_u: float
) -> HandMotion:
    """Return how a hand, 0 left or 1 right, moves whose fingers lie over the keys."""
    side = 1 if hand else -1
    order = slice(None, None, side)
    tip_u = (side * TIP_U * look.hand_size * rng.uniform(0.9, 1.3))[order]
    tip_y = (TIP_Y * rng.uniform(0.7, 1.4) + rng.normal(0, 0.3, 5))[order]
    # From here on, fingers are numbered from left to right.
    fingers, centres = fingering(rng, presses, tip_u, stretch=0.7)
    if presses:
        reach = _reaches(rng, presses, fingers, tip_y, look)
        at_s = np.array([p.bottom_s for p in presses])
        middle = _leap(rng, times_s, at_s, np.stack([centres, reach], axis=1))
    else:
        middle = np.tile([rest_u, rng.uniform(*_USUAL_REACH)], (len(times_s), 1))
    middle[:, 1] += away(rng, presses, times_s)
    middle += 0.08 * _wander(rng, times_s, 0.3, 2)

    tips = np.empty((len(times_s), 5, 3))
    spread = 1 + 0.1 * _wander(rng, times_s, 0.8, 1)
    tips[..., 0] = middle[:, :1] + tip_u * spread + 0.1 * _wander(rng, times_s, 0.25, 5)
    bent = rng.uniform(0.05, 0.35) * _wander(rng, times_s, float(rng.uniform(0.2, 0.8)), 5)
    tips[..., 1] = middle[:, 1:] + tip_y + bent
    over = np.where(tips[..., 1] < look.black_length + 0.2, look.black_height, 0.0)
    tips[..., 2] = over + look.hover * rng.uniform(0.1, 1.0, 5)
    for press, finger in zip(presses, fingers, strict=True):
        _press(rng, press, times_s, look, tips[:, finger])
    for at_s in times_s[0] + np.cumsum(rng.exponential(1 / max(look.feints, 1e-3), 20)):
        feint(rng, times_s, tips[:, int(rng.integers(5))], float(at_s))
    return HandMotion(side, tips, middle)


def _reaches(
    rng: Random, presses: list[Press], fingers: list[int], tip_y: Floats, look: Look
) -> Floats:
    """Return how far in the hand is for each press (n,), so that its finger comes to the key.

    `tip_y` (5,) is how much nearer than the middle of the hand each fingertip lies.
    """
    usual = rng.uniform(*_USUAL_REACH)
    reach = usual
    out = np.empty(len(presses))
    for i, (press, finger) in enumerate(zip(presses, fingers, strict=True)):
        reach += 0.3 * (usual - reach) + rng.normal(0, 0.15)
        y = reach + tip_y[finger]
        reach += _on_key(y, press, look) - y
        out[i] = reach
    return out


def _leap(rng: Random, times_s: Floats, at_s: Floats, where: Floats) -> Floats:
    """Return a smooth path (T, n) that is at places (k, n) at given times (k,).

    On the way from one to the next it either moves all the time, or stays and leaps late.
    """
    knots_s, knots = [at_s[0]], [where[0]]
    for begin, end, here, there in zip(at_s[:-1], at_s[1:], where[:-1], where[1:], strict=True):
        takes_s = rng.uniform(0.05, 0.3)
        if end - begin > takes_s and rng.random() < 0.6:
            knots_s.append(end - takes_s)
            knots.append(here)
        knots_s.append(end)
        knots.append(there)
    half = max(1, round(rng.uniform(0.03, 0.1) / max(times_s[1] - times_s[0], 1e-3)))
    kernel = np.hanning(2 * half + 1)
    kernel /= kernel.sum()
    columns = [
        np.convolve(np.pad(np.interp(times_s, knots_s, column), half, mode="edge"), kernel, "valid")
        for column in np.stack(knots, axis=1)
    ]
    return np.stack(columns, axis=1)


def _wander(rng: Random, times_s: Floats, every_s: float, count: int) -> Floats:
    """Return slow random movement (T, count) of deviation one, about as fast as given."""
    length_s = times_s[-1] - times_s[0]
    knots_s = times_s[0] + np.arange(0, length_s + 2 * every_s, every_s)
    columns = [np.interp(times_s, knots_s, rng.normal(0, 1, len(knots_s))) for _ in range(count)]
    return np.stack(columns, axis=1)


def _press(rng: Random, press: Press, times_s: Floats, look: Look, tip: Floats) -> None:
    """Let a fingertip (T, 3) play a key with little movement, mostly its own lift before."""
    black = bool(IS_BLACK[press.pitch - LOWEST_PITCH])
    natural = float(np.interp(press.bottom_s, times_s, tip[:, 1]))
    y = _on_key(natural + rng.normal(0, 0.12), press, look)
    u = float(CENTRES_U[press.pitch - LOWEST_PITCH]) + rng.normal(0, 0.12)
    top, deep = (look.black_height, look.black_depth) if black else (0.0, look.white_depth)
    begin = press.bottom_s - press.travel_s
    comes_s, leaves_s = rng.uniform(0.04, 0.14), rng.uniform(0.03, 0.2)
    share = np.interp(
        times_s, [begin - comes_s, begin, press.release_s, press.release_s + leaves_s], [0, 1, 1, 0]
    )[:, None]
    z = top - depth_at(press, times_s) * deep + 0.12
    target = np.stack([np.full_like(z, u), np.full_like(z, y), z], axis=1)
    tip[:] = (1 - share) * tip + share * target
    # A finger that is lifted is bent, so that its tip comes nearer.
    off_s = np.abs(times_s - begin + rng.uniform(0.02, 0.1))
    lift = rng.uniform(0, 0.4) * np.clip(1 - off_s / rng.uniform(0.04, 0.12), 0, 1)
    tip[:, 1:] += lift[:, None]


def _on_key(y: float, press: Press, look: Look) -> float:
    """Return the place on a key that is next to y: whites are also played between the blacks."""
    if IS_BLACK[press.pitch - LOWEST_PITCH]:
        return float(np.clip(y, _FARTHEST_IN, look.black_length - _BESIDE_BLACK))
    y = float(np.clip(y, _FARTHEST_IN, look.white_length - 0.35))
    beside = look.black_length
    if abs(y - beside) < _BESIDE_BLACK:
        return beside + _BESIDE_BLACK
    return y
