"""Baselines fitted to a recording: for the table of `evaluate`, and for a folder to export from."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.spikes.baselines.glm import PENALTIES, PoissonGlm, fit_glm
from models.spikes.baselines.history import Floats
from models.spikes.baselines.kalman import fit_kalman
from models.spikes.baselines.mlp import fit_mlp
from models.spikes.baselines.smoothing import fit_smoothing
from models.spikes.baselines.storing import Baseline
from models.spikes.baselines.wiener import fit_wiener
from models.spikes.dataset import SpikeData, prepare
from models.spikes.recipe import input_columns
from models.spikes.trained import Card, Trained, save_trained
from models.trained_folder import CARD, RECIPE
from stream.errors import ConfigError, RecordingError
from stream.spikes.nwb import load_recording
from stream.spikes.recording import Recording, bin_recording

RATES = ("smoothing", "glm")
"""Baselines that give rates; the others decode behaviour."""


@dataclass(frozen=True)
class Fitting:
    """The training part, its validation rows last."""

    data: SpikeData
    validation_start: int


def for_fitting(parts: SpikeData) -> Fitting:
    """Return train and validation part as one, with where the second begins."""
    train, held = parts.select("train"), parts.select("validation")
    rates = None
    if train.true_rates is not None and held.true_rates is not None:
        rates = np.concatenate([train.true_rates, held.true_rates])
    data = dataclasses.replace(
        train,
        counts=np.concatenate([train.counts, held.counts]),
        segment=np.concatenate([train.segment, held.segment + train.segment[-1] + 1]),
        behaviour=np.concatenate([train.behaviour, held.behaviour]),
        true_rates=rates,
        trial=np.concatenate([train.trial, held.trial]),
        part=np.concatenate([train.part, held.part]),
    )
    return Fitting(data, len(train.counts))


def fit_baseline(
    system: str,
    recording: Recording,
    parts: SpikeData,
    inputs: NDArray[np.int64],
    *,
    behaviour: str = "",
    seed: int = 0,
) -> Baseline:
    """Fit a baseline to the training part of a recording.

    `smoothing` gives rates of the units that are fed in, `glm` of all units, the others decode
    behaviour; see `told_units`.

    Parameters
    ----------
    system
        One of `BASELINES`.
    recording, parts
        The recording, and its bins in parts.
    inputs
        Columns of the units that are fed in.
    behaviour
        Name of the signal that `parts` has, empty for none.
    seed
        Of the perceptron.
    """
    train = for_fitting(parts)
    data, split = train.data, train.validation_start
    x, y = data.counts[:, inputs], data.behaviour
    match system:
        case "smoothing":
            return fit_smoothing(x, data.segment, split)
        case "glm":
            return _fit_glm(data, split, inputs)
        case "wiener":
            return fit_wiener(x, y, data.segment, split)
        case "mlp":
            return fit_mlp(x, y, data.segment, split, seed=seed)
    signals, told = _all_behaviour(recording, parts, behaviour)
    return fit_kalman(x, signals, data.segment, told)


def told_units(system: str, units: int, inputs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the columns of the units whose rates a baseline gives, out of so many units."""
    if system == "smoothing":
        return inputs
    return np.arange(units if system == "glm" else 0)


def train_baseline(
    file: Path,
    system: str,
    folder: Path,
    *,
    width_s: float,
    behaviour: str = "",
    held_out: tuple[str, ...] = (),
    seed: int = 0,
) -> Trained:
    """Fit a baseline to the training part of a recording (a file) and write its folder.

    Raises
    ------
    ConfigError
        The baseline decodes behaviour and none is named, or the other way round; the recording has
        no such behaviour or units; the folder is in use.
    RecordingError
        The recording cannot be binned like this, or is too short.
    """
    if system in RATES and behaviour:
        raise ConfigError(f"{system} gives rates and decodes nothing; leave --behaviour out.")
    recording = load_recording(file)
    if system not in RATES and not behaviour:
        there = ", ".join(recording.behaviour) or "none"
        raise ConfigError(f"{system} decodes behaviour; name it with --behaviour (has: {there}).")
    if (folder / CARD).exists() or (folder / RECIPE).exists():
        raise ConfigError(f"{folder} holds a training already; choose another folder.")
    began = time.monotonic()
    parts = prepare(recording, width_s, behaviour or None)
    inputs = input_columns(parts, held_out)
    try:
        model = fit_baseline(system, recording, parts, inputs, behaviour=behaviour, seed=seed)
    except ValueError as error:
        raise RecordingError(
            f"{recording.name} has too little for a {system} in its training part of"
            f" {len(parts.select('train').counts)} and its validation part of"
            f" {len(parts.select('validation').counts)} bins: {error}."
        ) from error
    drawn = {"seed": seed} if system == "mlp" else {}
    card = Card(
        system=system,
        network={},
        inputs=tuple(parts.units[i] for i in inputs),
        outputs=tuple(parts.units[i] for i in told_units(system, len(parts.units), inputs)),
        width_s=parts.width_s,
        behaviour=behaviour,
        columns=parts.columns,
        behaviour_unit=parts.behaviour_unit,
        trained_on={
            "name": recording.name,
            "file": str(file.resolve()),
            "sha256": recording.sha256,
            "licence": recording.licence,
            "train_bins": len(parts.select("train").counts),
            "validation_bins": len(parts.select("validation").counts),
        },
        training={**drawn, "took_s": round(time.monotonic() - began, 1)},
        versions={"innervate": version("innervate")},
    )
    trained = Trained(model, card)
    save_trained(folder, trained)
    return trained


def _fit_glm(data: SpikeData, split: int, inputs: NDArray[np.int64]) -> PoissonGlm:
    """Fit rates of held-out units in this bin and of the units that are fed in in the next one.

    A unit's own count in this bin would tell nothing of its rate but itself.
    """
    n = len(data.units)
    held_out = np.setdiff1d(np.arange(n), inputs)
    x = data.counts[:, inputs]
    fits: list[tuple[NDArray[np.int64], PoissonGlm]] = []
    penalties: tuple[float, ...] = PENALTIES
    if len(held_out):
        now = fit_glm(x, data.counts[:, held_out], data.segment, split)
        penalties = (now.penalty,)
        fits.append((held_out, now))
    follows = np.flatnonzero(data.segment[1:] == data.segment[:-1])
    ahead = fit_glm(
        x[follows],
        x[follows + 1],
        data.segment[follows],
        int(np.searchsorted(follows, split)),
        penalties=penalties,
    )
    fits.append((inputs, ahead))
    weights = np.empty((*ahead.weights.shape[:2], n))
    bias, ceiling = np.empty(n), np.empty(n)
    for columns, fit in fits:
        weights[..., columns], bias[columns], ceiling[columns] = fit.weights, fit.bias, fit.ceiling
    return PoissonGlm(ahead.decay, weights, bias, ceiling, fits[0][1].penalty)


def _all_behaviour(
    recording: Recording, parts: SpikeData, behaviour: str
) -> tuple[Floats, NDArray[np.int64]]:
    """Return all behaviour of the training part side by side, and the columns of the named one.

    The Kalman filter tracks position, velocity and what else there is together, which decodes each
    better than alone.
    """
    signals = bin_recording(recording, parts.width_s).behaviour
    names = [name for name, values in signals.items() for _ in range(values.shape[1])]
    joined = np.concatenate(list(signals.values()), axis=1).astype(np.float32)
    train = for_fitting(dataclasses.replace(parts, behaviour=joined)).data
    told = np.flatnonzero(np.array(names) == behaviour)
    return train.behaviour.astype(np.float64), told
