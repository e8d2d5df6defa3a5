"""The other files of a session folder: arrays, written whole or not at all, and past rounds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.labelling.labels import now
from stream.errors import RecordingError
from stream.spikes.npz import npz_arrays

_MAX_ROUNDS_BYTES = 4 << 20


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What a round of training came to.

    Attributes
    ----------
    number
        From 1.
    labels
        Learned from.
    held_out, right
        Labels that measured, and how many of their clips were recognised.
    classes
        In the order of the recogniser's outputs.
    sha256
        Of the clips.
    """

    number: int
    labels: int
    held_out: int
    right: int
    classes: tuple[str, ...]
    sha256: str
    time: datetime = msgspec.field(default_factory=now)


_rounds = msgspec.json.Decoder(Round)


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an `.npz` file; an old one stays until the new one is whole."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_arrays(path: Path, sha256: str | None = None) -> dict[str, NDArray[Any]] | None:
    """Read an `.npz` file, None if there is none, or it was made from other data."""
    if not path.exists():
        return None
    arrays = npz_arrays(path)
    return arrays if sha256 is None or str(arrays.get("sha256")) == sha256 else None


def load_rounds(path: Path) -> list[Round]:
    """Read the rounds of a session.

    Raises
    ------
    RecordingError
        A line is damaged.
    """
    if not path.exists():
        return []
    if path.stat().st_size > _MAX_ROUNDS_BYTES:
        raise RecordingError(f"{path} is larger than the rounds of a session can be; move it away.")
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            found.append(_rounds.decode(line))
        except msgspec.MsgspecError as error:
            raise RecordingError(
                f"line {number} of {path} is no round ({error}); take it away, no label is lost."
            ) from None
    return found


def append_round(path: Path, done: Round) -> None:
    """Add a round to the file."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(done) + b"\n")
        file.flush()
        os.fsync(file.fileno())
