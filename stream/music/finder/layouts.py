"""Which keys a row of blacks and whites is: the layouts that keyboards have, and which one fits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError
from stream.music.finder.plane import Doubles, Floats
from stream.music.keyboard import KEY_NAMES, WHITES

SIZES = {88: "A0", 76: "E1", 61: "C2", 49: "C2", 37: "C3", 25: "C3"}
"""Numbers of keys that keyboards have, and their lowest key where a maker has not shifted it."""

WHITE_NAMES = tuple(name for name in KEY_NAMES if "#" not in name)
"""(52,) Names of the white keys, A0 to C8."""

_FEWEST_KEYS = 20
# What a row of whites that ends where a keyboard would is worth, in black keys twice as sure.
_END = 1.2


def check_layout(keys: int | None, lowest: str | None) -> None:
    """Refuse a number of keys, or a name of a key, that no keyboard has.

    Raises
    ------
    ConfigError
        There is no keyboard of that many keys, no white key of that name, or none so high.
    """
    if lowest is not None and lowest not in WHITE_NAMES:
        raise ConfigError(
            f"lowest: '{lowest}' is no white key; these are named {WHITE_NAMES[0]} to"
            f" {WHITE_NAMES[-1]}, and middle C is C4."
        )
    if keys is None:
        return
    if lowest is None and keys not in SIZES:
        raise ConfigError(
            f"keys: which key a keyboard of {keys} keys begins with is not known, only for"
            f" {', '.join(map(str, SIZES))}; name it with 'lowest'."
        )
    name = lowest or SIZES[keys]
    if not _FEWEST_KEYS <= keys <= len(KEY_NAMES) - KEY_NAMES.index(name):
        raise ConfigError(
            f"keys: {keys} keys from {name} on are not on a piano, which ends at {KEY_NAMES[-1]};"
            f" at least {_FEWEST_KEYS} are needed to tell a keyboard."
        )


def whites_of(keys: int, lowest: str) -> int:
    """Return how many of so many keys from one on are white."""
    start = KEY_NAMES.index(lowest)
    return sum("#" not in name for name in KEY_NAMES[start : start + keys])


@dataclass(frozen=True)
class Layout:
    """Which keys there are; what its fields mean, `stream.music.finder.finding.Keyboard` says."""

    first: int
    whites: int
    lowest: int
    octave: str
    keys: int


def find_layout(
    u: Doubles,
    support: Floats,
    seen: tuple[int, int],
    keys: int | None,
    lowest: str | None,
    *,
    ends: tuple[int | None, int | None],
) -> Layout | None:
    """Return which keys these are, from where the pattern stops, and the whites (`ends`).

    Parameters
    ----------
    u, support
        (k,) The middles of blacks, and how much of each the picture shows, -1 to 1.
    seen
        The first and last line that the picture shows, as u.
    keys, lowest
        What is known of the keyboard, as for `find_keyboard`.
    ends
        The lines at which whites end, left and right, where that can be told.
    """
    evidence = np.clip(support, 0.0, 0.9) - 0.45
    scored: list[tuple[float, int, int, int]] = []  # score, first, whites, keys
    begin = {number: lowest if keys and lowest else SIZES[number] for number in (keys,) if number}
    begin = begin or SIZES
    for number, name in begin.items():
        count = whites_of(number, name)
        # The names begin with A0, the pattern with C.
        phase = (WHITE_NAMES.index(name) + 5) % 7
        for first in range(seen[0] - count, seen[1] + 1):
            if first % 7 != phase:
                continue
            inside = between_lines(u, first, first + count)
            if not inside.any():
                continue
            score = float(evidence[inside].sum() - evidence[~inside].sum())
            score += _END * ((first == ends[0]) + (first + count == ends[1]))
            # Most keyboards have all keys.
            scored.append((score - 1.0 * (number != 88), first, count, number))
    if not scored:
        return None
    scored.sort(reverse=True)
    score, first, count, number = scored[0]
    if lowest is not None and keys is None:
        left = max(first, seen[0])
        index = WHITE_NAMES.index(lowest)
        # The white key of that name's pattern: the edge of the picture may cut through it.
        left += (index + 5 - left + 2) % 7 - 2
        shown = min(first + count, seen[1]) - left
        return Layout(left, min(shown, WHITES - index), index, "given", number)
    # A row of whites that ends may be covered there, or be cut off: that alone is no proof.
    close = [other for other in scored if other[0] > score - 1.25 * _END]
    starts = {at - WHITE_NAMES.index(begin[n]) for _, at, _, n in close}
    octave = "seen"
    if len(starts) > 1:
        octave = "assumed"
        # Middle C is near the middle of what is seen.
        middle = (max(first, seen[0]) + min(first + count, seen[1])) / 2
        c4 = WHITE_NAMES.index("C4")
        same = [o for o in close if o[3] == number and o[0] > score - 0.3]
        score, first, count, number = min(
            same, key=lambda o: abs(o[1] - WHITE_NAMES.index(begin[o[3]]) + c4 + 0.5 - middle)
        )
    return Layout(first, count, WHITE_NAMES.index(begin[number]), octave, number)


def between_lines(u: Doubles, first: float, last: float) -> NDArray[np.bool_]:
    """Return which blacks have both their whites between two lines."""
    return np.asarray((u - 0.3 > first) & (u + 0.3 < last))


def without_hidden_ends(layout: Layout, u: Doubles, support: Floats) -> Layout:
    """Return the layout without ends that are covered, or beyond the edge of a picture in it."""
    there = u[support > 0.4]
    if not len(there):
        return layout
    first, last = layout.first, layout.first + layout.whites
    low, high = first, last
    if (u < there[0]).sum() >= 3:
        low = int(np.floor(there[0] - 0.3))
    if (u > there[-1]).sum() >= 3:
        high = int(np.ceil(there[-1] + 0.3))
    return replace(layout, first=low, whites=high - low, lowest=layout.lowest + low - first)
