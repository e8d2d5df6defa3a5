"""What a trained model is worth on a recording: one row of figures a model, rivals beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.spikes import metrics
from models.spikes.baselines.fitting import RATES, fit_baseline, for_fitting, told_units
from models.spikes.dataset import PARTS, SpikeData, prepare, whole
from models.spikes.psths import both_psths
from models.spikes.rate_models import Estimate, RateModel, run_baseline
from stream.errors import ConfigError
from stream.spikes.recording import Recording, bin_recording
from stream.spikes.replay import cut
from stream.spikes.selection import select_units
from stream.units import to_ns

Floats = NDArray[np.float64]
Row = dict[str, str | float]


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and what it was measured on.

    Attributes
    ----------
    conditions
        Recording, part, units that were held out.
    rows
        One a model: `model` and its figures by name.
    data
        The bins that were judged.
    estimate
        What the model made of them.
    psths
        Condition to (bins, units) in Hz, of the spikes and of the model, if trials have conditions.
    """

    conditions: dict[str, str | float]
    rows: list[Row]
    data: SpikeData
    estimate: Estimate
    psths: tuple[dict[object, Floats], dict[object, Floats]] | None = None


@dataclass(frozen=True)
class _Task:
    """A model, the recording, its parts, the bins that are judged, and what is decoded."""

    model: RateModel
    recording: Recording
    parts: SpikeData
    data: SpikeData
    behaviour: str | None


def evaluate(
    model: RateModel,
    recording: Recording,
    *,
    start_s: float | None = None,
    length_s: float | None = None,
    baselines: bool = False,
    condition: str | None = None,
    align: str | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Measure a model on the test part of a recording, or on a stretch of it from a cold start.

    Parameters
    ----------
    model
        Any `RateModel`.
    recording
        The whole recording.
    start_s, length_s
        A stretch on the recording's clock, in place of the test part. Bins are counted from its
        start, as in a replay of it.
    baselines
        Fit the rivals on the training part and measure them too.
    condition
        Column of the trials that PSTHs are averaged over, None for no PSTHs.
    align
        Column of the trials with the time that PSTHs begin at, None for the start of the trial.
    on_step
        Told what happens now.

    Raises
    ------
    ConfigError
        The recording does not have the model's units or behaviour, or the stretch.
    """
    behaviour = find_behaviour(recording, model)
    known = tuple(dict.fromkeys((*model.inputs, *model.outputs)))
    select_units(recording.units, known, recording.name)
    parts = prepare(recording, model.width_s, behaviour)
    if start_s is None and length_s is None:
        data, part = parts.select("test"), "test"
    else:
        begin = recording.start_s if start_s is None else start_s
        stop = recording.stop_s if length_s is None else begin + length_s
        data = whole(cut(recording, begin, stop), model.width_s, behaviour)
        part = f"{begin:g} s to {stop:g} s{_seen(recording, parts, begin, stop)}"
    task = _Task(model, recording, parts, data, behaviour)
    on_step(f"{model.name}: {len(data.counts)} bins")
    estimate = model.run(data)
    row = _score(model.name, model.inputs, model.outputs, estimate, data)
    psths = None
    if condition is not None:
        psths = both_psths(recording, parts, data, estimate, condition=condition, align=align)
        shared = {c: psths[0][c] for c in psths[1]}
        row["psth_r2"] = metrics.psth_r2(
            shared, np.stack(list(psths[1].values())), np.array(list(psths[1]))
        )
    if "behaviour_r2" in row and model.outputs and part == "test":
        on_step(f"{model.name}: rates of the training part, for the readout of {behaviour}")
        row["readout_r2"] = _readout(model, estimate, data, for_fitting(parts).data)
    rows = [row]
    if baselines:
        rows += _rivals(task, on_step)
    conditions: dict[str, str | float] = {
        "recording": recording.name,
        "sha256": recording.sha256,
        "part": part,
        "bins": len(data.counts),
        "width_s": model.width_s,
        "units_fed": len(model.inputs),
        "units_held_out": len({*model.outputs} - {*model.inputs}),
        "behaviour": behaviour or "none",
    }
    return Evaluation(conditions, rows, data, estimate, psths)


def find_behaviour(recording: Recording, model: RateModel) -> str | None:
    """Return the name of the behaviour that a model decodes, None if it decodes nothing.

    Raises
    ------
    ConfigError
        The recording does not have it, or it cannot be told from another.
    """
    if not model.columns:
        return None
    found = [
        name
        for name, series in recording.behaviour.items()
        if series.columns == model.columns and name == (model.behaviour or name)
    ]
    if len(found) == 1:
        return found[0]
    there = "; ".join(f"{n}: {', '.join(s.columns)}" for n, s in recording.behaviour.items())
    raise ConfigError(
        f"{model.name} decodes {', '.join(model.columns)} of {model.behaviour or 'some behaviour'};"
        f" {recording.name} has {'several' if found else 'none'} like that ({there or 'nothing'})."
    )


def _seen(recording: Recording, parts: SpikeData, begin_s: float, stop_s: float) -> str:
    """Say so when a stretch was trained on."""
    starts_ns = bin_recording(recording, parts.width_s).starts_ns
    inside = (starts_ns >= to_ns(begin_s)) & (starts_ns < to_ns(stop_s))
    trained = np.isin(parts.part[inside], [PARTS.index("train"), PARTS.index("validation")])
    return ", trained on" if trained.all() else ", partly trained on" if trained.any() else ""


def _score(
    name: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    estimate: Estimate,
    data: SpikeData,
) -> Row:
    row: Row = {"model": name}
    known = ~np.isnan(estimate.counts)
    counts = np.where(known, data.counts, np.nan)
    told = known.any(axis=0)
    column = {name: i for i, name in enumerate(data.units)}
    held_out = [column[u] for u in outputs if u not in inputs]
    fed = [column[u] for u in outputs if u in inputs]
    if held_out:
        row["co_bps"] = metrics.co_bps(estimate.counts, counts, held_out)
    if fed:
        row["one_step_bps"] = metrics.one_step_bps(
            estimate.counts[:, fed], counts[:, fed], data.segment
        )
    if data.true_rates is not None and told.any():
        rows = known[:, told].all(axis=1)
        rates, true = estimate.counts[rows][:, told], data.true_rates[rows][:, told]
        row["oracle_fraction"] = metrics.oracle_fraction(rates, true)
        row["log_rate_r2"] = metrics.log_rate_r2(rates, true)
        row["rate_r2"] = metrics.pooled_r2(rates, true)
    return row | _behaviour_figures(estimate.behaviour, data)


def _behaviour_figures(decoded: Floats, data: SpikeData) -> Row:
    if not decoded.shape[1]:
        return {}
    there = ~np.isnan(decoded).any(axis=1)
    moving = metrics.moving_columns(data.behaviour[there])
    if not moving.any():
        return {}
    scores = metrics.decoding_r2(decoded[there][:, moving], data.behaviour[there][:, moving])
    names = [name for name, moves in zip(data.columns, moving, strict=True) if moves]
    figures: Row = {"behaviour_r2": float(scores.mean())}
    return figures | {f"r2_{n}": float(s) for n, s in zip(names, scores, strict=True)}


def _readout(model: RateModel, estimate: Estimate, data: SpikeData, train: SpikeData) -> float:
    """Return the benchmark's velocity R2: behaviour read out of the rates by ridge regression."""
    columns = select_units(data.units, model.outputs, data.name)
    rates, early = estimate.counts[:, columns], model.run(train).counts[:, columns]
    there, early_there = (~np.isnan(r).any(axis=1) for r in (rates, early))
    return metrics.velocity_r2(
        early[early_there],
        train.behaviour[early_there],
        rates[there],
        data.behaviour[there],
    )


_RIVALS = {
    "glm": ("Poisson GLM", "Poisson GLM on exponential averages"),
    "smoothing": ("smoothing", "exponential average of each unit"),
    "wiener": ("Wiener", "Wiener filter"),
    "mlp": ("perceptron", "perceptron on the newest bins"),
    "kalman": ("Kalman", "Kalman filter"),
}
"""Baseline to its name in the table, and in words."""


def _rivals(task: _Task, on_step: Callable[[str], None]) -> Iterator[Row]:
    """Fit the baselines to what the model was fitted to, and yield the figures of each."""
    data, inputs, outputs = task.data, task.model.inputs, task.model.outputs
    fed = select_units(data.units, inputs, data.name)
    for system, (name, words) in _RIVALS.items():
        if (system not in RATES and not task.behaviour) or (
            system == "glm" and not {*outputs} - {*inputs}
        ):
            continue
        on_step(words)
        fitted = fit_baseline(
            system, task.recording, task.parts, fed, behaviour=task.behaviour or ""
        )
        told = told_units(system, len(data.units), fed)
        estimate = run_baseline(fitted, system, data, fed, told)
        units = tuple(data.units[i] for i in told if data.units[i] in {*inputs, *outputs})
        # What the GLM says of units that it is fed is about the next bin, not about this one.
        judged = dataclasses.replace(data, true_rates=None) if system == "glm" else data
        yield _score(name, inputs, units, estimate, judged)
