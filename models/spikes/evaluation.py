"""What a trained model is worth on a recording: one row of figures a model, rivals beside it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from models.spikes import metrics
from models.spikes.baselines.glm import fit_glm
from models.spikes.baselines.kalman import fit_kalman
from models.spikes.baselines.mlp import fit_mlp
from models.spikes.baselines.smoothing import fit_smoothing
from models.spikes.baselines.wiener import fit_wiener
from models.spikes.dataset import PARTS, SpikeData, prepare, whole
from models.spikes.trained import load_trained
from models.spikes.training import infer
from models.stndt.streaming import Layer, StreamingSTNDT
from stream.errors import ConfigError, ModelError
from stream.inference import StreamingSession
from stream.model_file import Port
from stream.spikes.recording import Recording, bin_recording
from stream.spikes.replay import cut
from stream.spikes.selection import select_units
from stream.units import to_ns

Floats = NDArray[np.float64]
Row = dict[str, str | float]

PSTH_SD_S = 0.05
"""Width of the Gaussian that smooths spikes before they are averaged to a PSTH."""


@dataclass(frozen=True)
class Estimate:
    """What a model makes of a part of a recording.

    Attributes
    ----------
    counts
        (bins, units) expected counts per bin in the order of the data's units; NaN where the model
        says nothing.
    behaviour
        (bins, d) decoded, d 0 without.
    """

    counts: Floats
    behaviour: Floats


class RateModel(Protocol):
    """A trained model, wherever it lies.

    Attributes
    ----------
    name
        Shown in the table.
    width_s
        Width of the bins that it was trained on.
    inputs
        Names of the units that it is fed.
    outputs
        Names of the units whose rates it gives.
    columns
        Names of the columns that it decodes, empty for nothing.
    behaviour
        Name of the behaviour that these are columns of, empty when the model does not say.
    """

    name: str
    width_s: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    columns: tuple[str, ...]
    behaviour: str

    def run(self, data: SpikeData) -> Estimate:
        """Run from a cold state, afresh at every segment."""

    def attention(self, data: SpikeData) -> Floats | None:
        """Return the first layer's spatial attention (outputs, outputs), None without."""


class ModelFile:
    """An `.onnx` stepped bin by bin in ONNX Runtime, as the `model` node steps it live.

    Raises
    ------
    ModelError
        The file is no model file, or none from counts to rates.
    """

    def __init__(self, path: Path) -> None:
        self._session = StreamingSession(path, "cpu")
        contract = self._session.contract
        ports = {port.kind: port for port in contract.outputs}
        fed = contract.inputs[0]
        if len(contract.inputs) != 1 or fed.kind != "counts" or not ports.keys() <= _OUTPUTS:
            raise ModelError(
                f"{path} does not turn spike counts into rates or behaviour, so there is nothing to"
                " evaluate here."
            )
        if fed.period_s is None:
            raise ModelError(f"{path} does not say how wide its bins are; export it again.")
        self._fed, self._ports = fed, ports
        self._delay = contract.delay_steps
        self.name = contract.name
        self.width_s = fed.period_s
        self.inputs = fed.channels
        self.outputs = ports["rates"].channels if "rates" in ports else ()
        self.columns = ports["behaviour"].channels if "behaviour" in ports else ()
        self.behaviour = str(contract.training.get("behaviour") or "")

    def run(self, data: SpikeData) -> Estimate:
        """Step through the data; an output `delay_steps` later counts for its own bin."""
        fed = data.counts[:, select_units(data.units, self.inputs, data.name)]
        fed = fed.astype(self._fed.dtype)
        steps: dict[str, Floats] = {
            kind: np.full((len(fed), *port.shape), np.nan) for kind, port in self._ports.items()
        }
        for segment in _runs(data.segment):
            self._session.reset()
            for t in segment:
                values = self._session.step({self._fed.name: fed[t]})
                if (at := t - self._delay) >= segment.start:
                    for kind, port in self._ports.items():
                        steps[kind][at] = values[port.name]
        counts = np.full(data.counts.shape, np.nan)
        if "rates" in steps:
            columns = select_units(data.units, self.outputs, data.name)
            counts[:, columns] = steps["rates"] * _per_bin(self._ports["rates"], self.width_s)
        return Estimate(counts, steps.get("behaviour", np.zeros((len(fed), 0))))

    def attention(self, data: SpikeData) -> None:
        """Return nothing: in the file the matrix is multiplied into other weights."""


class TrainedFolder:
    """A trained network in its folder, run whole in PyTorch.

    Raises
    ------
    ModelError
        The folder holds no readable trained network.
    """

    def __init__(self, folder: Path) -> None:
        self._trained = load_trained(folder)
        card = self._trained.card
        self.name = folder.name or card.system
        self.width_s = card.width_s
        self.inputs, self.outputs = card.inputs, card.outputs
        self.columns, self.behaviour = card.columns, card.behaviour

    def run(self, data: SpikeData) -> Estimate:
        """Run all bins at once, which gives what single steps give."""
        fed = select_units(data.units, self.inputs, data.name)
        told = select_units(data.units, self.outputs, data.name)
        seen = dataclasses.replace(data, counts=data.counts[:, fed])
        network = self._trained.network
        rates, behaviour = infer(network, seen, np.arange(len(fed)))
        counts = np.full(data.counts.shape, np.nan)
        counts[:, told] = rates
        return Estimate(counts, behaviour)

    def attention(self, data: SpikeData) -> Floats | None:
        """Return the mean over up to 1000 bins; a frozen matrix is the same in all of them."""
        network = self._trained.network
        if not isinstance(network, StreamingSTNDT) or network.config.spatial == "none":
            return None
        layer = network.layers[0]
        assert isinstance(layer, Layer)
        if network.config.spatial == "frozen":
            return np.asarray(layer.mix.detach().softmax(-1).double().numpy())
        fed = select_units(data.units, self.inputs, data.name)
        run = max(_runs(data.segment), key=len)[:1000]
        state, total = network.start(), np.zeros(layer.mix.shape)
        for t in run:
            state = network.step(torch.from_numpy(data.counts[t, fed]), state)[2]
            matrix = (layer.mix + layer.gain * state.gram[0]).softmax(-1)
            total = total + matrix.detach().double().numpy()
        return np.asarray(total / len(run))


_OUTPUTS = {"rates", "behaviour"}


def load_model(path: Path) -> RateModel:
    """Return the model of an `.onnx` file, or the trained network of a folder.

    Raises
    ------
    ModelError
        There is no such model, or none from counts to rates.
    """
    return TrainedFolder(path) if path.is_dir() else ModelFile(path)


def _per_bin(port: Port, width_s: float) -> float:
    if port.unit != "Hz":
        raise ModelError(f"'{port.name}' is in '{port.unit}', expected rates in Hz.")
    return width_s


def _runs(segment: NDArray[np.int64]) -> Iterator[range]:
    """Yield the bins of each segment."""
    edges = [0, *(np.flatnonzero(np.diff(segment)) + 1).tolist(), len(segment)]
    yield from (range(a, b) for a, b in itertools.pairwise(edges))


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
    row = _score(model, estimate, data)
    psths = None
    if condition is not None:
        psths = _psths(task, estimate, condition, align)
        shared = {c: psths[0][c] for c in psths[1]}
        row["psth_r2"] = metrics.psth_r2(
            shared, np.stack(list(psths[1].values())), np.array(list(psths[1]))
        )
    if data.behaviour.shape[1] and model.outputs and part == "test":
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
    trained = parts.part[inside] != PARTS.index("test")
    return ", trained on" if trained.all() else ", partly trained on" if trained.any() else ""


def _score(model: RateModel, estimate: Estimate, data: SpikeData) -> Row:
    row: Row = {"model": model.name}
    known = ~np.isnan(estimate.counts)
    counts = np.where(known, data.counts, np.nan)
    told = known.any(axis=0)
    column = {name: i for i, name in enumerate(data.units)}
    held_out = [column[u] for u in model.outputs if u not in model.inputs]
    fed = [column[u] for u in model.outputs if u in model.inputs]
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
    scores = metrics.decoding_r2(decoded[there], data.behaviour[there])
    figures: Row = {"behaviour_r2": float(scores.mean())}
    return figures | {f"r2_{n}": float(s) for n, s in zip(data.columns, scores, strict=True)}


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


def _psths(
    task: _Task, estimate: Estimate, condition: str, align: str | None
) -> tuple[dict[object, Floats], dict[object, Floats]]:
    """Return PSTHs in Hz: of smoothed spikes over all trials, of the model over judged ones."""
    parts, data = task.parts, task.data
    labels, offsets, bins = _trial_columns(task.recording, parts, condition, align)
    smooth = np.empty(parts.counts.shape)
    for run in _runs(parts.segment):
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
            raise ConfigError(f"no whole trial of {task.recording.name} lies in what is evaluated.")
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


def _rivals(task: _Task, on_step: Callable[[str], None]) -> Iterator[Row]:
    """Fit the baselines to what the model was fitted to, and yield the figures of each."""
    train, model, data = for_fitting(task.parts), task.model, task.data
    early, split = train.data, train.validation_start
    fed = select_units(data.units, model.inputs, data.name)
    held_out = [i for i, u in enumerate(data.units) if u in {*model.outputs} - {*model.inputs}]
    x, seen = early.counts[:, fed], data.counts[:, fed]
    if held_out:
        on_step("Poisson GLM on exponential averages")
        glm = fit_glm(x, early.counts[:, held_out], early.segment, split)
        rates = glm.predict(seen, data.segment)
        follows = np.flatnonzero(early.segment[1:] == early.segment[:-1])
        forecast = fit_glm(
            x[follows],
            x[follows + 1],
            early.segment[follows],
            int(np.searchsorted(follows, split)),
            penalties=(glm.penalty,),
        )
        ahead = forecast.predict(seen, data.segment)
        yield {
            "model": "Poisson GLM",
            "co_bps": metrics.bits_per_spike(rates, data.counts[:, held_out]),
            "one_step_bps": metrics.one_step_bps(ahead, seen, data.segment),
        }
    on_step("exponential average of each unit")
    rates = fit_smoothing(x, early.segment, split).predict(seen, data.segment)
    yield {"model": "smoothing", "one_step_bps": metrics.one_step_bps(rates, seen, data.segment)}
    if not data.behaviour.shape[1]:
        return
    y, segment = early.behaviour, early.segment
    on_step("Wiener filter")
    wiener = fit_wiener(x, y, segment, split).predict(seen, data.segment)
    yield _named("Wiener", _behaviour_figures(wiener, data))
    on_step("perceptron on the newest bins")
    mlp = fit_mlp(x, y, segment, split, seed=0).predict(seen, data.segment)
    yield _named("perceptron", _behaviour_figures(mlp, data))
    on_step("Kalman filter")
    signals, asked = _all_behaviour(task)
    kalman = fit_kalman(x, signals, segment).predict(seen, data.segment)
    yield _named("Kalman", _behaviour_figures(kalman[:, asked], data))


def _named(model: str, figures: Row) -> Row:
    return {"model": model, **figures}


def _all_behaviour(task: _Task) -> tuple[Floats, slice]:
    """Return all behaviour of the training part side by side, and where the asked one lies.

    The Kalman filter tracks position, velocity and what else there is together, which decodes each
    better than alone.
    """
    signals = bin_recording(task.recording, task.parts.width_s).behaviour
    widths = {name: values.shape[1] for name, values in signals.items()}
    names = list(signals)
    begin = sum(widths[name] for name in names[: names.index(str(task.behaviour))])
    joined = np.concatenate(list(signals.values()), axis=1).astype(np.float32)
    train = for_fitting(dataclasses.replace(task.parts, behaviour=joined)).data
    return train.behaviour.astype(np.float64), slice(begin, begin + len(task.data.columns))
