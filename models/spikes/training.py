"""The training loop that all networks on spikes share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.spikes.dataset import SpikeData
from models.trained_folder import save_tensors
from stream.errors import ConfigError


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Attributes
    ----------
    updates
        Upper limit of optimiser steps; the cosine schedule ends there.
    batch, bins
        Stretches per update and bins per stretch.
    skip
        Bins at the start of a stretch without loss, unless their segment starts inside it.
    align
        Begin stretches at segment starts only, for trials of one length.
    learning_rate, matrix_rate
        Peak rate of AdamW, and of Muon for the matrices inside of attention layers.
    warm_up
        Updates until the peak rates are reached.
    weight_decay
        All matrices shrink by this times `learning_rate` an update, those of Muon as well.
    clip
        Largest norm of the gradient.
    hide_entries, hide_units
        Share of input entries, and of whole units in a stretch, that are hidden and predicted.
    rates_weight, behaviour_weight
        Weights of the Poisson loss and of the squared error of standardised behaviour.
    smooth
        Decay per update of the averaged weights, which are the ones kept.
    check_every, patience
        Updates between validations; validations without a better one before training stops.
    seed
        Of stretches, masks and dropout.
    """

    updates: int = 1200
    batch: int = 16
    bins: int = 64
    skip: int = 8
    align: bool = False
    learning_rate: float = 1.5e-3
    matrix_rate: float = 0.02
    warm_up: int = 100
    weight_decay: float = 1.0
    clip: float = 1.0
    hide_entries: float = 0.1
    hide_units: float = 0.1
    rates_weight: float = 1.0
    behaviour_weight: float = 1.0
    smooth: float = 0.99
    check_every: int = 50
    patience: int = 12
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """Where a training stands: updates done, their limit, losses so far."""

    update: int
    updates: int
    train_loss: float
    validation_loss: float
    best_loss: float


@dataclass(frozen=True)
class Result:
    """How a training ended: the update whose weights were kept, its loss, and all losses."""

    best_update: int
    best_loss: float
    history: tuple[Progress, ...]


class Objective(Protocol):
    """Another loss than the one of this module, for networks that are trained in their own way."""

    def __call__(self, network: nn.Module, counts: Tensor, update: int) -> Tensor:
        """Return the loss of stretches of counts (batch, bins, units) at an update."""

    def validation(self, network: nn.Module, counts: Tensor) -> float:
        """Return the loss on a whole part, counts (bins, units)."""


@dataclass
class _Tensors:
    counts: Tensor
    segment: Tensor
    behaviour: Tensor
    taught: Tensor | None = None

    @classmethod
    def of(cls, data: SpikeData) -> _Tensors:
        return cls(
            torch.from_numpy(data.counts),
            torch.from_numpy(data.segment),
            torch.from_numpy(data.behaviour),
        )


def fit(
    network: nn.Module,
    train: SpikeData,
    validation: SpikeData | None,
    inputs: NDArray[np.int64],
    settings: TrainingSettings,
    *,
    taught: NDArray[np.float64] | None = None,
    objective: Objective | None = None,
    checkpoint: Path | None = None,
    pause_at: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Train a network (see `models.spikes.network.RateNetwork`) in place.

    Units that are not in `inputs` are held out: always predicted, never seen. Hidden entries are
    predicted as well, and only hidden and held-out entries have a loss, else the network would
    learn to copy its input. With `validation`, the averaged weights with the lowest validation
    loss are kept; without, those of the last update.

    Parameters
    ----------
    network
        Already calibrated.
    inputs
        (n_in,) columns of the counts that are fed in.
    taught
        (bins of train, units) expected counts as a teacher estimates them, NaN where it is silent.
        The network then sees counts drawn anew from them each time and learns all of them, so that
        it can neither copy its input nor learn the noise of the recording by heart.
    objective
        Another loss, from the network, the counts (batch, bins, units) of stretches and the update.
    checkpoint
        File that the state is written to after each validation, and that an unfinished training
        goes on from if it exists.
    pause_at
        Return after that many updates, a multiple of `check_every`; it goes on from `checkpoint`.

    Raises
    ------
    ConfigError
        The train part is shorter than a stretch.
    """
    run = _Run(network, settings)
    data = _Tensors.of(train)
    if taught is not None:
        data.taught = torch.from_numpy(taught.astype(np.float32))
    columns = torch.from_numpy(inputs)
    starts = _starts(train.segment, settings)
    if checkpoint is not None and checkpoint.exists():
        run.restore(checkpoint)
    until = settings.updates if pause_at is None else pause_at
    while run.update < until and not run.is_over():
        # Seeding every update makes a resumed training equal to one that was never stopped.
        torch.manual_seed(settings.seed * 1_000_003 + run.update + 1)
        network.train()
        chosen = starts[torch.randint(len(starts), (settings.batch,))]
        loss = torch.zeros(())
        if objective is None or taught is not None:
            loss = loss + _loss(network, data, columns, chosen, settings)
        if objective is not None:
            stretches = data.counts[_stretches(chosen, settings)]
            loss = loss + objective(network, stretches, run.update + 1)
        run.step(loss)
        if run.update % settings.check_every and run.update < settings.updates:
            continue
        averaged = run.averaged.module
        if validation is None:
            run.keep(run.running_loss, always=True)
        elif objective is None:
            run.keep(validation_loss(averaged, validation, inputs, settings))
        else:
            run.keep(objective.validation(averaged, torch.from_numpy(validation.counts)))
        if checkpoint is not None:
            run.save(checkpoint)
        if on_progress is not None:
            on_progress(run.history[-1])
    network.load_state_dict(run.kept)
    network.eval()
    return Result(run.best_update, run.best_loss, tuple(run.history))


class _Run:
    """Where a training stands: weights and their average, optimisers, the best so far."""

    _VALUES = ("kept", "best_loss", "best_update", "update", "running_loss")

    def __init__(self, network: nn.Module, settings: TrainingSettings) -> None:
        self.settings = settings
        self.network = network
        self.averaged = torch.optim.swa_utils.AveragedModel(
            network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.smooth)
        )
        self.optimisers = _optimisers(network, settings)
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimiser, lambda update: _rate(update, settings))
            for optimiser in self.optimisers
        ]
        self.kept = {k: v.clone() for k, v in network.state_dict().items()}
        self.best_loss, self.best_update, self.update = math.inf, 0, 0
        self.running_loss = math.nan
        self.history: list[Progress] = []

    def is_over(self) -> bool:
        """Say whether the validation loss has not fallen for too long."""
        s = self.settings
        return (
            self.update % s.check_every == 0
            and self.update - self.best_update >= s.patience * s.check_every
        )

    def step(self, loss: Tensor) -> None:
        """Make one update."""
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        for optimiser, schedule in zip(self.optimisers, self.schedules, strict=True):
            optimiser.step()
            schedule.step()
        self.averaged.update_parameters(self.network)
        self.update += 1
        value, before = float(loss.detach()), self.running_loss
        self.running_loss = value if math.isnan(before) else 0.95 * before + 0.05 * value

    def keep(self, loss: float, *, always: bool = False) -> None:
        """Keep the averaged weights if their loss is the lowest so far, or `always`."""
        if always or loss < self.best_loss:
            self.best_loss, self.best_update = loss, self.update
            self.kept = {k: v.clone() for k, v in self.averaged.module.state_dict().items()}
        self.history.append(
            Progress(self.update, self.settings.updates, self.running_loss, loss, self.best_loss)
        )

    def save(self, path: Path) -> None:
        """Write all of it; see `save_tensors`."""
        state: dict[str, Any] = {k: part.state_dict() for k, part in self._parts().items()}
        state |= {name: getattr(self, name) for name in self._VALUES}
        state["history"] = [tuple(vars(p).values()) for p in self.history]
        save_tensors(path, state)

    def restore(self, path: Path) -> None:
        """Go on from where `save` was called."""
        saved = torch.load(path, weights_only=True)
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        for name in self._VALUES:
            setattr(self, name, saved[name])
        self.history = [Progress(*row) for row in saved["history"]]

    def _parts(self) -> dict[str, Any]:
        return {
            "network": self.network, "averaged": self.averaged,
            **{f"optimiser {i}": part for i, part in enumerate(self.optimisers)},
            **{f"schedule {i}": part for i, part in enumerate(self.schedules)},
        }  # fmt: skip


def _optimisers(network: nn.Module, settings: TrainingSettings) -> list[torch.optim.Optimizer]:
    """Return AdamW, and Muon for the matrices of a network that has `layers`.

    Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024.
    """
    layers = getattr(network, "layers", None)
    inner = [p for p in layers.parameters() if p.ndim == 2] if layers is not None else []
    inside = set(inner)
    outer = [p for p in network.parameters() if p not in inside]
    rate, decay = settings.learning_rate, settings.weight_decay
    groups: list[dict[str, Any]] = [
        {"params": [p for p in outer if p.ndim >= 2]},
        {"params": [p for p in outer if p.ndim < 2], "weight_decay": 0.0},
    ]
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=rate, weight_decay=decay)]
    if inner:
        shrink = decay * rate / settings.matrix_rate
        found.append(torch.optim.Muon(inner, lr=settings.matrix_rate, weight_decay=shrink))
    return found


def _rate(update: int, settings: TrainingSettings) -> float:
    """Return the learning rate relative to its peak: linear warm-up, cosine to 2 %."""
    if update < settings.warm_up:
        return (update + 1) / settings.warm_up
    done = (update - settings.warm_up) / max(settings.updates - settings.warm_up, 1)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _starts(segment: NDArray[np.int64], settings: TrainingSettings) -> Tensor:
    """Return the bins at which a stretch may begin."""
    last = len(segment) - settings.bins
    if last < 0:
        raise ConfigError(
            f"the train part has {len(segment)} bins, fewer than one stretch of {settings.bins}."
        )
    if not settings.align:
        return torch.arange(last + 1)
    begins = np.flatnonzero(np.diff(segment, prepend=segment[0] - 1))
    return torch.from_numpy(begins[begins <= last])


def _stretches(chosen: Tensor, settings: TrainingSettings) -> Tensor:
    return chosen[:, None] + torch.arange(settings.bins)


def _loss(
    network: nn.Module,
    data: _Tensors,
    columns: Tensor,
    chosen: Tensor,
    settings: TrainingSettings,
) -> Tensor:
    index = _stretches(chosen, settings)
    segment, goal = data.segment[index], data.counts[index]
    scored = torch.zeros_like(goal, dtype=torch.bool)
    seen = goal
    if data.taught is not None:
        goal = data.taught[index]
        scored = ~goal.isnan()
        goal = torch.where(scored, goal, seen)
        seen = torch.where(scored, torch.poisson(goal), seen)
    seen = seen[..., columns]
    keep = torch.rand(seen.shape) >= settings.hide_entries
    keep &= torch.rand(settings.batch, 1, len(columns)) >= settings.hide_units
    if data.taught is None:
        scored[:] = True
        scored[..., columns] = ~keep
    log_counts, behaviour = network(seen, segment, keep.to(seen.dtype))
    before = torch.where(chosen > 0, data.segment[chosen - 1], -1)
    settled = torch.arange(settings.bins) >= settings.skip
    settled = settled | (segment != before[:, None])
    log_counts, behaviour, told = _told(network, log_counts, behaviour, segment)
    bins = told.shape[1]
    told = told & settled[:, :bins]
    loss = log_counts.new_zeros(())
    if settings.rates_weight:
        errors = _poisson(log_counts, goal[:, :bins])
        loss = loss + settings.rates_weight * errors[scored[:, :bins] & told[..., None]].mean()
    if behaviour.shape[-1]:
        truth = data.behaviour[index[:, :bins]]
        known = told & ~truth.isnan().any(-1)
        errors = ((behaviour - truth)[known] / network.scales.behaviour_std) ** 2  # type: ignore[union-attr,operator]
        loss = loss + settings.behaviour_weight * errors.mean()
    assert isinstance(loss, Tensor)
    return loss


def _told(
    network: nn.Module, log_counts: Tensor, behaviour: Tensor, segment: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs at the bins that they describe, and which bins are described at all.

    With a delay of k bins, the k last bins are cut off and so are the k last of each segment.
    """
    k = network.delay_bins
    assert isinstance(k, int)
    bins = max(segment.shape[1] - k, 0)
    return log_counts[:, k:], behaviour[:, k:], segment[:, k:] == segment[:, :bins]


def _poisson(log_counts: Tensor, counts: Tensor) -> Tensor:
    return log_counts.exp() - counts * log_counts


@torch.no_grad()
def validation_loss(
    network: nn.Module, data: SpikeData, inputs: NDArray[np.int64], settings: TrainingSettings
) -> float:
    """Return the loss on a whole part: Poisson loss of units that were not seen, behaviour.

    Held-out units are scored as they are; without any, each quarter of the units is hidden in turn.
    """
    network.eval()
    tensors = _Tensors.of(data)
    counts, segment = tensors.counts[None], tensors.segment[None]
    columns = torch.from_numpy(inputs)
    held_out = np.setdiff1d(np.arange(counts.shape[-1]), inputs)

    def run(keep: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        log_counts, behaviour = network(counts[..., columns], segment, keep)
        return _told(network, log_counts, behaviour, segment)

    log_counts, behaviour, told = run()
    bins = told.shape[1]
    total = 0.0
    if settings.rates_weight:
        goal = counts[:, :bins]
        if len(held_out):
            scored = _poisson(log_counts, goal)[..., torch.from_numpy(held_out)]
        else:
            parts = []
            for fold in range(4):
                keep = (torch.arange(len(columns)) % 4 != fold).to(counts.dtype)
                hidden = run(keep.expand(counts.shape))[0]
                parts.append(_poisson(hidden, goal)[..., columns[fold::4]])
            scored = torch.cat(parts, dim=-1)
        total += settings.rates_weight * float(scored[told].mean())
    if behaviour.shape[-1]:
        truth = tensors.behaviour[:bins]
        known = told[0] & ~truth.isnan().any(-1)
        error = (behaviour[0] - truth)[known] / network.scales.behaviour_std  # type: ignore[union-attr,operator]
        total += settings.behaviour_weight * float((error**2).mean())
    return total


@torch.no_grad()
def infer(
    network: nn.Module, data: SpikeData, inputs: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return expected counts (bins, units) and behaviour (bins, D) of a part, run from cold.

    Rows are those of the bins that they describe; bins that a delay leaves without any are NaN.
    """
    network.eval()
    tensors = _Tensors.of(data)
    segment = tensors.segment[None]
    log_counts, behaviour = network(tensors.counts[None][..., torch.from_numpy(inputs)], segment)
    log_counts, behaviour, told = _told(network, log_counts, behaviour, segment)
    whole = []
    for values in (log_counts[0].double().exp(), behaviour[0].double()):
        filled = torch.full((len(data.counts), values.shape[1]), torch.nan, dtype=torch.float64)
        filled[: len(values)][told[0]] = values[told[0]]
        whole.append(filled.numpy())
    return whole[0], whole[1]
