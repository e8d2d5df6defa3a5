"""What every network on spikes has in common: its interface, and the scales of its data."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class RateNetwork(Protocol):
    """A network from spike counts to log expected counts and decoded behaviour.

    `__call__` takes counts (batch, bins, n_in), segment ids (batch, bins) and optionally `keep`
    (batch, bins, n_in) of 0 and 1, which hides entries; it returns log expected spikes per bin
    (batch, bins, n_out) and behaviour (batch, bins, D) in physical units. Its output of a bin
    describes the bin that lies `delay_bins` before it, and nothing in the first ones of a segment.
    """

    delay_bins: int

    def __call__(
        self, counts: Tensor, segment: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run whole stretches."""

    def calibrate(self, counts: Tensor, inputs: Tensor, behaviour: Tensor) -> None:
        """Take scales and starting rates from training data.

        counts is (bins, n_out), inputs (n_in,) the columns that are fed in, behaviour (bins, D).
        """


class Scales(nn.Module):
    """Constants from the training data, kept with the weights.

    `input_mean`, `input_std` (n_in,) standardise log1p counts; `behaviour_mean`, `behaviour_std`
    (D,) bring decoded signals to physical units.
    """

    input_mean: Tensor
    input_std: Tensor
    behaviour_mean: Tensor
    behaviour_std: Tensor

    def __init__(self, n_in: int, behaviour: int) -> None:
        super().__init__()
        self.register_buffer("input_mean", torch.zeros(n_in))
        self.register_buffer("input_std", torch.ones(n_in))
        self.register_buffer("behaviour_mean", torch.zeros(behaviour))
        self.register_buffer("behaviour_std", torch.ones(behaviour))

    def calibrate(self, counts: Tensor, behaviour: Tensor) -> None:
        """Set the scales from counts (bins, n_in) and behaviour (bins, D), NaN where unknown."""
        v = torch.log1p(counts)
        self.input_mean.copy_(v.mean(0))
        # A silent unit keeps a finite scale: the spread that one spike in all bins would have.
        self.input_std.copy_(v.std(0).clamp(min=0.7 / len(v) ** 0.5))
        if behaviour.shape[1]:
            known = behaviour[~behaviour.isnan().any(1)]
            self.behaviour_mean.copy_(known.mean(0))
            self.behaviour_std.copy_(known.std(0).clamp(min=1e-12))

    def standardise(self, counts: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return standardised log1p counts, 0 where `keep` is 0."""
        v = (torch.log1p(counts) - self.input_mean) / self.input_std
        return v if keep is None else v * keep

    def physical(self, behaviour: Tensor) -> Tensor:
        """Return decoded behaviour in physical units."""
        return behaviour * self.behaviour_std + self.behaviour_mean


@torch.no_grad()
def start_at_mean_rates(head: nn.Linear, counts: Tensor) -> None:
    """Set the head's bias to the log mean counts per bin of counts (bins, n_out)."""
    mean = (counts.sum(0) + 0.5) / len(counts)
    head.bias[: counts.shape[1]] = mean.log()
