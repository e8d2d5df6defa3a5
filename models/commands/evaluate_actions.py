"""`innervate evaluate sesar`: measure a recogniser on what it was not trained on."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from models.sesar.dataset import ACTIONS, cross_view, load_ucla, load_utd, odd_subjects
from models.sesar.evaluation import (
    SEEN,
    accuracy,
    confusion,
    judge,
    judge_streams,
    plain_streams,
)
from models.sesar.live import debounced, load_recogniser, load_threshold, rate_agreement
from stream.errors import ConfigError

_STREAMS = 60
_RATES = (
    (2, 0.0, "15 Hz"), (3, 0.0, "10 Hz"), (4, 0.0, "7.5 Hz"), (1, 0.2, "a fifth lost"),
    (1, 0.5, "half lost"),
)  # fmt: skip
"""Of recordings at 30 Hz: every so many frames, a share of them lost, and what that is called."""


def evaluate(
    system: Annotated[str, typer.Argument(help="sesar.")],
    *,
    data: Annotated[Path, typer.Option(help="Folder with the JSON files of NW-UCLA.")],
    background: Annotated[Path, typer.Option(help="Folder with the skeletons of UTD-MHAD.")],
    model: Annotated[Path, typer.Option(help="Model file (.onnx), or folder of a training.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the table to this file.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Draw plots into this folder.")] = None,
) -> None:
    """Measure a recogniser on view 3 of NW-UCLA and on streams with even subjects of UTD-MHAD.

    An .onnx file is stepped tick by tick, as it runs live. `stream` takes the likeliest action of
    each tick, `live` what the node `actions` makes of it with its defaults.
    """
    # Steps are too small to gain from more.
    torch.set_num_threads(1)
    _, test = cross_view(load_ucla(data))
    _, others = odd_subjects(load_utd(background))
    network = load_recogniser(model)
    if plots is not None and not model.is_dir():
        raise ConfigError("--plots needs the folder of a training: a model file gives no latents.")
    console = Console()
    with console.status("sequences"):
        found = judge(network, test)
    with console.status("streams"), torch.no_grad():
        chained = plain_streams(test, others, _STREAMS)
        probabilities = network(chained.joints)
        label_of = partial(debounced, threshold=load_threshold(model))
        streams = judge_streams(probabilities, chained)
        live = judge_streams(probabilities, chained, label_of)
    with console.status("frame rates"):
        agreement = {
            name: rate_agreement(network, others, every, lost) for every, lost, name in _RATES
        }
    shares = accuracy(found, test.label)
    row: dict[str, Any] = {"model": model.name}
    row |= {f"accuracy_{100 * s:.0f}": a for s, a in zip(SEEN, shares, strict=True)}
    row |= {f"stream_{name}": value for name, value in asdict(streams).items()}
    row |= {f"live_{name}": value for name, value in asdict(live).items()}
    row |= {f"agreement_{name}": value for name, value in agreement.items()}
    matrix = confusion(found[-1], test.label)
    _show(console, row, matrix)
    if json_file is not None:
        conditions = {
            "data": "NW-UCLA, view 3", "sequences": len(test), "confusion": matrix.tolist(),
            "actions": list(ACTIONS), "streams": f"{_STREAMS} of 20 s, chained from these clips"
            " and those of even subjects of UTD-MHAD",
        }  # fmt: skip
        table = {"name": "evaluate", "conditions": conditions, "rows": [row]}
        json_file.write_text(json.dumps(table, indent=2) + "\n")
    if plots is not None:
        from models.sesar.plots import write_plots

        for path in write_plots(model, test, matrix, plots):
            console.print(f"drew {path}")


def _show(console: Console, row: dict[str, Any], matrix: np.ndarray[Any, Any]) -> None:
    table = Table("", box=None, pad_edge=False)
    table.add_column("", justify="right")
    for name, value in row.items():
        if isinstance(value, float):
            table.add_row(name.replace("_", " "), f"{value:.3f}")
    console.print(table)
    table = Table("shown, and taken for", box=None, pad_edge=False)
    for number in range(len(ACTIONS)):
        table.add_column(str(number + 1), justify="right")
    for number, (name, counts) in enumerate(zip(ACTIONS, matrix, strict=True)):
        table.add_row(f"{number + 1} {name}", *(str(n) if n else "." for n in counts))
    console.print(table)
