"""`innervate evaluate SYSTEM`: measure a trained model on data that it was not trained on."""

from __future__ import annotations

import typer

from models.commands.systems import CONTEXT_SETTINGS, run_for_system

SYSTEMS = {
    "stndt": "models.commands.evaluate_rates:evaluate",
    "gru": "models.commands.evaluate_rates:evaluate",
    "smoothing": "models.commands.evaluate_rates:evaluate",
    "glm": "models.commands.evaluate_rates:evaluate",
    "wiener": "models.commands.evaluate_rates:evaluate",
    "kalman": "models.commands.evaluate_rates:evaluate",
    "mlp": "models.commands.evaluate_rates:evaluate",
    "sesar": "models.commands.evaluate_actions:evaluate",
    "audeo": "models.commands.evaluate_piano:evaluate",
    "notes": "models.commands.evaluate_notes:evaluate_notes",
    "sound": "models.commands.evaluate_notes:evaluate_sound",
}


def evaluate(context: typer.Context) -> None:
    """Measure a trained model: `innervate evaluate SYSTEM [OPTIONS]`."""
    run_for_system(context, "evaluate", SYSTEMS)


evaluate.context_settings = CONTEXT_SETTINGS  # type: ignore[attr-defined]
