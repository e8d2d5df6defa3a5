"""Numbers as colours and blocks in a terminal."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from rich.style import Style
from rich.text import Text

# From dark to light, close to the map 'inferno'.
_ANCHORS = (
    (0, 0, 4),
    (66, 10, 104),
    (147, 38, 103),
    (221, 81, 58),
    (252, 165, 10),
    (252, 255, 164),
)
_LEVELS = 16
_SHADES = (" ░▒▓█", " .:*#")
_BARS = ("▁▂▃▄▅▆▇█", "_.-=*#")


def heat_strip(
    rows: NDArray[np.float64], width: int, lines: int, *, top: float, colour: bool, unicode: bool
) -> Text:
    """Draw one line of cells for each moment, the newest at the bottom, one cell for some units.

    Parameters
    ----------
    rows
        (moments, units), oldest first.
    width, lines
        Size in characters. With colours and Unicode, a line holds two moments.
    top
        The value of the lightest colour; the darkest stands for 0.
    colour, unicode
        What the terminal can show.
    """
    per_line = 2 if colour and unicode else 1
    cells = fold(rows[-lines * per_line :], width)
    scaled = np.clip(np.nan_to_num(cells / top, nan=0.0, posinf=1.0), 0, 1)
    if per_line == 1:
        shades = _SHADES[0 if unicode else 1]
        levels = np.rint(scaled * (len(shades) - 1)).astype(int)
        return Text("\n".join("".join(shades[i] for i in row) for row in levels), no_wrap=True)
    levels = np.rint(scaled * (_LEVELS - 1)).astype(int)
    if len(levels) % 2:
        levels = np.vstack([np.zeros_like(levels[:1]), levels])
    strip = Text(no_wrap=True)
    for number in range(0, len(levels), 2):
        if number:
            strip.append("\n")
        pairs = levels[number] * _LEVELS + levels[number + 1]
        starts = np.flatnonzero(np.diff(pairs, prepend=-1))
        for start, stop in zip(starts, (*starts[1:], len(pairs)), strict=True):
            above, below = divmod(int(pairs[start]), _LEVELS)
            strip.append("▀" * int(stop - start), _style(above, below))
    return strip


def fold(rows: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Fit (moments, units) into at most `width` columns.

    Neighbours are averaged where there are too many units; where there are few, each gets several
    columns.
    """
    units = rows.shape[1]
    if units <= width:
        return np.repeat(rows, width // units, axis=1)
    starts = np.linspace(0, units, width + 1).astype(int)
    means: NDArray[np.float64] = np.add.reduceat(rows, starts[:-1], axis=1) / np.diff(starts)
    return means


def sparkline(values: NDArray[np.float64], unicode: bool) -> str:
    """Draw a short curve, from its own smallest to its own largest value."""
    bars = _BARS[0 if unicode else 1]
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    scaled = (np.clip(np.nan_to_num(values, nan=low), low, high) - low) / ((high - low) or 1.0)
    levels = np.rint(scaled * (len(bars) - 1)).astype(int)
    return "".join(bars[i] for i in levels)


@cache
def _style(above: int, below: int) -> Style:
    return Style(color=_hex(above), bgcolor=_hex(below))


def _hex(level: int) -> str:
    place = level / (_LEVELS - 1) * (len(_ANCHORS) - 1)
    low = min(int(place), len(_ANCHORS) - 2)
    part = place - low
    mixed = (
        round(a + (b - a) * part) for a, b in zip(_ANCHORS[low], _ANCHORS[low + 1], strict=True)
    )
    return "#" + "".join(f"{value:02x}" for value in mixed)
