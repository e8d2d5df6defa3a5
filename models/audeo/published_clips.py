"""Rendered clips of whole keyboards as Audeo's networks as published see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.audeo.dataset import Stored
from models.audeo.published import FRAMES, HEIGHT, KEYS, WIDTH
from models.audeo.published_fitting import Batch, balanced_rows
from stream.music.keyboard import LOWEST_PITCH
from stream.vision.opencv import load_cv2

MIDDLE = FRAMES // 2
"""By how many pictures what Video2Roll tells is late."""


def grey_of(strips: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return strips (T, 56, 624, 3 or 4) in grey, (T, 56, 624)."""
    cv2: Any = load_cv2("Video2Roll")
    return np.stack([cv2.cvtColor(strip[..., :3], cv2.COLOR_BGR2GRAY) for strip in strips])


def pictures_of(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return grey strips (T, 56, 624) in the size that Video2Roll sees, (T, 100, 900)."""
    cv2: Any = load_cv2("Video2Roll")
    return np.stack([cv2.resize(g, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for g in grey])


def down_in(clip: Stored) -> NDArray[np.bool_]:
    """Return which of the 51 keys are down in each frame, (T, 51): from bottom to release."""
    down = np.zeros((len(clip.times_s), KEYS.stop - KEYS.start), bool)
    for pitch, bottom, release, *_ in clip.presses:
        key = int(pitch) - LOWEST_PITCH - KEYS.start
        if 0 <= key < down.shape[1]:
            down[(clip.times_s >= bottom) & (clip.times_s < release), key] = True
    return down


class Fives:
    """Batches of five pictures from clips, drawn anew each time they are gone through.

    As published, they are drawn so that each key, and silence, comes up equally often.
    """

    def __init__(self, clips: Sequence[Stored], batches: int, rows: int, seed: int) -> None:
        self._grey = [grey_of(clip.strips) for clip in clips]
        down = [down_in(clip)[MIDDLE : len(clip.strips) - MIDDLE] for clip in clips]
        self._keys = np.concatenate(down)
        self._places = [(i, t) for i, keys in enumerate(down) for t in range(len(keys))]
        self._random = np.random.default_rng(seed)
        self._batches, self._rows = batches, rows

    def __iter__(self) -> Iterator[Batch]:
        """Yield that many batches of that many rows."""
        drawn = balanced_rows(self._keys, self._batches * self._rows, self._random)
        for rows in drawn.reshape(self._batches, self._rows):
            places = [self._places[row] for row in rows]
            frames = [pictures_of(self._grey[i][t : t + FRAMES]) for i, t in places]
            keys = torch.from_numpy(self._keys[rows]).float()
            yield torch.from_numpy(np.stack(frames)).float() / 255, keys
