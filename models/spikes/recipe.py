"""How a network is trained on a recording, from the bins to the folder with weights and card."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from models.spikes.dataset import SpikeData, prepare
from models.spikes.metrics import co_bps, decoding_r2, moving_columns, oracle_fraction
from models.spikes.trained import (
    Card,
    Trained,
    config_of,
    make_network,
    save_trained,
)
from models.spikes.training import Progress, TrainingSettings, fit, infer
from models.trained_folder import claim_folder
from stream.errors import ConfigError, RecordingError
from stream.spikes.nwb import load_recording

SETTINGS = {"stndt": TrainingSettings(updates=800), "gru": TrainingSettings()}
"""How each system is trained unless told otherwise."""
SYSTEMS = tuple(SETTINGS)
_MAX_DRAWS_BYTES = 1 << 20


@dataclass(frozen=True)
class Recipe:
    """What is trained and how.

    Attributes
    ----------
    system
        `stndt` or `gru`.
    width_s
        Width of a bin.
    behaviour
        Name of the signal to decode, empty for none.
    held_out
        Names of units that are never fed in.
    network
        Settings of the network that differ from its defaults.
    training
        Settings of the training, such as those of `SETTINGS`; its seed also draws the weights.
    """

    system: str
    width_s: float
    behaviour: str = ""
    held_out: tuple[str, ...] = ()
    network: dict[str, Any] = field(default_factory=dict)
    training: TrainingSettings = field(default_factory=TrainingSettings)


def train_system(
    file: Path,
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    on_progress: Callable[[str, Progress], None] = lambda stage, progress: None,
) -> Trained:
    """Train a network on the train part of a recording (a file) and write its folder.

    First the validation part says after how many updates to stop. Then a fresh network is trained
    for as many updates on train and validation part together, and kept.

    Raises
    ------
    ConfigError
        The recipe does not fit the recording, or the folder is in use or of another recipe.
    RecordingError
        The recording cannot be binned like this, or is too short.
    """
    recording = load_recording(file)
    note = {"recording": recording.name, "sha256": recording.sha256, "recipe": asdict(recipe)}
    began = time.monotonic()
    data = prepare(recording, recipe.width_s, recipe.behaviour or None)
    inputs = input_columns(data, recipe.held_out)
    train, validation = data.select("train"), data.select("validation")
    for part, which in ((train, "train"), (validation, "validation")):
        if recipe.behaviour and np.isnan(part.behaviour).any(axis=1).all():
            raise RecordingError(
                f"{recording.name}: '{recipe.behaviour}' is not known in a single bin of the"
                f" {which} part, so it cannot be learned; decode another, or none."
            )
    network = untrained(recipe, train, inputs)
    # Only now: what does not fit the recording is no training that could be gone on with.
    claim_folder(folder, note, resume=resume)
    checkpoints = [folder / f"checkpoint-{i}.pt" for i in (1, 2)]
    found = fit(
        network, train, validation, inputs, recipe.training,
        checkpoint=checkpoints[0], on_progress=lambda p: on_progress("when to stop", p),
    )  # fmt: skip
    scores = score(network, validation, inputs)
    both = data.select("train", "validation")
    network = untrained(recipe, both, inputs)
    fit(
        network, both, None, inputs, replace(recipe.training, updates=found.best_update),
        checkpoint=checkpoints[1], on_progress=lambda p: on_progress("on all of it", p),
    )  # fmt: skip
    card = Card(
        system=recipe.system,
        network=config_of(network),
        inputs=tuple(data.units[i] for i in inputs),
        outputs=data.units,
        width_s=data.width_s,
        behaviour=recipe.behaviour,
        columns=data.columns,
        behaviour_unit=data.behaviour_unit,
        trained_on={
            "name": recording.name,
            "file": str(file.resolve()),
            "sha256": recording.sha256,
            "licence": recording.licence,
            "train_bins": len(train.counts),
            "validation_bins": len(validation.counts),
        },
        training={
            **asdict(recipe.training),
            "behaviour": recipe.behaviour,
            "updates_used": found.best_update,
            "took_s": round(time.monotonic() - began, 1),
            "validation": [[p.update, p.validation_loss] for p in found.history],
        },
        scores=scores,
        versions={"innervate": version("innervate"), "torch": str(torch.__version__)},
    )
    trained = Trained(network, card)
    save_trained(folder, trained)
    for path in checkpoints:
        path.unlink(missing_ok=True)
    return trained


def untrained(recipe: Recipe, train: SpikeData, inputs: NDArray[np.int64]) -> Any:
    """Return a network with fresh weights and the scales of the train part."""
    torch.manual_seed(recipe.training.seed)
    sizes = {
        "n_in": len(inputs),
        "n_out": len(train.units),
        "behaviour": train.behaviour.shape[1],
    }
    try:
        network = make_network(recipe.system, {**recipe.network, **sizes})
    except msgspec.ValidationError as error:
        raise ConfigError(f"the {recipe.system} cannot be made like this: {error}.") from None
    network.calibrate(
        torch.from_numpy(train.counts),
        torch.from_numpy(inputs),
        torch.from_numpy(train.behaviour),
    )
    return network


def input_columns(data: SpikeData, held_out: Sequence[str]) -> NDArray[np.int64]:
    """Return the columns of the units that are fed in.

    Raises
    ------
    ConfigError
        A held-out unit is not there, or none is left to feed in.
    """
    unknown = [u for u in held_out if u not in data.units]
    if unknown:
        raise ConfigError(f"{data.name} has no unit '{unknown[0]}' to hold out.")
    inputs = [i for i, u in enumerate(data.units) if u not in set(held_out)]
    if not inputs:
        raise ConfigError(f"all units of {data.name} are held out, so nothing is left to feed in.")
    return np.array(inputs, np.int64)


def score(network: torch.nn.Module, data: SpikeData, inputs: NDArray[np.int64]) -> dict[str, float]:
    """Return figures of a network on a part that it was not trained on."""
    counts, behaviour = infer(network, data, inputs)
    told = ~np.isnan(counts).any(axis=1)
    counts, behaviour, truth = counts[told], behaviour[told], data.behaviour[told]
    held_out = np.setdiff1d(np.arange(len(data.units)), inputs)
    figures: dict[str, float] = {}
    if len(held_out):
        figures["co_bps"] = co_bps(counts, data.counts[told], held_out)
    if data.true_rates is not None:
        figures["oracle_fraction"] = oracle_fraction(counts, data.true_rates[told])
    if behaviour.shape[1]:
        moving = moving_columns(truth)
        if moving.any():
            r2 = decoding_r2(behaviour[:, moving], truth[:, moving])
            figures["behaviour_r2"] = float(r2.mean())
    return figures


def held_out_units(text: str, recording: str) -> tuple[str, ...]:
    """Return the units that `FILE.json:N` names: the Nth list, from 0, of a recording.

    The file maps names of recordings to lists of lists of unit names.

    Raises
    ------
    ConfigError
        The file or its Nth list is not there.
    """
    file, _, number = text.rpartition(":")
    path = Path(file)
    if not file or not number.isdigit():
        raise ConfigError(f"--held-out: expected FILE.json:N such as draws.json:0, found '{text}'.")
    if not path.is_file() or path.stat().st_size > _MAX_DRAWS_BYTES:
        raise ConfigError(f"--held-out: {path} is no file of held-out units.")
    try:
        draws = msgspec.json.decode(path.read_bytes(), type=dict[str, list[tuple[str, ...]]])
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"--held-out: {path} does not map recordings to lists: {error}."
        ) from None
    there = draws.get(recording, [])
    if int(number) >= len(there):
        raise ConfigError(
            f"--held-out: {path} has {len(there)} draws for {recording}, so there is no draw"
            f" {number} (they count from 0)."
        )
    return there[int(number)]
