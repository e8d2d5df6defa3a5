"""`innervate train audeo`: from nothing but renderings to a network that sees keys go down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from models.audeo.decoder_recipe import train_decoder
from models.audeo.network import LARGE, PianoConfig
from models.audeo.recipe import Recipe, calibrate_piano, train_piano
from models.audeo.training import TrainingSettings
from stream.commands.output import check_folder
from stream.errors import ConfigError
from stream.units import format_seconds


def train(
    system: Annotated[str, typer.Argument(help="audeo.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for weights and card.")],
    rendered: Annotated[
        Path | None,
        typer.Option(help="Folder for rendered clips, 3.6 MB each; by default in --out."),
    ] = None,
    clips: Annotated[int | None, typer.Option(min=1, help="Clips of 3 s to render.")] = None,
    updates: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    finetune: Annotated[
        Path | None, typer.Option(help="Folder of a trained network to go on from.")
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Of the new weights, the rest being those of --finetune: below 1 it forgets less.",
        ),
    ] = None,
    collected: Annotated[
        list[Path] | None, typer.Option(help="Set of `innervate collect`; may be given again.")
    ] = None,
    unlabelled: Annotated[
        Path | None,
        typer.Option(help="Video of your keyboard, a minute of playing, to get used to it."),
    ] = None,
    decoder: Annotated[
        bool,
        typer.Option("--decoder", help="Only train what decodes the network of --finetune."),
    ] = False,
    large: Annotated[
        bool,
        typer.Option("--large", help="Five times as large: not to play with, but to teach."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and batches.")] = 0,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that render, then draw batches.")
    ] = 2,
    batch: Annotated[int | None, typer.Option(min=1, help="Crops an update.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.0, help="Highest learning rate.")] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda for a GPU.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads that train.")] = 2,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped one.")] = False,
) -> None:
    """Train the live piano network on rendered keyboards and hands, and on sets of your own.

    With --finetune it goes on from a trained network, for fewer updates at a lower rate; with
    --share the weights end between those before and after. With --unlabelled instead, it only gets
    used to a video, from which it learns what it and a larger network together are sure of; with
    --decoder, the network stays as it is, and what corrects it is trained on what it says.
    """
    torch.set_num_threads(threads)
    if large and finetune is not None:
        raise ConfigError("--finetune names a network that has its size; leave --large out.")
    _refuse_ignored(
        finetune, share, unlabelled, decoder,
        {"--collected": collected, "--rendered": rendered, "--clips": clips, "--updates": updates,
         "--batch": batch, "--rate": rate, "--share": share, "--resume": resume},
    )  # fmt: skip
    if device != "cpu" and not torch.cuda.is_available():
        raise ConfigError(
            f"--device {device}: torch {torch.__version__} finds no GPU here; leave it out, or"
            " install torch for CUDA and a driver."
        )
    check_folder("--out", out)
    training: dict[str, Any] = {} if finetune is None else {"updates": 400, "rate": 5e-4}
    training |= _given(updates=updates, batch=batch, rate=rate)
    recipe = Recipe(LARGE if large else PianoConfig(), TrainingSettings(seed=seed, **training))
    recipe = replace(recipe, **_given(clips=clips, share=share))
    console = Console()
    columns = (
        TextColumn("{task.description}"), BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[loss]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Bar(*columns, console=console) as bar:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int, loss: float) -> None:
            text = "" if loss != loss else f"loss {loss:.4f}"  # noqa: PLR0124
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, loss=text)
            bar.update(tasks[stage], completed=done, loss=text)

        folder = rendered or out / "rendered"
        if decoder and finetune is not None:
            trained = train_decoder(finetune, out, clips=folder, workers=workers, on_progress=show)
        elif unlabelled is not None and finetune is not None:
            trained = calibrate_piano(finetune, unlabelled, out, on_progress=show)
        else:
            trained = train_piano(
                recipe, out, clips=folder, workers=workers, start=finetune,
                collected=collected or (), resume=resume, device=device, on_progress=show,
            )  # fmt: skip
    card = trained.card
    made = (
        card.decoder if decoder and card.decoder else {"training": card.training, "not_decoded": {}}
    )
    console.print(f"[bold]audeo[/] in {out}, {format_seconds(made['training']['took_s'])}")
    for name, value in card.scores.items():
        console.print(f"  {name} {value:.3f} on renderings that were held out")
    for name, value in made["not_decoded"].items():
        console.print(f"  {name} {value:.3f}, not decoded")
    console.print(f"next: innervate export {out} --out piano.onnx")


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _refuse_ignored(
    finetune: Path | None,
    share: float | None,
    unlabelled: Path | None,
    decoder: bool,
    options: dict[str, object],
) -> None:
    """Refuse options that the chosen way of training would not look at."""
    if share is not None and finetune is None:
        raise ConfigError(
            "--share goes with --finetune, which names the trained network that the rest of the"
            " weights are of."
        )
    if unlabelled is None and not decoder:
        return
    if unlabelled is not None:
        way, takes, what = "--unlabelled", "", "that is to get used to the video"
    else:
        way, takes, what = "--decoder", "--rendered", "that is decoded"
    if finetune is None:
        raise ConfigError(f"{way} goes with --finetune, which names the trained network {what}.")
    given = {"--decoder": unlabelled is not None and decoder, **options}
    if ignored := [name for name, value in given.items() if value and name != takes]:
        raise ConfigError(f"{way} does not use {', '.join(ignored)}; leave that out.")
