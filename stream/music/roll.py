"""Draws a piano roll: the notes of the last seconds, rising from where their keys are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream.music.heard import Heard
from stream.music.key_drawing import BLACK_LIT, WHITE_LIT, Colour
from stream.music.keyboard import (
    BLACK_WIDTH_U,
    CENTRES_U,
    IS_BLACK,
    KEYS,
    LOWEST_PITCH,
    WHITES,
    KeyGrid,
)
from stream.units import to_ns
from stream.vision.frames import Frame

SHOWN_NS = to_ns(4.0)
"""How far back the roll goes."""

_GROUND: Colour = (40, 34, 31)
_BLACK_LANE: Colour = (31, 26, 24)
_OCTAVE: Colour = (74, 65, 58)
_SECOND: Colour = (62, 54, 48)
_NOW: Colour = (150, 135, 120)
_SUSTAINED = 0.35
_SECOND_NS = to_ns(1.0)
_FIRST_C = 2
_MARGIN = 0.02


class Roll:
    """Draws into pictures of one size; time goes up, the newest is at the lower edge."""

    def __init__(self, height: int, width: int) -> None:
        self._height, self._width = height, width
        self._lines: NDArray[np.float64] = np.empty(0)
        self._place(np.linspace(_MARGIN, 1 - _MARGIN, WHITES + 1) * width)

    def draw(
        self, picture: Frame, notes: Sequence[Heard], time_ns: int, grid: KeyGrid | None
    ) -> None:
        """Draw the notes as they are at a time.

        They stand above their keys once a grid has said where these are in the frames, and over
        the whole width before. Those of keys that no piano has are left out.
        """
        if grid is not None and (lines := _across(grid)) is not None:
            self._place(lines)
        picture[:] = self._ground
        first = -(-(time_ns - SHOWN_NS) // _SECOND_NS)
        for second in range(first, time_ns // _SECOND_NS + 1):
            row = self._row(second * _SECOND_NS, time_ns)
            self._fill(picture, (0, self._width), (row - 0.5, row + 0.5), _SECOND)
        begun = [n for n in notes if n.on_ns <= time_ns and 0 <= n.pitch - LOWEST_PITCH < KEYS]
        # The blacks lie over the whites beside them.
        for note in sorted(begun, key=lambda note: bool(IS_BLACK[note.pitch - LOWEST_PITCH])):
            self._note(picture, note, time_ns)
        picture[-1:] = _NOW

    def _place(self, lines: NDArray[np.float64]) -> None:
        """Put the lines between the whites there, and draw what stands still."""
        if np.array_equal(lines, self._lines):
            return
        self._lines = lines
        half = np.where(IS_BLACK, BLACK_WIDTH_U / 2, 0.44)[:, None]
        u = CENTRES_U[:, None] + half * np.array([-1, 1])
        self._edges = np.sort(np.interp(u, np.arange(WHITES + 1), lines), axis=1)
        self._ground = np.full((self._height, self._width, 3), _GROUND, np.uint8)
        for left, right in self._edges[IS_BLACK]:
            self._fill(self._ground, (left, right), (0, self._height), _BLACK_LANE)
        for line in lines[_FIRST_C::7]:
            self._fill(self._ground, (line - 0.5, line + 0.5), (0, self._height), _OCTAVE)

    def _note(self, picture: Frame, note: Heard, time_ns: int) -> None:
        colour = BLACK_LIT if IS_BLACK[note.pitch - LOWEST_PITCH] else WHITE_LIT
        struck, released, silent = (
            self._row(time_ns if at_ns is None else min(at_ns, time_ns), time_ns)
            for at_ns in (note.on_ns, note.off_ns, note.end_ns)
        )
        left, right = self._edges[note.pitch - LOWEST_PITCH]
        inset = 0.2 * (right - left)
        self._fill(picture, (left + inset, right - inset), (released, silent), colour, _SUSTAINED)
        # A little shorter, so that what is struck again is seen to be.
        begin = min(struck + 1, released - 1)
        self._fill(picture, (left, right), (begin, released), colour, 0.6 + note.velocity / 320)

    def _fill(
        self,
        picture: Frame,
        across: tuple[float, float],
        down: tuple[float, float],
        colour: Colour,
        opacity: float = 1.0,
    ) -> None:
        """Fill a rectangle whose sides may lie between pixels."""
        (columns, x), (rows, y) = _covered(across, self._width), _covered(down, self._height)
        part = picture[rows, columns]
        if not part.size:
            return
        share = opacity * y[:, None, None] * x[None, :, None]
        part[:] = np.round(part + share * (np.array(colour) - part)).astype(np.uint8)

    def _row(self, at_ns: int, time_ns: int) -> float:
        return self._height * (1 - (time_ns - at_ns) / SHOWN_NS)


def _covered(span: tuple[float, float], size: int) -> tuple[slice, NDArray[np.float64]]:
    """Return the pixels that a span touches, and how much of each it covers."""
    low, high = max(0.0, float(span[0])), min(float(size), float(span[1]))
    first, last = int(np.floor(low)), max(int(np.floor(low)), int(np.ceil(high)))
    pixels = np.arange(first, last)
    return slice(first, last), np.clip(
        np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0.0, 1.0
    )


def _across(grid: KeyGrid) -> NDArray[np.float64] | None:
    """Return where the lines between the whites are across a picture; None if they go down it."""
    x, y = grid[0].T.astype(np.float64)
    seen = np.flatnonzero(np.isfinite(x))
    if len(seen) < 2 or abs(np.ptp(x[seen])) < abs(np.ptp(y[seen])):
        return None
    fitted = np.polyval(np.polyfit(seen, x[seen], 1), np.arange(WHITES + 1))
    return np.where(np.isfinite(x), x, fitted)
