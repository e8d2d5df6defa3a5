"""Spikes of a real recording, played in a loop by the doubles of instruments."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class RecordedSpikes:
    """Spikes in a loop: what lies between two samples, as sample numbers and units.

    Parameters
    ----------
    times_s, units
        Of each spike, sorted by time.
    n_units, length_s
        How many units there are, and how long the recording is.
    """

    def __init__(
        self, times_s: NDArray[np.float64], units: NDArray[np.int64], n_units: int, length_s: float
    ) -> None:
        self.times_s, self.units = times_s, units
        self.n_units, self.length_s = n_units, length_s

    def between(
        self, first: int, end: int, rate_hz: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the spikes of the samples from `first` to before `end`."""
        length = round(self.length_s * rate_hz)
        samples = np.minimum(np.round(self.times_s * rate_hz).astype(np.int64), length - 1)
        found, of = [], []
        for lap in range(first // length, (end - 1) // length + 1):
            a, b = np.searchsorted(samples + lap * length, [first, end])
            found.append(samples[a:b] + lap * length)
            of.append(self.units[a:b])
        return np.concatenate(found), np.concatenate(of)


def every(interval_s: float, n_units: int = 1, length_s: float = 1.0) -> RecordedSpikes:
    """Return one spike every so often, of each unit in turn."""
    times_s = np.arange(interval_s / 2, length_s, interval_s)
    return RecordedSpikes(times_s, np.arange(len(times_s)) % n_units, n_units, length_s)


def maze(trial: Path) -> RecordedSpikes:
    """Read a trial of MC_Maze: counts of 182 units in bins of 1 ms, in each of which it spreads."""
    with trial.open() as file:
        rows = csv.reader(file)
        columns = [i for i, name in enumerate(next(rows)) if name.startswith("unit_")]
        counts = np.array([[float(row[i]) for i in columns] for row in rows]).astype(int)
    at, units = np.nonzero(counts)
    repeats = counts[at, units]
    at, units = np.repeat(at, repeats), np.repeat(units, repeats)
    times_s = (at + np.random.default_rng(0).random(len(at))) / 1000
    order = np.argsort(times_s, kind="stable")
    return RecordedSpikes(times_s[order], units[order], len(columns), len(counts) / 1000)
