"""A trained network in its folder: weights, and a card that says what it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from models.spikes.baselines.storing import BASELINES, Baseline, from_tensors, to_tensors
from models.spikes.gru import GRU, GRUConfig
from models.stndt.streaming import StreamingConfig, StreamingSTNDT
from stream.errors import ModelError

CARD = "card.json"
WEIGHTS = "weights.pt"
_MAX_CARD_BYTES = 4 << 20


class Card(msgspec.Struct, kw_only=True, frozen=True):
    """What a trained network is, and what it was trained on.

    Attributes
    ----------
    system
        `stndt`, `gru` or one of `BASELINES`.
    network
        Its configuration, empty for a baseline.
    inputs, outputs
        Names of the units that it is fed and of those whose rates it gives.
    width_s
        Width of a bin.
    behaviour, columns, behaviour_unit
        Decoded signal, its columns and unit; empty without.
    trained_on
        `name`, `file`, `sha256` and `licence` of the recording, bins of the parts.
    training
        Settings, how long it took, at which update it stopped and the validation losses.
    scores
        Measured on the validation part, before the network was trained on it as well.
    versions
        Of what it was trained with.
    """

    system: str
    network: dict[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    width_s: float
    behaviour: str = ""
    columns: tuple[str, ...] = ()
    behaviour_unit: str = ""
    trained_on: dict[str, Any] = {}
    training: dict[str, Any] = {}
    scores: dict[str, float] = {}
    versions: dict[str, str] = {}


@dataclass(frozen=True)
class Trained:
    """A trained network or a fitted baseline, and its card."""

    network: StreamingSTNDT | GRU | Baseline
    card: Card


def make_network(system: str, config: dict[str, Any]) -> StreamingSTNDT | GRU:
    """Return an untrained network of a system (`stndt` or `gru`) from its configuration."""
    if system == "gru":
        return GRU(msgspec.convert(config, GRUConfig))
    return StreamingSTNDT(msgspec.convert(config, StreamingConfig))


def save_trained(folder: Path, trained: Trained) -> None:
    """Write weights and card into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    network = trained.network
    if isinstance(network, StreamingSTNDT | GRU):
        torch.save(network.state_dict(), folder / WEIGHTS)
    else:
        torch.save(to_tensors(network), folder / WEIGHTS)
    card = msgspec.json.encode(trained.card)
    (folder / CARD).write_bytes(msgspec.json.format(card, indent=1) + b"\n")


def load_trained(folder: Path) -> Trained:
    """Read a trained network from its folder.

    Raises
    ------
    ModelError
        The folder holds none, an unfinished one, or files that do not fit each other.
    """
    path = folder / CARD
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"{folder} holds no trained network ({CARD} and {WEIGHTS}); if training was stopped,"
            " finish it with 'innervate train ... --resume'."
        )
    if path.stat().st_size > _MAX_CARD_BYTES:
        raise ModelError(f"{path} is larger than a card can be; train again.")
    try:
        card = msgspec.json.decode(path.read_bytes(), type=Card)
        weights = torch.load(folder / WEIGHTS, weights_only=True, map_location="cpu")
        if card.system in BASELINES:
            return Trained(from_tensors(card.system, weights), card)
        network = make_network(card.system, card.network)
        network.load_state_dict(weights)
    except Exception as error:  # torch raises many kinds on a damaged file
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{folder} holds no readable trained network ({reason}); train again."
        ) from None
    network.eval()
    return Trained(network, card)


def config_of(network: StreamingSTNDT | GRU) -> dict[str, Any]:
    """Return a network's configuration as a card holds it."""
    return asdict(network.config)
