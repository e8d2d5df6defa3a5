"""What early spectra say of the final quality of networks, and what a sweep saves by it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.lyapunov.aelle import Aelle
from models.lyapunov.prediction import (
    Chosen,
    PcaRidge,
    cross_validated,
    gaussian_process,
    ridge,
    summarise,
)
from models.lyapunov.sweep import Sweep, finish_promising, grid
from models.spikes.dataset import prepare
from models.spikes.recipe import SETTINGS, Recipe, input_columns
from models.spikes.simulated import WIDTH_S, coupled_population
from models.spikes.training import TrainingSettings

Row = dict[str, Any]
_REPLAYS = 20
_EARLY_EPOCH = 4


def prediction(file: Path | None, short: bool) -> Iterator[Row]:
    if file is None:
        yield {"what": "not measured: name spectra of networks with --spectra"}
        return
    data = np.load(file, allow_pickle=False)
    whole = data["le_e4"].astype(np.float64) * np.log(2)
    losses = data["val_loss"]
    best, early = losses.min(1), losses[:, _EARLY_EPOCH - 1 : _EARLY_EPOCH]
    settings = np.stack([np.log(data["lr"]), data["drop"]], axis=1)
    few, n = summarise(whole), whole.shape[1]
    join = np.hstack
    every = join([early, settings, few])
    partitions = 2 if short else 10
    candidates = [
        (columns, make)
        for columns in ((0,), (0, 1, 2), (0, 3, 4, 5, 6), tuple(range(7)))
        for make in (ridge, gaussian_process)
    ]
    rows: list[tuple[str, Any, Any, int]] = [
        ("settings, line", ridge, settings, partitions),
        ("early loss, line", ridge, early, partitions),
        ("spectrum, PCA 10 + ridge", lambda: PcaRidge(n), whole, partitions),
        ("early loss + spectrum, PCA 10 + ridge", lambda: PcaRidge(n), join([whole, early]),
         partitions),
        ("spectrum, AeLLE", lambda: Aelle(n), whole, 1 if short else 3),
        ("early loss + spectrum, AeLLE", lambda: Aelle(n), join([whole, early]),
         1 if short else 3),
        ("settings, Gaussian process", gaussian_process, settings, partitions),
        ("early loss, Gaussian process", gaussian_process, early, partitions),
        ("4 figures of the spectrum, Gaussian process", gaussian_process, few, partitions),
        ("early loss + settings, Gaussian process", gaussian_process, every[:, :3], partitions),
        ("early loss + 4 figures, Gaussian process", gaussian_process, join([early, few]),
         partitions),
        ("early loss + settings + 4 figures, Gaussian process", gaussian_process, every,
         partitions),
        ("chosen inside each fold, of 4 sets and line or process", lambda: Chosen(candidates),
         every, 1 if short else 3),
    ]  # fmt: skip
    for what, make, features, times in rows:
        found = cross_validated(make, features, best, partitions=times)
        row: Row = {"what": what, "r2": found.r2, "spread": found.spread,
                    "best_found": found.best_found, "best": found.best,
                    "partitions": times, "networks": len(best)}  # fmt: skip
        if what.startswith(("chosen", "early loss + spectrum, AeLLE")):
            row |= {"goal": 0.833, "met": found.r2 > 0.833}
        yield row


def sweep(short: bool) -> Iterator[Row]:
    """Train all of a grid, then replay what a sweep would have done, in grids of part of it."""
    settings = grid((16, 32), (0.0005, 0.0015, 0.005), (0.0, 0.4))
    if short:
        settings = settings[::2]
    parts = prepare(coupled_population(0, units=30, bins=6000).recording, WIDTH_S)
    recipe = Recipe("gru", WIDTH_S, training=_training(60 if short else 300))
    with tempfile.TemporaryDirectory() as folder:
        swept = Sweep(
            recipe, parts.select("train"), parts.select("validation"), input_columns(parts, ()),
            Path(folder),
        )  # fmt: skip
        trials = [swept.begin(setting) for setting in settings]
        for trial in trials:
            swept.finish(trial)
    features = np.stack([t.features for t in trials])
    early = np.array([t.early_loss for t in trials])
    losses = np.array([t.loss for t in trials])
    first, rest = (np.array([getattr(t, name) for t in trials]) for name in ("early_s", "rest_s"))
    random = np.random.default_rng(0)
    shares, kept, lost = [], [], []
    for replay in range(_REPLAYS):
        n = len(trials)
        chosen = np.arange(n) if not replay else random.permutation(n)[: max(n * 3 // 4, 5)]
        done = list(
            finish_promising(features[chosen], early[chosen], lambda i, c=chosen: losses[c[i]])
        )
        spent = first[chosen].sum() + rest[chosen[done]].sum()
        shares.append(1 - spent / (first[chosen].sum() + rest[chosen].sum()))
        lost.append(losses[chosen[done]].min() - losses[chosen].min())
        kept.append(lost[-1] == 0)
    yield {
        "what": f"sweep of {len(trials)} settings of the GRU", "saved": shares[0],
        "all_took_s": float(first.sum() + rest.sum()), "best_kept": bool(kept[0]),
        "updates": recipe.training.updates, "judged_after": swept.early,
        "loss_spread": float(losses.std()),
    }  # fmt: skip
    yield {
        "what": f"the same, {_REPLAYS - 1} sweeps of three quarters of them",
        "saved": float(np.mean(shares[1:])), "best_kept": float(np.mean(kept[1:])),
        "loss_lost": float(np.mean(lost[1:])),
    }  # fmt: skip


def _training(updates: int) -> TrainingSettings:
    return replace(SETTINGS["gru"], updates=updates, check_every=10, warm_up=updates // 10)
