"""`innervate schema`: the JSON Schema of pipeline files."""

from __future__ import annotations

import json

import typer

from stream.registry import installed_nodes
from stream.schema import pipeline_schema


def schema() -> None:
    """Print the JSON Schema of pipeline files, for editors."""
    for error in installed_nodes()[1]:
        typer.echo(f"note: left out: {error}", err=True)
    typer.echo(json.dumps(pipeline_schema(), indent=2))
