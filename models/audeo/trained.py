"""A trained piano network in its folder: weights, and a card that says what it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from models.audeo.network import PianoConfig, PianoNetwork
from models.trained_folder import read_folder, write_folder

SYSTEM = "audeo"


class Card(msgspec.Struct, kw_only=True, frozen=True):
    """What a trained piano network is, and what it was trained on.

    Attributes
    ----------
    system
        `audeo`.
    network
        Its configuration.
    threshold
        Probability of an onset from which a note is to be believed, chosen on validation clips.
    trained_on, training, scores, versions
        The data; settings and how long it took; on validation clips; of what it was trained with.
    """

    system: str
    network: dict[str, Any]
    threshold: float | None = None
    trained_on: dict[str, Any] = {}
    training: dict[str, Any] = {}
    scores: dict[str, float] = {}
    versions: dict[str, str] = {}


@dataclass(frozen=True)
class Trained:
    """A trained network and its card."""

    network: PianoNetwork
    card: Card


def save_trained(folder: Path, trained: Trained) -> None:
    """Write weights and card into a folder."""
    write_folder(folder, trained.network.state_dict(), trained.card)


def load_trained(folder: Path) -> Trained:
    """Read what `save_trained` wrote.

    Raises
    ------
    ModelError
        The folder holds none.
    """

    def make(card: Card, weights: dict[str, Tensor]) -> PianoNetwork:
        config = msgspec.convert(card.network, PianoConfig)
        network = PianoNetwork(config)
        network.load_state_dict(weights)
        return network

    network, card = read_folder(folder, Card, make, command="innervate train audeo")
    return Trained(network, card)


def network_facts(config: PianoConfig) -> dict[str, Any]:
    """Return a configuration as a card holds it."""
    return asdict(config) | {"channels": list(config.channels)}
