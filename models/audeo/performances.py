"""What a decoder learns from: performances of the whole keyboard, often badly seen."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
from numpy.typing import NDArray

from models.audeo.dataset import Stored, excerpt
from models.audeo.rendering.clip import render
from models.audeo.rendering.looks import TRAINING_FAMILIES, Random, draw_look
from models.audeo.rendering.performance import made_up, perform, reachable
from models.audeo.rendering.scores import Score
from stream.music.keyboard import WHITES
from stream.vision.opencv import load_cv2

PERFORMED = 777
"""Begins the seeds of performances, so that no network has learned from the same clip."""
PERFORMANCE_S = 8.0
_FEWEST_NOTES = 8


def make_performance(seed: int, scores: list[Score]) -> Stored:
    """Render the performance of a seed: all 88 keys, eight seconds, three quarters from scores.

    A third is seen as a training clip is, a third by a worse camera, a third by a worse camera and
    with strips that are not where the keys are.
    """
    rng = np.random.default_rng([PERFORMED, seed])
    look = draw_look(rng, str(rng.choice(TRAINING_FAMILIES)))
    harm = int(rng.integers(0, 3))
    look = replace(look, rate_hz=float(rng.choice([30, 30, 30, 25, 20])))
    if harm:
        look = replace(
            look,
            px_per_white=float(rng.uniform(7, 11)),
            blur_px=float(rng.uniform(0.5, 1.5)),
            noise=float(rng.uniform(1, 7)),
            jpeg_quality=int(rng.integers(12, 50)),
            camera_height=float(np.exp(rng.uniform(np.log(18), np.log(50)))),
        )
    beat_s = float(rng.uniform(0.25, 0.85))
    beats = PERFORMANCE_S / beat_s
    if scores and rng.random() < 0.75:
        while len(notes := excerpt(rng, scores, beats)[0]) < _FEWEST_NOTES:
            pass
    else:
        notes = made_up(rng, int(rng.integers(30, 50)), int(rng.integers(70, 95)), beats)
    presses = perform(rng, reachable(notes), beat_s, PERFORMANCE_S - 0.2)
    clip = render(rng, look, presses, left=0, right=WHITES, length_s=PERFORMANCE_S)
    strips = misplaced(rng, clip.strips) if harm == 2 else clip.strips
    camera_u = look.camera_u + (rng.normal(0, 2) if harm else 0)
    fields = np.array([astuple(p) for p in clip.presses], float).reshape(-1, 7)
    return Stored(strips, clip.times_s, fields, 0, look.px_per_white, camera_u)


def misplaced(rng: Random, strips: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return strips (T, 56, width, 3) as a bad grid, a bad lens, noise and a codec leave them."""
    cv2 = load_cv2("The renderer")
    height, width = strips.shape[1:3]
    column = np.arange(width, dtype=np.float32)
    along = np.pi * column / width
    shift = rng.normal(0, 2.0) * np.sin(along) + rng.normal(0, 1.0)
    shift = (shift + rng.normal(0, 0.8) * np.sin(2 * along)).astype(np.float32)
    x = np.tile(column + shift, (height, 1))
    y = np.tile(np.arange(height, dtype=np.float32)[:, None], (1, width))
    y += np.float32(rng.normal(0, 0.8))
    blur, gain, noise = rng.uniform(0.3, 2.0), rng.uniform(0.8, 1.4), rng.uniform(0.5, 7)
    sharpness = rng.uniform(0.4, 1)
    held = rng.uniform(0, 6) if rng.random() < 0.5 else 0.0
    out = np.empty(strips.shape, np.uint8)
    before: NDArray[np.float32] | None = None
    for t, strip in enumerate(strips):
        seen = cv2.remap(
            strip.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        seen = cv2.GaussianBlur(seen, (0, 0), blur)
        if sharpness < 0.8:
            size = (int(width * sharpness), int(height * sharpness))
            seen = cv2.resize(seen, size, interpolation=cv2.INTER_AREA)
            seen = cv2.resize(seen, (width, height), interpolation=cv2.INTER_LINEAR)
        seen = np.clip(seen * gain + rng.normal(0, noise, seen.shape).astype(np.float32), 0, 255)
        if held and before is not None:
            cells = (width // 8, height // 8)
            change = cv2.resize(np.abs(seen - before).max(2), cells, interpolation=cv2.INTER_AREA)
            still = (change < held * 2 + noise).astype(np.uint8)
            still = cv2.resize(still, (width, height), interpolation=cv2.INTER_NEAREST)
            seen = np.where(still[..., None] > 0, before, seen)
        before = seen
        out[t] = seen
    return out
