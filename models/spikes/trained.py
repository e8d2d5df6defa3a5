"""A trained network in its folder: weights, and a card that says what it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from models.spikes.baselines.storing import BASELINES, Baseline, from_tensors, to_tensors
from models.spikes.gru import GRU, GRUConfig
from models.stndt.streaming import StreamingConfig, StreamingSTNDT
from models.trained_folder import read_folder, write_folder
from stream.errors import ModelError


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
    network = trained.network
    if isinstance(network, StreamingSTNDT | GRU):
        write_folder(folder, network.state_dict(), trained.card)
    else:
        write_folder(folder, to_tensors(network), trained.card)


def load_trained(folder: Path) -> Trained:
    """Read a trained network from its folder; see `read_folder`."""
    return Trained(*read_folder(folder, Card, _network, command="innervate train"))


def _network(card: Card, weights: dict[str, Tensor]) -> StreamingSTNDT | GRU | Baseline:
    if card.system in BASELINES:
        return from_tensors(card.system, weights)
    network = make_network(card.system, card.network)
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise ModelError("its weights are of another version's network") from None
    return network


def config_of(network: StreamingSTNDT | GRU) -> dict[str, Any]:
    """Return a network's configuration as a card holds it."""
    return asdict(network.config)
