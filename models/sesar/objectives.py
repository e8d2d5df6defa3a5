"""What the stages of training minimise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.sesar.augment import Augmentation, Clips, Sampler
from models.sesar.dataset import Sequences
from models.sesar.streams import StreamMaker, StreamSettings

_PARTS = 2
SMOOTHING = 0.1
"""Of labels: the share that is spread over all classes."""


@dataclass
class ClipLoss:
    """Cross-entropy on segmented clips: at the end, at a moment before, and of ticks alone."""

    sequences: Sequences
    batch: int
    augmentation: Augmentation

    def __post_init__(self) -> None:
        self._sampler = Sampler(self.sequences)
        self._label = torch.from_numpy(self.sequences.label)

    def draw(self) -> tuple[Clips, Tensor]:
        """Return random changed clips, and their labels (clips,)."""
        chosen = torch.randint(len(self._label), (self.batch,))
        return self._sampler.augmented(chosen, self.augmentation), self._label[chosen]

    def __call__(self, network: nn.Module, update: int) -> Tensor:
        """Return the loss of a random batch."""
        clips, labels = self.draw()
        # A first tick says little; from the middle on every tick should know.
        length, ticks = clips.length, torch.arange(clips.joints.shape[1])
        share = (2 * (ticks + 1) / length[:, None]).clamp(max=1.0) * (ticks < length[:, None])
        at_end = F.one_hot(length - 1, len(ticks)) / self.batch
        early = (torch.rand(self.batch) * length).long()
        weight = at_end + 0.5 * F.one_hot(early, len(ticks)) / self.batch
        loss = torch.zeros(())
        for rows, part in clips.parts(_PARTS):
            made = network(part.joints, part.heading_rad)
            label = labels[rows, None].expand(part.joints.shape[:2])
            for values, of in zip(made, (weight, 0.5 * share / share.sum()), strict=True):
                loss = loss + _weighted_error(values, label, of[rows, : label.shape[1]])
        return loss


def _weighted_error(logits: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Return the sum of weighted cross-entropies of logits (clips, ticks, classes)."""
    each = F.cross_entropy(
        logits.flatten(0, 1), label.flatten(), label_smoothing=SMOOTHING, reduction="none"
    )
    return (each * weight.flatten()).sum()


@dataclass
class StreamLoss:
    """Cross-entropy at every tick of chained streams, and on segmented clips beside it."""

    actions: Sequences
    background: Sequences
    batch: int
    augmentation: Augmentation
    streams: StreamSettings

    def __post_init__(self) -> None:
        self._maker = StreamMaker(self.actions, self.background, self.streams)
        self._clips = ClipLoss(self.actions, self.batch, self.augmentation)

    def __call__(self, network: nn.Module, update: int) -> Tensor:
        """Return the loss of a random batch."""
        made = self._maker.make(self.batch // 4, self.augmentation)
        logits, evidence = network(made.joints)
        weight = made.weight / made.weight.sum()
        return (
            self._clips(network, update)
            + _weighted_error(logits, made.label, weight)
            + 0.5 * _weighted_error(evidence, made.label, weight)
        )


@dataclass
class ContrastiveLoss:
    """Two changed clips of one performance should look alike, and like no other (SimCLR).

    With `pairs`, the second clip is at that rate taken from another camera's recording of the same
    performance: no labels, but knowledge of which recordings were made together.

    Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020.
    """

    sequences: Sequences
    batch: int
    augmentation: Augmentation
    projector: nn.Module
    temperature: float = 0.1
    pairs: float = 0.0

    def __post_init__(self) -> None:
        self._sampler = Sampler(self.sequences)
        same = self.sequences.performance[:, None] == self.sequences.performance
        np.fill_diagonal(same, False)
        self._other = torch.from_numpy(np.where(same.any(1), same.argmax(1), np.arange(len(same))))

    def __call__(self, network: nn.Module, update: int) -> Tensor:
        """Return the loss of a random batch."""
        first = torch.randperm(len(self._other))[: self.batch]
        second = torch.where(torch.rand(self.batch) < self.pairs, self._other[first], first)
        clips = self._sampler.augmented(torch.cat([first, second]), self.augmentation)
        order, summaries = [], []
        for rows, part in clips.parts(2 * _PARTS):
            states = network.encode(part.joints, part.heading_rad)  # type: ignore[operator]
            summaries.append(summary(states, part.length))
            order.append(rows)
        seen = torch.cat(summaries)[torch.cat(order).argsort()]
        z = F.normalize(self.projector(seen), dim=-1)
        likeness = (z @ z.T / self.temperature).fill_diagonal_(-torch.inf)
        partner = torch.arange(2 * self.batch).roll(self.batch)
        return F.cross_entropy(likeness, partner)


def summary(states: Tensor, length: Tensor) -> Tensor:
    """Return mean and last state (clips, 2 hidden) of states (clips, ticks, hidden)."""
    inside = (torch.arange(states.shape[1]) < length[:, None])[..., None]
    mean = (states * inside).sum(1) / length[:, None]
    return torch.cat([mean, states[torch.arange(len(length)), length - 1]], dim=-1)


def projector(width: int) -> nn.Module:
    """Return the layers between a summary and the contrastive loss, which are thrown away."""
    return nn.Sequential(nn.Linear(width, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 64))
