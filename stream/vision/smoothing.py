"""The One-Euro filter (Casiez, Roussel and Vogel, CHI 2012) for arrays of any shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SPEED_CUTOFF_HZ = 1.0


class OneEuro:
    """A low-pass filter that follows fast movement and calms what stands still.

    Its cutoff is `cutoff_hz` at rest and rises by `beta` (Hz for each unit of speed, 1/s) with the
    speed of each value, measured in `scale`s a second. Times are those of the samples, so that
    the same movement is filtered alike at any frame rate. NaN stays NaN, and a value that was NaN
    begins afresh.
    """

    def __init__(self, cutoff_hz: float, beta: float) -> None:
        self._cutoff_hz = cutoff_hz
        self._beta = beta
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next sample passes as it is."""
        self._time_ns: int | None = None

    def filter(
        self, values: NDArray[np.float32], time_ns: int, scale: float
    ) -> NDArray[np.float32]:
        """Return the filtered sample of time `time_ns`; `scale` is the size of what moves."""
        if self._time_ns is None or time_ns <= self._time_ns:
            self._time_ns, self._values = time_ns, values
            self._speed = np.zeros_like(values)
            return values
        dt_s = (time_ns - self._time_ns) / 1e9
        began = np.isnan(self._values)
        before = np.where(began, values, self._values)
        speed = (values - before) / np.float32(scale * dt_s)
        self._speed = np.where(began, 0, self._speed)
        self._speed += _share(_SPEED_CUTOFF_HZ, dt_s) * (speed - self._speed)
        cutoff_hz = self._cutoff_hz + self._beta * np.abs(self._speed)
        self._values = before + _share(cutoff_hz, dt_s) * (values - before)
        self._values = self._values.astype(np.float32)
        self._time_ns = time_ns
        return self._values


def _share(cutoff_hz: float | NDArray[Any], dt_s: float) -> float | NDArray[Any]:
    """Return how much of the new sample an exponential filter of this cutoff takes."""
    turn = 2 * math.pi * dt_s * cutoff_hz
    return turn / (turn + 1)
