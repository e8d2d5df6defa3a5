"""What the piano network learns from: crops of clips, in another light, with labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.audeo.dataset import Stored, mirrored
from models.audeo.network import (
    OUTPUTS,
    SEEN_LONG,
    channels_of,
    follow,
    keys_within,
    luma_of,
)
from stream.music.keyboard import CENTRES_U, KEYS, LOWEST_PITCH, WHITES
from stream.music.piano.strip import PX_PER_WHITE, side_of
from stream.vision.opencv import load_cv2

Random = np.random.Generator
_UNSURE_U = 3.0
_FAST_S, _SLOW_S = 0.025, 0.1
_SPREAD = 9
"""Frames all over a clip, of which the median is its background."""


@dataclass(frozen=True)
class Labels:
    """Targets (T, keys) of a crop and which of them count: -1 marks what does not."""

    onset: NDArray[np.float32]
    frame: NDArray[np.float32]
    velocity: NDArray[np.float32]


def labels_of(presses: NDArray[np.float64], times_s: NDArray[np.float64]) -> Labels:
    """Return the labels (T, 88) of presses (n, 7) at the times of frames (T,).

    The onset is in the first frame in which the key is at its bottom, and still counts in the next.
    The frame before it, in which the key may look the same, does not count, nor do those in which
    the key rises.
    """
    shape = (len(times_s), KEYS)
    onset, frame, velocity = (np.zeros(shape, np.float32) for _ in range(3))
    velocity[:] = -1
    for pitch, bottom, release, force, _, travel, rise in presses:
        key = int(pitch) - LOWEST_PITCH
        a = int(np.searchsorted(times_s, bottom))
        end = int(np.searchsorted(times_s, release))
        risen = int(np.searchsorted(times_s, release + rise))
        began = int(np.searchsorted(times_s, bottom - travel))
        frame[a:end, key] = 1
        frame[min(began, a) : a, key] = -1
        frame[end:risen, key] = -1
        if bottom > times_s[0] - travel and a < len(times_s):
            onset[a : a + 2, key] = 1
            velocity[a : a + 2, key] = force / 127
            if a and onset[a - 1, key] == 0:
                onset[a - 1, key] = -1
    return Labels(onset, frame, velocity)


@dataclass(frozen=True)
class Light:
    """Another light for a crop: its colours times `gain` (3,), to the power `gamma`, or grey."""

    gain: NDArray[np.float32]
    gamma: float = 1.0
    grey: bool = False


def _draw_light(rng: Random) -> Light:
    gain = np.ones(3)
    if rng.random() < 0.7:
        gain = float(np.exp(rng.normal(0, 0.18))) * np.exp(rng.normal(0, 0.04, 3))
    gamma = float(np.exp(rng.normal(0, 0.25))) if rng.random() < 0.3 else 1.0
    return Light(gain.astype(np.float32), gamma, bool(rng.random() < 0.15))


class Crop(NamedTuple):
    """Part of a clip.

    Strips (T, 56, width, 3) uint8 with the side of the camera (width,) from 0 to 1, and the light
    in which they are to appear. `background` (56, width, 3) uint8 had been seen for `seen` frames
    before, none for 0. Labels (T, keys), which keys count (keys,), and the first white.
    """

    strips: NDArray[np.uint8]
    side: NDArray[np.float32]
    light: Light
    background: NDArray[np.uint8]
    seen: int
    labels: Labels
    counts: NDArray[np.bool_]
    left: int


def draw_crop(rng: Random, clip: Stored, whites: int, frames: int, note: int = 0) -> Crop:
    """Draw a crop of a clip, `whites` wide, in another light and a little displaced.

    It begins with the white key `note` (0 to 6) of an octave, if the clip is wide enough.
    """
    if rng.random() < 0.5:
        clip = mirrored(clip)
    total, width = len(clip.strips), clip.strips.shape[2] // PX_PER_WHITE
    stride = _draw_stride(rng, clip)
    frames_needed = frames * stride
    begin = int(rng.integers(0, max(1, total - frames_needed + 1)))
    chosen = np.minimum(np.arange(begin, begin + frames_needed, stride), total - 1)
    offsets = range(width - whites + 1)
    offset = int(rng.choice([o for o in offsets if (clip.left + o) % 7 == note] or offsets))
    left = clip.left + offset
    columns = slice(offset * PX_PER_WHITE, (offset + whites) * PX_PER_WHITE)
    shift = rng.integers(-1, 2, 2)
    strips = np.roll(clip.strips[chosen][:, :, columns], shift, axis=(1, 2))
    background, seen = np.zeros_like(strips[0]), 0
    if rng.random() < 0.5:
        spread = clip.strips[np.linspace(0, total - 1, _SPREAD).astype(int)][:, :, columns]
        background = np.partition(spread, _SPREAD // 2, axis=0)[_SPREAD // 2]
        background, seen = np.roll(background, shift, axis=(0, 1)), int(rng.integers(5, 101))
    strips, background = _harmed(rng, strips, background)
    # Where the camera is, is only known from where the middle of the picture lies.
    side = side_of(clip.camera_u + rng.normal(0, _UNSURE_U), left, whites)
    all_labels = labels_of(clip.presses, clip.times_s[chosen])
    keys = keys_within(left, whites)
    labels = Labels(*(getattr(all_labels, n)[:, keys] for n in OUTPUTS))
    if rng.random() < 0.15:
        _cut(rng, [strips, background], labels, keys=keys, left=left, whites=whites)
    inner = keys_within(left + (left > 0), whites - (left > 0) - (left + whites < WHITES))
    return Crop(
        strips, side.astype(np.float32) / 255, _draw_light(rng), background, seen, labels,
        np.isin(keys, inner), left,
    )  # fmt: skip


def _draw_stride(rng: Random, clip: Stored) -> int:
    """Return every how many-th frame is taken: rates come down to some 10 frames a second."""
    apart_s = clip.times_s[1] - clip.times_s[0]
    if apart_s < _FAST_S:
        return 1 + int(rng.random() < 0.5)
    return int(rng.integers(1, 1 + max(1, round(_SLOW_S / apart_s)))) if rng.random() < 0.1 else 1


def _harmed(
    rng: Random, strips: NDArray[np.uint8], background: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return strips out of focus, or with a shadow that comes over a part of them, or as they are.

    What was seen before is out of focus as well, but had no shadow.
    """
    chance = rng.random()
    if chance < 0.08:
        size = float(rng.uniform(0.5, 2.5))
        cv2 = load_cv2("Training")
        blurred = [cv2.GaussianBlur(picture, (0, 0), size) for picture in (*strips, background)]
        return np.stack(blurred[:-1]), blurred[-1]
    if chance < 0.16:
        u = np.arange(strips.shape[2]) / PX_PER_WHITE
        edge, soft = rng.uniform(0, u[-1]), rng.uniform(0.3, 4) * rng.choice([-1, 1])
        lies = 1 / (1 + np.exp(-(u - edge) / soft))
        begin = rng.uniform(-len(strips), len(strips))
        there = np.clip((np.arange(len(strips)) - begin) / rng.uniform(1, 20), 0, 1)
        light = 1 - rng.uniform(0.1, 0.6) * there[:, None] * lies
        return (strips * light[:, None, :, None]).astype(np.uint8), background
    return strips, background


def _cut(
    rng: Random, pictures: Sequence[NDArray[np.uint8]], labels: Labels, *, keys: NDArray[np.intp],
    left: int, whites: int,
) -> None:  # fmt: skip
    """Blank one end, as where a keyboard has fewer keys or the picture ends."""
    end = int(rng.integers(2, whites // 2))
    cut = slice(0, end) if rng.random() < 0.5 else slice(whites - end, whites)
    for picture in pictures:
        picture[..., cut.start * PX_PER_WHITE : cut.stop * PX_PER_WHITE, :] = 0
    u = CENTRES_U[keys] - left
    gone = (u > cut.start - 0.3) & (u < cut.stop + 0.3)
    for name in OUTPUTS:
        getattr(labels, name)[:, gone] = -1 if name == "velocity" else 0


class Batch(NamedTuple):
    """Crops whose keys lie alike, as tensors with the crops along the first axis."""

    strips: Tensor
    side: Tensor
    gain: Tensor
    gamma: Tensor
    grey: Tensor
    background: Tensor
    seen: Tensor
    onset: Tensor
    frame: Tensor
    velocity: Tensor
    counts: Tensor
    left: int


def batches_of(crops: Sequence[Crop]) -> list[Batch]:
    """Put crops of one size together where their keys lie alike, so that they are read at once."""
    # The pattern of keys comes back every seven whites, but for the ends of the keyboard.
    alike: dict[tuple[int, int], list[Crop]] = {}
    for crop in crops:
        alike.setdefault((crop.left % 7, len(crop.counts)), []).append(crop)
    return [_stacked(group) for group in alike.values()]


def _stacked(crops: Sequence[Crop]) -> Batch:
    def stack(arrays: Iterable[Any]) -> Tensor:
        return torch.from_numpy(np.stack(list(arrays)))

    return Batch(
        strips=stack(c.strips for c in crops),
        side=stack(c.side for c in crops),
        gain=stack(c.light.gain for c in crops),
        gamma=stack(np.float32(c.light.gamma) for c in crops),
        grey=stack(c.light.grey for c in crops),
        background=stack(c.background for c in crops),
        seen=stack(np.float32(c.seen) for c in crops),
        onset=stack(c.labels.onset for c in crops),
        frame=stack(c.labels.frame for c in crops),
        velocity=stack(c.labels.velocity for c in crops),
        counts=stack(c.counts.astype(np.float32) for c in crops),
        left=crops[0].left,
    )


def shown(batch: Batch) -> Tensor:
    """Return what a network is shown of crops, (B, T, 7, 56, width): as by `network.see`."""

    def lit(pictures: Tensor) -> Tensor:
        ones = [1] * (pictures.ndim - 2)
        x = pictures.float() / 255 * batch.gain.reshape(-1, *ones, 3)
        x = torch.pow(x.clamp(0, 1), batch.gamma.reshape(-1, *ones, 1))
        return torch.where(batch.grey.reshape(-1, *ones, 1), x.mean(-1, keepdim=True), x)

    strips = lit(batch.strips)
    luma = luma_of(strips)
    seen = batch.seen.reshape(-1, 1, 1)
    behind = torch.where(seen < 1, luma[:, 0], luma_of(lit(batch.background)))
    backgrounds = []
    for now in luma.unbind(1):
        behind = follow(behind, now, seen)
        backgrounds.append(behind)
        seen = (seen + 1).clamp(max=SEEN_LONG)
    last = torch.cat([luma[:, :1], luma[:, :-1]], dim=1)
    before = torch.cat([luma[:, :1], last[:, :-1]], dim=1)
    side = batch.side[:, None, None, :, None].expand(*strips.shape[:-1], 1)
    strips = torch.cat([strips, side], dim=-1)
    return channels_of(strips, luma, torch.stack(backgrounds, dim=1), last, before)
