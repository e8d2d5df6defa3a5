"""Baselines as tensors and plain numbers, which is what a trained folder holds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from models.spikes.baselines.glm import PoissonGlm
from models.spikes.baselines.kalman import Kalman
from models.spikes.baselines.mlp import Mlp
from models.spikes.baselines.smoothing import Smoothing
from models.spikes.baselines.wiener import Wiener

Baseline = Smoothing | PoissonGlm | Wiener | Mlp | Kalman

BASELINES: dict[str, type[Baseline]] = {
    "smoothing": Smoothing, "glm": PoissonGlm, "wiener": Wiener, "kalman": Kalman, "mlp": Mlp,
}  # fmt: skip
"""System to its class."""


def to_tensors(model: Baseline) -> dict[str, Any]:
    """Return the fields of a baseline, arrays as tensors."""
    fields = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
    return {name: _tensor(value) for name, value in fields.items()}


def from_tensors(system: str, stored: dict[str, Any]) -> Baseline:
    """Return the baseline whose fields these are; raises TypeError when they are another's."""
    return BASELINES[system](**{name: _array(value) for name, value in stored.items()})


def _tensor(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_tensor(item) for item in value)
    return torch.from_numpy(np.ascontiguousarray(value)) if np.ndim(value) else value


def _array(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_array(item) for item in value)
    return value.numpy() if isinstance(value, torch.Tensor) else value
