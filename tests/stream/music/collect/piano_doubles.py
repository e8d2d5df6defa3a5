"""A piano that is played, as a camera and as MIDI tell of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream.music.key_drawing import key_outlines
from stream.music.keyboard import CENTRES_U, IS_BLACK, KEYS, LOWEST_PITCH, WHITES, KeyGrid
from stream.music.notes import note_off, note_on

WIDTH, HEIGHT = 440, 80


@dataclass(frozen=True)
class Key:
    """A key that is down from `down_s` to `up_s`, and moved for `travel_s` before."""

    pitch: int
    down_s: float
    up_s: float
    travel_s: float = 0.0


def grid() -> KeyGrid:
    found = np.zeros((3, WHITES + 1, 2), np.float32)
    found[..., 0] = np.linspace(12, 428, WHITES + 1)
    found[..., 1] = np.array([10, 45, 65])[:, None]
    return found


def played(notes: int, interval_s: float, seed: int = 0, travel_s: float = 0.0) -> list[Key]:
    """Keys all over the piano, one after the other, not quite regularly."""
    random = np.random.default_rng(seed)
    begins = 0.5 + interval_s * (np.arange(notes) + random.uniform(-0.2, 0.2, notes))
    return [
        Key(int(random.integers(24, 106)), float(at), float(at + 0.7 * interval_s), travel_s)
        for at in begins
    ]


def midi(keys: list[Key]) -> list[tuple[float, tuple[int, int, int]]]:
    """The messages of what is played, by time in seconds."""
    messages = [(key.down_s, note_on(key.pitch, 70)) for key in keys]
    messages += [(key.up_s, note_off(key.pitch)) for key in keys]
    return sorted(messages)


class Camera:
    """Sees the piano from above, with noise, and a hand that follows what is played."""

    def __init__(self, keys: list[Key], seed: int = 0) -> None:
        import cv2

        self._cv2 = cv2
        self._keys = keys
        self._random = np.random.default_rng(seed)
        self._outlines = [
            np.round(corners * 16).astype(np.int32) for corners in key_outlines(grid())
        ]
        self._still = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
        for key in sorted(range(KEYS), key=lambda key: bool(IS_BLACK[key])):
            self._draw(self._still, key, 0.0)

    def frame(self, time_s: float) -> np.ndarray:
        """What it sees at a time."""
        picture = self._still.copy()
        near = [key for key in self._keys if key.down_s - 0.5 <= time_s <= key.up_s]
        for key in near:
            depth = (time_s - key.down_s) / max(key.travel_s, 1e-6) + 1
            self._draw(picture, key.pitch - LOWEST_PITCH, float(np.clip(depth, 0, 1)))
        # The hand is over a key well before it goes down, and stays there as long.
        goes_s = [at for key in self._keys for at in (key.down_s - 0.12, key.up_s)]
        places = [float(CENTRES_U[key.pitch - LOWEST_PITCH]) for key in self._keys for _ in "ab"]
        x = 12 + 8 * float(np.interp(time_s, goes_s, places)) if places else -50
        self._cv2.ellipse(
            picture, (round(16 * x), 16 * 78), (16 * 9, 16 * 24), 0, 0, 360, (120, 160, 210), -1,
            self._cv2.LINE_AA, 4,
        )  # fmt: skip
        noise = self._random.integers(-3, 4, picture.shape, np.int16)
        return np.clip(picture.astype(np.int16) + noise, 0, 255).astype(np.uint8)

    def _draw(self, picture: np.ndarray, key: int, depth: float) -> None:
        outline = [self._outlines[key]]
        level = 35 + 30 * depth if IS_BLACK[key] else 235 - 40 * depth
        self._cv2.fillPoly(picture, outline, (level,) * 3, self._cv2.LINE_AA, 4)
        self._cv2.polylines(picture, outline, True, (90, 90, 90), 1, self._cv2.LINE_AA, 4)
