"""How loud the noise of each channel is."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stream.spikes.bandpass import Floats, Samples

LEARN_S = 2.0
"""Levels are first known after this long."""
ADAPT_S = 10.0
"""How fast they follow: the time constant for small changes."""
OUTLIER = 4.0
"""So many times louder or quieter than the middle channel is no good channel."""
_MAD = 0.6744897501960817
# Of a Gaussian, the density of the logarithm of its absolute value at its median.
_DENSITY = 0.42868


class NoiseLevels:
    """Median absolute deviation over .6745 of each channel, from one sample each half millisecond.

    The first levels are medians over `LEARN_S`. Each later sample moves its channel's level by a
    fixed small ratio, up if it is above the median and down if below, so that a median is where it
    rests: the size of outliers does not matter, and no moment costs more than another. Small
    changes are followed with a time constant of `ADAPT_S`, large ones by a factor of e in .86 of
    it. What is known to be a spike or an artefact is left out by the caller.

    Attributes
    ----------
    sigma
        (channels,): the levels, in the unit of the samples; zeros until known.
    """

    def __init__(self, channels: int, step_s: float) -> None:
        self._rows = np.empty((math.ceil(LEARN_S / step_s), channels), np.float32)
        self._filled = 0
        half = step_s / (2 * _DENSITY * ADAPT_S)
        self._up, self._down = math.exp(half), math.exp(-half)
        self.sigma: Floats = np.zeros(channels)

    @property
    def known(self) -> bool:
        """Whether `LEARN_S` are over."""
        return self._filled == len(self._rows)

    def learn(self, row: Samples) -> bool:
        """Take a row of the first stretch; return whether it was the last."""
        self._rows[self._filled] = row
        self._filled += 1
        return self.known

    @property
    def learned(self) -> Samples:
        """The rows of the first stretch so far."""
        return self._rows[: self._filled]

    def set(self, rows: Samples) -> None:
        """Compute the first levels from rows of the first stretch, as they are to be measured."""
        self.sigma = np.median(np.abs(rows), axis=0).astype(np.float64) / _MAD

    def follow(self, row: Samples, usable: NDArray[np.bool_]) -> None:
        """Move the levels of the usable channels by one sample each."""
        above = np.abs(row) > self.sigma * _MAD
        self.sigma *= np.where(usable, np.where(above, self._up, self._down), 1.0)
