"""Training of Audeo's networks as published: the smallest loops that do it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from models.audeo.published import (
    FRAMES,
    Discriminator,
    Roll2Midi,
    Video2Roll,
    corrector_loss,
    discriminator_loss,
)

Batch = tuple[Tensor, Tensor]
"""Pictures (n, 5, 100, 900) float32, 0 to 1, and keys (n, 51) of the middle one, 0.0 or 1.0."""


def stacked(frames: Tensor) -> Tensor:
    """Return each five pictures that follow each other: (t, 100, 900) to (t - 4, 5, 100, 900).

    Row i has pictures i to i + 4, and so belongs to the keys of picture i + 2. It is a view.
    """
    return frames.unfold(0, FRAMES, 1).movedim(-1, 1)


def balanced_rows(
    keys: NDArray[np.bool_], number: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Draw frames so that each key, and silence, comes up equally often.

    Parameters
    ----------
    keys
        (frames, 51) which keys are down.
    number
        How many to draw; the published code draws 20,000 for what it calls an epoch.
    random
        Where chance comes from.

    Returns
    -------
    numpy.ndarray
        (number,) row numbers; a key that is never down is never drawn for.
    """
    kinds = np.column_stack([keys, ~keys.any(1)])
    rows = [there for kind in kinds.T if len(there := np.flatnonzero(kind))]
    return np.array([random.choice(rows[i]) for i in random.integers(len(rows), size=number)])


@dataclass(frozen=True)
class Fitted:
    """A trained network, and how that went.

    Attributes
    ----------
    network
        With its last weights: notes were still getting better when the loss in validation was not.
    training, validation
        Mean loss of each epoch.
    """

    network: Video2Roll
    training: tuple[float, ...]
    validation: tuple[float, ...]


def fit_video2roll(
    batches: Iterable[Batch],
    validation: Iterable[Batch],
    *,
    epochs: int = 10,
    seconds: float = float("inf"),
    patience: int = 2,
    device: str = "cpu",
    show: Callable[[int, float, float], None] = lambda *_: None,
) -> Fitted:
    """Train Video2Roll as published: Adam at 0.001, a tenth of it when the loss stands still.

    Parameters
    ----------
    batches, validation
        Gone through once an epoch; the published batches have 64 rows, drawn by `balanced_rows`.
    epochs
        How often.
    seconds
        After which no further epoch begins.
    patience
        After how many epochs without gain the rate falls; fewer batches need more.
    device
        Of torch.
    show
        Told the number of each epoch, from 1, and its two losses.
    """
    # This order of channels and bfloat16 take 0.4 of the time on a CPU that has both.
    network = Video2Roll().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    began = time.monotonic()
    optimiser = Adam(network.parameters(), lr=1e-3)
    schedule = ReduceLROnPlateau(optimiser, patience=patience)
    losses: list[tuple[float, float]] = []
    for epoch in range(1, epochs + 1):
        network.train()
        found = []
        for frames, keys in batches:
            loss = _key_loss(network, frames, keys, device)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            found.append(loss.item())
        trained = float(np.mean(found))
        schedule.step(trained)
        network.eval()
        with torch.no_grad():
            held_out = float(np.mean([_key_loss(network, *b, device).item() for b in validation]))
        losses.append((trained, held_out))
        show(epoch, trained, held_out)
        if time.monotonic() - began > seconds:
            break
    return Fitted(network.eval(), tuple(a for a, _ in losses), tuple(b for _, b in losses))


def _key_loss(network: Video2Roll, frames: Tensor, keys: Tensor, device: str) -> Tensor:
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        logits = network(frames.to(device, memory_format=torch.channels_last))
    return F.binary_cross_entropy_with_logits(logits.float(), keys.to(device))


class Roll2MidiTraining:
    """Trains Roll2Midi and its discriminator by turns, as published: both by Adam at 0.0005."""

    def __init__(self, device: str = "cpu") -> None:
        self.network = Roll2Midi().to(device)
        self.discriminator = Discriminator().to(device)
        self._corrector = Adam(self.network.parameters(), lr=5e-4)
        self._judge = Adam(self.discriminator.parameters(), lr=5e-4)

    def step(self, rolls: Tensor, true: Tensor) -> tuple[float, float]:
        """Take one step of each; the published batches have 16 rows.

        Parameters
        ----------
        rolls
            Probabilities (n, 1, 51, 100) that Video2Roll gave.
        true
            The keys that were down, of the same shape.

        Returns
        -------
        tuple of float
            The losses of Roll2Midi and of the discriminator before their step.
        """
        corrected = self.network(rolls)
        loss = corrector_loss(corrected, true, self.discriminator(corrected))
        self._corrector.zero_grad()
        loss.backward()
        self._corrector.step()
        judged = discriminator_loss(
            self.discriminator(true), self.discriminator(corrected.detach())
        )
        self._judge.zero_grad()
        judged.backward()
        self._judge.step()
        return loss.item(), judged.item()
