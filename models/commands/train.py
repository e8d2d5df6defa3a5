"""`innervate train SYSTEM`: from recordings to a trained network."""

from __future__ import annotations

import typer

from models.commands.systems import CONTEXT_SETTINGS, run_for_system

SYSTEMS = {
    "stndt": "models.commands.train_rates:train",
    "gru": "models.commands.train_rates:train",
    "smoothing": "models.commands.train_baseline:train",
    "glm": "models.commands.train_baseline:train",
    "wiener": "models.commands.train_baseline:train",
    "kalman": "models.commands.train_baseline:train",
    "mlp": "models.commands.train_baseline:train",
    "sesar": "models.commands.train_actions:train",
    "audeo": "models.commands.train_piano:train",
}


def train(context: typer.Context) -> None:
    """Train a model: `innervate train SYSTEM [OPTIONS]`."""
    run_for_system(context, "train", SYSTEMS)


train.context_settings = CONTEXT_SETTINGS  # type: ignore[attr-defined]
