"""The live piano network: causal, the same weights for every key, a state it carries along.

From strips (`stream.music.piano.strip`) it tells for each key and frame whether the key has just
reached its bottom (onset), whether it is down (frame), and how hard it was struck (velocity).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from stream.music.keyboard import CENTRES_U, IS_BLACK, KEYS, WHITES
from stream.music.piano.strip import BLACK_ROWS, FRONT_ROWS, PX_PER_WHITE, STRIP_HEIGHT, STRIP_WIDTH

LOOK_AHEADS = (0, 1, 2, 4)
"""By how many frames the outputs of the heads are late."""

LUMA = (0.114, 0.587, 0.299)
"""Shares of blue, green and red in the brightness of a pixel."""

OUTPUTS = ("onset", "frame", "velocity")
_CHANNELS = 7
_FLAT_ROWS = 7
SEEN_LONG = 100.0
SURPRISE = 0.15
BLANK, DARK = 0.02, 0.05
FRONT = (BLACK_ROWS + 2, BLACK_ROWS + FRONT_ROWS - 2)
"""Rows from which the level of white is taken."""

TAPS = (-0.55, 0.0, 0.55)
"""Where features of a key are taken, in whites from its middle."""
PER_WHITE = PX_PER_WHITE // 4


@dataclass(frozen=True)
class PianoConfig:
    """Sizes of the network: channels of the three convolutions, features of a key, its memory."""

    channels: tuple[int, int, int] = (24, 40, 48)
    features: int = 96
    memory: int = 64


LARGE = PianoConfig((48, 80, 96), 192, 160)
"""Five times as large as usual: too slow to play with, but surer."""


@dataclass
class View:
    """What is carried from frame to frame of the picture; luma (B, 56, width) from 0 to 1.

    `seen` (B, 1, 1) counts frames, up to 100, from which the background was learned.
    """

    background: Tensor
    last: Tensor
    before: Tensor
    seen: Tensor


def fresh_view(batch: int, width: int) -> View:
    """Return the state of a view before its first frame."""
    zeros = torch.zeros(batch, STRIP_HEIGHT, width)
    return View(zeros, zeros, zeros, torch.zeros(batch, 1, 1))


def see(strip: Tensor, view: View) -> tuple[Tensor, View]:
    """Return the channels (B, 7, 56, width) of one frame and the view after it.

    `strip` is (B, 56, width, 4), as `stream.music.piano.strip` has it, float from 0 to 1.
    """
    luma = luma_of(strip)
    first = (view.seen < 1).to(luma.dtype)
    last = view.last * (1 - first) + luma * first
    before = view.before * (1 - first) + luma * first
    background = follow(view.background * (1 - first) + luma * first, luma, view.seen)
    channels = channels_of(strip, luma, background, last, before)
    return channels, View(background, luma, last, (view.seen + 1).clamp(max=SEEN_LONG))


def luma_of(strip: Tensor) -> Tensor:
    """Return the brightness (..., 56, width) of pixels (..., 56, width, 3 or 4)."""
    blue, green, red = strip.unbind(-1)[:3]
    return LUMA[0] * blue + LUMA[1] * green + LUMA[2] * red


def follow(background: Tensor, luma: Tensor, seen: Tensor) -> Tensor:
    """Return the background after a frame: what differs much moves it little, as hands do."""
    rate = 1 / (seen + 1).clamp(max=SEEN_LONG)
    return background + rate * (luma - background).clamp(-SURPRISE, SURPRISE)


def channels_of(
    strip: Tensor, luma: Tensor, background: Tensor, last: Tensor, before: Tensor
) -> Tensor:
    """Return what the convolutions are shown (..., 7, 56, width) of frames (..., 56, width, 4).

    Luma and background over the level of white; how luma differs from the background, from the
    last frame and the one before; red less luma, which is skin; the side of the camera.
    """
    front = background[..., FRONT[0] : FRONT[1], :]
    # Where the grid has no keys, the strip is black.
    there = (front > BLANK).to(luma.dtype)
    level = (front * there).sum((-2, -1), keepdim=True)
    level = level / there.sum((-2, -1), keepdim=True).clamp(min=1) + DARK
    channels = [
        luma / level - 0.7,
        background / level - 0.7,
        3 * (luma - background) / level,
        3 * (luma - last) / level,
        3 * (luma - before) / level,
        2 * (strip[..., 2] - luma) / level,
        2 * strip[..., 3] - 1,
    ]
    return torch.stack(channels, dim=-3)


class PianoNetwork(nn.Module):
    """Convolutions over the strip, features at every key, a gated recurrent unit a key."""

    def __init__(self, config: PianoConfig | None = None) -> None:
        super().__init__()
        self.config = config or PianoConfig()
        c1, c2, c3 = self.config.channels
        features, memory = self.config.features, self.config.memory
        self.first = nn.Sequential(
            nn.Conv2d(_CHANNELS, c1, 3, (2, 2), 1), nn.BatchNorm2d(c1), nn.ReLU(),
            nn.Conv2d(c1, c2, 3, (2, 2), 1), nn.BatchNorm2d(c2), nn.ReLU(),
            nn.Conv2d(c2, c3, 3, (2, 1), 1), nn.BatchNorm2d(c3), nn.ReLU(),
        )  # fmt: skip
        self.flat = nn.Sequential(
            nn.Conv1d(c3 * _FLAT_ROWS, features, 1), nn.BatchNorm1d(features), nn.ReLU()
        )
        self.near = nn.Sequential(
            nn.Conv1d(features, features, 5, padding=2), nn.BatchNorm1d(features), nn.ReLU()
        )
        # As wide as a hand, so that what its fingers do is told apart.
        self.hand = nn.Sequential(
            nn.Conv1d(features, features, 9, padding=8, dilation=2, groups=features),
            nn.Conv1d(features, features, 1), nn.BatchNorm1d(features), nn.ReLU(),
        )  # fmt: skip
        self.white = nn.Linear(3 * features, features)
        self.black = nn.Linear(3 * features, features)
        self.cell = nn.GRU(features, memory, batch_first=True)
        self.out = nn.Linear(memory, len(LOOK_AHEADS) * len(OUTPUTS))
        with torch.no_grad():
            self.out.bias.fill_(-3.0)

    def convolutions(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """Return the convolutions over the picture with their batch norms."""
        convs = [m for m in self.first if isinstance(m, nn.Conv2d)]
        norms = [m for m in self.first if isinstance(m, nn.BatchNorm2d)]
        return list(zip(convs, norms, strict=True))

    def trunk(self, channels: Tensor) -> Tensor:
        """Return features along the strip (N, F, 3 * whites) from (N, 7, 56, 12 * whites)."""
        x = self.flat(self.first(channels).flatten(1, 2))
        near: Tensor = x + self.near(x)
        wide: Tensor = near + self.hand(near)
        return wide

    def keys(self, trunk: Tensor, left: int, beside: float = 0.0) -> Tensor:
        """Return features (N, keys, F) of the keys of `keys_within` from those along the strip.

        They are taken `beside` the keys by so many whites, as where a grid is a little off.
        """
        keys = keys_within(left, trunk.shape[-1] // PER_WHITE)
        centres = torch.from_numpy(CENTRES_U[keys] - left + beside).to(trunk.device)
        at = [_sample(trunk, (centres + s) * PER_WHITE - 0.5) for s in TAPS]
        around = torch.cat(at, dim=1).transpose(1, 2)
        black = torch.from_numpy(IS_BLACK[keys])[:, None].to(trunk.device)
        return F.relu(torch.where(black, self.black(around), self.white(around)))

    def read(self, trunk: Tensor, left: int, beside: float = 0.0) -> Tensor:
        """Return logits (B, T, keys, look-aheads, outputs) from features (B, T, F, 3 * whites)."""
        batch, steps = trunk.shape[:2]
        x = self.keys(trunk.flatten(0, 1), left, beside)
        keys = x.shape[1]
        x = x.reshape(batch, steps, keys, -1).transpose(1, 2).reshape(batch * keys, steps, -1)
        h, _ = self.cell(x)
        logits = self.out(h).reshape(batch, keys, steps, len(LOOK_AHEADS), len(OUTPUTS))
        by_frame: Tensor = logits.transpose(1, 2)
        return by_frame


@torch.no_grad()
def run_through(network: PianoNetwork, strips: NDArray[np.uint8], left: int = 0) -> Tensor:
    """Return logits (T, keys, look-aheads, outputs) of strips (T, 56, width, 4), from cold."""
    return network.read(along(network, strips)[None], left)[0]


@torch.no_grad()
def along(network: PianoNetwork, strips: NDArray[np.uint8]) -> Tensor:
    """Return features along strips (T, F, width / 4) of strips (T, 56, width, 4), from cold.

    Long stretches are taken in parts, so that memory grows with the features only.
    """
    network.eval()
    view = fresh_view(1, strips.shape[2])
    trunks = []
    for begin in range(0, len(strips), 64):
        channels = []
        for strip in torch.from_numpy(np.ascontiguousarray(strips[begin : begin + 64])):
            seen, view = see(strip[None].float() / 255, view)
            channels.append(seen)
        trunks.append(network.trunk(torch.cat(channels)))
    return torch.cat(trunks)


def keys_within(left: int, whites: int) -> NDArray[np.intp]:
    """Return the indices of the keys, 0 to 87, whose middle lies within some whites."""
    return np.flatnonzero((left < CENTRES_U) & (left + whites > CENTRES_U))


def _sample(x: Tensor, at: Tensor) -> Tensor:
    """Return x (N, F, W) at fractional places (K,), linearly between its columns: (N, F, K)."""
    at = at.clamp(0, x.shape[-1] - 1)
    low = at.floor().long().clamp(max=x.shape[-1] - 2)
    share = at - low
    return x[..., low] * (1 - share) + x[..., low + 1] * share


assert STRIP_WIDTH == WHITES * PX_PER_WHITE
assert len(CENTRES_U) == KEYS
