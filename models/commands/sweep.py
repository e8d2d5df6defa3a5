"""`innervate sweep`: settings of a recurrent network, the hopeless ones stopped early."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from models.commands.options import bin_width_s
from models.lyapunov.sweep import Sweep, Trial, finish_promising, grid, recipe_of, time_of_all
from models.spikes.dataset import prepare
from models.spikes.recipe import SETTINGS, Recipe, held_out_units, input_columns, train_system
from stream.commands.output import check_folder, make_folder, write_json
from stream.errors import ConfigError, RunError
from stream.spikes.nwb import load_recording
from stream.units import format_seconds


def sweep(
    system: Annotated[str, typer.Argument(help="What to train: gru.")],
    *,
    data: Annotated[Path, typer.Option(help="Recording (NWB).")],
    out: Annotated[Path, typer.Option(help="New folder for the table and the best network.")],
    bin_width: Annotated[
        str | None,
        typer.Option(help="Such as '20 ms'; else that of the recording's counts, or 20 ms."),
    ] = None,
    behaviour: Annotated[str, typer.Option(help="Signal to decode, such as hand_vel.")] = "",
    held_out: Annotated[
        str, typer.Option(help="FILE.json:N, the Nth list of units (from 0) that are not fed in.")
    ] = "",
    hidden: Annotated[str, typer.Option(help="Widths to try.")] = "32,64,128",
    learning_rate: Annotated[str, typer.Option(help="Rates to try.")] = "0.0005,0.0015,0.005",
    dropout: Annotated[str, typer.Option(help="Rates to try.")] = "0,0.2,0.4",
    updates: Annotated[
        int | None,
        typer.Option(min=1, help=f"Most optimiser steps, by default {SETTINGS['gru'].updates}."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of all weights.")] = 0,
) -> None:
    """Train every combination of settings a little, and only what is promising to its end.

    What is promising is told by validation loss and Lyapunov spectrum of the first sixth of the
    updates. The best setting is then trained like `innervate train` does, into OUT/best.

    After Ctrl-C it cannot be gone on with: nothing is kept of settings that were tried before all
    of them are judged, and from then on the table, OUT/sweep.json, but no network.
    """
    if system != "gru":
        raise ConfigError(f"there is no system '{system}' to sweep; there is gru.")
    settings = grid(
        _numbers("--hidden", hidden, int),
        _numbers("--learning-rate", learning_rate, float),
        _numbers("--dropout", dropout, float),
    )
    check_folder("--out", out)
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"--out: {out} is not empty; name a new folder.")
    torch.set_num_threads(1)
    recording = load_recording(data)
    training = replace(SETTINGS[system], seed=seed)
    if updates is not None:
        training = replace(training, updates=updates)
    recipe = Recipe(
        system=system,
        width_s=bin_width_s(recording, bin_width),
        behaviour=behaviour,
        held_out=held_out_units(held_out, recording.name) if held_out else (),
        training=training,
    )
    parts = prepare(recording, recipe.width_s, behaviour or None)
    inputs = input_columns(parts, recipe.held_out)
    make_folder("--out", out)
    console = Console(highlight=False, soft_wrap=True)
    with console.status("") as status:
        try:
            with tempfile.TemporaryDirectory(dir=out) as folder:
                swept = Sweep(
                    recipe, parts.select("train"), parts.select("validation"), inputs, Path(folder)
                )
                trials = _run(swept, settings, status.update)
        except KeyboardInterrupt:
            raise RunError(
                "interrupted; a sweep keeps nothing until all settings are judged, and the same"
                " command begins it again.", 130,
            ) from None  # fmt: skip
    spent, of_all = time_of_all(trials)
    console.print(_table(trials))
    finished = sum(t.loss is not None for t in trials)
    console.print(
        f"{finished} of {len(trials)} trained to their end in {format_seconds(round(spent, 1))};"
        f" all would have taken an estimated {format_seconds(round(of_all, 1))}"
        f" ({1 - spent / of_all:.0%} saved)"
    )
    rows = [
        {
            **asdict(t.setting), "early_loss": t.early_loss, "largest_exponent": t.largest_exponent,
            "loss": t.loss, "early_s": t.early_s, "rest_s": t.rest_s,
        }
        for t in trials
    ]  # fmt: skip
    conditions = {"recording": recording.name, "spent_s": spent, "all_would_take_s": of_all}
    write_json(
        "--out", out / "sweep.json", {"name": "sweep", "conditions": conditions, "rows": rows}
    )
    best = min((t for t in trials if t.loss is not None), key=lambda t: t.loss or 0.0)
    with console.status("training the best one"):
        try:
            train_system(data, recipe_of(best.setting, recipe), out / "best")
        except KeyboardInterrupt:
            raise RunError(
                f"interrupted while the best setting was trained; {out / 'sweep.json'} has the"
                " table, and to get the network sweep again into another folder.", 130,
            ) from None  # fmt: skip
    console.print(f"next: innervate export {out / 'best'} --out model.onnx", markup=False)


def _run(swept: Sweep, settings: list[Any], tell: Any) -> list[Trial]:
    trials: list[Trial] = []
    for setting in settings:
        tell(f"{len(trials) + 1} of {len(settings)}: a little of {setting}")
        trials.append(swept.begin(setting))
    features = np.stack([t.features for t in trials])
    early = np.array([t.early_loss for t in trials])
    for i in finish_promising(features, early, lambda i: swept.finish(trials[i])):
        tell(f"{trials[i].setting} came to {trials[i].loss:.4f}")
    return trials


def _numbers(option: str, text: str, kind: type) -> list[Any]:
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"{option}: expected numbers with commas between them, found '{text}'."
        ) from None
    least = 0 if option == "--dropout" else 1e-12
    if any(not least <= value < (1 if kind is float else 10_000) for value in found):
        raise ConfigError(f"{option}: {text} is out of range.")
    return found


def _table(trials: list[Trial]) -> Table:
    table = Table(box=None)
    for name in ("hidden", "learning rate", "dropout", "early loss", "largest exponent", "loss"):
        table.add_column(name, justify="right")
    for t in sorted(trials, key=lambda t: (t.loss is None, t.loss or t.early_loss)):
        table.add_row(
            str(t.setting.hidden), f"{t.setting.learning_rate:g}", f"{t.setting.dropout:g}",
            f"{t.early_loss:.4f}", f"{t.largest_exponent:+.4f}",
            "stopped" if t.loss is None else f"{t.loss:.4f}",
        )  # fmt: skip
    return table
