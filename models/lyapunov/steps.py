"""Recurrent layers as plain functions of a flat state, which can be differentiated forwards.

The fused layers of PyTorch have no forward derivative, so the cells are written out here. A state
is one vector: for each layer its h and, of an LSTM, its c right after it. Without c a Jacobian of
an LSTM misses its memory, and a chaotic LSTM passes for a stable one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.spikes.gru import GRU

Step = Callable[[Tensor, Tensor], Tensor]
"""From a state (n,) and an input (m,) to the next state (n,)."""


@dataclass(frozen=True)
class RecurrentStep:
    """One step of a `torch.nn.RNN`, `GRU` or `LSTM` of one direction.

    Attributes
    ----------
    module
        In evaluation mode, or without dropout between its layers.

    Raises
    ------
    ValueError
        The layer has two directions or a projection.
    """

    module: nn.RNNBase

    def __post_init__(self) -> None:
        if self.module.bidirectional or self.module.proj_size:
            raise ValueError("a layer of two directions or with a projection is no step")

    @property
    def size(self) -> int:
        """Length of the state."""
        per_layer = 2 if self.module.mode == "LSTM" else 1
        return per_layer * self.module.num_layers * self.module.hidden_size

    def __call__(self, state: Tensor, fed: Tensor) -> Tensor:
        """Return the state after one step."""
        x, following = fed, []
        for number, old in enumerate(state.chunk(self.module.num_layers)):
            new = _CELLS[self.module.mode](*self._weighted(number, x, old), old)
            following.append(new)
            x = new[: self.module.hidden_size]
        return torch.cat(following)

    def _weighted(self, layer: int, x: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the input and the old h give to the gates."""
        h = old[: self.module.hidden_size]
        given: Tensor = getattr(self.module, f"weight_ih_l{layer}") @ x
        kept: Tensor = getattr(self.module, f"weight_hh_l{layer}") @ h
        if self.module.bias:
            given = given + getattr(self.module, f"bias_ih_l{layer}")
            kept = kept + getattr(self.module, f"bias_hh_l{layer}")
        return given, kept


def gru_baseline_step(network: GRU) -> Step:
    """Return the step of the state of `models.spikes.gru.GRU`, from counts (n_in,)."""
    cell = RecurrentStep(network.gru)
    return lambda state, counts: cell(state, network.scales.standardise(counts))


def _tanh(given: Tensor, kept: Tensor, old: Tensor) -> Tensor:
    return torch.tanh(given + kept)


def _relu(given: Tensor, kept: Tensor, old: Tensor) -> Tensor:
    return torch.relu(given + kept)


def _gru(given: Tensor, kept: Tensor, old: Tensor) -> Tensor:
    (r1, z1, n1), (r2, z2, n2) = given.chunk(3), kept.chunk(3)
    reset, update = torch.sigmoid(r1 + r2), torch.sigmoid(z1 + z2)
    new = torch.tanh(n1 + reset * n2)
    return new + update * (old - new)


def _lstm(given: Tensor, kept: Tensor, old: Tensor) -> Tensor:
    enter, forget, new, out = (given + kept).chunk(4)
    c = torch.sigmoid(forget) * old.chunk(2)[1] + torch.sigmoid(enter) * torch.tanh(new)
    return torch.cat([torch.sigmoid(out) * torch.tanh(c), c])


_CELLS = {"RNN_TANH": _tanh, "RNN_RELU": _relu, "GRU": _gru, "LSTM": _lstm}
