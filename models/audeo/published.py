"""Audeo's two networks as published, for comparison: a piano roll from video, and its correction.

Su, Liu and Shlizerman, Audeo: Audio Generation for a Silent Performance Video, NeurIPS 2020 (arXiv
2006.14348). What the paper leaves open is as in the authors' public code; `docs/audeo-published.md`
says what that is, and what is not known.

`Video2Roll` sees five grey pictures of the keyboard and tells which of 51 keys are down in the
middle one, so that it is two pictures late at least::

    x2, x3, x4 = the last three stages of a ResNet-18 whose first convolution is 11 x 11
    top = conv1x1(x4), 64 channels
    each stage is brought to 128 channels and the size of the last: f2, f3, f4
    p4 = f4 * gate(f4, top);  p3 = f3 * gate(f3, p4);  p2 = f2 * gate(f2, p3)
    keys = linear(mean over places of (p4 + conv1x1(softmax over places of (p2 * p3) * p4)))

`Roll2Midi` corrects 4 s of its output (51 keys x 100 frames) at once: a U-Net whose maps all keep
that size, trained against a discriminator of patches.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FRAMES = 5
HEIGHT, WIDTH = 100, 900
"""Pictures that are seen at once, and their size."""
KEYS = slice(15, 66)
"""Which of the 88 keys there are: MIDI pitches 36 to 86."""
RATE_HZ = 25
"""Pictures a second."""
ROLL_FRAMES = 100
"""Frames that `Roll2Midi` corrects at once."""
KEY_THRESHOLD, ROLL_THRESHOLD = 0.4, 0.5
"""From which probability a key is down, in what either network gives out."""
ADVERSARIAL = 0.001
"""Weight of the discriminator's opinion in the loss of `Roll2Midi`."""

_KEYS = KEYS.stop - KEYS.start
_WIDTH = 128
_TOP = 64
# The code says BatchNorm2d(width, 0.8), which sets epsilon, where momentum may have been meant.
_EPSILON = 0.8


class Video2Roll(nn.Module):
    """Which keys are down, from five pictures around a moment. 12.7 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(FRAMES, 64, 11, stride=2, padding=4, bias=False),
            nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1),
        )  # fmt: skip
        self.stage1 = nn.Sequential(_Residual(64, 64), _Residual(64, 64))
        self.stage2 = nn.Sequential(_Residual(64, 128, 2), _Residual(128, 128))
        self.stage3 = nn.Sequential(_Residual(128, 256, 2), _Residual(256, 256))
        self.stage4 = nn.Sequential(_Residual(256, 512, 2), _Residual(512, 512))
        self.top = nn.Sequential(nn.Conv2d(512, _TOP, 1), nn.BatchNorm2d(_TOP), nn.ReLU())
        half = nn.AvgPool2d(2)
        self.transform2 = nn.Sequential(_Transform(128, half), _Transform(_WIDTH, half))
        self.transform3 = _Transform(256, half)
        self.transform4 = _Transform(512, nn.AvgPool2d(3, stride=1))
        self.gate4 = _Gate(_TOP)
        self.gate3 = _Gate(_WIDTH)
        self.gate2 = _Gate(_WIDTH)
        self.attended = nn.Conv2d(_WIDTH, _WIDTH, 1)
        self.keys = nn.Linear(_WIDTH, _KEYS)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, frames: Tensor) -> Tensor:
        """Return logits (n, 51) of the keys in the middle one of pictures (n, 5, 100, 900)."""
        x2 = self.stage2(self.stage1(self.stem(frames)))
        x3 = self.stage3(x2)
        x4 = self.stage4(x3)
        p4 = self.gate4(self.transform4(x4), self.top(x4))
        p3 = self.gate3(self.transform3(x3), p4)
        p2 = self.gate2(self.transform2(x2), p3)
        attention = (p2 * p3).flatten(2).softmax(-1).view_as(p4)
        seen = p4 + self.attended(attention * p4)
        logits: Tensor = self.keys(seen.mean((2, 3)))
        return logits


class _Residual(nn.Module):
    """Two convolutions beside a shortcut, as in a ResNet-18."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.inner(x) + self.shortcut(x))


class _Transform(nn.Module):
    """Brings a stage to 128 channels and, by its pooling, nearer to the size of the last one."""

    def __init__(self, inputs: int, pool: nn.Module) -> None:
        super().__init__()
        # Padded though it has one tap: the maps of all stages meet only with this border.
        self.narrow = nn.Conv2d(inputs, _WIDTH, 1, padding=1, bias=False)
        self.inner = nn.Sequential(
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(_WIDTH), nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, bias=False),
        )  # fmt: skip
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = self.narrow(x)
        pooled: Tensor = self.pool(x + self.inner(x))
        return pooled


class _Gate(nn.Module):
    """Weighs the channels of a stage by what it and the one above it hold on the whole."""

    def __init__(self, above: int) -> None:
        super().__init__()
        self.weights = nn.Sequential(
            nn.Linear(_WIDTH + above, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH), nn.Sigmoid()
        )

    def forward(self, x: Tensor, above: Tensor) -> Tensor:
        weights: Tensor = self.weights(torch.cat([x, above], 1).mean((2, 3)))
        return x * weights[:, :, None, None]


class Roll2Midi(nn.Module):
    """Corrects a piano roll. 25.1 million parameters, each used at each of its 5100 cells."""

    def __init__(self) -> None:
        super().__init__()
        down = (1, 64, 128, 256, 512, 1024, 1024)
        self.down = nn.ModuleList(
            _down(a, b, normal=i > 0, dropout=i > 1) for i, (a, b) in enumerate(pairwise(down))
        )
        up = (512, 256, 128, 64, 16)
        inputs = (1024, *(a + b for a, b in zip(up[:-1], down[5:1:-1], strict=True)))
        self.up = nn.ModuleList(
            _up(a, b, dropout=i < 3) for i, (a, b) in enumerate(zip(inputs, up, strict=True))
        )
        self.out = nn.Conv2d(up[-1] + down[1], 1, 1)
        self.apply(_initialise)

    def forward(self, roll: Tensor) -> Tensor:
        """Return the corrected roll of a roll, both probabilities (n, 1, 51, 100)."""
        found = [roll]
        for layer in self.down:
            found.append(layer(found[-1]))
        x = found.pop()
        for layer in self.up:
            x = torch.cat([layer(x), found.pop()], 1)
        corrected: Tensor = torch.sigmoid(self.out(x))
        return corrected


def _down(inputs: int, outputs: int, *, normal: bool, dropout: bool) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
    if normal:
        layers.append(nn.BatchNorm2d(outputs, eps=_EPSILON))
    layers.append(nn.LeakyReLU(0.2))
    if dropout:
        layers.append(nn.Dropout(0.5))
    return nn.Sequential(*layers)


def _up(inputs: int, outputs: int, *, dropout: bool) -> nn.Module:
    layers: list[nn.Module] = [
        nn.ConvTranspose2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs, eps=_EPSILON),
        nn.ReLU(),
    ]
    if dropout:
        layers.append(nn.Dropout(0.5))
    return nn.Sequential(*layers)


class Discriminator(nn.Module):
    """Tells patches of true rolls from patches of corrected ones."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, 64, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for inputs, outputs, stride in ((64, 128, 2), (128, 256, 2), (256, 512, 1)):
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride, padding=1),
                nn.InstanceNorm2d(outputs), nn.LeakyReLU(0.2),
            ]  # fmt: skip
        self.layers = nn.Sequential(*layers, nn.Conv2d(512, 1, 3, padding=1))
        self.apply(_initialise)

    def forward(self, roll: Tensor) -> Tensor:
        """Return for rolls (n, 1, 51, 100) how true each patch looks, (n, 1, 7, 13): 1 is true."""
        judged: Tensor = self.layers(roll)
        return judged


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def corrector_loss(corrected: Tensor, true: Tensor, judged: Tensor) -> Tensor:
    """Return the loss of `Roll2Midi`: nearly all of it the squared error of the roll.

    `judged` is what the discriminator says of `corrected`; it should say 1.
    """
    fooled = F.mse_loss(judged, torch.ones_like(judged))
    return ADVERSARIAL * fooled + (1 - ADVERSARIAL) * F.mse_loss(corrected, true)


def discriminator_loss(judged_true: Tensor, judged_corrected: Tensor) -> Tensor:
    """Return the loss of the discriminator (least squares): 1 for true rolls, 0 for others."""
    return 0.5 * (
        F.mse_loss(judged_true, torch.ones_like(judged_true))
        + F.mse_loss(judged_corrected, torch.zeros_like(judged_corrected))
    )
