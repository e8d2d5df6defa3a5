"""Getting used to a keyboard, a camera and hands from a video of them, without any labels.

A network that answers late is surer than one that answers at once. What it is sure of in the video
is what the one that answers at once then learns, with renderings in between so that it forgets
nothing: self-training, with the network's own look-ahead as the teacher.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.audeo.crops import Crop, Labels, Light, Random, batches_of, draw_crop
from models.audeo.dataset import Stored
from models.audeo.evaluation import notes_of
from models.audeo.network import LOOK_AHEADS, SEEN_LONG, PianoNetwork, run_through
from models.audeo.training import TrainingSettings, batch_loss, follow_average
from stream.errors import ConfigError
from stream.music.keyboard import KEYS, LOWEST_PITCH

_SURE_ONSET, _NO_ONSET = 0.7, 0.1
_SURE_FRAME, _NO_FRAME = 0.8, 0.1
_FEWEST_NOTES = 20


@dataclass(frozen=True)
class CalibrationSettings:
    """Updates, each on one crop of the video and `rendered` crops of clips."""

    updates: int = 80
    rendered: int = 3
    frames: int = 36
    rate: float = 3e-4
    momentum: float = 0.02
    averaged: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Video:
    """A video: strips (T, 56, 624, 4) of all keys, at `times_s` (T,)."""

    strips: NDArray[np.uint8]
    times_s: NDArray[np.float64]


def calibrate(
    network: PianoNetwork,
    video: Video,
    clips: Sequence[Stored],
    settings: CalibrationSettings,
    on_progress: Callable[[int, float], None] = lambda update, loss: None,
) -> PianoNetwork:
    """Return the network as it is once it has got used to a video.

    Raises
    ------
    ConfigError
        The network is sure of too few notes in it.
    """
    s = settings
    rng = np.random.default_rng(s.seed)
    labels, count = taught(network, video)
    if count < _FEWEST_NOTES:
        raise ConfigError(
            f"the network is sure of {count} notes in the video, {_FEWEST_NOTES} are needed to"
            " learn from: let it show a minute of playing all over the keyboard, well lit."
        )
    student, average = copy.deepcopy(network), copy.deepcopy(network)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = s.momentum
    training = TrainingSettings()
    optimiser = torch.optim.AdamW(student.parameters(), s.rate, weight_decay=1e-2)
    spread = video.strips[:: max(1, len(video.strips) // 20), ..., :3]
    background = np.median(spread, axis=0).astype(np.uint8)
    student.train()
    for update in range(1, s.updates + 1):
        crops = [
            draw_crop(rng, clips[int(rng.integers(len(clips)))], training.crop_whites, s.frames)
            for _ in range(s.rendered)
        ]
        own = _own_crop(rng, video, labels, background, s.frames)
        loss = batch_loss(student, batches_of(crops), training)
        loss = loss + batch_loss(student, batches_of([own]), training)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        follow_average(average, student, s.averaged)
        on_progress(update, float(loss.detach()))
    return average.eval()


def taught(network: PianoNetwork, video: Video) -> tuple[Labels, int]:
    """Return what the network is sure of in a video, -1 elsewhere, and how many notes that is.

    Its opinion is the mean over its look-aheads and over the video moved by a pixel to either side.
    """
    shifted = []
    for shift in (-1, 0, 1):
        strips = video.strips.copy()
        strips[..., :3] = np.roll(video.strips[..., :3], shift, axis=2)
        found = torch.sigmoid(run_through(network, strips)).numpy()
        for number, late in enumerate(LOOK_AHEADS):
            now = found[late:, :, number]
            shifted.append(np.concatenate([now, np.repeat(found[-1:, :, number], late, axis=0)]))
    opinion = np.mean(shifted, axis=0).transpose(0, 2, 1)
    notes = notes_of(opinion, video.times_s, _SURE_ONSET)
    onset, frame, velocity = (np.full((len(opinion), KEYS), -1, np.float32) for _ in range(3))
    onset[opinion[:, 0] < _NO_ONSET] = 0
    frame[opinion[:, 1] < _NO_FRAME] = 0
    frame[opinion[:, 1] > _SURE_FRAME] = 1
    for note in notes:
        at, key = int(np.searchsorted(video.times_s, note.onset_s)), note.pitch - LOWEST_PITCH
        onset[at : at + 2, key] = 1
        if at:
            onset[at - 1, key] = -1
    return Labels(onset, frame, velocity), len(notes)


def _own_crop(
    rng: Random, video: Video, labels: Labels, background: NDArray[np.uint8], frames: int
) -> Crop:
    """Draw some frames of the video, all keys, with the background known."""
    begin = int(rng.integers(0, max(1, len(video.strips) - frames + 1)))
    part = slice(begin, begin + frames)
    light = Light(np.full(3, np.exp(rng.normal(0, 0.1)), np.float32))
    here = Labels(labels.onset[part], labels.frame[part], labels.velocity[part])
    return Crop(
        video.strips[part, ..., :3], video.strips[0, 0, :, 3].astype(np.float32) / 255, light,
        background, int(SEEN_LONG), here, np.ones(KEYS, bool), 0,
    )  # fmt: skip
