"""Training of the live piano network on rendered or collected clips."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from models.audeo.crops import Batch, batches_of, draw_crop, shown
from models.audeo.dataset import Stored
from models.audeo.network import LOOK_AHEADS, PianoNetwork
from models.trained_folder import save_tensors


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


class Targets(NamedTuple):
    """What is right (B, T, keys), -1 where nothing counts, and which keys count (B, keys)."""

    onset: Tensor
    frame: Tensor
    velocity: Tensor
    counts: Tensor


def loss_of(logits: Tensor, right: Targets, s: TrainingSettings) -> Tensor:
    """Return the loss of logits (B, T, keys, look-aheads, outputs)."""
    onset, frame, velocity, counts = right
    total = logits.new_zeros(())
    for i, late in enumerate(LOOK_AHEADS):
        got = logits[:, late:, :, i]
        n = got.shape[1]
        # The first frames of a view have nothing to be compared with.
        use = counts[:, None, :].expand(-1, n, -1).clone()
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
                draw_crop(
                    rng, self._clips(int(rng.integers(1 << 30))), s.crop_whites, s.crop_frames, note
                )
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
        right = Targets(batch.onset, batch.frame, batch.velocity, batch.counts)
        part = loss_of(logits, right, s)
        loss = loss + part * len(batch.strips) / sum(sizes)
    return loss


def _moved(batch: Batch, device: torch.device) -> Batch:
    tensors = {name: value for name, value in batch._asdict().items() if name != "left"}
    return batch._replace(**{n: t.to(device, non_blocking=True) for n, t in tensors.items()})


def between(before: PianoNetwork, after: PianoNetwork, share: float) -> PianoNetwork:
    """Return a network whose weights lie between two of the same shape, at `share` of the way.

    Between a network and what it became in a further training there is often a better one than
    either end, on what the first knew and on what is new (Wortsman et al., CVPR 2022, "Robust
    fine-tuning of zero-shot models").
    """
    mixed = copy.deepcopy(before)
    follow_average(mixed, after, 1 - share)
    return mixed


def follow_average(average: PianoNetwork, network: PianoNetwork, keep: float) -> None:
    """Move a running average of a network, of which `keep` stays."""
    with torch.no_grad():
        for mean, now in zip(average.state_dict().values(), network.state_dict().values(),
                             strict=True):  # fmt: skip
            if mean.dtype.is_floating_point:
                mean.lerp_(now, 1 - keep)
            else:
                mean.copy_(now)
