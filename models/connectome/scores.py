"""How well a graph was found, where the true one is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """Sensitivity, share of false positives among pairs without an edge, and their difference.

    Attributes
    ----------
    sensitivity
        Share of the true edges that were found.
    false_positives
        Share of the absent edges that were found.
    """

    sensitivity: float
    false_positives: float

    @property
    def youden(self) -> float:
        """Youden's J: sensitivity less false positives; 0 for guessing, 1 for no error."""
        return self.sensitivity - self.false_positives


def score(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Score:
    """Compare edges with the true ones, both bool (units, units), a unit with itself included."""
    return Score(float(found[truth].mean()), float(found[~truth].mean()))


def auroc(strength: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the chance that a true pair has more strength than an absent one; ties count half.

    Parameters
    ----------
    strength, truth
        Of any one shape; what is NaN counts as no strength.
    """
    values = np.nan_to_num(np.asarray(strength, dtype=np.float64).ravel(), nan=-np.inf)
    true = np.asarray(truth).ravel()
    _, place, many = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(many) - (many - 1) / 2)[place]
    positives = int(true.sum())
    below = ranks[true].sum() - positives * (positives + 1) / 2
    return float(below / (positives * (len(true) - positives)))
