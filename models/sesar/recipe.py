"""How a recogniser is trained, from recorded skeletons to the folder with weights and card."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.sesar.augment import Augmentation
from models.sesar.dataset import CLASSES, Sequences, by_subject
from models.sesar.evaluation import (
    SEEN,
    accuracy,
    fit_temperature,
    judge,
    judge_streams,
    plain_streams,
)
from models.sesar.live import fit_threshold
from models.sesar.network import Sesar, SesarConfig
from models.sesar.objectives import ContrastiveLoss, StreamLoss, projector
from models.sesar.streams import StreamSettings
from models.sesar.trained import SYSTEM, Card, Committee, Trained, config_of, save_trained
from models.sesar.training import Progress, TrainingSettings, fit
from models.trained_folder import claim_folder
from stream.errors import ConfigError

_HELD_OUT_SHARE = 0.2
_STREAMS = 60


@dataclass(frozen=True)
class Recipe:
    """What is trained and how.

    Attributes
    ----------
    network
        Sizes.
    members
        Networks that decide together; each has its own seed.
    pretraining
        Of the contrastive stage, which sees no labels. Left out by default: with all labels, as
        much time is better spent on updates with them.
    training
        Of the stage with labels, on clips and streams.
    augmentation
        Of clips and streams.
    pairs
        See `models.sesar.objectives.ContrastiveLoss`.
    """

    network: SesarConfig = field(default_factory=lambda: SesarConfig(len(CLASSES)))
    members: int = 3
    pretraining: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(updates=0, batch=128, learning_rate=3e-3)
    )
    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(updates=1600))
    augmentation: Augmentation = field(default_factory=Augmentation)
    streams: StreamSettings = field(default_factory=StreamSettings)
    pairs: float = 0.0


Report = Callable[[str, Progress], None]


def train_recogniser(
    actions: Sequences,
    background: Sequences,
    recipe: Recipe,
    folder: Path,
    *,
    about: dict[str, Any],
    resume: bool = False,
    on_progress: Report = lambda stage, progress: None,
) -> Trained:
    """Train a recogniser on labelled sequences and write its folder.

    First every fifth subject is held out: they give the scores on the card, the temperature of the
    probabilities and the threshold of labels. Then fresh networks are trained on all subjects, and
    kept.

    Parameters
    ----------
    actions, background
        Sequences that show the actions, and others, for chained streams.
    about
        What the card says of the data.

    Raises
    ------
    ConfigError
        The folder is in use or of another recipe, or there are too few subjects.
    """
    held_out = _every_fifth(actions)
    if len(np.unique(actions.subject)) < 2:
        raise ConfigError(
            "all sequences show the same person, so nothing says how others would be recognised;"
            " record at least two."
        )
    claim_folder(folder, {"data": about, "recipe": asdict(recipe)}, resume=resume)
    began = time.monotonic()
    some, others = by_subject(actions, held_out)
    some_background, other_background = by_subject(background, _every_fifth(background))
    trial = train_committee(
        some, some_background, recipe, folder,
        on_progress=lambda stage, p: on_progress(f"trial: {stage}", p), prefix="trial-",
    )  # fmt: skip
    scores, trial.temperature, threshold = score(trial, others, other_background)
    network = train_committee(actions, background, recipe, folder, on_progress=on_progress)
    network.temperature = trial.temperature
    card = Card(
        system=SYSTEM,
        network=config_of(network),
        members=recipe.members,
        classes=CLASSES,
        temperature=network.temperature,
        threshold=threshold,
        trained_on=about,
        training={
            **{k: v for k, v in asdict(recipe).items() if k != "network"},
            "held_out_subjects": held_out.tolist(),
            "took_s": round(time.monotonic() - began, 1),
        },
        scores=scores,
        versions={"innervate": version("innervate"), "torch": str(torch.__version__)},
    )
    trained = Trained(network, card)
    save_trained(folder, trained)
    for path in folder.glob("*checkpoint-*.pt"):
        path.unlink()
    return trained


def train_committee(
    actions: Sequences,
    background: Sequences,
    recipe: Recipe,
    folder: Path,
    *,
    on_progress: Report = lambda stage, progress: None,
    prefix: str = "",
) -> Committee:
    """Train all members, each from its own pretraining; a stopped training goes on."""
    committee = Committee(recipe.network, recipe.members)
    for number, member in enumerate(committee.members):
        assert isinstance(member, Sesar)
        seed = recipe.training.seed * 101 + number
        torch.manual_seed(seed)
        fresh = Sesar(recipe.network)
        member.load_state_dict(fresh.state_dict())
        pretrain(
            member, actions, recipe, seed, checkpoint=folder / f"{prefix}checkpoint-{number}a.pt",
            on_progress=lambda p, n=number: on_progress(f"member {n + 1}, without labels", p),  # type: ignore[misc]
        )  # fmt: skip
        settings = replace(recipe.training, seed=seed)
        loss = StreamLoss(actions, background, settings.batch, recipe.augmentation, recipe.streams)
        fit(
            member, loss, settings, checkpoint=folder / f"{prefix}checkpoint-{number}b.pt",
            on_progress=lambda p, n=number: on_progress(f"member {n + 1}", p),  # type: ignore[misc]
        )  # fmt: skip
    return committee.eval()


def pretrain(
    network: Sesar,
    sequences: Sequences,
    recipe: Recipe,
    seed: int,
    *,
    checkpoint: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train an encoder without labels, by contrast of augmented clips."""
    settings = replace(recipe.pretraining, seed=seed)
    if not settings.updates:
        return
    whole = nn.ModuleDict({"network": network, "projector": projector(2 * network.config.hidden)})
    loss = ContrastiveLoss(
        sequences,
        min(settings.batch, len(sequences)),
        replace(recipe.augmentation, crop=0.45, speed=1.6, lost=0.12, scale=0.15, tilt_rad=0.35),
        whole["projector"],
        pairs=recipe.pairs,
    )
    fit(
        whole, lambda both, update: loss(both["network"], update), settings,  # type: ignore[index]
        checkpoint=checkpoint, on_progress=on_progress,
    )  # fmt: skip


def score(
    network: Committee, actions: Sequences, background: Sequences
) -> tuple[dict[str, float], float, float]:
    """Return what sequences tell that a committee was not trained on.

    Returns
    -------
    scores
        Figures by name.
    temperature
        The best one; `network` has it from then on.
    threshold
        Probability from which a label is to be believed.
    """
    figures = {
        f"accuracy at {100 * share:.0f} %": value
        for share, value in zip(SEEN, accuracy(judge(network, actions), actions.label), strict=True)
    }
    streams = plain_streams(actions, background, _STREAMS)
    known = streams.weight > 0
    label = streams.label[known].numpy()
    with torch.no_grad():
        network.temperature = fit_temperature(network(streams.joints)[known].numpy(), label)
        probabilities = network(streams.joints)
    threshold = fit_threshold(probabilities, streams)
    found = asdict(judge_streams(probabilities, streams))
    figures |= {f"stream {name}": value for name, value in found.items() if value is not None}
    return figures, network.temperature, threshold


def _every_fifth(sequences: Sequences) -> NDArray[np.int64]:
    return np.unique(sequences.subject)[:: round(1 / _HELD_OUT_SHARE)]
