"""Getting used to a keyboard, a camera and hands from a video of them, without any labels.

A network that answers late is surer than one that answers at once, and a larger network surer than
a smaller one: neither has to run live here. What both together are sure of in the video is what the
small one then learns, and the probability from which a note is believed becomes the one with which
it agrees best, at once, with all that they take for likely. Only what reads a key from the features
along the strip learns, and what remembers it: the features need to be computed only once, and
nothing of what they tell of keys in general can be forgotten.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.audeo.crops import Labels, Random
from models.audeo.decoder import Decoder
from models.audeo.evaluation import THRESHOLDS, notes_of
from models.audeo.network import (
    LOOK_AHEADS,
    OUTPUTS,
    PER_WHITE,
    PianoNetwork,
    along,
    keys_within,
)
from models.audeo.notes import Note, Truth
from models.audeo.scores import match
from models.audeo.training import Targets, TrainingSettings, follow_average, loss_of
from stream.errors import ConfigError
from stream.music.keyboard import CENTRES_U, KEYS, LOWEST_PITCH, WHITES

Probabilities = NDArray[np.float32]

_SURE_ONSET, _LIKELY_ONSET, _NO_ONSET = 0.7, 0.5, 0.1
_SURE_FRAME, _NO_FRAME = 0.8, 0.1
_FEWEST_NOTES = 6
_LEAD = 10
"""Frames of a crop until the memory of its keys is warm."""

_GAIN, _BESIDE = 0.1, 0.08
"""By how much features are made larger or smaller, and by how many whites looked at beside."""


@dataclass(frozen=True)
class CalibrationSettings:
    """Updates of the trial, and then of the network itself.

    Each is on `batch` stretches of as many `frames` of the same `whites`.
    """

    updates: int = 150
    batch: int = 4
    frames: int = 60
    whites: int = 18
    rate: float = 1e-3
    averaged: float = 0.97
    seed: int = 0


def calibrate(
    network: PianoNetwork,
    features: Tensor,
    times_s: NDArray[np.float64],
    said: Probabilities,
    settings: CalibrationSettings,
    *,
    decoder: Decoder | None = None,
    on_progress: Callable[[int, float], None] = lambda update, loss: None,
) -> tuple[PianoNetwork, float]:
    """Return the network once it has got used to a video, and from which probability to believe it.

    Parameters
    ----------
    features
        Those along the strip of the video (T, F, 156), as `network.along` has them.
    times_s
        Of its frames (T,).
    said
        What its teachers say of each frame (T, 3, 88), as by `taught_by`.
    decoder
        What will correct it.

    Raises
    ------
    ConfigError
        The teachers are sure of too few notes in it, or it is too short.
    """
    s = settings
    labels, sure = taught(said, times_s)
    tried = len(features) * 2 // 3
    early = sum(note.onset_s < times_s[tried] for note in sure)
    if early < _FEWEST_NOTES or len(sure) - early < _FEWEST_NOTES or tried <= s.frames:
        raise ConfigError(
            f"the network is sure of {early} notes in the first {tried} frames of the video and of"
            f" {len(sure) - early} in the others, {_FEWEST_NOTES} are needed in both, and more than"
            f" {s.frames} frames: let it show a minute of playing all over the keyboard, well lit."
        )
    begun = Labels(*(getattr(labels, name)[:tried] for name in OUTPUTS))
    trial = _fit(network, features[:tried], begun, s, on_progress)
    found = opinion(trial, features, decoder=decoder)
    likely = notes_of(said, times_s, _LIKELY_ONSET)
    begin = _agreeing(found, times_s, likely, float(times_s[tried]))
    used = _fit(network, features, labels, s, lambda n, loss: on_progress(s.updates + n, loss))
    return used, begin


def _fit(
    network: PianoNetwork, features: Tensor, labels: Labels, s: CalibrationSettings,
    on_progress: Callable[[int, float], None],
) -> PianoNetwork:  # fmt: skip
    """Return a network that has learned what is sure."""
    rng = np.random.default_rng(s.seed)
    torch.manual_seed(s.seed)
    student, average = copy.deepcopy(network).train(), copy.deepcopy(network)
    parts = (student.white, student.black, student.cell, student.out)
    learn = [parameter for part in parts for parameter in part.parameters()]
    optimiser = torch.optim.AdamW(learn, s.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, s.rate, total_steps=s.updates + 1, pct_start=0.1, div_factor=20
    )
    training = TrainingSettings()
    for update in range(1, s.updates + 1):
        seen, targets, left = _draw(rng, features, labels, s)
        logits = student.read(seen, left, float(rng.normal(0, _BESIDE)))
        loss = loss_of(logits, targets, training)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learn, 1.0)
        optimiser.step()
        schedule.step()
        follow_average(average, student, min(s.averaged, (1 + update) / (10 + update)))
        on_progress(update, float(loss.detach()))
    return average.eval()


def taught(said: Probabilities, times_s: NDArray[np.float64]) -> tuple[Labels, tuple[Note, ...]]:
    """Return what is sure of what teachers say (T, 3, 88), -1 elsewhere, and these notes."""
    notes = notes_of(said, times_s, _SURE_ONSET)
    onset, frame, velocity = (np.full((len(said), KEYS), -1, np.float32) for _ in OUTPUTS)
    onset[said[:, 0] < _NO_ONSET] = 0
    frame[said[:, 1] < _NO_FRAME] = 0
    frame[said[:, 1] > _SURE_FRAME] = 1
    for note in notes:
        at, key = int(np.searchsorted(times_s, note.onset_s)), note.pitch - LOWEST_PITCH
        onset[at : at + 2, key] = 1
        if at:
            onset[at - 1, key] = -1
    return Labels(onset, frame, velocity), notes


def taught_by(
    network: PianoNetwork, features: Tensor, teacher: PianoNetwork, strips: NDArray[np.uint8]
) -> Probabilities:
    """Return what a network and its teacher say of each frame (T, 3, 88), the mean of both.

    `features` (T, F, 156) are the features of the network itself, strips (T, 56, 624, 4).
    """
    return (_hindsight(network, features) + _hindsight(teacher, along(teacher, strips))) / 2


def _hindsight(network: PianoNetwork, features: Tensor) -> Probabilities:
    """Return what a network says of each frame as late as it can, of the last ones alike."""
    late = LOOK_AHEADS[-1]
    found = opinion(network, features, len(LOOK_AHEADS) - 1)
    return np.concatenate([found[late:], np.repeat(found[-1:], late, axis=0)])


@torch.no_grad()
def opinion(
    network: PianoNetwork, features: Tensor, number: int = 0, decoder: Decoder | None = None
) -> Probabilities:
    """Return probabilities (T, 3, 88) of a look-ahead, by its place in `LOOK_AHEADS`.

    A decoder corrects those without look-ahead.
    """
    logits = network.read(features[None], 0)[0]
    if decoder is not None:
        logits = decoder.decode(logits)
    return np.asarray(torch.sigmoid(logits[:, :, number]).numpy().transpose(0, 2, 1), np.float32)


def _agreeing(
    found: Probabilities, times_s: NDArray[np.float64], likely: tuple[Note, ...], after_s: float
) -> float:
    """Return from which probability notes agree best with likely ones from a time on."""
    truth = Truth(likely)
    span_s = (after_s, float("inf"))

    def agreement(begin: float) -> float:
        return match(notes_of(found, times_s, begin), truth, span_s=span_s).score.f1

    best: float = max(THRESHOLDS, key=agreement)
    return best


def _draw(
    rng: Random, features: Tensor, labels: Labels, s: CalibrationSettings
) -> tuple[Tensor, Targets, int]:
    """Draw stretches in which keys are struck, features (B, T, F, 3 * whites), and the first white.

    All of them are of the same whites.
    """
    at, key = np.nonzero(np.diff(labels.onset == 1, axis=0, prepend=False) & (labels.onset == 1))
    middle = CENTRES_U[key[int(rng.integers(len(key)))]]
    left = int(np.clip(middle - rng.uniform(1, s.whites - 1), 0, WHITES - s.whites))
    keys = keys_within(left, s.whites)
    inner = keys_within(left + (left > 0), s.whites - (left > 0) - (left + s.whites < WHITES))
    struck = np.isin(key, inner)
    here = at[struck] if struck.any() else at
    begins = rng.choice(here, s.batch) - rng.integers(_LEAD + 1, s.frames - 5, s.batch)
    parts = [slice(b, b + s.frames) for b in np.clip(begins, 0, len(features) - s.frames)]
    columns = slice(left * PER_WHITE, (left + s.whites) * PER_WHITE)
    seen = torch.stack([features[part, :, columns] for part in parts])
    seen = seen * torch.exp(_GAIN * torch.randn(s.batch, 1, seen.shape[2], 1))

    def target(values: NDArray[np.float32]) -> Tensor:
        drawn = np.stack([values[part][:, keys] for part in parts])
        drawn[:, :_LEAD] = -1
        return torch.from_numpy(drawn)

    onset, frame, velocity = (target(getattr(labels, name)) for name in OUTPUTS)
    counts = torch.from_numpy(np.isin(keys, inner).astype(np.float32)).expand(s.batch, -1)
    return seen, Targets(onset, frame, velocity, counts), left
