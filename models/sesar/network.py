"""The causal encoder and its read-out, as a whole run for training and as one step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PERIOD_S = 0.1
"""Time between two ticks of the clock that poses are brought to."""
PARENTS = (0, 0, 1, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18)
JOINTS = len(PARENTS)

_SHOULDER_L, _SHOULDER_R, _HIP_L, _HIP_R = 4, 8, 12, 16
_ENDS = (0, 3, 5, 7, 9, 11, 13, 15, 17, 19)  # hip centre, head, elbows, hands, knees, feet
FEATURES = 9 * JOINTS + len(_ENDS) * (len(_ENDS) - 1)
"""Three vectors a joint; then, of every two ends, their distance and how fast it changes."""
HEADING_S = 0.8
"""Time constant of the running mean that a person's heading is taken from."""
POSITION, SPEED, BONE = 2.5, 1.5, 5.0
"""What metres from the hip centre, metres a second and lengths of bones are multiplied with."""
UNIT_EPSILON, DISTANCE_EPSILON = 1e-8, 1e-4
START_LOG_WEIGHT = -1e4
"""Logarithm of the weight of no evidence yet."""


@dataclass(frozen=True)
class SesarConfig:
    """Sizes of a network.

    Attributes
    ----------
    classes
        Number of outputs.
    hidden, layers
        Of the recurrent encoder.
    dropout
        In training.
    """

    classes: int
    hidden: int = 128
    layers: int = 2
    dropout: float = 0.3


class Sesar(nn.Module):
    """Class probabilities at every tick from joints in space."""

    def __init__(self, config: SesarConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden
        self.inward = nn.Linear(FEATURES, width)
        self.norm = nn.LayerNorm(width)
        # For PyTorch on a CPU an LSTM is twice as fast to train as a GRU of as many units.
        self.lstm = nn.LSTM(
            width, config.hidden, config.layers, batch_first=True, dropout=config.dropout
        )
        with torch.no_grad():
            for layer in range(config.layers):
                # Remember at first: Jozefowicz et al., ICML 2015.
                bias = getattr(self.lstm, f"bias_ih_l{layer}")
                bias[config.hidden : 2 * config.hidden] += 1.0
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, config.classes + 2)
        nn.init.zeros_(self.head.weight[config.classes :])
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.bias[-1] = 4.0

    def features(self, joints: Tensor, heading_rad: Tensor | None = None) -> Tensor:
        """Return what the network sees of joints (clips, ticks, 20, 3): (clips, ticks, 270).

        Joint by joint, position, velocity and bone; then distances, then how fast they change.
        """
        heading = _unit(_average(joints.shape[1]) @ _unit(across(joints)))
        if heading_rad is not None:
            c, s = heading_rad.cos()[:, None], heading_rad.sin()[:, None]
            x, z = heading.unbind(-1)
            heading = torch.stack([c * x - s * z, s * x + c * z], -1)
        world = joints.diff(dim=1, prepend=joints[:, :1]) / PERIOD_S
        root = joints - joints[:, :, :1]
        bones = joints - joints[:, :, list(PARENTS)]
        vectors = torch.stack([POSITION * root, SPEED * world, BONE * bones], dim=-2)
        x, y, z = vectors.unbind(-1)
        hx, hz = heading[:, :, None, None].unbind(-1)
        turned = torch.stack([hx * x + hz * z, y, hx * z - hz * x], -1)
        apart = distances(joints)
        change = apart.diff(dim=1, prepend=apart[:, :1]) / PERIOD_S
        return torch.cat([turned.flatten(2), POSITION * apart, SPEED * change], dim=-1)

    def embed(self, features: Tensor) -> Tensor:
        """Return the input (clips, ticks, hidden) of the recurrent encoder."""
        y: Tensor = self.dropout(F.relu(self.norm(self.inward(features))))
        return y

    def encode(self, joints: Tensor, heading_rad: Tensor | None = None) -> Tensor:
        """Return the states of the encoder, (clips, ticks, hidden)."""
        states: Tensor = self.lstm(self.embed(self.features(joints, heading_rad)))[0]
        return states

    def forward(self, joints: Tensor, heading_rad: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run whole clips (clips, ticks, 20, 3) from cold.

        Returns
        -------
        logits
            (clips, ticks, classes) of the read-out: a running mean of evidence.
        evidence
            (clips, ticks, classes) of each tick alone.
        """
        return self.read(self.encode(joints, heading_rad))

    def read(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and evidence of states (clips, ticks, hidden)."""
        out = self.head(self.dropout(states))
        evidence, gate, keep = out.split([self.config.classes, 1, 1], dim=-1)
        # Keeping less of the past weighs it as much down as it would weigh what follows up.
        weight = (gate - F.logsigmoid(keep).cumsum(dim=1)).transpose(1, 2)
        ticks = weight.shape[-1]
        later = torch.ones(ticks, ticks, dtype=torch.bool).triu(1)
        logits = weight.expand(-1, ticks, -1).masked_fill(later, -math.inf).softmax(-1) @ evidence
        return logits, evidence


def distances(joints: Tensor) -> Tensor:
    """Return how far the ends of a body are apart, (..., 45) of joints (..., 20, 3), in metres.

    Unlike positions they do not depend on a heading, which is an estimate.
    """
    return (ends(joints).square().sum(-1) + DISTANCE_EPSILON).sqrt()


def ends(joints: Tensor) -> Tensor:
    """Return the lines between every two ends of a body, (..., 45, 3)."""
    first, second = zip(*combinations(_ENDS, 2), strict=True)
    return joints[..., list(first), :] - joints[..., list(second), :]


def across(joints: Tensor) -> Tensor:
    """Return the horizontal line (..., 2) from right to left through hips and shoulders."""
    hips = joints[..., _HIP_L, :] - joints[..., _HIP_R, :]
    shoulders = joints[..., _SHOULDER_L, :] - joints[..., _SHOULDER_R, :]
    return (hips + 0.5 * shoulders)[..., (0, 2)]


def _unit(v: Tensor) -> Tensor:
    return v / (v.square().sum(-1, keepdim=True) + UNIT_EPSILON).sqrt()


def _average(ticks: int) -> Tensor:
    """Return weights (ticks, ticks) of a running average; only its direction matters."""
    age = torch.arange(ticks)
    age = age[:, None] - age
    return torch.where(age >= 0, torch.exp(-age * PERIOD_S / HEADING_S), 0.0)
