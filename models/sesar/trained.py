"""A trained recogniser in its folder: weights, and a card that says what it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from models.sesar.network import PERIOD_S, Sesar, SesarConfig
from models.trained_folder import read_folder, write_folder

SYSTEM = "sesar"


class Card(msgspec.Struct, kw_only=True, frozen=True):
    """What a trained recogniser is, and what it was trained on.

    Attributes
    ----------
    system
        `sesar`.
    network
        Configuration of each member.
    members
        How many networks decide together.
    classes
        Names of the outputs, the last one for background.
    temperature
        By which logits are divided, so that probabilities are right as often as they say on
        subjects that were held out.
    threshold
        Probability from which a label is to be believed, see `models.sesar.evaluation`; None where
        nobody was held out.
    period_s
        From tick to tick.
    trained_on
        `name`, `folder`, `sha256`, `licence` of the data and how much of it.
    training
        Settings and how long it took.
    scores
        On held-out subjects, before the members were trained on all of them.
    versions
        Of what it was trained with.
    """

    system: str
    network: dict[str, Any]
    members: int
    classes: tuple[str, ...]
    temperature: float = 1.0
    threshold: float | None = None
    period_s: float = PERIOD_S
    trained_on: dict[str, Any] = {}
    training: dict[str, Any] = {}
    scores: dict[str, float] = {}
    versions: dict[str, str] = {}


class Committee(nn.Module):
    """Networks that decide together, by the mean of their log probabilities."""

    def __init__(self, config: SesarConfig, members: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.config = config
        self.temperature = temperature
        self.members = nn.ModuleList(Sesar(config) for _ in range(members))

    def forward(self, joints: Tensor) -> Tensor:
        """Return probabilities (clips, ticks, classes) of joints (clips, ticks, 20, 3)."""
        logits = [member(joints)[0].log_softmax(-1) for member in self.members]
        return (torch.stack(logits).mean(0) / self.temperature).softmax(-1)


@dataclass(frozen=True)
class Trained:
    """A trained recogniser and its card."""

    network: Committee
    card: Card


def save_trained(folder: Path, trained: Trained) -> None:
    """Write weights and card into a folder."""
    write_folder(folder, trained.network.state_dict(), trained.card)


def load_trained(folder: Path) -> Trained:
    """Read a trained recogniser from its folder; see `read_folder`."""
    return Trained(*read_folder(folder, Card, _committee, command="innervate train sesar"))


def _committee(card: Card, weights: dict[str, Tensor]) -> Committee:
    network = Committee(msgspec.convert(card.network, SesarConfig), card.members, card.temperature)
    network.load_state_dict(weights)
    return network


def config_of(network: Committee) -> dict[str, Any]:
    """Return the configuration of each member as a card holds it."""
    return asdict(network.config)
