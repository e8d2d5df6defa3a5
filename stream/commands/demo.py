"""`innervate demo`: the whole path on simulated neurons, with nothing to bring along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stream.commands.output import check_file
from stream.commands.run import deliver, parse_duration
from stream.pipeline import load_pipeline
from stream.runtime.supervisor import run_plan

PIPELINE = Path(__file__).parents[1] / "demo.yaml"


def demo(
    duration: Annotated[str, typer.Option("--for", help="How long to run, such as 10s.")] = "20 s",
    report: Annotated[
        Path | None, typer.Option(help="Write the report as JSON to this file.")
    ] = None,
) -> None:
    """Simulated neurons, a shipped model, live rates: see it work in under a minute."""
    console = Console()
    duration_s = parse_duration(duration)
    check_file("--report", report)
    plan = load_pipeline(PIPELINE)
    console.print(
        f"A simulated population follows a Lorenz attractor for {duration}. Its spikes are binned"
        " and a streaming transformer estimates the firing rates as they come."
    )
    result = run_plan(plan, duration_s=duration_s)
    deliver(result, report)
    notes = result.nodes.get("score", {}).get("notes", {})
    if "r2" in notes:
        console.print(
            f"R2 of estimated against true rates: [bold]{notes['r2']:.3f}[/] over"
            f" {notes['pairs']} bins."
        )
        console.print(
            "Next: `innervate import --help` turns your recording into NWB; `innervate nodes`"
            " lists the parts."
        )
