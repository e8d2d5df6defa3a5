"""The folder of a training: what it is a training of, then weights and a card."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from torch import Tensor, nn

from stream.errors import ConfigError, ModelError

CARD = "card.json"
WEIGHTS = "weights.pt"
RECIPE = "recipe.json"
MAX_CARD_BYTES = 4 << 20

C = TypeVar("C", bound=msgspec.Struct)
N = TypeVar("N")


def claim_folder(folder: Path, note: Mapping[str, Any], *, resume: bool) -> None:
    """Note in a folder what is trained there, so that nothing else is written into it.

    Raises
    ------
    ConfigError
        It holds a trained network, a training that `resume` does not go on with, or none to go on
        with.
    """
    text = json.dumps(note, indent=1) + "\n"
    path = folder / RECIPE
    check_free(folder, resume=resume)
    if path.exists() and path.read_text() != text:
        raise ConfigError(
            f"{folder} holds an unfinished training with other data or settings; give those of"
            f" {path}, or choose another folder."
        )
    if resume and not path.exists():
        raise ConfigError(f"{folder} holds no training to go on with; leave --resume out.")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def check_free(folder: Path, *, resume: bool = False) -> None:
    """Refuse a folder in which something is trained; enough for what cannot be gone on with.

    Raises
    ------
    ConfigError
        It holds a trained network, or a training that `resume` does not go on with.
    """
    if (folder / CARD).exists():
        raise ConfigError(f"{folder} holds a trained network already; choose another folder.")
    if (folder / RECIPE).exists() and not resume:
        raise ConfigError(
            f"{folder} holds an unfinished training; go on with --resume, or choose another folder."
        )


def write_folder(folder: Path, weights: Mapping[str, Tensor], card: msgspec.Struct) -> None:
    """Write weights and card into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / WEIGHTS, weights)
    (folder / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=1) + b"\n")


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write what `torch.load` reads; a kill or a full disk meanwhile leaves the file before.

    Raises
    ------
    ModelError
        It cannot be written.
    """
    buffer = io.BytesIO()  # into a file on a full disk, torch raises what says nothing of the disk
    torch.save(content, buffer)
    partial = path.with_suffix(".partial")
    try:
        partial.write_bytes(buffer.getbuffer())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ModelError(
            f"{path} cannot be written ({error.strerror}); a training that has come to a checkpoint"
            " goes on from there with --resume."
        ) from error


def read_folder(
    folder: Path, card_type: type[C], make: Callable[[C, dict[str, Tensor]], N], *, command: str
) -> tuple[N, C]:
    """Read what `write_folder` wrote.

    Parameters
    ----------
    make
        Makes the network from card and weights.
    command
        By which such a folder is made, for the message where it is unfinished.

    Returns
    -------
    network, card
        A network of torch is in its evaluation mode.

    Raises
    ------
    ModelError
        The folder holds none, an unfinished one, or files that do not fit each other.
    """
    path = folder / CARD
    if folder.is_file():
        raise ModelError(f"{folder} is a file; give the folder of a training.")
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"{folder} holds no trained network ({CARD} and {WEIGHTS}); if training was stopped,"
            f" finish it with '{command} ... --resume'."
        )
    if path.stat().st_size > MAX_CARD_BYTES:
        raise ModelError(f"{path} is larger than a card can be; train again.")
    try:
        card = msgspec.json.decode(path.read_bytes(), type=card_type)
        weights = torch.load(folder / WEIGHTS, weights_only=True, map_location="cpu")
        network = make(card, weights)
    except Exception as error:  # torch raises many kinds on a damaged file
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{folder} holds no readable trained network ({reason}); train again."
        ) from None
    if isinstance(network, nn.Module):
        network.eval()
    return network, card
