"""Lyapunov exponents and what follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAR_ZERO = 0.01
"""Exponents above minus this, in nats a step, count as near zero."""


@dataclass(frozen=True)
class Spectrum:
    """Lyapunov exponents of a driven system, of several sequences of inputs.

    Attributes
    ----------
    exponents
        (sequences, k) in nats a step, the largest first; minus infinity where a direction is
        forgotten at once.
    period_s
        Length of a step, if it has one.
    """

    exponents: NDArray[np.float64]
    period_s: float | None = None

    @classmethod
    def ordered(cls, exponents: NDArray[np.float64], period_s: float | None = None) -> Spectrum:
        """Return the spectrum of exponents (sequences, k) in any order of columns.

        Columns are ordered by their means: to order each sequence would part what is equal.
        """
        with np.errstate(invalid="ignore"):
            order = np.argsort(-exponents.mean(axis=0), kind="stable")
        return cls(exponents[:, order], period_s)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean over sequences, (k,) nats a step."""
        return np.asarray(self.exponents.mean(axis=0))

    @property
    def spread(self) -> NDArray[np.float64]:
        """Standard deviation over sequences, (k,) nats a step; 0 of a single sequence."""
        finite = np.isfinite(self.exponents).all(axis=0)
        return np.where(finite, np.where(finite, self.exponents, 0.0).std(axis=0), 0.0)

    @property
    def per_second(self) -> NDArray[np.float64]:
        """Mean over sequences, (k,) nats a second; NaN where a step has no fixed length."""
        return self.mean / (self.period_s or math.nan)

    @property
    def largest(self) -> float:
        """Largest exponent, mean over sequences, in nats a step."""
        return float(self.mean[0])

    @property
    def memory_steps(self) -> float:
        """Steps in which what is remembered fades by e; infinite if it does not fade."""
        return -1 / self.largest if self.largest < 0 else math.inf

    @property
    def near_zero(self) -> int:
        """How many of the exponents lie above minus `NEAR_ZERO`."""
        return int((self.mean > -NEAR_ZERO).sum())

    @property
    def dimension(self) -> float:
        """Kaplan-Yorke dimension; NaN if all k exponents together are not yet negative."""
        total = np.cumsum(self.mean)
        if self.largest <= 0:
            return 0.0
        if total[-1] >= 0:
            return math.nan
        j = int(np.argmax(total < 0))
        return j + float(total[j - 1] / abs(self.mean[j]))
