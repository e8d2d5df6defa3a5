"""Predict & Cluster and SESAR as published, for comparison: whole sequences, not causal.

Su, Liu and Shlizerman, Predict & Cluster, CVPR 2020 (arXiv 1911.12409); Li and Shlizerman, SESAR,
arXiv 2012.01740. Two things are done as the papers say and not as code that is about does them:
the encoder is bidirectional in truth, and the fixed weights of a decoder are fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.sesar.dataset import Sequences

FRAMES = 50
_SPINE, _HIP_L, _HIP_R = 1, 12, 16
Decoding = Literal["fixed weights", "fixed states"]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PublishedConfig:
    """Sizes of the network; 1024 units in each direction are those of the paper."""

    hidden: int = 1024
    layers: int = 3
    decoding: Decoding = "fixed weights"
    classes: int = 10


@dataclass(frozen=True)
class Prepared:
    """Sequences as the encoder takes them.

    Attributes
    ----------
    frames
        (sequences, 50, 60) float32 in [-1, 1], zero after the end.
    length
        (sequences,) int64 frames before the end.
    label
        (sequences,) int64.
    """

    frames: Tensor
    length: Tensor
    label: Tensor


def prepare(sequences: Sequences) -> Prepared:
    """Turn each sequence to the person's view in its first frame, scale it by its own extremes.

    Sequences longer than 50 frames are thinned, as published. Both the scale and the thinning need
    the whole sequence, which is one reason why this does not run live.
    """
    frames = np.zeros((len(sequences), FRAMES, 60), np.float32)
    length = np.zeros(len(sequences), np.int64)
    for number in range(len(sequences)):
        x = _as_seen_by_the_person(sequences.joints(number).astype(np.float64))
        low, high = x.min((0, 1)), x.max((0, 1))
        x = 2 * (x - low) / np.maximum(high - low, 1e-9) - 1
        x = x[:: max(len(x) // FRAMES, 1)][:FRAMES]
        frames[number, : len(x)] = x.reshape(len(x), 60)
        length[number] = len(x)
    return Prepared(
        torch.from_numpy(frames), torch.from_numpy(length), torch.tensor(sequences.label)
    )


def _as_seen_by_the_person(x: NDArray[np.float64]) -> NDArray[np.float64]:
    first = x[0]
    up = _unit(first[_SPINE] - first[0])
    across = first[_HIP_L] - first[_HIP_R]
    across = _unit(across - (across @ up) * up)
    ahead = _unit(np.cross(across, up))
    turned: NDArray[np.float64] = (x - first[0]) @ np.stack([across, ahead, up], axis=1)
    return turned


def _unit(v: NDArray[np.float64]) -> NDArray[np.float64]:
    return v / max(float(np.linalg.norm(v)), 1e-9)


class PredictCluster(nn.Module):
    """An encoder that reads a sequence both ways, a weak decoder, and SESAR's classifier."""

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        self.config = config
        width = 2 * config.hidden
        self.encoder = nn.GRU(
            60, config.hidden, config.layers, batch_first=True, bidirectional=True
        )
        self.decoder = nn.GRU(60, width, batch_first=True)
        self.output = nn.Linear(width, 60)
        self.classifier = nn.Linear(width, config.classes)
        if config.decoding == "fixed weights":
            for parameter in self.decoder.parameters():
                parameter.requires_grad = False

    def encode(self, data: Prepared, rows: Tensor) -> Tensor:
        """Return features (rows, 2 hidden): the last state of either direction."""
        packed = nn.utils.rnn.pack_padded_sequence(
            data.frames[rows], data.length[rows], batch_first=True, enforce_sorted=False
        )
        last = self.encoder(packed)[1]
        return torch.cat([last[-2], last[-1]], dim=-1)

    def decode(self, features: Tensor, frames: Tensor) -> Tensor:
        """Return reconstructed frames (rows, 50, 60)."""
        if self.config.decoding == "fixed weights":
            states = self.decoder(torch.zeros_like(frames), features[None].contiguous())[0]
            whole: Tensor = self.output(states)
            return whole
        now, found = frames[:, 0], [frames[:, 0]]
        for _ in range(frames.shape[1] - 1):
            state = self.decoder(now[:, None], features[None].contiguous())[0][:, 0]
            now = now + self.output(state)
            found.append(now)
        return torch.stack(found, dim=1)

    def reconstruction(self, data: Prepared, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the masked L1 loss of some sequences, and their features."""
        features = self.encode(data, rows)
        frames, length = data.frames[rows], data.length[rows]
        first = 0 if self.config.decoding == "fixed weights" else 1
        ticks = torch.arange(FRAMES)
        inside = (ticks >= first) & (ticks < length[:, None])
        error = (self.decode(features, frames) - frames).abs().sum(-1)
        return ((error * inside).sum(1) / length).mean(), features


@dataclass
class PublishedLoss:
    """Reconstruction of all sequences, and with labels SESAR's joint loss.

    `labelled` (sequences,) bool says whose label may be used; None leaves only reconstruction.
    """

    data: Prepared
    batch: int
    labelled: Tensor | None = None
    share: float = 0.5

    def __call__(self, network: nn.Module, update: int) -> Tensor:
        """Return the loss of a random batch."""
        assert isinstance(network, PredictCluster)
        rows = torch.randint(len(self.data.label), (self.batch,))
        loss, features = network.reconstruction(self.data, rows)
        if self.labelled is None:
            return loss
        known = self.labelled[rows]
        error = F.cross_entropy(
            network.classifier(features[known]), self.data.label[rows[known]], reduction="sum"
        )
        return self.share * error + (1 - self.share) * loss


@torch.no_grad()
def features(network: PredictCluster, data: Prepared, chunk: int = 128) -> Floats:
    """Return the features (sequences, 2 hidden) of all sequences."""
    network.eval()
    parts = torch.arange(len(data.label)).split(chunk)
    return np.concatenate([network.encode(data, rows).numpy() for rows in parts])


def nearest_neighbour(
    train: Floats, train_label: NDArray[np.int64], test: Floats, test_label: NDArray[np.int64]
) -> float:
    """Return the accuracy of the most alike training sequence by cosine."""
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (train, test))
    return float((train_label[(b @ a.T).argmax(1)] == test_label).mean())
