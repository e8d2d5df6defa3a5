"""The recogniser that a session of labelling trained, as a verified model file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from exporters.model_writer import write_model
from exporters.sesar import export_sesar, sesar_step
from exporters.stability import QUICK
from models.labelling.clips import Clips
from models.sesar.augment import Sampler
from models.sesar.trained import load_trained
from models.trained_folder import WEIGHTS
from stream.model_file import Score

_STREAMS, _TICKS = 3, 200


def export_labelled(
    trained: Path, clips: Clips, out: Path, report: Callable[[str, int, int], None]
) -> dict[str, Any]:
    """Write the model file of a round, verified on clips of the session, joined end to end.

    Returns
    -------
    dict
        `file`, and the largest `error` of a probability against PyTorch.

    Raises
    ------
    ModelError
        The folder holds no trained network, or the exported step differs from it.
    """
    report("comparing every tick with PyTorch", 0, 1)
    network = load_trained(trained)
    card = network.card
    sha256 = hashlib.sha256((trained / WEIGHTS).read_bytes()).hexdigest()
    contract = export_sesar(network.network, card, sha256, _streams(clips), out, effort=QUICK)
    # The exporter takes scores to be those of subjects held out; here clips were.
    facts = card.trained_on
    scores = tuple(
        Score(
            metric=metric, value=value, data=facts["name"],
            split=f"{facts['held_out']} labels held out at random",
        )
        for metric, value in card.scores.items()
    )  # fmt: skip
    contract = msgspec.structs.replace(contract, scores=scores)
    write_model(sesar_step(network.network).model, contract, out)
    errors = contract.parity["probabilities"]
    return {"file": str(out), "error": max(errors["cold"], errors["wrapped"])}


def _streams(clips: Clips) -> NDArray[np.float32]:
    """Return poses (streams, ticks, 20, 3) on the clock: random clips, one after the other."""
    torch.manual_seed(0)
    sampler = Sampler(clips.sequences)
    poses: list[NDArray[np.float32]] = []
    while sum(map(len, poses)) < _STREAMS * _TICKS:
        found = sampler.whole(torch.randint(len(clips.names), (8,)))
        poses += [
            joints[:length].numpy()
            for joints, length in zip(found.joints, found.length, strict=True)
        ]
    joined = np.concatenate(poses)[: _STREAMS * _TICKS]
    return joined.reshape(_STREAMS, _TICKS, *joined.shape[1:])
