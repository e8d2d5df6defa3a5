"""The decoder: what neighbouring keys and the moments before say of a key that seems to go down.

It follows the network (`models.audeo.network`), is the same for every key, and does not look ahead.
An octave on either side, two frames and what has faded since are all that it knows: no pitch
classes, so that it can learn how hands move and how the network errs, but no harmony.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.audeo.network import LOOK_AHEADS, OUTPUTS
from stream.music.keyboard import IS_BLACK

REACH = 12
"""Keys on either side of which the gist is taken in: an octave."""
NEXT = 1
"""Keys on either side of which all is taken in."""
HEARD = 2
"""Outputs of the network that are taken in: onset and frame."""
LIMIT = 8.0
"""Logits are cut to 8 on either side; a key that is silent, or not there, has -8."""
LAGS = 2
"""Frames before this one whose answers without look-ahead are remembered."""
FADES = (4.0, 15.0, 60.0, 30.0, 150.0)
"""Frames in which traces fade: three of onsets, one of keys being down, one of the logit."""
TRACE_GAINS = (1.0, 3.75, 15.0, 1.0, 1.0)
CHANNELS = HEARD * (len(LOOK_AHEADS) + 1 + LAGS) + len(FADES)


@dataclass(frozen=True)
class DecoderConfig:
    """Its sizes: numbers that are the gist of a key, and hidden units."""

    gist: int = 8
    hidden: int = 32


@dataclass
class Recent:
    """What is carried from frame to frame.

    `answers` (LAGS, 2, keys) were given without look-ahead, the last one first, as by `scaled`;
    `traces` (5, keys) fade.
    """

    answers: Tensor
    traces: Tensor


def fresh_recent(keys: int) -> Recent:
    """Return the state before the first frame."""
    return Recent(torch.zeros(LAGS, HEARD, keys), torch.zeros(len(FADES), keys))


def scaled(logits: Tensor) -> Tensor:
    """Return logits as from 0, where a key is silent, to 4."""
    return (logits.clamp(-LIMIT, LIMIT) + LIMIT) / 4


def describe(logits: Tensor, recent: Recent) -> tuple[Tensor, Recent]:
    """Return the features (CHANNELS, keys) of one frame, and the state after it.

    `logits` (keys, look-aheads, outputs) are those of the network. What it says of a frame one
    earlier is surer than what it said then, so that traces are of that.
    """
    now = logits[:, :, :HEARD].permute(1, 2, 0)
    seen, sure = scaled(now), torch.sigmoid(now)
    fed = torch.cat([sure[1, :1].expand(3, -1), sure[1, 1:], seen[0, :1]])
    traces = recent.traces + (fed - recent.traces) / torch.tensor(FADES)[:, None]
    parts = [
        seen.flatten(0, 1), sure[0], recent.answers.flatten(0, 1),
        traces * torch.tensor(TRACE_GAINS)[:, None],
    ]  # fmt: skip
    return torch.cat(parts), Recent(torch.cat([seen[:1], recent.answers[:-1]]), traces)


@torch.no_grad()
def describe_all(logits: Tensor) -> Tensor:
    """Return the features (T, keys, CHANNELS) of logits (T, keys, look-aheads, outputs)."""
    recent = fresh_recent(logits.shape[1])
    described = []
    for now in logits:
        features, recent = describe(now, recent)
        described.append(features.T)
    return torch.stack(described)


class Decoder(nn.Module):
    """Corrects the logit of an onset without look-ahead by what is known of 25 keys around it."""

    def __init__(self, config: DecoderConfig | None = None) -> None:
        super().__init__()
        self.config = config or DecoderConfig()
        gist, hidden = self.config.gist, self.config.hidden
        self.gist = nn.Linear(CHANNELS, gist)
        self.wide = nn.Linear((2 * REACH + 1) * gist, hidden)
        self.near = nn.Linear((2 * NEXT + 1) * CHANNELS, hidden, bias=False)
        self.black = nn.Parameter(torch.zeros(hidden))
        self.middle = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)
        self.gain = nn.Parameter(torch.ones(1))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def correct(self, around: Tensor, black: Tensor, onset: Tensor, drop: float = 0.0) -> Tensor:
        """Return the corrected logits (n,) of keys.

        Parameters
        ----------
        around
            (n, 25, CHANNELS) features of each key in the middle of its neighbours, 0 beyond the
            keyboard.
        black
            (n, 1) 1 for black keys, 0 for white ones.
        onset
            (n,) what the network says without look-ahead.
        drop
            Share of hidden units left out, while it learns.
        """
        next_ = around[:, REACH - NEXT : REACH + NEXT + 1]
        h = self.wide(F.relu(self.gist(around)).flatten(1)) + self.near(next_.flatten(1))
        h = F.dropout(F.relu(h + black * self.black), drop, self.training)
        corrected: Tensor = self.out(F.relu(self.middle(h)))[:, 0]
        return self.gain * onset.clamp(-LIMIT, LIMIT) + corrected

    @torch.no_grad()
    def decode(self, logits: Tensor, first: int = 0) -> Tensor:
        """Return logits (T, keys, look-aheads, outputs), onsets without look-ahead corrected.

        The keys are those from `first` (0 for A0) on.
        """
        keys = logits.shape[1]
        black = torch.from_numpy(IS_BLACK[first : first + keys, None]).float()
        features = F.pad(describe_all(logits), (0, 0, REACH, REACH))
        decoded = logits.clone()
        for t, frame in enumerate(features):
            around = frame.unfold(0, 2 * REACH + 1, 1).transpose(1, 2)
            decoded[t, :, 0, 0] = self.correct(around, black, logits[t, :, 0, 0])
        return decoded


assert OUTPUTS[:HEARD] == ("onset", "frame")
assert LOOK_AHEADS[:2] == (0, 1)
