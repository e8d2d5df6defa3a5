"""Condition means of firing rates over trials (PSTHs), of spikes and of a model beside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from models.spikes import metrics
from models.spikes.dataset import SpikeData
from models.spikes.rate_models import Estimate, segment_runs
from stream.errors import ConfigError
from stream.spikes.recording import Recording

Floats = NDArray[np.float64]

PSTH_SD_S = 0.05
"""Width of the Gaussian that smooths spikes before they are averaged to a PSTH."""


def both_psths(
    recording: Recording,
    parts: SpikeData,
    data: SpikeData,
    estimate: Estimate,
    *,
    condition: str,
    align: str | None,
) -> tuple[dict[object, Floats], dict[object, Floats]]:
    """Return PSTHs in Hz: of smoothed spikes over all trials, of the model over judged ones.

    Parameters
    ----------
    recording, parts
        The whole recording, and its bins.
    data, estimate
        The bins that are judged, and what the model makes of them.
    condition, align
        Trial columns: what is averaged over, and when PSTHs begin; see `evaluate`.

    Raises
    ------
    ConfigError
        The trials have no such column, or none lies whole in what is judged.
    """
    labels, offsets, bins = _trial_columns(recording, parts, condition, align)
    smooth = np.empty(parts.counts.shape)
    for run in segment_runs(parts.segment):
        counts = parts.counts[run.start : run.stop].astype(np.float64)
        smooth[run.start : run.stop] = gaussian_filter1d(counts, PSTH_SD_S / parts.width_s, axis=0)
    both = []
    for values, trial in ((smooth, parts.trial), (estimate.counts, data.trial)):
        numbers, first = np.unique(trial, return_index=True)
        whole_trial = [
            (n, f + offsets[n])
            for n, f in zip(numbers, first, strict=True)
            if n >= 0 and (trial[f : f + offsets[n] + bins] == n).sum() == offsets[n] + bins
        ]
        if not whole_trial:
            raise ConfigError(f"no whole trial of {recording.name} lies in what is evaluated.")
        cut_out = np.stack([values[f : f + bins] for _, f in whole_trial]) / data.width_s
        # What a model has not told, or lost to its look-ahead, is no part of the comparison.
        cut_out = cut_out[..., ~np.isnan(estimate.counts).all(axis=0)]
        both.append(metrics.condition_means(cut_out, labels[[n for n, _ in whole_trial]]))
    return both[0], both[1]


def _trial_columns(
    recording: Recording, parts: SpikeData, condition: str, align: str | None
) -> tuple[NDArray[np.generic], NDArray[np.int64], int]:
    """Return each trial's condition, its bins before the PSTH begins, and the PSTH's bins."""
    trials = recording.trials
    there = {} if trials is None else trials.columns
    for column in (condition, align):
        if column is not None and column not in there:
            raise ConfigError(
                f"{recording.name} has no trial column '{column}'; it has"
                f" {', '.join(there) or 'none'}."
            )
    assert trials is not None
    begin = trials.start_s if align is None else np.asarray(trials.columns[align], np.float64)
    offsets = np.floor((begin - trials.start_s) / parts.width_s + 1e-6).astype(np.int64)
    lengths = np.bincount(parts.trial[parts.trial >= 0], minlength=len(begin)) - offsets
    if lengths[lengths > 0].size == 0 or (offsets < 0).any():
        raise ConfigError(f"the times in '{align}' do not lie inside the trials.")
    return np.asarray(trials.columns[condition]), offsets, int(lengths[lengths > 0].min())
