"""Training of the decoder on what a network says of performances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.audeo.decoder import REACH, Decoder, describe_all
from stream.music.keyboard import IS_BLACK, LOWEST_PITCH

_TOLERATED_S = 0.045
"""A note may begin so far from when its key reaches the bottom: within what is scored, 50 ms."""
_AFTER_S = 0.13
"""For so long after that, whether another onset is seen does not count."""
_FIRST_FRAME = 3
_LIKELY, _UNLIKELY = -3.0, -6.0
_SHARE_OF_UNLIKELY, _SHARE_OF_SILENT = 0.15, 0.004
_WEIGHT_OF_SILENT = 20.0


@dataclass(frozen=True)
class DecoderSettings:
    """Settings of a training on clips as the network had them, and on performances.

    `validation_clips` others only level what it says.
    """

    clips: int = 400
    performances: int = 160
    validation_clips: int = 60
    passes: int = 12
    batch: int = 4
    rate: float = 3e-3
    weight_decay: float = 2e-2
    dropped: float = 0.1
    noise: float = 0.15
    seed: int = 0


@dataclass(frozen=True)
class Performance:
    """What a network says of a clip, and what is played in it.

    Logits (T, 88, look-aheads, outputs), low where no keys are in view; which keys count (88,);
    times of frames (T,) in s; presses (n, 7) with the fields of
    `models.audeo.rendering.performance.Press`.
    """

    logits: Tensor
    counts: NDArray[np.bool_]
    times_s: NDArray[np.float64]
    presses: NDArray[np.float64]


@dataclass(frozen=True)
class Lesson:
    """Moments of keys (frames, keys) of a performance from which a decoder learns.

    `features` (T, 88 + 2 * REACH, CHANNELS), zeros beyond the keyboard. In the first `quiet`
    moments no note begins; each counts by its weight. Of the others, those of one note
    (`note`, from 0 to `notes` - 1) are when that may begin.
    """

    features: Tensor
    onset: Tensor
    frames: Tensor
    keys: Tensor
    weights: Tensor
    note: Tensor
    notes: int

    @property
    def quiet(self) -> int:
        """Return how many moments no note begins in."""
        return len(self.weights)


def lesson_of(rng: np.random.Generator, performance: Performance) -> Lesson:
    """Choose moments of a performance: all in which a note may begin, and some in which none does.

    Where the network is sure that none does, a few stand for many.
    """
    p = performance
    frames = len(p.times_s)
    quiet = np.tile(p.counts, (frames, 1))
    quiet[:_FIRST_FRAME] = False
    moments: list[tuple[int, int, int]] = []
    notes = 0
    for pitch, bottom, *_ in sorted(p.presses.tolist(), key=lambda press: press[1]):
        key, after = int(pitch) - LOWEST_PITCH, p.times_s - bottom
        quiet[(after > -_TOLERATED_S) & (after < _AFTER_S), key] = False
        near = np.flatnonzero(np.abs(after) <= _TOLERATED_S)
        if not len(near):  # few frames a second
            near = np.flatnonzero((after >= 0) & (after < 2 * _TOLERATED_S))[:1]
        if p.counts[key] and len(near) and near[0] >= _FIRST_FRAME and near[-1] < frames - 1:
            moments += [(int(t), key, notes) for t in near]
            notes += 1
    likely = p.logits[:, :, :2, 0].amax(-1).numpy()
    drawn = rng.random(likely.shape)
    chosen = (likely > _LIKELY) | (drawn < _SHARE_OF_SILENT)
    chosen |= (likely > _UNLIKELY) & (drawn < _SHARE_OF_UNLIKELY)
    weights = np.select(
        [likely > _LIKELY, likely > _UNLIKELY], [1.0, 1 / _SHARE_OF_UNLIKELY], _WEIGHT_OF_SILENT
    )
    t, k = np.nonzero(chosen & quiet)
    begins = np.array(moments, np.int64).reshape(-1, 3)
    return Lesson(
        features=F.pad(describe_all(p.logits), (0, 0, REACH, REACH)).half(),
        onset=p.logits[:, :, 0, 0],
        frames=torch.from_numpy(np.concatenate([t, begins[:, 0]])),
        keys=torch.from_numpy(np.concatenate([k, begins[:, 1]])),
        weights=torch.from_numpy(weights[t, k]).float(),
        note=torch.from_numpy(begins[:, 2]),
        notes=notes,
    )


def loss_of(decoder: Decoder, lesson: Lesson, s: DecoderSettings, *, mirrored: bool) -> Tensor:
    """Return the summed loss of a lesson.

    A note has to be heard at one of the moments that are near enough, whichever is the surest: that
    is what it takes to cross a threshold in time. Left and right are alike, so that a keyboard in
    the mirror is one more.
    """
    around = lesson.keys[:, None] + torch.arange(2 * REACH + 1)
    features = lesson.features[lesson.frames[:, None], around].float()
    features = features * (1 + s.noise * torch.randn(len(features), 1, 1))
    if mirrored:
        features = features.flip(1)
    black = torch.from_numpy(IS_BLACK).float()[lesson.keys, None]
    onset = lesson.onset[lesson.frames, lesson.keys]
    logits = decoder.correct(features, black, onset, s.dropped)
    quiet = F.softplus(logits[: lesson.quiet]) * lesson.weights
    surest = torch.full((lesson.notes,), -torch.inf).scatter_reduce(
        0, lesson.note, logits[lesson.quiet :], "amax"
    )
    return quiet.sum() + F.softplus(-surest).sum()


def fit_decoder(
    performances: Sequence[Performance],
    settings: DecoderSettings,
    on_progress: Callable[[int, float], None] = lambda pass_, loss: None,
) -> Decoder:
    """Train a decoder, and tell the number of each pass over the performances and its mean loss."""
    s = settings
    rng = np.random.default_rng(s.seed)
    lessons = [lesson for p in performances if (lesson := lesson_of(rng, p)).notes]
    torch.manual_seed(s.seed)
    decoder = Decoder().train()
    batches = -(-len(lessons) // s.batch)
    optimiser = torch.optim.AdamW(decoder.parameters(), s.rate, weight_decay=s.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, s.rate, total_steps=s.passes * batches + 1
    )
    for number in range(1, s.passes + 1):
        total = 0.0
        order = rng.permutation(len(lessons))
        for some in np.array_split(order, batches):
            chosen = [lessons[i] for i in some]
            losses = [loss_of(decoder, x, s, mirrored=bool(rng.random() < 0.5)) for x in chosen]
            loss = torch.stack(losses).sum() / sum(x.notes for x in chosen)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        on_progress(number, total / batches)
    return decoder.eval()
