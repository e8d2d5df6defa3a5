"""`innervate train smoothing`, `glm`, `wiener`, `kalman` and `mlp`: fit a baseline on spikes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape

from models.commands.options import bin_width_s
from models.spikes.baselines.fitting import train_baseline
from models.spikes.recipe import held_out_units
from stream.commands.output import check_folder
from stream.errors import ConfigError
from stream.spikes.nwb import load_recording
from stream.units import format_seconds


def train(
    system: Annotated[str, typer.Argument(help="What to fit.")],
    *,
    data: Annotated[Path, typer.Option(help="Recording (NWB).")],
    out: Annotated[Path, typer.Option(help="Folder for the fit and its card.")],
    bin_width: Annotated[
        str | None,
        typer.Option(help="Such as '20 ms'; else that of the recording's counts, or 20 ms."),
    ] = None,
    behaviour: Annotated[
        str, typer.Option(help="Signal to decode, such as hand_vel (wiener, kalman, mlp).")
    ] = "",
    held_out: Annotated[
        str, typer.Option(help="FILE.json:N, the Nth list of units (from 0) that are not fed in.")
    ] = "",
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Of weights and dropout (mlp).")
    ] = None,
) -> None:
    """Fit a baseline to the first 80 % of a recording; the rest is never looked at.

    smoothing and glm give rates, wiener, kalman and mlp decode behaviour. The last 15 % of that
    part choose what has to be chosen.
    """
    if seed is not None and system != "mlp":
        raise ConfigError(f"--seed: nothing about a {system} is drawn; leave it out.")
    check_folder("--out", out)
    torch.set_num_threads(1)
    recording = load_recording(data)
    console = Console()
    with console.status(f"fitting the {system}"):
        trained = train_baseline(
            data,
            system,
            out,
            width_s=bin_width_s(recording, bin_width),
            behaviour=behaviour,
            held_out=held_out_units(held_out, recording.name) if held_out else (),
            seed=seed or 0,
        )
    card = trained.card
    gives = f"rates of {len(card.outputs)} units" if card.outputs else ", ".join(card.columns)
    console.print(
        f"[bold]{system}[/] in {escape(str(out))}: bins of {format_seconds(card.width_s)},"
        f" {len(card.inputs)} units fed in, gives {escape(gives)}",
        soft_wrap=True,
    )
    console.print(f"next: innervate export {escape(str(out))} --out model.onnx", soft_wrap=True)
