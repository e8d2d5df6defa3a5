"""`innervate evaluate` for systems on spikes: measure a trained model, rivals beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from models.commands.options import seconds
from models.spikes.evaluation import Evaluation
from models.spikes.evaluation import evaluate as measure
from models.spikes.rate_models import load_model
from stream.commands.output import check_file, make_folder, write_json
from stream.errors import ConfigError, RecordingError
from stream.spikes.nwb import load_recording
from stream.units import format_seconds

_HEADS = {
    "co_bps": "co-bps",
    "one_step_bps": "1-step bps",
    "behaviour_r2": "R2",
    "readout_r2": "readout R2",
    "psth_r2": "PSTH R2",
    "oracle_fraction": "of oracle",
    "log_rate_r2": "log-rate R2",
    "rate_r2": "rate R2",
}
_MEANING = {
    "co_bps": "co-bps: bits per spike of units that were held out, over their mean rate",
    "one_step_bps": "1-step bps: bits per spike of the next bin, forecast by the rates of this one",
    "behaviour_r2": "R2: of decoded behaviour, mean over its columns",
    "readout_r2": "readout R2: of behaviour read out of the rates by ridge regression",
    "psth_r2": "PSTH R2: of the rates' condition means against those of smoothed spikes",
    "oracle_fraction": "of oracle: expected bits per spike, as a fraction of the true rates' own",
    "log_rate_r2": "log-rate R2: of log rates against the true ones, all units pooled",
    "rate_r2": "rate R2: of rates against the true ones, all units pooled",
}


def evaluate(
    system: Annotated[str, typer.Argument(help="What was trained.")],
    *,
    data: Annotated[Path, typer.Option(help="Recording (NWB).")],
    model: Annotated[Path, typer.Option(help="Model file (.onnx), or folder of a training.")],
    start: Annotated[
        str | None,
        typer.Option(help="Begin here on the recording's clock, such as 890s, from a cold state."),
    ] = None,
    length: Annotated[
        str | None, typer.Option("--for", help="Length of the stretch, such as 60s.")
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Fit and measure the rivals too; takes minutes.")
    ] = False,
    condition: Annotated[
        str | None, typer.Option(help="Trial column to average PSTHs over.")
    ] = None,
    align: Annotated[
        str | None, typer.Option(help="Trial column with the time that PSTHs begin at.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the table to this file.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Draw plots into this folder.")] = None,
) -> None:
    """Measure a trained model on the last fifth of a recording, or on a stretch of it.

    An .onnx file is stepped bin by bin, as it runs live.
    """
    if align is not None and condition is None:
        raise ConfigError("--align says when PSTHs begin; give --condition with it.")
    check_file("--json", json_file)
    make_folder("--plots", plots)
    recording = load_recording(data)
    trained = load_model(model)
    console = Console()
    try:
        with console.status("reading") as status:
            result = measure(
                trained,
                recording,
                start_s=None if start is None else seconds("--start", start),
                length_s=None if length is None else seconds("--for", length),
                baselines=baselines,
                condition=condition,
                align=align,
                on_step=status.update,
            )
    except ValueError as error:  # a metric has no meaning, such as without a spike
        raise RecordingError(f"{recording.name} cannot be measured like this: {error}.") from error
    show(result, console)
    if json_file is not None:
        table = {"name": "evaluate", "conditions": result.conditions, "rows": result.rows}
        write_json("--json", json_file, table)
    if plots is not None:
        from models.spikes.plots import most_influential, write_plots

        attention = trained.attention(result.data)
        try:
            drawn = write_plots(result, plots, attention, trained.outputs)
        except OSError as error:
            raise ConfigError(f"--plots: {plots} cannot be written: {error.strerror}.") from error
        for path in drawn:
            console.print(f"drew {path}")
        if attention is not None:
            console.print(
                f"most influential: {', '.join(most_influential(attention, trained.outputs))}"
            )
        elif model.is_file():
            console.print(
                "no picture of spatial attention: an .onnx holds its matrix multiplied into other"
                " weights; give the folder of the training as --model for it.",
                style="dim",
            )


def show(result: Evaluation, console: Console) -> None:
    """Print what was measured: conditions, one row a model, and what the figures mean."""
    conditions = result.conditions
    console.print(
        f"[bold]{conditions['recording']}[/], {conditions['part']}: {conditions['bins']} bins of"
        f" {format_seconds(result.data.width_s)}, {conditions['units_fed']} units fed,"
        f" {conditions['units_held_out']} held out, behaviour: {conditions['behaviour']}"
    )
    each = [f"r2_{name}" for name in result.data.columns]
    there = {figure for row in result.rows for figure in row}
    figures = [f for f in (*_HEADS, *each) if f in there]
    table = Table("model", box=None, pad_edge=False)
    for figure in figures:
        table.add_column(_HEADS.get(figure, f"R2 {figure[3:]}"), justify="right")
    for row in result.rows:
        cells = (f"{row[f]:.4f}" if f in row else "" for f in figures)
        table.add_row(str(row["model"]), *cells)
    console.print(table)
    for figure in figures:
        if figure in _MEANING:
            console.print(_MEANING[figure], style="dim", highlight=False)
    still = [name for name in result.data.columns if f"r2_{name}" not in there]
    if still:
        console.print(
            f"no R2 of {', '.join(still)}: {conditions['behaviour']} does not change there, or is"
            " not known.",
            highlight=False,
        )
