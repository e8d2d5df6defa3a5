"""`innervate export`: from a trained network to one verified model file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import typer
from rich.console import Console

from exporters.commands.export_actions import export_actions
from exporters.commands.export_piano import export_piano_model
from exporters.export import Description, Weights, export_baseline, export_network
from exporters.stability import stability_report
from models.audeo import trained as audeo
from models.sesar import trained as sesar
from models.spikes.baselines.storing import BASELINES
from models.spikes.evaluation import evaluate
from models.spikes.gru import GRU
from models.spikes.rate_models import load_model
from models.spikes.trained import Card, load_trained
from models.stndt.streaming import StreamingSTNDT
from models.trained_folder import CARD, MAX_CARD_BYTES, WEIGHTS
from stream.commands.output import check_file
from stream.errors import ConfigError
from stream.model_file import Contract, Score
from stream.spikes.nwb import load_recording
from stream.spikes.recording import Recording, bin_recording
from stream.spikes.selection import select_units


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training.")],
    *,
    out: Annotated[Path, typer.Option(help="Model file to write (.onnx).")],
    quantise: Annotated[
        str | None, typer.Option(help="Store weights as integers: int8 or int4.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The recording, if it lies elsewhere by now.")
    ] = None,
    look_ahead: Annotated[
        int, typer.Option(min=0, help="Frames by which a piano network answers late: 0, 1, 2, 4.")
    ] = 0,
    allow_unstable: Annotated[
        bool, typer.Option("--allow-unstable", help="Write an unstable model, too.")
    ] = False,
) -> None:
    """Write the model file of a trained network, if it does exactly what the network does.

    Its streaming step is held against the full run in PyTorch at every bin of real counts, and its
    state must be stable.
    """
    weights = _weights(quantise)
    check_file("--out", out)
    system = _system(run)
    if look_ahead and system not in ("", audeo.SYSTEM):
        raise ConfigError("--look-ahead is for piano networks; leave it out.")
    if system in (sesar.SYSTEM, audeo.SYSTEM):
        if weights is not None:
            raise ConfigError("--quantise is for networks on spikes; leave it out.")
        if system == sesar.SYSTEM:
            contract = export_actions(run, out, data, allow_unstable=allow_unstable)
            _report(contract, out, "ticks")
        else:
            contract = export_piano_model(run, out, look_ahead, allow_unstable=allow_unstable)
            _report(contract, out, "frames")
        return
    trained = load_trained(run)
    card = trained.card
    if weights is not None and card.system in BASELINES:
        raise ConfigError(f"--quantise is for networks; a {card.system} is small as it is.")
    recording = _recording(card, data)
    binned = bin_recording(recording, card.width_s)
    counts = binned.counts[:, select_units(binned.units, card.inputs, recording.name)]

    def score(path: Path) -> Mapping[str, float]:
        (row,) = evaluate(load_model(path), recording).rows
        return {name: value for name, value in row.items() if isinstance(value, float)}

    with Console().status("comparing every bin"):
        about = describe(card, hashlib.sha256((run / WEIGHTS).read_bytes()).hexdigest())
        if isinstance(trained.network, StreamingSTNDT | GRU):
            contract = export_network(
                trained.network, about, counts, out, weights=weights, score=score,
                allow_unstable=allow_unstable,
            )  # fmt: skip
        else:
            contract = export_baseline(
                trained.network, about, counts, out, allow_unstable=allow_unstable
            )
    _report(contract, out, "bins")


def describe(card: Card, sha256: str) -> Description:
    """Return what a model file says of a network with this card and these weights."""
    data = str(card.trained_on.get("name", ""))
    return Description(
        name=f"{card.system}-{data}" if data else card.system,
        version=sha256[:8],
        inputs=card.inputs,
        outputs=card.outputs,
        width_s=card.width_s,
        columns=card.columns,
        behaviour_unit=card.behaviour_unit,
        # Where the recording lies is nobody's business who gets the model.
        trained_on={key: value for key, value in card.trained_on.items() if key != "file"},
        training={
            "behaviour": card.behaviour,
            "network": card.network,
            **card.training,
            "versions": card.versions,
        },
        scores=tuple(
            Score(metric=metric, value=value, data=data, split="validation")
            for metric, value in card.scores.items()
        ),
    )


class _AnyCard(msgspec.Struct):
    system: str


def _system(run: Path) -> str:
    """Return what system a folder's card names, nothing if there is no card."""
    path = run / CARD
    if not path.is_file() or path.stat().st_size > MAX_CARD_BYTES:
        return ""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_AnyCard).system
    except msgspec.MsgspecError:
        return ""


def _weights(quantise: str | None) -> Weights | None:
    for known in get_args(Weights):
        if quantise == known:
            return known  # type: ignore[no-any-return]
    if quantise is None:
        return None
    raise ConfigError(f"--quantise takes int8 or int4, found '{quantise}'.")


def _recording(card: Card, data: Path | None) -> Recording:
    """Read the recording that the network was trained on, and no other."""
    if data is None and "file" not in card.trained_on:
        raise ConfigError(
            "the training does not say where its recording lies; name it with --data."
        )
    recording = load_recording(data or Path(card.trained_on["file"]))
    if recording.sha256 != card.trained_on.get("sha256"):
        raise ConfigError(
            f"{data or card.trained_on['file']} is not the recording that the network was trained"
            " on (its sha256 differs); name that one with --data."
        )
    return recording


def _report(contract: Contract, out: Path, steps: str) -> None:
    console = Console()
    parity: dict[str, Any] = contract.parity
    for port in contract.outputs:
        errors = parity[port.name]
        console.print(
            f"{port.name}: step and full run differ by at most {errors['cold']:.1e} from cold,"
            f" {errors['wrapped']:.1e} later ({parity['bins']} {steps})",
            soft_wrap=True,
        )
    for line in stability_report(contract):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if quantised := parity.get("quantised"):
        for metric, gained in quantised["gained"].items():
            console.print(f"{quantised['weights']} weights change {metric} by {gained:+.4f}")
    console.print(
        f"wrote {out} ({out.stat().st_size / 2**20:.2f} MiB)", highlight=False, soft_wrap=True
    )
