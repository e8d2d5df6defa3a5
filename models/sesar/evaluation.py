"""How well a recogniser tells actions: on segmented sequences and on chained streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from torch import Tensor

from models.sesar.augment import Augmentation, Sampler
from models.sesar.dataset import ACTIONS, BACKGROUND, Sequences
from models.sesar.network import PERIOD_S
from models.sesar.streams import StreamMaker, Streams, StreamSettings

SEEN = (0.25, 0.5, 0.75, 1.0)
"""Shares of a sequence after which it is judged."""

Recogniser = Callable[[Tensor], Tensor]
"""From joints (clips, ticks, 20, 3) to probabilities (clips, ticks, classes)."""
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
_CHUNK = 128
_PLAIN = Augmentation(
    crop=0.0, speed=1.0, tilt_rad=0.0, heading_rad=0.0, scale=0.0, joint_m=0.0, noise_m=0.0,
    lost=0.0, mirror=0.0, decimate=0.0, still_root=0.0, ticks=120,
)  # fmt: skip


@torch.no_grad()
def judge(network: Recogniser, sequences: Sequences, classes: int = len(ACTIONS)) -> Floats:
    """Return probabilities (shares seen, sequences, classes) from a cold start on each sequence.

    A segmented sequence shows an action, so background, which comes after them, is left out.
    """
    sampler = Sampler(sequences)
    found = np.zeros((len(SEEN), len(sequences), classes), np.float32)
    # Sequences of like length make batches without much padding.
    for chosen in torch.from_numpy(np.argsort(sequences.length)).split(_CHUNK):
        clips = sampler.whole(chosen)
        p = network(clips.joints)[..., :classes]
        p = p / p.sum(-1, keepdim=True)
        for row, share in zip(found, SEEN, strict=True):
            at = (clips.length * share).ceil().long() - 1
            row[chosen.numpy()] = p[torch.arange(len(chosen)), at].numpy()
    return found


def accuracy(probabilities: Floats, label: NDArray[np.int64]) -> list[float]:
    """Return the share of right labels for each row of probabilities (shares seen, ...)."""
    return [float((row.argmax(-1) == label).mean()) for row in probabilities]


def confusion(probabilities: Floats, label: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many sequences of each action (rows) were taken for which (columns)."""
    counts = np.zeros((len(ACTIONS), len(ACTIONS)), np.int64)
    np.add.at(counts, (label, probabilities.argmax(-1)), 1)
    return counts


@dataclass(frozen=True)
class StreamFigures:
    """How streams were labelled tick by tick.

    Attributes
    ----------
    accuracy, macro_f1
        Over ticks, background included.
    hit
        Share of shown actions whose own label was the most frequent one of the actions.
    false_per_minute
        Stretches of background ticks with a label, per minute of background; a label that outlasts
        its action counts.
    unprompted_per_minute
        Of them, labels that touch no action at all.
    onset_s
        Median time from the start of an action to the first right label, of those with one;
        None without any.
    """

    accuracy: float
    macro_f1: float
    hit: float
    false_per_minute: float
    unprompted_per_minute: float
    onset_s: float | None


def plain_streams(
    actions: Sequences, background: Sequences, n: int, seed: int = 0, ticks: int = 200
) -> Streams:
    """Return streams of unchanged recordings, always the same ones for a seed."""
    torch.manual_seed(seed)
    return StreamMaker(actions, background, StreamSettings(ticks=ticks)).make(n, _PLAIN)


def likeliest(probabilities: Floats, threshold: float = 0.5) -> Ints:
    """Return the likeliest action of each tick if its probability reaches the threshold."""
    actions = probabilities[:, :BACKGROUND]
    return np.where(actions.max(-1) >= threshold, actions.argmax(-1), BACKGROUND)


def judge_streams(
    probabilities: Tensor, streams: Streams, label_of: Callable[[Floats], Ints] = likeliest
) -> StreamFigures:
    """Judge probabilities (streams, ticks, classes) by a rule from (ticks, classes) to labels."""
    found = np.stack([label_of(p) for p in probabilities.numpy()])
    label, clip = streams.label.numpy(), streams.clip.numpy()
    known = streams.weight.numpy() > 0
    background = known & (label == BACKGROUND)
    wrong = background & (found != BACKGROUND)
    starts = wrong & ~np.pad(wrong, ((0, 0), (1, 0)))[:, :-1]
    minutes = background.sum() * PERIOD_S / 60
    unprompted = sum(_inside(said, away) for said, away in zip(found, background, strict=True))
    hits, onsets = [], []
    for row in range(len(label)):
        for number in np.unique(clip[row][(label[row] != BACKGROUND) & known[row]]):
            at = np.flatnonzero((clip[row] == number) & known[row])
            if at[0] == 0 or at[-1] == label.shape[1] - 1:
                continue  # cut by the stream's own start or end
            truth, said = label[row, at[0]], found[row, at]
            right = np.flatnonzero(said == truth)
            counts = np.bincount(said[said != BACKGROUND], minlength=BACKGROUND)
            hits.append(bool(counts.any()) and counts.argmax() == truth)
            if len(right):
                onsets.append(right[0] * PERIOD_S)
    return StreamFigures(
        accuracy=float((found == label)[known].mean()),
        macro_f1=float(f1_score(label[known], found[known], average="macro")),
        hit=float(np.mean(hits)),
        false_per_minute=float(starts.sum() / minutes),
        unprompted_per_minute=float(unprompted / minutes),
        onset_s=float(np.median(onsets)) if onsets else None,
    )


def _inside(said: Ints, background: NDArray[np.bool_]) -> int:
    """Return how many stretches of one label (ticks,) lie in background from end to end."""
    stretches = np.split(np.arange(len(said)), np.flatnonzero(np.diff(said)) + 1)
    return sum(bool(said[s[0]] != BACKGROUND and background[s].all()) for s in stretches)


def fit_temperature(probabilities: Floats, label: NDArray[np.int64]) -> float:
    """Return the temperature at which probabilities (n, classes) have the lowest cross-entropy."""
    logits = torch.from_numpy(probabilities).clamp(min=1e-12).log()
    truth = torch.from_numpy(label)
    candidates = torch.logspace(-1, 1, 81)
    losses = [torch.nn.functional.cross_entropy(logits / t, truth) for t in candidates]
    return float(candidates[int(torch.stack(losses).argmin())])
