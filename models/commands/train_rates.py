"""`innervate train stndt` and `gru`: from a recording of spikes to a trained network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from models.commands.options import bin_width_s
from models.spikes.recipe import SETTINGS, SYSTEMS, Recipe, held_out_units, train_system
from models.spikes.trained import Card
from models.spikes.training import Progress
from models.stndt.streaming import StreamingConfig
from stream.commands.output import check_folder
from stream.errors import ConfigError
from stream.spikes.nwb import load_recording
from stream.units import format_seconds

_STNDT = StreamingConfig(n_in=1, n_out=1)
_SPATIAL = ("none", "frozen", "recursive", "exact")


def train(
    system: Annotated[str, typer.Argument(help="What to train: stndt or gru.")],
    *,
    data: Annotated[Path, typer.Option(help="Recording (NWB).")],
    out: Annotated[Path, typer.Option(help="Folder for weights and card.")],
    bin_width: Annotated[
        str | None,
        typer.Option(help="Such as '20 ms'; else that of the recording's counts, or 20 ms."),
    ] = None,
    behaviour: Annotated[
        str, typer.Option(help="Signal of the recording to decode, such as hand_vel.")
    ] = "",
    held_out: Annotated[
        str, typer.Option(help="FILE.json:N, the Nth list of units (from 0) that are not fed in.")
    ] = "",
    window: Annotated[
        int | None,
        typer.Option(help=f"Bins that attention sees, by default {_STNDT.window} (stndt)."),
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help=f"Number of layers, by default {_STNDT.layers} (stndt).")
    ] = None,
    spatial: Annotated[
        str | None,
        typer.Option(
            help=f"Mixing over neurons: {', '.join(_SPATIAL)}, by default {_STNDT.spatial} (stndt)."
        ),
    ] = None,
    look_ahead: Annotated[
        int | None,
        typer.Option(
            help="Bins by which output lags input, for accuracy, by default"
            f" {_STNDT.look_ahead} (stndt)."
        ),
    ] = None,
    updates: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most optimiser steps to take, by default "
            + ", ".join(f"{s.updates} ({name})" for name, s in SETTINGS.items())
            + ".",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of weights, masks and dropout.")
    ] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped one.")] = False,
) -> None:
    """Train a network on the first 80 % of a recording; the rest is never looked at.

    The last 15 % of that part say when to stop, then it is trained on all of that part.
    """
    if system not in SYSTEMS:
        raise ConfigError(f"there is no system '{system}' to train; there is stndt and gru.")
    network = {
        "window": window, "layers": layers, "spatial": spatial, "look_ahead": look_ahead,
    }  # fmt: skip
    network = {name: value for name, value in network.items() if value is not None}
    _check(system, network)
    check_folder("--out", out)
    torch.set_num_threads(threads)
    recording = load_recording(data)
    training: dict[str, Any] = {"seed": seed}
    if updates is not None:
        training["updates"] = updates
    recipe = Recipe(
        system=system,
        width_s=bin_width_s(recording, bin_width),
        behaviour=behaviour,
        held_out=held_out_units(held_out, recording.name) if held_out else (),
        network=network,
        training=replace(SETTINGS[system], **training),
    )
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("update {task.completed}/{task.total} {task.fields[losses]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        tasks: dict[str, Any] = {}

        def show(stage: str, progress: Progress) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, losses="")
            losses = f"loss {progress.train_loss:.4f}"
            if stage == "when to stop":
                losses += f", validation {progress.validation_loss:.4f}"
            bar.update(
                tasks[stage], completed=progress.update, total=progress.updates, losses=losses
            )

        trained = train_system(data, recipe, out, resume=resume, on_progress=show)
    _report(console, trained.card, out)


def _check(system: str, network: dict[str, Any]) -> None:
    if system == "gru" and network:
        option = next(iter(network)).replace("_", "-")
        raise ConfigError(f"--{option} is a setting of stndt; leave it out for gru.")
    if network.get("spatial", "none") not in _SPATIAL:
        raise ConfigError(
            f"--spatial: there is no mixing '{network['spatial']}'; there is {', '.join(_SPATIAL)}."
        )
    for name, least in (("window", 1), ("layers", 0), ("look_ahead", 0)):
        if network.get(name, least) < least:
            raise ConfigError(
                f"--{name.replace('_', '-')}: expected at least {least}, found {network[name]}."
            )


def _report(console: Console, card: Card, folder: Path) -> None:
    fed = f"{len(card.inputs)} of {len(card.outputs)} units fed in"
    console.print(
        f"[bold]{card.system}[/] in {folder}: bins of {format_seconds(card.width_s)}, {fed},"
        f" {card.training['updates_used']} updates, {format_seconds(card.training['took_s'])}"
    )
    for name, value in card.scores.items():
        console.print(f"  {name} {value:.4f} on the validation part")
    console.print(f"next: innervate export {folder} --out model.onnx")
