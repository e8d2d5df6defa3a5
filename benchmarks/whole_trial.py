"""Whole-trial STNDT: how much of what can be known of simulated rates it finds, and learns."""

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
from torch import Tensor, nn

from benchmarks._courses import choose, find_courses, hidden_loss
from models.spikes import metrics
from models.spikes.dataset import Part, SpikeData, prepare
from models.spikes.recipe import Recipe, untrained
from models.spikes.simulated import repeated_trials
from models.spikes.training import TrainingSettings, fit, infer
from models.stndt.published import MaskedObjective, Masking, PublishedConfig, PublishedSTNDT
from stream.errors import ConfigError
from stream.spikes.nwb import load_recording
from stream.spikes.recording import Floats

REPEATED = "repeated"
"""Stands for a simulation in place of a file, `repeated_trials`."""

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
CAUSAL = replace(
    TAUGHT, learning_rate=3e-3, weight_decay=0.01, clip=1.0, hide_entries=0.1, hide_units=0.1
)
CAUSAL_NETWORKS: dict[str, dict[str, Any]] = {
    "gru": {"dropout": 0.0},
    # A window of a whole trial tells courses apart as well as mixing neurons does, for less.
    "stndt": {
        "dropout": 0.0, "spatial": "none", "window": 100, "head_width": 32,
        "taus": (1.0, 3.0, 10.0, 30.0),
    },
}  # fmt: skip


def run(
    data: Annotated[
        Path,
        typer.Option(help=f"Recording with true rates, in trials of one length, or `{REPEATED}`."),
    ],
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
    share: Annotated[
        float, typer.Option(min=0.001, max=1.0, help="Of the updates, to try it out in less time.")
    ] = 1.0,
) -> dict[str, Any]:
    """Train on the file's own train trials, and compare rates with the true ones in the others.

    First the network as published, by its masked loss. Trials whose rates it finds alike are taken
    for repetitions of each other, and the course of each group, fitted to the counts of all its
    trials, teaches a fresh network and the causal ones, which see counts drawn anew from it. Where
    groups forecast hidden counts worse than the network does, its own rates are the teacher.
    """
    torch.set_num_threads(1)
    recording = repeated_trials(seed=11) if str(data) == REPEATED else load_recording(data)
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
        trained("published", network, SETTINGS, objective=OBJECTIVE)
        status.update("looking for trials that repeat one another")
        taught, found = _teacher(parts, network, bins)
        assert train.true_rates is not None
        found["oracle_fraction_in_train"] = metrics.oracle_fraction(taught, train.true_rates)
        result["courses"] = found
        console.print(" ".join(f"{name} {value:.6g}" for name, value in found.items()))
        again = _published(train, bins, TAUGHT_NETWORK)
        trained("published, taught by the courses", again, TAUGHT, taught=taught)
        for system, changes in CAUSAL_NETWORKS.items():
            recipe = Recipe(system, recording.width_s, network=changes)
            causal = untrained(recipe, train, inputs)
            trained(f"{system}, causal, taught by the courses", causal, CAUSAL, taught=taught)
    table = Table("network", "expected bps", "of oracle", "log-rate R2", "rate R2", box=None)
    for row in rows:
        name, *figures = row.values()
        table.add_row(str(name), *(f"{figure:.4f}" for figure in figures))
    console.print(table)
    return result


def _teacher(parts: SpikeData, network: PublishedSTNDT, bins: int) -> tuple[Floats, dict[str, Any]]:
    """Return what expected counts of the train and validation part to teach, and what was found."""

    def trials(*which: Part) -> tuple[Tensor, Tensor]:
        part = parts.select(*which)
        counts = torch.from_numpy(part.counts).unflatten(0, (-1, bins))
        rates = infer(network, part, np.arange(len(part.units)))[0]
        return counts, torch.from_numpy(np.log(rates)).float().unflatten(0, (-1, bins))

    held_back, _ = trials("validation")
    settings, loss = choose(*trials("train"), held_back)
    without = hidden_loss(lambda counts, seen: network.run_trials(counts)[0].exp(), held_back)
    counts, log_counts = trials("train", "validation")
    courses = find_courses(counts, log_counts, settings)
    found = {
        **asdict(settings), "found": len(courses.log_counts),
        "hidden_loss": loss, "hidden_loss_of_network": without,
    }  # fmt: skip
    if loss >= without:
        return log_counts.double().exp().flatten(0, 1).numpy(), found
    return courses.of_trials(), found


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
