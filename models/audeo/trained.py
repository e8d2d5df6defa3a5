"""A trained piano network in its folder: weights, and a card that says what it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from models.audeo.decoder import Decoder, DecoderConfig
from models.audeo.network import PianoConfig, PianoNetwork
from models.trained_folder import read_folder, save_tensors, write_folder

SYSTEM = "audeo"
DECODER = "decoder.pt"


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
    decoder
        Configuration and settings of its decoder, and scores without it; null where there is none.
    """

    system: str
    network: dict[str, Any]
    threshold: float | None = None
    trained_on: dict[str, Any] = {}
    training: dict[str, Any] = {}
    scores: dict[str, float] = {}
    versions: dict[str, str] = {}
    decoder: dict[str, Any] | None = None


@dataclass(frozen=True)
class Trained:
    """A trained network, its card, and the decoder of what it says, if there is one."""

    network: PianoNetwork
    card: Card
    decoder: Decoder | None = None


def save_trained(folder: Path, trained: Trained) -> None:
    """Write weights and card into a folder."""
    if trained.decoder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(folder / DECODER, trained.decoder.state_dict())
    write_folder(folder, trained.network.state_dict(), trained.card)


def load_trained(folder: Path) -> Trained:
    """Read what `save_trained` wrote.

    Raises
    ------
    ModelError
        The folder holds none.
    """

    def make(card: Card, weights: dict[str, Tensor]) -> tuple[PianoNetwork, Decoder | None]:
        network = PianoNetwork(msgspec.convert(card.network, PianoConfig))
        network.load_state_dict(weights)
        decoder = None
        if card.decoder is not None:
            decoder = Decoder(msgspec.convert(card.decoder["network"], DecoderConfig))
            decoder.load_state_dict(torch.load(folder / DECODER, weights_only=True))
            decoder.eval()
        return network.eval(), decoder

    (network, decoder), card = read_folder(folder, Card, make, command="innervate train audeo")
    return Trained(network, card, decoder)


def network_facts(config: PianoConfig) -> dict[str, Any]:
    """Return a configuration as a card holds it."""
    return asdict(config) | {"channels": list(config.channels)}
