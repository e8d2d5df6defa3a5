"""`innervate run`: start a pipeline and stay until it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.errors import ConfigError
from stream.pipeline import load_pipeline
from stream.runtime.report import print_report, write_report
from stream.runtime.supervisor import run_plan
from stream.units import parse_seconds


def run(
    pipeline: Annotated[Path, typer.Argument(help="Pipeline file (YAML).")],
    duration: Annotated[
        str | None, typer.Option("--for", help="Stop after this long, such as '30 s' or 10min.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the report as JSON to this file.")
    ] = None,
) -> None:
    """Run a pipeline live; Ctrl-C ends it cleanly and prints the report."""
    plan = load_pipeline(pipeline)
    result = run_plan(plan, duration_s=parse_duration(duration))
    print_report(result)
    if report:
        write_report(result, report)
    raise typer.Exit(result.exit)


def parse_duration(text: str | None) -> float | None:
    """Read the value of `--for`.

    Raises
    ------
    ConfigError
        It has no unit, or is no duration.
    """
    if text is None:
        return None
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise ConfigError(f"--for: {error}.") from None
