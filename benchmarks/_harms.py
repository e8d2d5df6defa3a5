"""What can happen to a camera over a piano: harms of its pictures, at known strengths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.music.keyboard import KeyGrid
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2

FROM_S = 2.0
"""When harm begins: the keyboard has been found by then."""

Timed = tuple[float, Frame]
Harm = Callable[[float, int, Frame], Frame | None]
"""From time in s and number of a picture to what comes of it; None where it does not come."""

_HEIGHT_U = 6.3


@dataclass(frozen=True)
class Board:
    """Where the keys lie in the undisturbed pictures.

    Attributes
    ----------
    along, across
        x, y in pixels of one white key along the keyboard, and of as much towards the player.
    far_left
        x, y in pixels of the far end of the left edge of A0.
    """

    along: NDArray[np.float64]
    across: NDArray[np.float64]
    far_left: NDArray[np.float64]

    @classmethod
    def of(cls, grid: KeyGrid) -> Board:
        """Return what a grid says, of which all lines are in view."""
        far, near = grid[0].astype(float), grid[2].astype(float)
        along = (far[-1] - far[0]) / (len(far) - 1)
        deep = (near - far).mean(axis=0) / _HEIGHT_U
        return cls(along, deep, far[0])


def harmed(frames: Iterable[Timed], harm: Harm) -> Iterator[Timed]:
    """Return what a camera gives of pictures when harm comes to it."""
    for number, (time_s, frame) in enumerate(frames):
        shown = frame if time_s < FROM_S else harm(time_s - FROM_S, number, frame)
        if shown is not None:
            yield time_s, shown


def nothing(time_s: float, number: int, frame: Frame) -> Frame:
    """Leave it as it is."""
    return frame


def _moved(board: Board, frame: Frame, along: float, across: float) -> Frame:
    by = along * board.along + across * board.across
    way = np.array([[1.0, 0.0, by[0]], [0.0, 1.0, by[1]]])
    cv2: Any = load_cv2("The benchmark")
    size = frame.shape[1], frame.shape[0]
    moved = cv2.warpAffine(frame, way, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def _to_and_fro(distance: float, most: float) -> float:
    """Return where somebody is who goes to `most` and back, to `-most` and back, and so on."""
    at = (distance + most) % (4 * most)
    return min(at, 4 * most - at) - most


def drift(board: Board, speed: float, time_s: float, number: int, frame: Frame) -> Frame:
    """Let the camera glide along the keyboard, whites/s, at most two whites to either side."""
    return _moved(board, frame, _to_and_fro(speed * time_s, 2.0), 0.0)


def drift_across(board: Board, speed: float, time_s: float, number: int, frame: Frame) -> Frame:
    """Let it glide towards the player and back, whites/s, at most two whites."""
    return _moved(board, frame, 0.0, _to_and_fro(speed * time_s, 2.0))


def shake(board: Board, size: float, time_s: float, number: int, frame: Frame) -> Frame:
    """Let it tremble at 4 Hz, by so many whites to either side."""
    along, across = np.sin(2 * np.pi * 4.0 * time_s), np.sin(2 * np.pi * 3.1 * time_s)
    return _moved(board, frame, size * along, size * across)


def push(board: Board, size: float, time_s: float, number: int, frame: Frame) -> Frame:
    """Push it aside by so many whites, and back after 3 s."""
    return _moved(board, frame, size * (int(time_s / 3) % 2), 0.0)


def _lit(frame: Frame, light: Any) -> Frame:
    return np.asarray(np.clip(frame * light + 0.5, 0, 255), np.uint8)


def flicker(board: Board, size: float, time_s: float, number: int, frame: Frame) -> Frame:
    """Light it by a lamp on mains of 50.2 Hz, read row by row in 25 ms."""
    rows = np.arange(frame.shape[0]) / frame.shape[0]
    light = 1 + size * np.sin(2 * np.pi * 100.4 * (time_s + 0.025 * rows))
    return _lit(frame, light[:, None, None].astype(np.float32))


def hunting(board: Board, size: float, time_s: float, number: int, frame: Frame) -> Frame:
    """Let the exposure hunt: brighter and darker, 1.5 times a second, in steps of two frames."""
    step_s = np.floor(time_s * 15) / 15
    return _lit(frame, np.float32(1 + size * np.sin(2 * np.pi * 1.5 * step_s)))


def lamp(board: Board, size: float, time_s: float, number: int, frame: Frame) -> Frame:
    """Switch a warm lamp at the left on and off, every 1.5 s."""
    if int(time_s / 1.5) % 2:
        return frame
    x = np.linspace(1.5, 0.5, frame.shape[1], dtype=np.float32)
    warm = np.array([0.7, 1.0, 1.15], np.float32)
    return _lit(frame, 1 + size * x[None, :, None] * warm)


def shadow(board: Board, depth: float, time_s: float, number: int, frame: Frame) -> Frame:
    """Let the soft shadow of a head wander over the keys, 12 whites a second."""
    width = float(np.linalg.norm(board.along))
    x = (np.arange(frame.shape[1]) - board.far_left[0]) / width
    at = 26 + 20 * _to_and_fro(0.6 * time_s, 1.0)
    light = 1 - depth * np.exp(-(((x - at) / 5) ** 4))
    return _lit(frame, light[None, :, None].astype(np.float32))


def covered(board: Board, share: float, time_s: float, number: int, frame: Frame) -> Frame:
    """Lay a sheet of paper over so many of the keys for 3 s in 5, from the right, within 0.2 s."""
    at = time_s % 5 - 1
    there = float(np.clip(min(at, 3.2 - at) / 0.2, 0, 1))
    if there == 0:
        return frame
    corner = board.far_left + board.along * (54 - 56 * share * there) - 2 * board.across
    far = corner + board.along * 90
    deep = board.across * 14
    sheet = np.stack([corner, far, far + deep, corner + deep])
    cv2: Any = load_cv2("The benchmark")
    shown = frame.copy()
    cv2.fillConvexPoly(shown, np.round(sheet).astype(np.int32), (190, 200, 205))
    return shown


def blur(board: Board, sigma: float, time_s: float, number: int, frame: Frame) -> Frame:
    """Lose the focus for 1 s in 2.5, by so many whites."""
    if time_s % 2.5 > 1:
        return frame
    cv2: Any = load_cv2("The benchmark")
    pixels = sigma * float(np.linalg.norm(board.along))
    return np.asarray(cv2.GaussianBlur(frame, (0, 0), pixels), np.uint8)


def slower(board: Board, rate_hz: float, time_s: float, number: int, frame: Frame) -> Frame | None:
    """Let only so many frames of the 30 a second through."""
    return frame if number % round(30 / rate_hz) == 0 else None


def losing(board: Board, share: float, time_s: float, number: int, frame: Frame) -> Frame | None:
    """Lose so many of the frames, here and there."""
    return None if np.random.default_rng(number).random() < share else frame


class Stuck:
    """A camera that shows the same picture for so long, once in 3 s."""

    def __init__(self, board: Board, seconds: float) -> None:
        self._seconds = seconds
        self._held: Frame | None = None

    def __call__(self, time_s: float, number: int, frame: Frame) -> Frame:
        """Return the picture that is shown."""
        if time_s % 3 > self._seconds or self._held is None:
            self._held = frame
        return self._held


HARMS: tuple[tuple[str, str, Callable[..., Any], tuple[float, ...]], ...] = (
    ("camera drifts along", "whites/s", drift, (0.1, 0.25, 0.5, 1.0, 2.0)),
    ("camera drifts across", "whites/s", drift_across, (0.25, 1.0)),
    ("camera trembles", "whites", shake, (0.05, 0.1, 0.2)),
    ("camera is pushed", "whites", push, (0.3, 1.0, 3.0)),
    ("light flickers", "of it", flicker, (0.03, 0.1, 0.2)),
    ("exposure hunts", "of it", hunting, (0.05, 0.15, 0.3)),
    ("lamp is switched", "of light", lamp, (0.1, 0.3, 0.6)),
    ("shadow wanders", "of light", shadow, (0.2, 0.5)),
    ("sheet covers", "of the keys", covered, (0.3, 0.7)),
    ("focus is lost", "whites", blur, (0.1, 0.3)),
    ("frames", "a second", slower, (15.0, 10.0, 5.0)),
    ("frames are lost", "of them", losing, (0.2, 0.5)),
    ("picture stands still", "s", Stuck, (0.5, 1.5)),
)
"""Each kind of harm, the unit of its strength, what does it, and strengths."""


def harms() -> Iterator[tuple[str, str, Callable[[Board], Harm]]]:
    """Return kind and strength of each harm, and what makes it for a keyboard; first none."""
    yield "none", "", lambda board: nothing
    for kind, unit, what, strengths in HARMS:
        for strength in strengths:
            yield kind, f"{strength:g} {unit}", partial(_made, what, strength)


def _made(what: Callable[..., Any], strength: float, board: Board) -> Harm:
    if isinstance(what, type):
        made: Harm = what(board, strength)
        return made
    return partial(what, board, strength)
