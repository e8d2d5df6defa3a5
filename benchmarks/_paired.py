"""What can be said of a ratio that was measured in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_DRAWS = 10_000


class Change(NamedTuple):
    """By how much something differs, as a share: .05 is 5 % more.

    Attributes
    ----------
    median
        Of the pairs.
    low, high
        Ends of the interval in which 95 of 100 medians of as many pairs, drawn from these with
        replacement, lie.
    """

    median: float
    low: float
    high: float

    def within(self, limit: float) -> str:
        """Say whether it is smaller than a limit either way: yes, no, or not told."""
        if max(-self.low, self.high) < limit:
            return "yes"
        return "no" if self.low > limit or self.high < -limit else "not told"


def paired_change(values: Sequence[float], against: Sequence[float]) -> Change:
    """Return by how much values differ from those they were measured beside (both positive)."""
    logs = np.log(np.asarray(values, float) / np.asarray(against, float))
    draws = np.random.default_rng(2026).integers(len(logs), size=(_DRAWS, len(logs)))
    medians = np.median(logs[draws], axis=1)
    shown = np.expm1([np.median(logs), *np.percentile(medians, [2.5, 97.5])])
    return Change(*shown.tolist())
