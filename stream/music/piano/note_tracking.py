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
    none: the light has changed or the camera was pushed; `implausible` counts such frames.
    """

    def __init__(self, begin: float, end: float) -> None:
        self._begin, self._end = begin, end
        self.implausible = 0
        self.reset()

    def reset(self) -> list[Change]:
        """Forget everything, and return the keys that were down as going up."""
        ups = [Change(int(k), None) for k in np.flatnonzero(getattr(self, "_down", np.zeros(0)))]
        self._down = np.zeros(KEYS, bool)
        self._armed = np.ones(KEYS, bool)
        self._since_ns = np.full(KEYS, -_LONGEST_NS, np.int64)
        return ups

    def push(self, time_ns: int, onset: Floats, frame: Floats, velocity: Floats) -> list[Change]:
        """Take the probabilities (88,) of a frame and velocities from 0 to 1."""
        age = time_ns - self._since_ns
        struck = self._armed & (onset >= self._begin) & (age >= _AGAIN_NS)
        if struck.sum() > _MOST_AT_ONCE:
            self.implausible += 1
            struck = np.zeros(KEYS, bool)
        self._armed = np.where(struck, False, self._armed | (onset < self._begin * _REARM))
        let_go = (frame < self._end) & (onset < self._end) & (age >= _SHORTEST_NS)
        ends = self._down & (struck | let_go | (age >= _LONGEST_NS))
        self._down = (self._down & ~ends) | struck
        self._since_ns[struck] = time_ns
        return [Change(int(k), None) for k in np.flatnonzero(ends)] + [
            Change(int(k), float(velocity[k])) for k in np.flatnonzero(struck)
        ]
