"""`innervate export` of a recogniser of actions."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from exporters.sesar import export_sesar
from models.sesar.dataset import Sequences, cross_view, load_ucla, load_utd, odd_subjects
from models.sesar.evaluation import plain_streams
from models.sesar.trained import load_trained
from models.trained_folder import WEIGHTS
from stream.errors import ConfigError
from stream.model_file import Contract

_STREAMS = 3


def export_actions(
    run: Path, out: Path, data: Path | None, *, allow_unstable: bool = False
) -> Contract:
    """Write the model file of a recogniser, verified on streams of what it was trained on.

    Raises
    ------
    ConfigError
        The recordings are not where they were, or are others.
    ModelError
        The exported step differs from the network, or it is unstable.
    """
    trained = load_trained(run)
    card = trained.card
    folders = [Path(folder) for folder in card.trained_on["folders"]]
    if data is not None:
        folders[0] = data
    ucla, utd = load_ucla(folders[0]), load_utd(folders[1])
    if ucla.sha256 != card.trained_on["sha256"]:
        raise ConfigError(
            f"{folders[0]} is not the data that the network was trained on (its sha256 differs);"
            " name that with --data."
        )
    with Console().status("comparing every tick"):
        streams = _streams(ucla, utd)
        sha256 = hashlib.sha256((run / WEIGHTS).read_bytes()).hexdigest()
        return export_sesar(
            trained.network, card, sha256, streams, out,
            allow_unstable=allow_unstable,
        )  # fmt: skip


def streams_of(ucla: Path, utd: Path) -> NDArray[np.float32]:
    """Return poses (streams, ticks, 20, 3) of NW-UCLA and UTD-MHAD, chained as a recogniser lives.

    Raises
    ------
    RecordingError
        The folders do not hold them.
    """
    return _streams(load_ucla(ucla), load_utd(utd))


def _streams(ucla: Sequences, utd: Sequences) -> NDArray[np.float32]:
    made = plain_streams(cross_view(ucla)[0], odd_subjects(utd)[0], _STREAMS)
    joints: NDArray[np.float32] = made.joints.numpy()
    return joints
