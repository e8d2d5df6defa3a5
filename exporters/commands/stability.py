"""`innervate stability`: measure how a model file forgets, and write it into the file if asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from exporters.real_inputs import real_inputs
from exporters.stability import effort_for
from stream.commands.output import check_file, write_json
from stream.model_file import read_model
from stream.stability.card import stability_lines
from stream.stability.measuring import measure


def stability(
    model: Annotated[Path, typer.Argument(help="Model file (.onnx).")],
    *,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Real input: a recording (NWB) with the model's units; for skeletons the folders"
            " of NW-UCLA and UTD-MHAD, one after the other; for pianos nothing."
        ),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Put the figures into the file; all else stays.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file.")
    ] = None,
) -> None:
    """Measure the largest Lyapunov exponent and the memory of a model file's state.

    Ends with 1 if the model is unstable.
    """
    check_file("--json", json_file)
    content, contract = read_model(model)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    with console.status("following small differences"):
        fed = real_inputs(contract, data or [])
        found = measure(content, contract, fed, effort_for(contract))
    if found is None:
        console.print(f"{contract.name} has no state.")
        return
    for title, text in stability_lines(found).items():
        console.print(f"{title}: {text}")
    if write:
        # Writing, unlike measuring, needs the package onnx.
        import onnx

        from exporters.model_writer import write_model

        changed = msgspec.structs.replace(contract, stability=found)
        write_model(onnx.load_model_from_string(content), changed, model)
        console.print(f"wrote {model}")
    if json_file is not None:
        write_json("--json", json_file, {"file": str(model), **msgspec.to_builtins(found)})
    if not found.stable:
        raise typer.Exit(1)
