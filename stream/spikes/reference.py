"""What all channels have in common, taken off each of them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stream.spikes.bandpass import Samples

Kind = Literal["mean", "median", "none"]

FEWEST_FOR_MEAN = 16
"""With fewer channels, what a spike adds to the mean would be felt by all of them."""


class CommonReference:
    """Subtracts from every channel the mean or median of the good ones, sample by sample.

    Attributes
    ----------
    good
        (channels,): which channels it is made of; all at first.
    """

    def __init__(self, kind: Kind, channels: int) -> None:
        self._kind = kind
        self.choose(np.ones(channels, np.bool_))

    def choose(self, good: NDArray[np.bool_]) -> None:
        """Make it of these channels from now on; of none, nothing is subtracted."""
        self.good = good
        count = int(np.count_nonzero(good))
        self._weights = (good / max(count, 1)).astype(np.float32)
        self._picked = None if count == len(good) else np.flatnonzero(good)
        self._used = self._kind if count else "none"

    def subtract(self, block: Samples) -> None:
        """Refer a block (rows, channels) in place."""
        if self._used == "mean":
            block -= (block @ self._weights)[:, None]
        elif self._used == "median":
            picked = block if self._picked is None else block[:, self._picked]
            block -= np.median(picked, axis=1, keepdims=True)
