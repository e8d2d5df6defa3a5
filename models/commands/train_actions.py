"""`innervate train sesar`: from recorded skeletons to a trained recogniser of actions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from models.sesar.dataset import load_training_data
from models.sesar.recipe import Recipe, train_recogniser
from models.sesar.trained import Card
from models.sesar.training import Progress
from stream.units import format_seconds

_RECIPE = Recipe()


def train(
    system: Annotated[str, typer.Argument(help="sesar.")],
    *,
    data: Annotated[Path, typer.Option(help="Folder with the JSON files of NW-UCLA.")],
    background: Annotated[Path, typer.Option(help="Folder with the skeletons of UTD-MHAD.")],
    out: Annotated[Path, typer.Option(help="Folder for weights and card.")],
    members: Annotated[int, typer.Option(min=1, help="Networks that decide together.")] = (
        _RECIPE.members
    ),
    updates: Annotated[int, typer.Option(min=1, help="Optimiser steps a member.")] = (
        _RECIPE.training.updates
    ),
    pretraining: Annotated[
        int, typer.Option(min=0, help="Optimiser steps a member without labels.")
    ] = _RECIPE.pretraining.updates,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, batches and dropout.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped one.")] = False,
) -> None:
    """Train a causal recogniser of actions on views 1 and 2 of NW-UCLA.

    Odd subjects of UTD-MHAD show it what is none of these actions. View 3 and even subjects are
    never looked at. A first training without every fifth subject gives the scores on the card.
    """
    torch.set_num_threads(threads)
    actions, others, about = load_training_data(data, background)
    recipe = replace(
        _RECIPE,
        members=members,
        training=replace(_RECIPE.training, seed=seed, updates=updates),
        pretraining=replace(_RECIPE.pretraining, updates=pretraining),
    )
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("update {task.completed}/{task.total} loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        tasks: dict[str, Any] = {}

        def show(stage: str, progress: Progress) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, loss=progress.loss)
            bar.update(
                tasks[stage], completed=progress.update, total=progress.updates, loss=progress.loss
            )

        trained = train_recogniser(
            actions, others, recipe, out, about=about, resume=resume, on_progress=show
        )
    _report(console, trained.card, out)


def _report(console: Console, card: Card, folder: Path) -> None:
    console.print(
        f"[bold]{card.system}[/] in {folder}: {card.members} networks,"
        f" {card.trained_on['sequences']} sequences, {format_seconds(card.training['took_s'])}"
    )
    for name, value in card.scores.items():
        console.print(f"  {name} {value:.3f} on subjects that were held out")
    console.print(f"next: innervate export {folder} --out actions.onnx")
