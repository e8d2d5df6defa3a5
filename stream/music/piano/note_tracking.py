"""From probabilities of every frame to notes that begin once and always end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.music.keyboard import KEYS

Floats = NDArray[np.floating[Any]]

_AGAIN_NS = 80_000_000
_SHORTEST_NS = 60_000_000
_LONGEST_NS = 12_000_000_000
_REARM = 0.6
_MOST_AT_ONCE = 10
_COVERED_NS = 200_000_000


@dataclass(frozen=True)
class Change:
    """A key (0 to 87) that goes down, with its velocity from 0 to 1, or up (velocity None)."""

    key: int
    velocity: float | None


class NoteTracker:
    """Decides when notes begin and end, key by key, without looking ahead.

    A note begins when the probability of an onset reaches `begin`, once until that has fallen to
    0.6 of it, and not within 80 ms of the last one. It ends when the probability that the key is
    down has fallen below `end`, after 60 ms at the earliest and 12 s at the latest. A key that is
    struck again while it sounds is released first. More keys at once than there are fingers are
    none: the light has changed or the camera was pushed; `implausible` counts such frames. On a key
    that is covered no note begins (`refused` counts those that seemed to), and one that sounds ends
    when it has been covered for 0.2 s (`let_go`).
    """

    def __init__(self, begin: float, end: float) -> None:
        self._begin, self._end = begin, end
        self.implausible = self.refused = self.let_go = 0
        self.reset()

    def reset(self) -> list[Change]:
        """Forget everything, and return the keys that were down as going up."""
        ups = [Change(int(k), None) for k in np.flatnonzero(getattr(self, "_down", np.zeros(0)))]
        self._down = np.zeros(KEYS, bool)
        self._armed = np.ones(KEYS, bool)
        self._since_ns = np.full(KEYS, -_LONGEST_NS, np.int64)
        self._open_ns = np.full(KEYS, -_COVERED_NS, np.int64)
        return ups

    def push(
        self,
        time_ns: int,
        onset: Floats,
        frame: Floats,
        velocity: Floats,
        covered: NDArray[np.bool_] | None = None,
    ) -> list[Change]:
        """Take the probabilities (88,) of a frame, velocities from 0 to 1, and what is covered."""
        hidden = np.zeros(KEYS, bool) if covered is None else covered
        self._open_ns = np.where(hidden, self._open_ns, time_ns)
        age = time_ns - self._since_ns
        struck = self._armed & (onset >= self._begin) & (age >= _AGAIN_NS)
        if struck.sum() > _MOST_AT_ONCE:
            self.implausible += 1
            struck = np.zeros(KEYS, bool)
        self._armed = np.where(struck, False, self._armed | (onset < self._begin * _REARM))
        self.refused += int((struck & hidden).sum())
        struck &= ~hidden
        let_go = (frame < self._end) & (onset < self._end) & (age >= _SHORTEST_NS)
        unseen = self._down & ~let_go & (time_ns - self._open_ns >= _COVERED_NS)
        self.let_go += int(unseen.sum())
        ends = self._down & (struck | let_go | unseen | (age >= _LONGEST_NS))
        self._down = (self._down & ~ends) | struck
        self._since_ns[struck] = time_ns
        return [Change(int(k), None) for k in np.flatnonzero(ends)] + [
            Change(int(k), float(velocity[k])) for k in np.flatnonzero(struck)
        ]
