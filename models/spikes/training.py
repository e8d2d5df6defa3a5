"""The training loop that all networks on spikes share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.spikes.dataset import SpikeData
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
    learning_rate, warm_up, weight_decay, clip
        Of AdamW: peak rate, updates until it is reached, decay, largest norm of the gradient.
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
    targets: NDArray[np.float32] | None = None,
    objective: Objective | None = None,
    checkpoint: Path | None = None,
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
    targets
        (bins of train, units) expected counts to learn from in place of the counts, such as those
        of a teacher.
    objective
        Another loss, from the network, the counts (batch, bins, units) of stretches and the update.
    checkpoint
        File that the state is written to after each validation, and that an unfinished training
        goes on from if it exists.

    Raises
    ------
    ConfigError
        The train part is shorter than a stretch.
    """
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.smooth)
    )
    decayed = [p for p in network.parameters() if p.ndim >= 2]
    others = [p for p in network.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda u: _rate(u, settings))
    data = _Tensors.of(train)
    goal = data.counts if targets is None else torch.from_numpy(targets)
    columns = torch.from_numpy(inputs)
    starts = _starts(train.segment, settings)
    best, best_update, running = math.inf, 0, math.nan
    kept = {k: v.clone() for k, v in network.state_dict().items()}
    history: list[Progress] = []
    first = 1
    if checkpoint is not None and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        averaged.load_state_dict(saved["averaged"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        kept, best, best_update = saved["kept"], saved["best"], saved["best_update"]
        history = [Progress(*row) for row in saved["history"]]
        first = saved["update"] + 1
    for update in range(first, settings.updates + 1):
        waited = update - 1 - best_update
        if (
            update - 1
        ) % settings.check_every == 0 and waited >= settings.patience * settings.check_every:
            break
        # Seeding every update makes a resumed training equal to one that was never stopped.
        torch.manual_seed(settings.seed * 1_000_003 + update)
        network.train()
        chosen = starts[torch.randint(len(starts), (settings.batch,))]
        if objective is None:
            loss = _loss(network, data, goal, columns, chosen, settings)
        else:
            loss = objective(network, data.counts[_stretches(chosen, settings)], update)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        optimiser.step()
        schedule.step()
        averaged.update_parameters(network)
        value = float(loss.detach())
        running = value if math.isnan(running) else 0.95 * running + 0.05 * value
        if update % settings.check_every and update < settings.updates:
            continue
        if validation is None:
            now = running
        elif objective is None:
            now = validation_loss(averaged.module, validation, inputs, settings)
        else:
            now = objective.validation(averaged.module, torch.from_numpy(validation.counts))
        if now < best or validation is None:
            best, best_update = now, update
            kept = {k: v.clone() for k, v in averaged.module.state_dict().items()}
        history.append(Progress(update, settings.updates, running, now, best))
        if checkpoint is not None:
            state = {
                "network": network.state_dict(),
                "averaged": averaged.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
                "kept": kept,
                "best": best,
                "best_update": best_update,
                "update": update,
                "history": [tuple(vars(p).values()) for p in history],
            }
            partial = checkpoint.with_suffix(".partial")
            torch.save(state, partial)
            partial.replace(checkpoint)
        if on_progress is not None:
            on_progress(history[-1])
    network.load_state_dict(kept)
    network.eval()
    return Result(best_update, best, tuple(history))


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
    goal: Tensor,
    columns: Tensor,
    chosen: Tensor,
    settings: TrainingSettings,
) -> Tensor:
    index = _stretches(chosen, settings)
    segment = data.segment[index]
    counts = data.counts[index][..., columns]
    keep = torch.rand(counts.shape) >= settings.hide_entries
    keep &= torch.rand(settings.batch, 1, len(columns)) >= settings.hide_units
    log_counts, behaviour = network(counts, segment, keep.to(counts.dtype))
    before = torch.where(chosen > 0, data.segment[chosen - 1], -1)
    settled = torch.arange(settings.bins) >= settings.skip
    scored = settled | (segment != before[:, None])
    loss = log_counts.new_zeros(())
    if settings.rates_weight:
        hidden = torch.ones(log_counts.shape, dtype=torch.bool)
        hidden[..., columns] = ~keep
        hidden &= scored[..., None]
        loss = loss + settings.rates_weight * _poisson(log_counts, goal[index])[hidden].mean()
    if behaviour.shape[-1]:
        truth = data.behaviour[index]
        known = scored & ~truth.isnan().any(-1)
        errors = ((behaviour - truth)[known] / network.scales.behaviour_std) ** 2  # type: ignore[union-attr,operator]
        loss = loss + settings.behaviour_weight * errors.mean()
    return loss


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
    log_counts, behaviour = network(counts[..., columns], segment)
    total = 0.0
    if settings.rates_weight:
        if len(held_out):
            scored = _poisson(log_counts, counts)[..., torch.from_numpy(held_out)]
        else:
            parts = []
            for fold in range(4):
                keep = (torch.arange(len(columns)) % 4 != fold).to(counts.dtype)
                hidden, _ = network(counts[..., columns], segment, keep.expand(counts.shape))
                quarter = columns[fold::4]
                parts.append(_poisson(hidden, counts)[..., quarter])
            scored = torch.cat(parts, dim=-1)
        total += settings.rates_weight * float(scored.mean())
    if behaviour.shape[-1]:
        known = ~tensors.behaviour.isnan().any(-1)
        error = (behaviour[0] - tensors.behaviour)[known] / network.scales.behaviour_std  # type: ignore[union-attr,operator]
        total += settings.behaviour_weight * float((error**2).mean())
    return total


@torch.no_grad()
def infer(
    network: nn.Module, data: SpikeData, inputs: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return expected counts (bins, units) and behaviour (bins, D) of a part, run from cold."""
    network.eval()
    tensors = _Tensors.of(data)
    log_counts, behaviour = network(
        tensors.counts[None][..., torch.from_numpy(inputs)], tensors.segment[None]
    )
    return log_counts[0].double().exp().numpy(), behaviour[0].double().numpy()
