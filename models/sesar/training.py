"""The training loop that every stage shares: schedule, averaged weights, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.trained_folder import save_tensors

Objective = Callable[[nn.Module, int], Tensor]
"""The loss of a network at an update; it draws its own batch from torch's global generator."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Attributes
    ----------
    updates
        Optimiser steps; the cosine schedule ends there.
    batch
        Clips per update.
    learning_rate, warm_up, weight_decay, clip
        Of AdamW: peak rate, share of the updates until it is reached, decay, largest norm of the
        gradient.
    smooth
        Decay per update of the averaged weights, which are the ones kept.
    check_every
        Updates between checkpoints.
    seed
        Of weights, batches and dropout.
    """

    updates: int = 800
    batch: int = 64
    learning_rate: float = 2e-3
    warm_up: float = 0.15
    weight_decay: float = 0.02
    clip: float = 5.0
    smooth: float = 0.99
    check_every: int = 100
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """Where a training stands: updates done, their number, running mean of the loss."""

    update: int
    updates: int
    loss: float


def fit(
    network: nn.Module,
    objective: Objective,
    settings: TrainingSettings,
    *,
    checkpoint: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train a network in place and leave the averaged weights in it.

    With `checkpoint`, an unfinished training goes on from that file if it is there; the result is
    that of a training that was never stopped.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda u: _rate(u, settings))
    averaged = torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.smooth),
        use_buffers=True,
    )
    parts: dict[str, Any] = {
        "network": network, "optimiser": optimiser, "schedule": schedule, "averaged": averaged,
    }  # fmt: skip
    update, running = 0, math.nan
    if checkpoint is not None and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        update, running = saved["update"], saved["running"]
    while update < settings.updates:
        # Seeding every update makes a resumed training equal to one that was never stopped.
        torch.manual_seed(settings.seed * 1_000_003 + update + 1)
        network.train()
        loss = objective(network, update)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimiser.step()
        schedule.step()
        averaged.update_parameters(network)
        update += 1
        value = float(loss.detach())
        running = value if math.isnan(running) else 0.95 * running + 0.05 * value
        if update % settings.check_every == 0 or update == settings.updates:
            if checkpoint is not None:
                state = {name: part.state_dict() for name, part in parts.items()}
                save_tensors(checkpoint, state | {"update": update, "running": running})
            on_progress(Progress(update, settings.updates, running))
    network.load_state_dict(averaged.module.state_dict())
    network.eval()


def _rate(update: int, settings: TrainingSettings) -> float:
    """Return the learning rate relative to its peak: linear warm-up, cosine to 1 %."""
    warm_up = max(settings.warm_up * settings.updates, 1)
    if update < warm_up:
        return (update + 1) / warm_up
    done = (update - warm_up) / max(settings.updates - warm_up, 1)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
