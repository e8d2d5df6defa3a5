"""What runs in the background of a session: an encoder without labels, then rounds with labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.labelling.clips import Clips
from models.labelling.store import save_arrays
from models.sesar.augment import Augmentation, Sampler
from models.sesar.dataset import IGNORED, Sequences
from models.sesar.few_labels import classify, reduced
from models.sesar.network import Sesar, SesarConfig
from models.sesar.objectives import ClipLoss
from models.sesar.plots import latents
from models.sesar.recipe import Recipe, pretrain
from models.sesar.trained import Card, Committee, Trained, config_of, save_trained
from models.sesar.training import Progress, TrainingSettings, fit

SYSTEM = "actions"
"""What the card of a recogniser from labels names as its system."""
_HEAD = "head."
_CHUNK = 128
_BATCH = 32
_AVERAGES = 20
"""The weights that are kept average over a share of a training, one in so many."""

Report = Callable[[str, int, int], None]
"""Hears the stage, updates done, and their number."""


@dataclass(frozen=True)
class Effort:
    """How much is trained.

    Attributes
    ----------
    pretraining, updates
        Optimiser steps without labels, and in each round with labels.
    hidden
        Units of a layer of the network.
    """

    pretraining: int
    updates: int
    hidden: int = 128


def prepare(path: Path, clips: Clips, effort: Effort, report: Report) -> dict[str, Any]:
    """Train an encoder without labels, and write it with the latents of the clips.

    The file holds its weights, `latents` (learnable clips, d) of unit length and `sha256` of the
    data. Clips that measure are not looked at.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = Recipe(network=SesarConfig(1, effort.hidden), members=1)
    recipe = replace(recipe, pretraining=_paced(recipe.pretraining, effort.pretraining))
    network = Sesar(recipe.network)
    learnable = clips.sequences.select(clips.learnable)
    pretrain(
        network, learnable, recipe, 0, on_progress=_reported(report, "looking for what is alike")
    )
    x = latents(network, learnable)
    weights = {k: v.numpy() for k, v in network.state_dict().items() if not k.startswith(_HEAD)}
    found = {"latents": reduced(x, x[:1])[0], "sha256": np.array(clips.sequences.sha256)}
    save_arrays(path, weights | found)
    return {}


@dataclass(frozen=True)
class Lesson:
    """What a round learns from.

    Attributes
    ----------
    encoder
        Weights, as `prepare` writes them.
    labels
        Class of each labelled clip.
    classes
        Those that are learned; a held-out label of another one cannot be right.
    session
        Name of the session, for the card.
    """

    encoder: Mapping[str, NDArray[Any]]
    labels: Mapping[str, str]
    classes: tuple[str, ...]
    effort: Effort
    session: str


def train_round(folder: Path, clips: Clips, lesson: Lesson, report: Report) -> dict[str, Any]:
    """Train a recogniser on the labels at hand, measure it on those held out, write its folder.

    Each round begins at the encoder that saw no labels, so that rounds differ in labels only. Half
    of what it learns from are labels, half are what they say of all learnable clips, by
    `models.sesar.few_labels.classify`.

    Returns
    -------
    dict
        `labels` learned from, `held_out` labels measured on, and how many of them were `right`.
    """
    torch.set_num_threads(1)
    number = {name: i for i, name in enumerate(lesson.classes)}
    at = np.array([clips.index(clip) for clip in lesson.labels], np.int64)
    label = np.array([number.get(name, IGNORED) for name in lesson.labels.values()], np.int64)
    out = clips.held_out[at]
    held_out = replace(clips.sequences.select(at[out]), label=label[out])
    taught = _spread(clips, np.asarray(lesson.encoder["latents"]), at[~out], label[~out])
    torch.manual_seed(0)
    committee = Committee(SesarConfig(len(lesson.classes), lesson.effort.hidden), 1)
    (network,) = committee.members
    names = {name for name in network.state_dict() if not name.startswith(_HEAD)}
    weights = {name: torch.from_numpy(lesson.encoder[name]) for name in names}
    network.load_state_dict(network.state_dict() | weights)
    settings = _paced(TrainingSettings(batch=_BATCH), lesson.effort.updates)
    loss = ClipLoss(taught, settings.batch, Augmentation())
    fit(network, loss, settings, on_progress=_reported(report, "learning from the labels"))
    committee.eval()
    right = 0
    if len(held_out):
        right = int((_at_the_end(committee, held_out).argmax(1) == held_out.label).sum())
    counts = {"labels": int((~out).sum()), "held_out": len(held_out), "right": right}
    card = Card(
        system=SYSTEM,
        network=config_of(committee),
        members=1,
        classes=lesson.classes,
        temperature=1.0,
        trained_on={
            "name": lesson.session,
            "sha256": clips.sequences.sha256,
            "licence": "that of the recordings in this session",
            "clips": len(clips.names),
            **counts,
        },
        training={**asdict(settings), "pretraining": lesson.effort.pretraining},
        scores={"accuracy": right / len(held_out)} if len(held_out) else {},
        versions={"innervate": version("innervate"), "torch": str(torch.__version__)},
    )  # fmt: skip
    save_trained(folder, Trained(committee, card))
    learnable = clips.sequences.select(clips.learnable)
    save_arrays(folder / "likely.npz", {"probabilities": _at_the_end(committee, learnable)})
    return counts


def _spread(
    clips: Clips, latents_of: NDArray[np.float64], at: NDArray[np.int64], label: NDArray[np.int64]
) -> Sequences:
    """Return all learnable clips with a guessed label, and as often those `at` with their own."""
    rows = np.searchsorted(clips.learnable, at)
    guess = classify(latents_of, latents_of, rows, label, int(label.max()) + 1).argmax(1)
    often = -(-len(guess) // len(at))
    chosen = np.concatenate([clips.learnable, np.tile(at, often)])
    return replace(
        clips.sequences.select(chosen), label=np.concatenate([guess, np.tile(label, often)])
    )


def _paced(settings: TrainingSettings, updates: int) -> TrainingSettings:
    """Fit settings to a training this short: the averaged weights must forget the first ones."""
    smooth = min(settings.smooth, max(0.0, 1 - _AVERAGES / updates)) if updates else 0.0
    return replace(settings, updates=updates, smooth=smooth, check_every=max(1, updates // 100))


def _reported(report: Report, stage: str) -> Callable[[Progress], None]:
    return lambda progress: report(stage, progress.update, progress.updates)


@torch.no_grad()
def _at_the_end(committee: Committee, sequences: Sequences) -> NDArray[np.float64]:
    """Return probabilities (sequences, classes) at the last tick of whole sequences."""
    sampler = Sampler(sequences)
    found = np.zeros((len(sequences), committee.config.classes))
    for chosen in torch.from_numpy(np.argsort(sequences.length)).split(_CHUNK):
        clips = sampler.whole(chosen)
        p = committee(clips.joints)
        found[chosen.numpy()] = p[torch.arange(len(chosen)), clips.length - 1].numpy()
    return found
