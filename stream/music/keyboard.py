"""The 88 keys of a piano, where they lie, and the packets that say where a picture shows them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError
from stream.node import StreamSpec

LOWEST_PITCH, HIGHEST_PITCH = 21, 108
"""MIDI pitches of the outer keys, A0 and C8."""

PITCHES = tuple(range(LOWEST_PITCH, HIGHEST_PITCH + 1))
KEYS = len(PITCHES)
WHITES = 52

_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# In whites from the left edge of C. Makers shift the blacks away from the middle of the gap.
_CENTRES = (0.5, 0.93, 1.5, 2.07, 2.5, 3.5, 3.90, 4.5, 5.00, 5.5, 6.10, 6.5)
_A0_U = 5.0
BLACK_WIDTH_U = 0.57
"""Width of a black key in widths of a white one."""

KEY_NAMES = tuple(f"{_NAMES[pitch % 12]}{pitch // 12 - 1}" for pitch in PITCHES)
"""Names of the keys in scientific pitch notation, A0 to C8."""

IS_BLACK: NDArray[np.bool_] = np.array([name[1] == "#" for name in KEY_NAMES])
"""(88,) Which keys are black."""

CENTRES_U: NDArray[np.float32] = np.array(
    [7 * (p // 12 - 1) + _CENTRES[p % 12] - _A0_U for p in PITCHES], np.float32
)
"""(88,) The middle of each key in widths of a white key from the left end of A0, 0 to 52."""

KeyGrid = NDArray[np.float32]
"""Where keys are in a picture: pixels (3, 53, 2).

Three points on each of the 53 lines that bound the white keys, from the left end of A0 to the right
end of C8 as the player sees it: at the far end of the keys, at the level of the front ends of the
blacks, and at the front ends of the whites. Each is x, y in pixels, (0, 0) the middle of the upper
left one. NaN at lines that are not in the picture or not on the keyboard.
"""

GRID_ROWS = ("far", "black_front", "white_front")

FOUND, NONE = "found", "none"


def keyboard_spec(height: int, width: int, period_s: float | None) -> StreamSpec:
    """Return the specification of a stream of key grids in pictures of that size.

    Each packet carries a `KeyGrid`. Its `meta` holds `state`, `found` or `none` (then all is NaN),
    and `confidence`, 0 to 1. A new segment begins when the grid is another than before, rather
    than the same one followed.
    """
    return StreamSpec(
        "keyboard", (len(GRID_ROWS), WHITES + 1, 2), "float32", ("x", "y"), "px", period_s,
        {"height": height, "width": width},
    )  # fmt: skip


def no_grid() -> KeyGrid:
    """Return the grid of a picture without a keyboard."""
    return np.full((len(GRID_ROWS), WHITES + 1, 2), np.nan, np.float32)


def whites_in_view(grid: KeyGrid) -> NDArray[np.bool_]:
    """Return (52,) which white keys have both their lines in a grid."""
    there = np.isfinite(grid).all(axis=(0, 2))
    return np.asarray(there[:-1] & there[1:])


def keys_in_view(grid: KeyGrid) -> NDArray[np.bool_]:
    """Return (88,) which keys are in a grid; a black key is when the whites beside it are."""
    whites = whites_in_view(grid)
    half = np.where(IS_BLACK, BLACK_WIDTH_U / 2, 0.4)
    left = np.floor(CENTRES_U - half).astype(int)
    right = np.floor(CENTRES_U + half).astype(int)
    return np.asarray(whites[left] & whites[right])


def check_keyboard(use: str, stream: str, spec: StreamSpec) -> tuple[int, int]:
    """Return height and width of the pictures in which a stream tells where the keys are.

    Raises
    ------
    ConfigError
        It carries something else.
    """
    wanted = keyboard_spec(0, 0, None)
    meta: dict[str, Any] = dict(spec.meta)
    if (spec.kind, spec.shape) != (wanted.kind, wanted.shape) or not {"height", "width"} <= set(
        meta
    ):
        raise ConfigError(
            f"'{use}' takes the keyboard that 'keyboard.find' sends, '{stream}' carries"
            f" {spec.kind} of shape {list(spec.shape)}."
        )
    return int(meta["height"]), int(meta["width"])
