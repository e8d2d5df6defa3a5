"""Whole-trial STNDT, as published: how much of what can be known of simulated rates it finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from models.spikes import metrics
from models.spikes.dataset import SpikeData, prepare
from models.spikes.training import Progress, TrainingSettings, fit, infer
from models.stndt.published import MaskedObjective, Masking, PublishedConfig, PublishedSTNDT
from stream.errors import ConfigError
from stream.spikes.nwb import load_recording

# Chosen on validation trials: attention over a few bins learns to smooth far sooner than over all.
NETWORK: dict[str, Any] = {
    "context_back": 10, "context_ahead": 10,
    "dropout": 0.2, "dropout_embed": 0.1, "dropout_rates": 0.1,
}  # fmt: skip
OBJECTIVE = MaskedObjective(Masking(ratio=0.25, token=0.8, random=0.8))
SETTINGS = TrainingSettings(
    batch=16, align=True, skip=0, learning_rate=5e-3, warm_up=400, weight_decay=5e-5, clip=200.0,
    check_every=250, patience=8,
)  # fmt: skip


def run(
    data: Annotated[Path, typer.Option(help="Recording with true rates, in trials of one length.")],
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
    updates: Annotated[int, typer.Option(help="Upper limit of optimiser steps.")] = 6_000,
    seeds: Annotated[int, typer.Option(help="Networks, whose mean is measured as well.")] = 3,
) -> dict[str, Any]:
    """Train on the file's own train trials, and compare rates with the true ones in the others.

    A seventh of the train trials says after how many updates to stop; networks of several seeds are
    then trained for as many on all train trials.
    """
    recording = load_recording(data)
    if recording.true_rates is None or recording.width_s is None:
        raise ConfigError(f"{data} has no true rates in bins, so nothing can be compared.")
    parts = prepare(recording, recording.width_s)
    test = parts.select("test")
    assert test.true_rates is not None
    bins = int(np.argmax(np.diff(test.segment, append=-1) != 0)) + 1
    settings = replace(SETTINGS, bins=bins, updates=updates)
    console = Console()
    with console.status("") as status:

        def tell(what: str) -> Callable[[Progress], None]:
            return lambda p: status.update(f"{what}: update {p.update}, {p.validation_loss:.5f}")

        train, held = parts.select("train"), parts.select("validation")
        _, found = _train(train, held, settings, tell("when to stop"))
        used = replace(settings, updates=found)
        both = parts.select("train", "validation")
        rates = []
        for seed in range(seeds):
            told = tell(f"seed {seed}, on all")
            network, _ = _train(both, None, replace(used, seed=seed), told)
            rates.append(infer(network, test, np.arange(len(test.units)))[0])
    rows = [_row(f"seed {seed}", r, test.true_rates) for seed, r in enumerate(rates)]
    rows.append(_row(f"mean of {seeds}", np.mean(rates, axis=0), test.true_rates))
    oracle = metrics.bits_per_spike(test.true_rates, test.true_rates)
    result = {
        "name": "whole-trial",
        "conditions": {
            "recording": recording.name, "sha256": recording.sha256, "bins": bins,
            "oracle_expected_bps": oracle, "updates": found, **NETWORK,
            "masking": asdict(OBJECTIVE.masking), "training": asdict(used),
        },
        "rows": rows,
    }  # fmt: skip
    table = Table("network", "expected bps", "of oracle", "log-rate R2", "rate R2", box=None)
    for row in rows:
        name, *figures = row.values()
        table.add_row(str(name), *(f"{figure:.4f}" for figure in figures))
    console.print(table)
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _train(
    train: SpikeData,
    held: SpikeData | None,
    settings: TrainingSettings,
    on_progress: Callable[[Progress], None],
) -> tuple[PublishedSTNDT, int]:
    inputs = np.arange(len(train.units))
    torch.manual_seed(settings.seed)
    config = PublishedConfig(
        units=len(inputs), bins=settings.bins, inputs=tuple(inputs.tolist()), **NETWORK
    )
    network = PublishedSTNDT(config)
    network.calibrate(
        torch.from_numpy(train.counts), torch.from_numpy(inputs), torch.zeros(len(train.counts), 0)
    )
    result = fit(
        network, train, held, inputs, settings, objective=OBJECTIVE, on_progress=on_progress
    )
    return network, result.best_update


def _row(
    name: str, rates: NDArray[np.float64], true: NDArray[np.float64]
) -> dict[str, str | float]:
    return {
        "network": name,
        "expected_bps": metrics.bits_per_spike(rates, true),
        "oracle_fraction": metrics.oracle_fraction(rates, true),
        "log_rate_r2": metrics.log_rate_r2(rates, true),
        "rate_r2": metrics.pooled_r2(rates, true),
    }
