"""Multilayer perceptron on the newest bins: a Wiener filter that need not be linear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from models.spikes.baselines.history import Floats, lagged
from models.spikes.baselines.wiener import LAGS

HIDDEN = (256, 256)
DROPOUT = 0.3
BATCH = 128
EPOCHS = 60
PATIENCE = 10


@dataclass(frozen=True)
class Mlp:
    """A perceptron with rectified hidden layers from lagged counts to behaviour.

    Attributes
    ----------
    mean, scale
        (units,) mean and standard deviation of square-rooted counts in the training part.
    weights, biases
        One matrix (inputs, outputs) and one vector a layer; inputs of the first are lags x units,
        newest bin first.
    lags
        How many bins are used, the newest included.
    """

    mean: Floats
    scale: Floats
    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    lags: int

    def predict(self, counts: ArrayLike, segment: NDArray[np.int64]) -> Floats:
        """Return decoded behaviour, (bins, d).

        Step form: state (lags - 1, units) of the newest `(sqrt(counts) - mean) / scale`, zero at
        the start of a segment; then `max(0, h @ weights + bias)` a layer, the last without max.

        Parameters
        ----------
        counts
            (bins, units).
        segment
            (bins,).
        """
        z = (np.sqrt(np.asarray(counts, np.float64)) - self.mean) / self.scale
        h = lagged(z, segment, self.lags).reshape(len(z), -1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = np.maximum(h @ weight + bias, 0)
        return np.asarray(h @ self.weights[-1] + self.biases[-1])


def fit_mlp(
    counts: ArrayLike,
    behaviour: ArrayLike,
    segment: NDArray[np.int64],
    validation_start: int,
    *,
    seed: int,
    lags: int = LAGS,
) -> Mlp:
    """Train by squared error with dropout; the validation part says when to stop.

    Parameters
    ----------
    counts, behaviour
        (bins, units) and (bins, d) of the training part. Bins without behaviour (NaN) are left
        out.
    segment
        (bins,).
    validation_start
        First row of the validation part, which is not trained on.
    seed
        Of the first weights, the order of batches and dropout.
    lags
        How many bins are used, the newest included.
    """
    root = np.sqrt(np.asarray(counts, np.float64))
    y = np.asarray(behaviour, np.float64)
    early = slice(0, validation_start)
    mean, scale = root[early].mean(axis=0), root[early].std(axis=0)
    scale[scale == 0] = 1
    y_mean, y_scale = np.nanmean(y[early], axis=0), np.nanstd(y[early], axis=0)
    y_scale[y_scale == 0] = 1
    history = lagged((root - mean) / scale, segment, lags).reshape(len(root), -1)
    known = np.asarray(~np.isnan(y).any(axis=1))
    x = torch.as_tensor(history, dtype=torch.float32)
    target = torch.as_tensor((y - y_mean) / y_scale, dtype=torch.float32)
    train = torch.as_tensor(np.flatnonzero(known[:validation_start]))
    held = torch.as_tensor(np.flatnonzero(known[validation_start:]) + validation_start)

    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _train(x, target, train, held, generator)
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    weights = [layer.weight.detach().double().numpy().T for layer in linear]
    biases = [layer.bias.detach().double().numpy() for layer in linear]
    weights[-1], biases[-1] = weights[-1] * y_scale, biases[-1] * y_scale + y_mean
    return Mlp(mean, scale, tuple(weights), tuple(biases), lags)


def _train(
    x: torch.Tensor,
    target: torch.Tensor,
    train: torch.Tensor,
    held: torch.Tensor,
    generator: torch.Generator,
) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = x.shape[1]
    for hidden in HIDDEN:
        layers += [nn.Dropout(DROPOUT), nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    net = nn.Sequential(*layers, nn.Dropout(DROPOUT), nn.Linear(width, target.shape[1]))
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    best, best_loss, since = net.state_dict(), float("inf"), 0
    for _ in range(EPOCHS):
        net.train()
        order = train[torch.randperm(len(train), generator=generator)]
        for batch in torch.split(order, BATCH):  # type: ignore[no-untyped-call]
            optimiser.zero_grad()
            loss = nn.functional.mse_loss(net(x[batch]), target[batch])
            torch.autograd.backward(loss)
            optimiser.step()
        net.eval()
        with torch.no_grad():
            held_loss = float(nn.functional.mse_loss(net(x[held]), target[held]))
        since += 1
        if held_loss < best_loss:
            best = {name: value.clone() for name, value in net.state_dict().items()}
            best_loss, since = held_loss, 0
        if since == PATIENCE:
            break
    net.load_state_dict(best)
    return net.eval()
