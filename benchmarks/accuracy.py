"""How accurate the streaming networks are beside their rivals, on recordings."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks._results import JsonFile, Row, write_result
from models.spikes import metrics
from models.spikes.baselines.glm import fit_glm
from models.spikes.baselines.kalman import fit_kalman
from models.spikes.baselines.mlp import fit_mlp
from models.spikes.baselines.smoothing import fit_smoothing
from models.spikes.baselines.wiener import fit_wiener
from models.spikes.dataset import prepare
from models.spikes.evaluation import evaluate, for_fitting
from models.spikes.rate_models import load_model
from models.spikes.recipe import SETTINGS, Recipe, held_out_units, train_system
from models.spikes.simulated import coupled_population
from stream.errors import ConfigError
from stream.spikes.nwb import load_recording, write_recording

DRAWS = Path(__file__).with_name("draws.json")
N_DRAWS = 5
TASKS = ("co-smoothing", "behaviour", "rates", "spatial", "look-ahead")
_FIGURES = ("co_bps", "one_step_bps", "behaviour_r2", "oracle_fraction", "log_rate_r2")
_MIXINGS = ("none", "frozen", "recursive", "exact")
_LOOK_AHEAD_BINS = (0, 1, 2, 4, 8)
COUPLED = "coupled"
"""In place of a recording: a simulated population with known couplings."""


def run(
    task: Annotated[str, typer.Argument(help=f"One of {', '.join(TASKS)}.")],
    *,
    data: Annotated[
        list[Path],
        typer.Option(help=f"Recording (NWB), or `{COUPLED}` for a simulation; may be given again."),
    ],
    behaviour: Annotated[str, typer.Option(help="What is decoded, for `behaviour`.")] = "hand_vel",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each network.")] = 1,
    updates: Annotated[int | None, typer.Option(help="Most optimiser steps.")] = None,
    json_path: JsonFile = None,
) -> dict[str, Any]:
    """Train every model on the first 80 % of a recording and measure it on the rest.

    co-smoothing: 5 pinned draws of a quarter of the units are predicted and never fed. behaviour:
    decoding. rates: against the true rates of a simulation. spatial: what mixing over neurons buys.
    look-ahead: what it buys to wait for later bins.
    """
    if task not in TASKS:
        raise ConfigError(f"there is no task '{task}'; there are {', '.join(TASKS)}.")
    torch.set_num_threads(1)
    console = Console()
    rows: list[Row] = []
    conditions = {"seeds": seeds, "updates": updates, "threads": 1}
    with console.status("") as status, tempfile.TemporaryDirectory() as made:
        for given in data:
            file = given if str(given) != COUPLED else _coupled(Path(made))
            for row in _measure(task, file, behaviour, seeds, updates):
                rows.append({"recording": file.stem, **row})
                figures = " ".join(f"{k} {row[k]:.4f}" for k in _FIGURES if k in row)
                console.print(f"{file.stem} {row['model']} {_which(row)}: {figures}")
                status.update(f"{file.stem}, after {row['model']} {_which(row)}")
                write_result(f"accuracy {task}", conditions, rows, json_path)
    _show(rows, console)
    return write_result(f"accuracy {task}", conditions, rows, json_path)


def _which(row: Row) -> str:
    return " ".join(f"{key} {row[key]}" for key in ("draw", "seed") if key in row)


def _measure(
    task: str, file: Path, behaviour: str, seeds: int, updates: int | None
) -> Iterator[Row]:
    if task == "co-smoothing":
        name = load_recording(file).name
        for draw in range(N_DRAWS):
            held_out = held_out_units(f"{DRAWS}:{draw}", name)
            yield {"draw": draw, **_glm(file, held_out)}
            for row in _networks(file, seeds, updates, held_out=held_out):
                yield {"draw": draw, **row}
    elif task == "behaviour":
        yield from _decoders(file, behaviour, seeds)
        yield from _networks(file, seeds, updates, behaviour=behaviour)
    elif task == "rates":
        yield _smoothing(file)
        yield from _networks(file, seeds, updates)
    else:
        recording = load_recording(file)
        wants_draw = recording.true_rates is None
        held_out = held_out_units(f"{DRAWS}:0", recording.name) if wants_draw else ()
        setting, values = (
            ("spatial", _MIXINGS) if task == "spatial" else ("look_ahead", _LOOK_AHEAD_BINS)
        )
        for value in values:
            for row in _networks(
                file, seeds, updates, held_out=held_out, systems=("stndt",),
                network={setting: value},
            ):  # fmt: skip
                yield {**row, "model": f"stndt, {setting} {value}"}


def _coupled(folder: Path) -> Path:
    file = folder / f"{COUPLED}.nwb"
    write_recording(coupled_population(seed=0).recording, file)
    return file


def _networks(
    file: Path,
    seeds: int,
    updates: int | None,
    *,
    held_out: tuple[str, ...] = (),
    behaviour: str = "",
    systems: tuple[str, ...] = ("gru", "stndt"),
    network: dict[str, Any] | None = None,
) -> Iterator[Row]:
    recording = load_recording(file)
    for system in systems:
        for seed in range(seeds):
            settings = replace(SETTINGS[system], seed=seed)
            recipe = Recipe(
                system=system,
                width_s=recording.width_s or 0.02,
                behaviour=behaviour,
                held_out=held_out,
                network=network or {},
                training=settings if updates is None else replace(settings, updates=updates),
            )
            with tempfile.TemporaryDirectory() as folder:
                began = time.process_time()
                train_system(file, recipe, Path(folder) / "run")
                cpu_s = time.process_time() - began
                (row,) = evaluate(load_model(Path(folder) / "run"), recording).rows
            yield {**row, "model": system, "seed": seed, "train_cpu_s": round(cpu_s, 1)}


def _glm(file: Path, held_out: tuple[str, ...]) -> Row:
    recording = load_recording(file)
    parts = prepare(recording, recording.width_s or 0.02)
    fitting, test = for_fitting(parts), parts.select("test")
    out = [i for i, unit in enumerate(parts.units) if unit in set(held_out)]
    fed = [i for i, unit in enumerate(parts.units) if unit not in set(held_out)]
    early = fitting.data
    glm = fit_glm(
        early.counts[:, fed], early.counts[:, out], early.segment, fitting.validation_start
    )
    rates = glm.predict(test.counts[:, fed], test.segment)
    return {"model": "Poisson GLM", "co_bps": metrics.bits_per_spike(rates, test.counts[:, out])}


def _smoothing(file: Path) -> Row:
    recording = load_recording(file)
    parts = prepare(recording, recording.width_s or 0.02)
    fitting, test = for_fitting(parts), parts.select("test")
    assert test.true_rates is not None
    model = fit_smoothing(fitting.data.counts, fitting.data.segment, fitting.validation_start)
    rates = model.predict(test.counts, test.segment)
    return {
        "model": "smoothing",
        "oracle_fraction": metrics.oracle_fraction(rates, test.true_rates),
        "log_rate_r2": metrics.log_rate_r2(rates, test.true_rates),
    }


def _decoders(file: Path, behaviour: str, seeds: int) -> Iterator[Row]:
    recording = load_recording(file)
    parts = prepare(recording, recording.width_s or 0.02, behaviour)
    fitting, test = for_fitting(parts), parts.select("test")
    x, y, segment = fitting.data.counts, fitting.data.behaviour, fitting.data.segment
    split = fitting.validation_start

    def row(name: str, model: Any, **more: int) -> Row:
        r2 = metrics.decoding_r2(model.predict(test.counts, test.segment), test.behaviour)
        return {"model": name, **more, "behaviour_r2": float(np.mean(r2))}

    yield row("Kalman", fit_kalman(x, y, segment))
    yield row("Wiener, 10 lags", fit_wiener(x, y, segment, split))
    for seed in range(seeds):
        yield row("MLP, 10 lags", fit_mlp(x, y, segment, split, seed=seed), seed=seed)


def _show(rows: list[Row], console: Console) -> None:
    """Print means over draws and seeds, with the range in brackets."""
    figures = [f for f in _FIGURES if any(f in row for row in rows)]
    table = Table("recording", "model", "runs", *figures, box=None)
    for name, model in dict.fromkeys((row["recording"], row["model"]) for row in rows):
        mine = [row for row in rows if (row["recording"], row["model"]) == (name, model)]
        cells = []
        for figure in figures:
            values = [row[figure] for row in mine if figure in row]
            cells.append(
                f"{np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})" if values else ""
            )
        table.add_row(name, model, str(len(mine)), *cells)
    console.print(table)
