"""Training of the live piano network on rendered or collected clips."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from models.audeo.dataset import Stored
from models.audeo.network import (
    LOOK_AHEADS,
    OUTPUTS,
    SEEN_LONG,
    PianoNetwork,
    channels_of,
    follow,
    keys_within,
    luma_of,
)
from models.trained_folder import save_tensors
from stream.music.keyboard import CENTRES_U, KEYS, LOWEST_PITCH, WHITES
from stream.music.piano.strip import PX_PER_WHITE, side_of

Random = np.random.Generator
_UNSURE_U = 3.0
_SPREAD = 9
"""Frames all over a clip, of which the median is its background."""


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


def draw_crop(rng: Random, clip: Stored, settings: TrainingSettings, note: int = 0) -> Crop:
    """Draw a crop of a clip, in another light and a little displaced.

    It begins with the white key `note` (0 to 6) of an octave, if the clip is wide enough.
    """
    whites, frames = settings.crop_whites, settings.crop_frames
    total, width = len(clip.strips), clip.strips.shape[2] // PX_PER_WHITE
    stride = 2 if clip.times_s[1] - clip.times_s[0] < 0.025 and rng.random() < 0.5 else 1
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


def loss_of(logits: Tensor, batch: Batch, s: TrainingSettings) -> Tensor:
    """Return the loss of logits (B, T, keys, look-aheads, outputs) of a batch."""
    onset, frame, velocity = batch.onset, batch.frame, batch.velocity
    total = logits.new_zeros(())
    for i, late in enumerate(LOOK_AHEADS):
        got = logits[:, late:, :, i]
        n = got.shape[1]
        # The first frames of a view have nothing to be compared with.
        use = batch.counts[:, None, :].expand(-1, n, -1).clone()
        use[:, :3] = 0
        for j, target, weight in (
            (0, onset[:, :n], s.onset_weight), (1, frame[:, :n], s.frame_weight),
        ):  # fmt: skip
            known = (target >= 0) * use
            each = F.binary_cross_entropy_with_logits(
                got[..., j], target.clamp(min=0), reduction="none",
                pos_weight=logits.new_tensor(weight),
            )  # fmt: skip
            total = total + (each * known).sum() / known.sum().clamp(min=1)
        struck = (velocity[:, :n] >= 0) * use
        off = (torch.sigmoid(got[..., 2]) - velocity[:, :n]) ** 2
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
    *,
    device: str = "cpu",
    workers: int = 0,
) -> PianoNetwork:
    """Train on crops of clips and return the running average of the network, on the CPU.

    `clips(i)` gives a clip for any i >= 0; with `workers`, processes that draw crops, it must be
    possible to pickle it. `on_progress` is told the update and its loss. `device` is torch's.
    """
    s = settings
    network = network.to(device)
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
        stored = torch.load(checkpoint.path, weights_only=True, map_location=device)
        for name, part in parts.items():
            part.load_state_dict(stored[name])
        done = stored["done"]
    updates = range(done + 1, s.updates + 1)
    draws = DataLoader(
        _Draws(clips, s), batch_size=None, sampler=updates, num_workers=workers,
        pin_memory=device != "cpu", prefetch_factor=4 if workers else None,
    )  # fmt: skip
    for update, batches in zip(updates, draws, strict=True):
        network.train()
        loss = batch_loss(network, batches, s)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        follow_average(average, network, min(1 - 1 / s.averaged_over, (1 + update) / (10 + update)))
        if checkpoint is not None and update % checkpoint.every == 0:
            content = {name: part.state_dict() for name, part in parts.items()}
            save_tensors(checkpoint.path, content | {"done": update})
        on_progress(update, float(loss.detach()))
    return average.cpu()


class _Draws(Dataset[list[Batch]]):
    """The crops of each update, drawn by its number."""

    def __init__(self, clips: Callable[[int], Stored], settings: TrainingSettings) -> None:
        self._clips, self._settings = clips, settings

    def __getitem__(self, update: int) -> list[Batch]:
        s = self._settings
        rng = np.random.default_rng([s.seed, update])
        note = int(rng.integers(7))
        return batches_of(
            [
                draw_crop(rng, self._clips(int(rng.integers(1 << 30))), s, note)
                for _ in range(s.batch)
            ]
        )


def batch_loss(network: PianoNetwork, batches: Sequence[Batch], s: TrainingSettings) -> Tensor:
    """Return the mean loss of crops, computed where the network is."""
    device = network.out.weight.device
    here = [_moved(batch, device) for batch in batches]
    channels = torch.cat([shown(batch) for batch in here])
    with torch.autocast(device.type, torch.bfloat16):
        hidden = network.trunk(channels.flatten(0, 1)).unflatten(0, channels.shape[:2])
    loss = torch.zeros((), device=device)
    sizes = [len(batch.strips) for batch in here]
    for batch, trunk in zip(here, hidden.float().split(sizes), strict=True):
        logits = network.read(trunk, batch.left)
        part = loss_of(logits, batch, s)
        loss = loss + part * len(batch.strips) / sum(sizes)
    return loss


def _moved(batch: Batch, device: torch.device) -> Batch:
    tensors = {name: value for name, value in batch._asdict().items() if name != "left"}
    return batch._replace(**{n: t.to(device, non_blocking=True) for n, t in tensors.items()})


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


def follow_average(average: PianoNetwork, network: PianoNetwork, keep: float) -> None:
    """Move a running average of a network, of which `keep` stays."""
    with torch.no_grad():
        for mean, now in zip(average.state_dict().values(), network.state_dict().values(),
                             strict=True):  # fmt: skip
            if mean.dtype.is_floating_point:
                mean.lerp_(now, 1 - keep)
            else:
                mean.copy_(now)
