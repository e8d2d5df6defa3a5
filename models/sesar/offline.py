"""A network like `Sesar` that reads whole sequences both ways: what a causal one has to forgo."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.sesar.augment import Sampler
from models.sesar.dataset import Sequences
from models.sesar.evaluation import SEEN
from models.sesar.network import Sesar, SesarConfig
from models.sesar.objectives import SMOOTHING, ClipLoss

_CHUNK = 128


class Offline(Sesar):
    """As `Sesar`, but every state has seen the whole clip; `length` says where that ends."""

    def __init__(self, config: SesarConfig) -> None:
        super().__init__(config)
        self.lstm = nn.LSTM(
            config.hidden, config.hidden, config.layers,
            batch_first=True, dropout=config.dropout, bidirectional=True,
        )  # fmt: skip
        self.both = nn.Linear(2 * config.hidden, config.hidden)

    def whole(self, joints: Tensor, length: Tensor, heading_rad: Tensor | None = None) -> Tensor:
        """Return logits (clips, classes) of clips (clips, ticks, 20, 3) with (clips,) ticks."""
        x = self.embed(self.features(joints, heading_rad))
        packed = nn.utils.rnn.pack_padded_sequence(
            x, length, batch_first=True, enforce_sorted=False
        )
        states = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]
        logits: Tensor = self.read(self.both(states))[0][torch.arange(len(length)), length - 1]
        return logits


class OfflineLoss(ClipLoss):
    """Cross-entropy of clips: two thirds whole, of one third what was seen at a random moment."""

    def __call__(self, network: nn.Module, update: int) -> Tensor:
        """Return the loss of a random batch."""
        assert isinstance(network, Offline)
        clips, label = self.draw()
        early = 1 + (torch.rand(self.batch) * clips.length).long()
        length = torch.where(torch.rand(self.batch) < 1 / 3, early, clips.length)
        logits = network.whole(clips.joints, length, clips.heading_rad)
        return F.cross_entropy(logits, label, label_smoothing=SMOOTHING)


@torch.no_grad()
def judge_whole(network: Offline, sequences: Sequences) -> NDArray[np.float32]:
    """Return probabilities (shares seen, sequences, classes).

    What was seen so far is run anew as if it were all, as an offline network has to be run.
    """
    network.eval()
    sampler = Sampler(sequences)
    found = np.zeros((len(SEEN), len(sequences), network.config.classes), np.float32)
    for chosen in torch.from_numpy(np.argsort(sequences.length)).split(_CHUNK):
        clips = sampler.whole(chosen)
        for row, share in zip(found, SEEN, strict=True):
            seen = (clips.length * share).ceil().long()
            row[chosen.numpy()] = network.whole(clips.joints, seen).softmax(-1).numpy()
    return found
