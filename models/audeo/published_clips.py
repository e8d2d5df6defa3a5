"""Rendered clips of whole keyboards as Audeo's networks as published see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.audeo.dataset import Stored
from models.audeo.evaluation import Probabilities
from models.audeo.published import (
    FRAMES,
    HEIGHT,
    KEYS,
    ROLL_FRAMES,
    WIDTH,
    Roll2Midi,
    Video2Roll,
)
from models.audeo.published_fitting import Batch, balanced_rows, stacked
from stream.music.keyboard import KEYS as PIANO_KEYS
from stream.music.keyboard import LOWEST_PITCH
from stream.vision.opencv import load_cv2

MIDDLE = FRAMES // 2
"""By how many pictures what Video2Roll tells is late."""
VELOCITY = 0.5
"""What every note gets, since these networks tell none."""


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


def of_video2roll(network: Video2Roll) -> Probabilities:
    """Return how Video2Roll gives probabilities, as if it were not late.

    A key is struck (onset) as far as it is down (frame). At both ends of a clip the last picture
    is repeated.
    """

    def run(strips: NDArray[np.uint8], left: int) -> NDArray[np.float32]:
        return _spread(roll_of(network, strips))

    return run


def of_roll2midi(network: Roll2Midi, before: Probabilities) -> Probabilities:
    """Return how Roll2Midi corrects what `of_video2roll` says, by stretches of 100 frames.

    Of the last stretch, what goes beyond the clip is silence.
    """

    @torch.no_grad()
    def run(strips: NDArray[np.uint8], left: int) -> NDArray[np.float32]:
        found = before(strips, left)[:, 1, KEYS]
        windows = rolls_of([found])
        with torch.autocast("cpu", torch.bfloat16):
            parts = [network(window[None]) for window in windows]
        corrected = torch.cat(parts).float()[:, 0].transpose(1, 2).flatten(0, 1)
        return _spread(corrected[: len(found)].numpy())

    return run


@torch.no_grad()
def roll_of(network: Video2Roll, strips: NDArray[np.uint8], batch: int = 60) -> NDArray[np.float32]:
    """Return the probabilities (T, 51) that Video2Roll gives to strips (T, 56, 624, 3 or 4)."""
    network.eval()
    pictures = pictures_of(grey_of(strips))
    pictures = np.concatenate([pictures[:1]] * MIDDLE + [pictures] + [pictures[-1:]] * MIDDLE)
    found = []
    for begin in range(0, len(strips), batch):
        some = torch.from_numpy(pictures[begin : begin + batch + FRAMES - 1]).float() / 255
        with torch.autocast("cpu", torch.bfloat16):
            fives = stacked(some).contiguous(memory_format=torch.channels_last)
            found.append(torch.sigmoid(network(fives).float()))
    return np.concatenate([part.numpy() for part in found])


def rolls_of(rolls: Sequence[NDArray[np.floating[Any] | np.bool_]]) -> Tensor:
    """Return rolls (T, 51) cut for Roll2Midi, (n, 1, 51, 100); the last of each has silence."""
    cut = []
    for roll in rolls:
        missing = -len(roll) % ROLL_FRAMES
        whole = np.pad(roll.astype(np.float32), ((0, missing), (0, 0)))
        cut.append(whole.reshape(-1, ROLL_FRAMES, whole.shape[1]).transpose(0, 2, 1))
    return torch.from_numpy(np.ascontiguousarray(np.concatenate(cut)))[:, None]


def _spread(roll: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (T, 3, 88) of (T, 51), with 0 for keys that there are none of."""
    found = np.zeros((len(roll), 3, PIANO_KEYS), np.float32)
    found[:, :2, KEYS] = roll[:, None]
    found[:, 2, KEYS] = VELOCITY
    return found


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
