"""Whole-trial STNDT: how much of what can be known of simulated rates it finds, and can teach."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from models.spikes import metrics
from models.spikes.dataset import SpikeData, prepare
from models.spikes.recipe import Recipe, untrained
from models.spikes.training import TrainingSettings, fit, infer
from models.stndt.published import MaskedObjective, Masking, PublishedConfig, PublishedSTNDT
from stream.errors import ConfigError
from stream.spikes.nwb import load_recording
from stream.spikes.recording import Floats

# All of it chosen on validation trials. Attention over a few bins learns to smooth far sooner than
# over all of them; more dropout than this leaves the network short of what it can do.
NETWORK: dict[str, Any] = {
    "context_back": 10, "context_ahead": 10,
    "dropout": 0.1, "dropout_embed": 0.0, "dropout_rates": 0.1,
}  # fmt: skip
TAUGHT_NETWORK: dict[str, Any] = {
    **NETWORK, "dropout": 0.0, "dropout_embed": 0.0, "dropout_rates": 0.0,
}  # fmt: skip
OBJECTIVE = MaskedObjective(Masking(ratio=0.25, token=0.8, random=0.8))
SETTINGS = TrainingSettings(
    updates=3000, align=True, skip=0, learning_rate=5e-3, warm_up=150, weight_decay=5e-5,
    clip=200.0, hide_entries=0.0, hide_units=0.0, check_every=250,
)  # fmt: skip
TAUGHT = replace(SETTINGS, updates=1500, warm_up=100)
ROUNDS = 2
CAUSAL = replace(
    TAUGHT, learning_rate=3e-3, weight_decay=0.01, clip=1.0, hide_entries=0.1, hide_units=0.1
)
CAUSAL_NETWORKS: dict[str, dict[str, Any]] = {
    "gru": {"dropout": 0.0},
    "stndt": {
        "dropout": 0.0, "window": 50, "course": 50, "head_width": 32,
        "taus": (1.0, 3.0, 10.0, 30.0),
    },
}  # fmt: skip


def run(
    data: Annotated[Path, typer.Option(help="Recording with true rates, in trials of one length.")],
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
    share: Annotated[
        float, typer.Option(min=0.001, max=1.0, help="Of the updates, to try it out in less time.")
    ] = 1.0,
) -> dict[str, Any]:
    """Train on the file's own train trials, and compare rates with the true ones in the others.

    First the network as published, by its masked loss. It then teaches a fresh one, which sees
    counts drawn anew from the teacher's rates beside the masked loss of the real counts, and that
    one the next. The last one's rates teach the causal networks.
    """
    torch.set_num_threads(1)
    recording = load_recording(data)
    if recording.true_rates is None or recording.width_s is None:
        raise ConfigError(f"{data} has no true rates in bins, so nothing can be compared.")
    parts = prepare(recording, recording.width_s)
    train, test = parts.select("train", "validation"), parts.select("test")
    true = test.true_rates
    assert true is not None
    bins = int(np.argmax(np.diff(test.segment, append=-1) != 0)) + 1
    inputs = np.arange(len(test.units))
    console = Console()
    rows: list[dict[str, str | float]] = []
    oracle = metrics.bits_per_spike(true, true)
    result = {
        "name": "whole-trial",
        "conditions": {
            "recording": recording.name, "sha256": recording.sha256, "bins": bins, "share": share,
            "oracle_expected_bps": oracle, "network": NETWORK, "causal": CAUSAL_NETWORKS,
            "masking": asdict(OBJECTIVE.masking), "training": asdict(SETTINGS),
        },
        "rows": rows,
    }  # fmt: skip

    with console.status("") as status:

        def trained(
            name: str, network: nn.Module, settings: TrainingSettings, **how: Any
        ) -> Floats:
            """Train and measure a network, and return its rates of the train part."""
            settings = replace(settings, bins=bins, updates=round(share * settings.updates))
            fit(
                network, train, None, inputs, settings, **how,
                on_progress=lambda p: status.update(f"{name}: update {p.update} of {p.updates}"),
            )  # fmt: skip
            rows.append(_row(name, infer(network, test, inputs)[0], true))
            console.print(f"{name}: {rows[-1]['oracle_fraction']:.4f} of what the true rates score")
            if json_path is not None:
                json_path.write_text(json.dumps(result, indent=1) + "\n")
            return infer(network, train, inputs)[0]

        network = _published(train, bins, NETWORK)
        rates = trained("published", network, SETTINGS, objective=OBJECTIVE)
        for number in range(1, ROUNDS + 1):
            network = _published(train, bins, TAUGHT_NETWORK)
            name = f"published, round {number} of teaching"
            rates = trained(name, network, TAUGHT, taught=rates, objective=OBJECTIVE)
        for system, changes in CAUSAL_NETWORKS.items():
            recipe = Recipe(system, recording.width_s, network=changes)
            causal = untrained(recipe, train, inputs)
            trained(f"{system}, causal, taught by the last", causal, CAUSAL, taught=rates)
    table = Table("network", "expected bps", "of oracle", "log-rate R2", "rate R2", box=None)
    for row in rows:
        name, *figures = row.values()
        table.add_row(str(name), *(f"{figure:.4f}" for figure in figures))
    console.print(table)
    return result


def _published(train: SpikeData, bins: int, changes: dict[str, Any]) -> PublishedSTNDT:
    torch.manual_seed(0)
    units = len(train.units)
    network = PublishedSTNDT(
        PublishedConfig(units=units, bins=bins, inputs=tuple(range(units)), **changes)
    )
    counts = torch.from_numpy(train.counts)
    network.calibrate(counts, torch.arange(units), torch.zeros(len(counts), 0))
    return network


def _row(name: str, rates: Floats, true: Floats) -> dict[str, str | float]:
    return {
        "network": name,
        "expected_bps": metrics.bits_per_spike(rates, true),
        "oracle_fraction": metrics.oracle_fraction(rates, true),
        "log_rate_r2": metrics.log_rate_r2(rates, true),
        "rate_r2": metrics.pooled_r2(rates, true),
    }
