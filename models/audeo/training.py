"""Training of the live piano network on rendered or collected clips."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.audeo.dataset import Stored
from models.audeo.network import (
    LOOK_AHEADS,
    LUMA,
    OUTPUTS,
    PianoNetwork,
    View,
    fresh_view,
    keys_within,
    see,
)
from models.trained_folder import save_tensors
from stream.music.keyboard import CENTRES_U, KEYS, LOWEST_PITCH, WHITES
from stream.music.piano.strip import PX_PER_WHITE, side_of

Random = np.random.Generator
_UNSURE_U = 3.0


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training; a crop is `crop_whites` wide and `crop_frames` long."""

    updates: int = 4000
    batch: int = 8
    crop_whites: int = 14
    crop_frames: int = 36
    rate: float = 2.5e-3
    weight_decay: float = 1e-2
    onset_weight: float = 3.0
    frame_weight: float = 1.5
    averaged_over: float = 300.0
    seed: int = 0


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


def _augment(rng: Random, strips: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return strips (T, 56, width, 3) as float with other light and a little displaced."""
    x = strips.astype(np.float32) / 255
    if rng.random() < 0.7:
        gain = float(np.exp(rng.normal(0, 0.18))) * np.exp(rng.normal(0, 0.04, 3))
        x = np.clip(x * gain.astype(np.float32), 0, 1)
    if rng.random() < 0.3:
        x **= float(np.exp(rng.normal(0, 0.25)))
    if rng.random() < 0.15:
        x[:] = x.mean(axis=-1, keepdims=True)
    shift = (int(rng.integers(-1, 2)), int(rng.integers(-1, 2)))
    return np.roll(x, shift, axis=(1, 2)) if any(shift) else x


class Crop(NamedTuple):
    """Part of a clip.

    Strips (T, 56, width, 4), labels (T, keys), the view before it, which keys count (keys,), and
    its first white.
    """

    strips: Tensor
    labels: Labels
    view: View
    counts: NDArray[np.bool_]
    left: int


def draw_crop(rng: Random, clip: Stored, settings: TrainingSettings) -> Crop:
    """Draw a crop of a clip, in another light and a little displaced."""
    whites, frames = settings.crop_whites, settings.crop_frames
    total, width = len(clip.strips), clip.strips.shape[2] // PX_PER_WHITE
    stride = 2 if clip.times_s[1] - clip.times_s[0] < 0.025 and rng.random() < 0.5 else 1
    frames_needed = frames * stride
    begin = int(rng.integers(0, max(1, total - frames_needed + 1)))
    chosen = np.minimum(np.arange(begin, begin + frames_needed, stride), total - 1)
    offset = int(rng.integers(0, width - whites + 1))
    left = clip.left + offset
    columns = slice(offset * PX_PER_WHITE, (offset + whites) * PX_PER_WHITE)
    picked = [clip.strips[chosen][:, :, columns]]
    warm = rng.random() < 0.5
    if warm:
        spread = np.linspace(0, total - 1, 9).astype(int)
        picked.append(np.median(clip.strips[spread][:, :, columns], axis=0)[None].astype(np.uint8))
    x = torch.from_numpy(_augment(rng, np.concatenate(picked)))
    # Where the camera is, is only known from where the middle of the picture lies.
    side = side_of(clip.camera_u + rng.normal(0, _UNSURE_U), left, whites)
    sides = torch.from_numpy(side.astype(np.float32) / 255).expand(*x[:frames].shape[:3])
    strips = torch.cat([x[:frames], sides[..., None]], dim=-1)
    view = fresh_view(1, x.shape[2])
    if warm:
        weights = torch.tensor(LUMA)
        seen = torch.full((1, 1, 1), float(rng.integers(5, 101)))
        first = (x[:1] * weights).sum(-1)
        view = View((x[-1:] * weights).sum(-1), first, first, seen)
    all_labels = labels_of(clip.presses, clip.times_s[chosen])
    keys = keys_within(left, whites)
    labels = Labels(*(getattr(all_labels, n)[:, keys] for n in ("onset", "frame", "velocity")))
    if rng.random() < 0.15:
        _cut(rng, strips[..., :3], labels, keys=keys, left=left, whites=whites)
    inner = keys_within(left + (left > 0), whites - (left > 0) - (left + whites < WHITES))
    return Crop(strips, labels, view, np.isin(keys, inner), left)


def _cut(
    rng: Random, strips: Tensor, labels: Labels, *, keys: NDArray[np.intp], left: int, whites: int
) -> None:
    """Blank one end, as where a keyboard has fewer keys or the picture ends."""
    end = int(rng.integers(2, whites // 2))
    cut = slice(0, end) if rng.random() < 0.5 else slice(whites - end, whites)
    strips[:, :, cut.start * PX_PER_WHITE : cut.stop * PX_PER_WHITE] = 0
    u = CENTRES_U[keys] - left
    gone = (u > cut.start - 0.3) & (u < cut.stop + 0.3)
    for name in OUTPUTS:
        getattr(labels, name)[:, gone] = -1 if name == "velocity" else 0


def loss_of(
    logits: Tensor, labels: Sequence[Tensor], counts: Tensor, s: TrainingSettings
) -> Tensor:
    """Return the loss of logits (T, keys, look-aheads, outputs); `counts` (keys,) weigh keys."""
    onset, frame, velocity = labels
    total = logits.new_zeros(())
    for i, late in enumerate(LOOK_AHEADS):
        got = logits[late:, :, i] if late else logits[:, :, i]
        n = got.shape[0]
        # The first frames of a view have nothing to be compared with.
        use = counts[None, :].expand(n, -1).clone()
        use[:3] = 0
        for j, target, weight in (
            (0, onset[:n], s.onset_weight), (1, frame[:n], s.frame_weight),
        ):  # fmt: skip
            known = (target >= 0) * use
            each = F.binary_cross_entropy_with_logits(
                got[..., j], target.clamp(min=0), reduction="none",
                pos_weight=torch.tensor(weight),
            )  # fmt: skip
            total = total + (each * known).sum() / known.sum().clamp(min=1)
        struck = (velocity[:n] >= 0) * use
        off = (torch.sigmoid(got[..., 2]) - velocity[:n]) ** 2
        total = total + (off * struck).sum() / struck.sum().clamp(min=1)
    return total / len(LOOK_AHEADS)


@dataclass(frozen=True)
class Checkpoint:
    """The file from which a stopped training goes on; written every so many updates."""

    path: Path
    every: int = 250


def fit(
    network: PianoNetwork,
    clips: Callable[[int], Stored],
    settings: TrainingSettings,
    on_progress: Callable[[int, float], None],
    checkpoint: Checkpoint | None = None,
) -> PianoNetwork:
    """Train on crops of clips and return the running average of the network.

    `clips(i)` gives a clip for any i >= 0. `on_progress` is told the update and its loss.
    """
    s = settings
    torch.manual_seed(s.seed)
    optimiser = torch.optim.AdamW(
        [{"params": [p for p in network.parameters() if p.ndim > 1],
          "weight_decay": s.weight_decay},
         {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0}],
        lr=s.rate,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, s.rate, total_steps=s.updates + 1, pct_start=0.08, div_factor=10,
        final_div_factor=100,
    )  # fmt: skip
    average = copy.deepcopy(network)
    parts: dict[str, Any] = {
        "network": network,
        "average": average,
        "optimiser": optimiser,
        "schedule": schedule,
    }
    done = 0
    if checkpoint is not None and checkpoint.path.exists():
        stored = torch.load(checkpoint.path, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(stored[name])
        done = stored["done"]
    for update in range(done + 1, s.updates + 1):
        network.train()
        loss = _update(network, np.random.default_rng([s.seed, update]), clips, s)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        follow_average(average, network, min(1 - 1 / s.averaged_over, (1 + update) / (10 + update)))
        if checkpoint is not None and update % checkpoint.every == 0:
            content = {name: part.state_dict() for name, part in parts.items()}
            save_tensors(checkpoint.path, content | {"done": update})
        on_progress(update, loss)
    return average


def _update(
    network: PianoNetwork, rng: Random, clips: Callable[[int], Stored], s: TrainingSettings
) -> float:
    crops = [draw_crop(rng, clips(int(rng.integers(1 << 30))), s) for _ in range(s.batch)]
    loss = batch_loss(network, crops, s)
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def batch_loss(network: PianoNetwork, crops: Sequence[Crop], s: TrainingSettings) -> Tensor:
    """Return the mean loss of crops of one size."""
    view = View(*(torch.cat([getattr(c.view, n) for c in crops])
                  for n in ("background", "last", "before", "seen")))  # fmt: skip
    channels = []
    for strip in torch.stack([c.strips for c in crops], dim=1):
        seen, view = see(strip, view)
        channels.append(seen)
    x = torch.stack(channels, dim=1)
    loss = torch.zeros(())
    with torch.autocast("cpu", torch.bfloat16):
        hidden = network.trunk(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    for i, crop in enumerate(crops):
        logits = network.read(hidden[i : i + 1].float(), crop.left)[0]
        targets = [torch.from_numpy(getattr(crop.labels, n)) for n in OUTPUTS]
        loss = loss + loss_of(logits, targets, torch.from_numpy(crop.counts).float(), s)
    return loss / len(crops)


def follow_average(average: PianoNetwork, network: PianoNetwork, keep: float) -> None:
    """Move a running average of a network, of which `keep` stays."""
    with torch.no_grad():
        for mean, now in zip(average.state_dict().values(), network.state_dict().values(),
                             strict=True):  # fmt: skip
            if mean.dtype.is_floating_point:
                mean.lerp_(now, 1 - keep)
            else:
                mean.copy_(now)
